"""The command line: look at sessions and locks, end a session, check a configuration.

Keys are found by SCAN and looked at page by page, so that a million sessions need no
more memory than a thousand, and Redis serves others meanwhile. Looking changes nothing:
no session is prolonged by it. No id is in Redis, so none can be shown: a session has a
handle, the first characters of the digest in its key.
"""

from .check import check
from .demo import demo
from .group import main
from .locks import locks
from .moving import import_
from .purge import purge
from .sessions import destroy, list_, show
from .stats import stats

__all__ = ["main"]

for command in (list_, show, destroy, stats, locks, check, import_, purge, demo):
    main.add_command(command)
