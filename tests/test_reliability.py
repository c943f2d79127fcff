"""What docs/reliability.md names: the tests are there, and so are the commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from illness.table import DOCUMENT
from pages import TARGETS

TESTS = Path(__file__).parent
HEAD, END = "## Each promise and its tests", "## What is not covered"
SUMMARY = "| promise | figure | command | control |"


def named() -> Iterator[tuple[str, list[str]]]:
    """A module and tests in it, as often as the table says so."""
    section = DOCUMENT.read_text("utf-8").partition(HEAD)[2].partition(END)[0]
    for line in section.splitlines():
        for part in line.rpartition(" | ")[2].split(";"):
            module, *tests = re.findall(r"`(\w+)`", part) or [""]
            if module:
                yield module, tests


def test_each_promise_has_tests_and_they_are_there() -> None:
    found = list(named())
    assert len(found) > 40
    for module, tests in found:
        text = (TESTS / f"{module}.py").read_text("utf-8")
        assert tests, module
        for test in tests:
            assert f"def test_{test}(" in text, f"{module}: {test}"


def test_each_promise_has_a_command_and_a_control() -> None:
    lines = DOCUMENT.read_text("utf-8").partition(SUMMARY)[2].splitlines()[2:]
    rows = [line.split("|")[1:-1] for line in lines[: lines.index("")]]
    assert len(rows) > 5
    for promise, figure, command, control in rows:
        assert all((promise.strip(), figure.strip(), control.strip()))
        (target,) = re.findall(r"`make (\w+)`", command)
        assert target in TARGETS
