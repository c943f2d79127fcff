"""What lies in Redis, page by page: SCAN, then many keys in one round trip."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from ..config import Config
from ..connect import client_for
from ..errors import ConfigError
from ..everywhere import HANDLE_SIZE
from ..owners import Owners
from ..store import META, Kind, Records
from ..wire import Call, Script, Wire
from .settings import Settings

T = TypeVar("T")

PAGE = 500  # keys that are looked at in one round trip
PRIVATE = {"embedded", "memory"}  # servers within another program
SECONDS = 5.0  # for an answer, at least: nobody waits for a page of ours
_GLANCE = Script.named("record", "glance")
_KEY = re.compile(r"\{([0-9a-f]{16})\}([0-9a-f]{64})")


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
        if scheme in PRIVATE:
            raise ConfigError(f"url: a server of {scheme}:// is its own program's only")
        self.config = config
        self.timeout = max(config.timeout, SECONDS)
        self.client = client_for(config.url, self.timeout)
        self.wire = Wire(self.client, self.timeout)
        self.records = Records(config)
        self.owners = Owners(config)
        self.events = None

    @classmethod
    def told_by(cls, given: Mapping[str, Any]) -> "Sight":
        return cls(Settings(given).config())

    def keys(self, pattern: str = "") -> Iterator[str]:
        """The keys of sessions whose digests begin so. SCAN: one may come twice."""
        match = glob(self.config.prefix) + "{" + "?" * 16 + "}" + pattern + "*"
        for key in scan(self.client, match):
            if _KEY.fullmatch(key.removeprefix(self.config.prefix)):
                yield key

    def all_owners(self) -> Iterator[str]:
        """Those that have an index, as digests. SCAN: one may come twice."""
        start = self.owners.key("")
        for key in scan(self.client, glob(start) + "?" * 64):
            yield key.removeprefix(start)

    def glances(self, keys: Iterable[str], of_fields: str = "") -> Iterator[Glance]:
        """What lies at the keys; one round trip a page. What is gone is left out.

        Args:
            of_fields: Their "sizes" or "values", or nothing.
        """
        for page in pages(keys):
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
                self.digest(key)[:HANDLE_SIZE],
                Kind(kind.decode()),
                None if left < 0 else left / 1000,
            )
            if seen.kind is Kind.MOVED:
                return seen._replace(moved_to=rest[0].decode()[-64:][:HANDLE_SIZE])
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
    _: bytes,  # the owner, of which only a digest is known
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


def scan(client: Any, match: str) -> Iterator[str]:
    for key in client.scan_iter(match=match, count=PAGE):
        yield as_text(key)


def as_text(raw: bytes | str) -> str:
    """Also of a client whose URL says decode_responses."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "replace")


def glob(text: str) -> str:
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)


def pages(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, PAGE)):
        yield page
