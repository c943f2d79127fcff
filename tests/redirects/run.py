"""Redirects by the thousand, on each server: ``python -m redirects.run``, from tests/.

Prints for each server how many were followed and how many reads were stale, then the
same of the control, which stores a session after its body. The exit status is 1 if a
read was stale, or the control showed none on some server.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from app_servers import COMMANDS, FOLLOWERS, AppServer
from explorer.run import Line
from servers import Server, version_of

from .client import Client, Tally

STINT = 100
CONTROL_SHARE = 10
"""The control gets so many times fewer."""


def follow(kind: str, app: str, records: Server, count: int) -> Tally:
    """So many redirects, on a server of this kind, by several clients at once."""
    total, line = Tally(), Line(f"{kind}, {app}", count)
    with (
        tempfile.TemporaryDirectory() as folder,
        AppServer(kind, f"redirects.site:{app}", Path(folder), records.url) as server,
        ThreadPoolExecutor(FOLLOWERS) as pool,
    ):
        stints = [
            pool.submit(_stint, server.port, first, min(STINT, count - first))
            for first in range(0, count, STINT)
        ]
        try:
            for stint in as_completed(stints):
                total.add(stint.result())
                line.advance(f"redirects, {total.stale.total():,} stale", STINT)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            print(server.log[-2000:], file=sys.stderr)
            raise
    line.end()
    return total


def _stint(port: int, first: int, count: int) -> Tally:
    with Client(port) as client:
        return client.follow(first, count)


# -- what is printed -----------------------------------------------------------------


def version(kind: str) -> str:
    product = kind.partition("-")[0]
    return (
        platform.python_version()
        if product == "wsgiref"
        else importlib.metadata.version(product)
    )


def print_table(rows: dict[str, tuple[Tally, Tally]]) -> None:
    print(f"{'':<34}{'ours':>11}{'':>8}{'control':>10}{'':>8}")
    heads = f"{'redirects':>11}{'stale':>8}{'redirects':>10}{'stale':>8}"
    print(f"{'server':<18}{'version':<16}{heads}")
    for kind, tallies in rows.items():
        print(f"{kind:<18}{version(kind):<16}" + _cells(*tallies))
    ours, control = Tally(), Tally()
    for one, other in rows.values():
        ours.add(one)
        control.add(other)
    print(f"{'all':<34}" + _cells(ours, control))
    print("\nof those, by body")
    for way in sorted(ours.followed):
        print(
            f"{way:<34}{ours.followed[way]:>11,}{ours.stale[way]:>8,}"
            f"{control.followed[way]:>10,}{control.stale[way]:>8,}"
        )


def _cells(ours: Tally, control: Tally) -> str:
    return (
        f"{ours.followed.total():>11,}{ours.stale.total():>8,}"
        f"{control.followed.total():>10,}{control.stale.total():>8,}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    begun, rows = time.monotonic(), {}
    with Server("valkey") as records:
        for kind in options.server or COMMANDS:
            few = -(-options.redirects // CONTROL_SHARE)
            ours = follow(kind, "ours", records, options.redirects)
            rows[kind] = ours, follow(kind, "late", records, few)
    print_table(rows)
    print(
        f"{time.monotonic() - begun:.0f} s, {FOLLOWERS} clients, "
        f"Valkey {version_of('valkey')}, CPython {platform.python_version()}"
    )
    fine = all(not o.stale.total() and c.stale.total() for o, c in rows.values())
    return 0 if fine else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="redirects", description=__doc__)
    parser.add_argument("--redirects", type=int, default=10_000, help="on each server")
    parser.add_argument("--server", action="append", choices=COMMANDS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
