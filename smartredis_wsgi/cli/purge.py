"""What is left of sessions that are no more, and can be taken away."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from ..everywhere import living_of
from .group import common
from .rendering import LongWork, tell
from .sight import Sight, pages


@click.command()
@common
@click.option(
    "--expired-index",
    is_flag=True,
    help="Entries in owners' indexes whose sessions are no more.",
)
@click.pass_obj
def purge(given: dict[str, Any], expired_index: bool) -> None:
    """Take away what is left of sessions that are no more.

    It can be stopped; the next run goes on, as what is gone needs no second look.
    """
    if not expired_index:
        raise click.UsageError("say what: --expired-index")
    sight, work = Sight.told_by(given), LongWork("owners")
    sums = {"owners": 0, "living": 0, "purged": 0}
    with work:
        for owners in pages(work.over(sight.all_owners())):
            for name, number in zip(sums, _purged(sight, owners), strict=True):
                sums[name] += number
    told = {"complete": not work.is_stopped, **sums}

    def text() -> Iterator[str]:
        yield from (f"{name + ':':10}{number}" for name, number in sums.items())

    tell("json" in given, told, text)
    work.end()


def _purged(sight: Sight, owners: Sequence[str]) -> tuple[int, int, int]:
    """How many owners were looked at, sessions found, and entries taken out."""
    calls = {owner: sight.owners.tell(owner) for owner in owners}
    sight.wire.run(*calls.values())
    told = {owner: call.result for owner, call in calls.items()}
    living = sum(map(len, living_of(sight, told).values()))
    return len(told), living, sum(map(len, told.values())) - living
