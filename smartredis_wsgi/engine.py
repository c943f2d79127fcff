"""What all sessions of one configuration share: options, Redis, codec and lock."""

from dataclasses import dataclass

from .codec import Codec, codec_for
from .config import Config
from .events import Events
from .ids import Address
from .locks import LockStrategy, NoLock, Redlock, SingleNodeLock
from .moving.cookies import OldCookie
from .moving.records import OldRecords
from .owners import Owners
from .store import Records
from .wire import Wire


@dataclass(frozen=True)
class Old:
    """Sessions of another library: how a client's are known, and where they lie."""

    cookie: OldCookie
    records: OldRecords


@dataclass(frozen=True)
class Engine:
    """Threads and forks may share it."""

    config: Config
    wire: Wire
    records: Records
    owners: Owners
    codec: Codec
    lock: LockStrategy
    lock_scope: str
    """When the lock is taken; empty where there is none."""
    near_lock: SingleNodeLock | None
    """The lock, if it is on the records' own Redis: then they share round trips."""
    events: Events | None
    old: Old | None = None

    @classmethod
    def of(cls, config: Config) -> "Engine":
        """Build the parts; no round trip, but that a Redlock asks its masters' names.

        Raises:
            ConfigError: An address or a codec that cannot serve.
        """
        address = config.client if config.url is None else config.url
        events = Events(config.on_event) if config.on_event else None
        wire = Wire(address, config.timeout, events)
        lock = _lock_for(config, wire)
        near = None
        if isinstance(lock, SingleNodeLock) and lock.wire.address == wire.address:
            near = lock
        records, codec = (
            Records(config, wire.digests, wire.is_plain),
            codec_for(config.codec),
        )
        scope = "" if isinstance(lock, NoLock) else config.lock_scope
        old = None
        if config.import_from:
            old = Old(OldCookie(config), OldRecords(config, wire, records, events))
        owners = Owners(config)
        return cls(config, wire, records, owners, codec, lock, scope, near, events, old)

    def record_key(self, address: Address) -> str:
        return self.records.key(address.record)

    def lock_name(self, address: Address) -> str:
        return self.records.key(address.lock)


def _lock_for(config: Config, wire: Wire) -> LockStrategy:
    """The strategy that the option names, or is."""
    limits = {
        "expiry": config.lock_expiry,
        "wait": config.lock_wait,
        "retry_time": config.retry_time,
    }
    if config.lock == "none":
        return NoLock()
    if config.lock == "single":
        return SingleNodeLock(wire, max_waiters=config.lock_max_waiters, **limits)
    if config.lock == "redlock":
        return Redlock(config.lock_nodes, **limits)
    strategy: LockStrategy = config.lock
    return strategy
