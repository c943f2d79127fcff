"""The other library's id in a request: found and verified. Pure: no Redis, no clock.

As with our own cookie the header is searched by one anchored, bounded expression. What
is malformed or wrongly signed is as no cookie.
"""

import importlib.util
import re

from ..config import Config
from ..errors import ConfigError
from .libraries import LIBRARIES, id_in

_VALUE = r"[!#-+\--:<-\[\]-~]{1,1024}"  # RFC 6265, cookie-octet
_MOST = 4  # of a name, as for several paths; each costs a signature


class OldCookie:
    """The cookie of the library that `import_from` names."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError where a signature can't be verified."""
        self._library = LIBRARIES[config.import_from or ""]
        self._secrets = config.import_secret
        self.name = config.import_cookie or self._library.cookie
        self._pattern = re.compile(
            rf'(?:^|[;,])[ \t]*{re.escape(self.name)}="?({_VALUE})"?'
            rf"(?=[ \t]*(?:[;,]|\Z))"
        )
        if self._library.is_signed and not self._secrets:
            raise ConfigError(
                f"option import_secret: {config.import_from} signs its cookie; use the "
                f"secret that it was given"
            )
        is_flask = config.import_from == "flask-session" and self._secrets
        if is_flask and not importlib.util.find_spec("itsdangerous"):
            raise ConfigError(
                "option import_secret: a signed cookie of flask-session needs more; "
                "pip install itsdangerous"
            )

    def find(self, header: str) -> str | None:
        """The first id that is verified."""
        values = dict.fromkeys(self._pattern.findall(header))
        for value in [*values][:_MOST]:
            its_id = id_in(self._library, value, self._secrets)
            if its_id:
                return its_id
        return None
