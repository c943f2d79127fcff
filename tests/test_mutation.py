"""What is mutated, and how; and some mutants that the tests see."""

from __future__ import annotations

import pytest
from explorer.mutants import PACKAGE
from mutation import lua
from mutation.explained import EXPLAINED, reason
from mutation.reach import that_reach
from mutation.run import TESTED_BY, Mutant, is_seen
from mutation.trial import Chosen

LINES = {
    "if a == 1 then return b end": [
        "if a ~= 1 then return b end",
        "if a == 2 then return b end",
        "",
    ],
    "local a = b < 1 and c or not d": [
        "local a = b <= 1 and c or not d",
        "local a = b < 2 and c or not d",
        "local a = b < 1 or c or not d",
        "local a = b < 1 and c and not d",
        "local a = b < 1 and c or  d",
    ],
    "  redis.call('SET', key, 'NX 1 == 2')": [""],
    "  for i = 1, #ARGV - 1 do": [
        "  for i = 2, #ARGV - 1 do",
        "  for i = 1, #ARGV + 1 do",
        "  for i = 1, #ARGV - 2 do",
    ],
    "x = y -- and 1": [""],
    "-- if a == 1 then return end": [],
    "local function f(a)": [],
    "end": [],
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_lua_is_changed_in_each_place_once(line: str) -> None:
    assert list(lua.mutants(line)) == LINES[line]
    around = [f"a\n{changed}\nb" for changed in LINES[line]]
    assert list(lua.mutants(f"a\n{line}\nb")) == around


def test_each_script_and_no_other_is_mutated() -> None:
    scripts = {f"scripts/{path.name}" for path in PACKAGE.glob("scripts/*.lua")}
    assert scripts == {file for file in TESTED_BY if file.endswith(".lua")}


def test_what_is_explained_stands_in_the_file() -> None:
    for file, old, _ in EXPLAINED:
        assert old in (PACKAGE / file).read_text("utf-8"), (file, old)


def test_what_equals_itself_alone_is_explained() -> None:
    for whole in ("if type(a) is b:", "if a is None or b:", "x = a is Kind.ALIVE"):
        assert reason("merge.py", whole, whole.replace("is", "=="))
    assert not reason("merge.py", "if f(a) is b:", "if f(a) == b:")
    assert not reason("merge.py", "if a is None:", "if a is not None:")


SEEN = {
    "ids.py": [("secrets.token_urlsafe(32)", "secrets.token_urlsafe(33)")],
    "cookie.py": [
        ("return session_id if any(fits) else None", "return session_id"),
        ("if len(ids) > 1:", "if len(ids) >= 1:"),
        ("max(1, int(age)) if age", "max(2, int(age)) if age"),
    ],
    "scripts/destroy.lua": [("  redis.call('UNLINK', record)\n", "\n")],
    "scripts/create.lua": [("if kind ~= 'absent'", "if kind == 'absent'")],
    "scripts/update.lua": [("meta.version + 1", "meta.version - 1")],
    "scripts/load.lua": [("if left <= 0 then", "if left > 0 then")],
    "scripts/record.lua": [("if held == 'none'", "if held ~= 'none'")],
}
SHORT = {file: tests[:1] for file, tests in TESTED_BY.items()}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("file", "place"),
    [(file, place) for file, changes in SEEN.items() for place in range(len(changes))],
)
def test_a_mutant_is_seen(file: str, place: int) -> None:
    old, new = SEEN[file][place]
    text = (PACKAGE / file).read_text("utf-8")
    assert text.count(old) == 1
    assert is_seen(Mutant(file, text.replace(old, new)), SHORT[file])


@pytest.mark.parametrize(
    ("line", "somebody", "nobody"),
    [
        ("name = self._config.cookie_name\n", "of_two_ids", "the_header_by_default"),
        ("if len(ids) > 1:", "the_same_id_twice", "the_expiring_header"),
        ("return self._made(None)", "the_expiring_header", "of_two_ids"),
    ],
)
def test_a_mutant_is_shown_to_those_who_run_its_line(
    line: str, somebody: str, nobody: str
) -> None:
    before, _, _ = (PACKAGE / "cookie.py").read_text("utf-8").partition(line)
    names = that_reach({before.count("\n") + 1}, "cookie.py", Chosen("cookie"))
    assert names
    assert any(somebody in name for name in names)
    assert not any(nobody in name for name in names)


def test_what_an_import_runs_is_shown_to_all() -> None:
    text = (PACKAGE / "cookie.py").read_text("utf-8")
    line = text.partition("class Cookie")[0].count("\n") + 1
    assert that_reach({line}, "cookie.py", Chosen("cookie")) is None


def test_the_package_as_it_is_is_not_seen() -> None:
    text = (PACKAGE / "ids.py").read_text("utf-8")
    assert not is_seen(Mutant("ids.py", text), SHORT["ids.py"])
