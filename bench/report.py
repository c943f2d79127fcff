"""The results as Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from measure import Seconds
from peers import OTHERS, OURS
from scenarios import SIZES, Measured, Plan
from targets import NOTES, TARGETS, Target
from world import server_version

INTRODUCTION = """\
Written by `make bench`; [bench/run.py](../bench/run.py) tells how to run parts of it.

The result is the ratios. Times belong to the machine, and to what else it did. In each
round every contender of a scenario has a turn of ten requests, in random order, of
which the mean counts; "ratio of medians" is over all rounds of this one run, "by round"
the median of each round's own ratio.

A session has ten small fields. Requests go through the WSGI callable, in one process,
with a real server on loopback. Round trips, commands (those of scripts, too), bytes and
time on the processor are what the servers counted for one request, all together.

Everybody runs with their own defaults. Beaker and pyramid_session_redis write at each
read, as they prolong the session or note the time; Flask-Session at every request.
Flask, Pyramid and Django do more than sessions, so they are also shown without. On one
core Redlock's masters take turns, where on machines of their own they would not."""

REASONS = """\
The floor of a round trip is the kernel's: see the table "steps-of-a-read" below, from
a bare PING to the whole request. "inside-a-read" is the profile of one request, part by
part. No part stands out: what a read costs beside the kernel and the server is spread
over some fifty short functions, each of which finds the processor's caches filled by
the server and the kernel in between. The same holds for redis-py's own functions, of
which the floors consist.

* *Read.* A read calls 54 of the package's functions and a read with a write 95
  (tests/test_round_trips.py counts them). A held connection keeps redis-py's handshake
  only: commands are packed and replies parsed by hiredis, straight at the socket. A
  small session that the process knows is read with ECHO, HGETALL and PTTL, which takes
  the server hardly longer than HGETALL alone. That leaves the names of the record (two
  digests), the parsing of ten fields and what keeps sessions apart from each other.
* *In process.* A stub answers, so this is Python alone. A tenth of Beaker's time would
  be some ten calls of a function.
* *A commit* is a script that looks at type, incarnation, version, owner, bases, size
  and numbers before it writes, and writes what the scripts keep, with the marks of
  late commits. The first call from Lua into Redis alone takes Redis longer than HSET
  and EXPIRE, which look at nothing.
* *Untouched*: two objects are made, an exchange and a session, and start_response is
  kept until the body is there; none of the cookie, the id or the options is looked at.
* *A lock* comes and goes with the load and the commit, in the same round trips, but
  its two scripts run, too.
* *Redlock*: five masters and the client share one core here; see the introduction. Ten
  bare exchanges take more than half of its time.

What was tried beside that, once and by hand, and left out again:

* The core compiled by mypyc: a read took some 15 % less, so it is not the interpreter's
  loop that takes the time.
* Deadlines by the kernel (SO_RCVTIMEO) in place of the polls before each send and recv:
  some 4 µs less for an exchange. But a signal begins such a deadline anew: with a
  profiler's timer there would be none.
* Writing to the socket's descriptor, which does without one of the polls: 1 %."""

PACKAGES = [
    "redis",
    "hiredis",
    "python-redis-lock",
    "redlock-py",
    "pottery",
    "WebOb",
]


def of_targets(results: Iterable[Measured], is_whole: bool = True) -> str:
    """What was aimed at and what came of it.

    Args:
        is_whole: Name the targets of scenarios that were not measured, too.
    """
    seconds = {each.name: each.seconds for each in results}
    wanted = [each for each in TARGETS if is_whole or each.scenario in seconds]
    noted = [each for each in NOTES if is_whole or each.scenario in seconds]
    titles = ["scenario", "ratio of medians", "at most", "measured", "by round", "met"]
    head = [_cells(titles), "|---|---|--:|--:|--:|---|"]
    less = "The same limits, less what is not the session's on both sides:"
    lines = [*head, *(_row(each, seconds) for each in wanted)] if wanted else []
    if noted:
        lines += ["", less, "", *head, *(_row(each, seconds) for each in noted)]
    return "\n".join(lines)


def _row(target: Target, results: Mapping[str, Seconds]) -> str:
    measured, figures, verdict = target.ratio(results), ["-", "-"], "not measured"
    if measured:
        figures = [f"{figure:.3f}" for figure in measured]
        verdict = "yes" if measured.of_medians <= target.limit else "**no**"
    place = [target.scenario, str(target), f"{target.limit:g}"]
    return _cells([*place, *figures, verdict])


