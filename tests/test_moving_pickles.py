"""The reader of pickles: plain data comes out, and nothing else happens."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import pickletools
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from old_apps import RICH

from smartredis_wsgi.moving.pickles import Unreadable, read, text_within

LIMIT = 1 << 20
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
hashables = atoms | st.tuples(atoms) | st.frozensets(atoms)
values = st.recursive(
    atoms | st.sets(hashables) | st.frozensets(hashables),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    ),
)


@given(values, st.sampled_from([2, 3, 4, 5]))
def test_plain_data_comes_back_as_it_was(value: Any, protocol: int) -> None:
    back = read(pickle.dumps(value, protocol), LIMIT)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_is_read(protocol: int) -> None:
    rich = {name: x for name, x in RICH.items() if protocol > 1 or name != "key"}
    assert read(pickle.dumps(rich, protocol), LIMIT) == rich


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        time(1, 2, fold=1),
        date.max,
        timedelta.min,
        Decimal("1E+9"),
        UUID(int=2**128 - 1),
    ],
    ids=repr,
)
def test_times_and_numbers_keep_what_they_have(value: Any) -> None:
    back = read(pickle.dumps(value), LIMIT)
    assert (back, type(back), repr(back)) == (value, type(value), repr(value))


def test_what_stands_twice_in_it_comes_back_twice() -> None:
    shared = [1]
    one, other = read(pickle.dumps([shared, shared]), LIMIT)
    assert one == other == [1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_much_of_what_sessions_hold_is_read(protocol: int) -> None:
    much = {
        "numbers": list(range(-20_000, 20_000)),
        "pairs": [(n, str(n)) for n in range(1000)],
        "times": [datetime(2026, 1, 1) + timedelta(n) for n in range(500)],
        "prices": [Decimal(n) / 100 for n in range(500)],
        "names": {str(n): n for n in range(5000)},
        "empty": [b"", set(), frozenset(), ()],
    }
    assert read(pickle.dumps(much, protocol), LIMIT) == much


# -- what is refused -----------------------------------------------------------------


class Called:
    """A pickle of a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


class Thing:
    """A class of an application."""


CLASSES = [Thing(), collections.OrderedDict(a=1), collections.Counter("a"), range(3)]
CLASSES += [Exception("x"), 1j, bytearray(b"x"), os.stat_result(range(10)), slice(1)]
CALLS = [
    Called(os.system, "exit 1"),
    Called(eval, "1/0"),
    Called(getattr, "", "upper"),
    Called(getattr, "ZoneInfo", "format"),
    Called(getattr, ZoneInfo, "from_file"),
    Called(__import__, "os"),
    Called(print, "executed"),
    Called(type, "X", (), {}),
    Called(bytes, 1 << 40),
    Called(open, "/nonexistent"),
]


@pytest.mark.parametrize("value", [*CLASSES, *CALLS, len, Thing])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_and_calls_are_refused(value: Any, protocol: int, capfd: Any) -> None:
    with pytest.raises(Unreadable):
        read(pickle.dumps({"a": value}, protocol), LIMIT)
    assert capfd.readouterr() == ("", "")


