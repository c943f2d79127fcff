"""The other library's records, and how they become ours.

A session that is taken over gets a record of ours under a *stand-in*: a name made of a
digest of its old id. There it is found by whoever has the old cookie, until a request
of its client gives it a fresh id. No cookie can hold a stand-in, see `ids`.

::

    old key --settle--> stand-in --rotation--> fresh id
                           |
                           +-- for a minute, "moved": for requests under way

`settle` makes the record of ours first and ends the old one last, so nothing is lost
wherever it is interrupted. In between it looks once more whether the old one is there,
or was taken over by a faster request, which leaves a mark: a session that was logged
out meanwhile is not brought back. For that, who logs out ends the old record first, and
the mark, and then what lies at the stand-in. And what a rotation leaves there stays for
as long as a mark does.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .. import ids
from ..codec import Codec, codec_for
from ..config import Config
from ..errors import ConfigError, EncodeError
from ..events import Events
from ..ids import Address
from ..store import Committed, Outcome, Records, size_of
from ..wire import Call, Patience, Script, Wire, in_ms
from . import pickles
from .libraries import LIBRARIES, content_of
from .pickles import Unreadable

GRACE = 60.0  # s for which an old cookie still leads to the session, after the first
MARK = "taken:"  # begins the key of what marks an old one as taken over
_MOST_MOVES = 16
_FOR_EVER = 10 * 365 * 86400.0  # s; longer is no time that Redis can add to another
_PEEK = Script.named("peek")
_END = Script.named("end")


class Peek(NamedTuple):
    """What lies at an old key; the last two of what is there."""

    kind: bytes
    left_ms: int = 0
    raw: bytes = b""


class Found(NamedTuple):
    """A session of the other library, as it will be stored here."""

    id: str
    fields: dict[str, bytes]
    incarnation: bytes
    ttl: float | None
    """Its own idle timeout, where it had more time left than `ttl` gives."""

    @property
    def address(self) -> Address:
        return Address.of(ids.stand_in(self.id))


class OldRecords:
    """The records of the library that `import_from` names."""

    def __init__(
        self,
        config: Config,
        wire: Wire,
        records: Records,
        events: Events | None = None,
    ) -> None:
        """No round trip.

        Args:
            wire: To our own records, and to the old ones unless `import_url` is set.

        Raises:
            ConfigError: An address that cannot serve.
        """
        self.library = LIBRARIES[config.import_from or ""]
        given = config.import_prefix
        self.prefix = self.library.prefix if given is None else given
        self._ours, self._records, self._config = wire, records, config
        self._wire = wire
        if config.import_url:
            try:
                self._wire = Wire(config.import_url, config.timeout, events)
            except ConfigError as wrong:
                raise ConfigError(f"option import_{wrong}") from None
        self._codec: Codec = codec_for(config.codec)
        self._limit = 2 * config.max_size  # base 64, and names within a pickle

    def look(
        self, its_ids: Sequence[str], patience: Patience | None = None
    ) -> list[Found | Unreadable | None]:
        """What was stored under these ids; None where nothing is. One round trip."""
        calls = [self._peek(its_id) for its_id in its_ids]
        self._wire.run(*calls, patience=patience)
        pairs = zip(its_ids, calls, strict=True)
        return [self._read(its_id, call.result) for its_id, call in pairs]

    def settle(
        self,
        found: Sequence[Found],
        patience: Patience | None = None,
        keep: bool = False,
    ) -> list[Committed | None]:
        """Store sessions under their stand-ins; end them where they were.

        Four round trips, however many there are. A second time: nothing.

        Args:
            keep: Let the old records be.

        Returns:
            Of each what its creation came to: not STORED, if it was done before. None
            for one that was ended meanwhile, which is not stored.
        """
        creations = [self._create(one) for one in found]
        self._ours.run(*creations, patience=patience)
        calls = [self._peek(one.id) for one in found]
        self._wire.run(*calls, patience=patience)
        results: list[Committed | None] = []
        for one, creation, call in zip(found, creations, calls, strict=True):
            is_ours = creation.result.outcome is Outcome.STORED
            if is_ours and call.result.kind == b"absent":
                self._undo(one.address.record, patience)
                results.append(None)
            else:
                results.append(creation.result)
        if not keep:
            self.end([one.id for one in found], patience)
        return results

    def _undo(self, name: str, patience: Patience | None) -> None:
        """Destroy what is stored here, also where its client has it moved already."""
        for _ in range(_MOST_MOVES):
            call = self._records.destroy(name)
            self._ours.run(call, patience=patience)
            name = call.result.moved_to
            if not name:
                break

    def end(
        self,
        its_ids: Iterable[str],
        patience: Patience | None = None,
        is_logout: bool = False,
    ) -> None:
        """End old records; where there are none, do nothing. One round trip."""
        mark_ms = "0" if is_logout else in_ms(GRACE)
        calls = [
            Call(_END, self._keys(its_id), (mark_ms,), lambda _: None)
            for its_id in its_ids
        ]
        self._wire.run(*calls, patience=patience)

    def log_out(self, its_id: str, patience: Patience | None = None) -> None:
        """End a session wherever it lies by now.

        Two round trips, and one for each time that it has moved.
        """
        self.end([its_id], patience, is_logout=True)
        self._undo(Address.of(ids.stand_in(its_id)).record, patience)

    def _keys(self, its_id: str) -> tuple[str, str]:
        """Of the record and its mark, which a Cluster keeps in one slot."""
        key = self.library.key(self.prefix, its_id)
        return key, f"{MARK}{{{key}}}"

    def _peek(self, its_id: str) -> Call[Peek]:
        keys = self._keys(its_id)
        return Call(_PEEK, keys, (f"{self._limit}",), lambda answer: Peek(*answer))

    def _create(self, found: Found) -> Call[Committed]:
        return self._records.create(
            found.address.record, found.incarnation, found.fields, found.ttl
        )

    def _read(self, its_id: str, peek: Peek) -> Found | Unreadable | None:
        if peek.kind in (b"absent", b"taken"):
            return None
        try:
            if peek.kind != b"there":
                raise Unreadable("too large" if peek.kind == b"large" else "no string")
            return self._translated(its_id, peek)
        except Unreadable as reason:
            return reason

    def _translated(self, its_id: str, peek: Peek) -> Found | None:
        content = content_of(self.library, peek.raw, self._unpickled, self._limit)
        if content.ends is not None and not math.isfinite(content.ends):
            raise Unreadable("an end that is no time")
        left = content.ends - time.time() if content.ends else None
        if peek.left_ms >= 0:
            by_redis = peek.left_ms / 1000 - self.library.spare
            left = by_redis if left is None else min(left, by_redis)
        if left is not None and left <= 0:
            return None
        try:
            values = content.values.items()
            fields = {name: self._codec.encode(value) for name, value in values}
            size = size_of(fields)
        except EncodeError as refused:
            raise Unreadable(str(refused)) from None
        except UnicodeEncodeError:  # JSON may name half a character; it holds the value
            raise Unreadable("no text") from None
        if size > self._config.max_size:
            raise Unreadable("too large")
        own = left if left is not None and left > self._config.ttl else None
        own = own and min(own, max(_FOR_EVER, self._config.ttl))
        return Found(its_id, fields, ids.new_incarnation(), own)

    def _unpickled(self, raw: bytes) -> Any:
        if not self._config.import_pickle:
            raise Unreadable("a pickle; import_pickle is off")
        return pickles.read(raw, self._limit)
