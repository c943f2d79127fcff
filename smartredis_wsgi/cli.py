"""The command line: look at sessions and locks, end a session, check a configuration.

Keys are found by SCAN and looked at page by page, so that a million sessions need no
more memory than a thousand, and Redis serves others meanwhile. Looking changes nothing:
no session is prolonged by it. No id is in Redis, so none can be shown: a session has a
handle, the first characters of the digest in its key.
"""

import heapq
import json
import os
import re
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as IniError
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import chain, islice
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import click
from redis.exceptions import RedisClusterException, RedisError
from rich.console import Console
from rich.progress import Progress

from .codec import codec_for
from .config import Config
from .connect import client_for
from .errors import ConfigError, SmartRedisError
from .locks import Redlock, protocol
from .store import META, Kind, Records
from .wire import Call, Script, Wire

T = TypeVar("T")

_GLANCE = Script.named("record", "glance")
_PAGE = 500  # keys that are looked at in one round trip
_SECONDS = 5.0  # for an answer, at least: nobody waits for a page of ours
_HANDLE_SIZE = 12  # of 64: eight, as in logs, are not enough for a million
_STOPPED = 130  # the exit status of what SIGINT ended
_KEY = re.compile(r"\{([0-9a-f]{16})\}([0-9a-f]{64})")
_PRIVATE = {"embedded", "memory"}  # servers within another program
_BIGGEST = 10
_AGES = {"1 minute": 60, "1 hour": 3600, "1 day": 86400, "1 week": 604800}
_FOUR_TIMES = [4**power for power in range(3, 16)]


# -- where to look -------------------------------------------------------------------