def page(results: Sequence[Measured], setting: str, pictures: Mapping[str, str]) -> str:
    """The whole as docs/benchmarks.md.

    Args:
        setting: What `circumstances` said.
        pictures: A path for a scenario's name; there need not be one.
    """
    details: list[str] = []
    for each in results:
        details.append(of_scenario(each))
        if each.name in pictures:
            details.append(f"![{each.about}]({pictures[each.name]})")
    return "\n\n".join(
        [
            "# Benchmarks",
            INTRODUCTION,
            setting,
            "## Targets",
            of_targets(results),
            "## What is not met, and why",
            REASONS,
            "## All figures",
            *details,
            "",
        ]
    )


def of_scenario(measured: Measured) -> str:
    """One table, and who is not in it."""
    rows = _by_size(measured) if measured.is_by_size else _by_contender(measured)
    absent = [f"Not measured: {n}, as {why}." for n, why in measured.absent.items()]
    lines = [f"### {measured.name}", "", measured.about, "", *rows]
    return "\n".join([*lines, "", *absent] if absent else lines)


def _by_contender(measured: Measured) -> list[str]:
    """Fastest first; in ratio to ours."""
    medians = measured.medians
    ours = next(median for name, median in medians.items() if name.startswith("ours"))
    unit, factor = measured.unit
    head = ["who", f"median, {unit}", f"p90, {unit}", "ratio to ours"]
    if measured.traffic:
        head += ["round trips", "commands", "bytes in", "bytes out", "server, µs"]
    rows = [_cells(head), f"|---|{'--:|' * (len(head) - 1)}"]
    for name in sorted(medians, key=medians.__getitem__):
        times = medians[name] * factor, _p90(measured.seconds[name]) * factor
        cells = [
            name,
            *(f"{time:.1f}" for time in times),
            f"{medians[name] / ours:.2f}",
        ]
        if measured.traffic:
            seen = measured.traffic[name]
            cells += [f"{seen.trips:.1f}", f"{seen.commands:.1f}"]
            cells += [f"{seen.received:.0f}", f"{seen.sent:.0f}"]
            cells += [f"{max(0.0, seen.busy_us):.0f}"]
        rows.append(_cells(cells))
    return rows


def _by_size(measured: Measured) -> list[str]:
    """A line for everybody, a column for each size."""
    largest = list(SIZES)[-1]
    head = ["median, µs", *SIZES, f"bytes in, {largest}", f"bytes out, {largest}"]
    rows = [_cells(head), f"|---|{'--:|' * (len(head) - 1)}"]
    for who in measured.participants:
        medians = [measured.medians[f"{who}, {size}"] for size in SIZES]
        seen = measured.traffic[f"{who}, {largest}"]
        cells = [who, *(f"{median * 1e6:.0f}" for median in medians)]
        rows.append(_cells([*cells, f"{seen.received:.0f}", f"{seen.sent:.0f}"]))
    return rows


def _cells(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _p90(seconds: list[float]) -> float:
    if len(seconds) < 2:
        return seconds[0]
    return statistics.quantiles(seconds, n=10, method="inclusive")[8]


def circumstances(plan: Plan) -> str:
    """Machine, versions, date. To be asked before the measuring: it tells the load."""
    load = f"load average before {os.getloadavg()[0]:.1f}"
    today = datetime.datetime.now(datetime.UTC)
    one_core = "client and server on one core, but where many wait"
    pinned = one_core if plan.core is not None else "not pinned"
    lines = [
        f"{today:%Y-%m-%d}, {plan.rounds} rounds ({plan.crowd_rounds} where many wait)",
        f"{_processor()}, {os.cpu_count()} cores, {load}, {pinned}; "
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, {server_version()} on loopback",
        ", ".join([*_versions(PACKAGES), *_peers()]),
    ]
    return "\n".join(f"* {line}" for line in lines)


def _peers() -> list[str]:
    present = [peer for peer in (OURS, *OTHERS) if not peer.missing]
    return [version for peer in present for version in peer.versions()]


def _versions(packages: Iterable[str]) -> list[str]:
    installed = {each.name: each.version for each in importlib.metadata.distributions()}
    return [f"{name} {installed.get(name, '(not there)')}" for name in packages]


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()
