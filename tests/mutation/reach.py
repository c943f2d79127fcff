"""Which tests run a line: no other can see that it is changed.

The tests are run once, on the package as it is, under coverage.py. What a test runs in
another process is not noted: who sees a mutant there alone is not asked.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from coverage import Coverage, CoverageData
from explorer.mutants import PACKAGE, changed_package

from .trial import SECONDS, Chosen, prepare, run, tested


def that_reach(lines: Collection[int], file: str, tests: Chosen) -> set[str] | None:
    """The ids of those tests that run one of the lines of a file of the package.

    None: all, as what is run by an import belongs to no test.
    """
    data = _walked(tests)
    reached = data.contexts_by_lineno(_data_path(data, file))
    found = set[str]()
    for line in lines:
        statement, function = _around(file, line)
        if not function:
            return None
        some = _of(reached, statement) or _of(reached, function)
        if "" in some:
            return None
        found |= some
    return found


def _data_path(data: CoverageData, file: str) -> str:
    """The name that the package's file had as it was run."""
    ends = f"/{PACKAGE.name}/{file}"
    return next((name for name in data.measured_files() if name.endswith(ends)), file)


def _of(reached: dict[int, list[str]], lines: Collection[int]) -> set[str]:
    return {name for line in lines for name in reached.get(line, ())}


def _around(file: str, line: int) -> tuple[range, range]:
    """The lines of its statement, without those in its blocks, and of its function."""
    statement, function = range(line, line + 1), range(0)
    for node, first, last in _nodes(file):
        if not first <= line <= last:
            continue
        body = getattr(node, "body", None)
        inner = body[0].lineno if isinstance(body, list) else last + 1
        if line < inner:
            statement = range(first, max(inner, first + 1))
        elif isinstance(node, ast.FunctionDef):
            function = range(inner, last + 1)
    return statement, function


@cache
def _nodes(file: str) -> list[tuple[ast.AST, int, int]]:
    """The statements and what has a block, outer ones first; first and last line."""

    def below(node: ast.AST) -> Iterator[tuple[ast.AST, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.stmt, ast.ExceptHandler)):
                yield child, child.lineno, child.end_lineno or child.lineno
            elif isinstance(child, ast.match_case):
                yield child, child.pattern.lineno, child.body[-1].end_lineno or 0
            yield from below(child)

    return list(below(ast.parse((PACKAGE / file).read_text("utf-8"))))


@cache
def _walked(tests: Chosen) -> CoverageData:
    with tempfile.TemporaryDirectory() as notes, changed_package({}) as folder:
        base = str(Path(notes, "notes"))
        assert run(SECONDS, _walk, str(folder), tests.words, base), f"{tests}: failed"
        data = CoverageData(no_disk=True)
        kept = CoverageData(base)
        kept.read()
        data.update(kept)
    return data


def _walk(folder: str, words: tuple[str, ...], notes: str) -> None:
    prepare(folder)
    package = str(Path(folder, PACKAGE.name, "*"))
    coverage = Coverage(data_file=notes, include=[package], config_file=False)
    coverage.start()
    status = tested(words, [_Names(coverage)])
    coverage.stop()
    coverage.save()
    os._exit(status > 1)  # one that counts calls may fail: coverage.py's are with them


class _Names:
    """A plugin: notes under the name of each test what it runs."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)
