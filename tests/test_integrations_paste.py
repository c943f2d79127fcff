"""PasteDeploy: the ini file says which sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from paste.deploy import loadapp, loadfilter
from servers import Server

from smartredis_wsgi import ConfigError, SessionMiddleware
from smartredis_wsgi.integrations.paste import filter_app_factory

SHOP = "\n[app:shop]\npaste.app_factory = sites.paste_site:shop_factory\n"


@pytest.fixture
def ini(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "site.ini"
        path.write_text(text + SHOP)
        return f"config:{path}"

    return write


def section(kind: str, *lines: str) -> str:
    return "\n".join([f"[{kind}]", *lines])


def test_a_filter_app_has_sessions(ini: Any, server: Server) -> None:
    lines = "use = egg:smartredis_wsgi", "next = shop", "cookie_secure = false"
    app = loadapp(ini(section("filter-app:main", *lines, f"url = {server.url}")))
    browser = Browser(app)
    browser.post("/add")
    browser.post("/add")
    assert '"cart": ["tea", "tea"]' in browser.ask("/").text


def test_filter_with_names_it_in_the_applications_section(
    ini: Any, server: Server
) -> None:
    text = section(
        "filter:sessions",
        "paste.filter_app_factory = "
        "smartredis_wsgi.integrations.paste:filter_app_factory",
        "cookie_secure = false",
        f"url = {server.url}",
        "lock = single",
        "[app:main]",
        "use = shop",
        "filter-with = sessions",
    )
    app = loadapp(ini(text))
    assert isinstance(app, SessionMiddleware)
    assert app.config.lock == "single"
    assert Browser(app).post("/add").status_int == 200


def test_a_wrong_option_is_refused_when_the_file_is_read(
    ini: Any, server: Server
) -> None:
    lines = "use = egg:smartredis_wsgi", "lok = single", f"url = {server.url}"
    with pytest.raises(ConfigError, match="did you mean lock"):
        loadfilter(ini(section("filter:main", *lines)))


def test_what_the_file_says_for_everybody_is_no_option(server: Server) -> None:
    around = filter_app_factory(lambda *_: [], {"debug": "true"}, url=server.url)
    assert around.config.url == server.url