class Settings:
    """The options that were given, and who gave each: the last one named wins.

    The file, then SMARTREDIS_URL, then the command line.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.options: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        if "config" in given:
            self._take(_read_ini(given["config"]), "file")
        if os.environ.get("SMARTREDIS_URL"):
            self._take({"url": os.environ["SMARTREDIS_URL"]}, "SMARTREDIS_URL")
        named = {name: given[name] for name in ("url", "prefix") if name in given}
        self._take(named, "command line")

    def config(self) -> Config:
        """Raises ConfigError for the first thing that is wrong."""
        if "url" not in self.options:
            raise ConfigError("no server; use --url, --config or SMARTREDIS_URL")
        return Config.build(self.options)

    def _take(self, options: Mapping[str, Any], origin: str) -> None:
        self.options.update(options)
        self.origins.update(dict.fromkeys(options, origin))


def _read_ini(path: str) -> dict[str, Any]:
    """What begins with ``session.``, in any section, and what is in ``[session]``."""
    ini = ConfigParser(interpolation=None)  # a secret may hold a %
    try:
        with open(path, encoding="utf-8") as file:
            ini.read_file(file)
    except (IniError, UnicodeDecodeError, OSError) as wrong:
        raise ConfigError(f"{path}: {' '.join(str(wrong).split())}") from None
    options: dict[str, Any] = dict(ini["session"]) if "session" in ini else {}
    for section in ini.sections():
        options |= Config.section(ini[section], "session.")
    if not options:
        raise ConfigError(f"{path}: no option in it begins with session.")
    return options


class Glance(NamedTuple):
    """What lies at a key. Times in seconds; unless it is ALIVE, most are zero."""

    key: str
    handle: str
    kind: Kind
    left: float | None = None  # None: it has no expiry
    version: int = 0
    created: float = 0.0
    size: int = 0
    ttl: float = 0.0
    now: float = 0.0
    field_count: int = 0
    fields: Mapping[str, Any] = {}
    moved_to: str = ""


class Sight:
    """The keys of one configuration, as they lie in Redis."""

    def __init__(self, config: Config) -> None:
        """Makes a client; no round trip.

        Raises:
            ConfigError: An address that cannot serve, or a server that nobody but the
                program itself can reach.
        """
        scheme = (config.url or "").partition("://")[0]
        if scheme in _PRIVATE:
            raise ConfigError(f"url: a server of {scheme}:// is its own program's only")
        self.config = config
        self.timeout = max(config.timeout, _SECONDS)
        self.client = client_for(config.url, self.timeout)
        self.wire = Wire(self.client, self.timeout)
        self.records = Records(config)

    def keys(self, pattern: str = "") -> Iterator[str]:
        """The keys of sessions whose digests begin so. SCAN: one may come twice."""
        match = _glob(self.config.prefix) + "{" + "?" * 16 + "}" + pattern + "*"
        for key in _scan(self.client, match):
            if _KEY.fullmatch(key.removeprefix(self.config.prefix)):
                yield key

    def glances(self, keys: Iterable[str], of_fields: str = "") -> Iterator[Glance]:
        """What lies at the keys; one round trip a page. What is gone is left out.

        Args:
            of_fields: Their "sizes" or "values", or nothing.
        """
        for page in _pages(keys, _PAGE):
            calls = [self._glance(key, of_fields) for key in page]
            self.wire.run(*calls)
            yield from (c.result for c in calls if c.result.kind is not Kind.ABSENT)

    def find(self, handle: str) -> str:
        """The one key of a handle.

        Raises:
            LookupError: There is none, or more than one.
        """
        if not re.fullmatch(r"[0-9a-f]{8,64}", handle):
            raise LookupError(f"{handle!r} is no handle: 8 to 64 of 0-9 and a-f")
        found: set[str] = set()
        for key in self.keys(handle):
            found.add(key)
            if len(found) > 1:
                raise LookupError(
                    f"{handle} is ambiguous: {' and '.join(map(self.digest, found))}"
                )
        if not found:
            raise LookupError(f"no session has the handle {handle}")
        return found.pop()

    def digest(self, key: str) -> str:
        return key[-64:]

    def _glance(self, key: str, of_fields: str) -> Call[Glance]:
        def read(answer: list[Any]) -> Glance:
            kind, left, *rest = answer
            seen = Glance(
                key,
                self.digest(key)[:_HANDLE_SIZE],
                Kind(kind.decode()),
                None if left < 0 else left / 1000,
            )
            if seen.kind is Kind.MOVED:
                return seen._replace(moved_to=rest[0].decode()[-64:][:_HANDLE_SIZE])
            return _alive(seen, *rest) if seen.kind is Kind.ALIVE else seen

        return Call(_GLANCE, [key], (of_fields,), read)

    def idle(self, seen: Glance) -> float | None:
        """For how long nobody used it, by its expiry; None where that can't tell."""
        ttl, most = seen.ttl or self.config.ttl, self.config.max_lifetime
        if seen.left is None:
            return None
        if most and seen.created + most <= seen.now + seen.left + 1:
            return None  # its end is that of its life
        return max(0.0, round(ttl - seen.left, 3))


def _alive(
    seen: Glance,
    version: int,
    created: int,
    size: int,
    ttl: int,
    now: int,
    count: int,
    flat: list[Any],
) -> Glance:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    named = {name.decode("utf-8", "replace"): x for name, x in pairs if name != META}
    return seen._replace(
        version=version,
        created=created / 1000,
        size=size,
        ttl=ttl / 1000,
        now=now / 1000,
        field_count=count,
        fields=named,
    )


def _scan(client: Any, match: str) -> Iterator[str]:
    for key in client.scan_iter(match=match, count=_PAGE):
        yield _text(key)


def _text(raw: bytes | str) -> str:
    """Also of a client whose URL says decode_responses."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "replace")


def _glob(text: str) -> str:
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)


def _pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page


# -- how to tell ---------------------------------------------------------------------


class LongWork:
    """A block that Ctrl-C ends early, with a bar on stderr where that is a terminal."""

    def __init__(self, what: str, shown: bool = True) -> None:
        is_shown = shown and sys.stderr.isatty()
        self._bar = Progress(
            console=Console(stderr=True),
            transient=True,
            disable=not is_shown,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(what, total=None)
        self.is_stopped = False

    def __enter__(self) -> "LongWork":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._bar.stop()
        self.is_stopped = kind is KeyboardInterrupt
        return self.is_stopped

    def over(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """The items, counted by the bar.

        Args:
            total: About how many there will be; None where nobody knows.
        """
        self._bar.update(self._task, total=total)
        for number, item in enumerate(items, 1):
            yield item
            if number % _PAGE == 0:
                self._bar.advance(self._task, _PAGE)

    def end(self) -> None:
        """Leave with the right status where it was stopped."""
        if self.is_stopped:
            click.echo("stopped: this is what was found so far", err=True)
            sys.exit(_STOPPED)


def _tell(as_json: bool, told: Any, text: Callable[[], Iterable[str]]) -> None:
    """One JSON document, or lines for people."""
    if as_json:
        click.echo(json.dumps(told))
    else:
        for line in text():
            click.echo(line)


def _in_a_line(failure: Exception) -> str:
    text = " ".join(str(failure).split()) or type(failure).__name__
    return text.partition(" : <")[0]  # Sentinel's shows the client's insides


def _span(seconds: float | None) -> str:
    """A duration in its largest unit."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _plain(text: str) -> str:
    """A field's name; no terminal obeys what is in it."""
    return text if text.isprintable() else ascii(text)


