"""How much dearer, or cheaper, than a naive session: ratios of medians.

    python bench/ratios.py [--rounds 2000]

In every round each kind of session answers one request of each kind, in a random order:
whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from driver import Act, Browser, fill, site
from naive import NaiveSessions

from smartredis_wsgi import SessionMiddleware

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from servers import Server, version_of

LOCKS = ["none", "single", "redlock"]
PACKAGES = ["smartredis_wsgi", "redis", "hiredis", "python-redis-lock", "msgspec"]
MASTERS = 3
WARM_UP = 20

Sessionlike = MutableMapping[str, Any]
App = Callable[..., Any]
Seconds = dict[tuple[str, str], list[float]]


def read(session: Sessionlike) -> None:
    assert session["user"]


def write(session: Sessionlike) -> None:
    session["seen"] = time.perf_counter_ns()


def read_and_write(session: Sessionlike) -> None:
    session["cart"][0]["count"] = time.perf_counter_ns() + session["user"]["id"]


def incr(session: Any) -> None:
    if isinstance(session, dict):
        session["visits"] += 1
    else:
        session.incr("visits")


ACTS: dict[str, Act] = {
    "read": read,
    "write": write,
    "read and write": read_and_write,
    "incr": incr,
    "create": fill,
}


def apps(stack: ExitStack) -> dict[str, App]:
    """The site with each kind of session; all records are on the same server."""
    url, *masters = (
        stack.enter_context(Server("valkey")).url for _ in range(1 + MASTERS)
    )
    options: dict[str, Any] = {"url": url, "timeout": 10}
    return {
        "naive": NaiveSessions(site, url),
        "none": SessionMiddleware(site, options),
        "single": SessionMiddleware(site, options, lock="single"),
        "redlock": SessionMiddleware(site, options, lock="redlock", lock_nodes=masters),
    }


def measure(apps: dict[str, App], rounds: int) -> Seconds:
    """Seconds of each request, by what keeps the session and what is done to it."""
    taken: Seconds = {(name, act): [] for act in ACTS for name in apps}
    browsers = {place: Browser(apps[place[0]]) for place in taken}
    for browser in browsers.values():
        browser.request(fill)
    for number in range(WARM_UP + rounds):
        for name, act in random.sample(list(taken), len(taken)):
            new = act == "create"
            browser = Browser(apps[name]) if new else browsers[name, act]
            begun = time.perf_counter()
            browser.request(ACTS[act])
            if number >= WARM_UP:
                taken[name, act].append(time.perf_counter() - begun)
    return taken


def table(taken: Seconds) -> list[str]:
    """Markdown: the naive median, and every other one as a multiple of it."""
    medians = {place: statistics.median(each) for place, each in taken.items()}
    names = [f"lock: {name}" for name in LOCKS]
    lines = [f"| request | naive | {' | '.join(names)} |", "|---|--:|--:|--:|--:|"]
    for act in ACTS:
        naive = medians["naive", act]
        cells = [f"{naive * 1e6:.0f} µs"]
        for name in LOCKS:
            own = medians[name, act]
            cells.append(f"{own / naive:.2f} ({own * 1e6:.0f} µs)")
        lines.append(f"| {act} | {' | '.join(cells)} |")
    return lines


def circumstances(rounds: int) -> list[str]:
    today, valkey = datetime.datetime.now(datetime.UTC), version_of("valkey")
    installed = {each.name: each.version for each in importlib.metadata.distributions()}
    versions = [f"{name} {installed.get(name, '-')}" for name in PACKAGES]
    return [
        f"{today:%Y-%m-%d}, {rounds} rounds, interleaved",
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        f"Python {platform.python_version()}, valkey {valkey} on loopback",
        ", ".join(versions),
    ]


def processor() -> str:
    """The processor's name, where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        taken = measure(apps(stack), rounds)
    print("Medians, and in ratio to a naive session's:\n")
    print("\n".join(table(taken)))
    print("\n" + "\n".join(circumstances(rounds)))


if __name__ == "__main__":
    main()
