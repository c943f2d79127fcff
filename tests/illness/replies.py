"""Whose answer one gets when waits are torn: ``python -m illness.replies``.

On one server, by a Sentinel and in a Cluster, so many requests are torn out of their
waits, by a greenlet's timeout and by a signal (`torn.py` in an interpreter of its own).
The control is redis-py's client itself. The exit status is 1 if one of ours got
another's answer, or the control by a Sentinel never did.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import Cluster, Sentinel, Server

from .torn import HOWS, Found

TESTS = Path(__file__).parents[1]
COUNT = 1000
SECONDS = 300.0


@contextmanager
def places() -> Iterator[dict[str, int]]:
    """The port at which each is asked."""
    with (
        Server("valkey") as server,
        Sentinel(server) as sentinel,
        Cluster("valkey") as cluster,
    ):
        yield {
            "plain": server.port,
            "sentinel": sentinel.port,
            "cluster": cluster.nodes[0].port,
        }


def tear(how: str, place: str, port: int, count: int) -> dict[str, Found]:
    """What was found for each way to ask, where so many were torn in each."""
    command = [sys.executable, "-m", "illness.torn", how, place, f"{port}", f"{count}"]
    ran = subprocess.run(
        command, cwd=TESTS, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    found = [Found(**json.loads(line)) for line in ran.stdout.splitlines()]
    return {one.way: one for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(prog="replies", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    count: int = parser.parse_args().count
    print("torn by  where     way       torn    own  noticed  foreign")
    fine = True
    with places() as ports:
        for how in HOWS:
            for place, port in ports.items():
                found = tear(how, place, port, count)
                for one in found.values():
                    line = "{:<8} {:<9} {:<8} {:>5,} {:>6,} {:>8,} {:>8,}"
                    cells = one.torn, one.own, one.noticed, one.foreign
                    print(line.format(how, place, one.way, *cells), flush=True)
                fine &= not (found["url"].foreign or found["client"].foreign)
                fine &= place != "sentinel" or bool(found["control"].foreign)
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
