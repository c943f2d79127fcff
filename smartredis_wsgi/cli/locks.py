"""Who holds the sessions' locks."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

from ..connect import client_for
from ..everywhere import HANDLE_SIZE
from ..locks import protocol
from .group import common
from .rendering import LongWork, span, tell
from .sight import Sight, as_text, glob, pages, scan


@click.command()
@common
@click.pass_obj
def locks(given: dict[str, Any]) -> None:
    """Show who holds a session's lock, and how many wait for it."""
    sight, work = Sight.told_by(given), LongWork("locks")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with work:
        match = "lock:" + glob(sight.config.prefix) + "{" + "?" * 16 + "}"
        for client in lock_places(sight):
            for row in held_locks(sight, client, work.over(scan(client, match))):
                same = found.setdefault((row["lock"], row["token"]), row)
                same["nodes"] = same.get("nodes", 0) + 1
        if found:
            _name_holders(sight, found.values(), work)
    rows = list(found.values())

    def text() -> Iterator[str]:
        line = "{:14}{:26}{:>9}{:>9}{:>9}{:>7}"
        yield line.format("HANDLE", "TOKEN", "HELD", "EXPIRES", "WAITING", "NODES")
        for row in rows:
            spans = [span(row["held_for"]), span(row["expires_in"])]
            counts = row["waiting"], row["nodes"]
            yield line.format(row["handle"] or "-", row["token"], *spans, *counts)

    tell("json" in given, rows, text)
    work.end()


def lock_key(key: str) -> str:
    return protocol.lock_key(key[:-64])


def held_locks(
    sight: Sight, client: Any, keys: Iterable[str]
) -> Iterator[dict[str, Any]]:
    """Who holds these locks; those that are free are left out."""
    expiry = sight.config.lock_expiry
    for page in pages(keys):
        pipe = client.pipeline(transaction=False)
        now_ms = _server_ms(client)
        for key in page:
            waiters = protocol.waiters_key(key.removeprefix("lock:"))
            pipe.get(key).pttl(key).zcount(waiters, now_ms, "+inf")
        answers = iter(pipe.execute())
        for key, token, left, waiting in zip(page, *[answers] * 3, strict=True):
            if token is not None:
                left = None if left < 0 else left / 1000
                yield {
                    "lock": key,
                    "token": as_text(token),
                    "held_for": None if left is None else max(0.0, expiry - left),
                    "expires_in": left,
                    "waiting": waiting,
                }


def lock_places(sight: Sight) -> list[Any]:
    """Clients of the servers that the locks are on."""
    nodes = sight.config.lock_nodes
    return [client_for(node, sight.timeout) for node in nodes] or [sight.client]


def _server_ms(client: Any) -> int:
    moment = client.time()
    if isinstance(moment, dict):  # a Cluster's, by node
        moment = next(iter(moment.values()))
    return int(moment[0]) * 1000 + int(moment[1]) // 1000


def _name_holders(sight: Sight, rows: Iterable[dict[str, Any]], work: LongWork) -> None:
    """Say of each lock whose it is: only the sessions' keys tell it."""
    named: dict[str, str] = {}
    wanted = {row["lock"] for row in rows}
    for key in work.over(sight.keys()):
        if lock_key(key) in wanted:
            named[lock_key(key)] = sight.digest(key)[:HANDLE_SIZE]
    for row in rows:
        row["handle"] = named.get(row["lock"])
