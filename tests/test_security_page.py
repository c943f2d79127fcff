"""What docs/security.md claims has the tests that it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from smartredis_wsgi.config import Config
from smartredis_wsgi.cookie import Cookie
from smartredis_wsgi.ids import new_id

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text("utf-8")
CLAIMS = sorted(set(re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE)))
SECTIONS = {"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2, "3.3": 5}
"""How many requirements each section of ASVS 5.0 has."""


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), CLAIMS)
def test_each_test_that_the_page_names_is_there(file: str, name: str) -> None:
    assert name in names_in(file)


def test_each_requirement_stands_on_the_page_once() -> None:
    told = re.findall(r"^\| (\d\.\d\.\d) ", PAGE, re.MULTILINE)
    wanted = [
        f"{part}.{n + 1}" for part, count in SECTIONS.items() for n in range(count)
    ]
    assert sorted(told) == sorted(wanted)


def test_each_row_that_claims_something_names_a_test() -> None:
    claims = PAGE.partition("### Met here")[2].partition("###")[0]
    rows = [line for line in claims.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 8
    assert all("::" in row for row in rows)


@pytest.mark.parametrize("secret", [None, "s"])
def test_a_cookie_is_far_below_4096_bytes(secret: str | None) -> None:
    cookie = Cookie(Config.build(url="redis://nowhere", secret=secret))
    _, text = cookie.header(new_id())
    value = text.partition(";")[0].partition("=")[2]
    assert len(value) == (103 if secret else 59)