HOSTILE = {
    "changes a class": b"\x80\x02cuuid\nUUID\nN}X\x03\x00\x00\x00hexK\x01s\x86b.",
    "changes datetime": b"\x80\x02cdatetime\ndatetime\nN}X\x03\x00\x00\x00maxK\x01s"
    b"\x86b.",
    "changes a maker": b"\x80\x02c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__N"
    b"s\x86b.",
    "a huge memo": b"\x80\x02Kr\xff\xff\xff\x7f.",
    "a huge memo, in text": b"Np2147483647\n.",
    "a length that is not there": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "a frame that is not there": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.",
    "a persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "an instance": b"(ios\nsystem\n.",
    "a dotted name": b"\x80\x04\x8c\x08datetime\x8c\x12datetime.__class__\x93.",
    "another module of that name": b"cos\ndatetime\n.",
    "itself within": b"\x80\x02]q\x00h\x00a.",
    "nothing": b"",
    "no end": b"\x80\x02N",
    "an empty stack": b"\x80\x02.",
    "an old text": b"S'\\xff'\n.",
    "a wrong date": b"\x80\x02cdatetime\ndate\n(K\x01K\x01K\x01K\x01tR.",
    "a set of many bytes": b"\x80\x02cbuiltins\nset\ncbuiltins\nbytes\n"
    b"J\x00\xe1\xf5\x05\x85R\x85R.",
    "a set of a text": b"\x80\x02cbuiltins\nset\nX\x01\x00\x00\x00a\x85R.",
    "a number that is no text": b"\x80\x02cdecimal\nDecimal\nK\x01\x85R.",
    "a number that is too long": pickle.dumps(Decimal("1" * 1001)),
    "a tower of keys": b"\x80\x04})" + b"\x85" * 200_000 + b"Ns.",
    "keys that collide": pickle.dumps({n * (2**61 - 1) for n in range(6000)}),
    "pairs that collide": pickle.dumps({(n * (2**61 - 1), 0) for n in range(6000)}),
    "many numbers": pickle.dumps({Decimal(n) for n in range(6000)}, 2),
    "bytes made many times": b"\x80\x02c_codecs\nencode\nq\x01X\x00\x00\x08\x00"
    + b"a" * 0x80000
    + b"X\x06\x00\x00\x00latin1\x86q\x02R0"
    + b"h\x01h\x02R0" * 900
    + b"N.",
    "sets made many times": b"\x80\x02cbuiltins\nset\nq\x01]("
    + b"K\x01" * 2000
    + b"e\x85q\x02R0"
    + b"h\x01h\x02R0" * 900
    + b"N.",
    "classes named many times": b"\x80\x02" + b"cuuid\nUUID\n0" * 6000 + b"N.",
    "a tower": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_ones_are_refused(raw: bytes) -> None:
    before = UUID(int=7).hex, datetime.max, "é".encode("latin-1")
    with pytest.raises(Unreadable):
        read(raw, LIMIT)
    assert before == (UUID(int=7).hex, datetime.max, "é".encode("latin-1"))


def test_what_would_become_large_is_refused_at_once() -> None:
    laughs: Any = "ha"
    for _ in range(50):
        laughs = [laughs, laughs]
    with pytest.raises(Unreadable, match="too large"):
        read(pickle.dumps(laughs), LIMIT)
    line = "x" * 10_000
    with pytest.raises(Unreadable, match="too large"):
        read(pickle.dumps([line] * 200), LIMIT)
    with pytest.raises(Unreadable, match="too large"):
        read(pickle.dumps("x" * 200), 100)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(Unreadable):
        read(raw, LIMIT)


OPCODES = [op.code.encode("latin-1") for op in pickletools.opcodes]


@given(st.lists(st.sampled_from(OPCODES) | st.binary(max_size=4), max_size=60))
def test_any_instructions_are_read_or_refused(parts: list[bytes]) -> None:
    for raw in (b"".join(parts) + b".", b"\x80\x04cuuid\nUUID\n" + b"".join(parts)):
        with contextlib.suppress(Unreadable):
            read(raw, LIMIT)
    assert UUID(int=7).hex == f"{7:032x}"


def test_no_refusal_tells_a_value() -> None:
    with pytest.raises(Unreadable) as caught:
        read(pickle.dumps({"password": "hunter2", "x": Thing()}), LIMIT)
    assert "hunter2" not in repr(caught.value) + repr(caught.value.__context__)


# -- the envelope --------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_one_text_is_found_without_unpickling(protocol: int) -> None:
    assert text_within(pickle.dumps("aGk=", protocol)) == "aGk="


@pytest.mark.parametrize(
    "raw",
    [
        pickle.dumps(b"a"),
        pickle.dumps(["a"]),
        pickle.dumps(("a", "b")),
        pickle.dumps(Called(print, "a")),
        b"no pickle",
        b"",
    ],
)
def test_anything_else_is_no_text(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        text_within(raw)
