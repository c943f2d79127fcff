"""Commands for sessions: list them, show one, end one."""

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import click

from ..codec import codec_for
from ..everywhere import HANDLE_SIZE, destroy_owner, sessions_of
from ..owners import digest_of
from ..store import Kind
from .group import common
from .locks import held_locks, lock_key, lock_places
from .rendering import LongWork, moment, plain, span, tell
from .sight import Glance, Sight

_LINE = "{:13}{:10}{:>9}{:>8}  {:26}{:>6}{:>9}"


@click.command("list")
@common
@click.option(
    "--limit", type=click.IntRange(0), default=100, help="At most so many; 0: all."
)
@click.option("--owner", help="Only this one's, with their notes.")
@click.pass_obj
def list_(given: dict[str, Any], limit: int, owner: str | None) -> None:
    """Show the sessions, one a line, in no order."""
    sight, as_json = Sight.told_by(given), "json" in given
    if owner is not None:
        _list_owned(sight, owner, as_json)
        return
    work = LongWork("sessions", shown=not sys.stdout.isatty())
    with work:
        total = sight.client.dbsize()
        seen = work.over(sight.glances(sight.keys()), total)
        heads = "HANDLE", "STATE", "SIZE", "FIELDS", "CREATED", "IDLE", "EXPIRES"
        if not as_json:
            click.echo(_LINE.format(*heads))
        for one in islice(seen, limit or None):
            row = _row(sight, one)
            click.echo(json.dumps(row) if as_json else _line(row))
        if limit and next(seen, None):
            click.echo(f"there are more than {limit}; --limit 0 shows all", err=True)
    work.end()


_OWNED = "{:13} {:26} {:26} {}"


def _list_owned(sight: Sight, owner: str, as_json: bool) -> None:
    if not as_json:
        click.echo(_OWNED.format("HANDLE", "CREATED", "LAST USED", "NOTE"))
    for one in sessions_of(sight, _digest_of(owner)):
        times = moment(one.created), moment(one.last_used)
        row = dict(zip(one._fields, (one.handle, *times, one.note), strict=True))
        line = _OWNED.format(one.handle, *times, plain(one.note))
        click.echo(json.dumps(row) if as_json else line)


def _digest_of(owner: str) -> str:
    try:
        return digest_of(owner)
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from None


@click.command()
@common
@click.argument("handle")
@click.option("--values", is_flag=True, help="Show what the fields hold, too.")
@click.pass_obj
def show(given: dict[str, Any], handle: str, values: bool) -> None:
    """Show one session's fields and their sizes."""
    sight = Sight.told_by(given)
    key = _found(sight, handle)
    seen = next(sight.glances([key], "values" if values else "sizes"), None)
    if seen is None:
        raise LookupError(f"the session {handle} is gone")
    row = _row(sight, seen)
    held = (held_locks(sight, node, [lock_key(key)]) for node in lock_places(sight))
    row["lock"] = next(chain.from_iterable(held), None)
    row["content"] = _content(sight, seen, values, "json" in given)

    def text() -> Iterator[str]:
        for name in [*row][:-2]:
            yield f"{name + ':':12} {row[name]}"
        holder = row["lock"]["token"] if row["lock"] else "nobody"
        yield f"{'lock:':12} held by {holder}"
        for field_ in row["content"]:
            told = f"{field_['value']!r}" if values else "(--values shows it)"
            yield f"{plain(field_['name']):24} {field_['size']:>8} bytes  {told}"

    tell("json" in given, row, text)


def _found(sight: Sight, handle: str) -> str:
    work, key = LongWork("looking for it"), ""
    with work:
        key = sight.find(handle)
    work.end()
    return key


def _content(
    sight: Sight, seen: Glance, values: bool, as_json: bool
) -> list[dict[str, Any]]:
    rows = []
    for name, told in sorted(seen.fields.items()):
        row: dict[str, Any] = {"name": name, "size": len(told) if values else told}
        if values:
            row["value"] = _decoded(sight, told)
            if as_json:
                row["value"] = _for_json(row["value"])
        rows.append(row)
    return rows


def _decoded(sight: Sight, raw: bytes) -> Any:
    try:
        return codec_for(sight.config.codec).decode(raw)
    except ValueError as wrong:
        return f"({wrong})"


def _for_json(value: Any) -> Any:
    """What JSON lacks goes as Python would write it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


@click.command()
@common
@click.argument("handle", required=False)
@click.option("--owner", help="All of this one's sessions.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def destroy(
    given: dict[str, Any], handle: str | None, owner: str | None, yes: bool
) -> None:
    """Log a session out, or an owner everywhere, for good: no late request brings
    one back.
    """
    if (handle is None) == (owner is None):
        raise click.UsageError("name one: a HANDLE, or an --owner")
    sight, as_json = Sight.told_by(given), "json" in given
    if owner is not None:
        _destroy_owner(sight, _digest_of(owner), yes, as_json)
    elif handle is not None:
        _destroy(sight, handle, yes, as_json)


def _destroy_owner(sight: Sight, owner: str, yes: bool, as_json: bool) -> None:
    if not yes:
        click.confirm("Destroy all sessions of the owner?", abort=True, err=True)
    told = {"destroyed": destroy_owner(sight, owner)}
    tell(as_json, told, lambda: [f"destroyed {told['destroyed']}"])


def _destroy(sight: Sight, handle: str, yes: bool, as_json: bool) -> None:
    key = _found(sight, handle)
    if not yes:
        click.confirm(f"Destroy the session {handle}?", abort=True, err=True)
    call = sight.records.destroy(key.removeprefix(sight.config.prefix))
    sight.wire.run(call)
    kind, moved_to, owner = call.result
    if owner:
        slot = key.removeprefix(sight.config.prefix)[:-64]
        sight.wire.run(sight.owners.forget(owner, [slot]))
    if kind is Kind.MOVED:
        now = moved_to[-64:][:HANDLE_SIZE]
        raise LookupError(f"{handle} has moved; its handle is {now} now")
    if kind is not Kind.DESTROYED:
        raise LookupError(f"{handle} was not destroyed; what is there: {kind.value}")
    told = {"handle": sight.digest(key)[:HANDLE_SIZE], "state": kind.value}
    tell(as_json, told, lambda: [f"destroyed {told['handle']}"])


def _row(sight: Sight, seen: Glance) -> dict[str, Any]:
    row: dict[str, Any] = {"handle": seen.handle, "state": seen.kind.value}
    row["expires_in"] = seen.left
    if seen.kind is Kind.ALIVE:
        row |= {"size": seen.size, "fields": seen.field_count, "version": seen.version}
        row |= {"created": moment(seen.created), "idle": sight.idle(seen)}
    if seen.moved_to:
        row["moved_to"] = seen.moved_to
    return row


def _line(row: Mapping[str, Any]) -> str:
    return _LINE.format(
        row["handle"],
        row["state"],
        row.get("size", "-"),
        row.get("fields", "-"),
        row.get("created", row.get("moved_to", "-")),
        span(row.get("idle")),
        "never" if row["expires_in"] is None else span(row["expires_in"]),
    )
