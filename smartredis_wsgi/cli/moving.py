"""Take over all sessions of another library at once, page by page."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from ..config import Config
from ..connect import client_for
from ..errors import ConfigError
from ..moving.libraries import LIBRARIES
from ..moving.records import MARK, Found, OldRecords
from ..store import Outcome
from .group import common
from .rendering import LongWork, tell
from .settings import Settings
from .sight import Sight, glob, pages, scan

_OURS = re.compile(r"\{[0-9a-f]{16}\}[0-9a-f]{64}")
_AN_ID = re.compile(r"[!-~]+")


@dataclass
class _Sums:
    """What became of the sessions, and why some stay where they are."""

    moved: int = 0
    there_already: int = 0
    ended_meanwhile: int = 0
    left: Counter[str] = field(default_factory=Counter)

    def told(self, is_complete: bool, dry_run: bool) -> dict[str, Any]:
        return {
            "complete": is_complete,
            "dry_run": dry_run,
            **dataclasses.asdict(self),
            "left": dict(self.left.most_common()),
        }


class _Move:
    """The sessions of another library, on their way."""

    def __init__(self, given: dict[str, Any], source: dict[str, Any]) -> None:
        """Raises ConfigError for what is wrong with the options."""
        settings = Settings(given)
        if "url" not in settings.options:
            raise ConfigError("no server; use --url, --config or SMARTREDIS_URL")
        config = Config.build({**settings.options, **source})
        sight = Sight(config)
        config = dataclasses.replace(config, timeout=sight.timeout)
        self._old = OldRecords(config, sight.wire, sight.records)
        url = config.import_url
        self.client = client_for(url, sight.timeout) if url else sight.client

    def ids(self) -> Iterator[str]:
        """The ids of what may be sessions. SCAN: one may come twice."""
        prefix, library = self._old.prefix, self._old.library
        for key in scan(self.client, f"{glob(prefix)}*{glob(library.suffix)}"):
            its_id = library.id(prefix, key)
            is_ours = key.startswith(MARK) or _OURS.search(key)
            if its_id and _AN_ID.fullmatch(its_id) and not is_ours:
                yield its_id

    def take(self, its_ids: list[str], sums: _Sums, keep: bool, dry_run: bool) -> None:
        """Take over a page of sessions: five round trips; one in a dry run."""
        looks = [one for one in self._old.look(its_ids) if one is not None]
        found = [one for one in looks if isinstance(one, Found)]
        sums.left.update(str(one) for one in looks if not isinstance(one, Found))
        if dry_run:
            sums.moved += len(found)
        elif found:
            for made in self._old.settle(found, keep=keep):
                is_new = made is not None and made.outcome is Outcome.STORED
                sums.moved += is_new
                sums.ended_meanwhile += made is None
                sums.there_already += made is not None and not is_new


@click.command("import")
@common
@click.argument("source", type=click.Choice([*LIBRARIES]))
@click.option("--from-url", help="Where they lie, if not where ours do.")
@click.option("--from-prefix", help="Of their keys, if not the library's own.")
@click.option("--pickle", is_flag=True, help="Read pickles, of plain data only.")
@click.option("--keep", is_flag=True, help="Let the old records be.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.pass_obj
def import_(
    given: dict[str, Any],
    source: str,
    from_url: str | None,
    from_prefix: str | None,
    pickle: bool,
    keep: bool,
    dry_run: bool,
) -> None:
    """Take over the sessions of another library.

    Each is found here by its client's old cookie, with the option import_from.
    """
    said = {"url": from_url, "prefix": from_prefix, "pickle": pickle or None}
    options = {f"import_{name}": x for name, x in said.items() if x is not None}
    move, sums = _Move(given, {"import_from": source, **options}), _Sums()
    work = LongWork("sessions")
    with work:
        total = move.client.dbsize()
        for page in pages(work.over(move.ids(), total)):
            move.take(page, sums, keep, dry_run)
    told = sums.told(not work.is_stopped, dry_run)

    def text() -> Iterator[str]:
        yield f"{sums.moved} {'would move' if dry_run else 'moved'}"
        if sums.there_already:
            yield f"{sums.there_already} were there already"
        if sums.ended_meanwhile:
            yield f"{sums.ended_meanwhile} ended meanwhile"
        for reason, number in sums.left.most_common():
            yield f"{number} left: {reason}"

    tell("json" in given, told, text)
    work.end()
