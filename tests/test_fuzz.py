"""A few inputs for each property of fuzz/, the same in each run; and their controls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from http.cookies import CookieError, SimpleCookie
from pickle import PickleError
from typing import Any

import pytest
import redis as redis_py
from fuzz import run, targets
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS, Target
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from smartredis_wsgi import SessionMiddleware, config
from smartredis_wsgi.codec import PickleCodec
from smartredis_wsgi.reading import Reading

EXAMPLES = 150
FEW = settings(
    derandomize=True,
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


def played(name: str, client: redis_py.Redis, few: settings = FEW) -> None:
    """Have a property meet its seeds, then what hypothesis thinks of."""
    target = TARGETS[name]
    rest = [client] if target.needs_server else []
    strategy = st.binary() if target.strategy is None else target.strategy

    def check(value: Any) -> None:
        target.check(value, *rest)

    for seed in SEEDS[name]:
        check(seed)
    few(given(strategy)(check))()


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_sent_the_property_holds(name: str, redis: redis_py.Redis) -> None:
    played(name, redis)


def test_every_property_is_fuzzed_and_has_seeds() -> None:
    assert set(run.TARGETS) == set(TARGETS) == set(SEEDS)


# -- each property can fail ----------------------------------------------------------


class FindsByParser:
    """The control: the whole header in the hands of `SimpleCookie`."""

    def find(self, header: str) -> str | None:
        morsel = SimpleCookie(header).get("__Host-sid")
        return morsel.value if morsel else None


def _boom(*_: Any) -> Any:
    raise LookupError("not what is documented")


def _from_url(address: str, _: float) -> redis_py.Redis:
    return redis_py.Redis.from_url(address)


def _two_cookies(*_: Any) -> list[tuple[str, str]]:
    return [("Vary", "Cookie"), ("Set-Cookie", "a=b\r\nSet-Cookie: c=d")]


Break = Callable[[pytest.MonkeyPatch], None]
BROKEN: dict[str, Break] = {
    "cookie": lambda m: m.setattr(targets, "_PLAIN", FindsByParser()),
    "json": lambda m: m.setitem(
        TARGETS, "json", Target(_of(m, PickleCodec()), TARGETS["json"].strategy)
    ),
    "msgpack": lambda m: m.setitem(
        TARGETS, "msgpack", Target(_of(m, PickleCodec()), TARGETS["msgpack"].strategy)
    ),
    "config": lambda m: m.setattr(config, "_shown", repr),
    "url": lambda m: m.setattr(targets, "client_for", _from_url),
    "record": lambda m: m.setattr(Reading, "_lose", _boom),
    "http": lambda m: m.setattr(SessionMiddleware, "session_headers", _two_cookies),
}


def _of(patch: pytest.MonkeyPatch, codec: Any) -> Callable[..., None]:
    patch.setattr(targets, "codec_for", lambda _: codec)
    return targets.decodes("json")


@pytest.mark.parametrize("name", BROKEN)
def test_the_property_fails_where_something_is_broken(
    name: str, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    BROKEN[name](monkeypatch)
    found = (
        ExceptionGroup,
        AttributeError,
        CookieError,
        AssertionError,
        ValueError,
        LookupError,
        PickleError,
    )
    with pytest.raises(found):
        played(name, redis, settings(FEW, phases=[Phase.generate]))


def test_every_property_has_a_control() -> None:
    assert set(BROKEN) == set(TARGETS)
