"""How it is measured: in rounds, each of which runs every contender once, shuffled.

Whatever else the machine does meets all contenders alike, so that the ratio of two
medians of one run says more than any of the times.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from redis import Redis

T = TypeVar("T")
Run = Callable[[], object]
Seconds = dict[str, list[float]]  # of each contender, one for each round


def timed(run: Run, times: int = 1, requests: int = 1) -> Callable[[], float]:
    """A function that gives the seconds of one request.

    Args:
        times: Run so often for one figure, where the clock would be too coarse.
        requests: How many requests one run has.
    """

    def measured() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - begun) / (times * requests)

    return measured


def in_rounds(
    runs: Mapping[str, Callable[[], T]], rounds: int, warm_up: int
) -> dict[str, list[T]]:
    """What each contender gave in each round after the warm-up."""
    results: dict[str, list[T]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(warm_up + rounds):
        if number == warm_up:
            gc.collect()
            gc.freeze()  # what stays is not looked through again while we measure
        for name in random.sample(names, len(names)):
            result = runs[name]()
            if number >= warm_up:
                results[name].append(result)
    gc.unfreeze()
    return results


class Ratio(NamedTuple):
    """One contender in terms of another."""

    of_medians: float
    paired: float
    """The median of the rounds' own ratios."""


def ratio(
    subject: Sequence[float],
    reference: Sequence[float],
    less: Sequence[float] | None = None,
    reference_less: Sequence[float] | None = None,
) -> Ratio:
    """Subject over reference, after what belongs to neither was taken off each."""
    nothing = [0.0] * len(subject)
    upper, lower = (subject, less or nothing), (reference, reference_less or nothing)
    rounds = zip(*upper, *lower, strict=True)
    each = [(a - b) / (c - d) for a, b, c, d in rounds if c != d]
    return Ratio(_net_median(*upper) / _net_median(*lower), statistics.median(each))


def _net_median(seconds: Sequence[float], less: Sequence[float]) -> float:
    return statistics.median(seconds) - statistics.median(less)


class Traffic(NamedTuple):
    """What the server saw of one request."""

    trips: float
    """Reads of its socket: a pipeline, if it is not huge, is one."""
    commands: float
    """Those that scripts call are counted, too."""
    received: float
    sent: float
    busy_us: float
    """Time on the processor, in microseconds: the kernel's share, too."""


_COUNTED = (
    "total_reads_processed",
    "total_commands_processed",
    "total_net_input_bytes",
    "total_net_output_bytes",
)


def traffic(servers: Sequence[Redis], run: Run, requests: int, times: int) -> Traffic:
    """Counted by the servers, all together; what counting itself costs is taken off.

    Args:
        servers: A client of each, which nobody else uses.
    """
    idle = _counts(servers), _counts(servers)
    before = _counts(servers)
    for _ in range(times):
        run()
    after = _counts(servers)
    own = [end - start for start, end in zip(*idle, strict=True)]
    pairs = zip(before, after, own, strict=True)
    return Traffic(*((b - a - mine) / (times * requests) for a, b, mine in pairs))


def _counts(servers: Sequence[Redis]) -> list[float]:
    infos = [server.info() for server in servers]
    counts = [sum(info[name] for info in infos) for name in _COUNTED]
    busy = sum(info["used_cpu_user"] + info["used_cpu_sys"] for info in infos)
    return [*counts, 1e6 * busy]


@contextlib.contextmanager
def pinned(core: int | None, *servers: int) -> Iterator[None]:
    """This thread and the servers, given by process id, on one core.

    The two never run at once, as a request waits for its answer, and the scheduler has
    nothing left to decide: of all ways this one repeats best. None pins nothing.
    """
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *servers)}
    try:
        for pid in before:
            os.sched_setaffinity(pid, {core})
        yield
    finally:
        for pid, cores in before.items():
            os.sched_setaffinity(pid, cores)
