"""What the documentation shows runs, what it links to is there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import options_page
import pytest
from django.http import HttpRequest
from django.test import override_settings
from pages import LANGUAGES, PAGES, ROOT, TARGETS, Player, blocks_of, tokens_of
from servers import Server

from smartredis_wsgi.cli import main as command_line

LOCKS = "lock-a:6379", "lock-b:6379", "lock-c:6379"


@pytest.fixture(scope="module")
def documented() -> Iterator[Server]:
    """What the pages call redis://localhost:6379; they may configure it."""
    with Server() as server:
        yield server


@contextmanager
def a_django_request(server: Server) -> Iterator[dict[str, Any]]:
    """``request``, as a view of Django gets it, with a credit of 10; 9 afterwards."""
    importlib.import_module("sites.django_site")  # which configures Django
    with override_settings(SMARTREDIS={"url": server.url}):
        engine = importlib.import_module("smartredis_wsgi.integrations.django")
        request = HttpRequest()
        request.session = engine.SessionStore()
        request.session["credit"] = 10
        request.session.save()
        yield {"request": request}
        assert engine.SessionStore(request.session.session_key)["credit"] == 9


FIXTURES = {"frameworks.md": a_django_request}
"""Names that a page's Python finds there, and what has to be so at its end."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_of_the_page_runs(page, documented, tmp_path, monkeypatch, request):
    text = page.read_text("utf-8")
    places = {"localhost:6379": f"127.0.0.1:{documented.fresh().port}"}
    if any(lock in text for lock in LOCKS):
        masters = request.getfixturevalue("masters")
        for lock, master in zip(LOCKS, masters, strict=False):
            places[lock] = f"127.0.0.1:{master.port}"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    player = Player(page, tmp_path, documented, places)
    with FIXTURES.get(page.name, lambda _: nullcontext({}))(documented) as names:
        player.play(**names)
    assert player.played == len(re.findall(r"^ *```\w", text, re.MULTILINE))


WRONG = {
    "python": ["1 / 0", "def f(:", "import no_such_module"],
    "console": [
        "$ make no-such-target",
        '$ pip install "smartredis_wsgi[no-such-extra]"',
        "$ pip install no-such-package-at-all",
        "$ curl -s -b jar -c jar http://127.0.0.1:8000/",
        "$ smartredis-wsgi list --no-such-option",
        "$ smartredis-wsgi show 0123456789abcdef",
        "$ gunicorn --no-such-option wsgi:app",
        "$ gunicorn no_such_module:app",
        "$ python -c 1/0",
        "$ redis-cli NOSUCHCOMMAND",
        "$ no-such-program",
        "no prompt",
    ],
    "ini": ["[session]\nlok = single", "[session]", "[other]\nttl = 30"],
    "conf": ["no-such-directive yes"],
    "text": ["$ make test", "session['a'] = 1", "make test"],
    "toml": ["a = 1"],
    "curl": ["http://127.0.0.1:8000/"],
    "": ["a = 1"],
}


@pytest.mark.parametrize(
    ("language", "text"),
    [(language, text) for language, texts in WRONG.items() for text in texts],
)
def test_what_does_not_run_is_noticed(
    language, text, documented, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```{language}\n{text}\n```\n")
    player = Player(page, tmp_path, documented, {})
    with pytest.raises((Exception, SystemExit)) as failure:
        player.play()
    assert failure.value.__notes__ == ["in the block of page.md, line 3"]
    assert player.played == 0


def test_what_curl_shows_is_compared(documented, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text("utf-8")
    page = tmp_path / "page.md"
    page.write_text(readme.replace("visits: 2", "visits: 3"))
    with pytest.raises(AssertionError, match="curl"):
        Player(page, tmp_path, documented, {}).play()


def test_there_are_blocks_of_each_language():
    found = [block.language for page in PAGES for block in blocks_of(page)]
    assert set(found) == set(LANGUAGES)
    assert found.count("python") > 30


def anchors(page: Path) -> list[str]:
    """What GitHub names the headings; the second of a name has -1 behind it."""
    tokens, found = tokens_of(page), []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = "".join(part.content for part in tokens[place + 1].children)
            found.append(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    counts = [found[:place].count(anchor) for place, anchor in enumerate(found)]
    return [f"{a}-{n}" if n else a for a, n in zip(found, counts, strict=True)]


def links(page: Path) -> Iterator[str]:
    for token in tokens_of(page):
        for part in token.children or ():
            target = part.attrs.get("href") or part.attrs.get("src")
            if target:
                yield unquote(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_of_the_page_leads_somewhere(page):
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in ("https", "http"), link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        assert ROOT in target.parents, link
        if parts.fragment:
            assert parts.fragment in anchors(target), link


def code_in_lines(page: Path) -> Iterator[str]:
    for token in tokens_of(page):
        for part in token.children or ():
            if part.type == "code_inline":
                yield part.content


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_page_names_in_a_line_is_there(page):
    for code in code_in_lines(page):
        first, _, rest = code.partition(" ")
        if first == "make" and rest:
            assert rest.split()[0] in TARGETS, code
        elif first == "smartredis-wsgi" and rest:
            assert rest.split()[0] in command_line.commands, code
        elif re.fullmatch(r"(tests|bench|examples|docs|smartredis_wsgi)/[\w/.]+", code):
            assert (ROOT / code).exists(), code


def test_the_index_names_each_page():
    index = ROOT / "docs" / "README.md"
    named = {urlsplit(link).path for link in links(index)}
    assert {page.name for page in PAGES if page != index} - named == {"README.md"}


def test_the_page_of_options_is_up_to_date():
    assert options_page.PAGE.read_text("utf-8") == options_page.page(), "make docs"


def test_each_option_is_explained():
    for name, option in options_page.OPTIONS.items():
        assert option.metadata["more"], name


def test_each_log_line_is_explained():
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    source = "".join(path.read_text() for path in ROOT.glob("smartredis_wsgi/**/*.py"))
    lines = re.findall(r'_log\.\w+\(\s*"([^"]+)"', source)
    assert len(lines) > 6
    for line in lines:
        for part in re.split(r"%[sd]", line):
            assert part.strip() in page, line