def _row(sight: Sight, seen: Glance) -> dict[str, Any]:
    row: dict[str, Any] = {"handle": seen.handle, "state": seen.kind.value}
    row["expires_in"] = seen.left
    if seen.kind is Kind.ALIVE:
        row |= {"size": seen.size, "fields": seen.field_count, "version": seen.version}
        row |= {"created": _moment(seen.created), "idle": sight.idle(seen)}
    if seen.moved_to:
        row["moved_to"] = seen.moved_to
    return row


_LINE = "{:13}{:10}{:>9}{:>8}  {:26}{:>6}{:>9}"


def _line(row: Mapping[str, Any]) -> str:
    return _LINE.format(
        row["handle"],
        row["state"],
        row.get("size", "-"),
        row.get("fields", "-"),
        row.get("created", row.get("moved_to", "-")),
        _span(row.get("idle")),
        "never" if row["expires_in"] is None else _span(row["expires_in"]),
    )


# -- the commands --------------------------------------------------------------------


class _OneLine(click.Group):
    """A group whose failures are one line on stderr, and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SmartRedisError, RedisError, RedisClusterException) as failure:
            text = _in_a_line(failure)
        except LookupError as failure:
            if type(failure) is not LookupError:
                raise  # a mistake of ours
            text = str(failure)
        raise click.ClickException(text)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Options may stand before the command or behind it."""
    given = context.ensure_object(dict)
    if value not in (None, False):
        given[parameter.name] = value


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[str, Any] = {"callback": _keep, "expose_value": False}
    options = (
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False),
            **kept,
            help="An ini file; what begins with session. counts.",
        ),
        click.option(
            "--url", **kept, help="Where the records live; or SMARTREDIS_URL."
        ),
        click.option("--prefix", **kept, help="Of every key; session: by default."),
        click.option("--json", **kept, is_flag=True, help="JSON instead of text."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=_OneLine)
@_common
@click.version_option(package_name="smartredis_wsgi")
@click.pass_context
def main(context: click.Context) -> None:
    """Look at the sessions and locks in Redis; end a session; check a configuration."""
    context.ensure_object(dict)


def _sight(given: Mapping[str, Any]) -> Sight:
    return Sight(Settings(given).config())


@main.command("list")
@_common
@click.option(
    "--limit", type=click.IntRange(0), default=100, help="At most so many; 0: all."
)
@click.pass_obj
def list_(given: dict[str, Any], limit: int) -> None:
    """Show the sessions, one a line, in no order."""
    sight, as_json = _sight(given), "json" in given
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


@main.command()
@_common
@click.argument("handle")
@click.option("--values", is_flag=True, help="Show what the fields hold, too.")
@click.pass_obj
def show(given: dict[str, Any], handle: str, values: bool) -> None:
    """Show one session's fields and their sizes."""
    sight = _sight(given)
    key = _found(sight, handle)
    seen = next(sight.glances([key], "values" if values else "sizes"), None)
    if seen is None:
        raise LookupError(f"the session {handle} is gone")
    row = _row(sight, seen)
    held = (_locks(sight, node, [_lock_key(key)]) for node in _lock_places(sight))
    row["lock"] = next(chain.from_iterable(held), None)
    row["content"] = _content(sight, seen, values, "json" in given)

    def text() -> Iterator[str]:
        for name in [*row][:-2]:
            yield f"{name + ':':12} {row[name]}"
        holder = row["lock"]["token"] if row["lock"] else "nobody"
        yield f"{'lock:':12} held by {holder}"
        for field_ in row["content"]:
            told = f"{field_['value']!r}" if values else "(--values shows it)"
            yield f"{_plain(field_['name']):24} {field_['size']:>8} bytes  {told}"

    _tell("json" in given, row, text)


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


