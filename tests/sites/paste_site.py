"""The shop in plain WSGI, put together by PasteDeploy."""

from __future__ import annotations

import tempfile
from pathlib import Path

from paste.deploy import loadapp

from sites.plain import shop

FLASHES = False

INI = """\
[DEFAULT]
debug = true

[app:shop]
paste.app_factory = sites.paste_site:shop_factory

[pipeline:main]
pipeline = sessions shop

[filter:sessions]
use = egg:smartredis_wsgi
cookie_secure = false
"""


def shop_factory(_global_conf):
    return shop


def site(**options):
    lines = [f"{name} = {value}\n" for name, value in options.items()]
    with tempfile.TemporaryDirectory() as folder:
        ini = Path(folder, "site.ini")
        ini.write_text(INI + "".join(lines))
        return loadapp(f"config:{ini}")
