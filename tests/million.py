"""A million sessions, and the command line on them: ``python -m million``, from tests/.

It fills an embedded server, where every tenth session has been evicted, and runs
``stats`` and ``purge --expired-index``: what they show meanwhile, what they found,
how long they took, how much memory. The exit status is 1 if that was 200 MB or more.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from servers import Server, version_of

from smartredis_wsgi import ids
from smartredis_wsgi.config import Config
from smartredis_wsgi.ids import Address
from smartredis_wsgi.owners import Owners, digest_of
from smartredis_wsgi.store import Records, Tie
from smartredis_wsgi.wire import Call, Wire

MOST_MB = 200
PER_OWNER = 10
_PAGE = 1000
_FIELDS = {"user": b'"ann"', "seen": b"1"}
_COMMANDS = ["stats"], ["purge", "--expired-index"], ["purge", "--expired-index"]


class Ran(NamedTuple):
    """A command that has run to its end."""

    words: list[str]
    told: dict[str, Any]
    shown: bytes  # on the terminal, while it worked
    seconds: float
    megabytes: float


def fill(server: Server, sessions: int) -> None:
    """Make sessions, ten for each owner; one of the ten has ended."""
    config = Config.build(url=server.url, ttl="1d")
    records, owners, wire = Records(config), Owners(config), Wire(server.url, 60)
    with server.client() as client:
        seconds, _ = client.time()
        until_ms, used_ms = (seconds + 86400) * 1000, (seconds - 3600) * 1000
        todo = iter(range(sessions))
        while page := list(islice(todo, _PAGE)):
            calls: list[Call[Any]] = []
            pipe = client.pipeline(transaction=False)
            for number in page:
                owner = digest_of(f"user {number // PER_OWNER}")
                name = Address.of(ids.new_id()).record
                slot, digest = name[:-64], name[-64:]
                entry = f"0 {until_ms} {used_ms} {used_ms} {used_ms} {digest} "
                pipe.hset(owners.key(owner), slot, entry)
                pipe.pexpireat(owners.key(owner), until_ms)
                tie = Tie(owner, until_ms, binds=True)
                incarnation = ids.new_incarnation()
                if number % PER_OWNER:  # the others have ended
                    calls.append(records.create(name, incarnation, _FIELDS, None, tie))
            pipe.execute()
            wire.run(*calls)
    wire.close()


def run(server: Server, words: Sequence[str]) -> Ran:
    """Run a command whose stderr is a terminal; its output is JSON."""
    screen, terminal = pty.openpty()
    program = [sys.executable, "-m", "smartredis_wsgi", "--url", server.url, "--json"]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*program, *words], stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    os.close(terminal)
    shown = b"".join(_read(screen))
    assert process.stdout
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(shown.decode(errors="replace"))
    seconds = time.monotonic() - begun
    return Ran([*words], json.loads(told), shown, seconds, used.ru_maxrss / 1024)


def _read(screen: int) -> Iterator[bytes]:
    """What is written until the terminal is closed."""
    try:
        while piece := os.read(screen, 65536):
            yield piece
    except OSError:
        pass  # as Linux tells that nobody has it open any more
    finally:
        os.close(screen)


def all_run(sessions: int) -> Iterator[Ran]:
    with Server("valkey") as server:
        fill(server, sessions)
        for words in _COMMANDS:
            yield run(server, words)


def main() -> int:
    parser = argparse.ArgumentParser(prog="million", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"{options.sessions:,} sessions, valkey {version_of('valkey')}", flush=True)
    worst = 0.0
    for ran in all_run(options.sessions):
        found = {k: v for k, v in ran.told.items() if isinstance(v, int)}
        frames = ran.shown.count(b"\r") + ran.shown.count(b"\x1b[2K")
        print(
            f"{' '.join(ran.words):24} {ran.seconds:6.0f} s {ran.megabytes:6.0f} MB  "
            f"{frames} frames of its bar  {found or ran.told['sessions']}",
            flush=True,
        )
        worst = max(worst, ran.megabytes)
    return int(worst >= MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