@main.command()
@_common
@click.argument("handle")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def destroy(given: dict[str, Any], handle: str, yes: bool) -> None:
    """Log a session out, for good: no late request brings it back."""
    sight = _sight(given)
    key = _found(sight, handle)
    if not yes:
        click.confirm(f"Destroy the session {handle}?", abort=True, err=True)
    call = sight.records.destroy(key.removeprefix(sight.config.prefix))
    sight.wire.run(call)
    kind, moved_to = call.result
    if kind is Kind.MOVED:
        now = moved_to[-64:][:_HANDLE_SIZE]
        raise LookupError(f"{handle} has moved; its handle is {now} now")
    if kind is not Kind.DESTROYED:
        raise LookupError(f"{handle} was not destroyed; what is there: {kind.value}")
    told = {"handle": sight.digest(key)[:_HANDLE_SIZE], "state": kind.value}
    _tell("json" in given, told, lambda: [f"destroyed {told['handle']}"])


@dataclass
class Sums:
    """What can be said of any number of sessions in little memory."""

    states: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    ages: Counter[str] = field(default_factory=Counter)
    biggest: list[tuple[int, str, str]] = field(default_factory=list)
    bytes: int = 0
    largest: int = 0
    fields: int = 0
    without_expiry: int = 0

    def add(self, seen: Glance) -> None:
        self.states[seen.kind.value] += 1
        self.without_expiry += seen.left is None
        if seen.kind is not Kind.ALIVE:
            return
        self.bytes += seen.size
        self.fields += seen.field_count
        self.largest = max(self.largest, seen.size)
        self.sizes[next((s for s in _FOUR_TIMES if seen.size <= s), seen.size)] += 1
        age = seen.now - seen.created
        self.ages[next((word for word, s in _AGES.items() if age <= s), "older")] += 1
        for name, size in seen.fields.items():
            self._add_field(size, name, seen.handle)

    def _add_field(self, size: int, name: str, handle: str) -> None:
        entry = (size, name, handle)
        if len(self.biggest) < _BIGGEST:
            heapq.heappush(self.biggest, entry)
        elif entry > self.biggest[0] and entry not in self.biggest:
            heapq.heapreplace(self.biggest, entry)

    def told(self, is_complete: bool) -> dict[str, Any]:
        alive = self.states["alive"]
        return {
            "complete": is_complete,
            "sessions": {kind.value: self.states[kind.value] for kind in _SHOWN},
            "without_expiry": self.without_expiry,
            "bytes": self.bytes,
            "mean_size": round(self.bytes / alive) if alive else 0,
            "largest": self.largest,
            "mean_fields": round(self.fields / alive, 1) if alive else 0,
            "sizes_up_to": {str(size): self.sizes[size] for size in sorted(self.sizes)},
            "ages_up_to": {age: self.ages[age] for age in [*_AGES, "older"]},
            "biggest_fields": [
                {"size": size, "field": name, "handle": handle}
                for size, name, handle in sorted(self.biggest, reverse=True)
            ],
        }


_SHOWN = Kind.ALIVE, Kind.DESTROYED, Kind.MOVED, Kind.FOREIGN


@main.command()
@_common
@click.pass_obj
def stats(given: dict[str, Any]) -> None:
    """Count the sessions; tell their sizes, ages and biggest fields."""
    sight, sums, work = _sight(given), Sums(), LongWork("sessions")
    with work:
        total = sight.client.dbsize()
        for seen in work.over(sight.glances(sight.keys(), "sizes"), total):
            sums.add(seen)
    told = sums.told(is_complete=not work.is_stopped)

    def text() -> Iterator[str]:
        for title, value in told.items():
            title = title.replace("_", " ") + ":"
            if isinstance(value, dict):
                value = ", ".join(f"{name} {n}" for name, n in value.items())
            if not isinstance(value, list):
                yield f"{title:17}{value}"
        for big in told["biggest_fields"]:
            yield f"{big['size']:>9} bytes  {big['handle']}  {_plain(big['field'])}"

    _tell("json" in given, told, text)
    work.end()


