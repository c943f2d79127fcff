"""A test file, run against a package of which some files' texts are others.

Most of the time of a short test goes into the imports before it. So each trial is a
fork of one process that has imported what all need, and nothing of ours. And what has
failed in the trial before is run first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from explorer.mutants import PACKAGE, TESTS

if TYPE_CHECKING:
    import pytest

SECONDS = 300.0
_MORE_SERVERS = ("cluster", "redlock", "master")
"""What tests are named after that start several; left out where it is not asked for."""
_OTHER_SERVERS = ("redis-6.2", "redis-7", "[memory", "memory]")
_WORDS = (
    *("-q", "-n0", "-p", "no:randomly", "--failed-first"),
    *("--assert=plain", "--hypothesis-profile=trial"),
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("pytest", "_hypothesis_pytestplugin", "hypothesis.strategies", "webob"),
        *("coverage", "markdown_it", "msgspec", "rich.console", "click"),
        *("pytest_benchmark.plugin", "redis.cluster", "redis.sentinel", "xdist.plugin"),
    ]
)


class Chosen(NamedTuple):
    """Some of a test file."""

    file: str
    servers: tuple[str, ...] = ()
    """Of `_MORE_SERVERS`, those that its tests may start."""

    @property
    def words(self) -> tuple[str, ...]:
        left_out = *_OTHER_SERVERS, *(set(_MORE_SERVERS) - set(self.servers))
        chosen = " and ".join(f"not {name}" for name in sorted(left_out))
        return f"test_{self.file}.py", "-k", chosen


def passes(
    folder: Path,
    tests: Chosen,
    within: float,
    only: Collection[str] | None = None,
) -> bool:
    """Whether they pass, within so many seconds, with the package in that folder.

    Args:
        only: The ids of those to run. None: all.
    """
    words = *tests.words, "-x", "-o", f"cache_dir={_memory().name}"
    return run(within, _play, str(folder), words, only)


def run(within: float, play: Callable[..., None], *given: object) -> bool:
    """Whether it exits with 0, in time, in a fork; what it has started is ended."""
    trial = _FORKS.Process(target=play, args=given)
    trial.start()
    trial.join(within)
    assert trial.pid
    with suppress(ProcessLookupError):
        os.killpg(trial.pid, signal.SIGKILL)
    trial.join()
    return trial.exitcode == 0


@cache
def _memory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="trials-")


class _Only:
    """A plugin: runs those tests alone."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._names]


def _play(folder: str, words: Sequence[str], only: Collection[str] | None) -> None:
    prepare(folder)
    os._exit(tested(words, [] if only is None else [_Only(only)]))


def prepare(folder: str) -> None:
    """Make this process one in which the tests find the package in that folder."""
    assert PACKAGE.name not in sys.modules
    os.setsid()
    os.chdir(TESTS)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = folder


def tested(words: Sequence[str], plugins: list[object]) -> int:
    """pytest's exit status."""
    import pytest
    from hypothesis import Phase, settings

    found_is_enough = (Phase.explicit, Phase.generate)
    settings.register_profile(
        "trial", deadline=None, derandomize=True, phases=found_is_enough
    )
    return pytest.main([*_WORDS, *words], plugins)
