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
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from explorer.mutants import PACKAGE, TESTS

SECONDS = 60.0
_OTHER_SERVERS = (
    *("redis-6.2", "redis-7", "[memory", "memory]"),
    *("cluster", "redlock", "master"),
)
_WORDS = (
    *("-x", "-q", "-n0", "-p", "no:randomly", "--failed-first"),
    *("--assert=plain", "--hypothesis-profile=trial"),
    *("-k", " and ".join(f"not {name}" for name in _OTHER_SERVERS)),
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("pytest", "_hypothesis_pytestplugin", "hypothesis.strategies", "webtest"),
        *("pytest_benchmark.plugin", "redis.cluster", "redis.sentinel", "xdist.plugin"),
    ]
)


def passes(folder: Path, test: str) -> bool:
    """Whether the tests of a file pass, in time, with the package in that folder."""
    words = f"test_{test}.py", "-o", f"cache_dir={_memory().name}"
    trial = _FORKS.Process(target=_play, args=(str(folder), words))
    trial.start()
    trial.join(SECONDS)
    assert trial.pid
    with suppress(ProcessLookupError):
        os.killpg(trial.pid, signal.SIGKILL)
    trial.join()
    return trial.exitcode == 0


@cache
def _memory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="trials-")


def _play(folder: str, words: Sequence[str]) -> None:
    assert PACKAGE.name not in sys.modules
    os.setsid()
    os.chdir(TESTS)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = folder

    import pytest
    from hypothesis import Phase, settings

    found_is_enough = (Phase.explicit, Phase.generate)
    settings.register_profile(
        "trial", deadline=None, derandomize=True, phases=found_is_enough
    )
    os._exit(pytest.main([*_WORDS, *words]))