def _lock_key(key: str) -> str:
    return protocol.lock_key(key[:-64])


def _locks(sight: Sight, client: Any, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Who holds these locks; those that are free are left out."""
    expiry = sight.config.lock_expiry
    for page in _pages(keys, _PAGE):
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
                    "token": _text(token),
                    "held_for": None if left is None else max(0.0, expiry - left),
                    "expires_in": left,
                    "waiting": waiting,
                }


def _lock_places(sight: Sight) -> list[Any]:
    """Clients of the servers that the locks are on."""
    nodes = sight.config.lock_nodes
    return [client_for(node, sight.timeout) for node in nodes] or [sight.client]


def _server_ms(client: Any) -> int:
    moment = client.time()
    if isinstance(moment, dict):  # a Cluster's, by node
        moment = next(iter(moment.values()))
    return int(moment[0]) * 1000 + int(moment[1]) // 1000


@main.command()
@_common
@click.pass_obj
def locks(given: dict[str, Any]) -> None:
    """Show who holds a session's lock, and how many wait for it."""
    sight, work = _sight(given), LongWork("locks")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with work:
        match = "lock:" + _glob(sight.config.prefix) + "{" + "?" * 16 + "}"
        for client in _lock_places(sight):
            for row in _locks(sight, client, work.over(_scan(client, match))):
                same = found.setdefault((row["lock"], row["token"]), row)
                same["nodes"] = same.get("nodes", 0) + 1
        if found:
            _name_holders(sight, found.values(), work)
    rows = list(found.values())

    def text() -> Iterator[str]:
        line = "{:14}{:26}{:>9}{:>9}{:>9}{:>7}"
        yield line.format("HANDLE", "TOKEN", "HELD", "EXPIRES", "WAITING", "NODES")
        for row in rows:
            spans = [_span(row["held_for"]), _span(row["expires_in"])]
            counts = row["waiting"], row["nodes"]
            yield line.format(row["handle"] or "-", row["token"], *spans, *counts)

    _tell("json" in given, rows, text)
    work.end()


def _name_holders(sight: Sight, rows: Iterable[dict[str, Any]], work: LongWork) -> None:
    """Say of each lock whose it is: only the sessions' keys tell it."""
    named: dict[str, str] = {}
    wanted = {row["lock"] for row in rows}
    for key in work.over(sight.keys()):
        if _lock_key(key) in wanted:
            named[_lock_key(key)] = sight.digest(key)[:_HANDLE_SIZE]
    for row in rows:
        row["handle"] = named.get(row["lock"])


# -- check ---------------------------------------------------------------------------

# What stands for an option that was refused, so that what is behind it is seen too.
_FOR_REFUSED: dict[str, Any] = {
    "url": "memory://",
    "lock_nodes": ("redis://1", "redis://2", "redis://3"),
}


@main.command()
@_common
@click.pass_obj
def check(given: dict[str, Any]) -> None:
    """Tell each option's value and origin, what is wrong, and how the server is."""
    settings = Settings(given)
    config, problems = _refusals(settings.options)
    advice: list[str] = []
    servers: list[dict[str, Any]] = []
    try:
        if not any("option url:" in problem for problem in problems):
            servers, advice = _examined(config)
        if not problems and config.lock_nodes:
            Redlock(config.lock_nodes)
    except (SmartRedisError, RedisError, RedisClusterException) as failure:
        problems.append(_in_a_line(failure))
    problems += _silent_nodes(config) if not problems else []
    told: dict[str, Any] = {
        "options": _options(settings, config),
        "servers": servers,
        "problems": problems,
        "advice": advice,
    }

    def text() -> Iterator[str]:
        for row in told["options"]:
            yield f"{row['option']:20}{row['value']!s:32}{row['origin']}"
        for server in servers:
            yield "server: " + ", ".join(f"{k} {v}" for k, v in server.items())
        yield from (f"advice: {line}" for line in advice)

    _tell("json" in given, told, text)
    for problem in problems:
        if "json" not in given:
            click.echo(f"problem: {problem}", err=True)
    sys.exit(1 if problems else 0)


def _refusals(options: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """All that is wrong, and the configuration without it."""
    left, refused = dict(options), set()
    problems: list[str] = []
    while True:
        try:
            return Config.build(left), problems
        except ConfigError as wrong:
            name = re.findall(r"option ([^:;]+)", str(wrong))[0]
            if name not in refused:
                problems.append(str(wrong))
            if name in _FOR_REFUSED and name not in refused:
                left[name] = _FOR_REFUSED[name]
            elif left.pop(name, None) is None:
                raise
            refused.add(name)


def _options(settings: Settings, config: Config) -> list[dict[str, Any]]:
    rows = []
    for option in fields(Config):
        if option.name != "client":
            given = settings.options.get(option.name)
            value = getattr(config, option.name)
            origin = settings.origins.get(option.name, "default")
            rows.append(
                {
                    "option": option.name,
                    "value": _harmless(option.name, given, value),
                    "origin": origin,
                }
            )
    return rows


def _harmless(name: str, given: Any, value: Any) -> Any:
    """An option's value without what is secret in it."""
    if name == "secret":
        return f"({len(value)} given)" if value else "none"
    if name == "url":
        return _without_password(str(given)) if given else None
    if name == "lock_nodes":
        return [_without_password(node) for node in value] if given else []
    return sorted(value) if isinstance(value, frozenset) else value


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    place = re.sub(r"(password=)[^&]*", r"\1***", place)
    return scheme + separator + ("***" if user else "") + at + place


def _examined(config: Config) -> tuple[list[dict[str, Any]], list[str]]:
    """Each server's version and state, and what would be better."""
    if config.url.partition("://")[0] in _PRIVATE:  # type: ignore[union-attr]
        return [], [f"{config.url} is for a first look: its end is the program's"]
    client = Sight(config).client
    if not hasattr(client, "get_primaries"):
        return _judged([_state(client)])
    nodes = client.get_primaries()
    return _judged([_state(client, target_nodes=node) for node in nodes])


def _judged(servers: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    advice = []
    if any(server["maxmemory_policy"] != "noeviction" for server in servers):
        advice.append(
            "maxmemory-policy is not noeviction: a server that is full ends sessions; "
            "use CONFIG SET maxmemory-policy noeviction"
        )
    if any(server["persistence"] == "off" for server in servers):
        advice.append(
            "persistence is off: a restart ends all sessions; use appendonly yes, "
            "or save, if they are to survive it"
        )
    return servers, advice


def _state(client: Any, **where: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for section in ("server", "memory", "persistence"):
        told |= client.info(section, **where)
    kind = "valkey" if "valkey_version" in told else "redis"
    return {
        "version": f"{kind} {told[f'{kind}_version']}",
        "maxmemory": told.get("maxmemory"),
        "maxmemory_policy": told.get("maxmemory_policy"),
        "persistence": _persistence(client, told, where),
    }


def _persistence(client: Any, told: Mapping[str, Any], where: dict[str, Any]) -> str:
    if told.get("aof_enabled"):
        return "appendonly"
    try:
        saves = client.config_get("save", **where).get("save")
    except RedisError:  # as where others run the server for us
        return "unknown"
    return "snapshots" if saves else "off"


def _silent_nodes(config: Config) -> list[str]:
    """Redlock's masters that do not answer, one line each."""
    problems = []
    for node in config.lock_nodes:
        try:
            client_for(node, _SECONDS).ping()
        except (SmartRedisError, RedisError) as failure:
            told = f"{_without_password(node)}: {_in_a_line(failure)}"
            problems.append(f"lock_nodes: {told}")
    return problems


# -- demo ----------------------------------------------------------------------------


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Serve a small page with a server of its own; --once compares four stores."""
    sys.argv = ["smartredis-wsgi demo", *arguments]
    try:
        runpy.run_module(f"{__package__}.demo", run_name="__main__")
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"{missing.name} is not installed; pip install 'smartredis_wsgi[demo]'"
        ) from None
