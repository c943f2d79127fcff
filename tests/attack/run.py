"""All attacks and their controls: ``python -m attack.run``, from tests/.

The exit status is 1 if one went through, or a control withstood. Times are printed, and
judged by nobody.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from doubles import CountedRedis, counting_client
from servers import Server

from smartredis_wsgi import SessionStore

from . import flood, headers, lookup

CONTROL_SHARE = 20
"""The control gets so many times fewer headers."""


def of_headers(client: CountedRedis, count: int, seed: int) -> bool:
    print("hostile Cookie headers       headers     5xx  commands")
    half = count // 2
    plain = headers.attack(client, half, seed, None)
    signed = headers.attack(client, count - half, seed + 1, "s")
    few = count // CONTROL_SHARE
    control = headers.attack_control(client, few, seed, signed=False)
    for name, tally in (
        ("ours", plain),
        ("ours, signed ids", signed),
        ("control: SimpleCookie", control),
    ):
        print(
            f"{name:<25}{tally.headers:>11,}{tally.failures:>8,}{tally.commands:>10,}"
        )
    all_well = plain[1:] == signed[1:] == (0, 0)
    return all_well and bool(control.failures and control.commands)


def of_time() -> bool:
    print(
        "\nthe slowest header, ns a byte", *(f"{s >> 10:>6} KB" for s in headers.SIZES)
    )
    for name, finders, sizes, tries in (
        ("ours", headers.ours(), headers.SIZES, 9),
        ("control: SimpleCookie", headers.theirs(), headers.SIZES[:3], 1),
    ):
        times = [headers.slowest(finders, size, tries) / size for size in sizes]
        print(f"{name:<29}", *(f"{1e9 * each:>9,.0f}" for each in times), flush=True)
    return True


def of_flood(client: CountedRedis, count: int) -> bool:
    print(
        "\nunknown ids, each once       requests  commands    keys  adopted  grown, KiB"
    )
    rows = {
        "ours, read": flood.attack(client, count),
        "ours, read, lock=single": flood.attack(client, count, lock="single"),
        "ours, read, signed ids": flood.attack(client, count, secret="s"),
        "ours, write": flood.attack(client, count, flood.writes),
        "control, write": flood.attack_control(client, count, flood.writes),
    }
    for name, row in rows.items():
        counts = f"{row.requests:>10,}{row.commands:>10,}{row.keys:>8,}"
        print(f"{name:<27}{counts}{row.adopted:>9,}{row.kib:>12,}")
    *reads, write, control = rows.values()
    is_well = [row.commands for row in reads] == [count, 2 * count, 0]
    is_well = is_well and not any(row.keys or row.adopted for row in reads)
    return is_well and write.adopted == 0 and control.adopted == count


def of_lookup(server: Server, pairs: int, seed: int) -> bool:
    print("\nµs of a look-up              all wrong  nearly right  deviations")
    store = SessionStore.from_config(url=server.url)
    session_id = lookup.filled(store)
    wrong, label, nearly = lookup.guesses(session_id)
    look, bad_mac, near_mac = lookup.in_cookie("s")
    loop, longer = lookup.in_loop(session_id), lookup.slower_for(nearly, store)
    for name, *asked in (
        ("the same label", lookup.in_store(store), wrong, label),
        ("all but the last character", lookup.in_store(store), wrong, nearly),
        ("a signature", look, bad_mac, near_mac),
        ("control: compared in a loop", loop, wrong, nearly),
        ("control: 10 µs longer", longer, wrong, nearly),
    ):
        seen = lookup.compare(*asked, pairs, seed)
        medians = f"{1e6 * seen.worse:>10.2f}{1e6 * seen.better:>14.2f}"
        print(f"{name:<28}{medians}{seen.deviations:>12.1f}", flush=True)
    return True


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headers", type=int, default=100_000)
    parser.add_argument("--ids", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(words)
    with Server("valkey") as server, counting_client(server.url) as client:
        passed = [
            of_headers(client, chosen.headers, chosen.seed),
            of_time(),
            of_flood(client, chosen.ids),
            of_lookup(server, chosen.pairs, chosen.seed),
        ]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
