"""What is stored comes back exactly as it was, or is refused before it is stored."""

import collections
import contextlib
import enum
import http
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smartredis_wsgi.codec import codec_for
from smartredis_wsgi.errors import ConfigError, EncodeError

NAMES = ["json", "msgpack", "pickle"]
TAGGING = ["json", "msgpack"]
ZONES = ["UTC", "Europe/Berlin", "Africa/Monrovia", "Asia/Kathmandu", "Etc/GMT+5"]
SECRET = "hunter2"
DEEPEST = 64  # levels, as docs/security.md has it


class Shout:
    """A user's codec that knows only text."""

    def encode(self, value):
        return value.upper().encode()

    def decode(self, raw):
        return raw.decode()


def codecs():
    return [*(codec_for(name) for name in NAMES), codec_for(Shout())]


def outline(value):
    """A value with its types written out at each depth: 1, 1.0 and True differ."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [outline(member) for member in value]
    if kind in (set, frozenset):
        return kind, sorted((outline(member) for member in value), key=repr)
    if kind is dict:
        return kind, [(outline(key), outline(value[key])) for key in value]
    if kind in (datetime, time):
        zone = value.tzinfo
        return kind, repr(value.replace(tzinfo=None)), type(zone), repr(zone)
    return kind, repr(value)


def nested(depth, wrap):
    value = wrap("x")
    for _ in range(depth - 1):
        value = wrap(value)
    return value


offsets = st.integers(-86399, 86399).map(lambda seconds: timedelta(seconds=seconds))
fixed = st.one_of(st.none(), st.just(UTC), offsets.map(timezone))
zones = st.one_of(fixed, st.sampled_from(ZONES).map(ZoneInfo))
texts = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.just("$uuid"))
folds = st.sampled_from([0, 1])
hashables = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**65), 2**65),
        st.floats(),
        texts,
        st.binary(),
        st.dates(),
        st.builds(lambda at, fold: at.replace(fold=fold), st.times(), folds),
        st.builds(lambda at, tz: at.replace(tzinfo=tz), st.times(), fixed),
        st.builds(
            lambda at, tz, fold: at.replace(tzinfo=tz, fold=fold),
            st.datetimes(),
            zones,
            folds,
        ),
        st.timedeltas(),
        st.uuids(),
        st.decimals().filter(lambda number: not number.is_snan()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple), st.frozensets(inner, max_size=4)
    ),
    max_leaves=5,
)
values = st.recursive(
    st.one_of(hashables, st.sampled_from([Decimal("sNaN"), Decimal("-sNaN7")])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashables, max_size=4),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", TAGGING)
@settings(deadline=None)
@given(value=values)
@example(value=datetime.max.replace(tzinfo=ZoneInfo("Europe/Berlin")))
@example(value=datetime.min.replace(tzinfo=ZoneInfo("Europe/Berlin")))
@example(value={1: "a", "1": "b", (1, 2.0): {"$x": {"$tuple": [1]}}})
@example(value=[1, 1.0, True, "1", 0.0, -0.0, 1e22, 1e16, 5e-324, 2**63, -(2**63) - 1])
@example(value=[Decimal("-0"), Decimal("1E+3"), Decimal("1.10"), Decimal("-Infinity")])
def test_every_supported_value_comes_back_with_its_types_at_every_depth(name, value):
    codec = codec_for(name)

    raw = codec.encode(value)
    back = codec.decode(raw)

    assert outline(back) == outline(value)
    assert codec.encode(back) == raw


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [b"", "", [], (), {}, set(), None, True, ["$"]])
def test_small_and_empty_values_come_back(name, value):
    codec = codec_for(name)

    assert outline(codec.decode(codec.encode(value))) == outline(value)


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (1, b"1"),
        (1.0, b"1.0"),
        (True, b"true"),
        (None, b"null"),
        ("é", '"é"'.encode()),
        ([1, "a"], b'[1,"a"]'),
        ({"b": 1, "a": 2}, b'{"b":1,"a":2}'),
        ((1, 2), b'{"$tuple":[1,2]}'),
        ({3, 1, 2}, b'{"$set":[1,2,3]}'),
        (frozenset("ba"), b'{"$frozenset":["a","b"]}'),
        (b"hello", b'{"$bytes":"aGVsbG8="}'),
        (date(2024, 2, 29), b'{"$date":"2024-02-29"}'),
        (time(12, 30, tzinfo=UTC), b'{"$time":"12:30:00+00:00"}'),
        (datetime(2024, 2, 29, 1, 2), b'{"$datetime":"2024-02-29T01:02:00"}'),
        (
            datetime(2024, 10, 27, 2, 30, 0, 5, ZoneInfo("Europe/Berlin"), fold=1),
            b'{"$datetime":"2024-10-27T02:30:00.000005+01:00[Europe/Berlin][_fold=1]"}',
        ),
        (timedelta(1, 2, 3), b'{"$timedelta":[1,2,3]}'),
        (UUID(int=1), b'{"$uuid":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.10"), b'{"$decimal":"1.10"}'),
        (Decimal("sNaN"), b'{"$decimal":"sNaN"}'),
        (math.nan, b'{"$float":"nan"}'),
        (-math.inf, b'{"$float":"-inf"}'),
        (2**63 - 1, b"9223372036854775807"),
        (2**63, b'{"$int":"9223372036854775808"}'),
        (-(2**63), b"-9223372036854775808"),
        (-(2**63) - 1, b'{"$int":"-9223372036854775809"}'),
        ({1: "a"}, b'{"$dict":[[1,"a"]]}'),
        ({"$a": 1}, b'{"$dict":[["$a",1]]}'),
        ({"": 1, "#a": 2}, b'{"":1,"#a":2}'),
    ],
)
def test_json_is_stored_as_one_would_read_it_in_redis_cli(value, raw):
    codec = codec_for("json")

    assert codec.encode(value) == raw
    assert outline(codec.decode(raw)) == outline(value)


def test_msgpack_stores_bytes_as_they_are():
    assert codec_for("msgpack").encode(b"ab") == b"\xc1\xc4\x02ab"


@pytest.mark.parametrize("fold", [0, 1])
def test_both_hours_of_an_autumn_night_stay_two_instants(fold):
    at = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
    codec = codec_for("json")

    back = codec.decode(codec.encode(at))

    assert back.timestamp() == at.timestamp()
    assert back.tzinfo is at.tzinfo


def test_a_wall_time_is_kept_if_the_zone_has_new_rules_since():
    raw = b'{"$datetime":"2024-07-01T12:00:00+05:00[Europe/Berlin]"}'

    back = codec_for("json").decode(raw)

    assert back == datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))


@given(offset=st.timedeltas(timedelta(seconds=-86399), timedelta(seconds=86399)))
@example(offset=timedelta(microseconds=1))  # which Python 3.11 reads as UTC
@example(offset=timedelta(microseconds=-1))
def test_an_odd_offset_is_refused_or_comes_back(offset):
    at = time(12, tzinfo=timezone(offset))
    codec = codec_for("json")

    with contextlib.suppress(EncodeError):
        assert outline(codec.decode(codec.encode(at))) == outline(at)


@pytest.mark.parametrize("name", TAGGING)
def test_utc_and_the_zone_named_utc_are_told_apart(name):
    codec = codec_for(name)
    zones = [UTC, ZoneInfo("UTC")]

    back = codec.decode(codec.encode([datetime(2024, 1, 1, tzinfo=z) for z in zones]))

    assert [at.tzinfo for at in back] == zones
    assert back[0].tzinfo is UTC


@pytest.mark.parametrize("name", TAGGING)
def test_the_order_of_a_dict_is_kept(name):
    codec = codec_for(name)

    for value in [{"b": 1, "a": 2}, {2: 1, 1: 2}]:
        assert list(codec.decode(codec.encode(value))) == list(value)


@pytest.mark.parametrize("name", TAGGING)
@given(members=st.lists(hashables, max_size=6))
@example(members=[0, 8, 16, 24, 32])
@settings(deadline=None)
def test_equal_sets_are_equal_bytes_in_whatever_order_they_were_filled(name, members):
    forwards = list(dict.fromkeys(members))
    backwards = forwards[::-1]
    codec = codec_for(name)

    assert codec.encode(set(forwards)) == codec.encode(set(backwards))


@pytest.mark.parametrize("name", TAGGING)
def test_equal_sets_are_equal_bytes_in_every_process(name):
    program = (
        "from smartredis_wsgi.codec import codec_for\n"
        f"print(codec_for({name!r}).encode({{*'abcdefgh', 1, None, (1, b'x')}}))"
    )

    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(printed) == 1


# What is refused


class Color(enum.IntEnum):
    RED = 1


class Word(str):
    __slots__ = ()


class Nowhere(tzinfo):
    def utcoffset(self, at):
        return timedelta(hours=at.month)  # as most do, it needs a date

    def __repr__(self):
        return "Nowhere()"


Point = collections.namedtuple("Point", "x y")
LIKE_BUILT_INS = [
    Color.RED,
    http.HTTPMethod.GET,
    Word(SECRET),
    Point(SECRET, 1),
    collections.OrderedDict(a=SECRET),
    collections.defaultdict(list, a=SECRET),
    collections.Counter(SECRET),
    bytearray(SECRET.encode()),
    memoryview(SECRET.encode()),
    range(3),
    1j,
    object(),
]


@pytest.mark.parametrize("name", TAGGING)
@pytest.mark.parametrize(
    "value", LIKE_BUILT_INS, ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("place", [lambda v: v, lambda v: [{"a": (v,)}]])
def test_a_value_that_would_come_back_as_another_type_is_refused(name, value, place):
    with pytest.raises(EncodeError, match=type(value).__qualname__) as refused:
        codec_for(name).encode(place(value))

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", TAGGING)
def test_a_key_that_would_come_back_as_another_type_is_refused(name):
    with pytest.raises(EncodeError, match="Word"):
        codec_for(name).encode({Word("a"): 1})


@pytest.mark.parametrize("name", TAGGING)
@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"\ud800": 1}, {"\ud800"}])
def test_text_that_is_not_valid_unicode_is_refused(name, value):
    with pytest.raises(EncodeError, match="str with a lone surrogate"):
        codec_for(name).encode(value)


def tzif():
    """The smallest time zone file: UTC, in the first version of the format."""
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return b"TZif" + bytes(16) + counts + bytes(6) + b"UTC\0"


LOST_ZONES = [
    timezone(timedelta(hours=1), "CET"),
    timezone(timedelta(0), "UTC"),
    Nowhere(),
    ZoneInfo.from_file(io.BytesIO(tzif())),
    ZoneInfo.from_file(io.BytesIO(tzif()), key="Made/Up"),
]


@pytest.mark.parametrize("name", TAGGING)
@pytest.mark.parametrize("zone", LOST_ZONES, ids=range(len(LOST_ZONES)))
def test_a_zone_that_could_not_be_found_again_is_refused(name, zone):
    with pytest.raises(
        EncodeError, match=f"datetime with such a {type(zone).__name__}"
    ):
        codec_for(name).encode(datetime(2024, 1, 1, tzinfo=zone))


@pytest.mark.parametrize("name", TAGGING)
@pytest.mark.parametrize("key", ["UTC", "Europe/Berlin"])
def test_a_time_of_day_in_a_zone_with_rules_is_refused(name, key):
    with pytest.raises(EncodeError, match="time with such a ZoneInfo"):
        codec_for(name).encode(time(12, tzinfo=ZoneInfo(key)))


@pytest.mark.parametrize("name", TAGGING)
def test_an_int_of_more_digits_than_python_reads_is_refused(name):
    codec = codec_for(name)
    longest = 10 ** (sys.get_int_max_str_digits() - 1)

    assert codec.decode(codec.encode(-longest)) == -longest
    with pytest.raises(EncodeError, match="int with more digits"):
        codec.encode([longest * 10])


@pytest.mark.parametrize("name", NAMES)
def test_what_contains_itself_or_is_too_deep_is_refused_by_name(name):
    loop = []
    loop.append(loop)
    value = loop if name != "pickle" else nested(100_000, lambda inner: [inner])

    with pytest.raises(EncodeError, match="list"):
        codec_for(name).encode(value)


def under(frames, action):
    return under(frames - 1, action) if frames else action()


WRAPS = [
    lambda inner: [inner],
    lambda inner: (inner,),
    lambda inner: {"a": inner},
    lambda inner: {1: inner},
    lambda inner: {"$a": inner},
    lambda inner: frozenset([inner]),
]


@pytest.mark.parametrize("name", TAGGING)
@pytest.mark.parametrize("wrap", WRAPS)
def test_the_deepest_value_is_read_even_far_down_the_stack(name, wrap):
    codec = codec_for(name)
    deepest = nested(DEEPEST, wrap)

    raw = under(400, lambda: codec.encode(deepest))

    assert under(400, lambda: codec.decode(raw)) == deepest
    with pytest.raises(EncodeError, match=f"deeper than {DEEPEST} levels"):
        codec.encode(wrap(deepest))


@pytest.mark.parametrize("name", TAGGING)
def test_no_stack_left_is_a_refusal_too(name):
    codec = codec_for(name)
    deepest = nested(DEEPEST, lambda inner: [inner])
    raw = codec.encode(deepest)
    room = sys.getrecursionlimit() - frames_above() - 40

    with pytest.raises(EncodeError, match="deeply nested"):
        under(room, lambda: codec.encode(["$", deepest[0]]))
    with pytest.raises(ValueError, match="not written by this codec"):
        under(room, lambda: codec.decode(raw.replace(b"x", b"$")))


def frames_above():
    frame, count = sys._getframe(), 0
    while frame := frame.f_back:
        count += 1
    return count


# What is not ours


MALFORMED = [
    {"$foo": 1},
    {"$": 1},
    {"$uuid": 3},
    {"$uuid": "x"},
    {"$tuple": [1], "a": 2},
    {"$tuple": [1], "$set": [2]},
    {"$tuple": 3},
    {"$tuple": "ab"},
    {"$tuple": {"a": 1}},
    {"$set": [[1]]},
    {"$set": "ab"},
    {"$dict": ["ab"]},
    {"$dict": [[1, 2, 3]]},
    {"$dict": [[[1], 2]]},
    {"$dict": {"a": 1}},
    {"$bytes": "%%%"},
    {"$bytes": "YQ"},
    {"$bytes": 1},
    {"$date": "2024-13-01"},
    {"$date": 1},
    {"$datetime": "2024-01-01T00:00:00[No/Where]"},
    {"$datetime": "2024-01-01T00:00:00[Europe]"},
    {"$datetime": "2024-01-01T00:00:00[../../etc/passwd]"},
    {"$datetime": "2024-01-01T00:00:00[_fold=2]"},
    {"$datetime": ""},
    {"$time": "12:00:00[Europe/Berlin]"},
    {"$time": "25:00"},
    {"$timedelta": [1]},
    {"$timedelta": [1, 2, 0.5]},
    {"$timedelta": [10**12, 0, 0]},
    {"$timedelta": "abc"},
    {"$decimal": "x"},
    {"$decimal": 1},
    {"$decimal": [0, [1], 0]},
    {"$float": "1.5"},
    {"$float": 1.5},
    {"$int": "x"},
    {"$int": 1.5},
    {"$int": "9" * 5000},
]


@pytest.mark.parametrize("payload", MALFORMED, ids=str)
@pytest.mark.parametrize("place", [lambda v: v, lambda v: [{"a": v}]])
def test_a_tag_that_encode_would_not_write_is_a_value_error(payload, place):
    with pytest.raises(ValueError, match="not written by this codec"):
        codec_for("json").decode(msgspec.json.encode(place(payload)))
    with pytest.raises(ValueError, match="not written by this codec"):
        codec_for("msgpack").decode(b"\xc1" + msgspec.msgpack.encode(place(payload)))


@pytest.mark.parametrize("name", TAGGING)
@settings(deadline=None)
@given(
    raw=st.one_of(
        st.binary(),
        st.binary().map(lambda raw: b"\xc1" + raw),
        st.text("0123456789.e+-").map(str.encode),
        st.text('[]{}"$tupledictintdate:,0123456789').map(str.encode),
        st.tuples(st.sampled_from(MALFORMED), st.integers(0, 30)).map(
            lambda part: msgspec.json.encode(part[0])[: part[1]]
        ),
    )
)
def test_bytes_of_any_kind_are_a_value_or_a_value_error(name, raw):
    with contextlib.suppress(ValueError):
        codec_for(name).decode(raw)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("json", b""),
        ("json", b"[" * 100_000),
        ("json", b"1" * 5000),
        ("json", b"1e400"),
        ("json", b"[1] x"),
        ("json", b'"\xff"'),
        ("json", b"\xc1\x01"),
        ("msgpack", b""),
        ("msgpack", b"\xc1"),
        ("msgpack", b"\xc1\x01\x01"),
        ("msgpack", b"\xc1" + b"\x91" * 100_000),
        ("msgpack", b"\xc1\xd4\x05a"),
        ("msgpack", b"\xc1\x82\x01\xa1$\x02\x03"),
        ("msgpack", b'"a"'),
        ("pickle", b""),
        ("pickle", b"\xc1"),
        ("pickle", b"\xc1\x80\x05junk"),
        ("pickle", pickle.dumps([1])),
    ],
    ids=lambda part: str(part[:20]),
)
def test_corrupt_bytes_are_a_value_error(name, raw):
    with pytest.raises(ValueError):  # noqa: PT011 -- of several wordings
        codec_for(name).decode(raw)


def test_what_cannot_be_read_is_not_told():
    raw = json.dumps({"$datetime": SECRET}).encode()

    with pytest.raises(ValueError, match="ValueError") as unread:
        codec_for("json").decode(raw)

    assert SECRET not in str(unread.value)
    assert unread.value.__context__ is None


class Trap:
    sprung = 0

    def __reduce__(self):
        return spring, ()


def spring():
    Trap.sprung += 1


@pytest.mark.parametrize("name", TAGGING)
@pytest.mark.parametrize("prefix", [b"", b"\xc1"])
def test_a_planted_pickle_is_run_by_none_but_pickle(name, prefix):
    before = Trap.sprung

    with pytest.raises(ValueError, match="written by this codec"):
        codec_for(name).decode(prefix + pickle.dumps(Trap()))
    assert Trap.sprung == before

    codec_for("pickle").decode(b"\xc1" + pickle.dumps(Trap()))
    assert Trap.sprung == before + 1


# Numbers, to which Redis adds in place


@pytest.mark.parametrize("codec", codecs())
@pytest.mark.parametrize(
    ("value", "raw"), [(5, b"5"), (-7, b"-7"), (0, b"0"), (1.5, b"1.5"), (2.0, b"2.0")]
)
def test_a_number_is_plain_text_in_every_codec(codec, value, raw):
    assert codec.encode(value) == raw
    assert outline(codec.decode(raw)) == outline(value)


@pytest.mark.parametrize("codec", codecs())
@given(
    value=st.one_of(
        st.integers(1 - 10**18, 10**18 - 1),
        st.floats(allow_nan=False).filter(math.isfinite),
    )
)
@example(value=10**18 - 1)
@example(value=1 - 10**18)
@example(value=1e22)
@example(value=-0.0)
def test_a_number_looks_like_one_and_comes_back_as_itself(codec, value):
    raw = codec.encode(value)

    assert outline(codec.decode(raw)) == outline(value)
    assert outline(json.loads(raw)) == outline(value)
    assert (type(value) is float) == any(mark in raw for mark in (b".", b"e"))


@pytest.mark.parametrize("codec", codecs())
def test_a_sum_that_redis_made_is_read(codec):
    assert codec.decode(b"1000000000000000000") == 10**18
    assert codec.decode(b"-9223372036854775808") == -(2**63)
    assert outline(codec.decode(b"1e22")) == outline(1e22)


@pytest.mark.parametrize("name", ["msgpack", "pickle"])
@pytest.mark.parametrize("value", [10**18, -(10**18), 2**64, math.nan, math.inf, True])
def test_a_number_that_redis_cannot_add_to_is_not_shown_as_one(name, value):
    codec = codec_for(name)

    raw = codec.encode(value)

    assert raw.startswith(b"\xc1")
    assert outline(codec.decode(raw)) == outline(value)


@pytest.mark.parametrize("name", ["msgpack", "pickle"])
@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"-", b"1\n", b" 1", b"+1", b"1_0", b"007", b"0x1", b"1.", b".5", b"1e"),
        *(b"nan", b"inf", b"1e999", b"9" * 20, b"9" * 5000, b"\xd9\xa1", b"[1]"),
    ],
)
def test_text_that_is_no_plain_number_is_a_value_error(name, raw):
    with pytest.raises(ValueError, match="written by this codec"):
        codec_for(name).decode(raw)


# Choosing a codec


def test_pickle_brings_back_what_the_others_refuse():
    codec = codec_for("pickle")
    value = [Color.RED, Point(1, 2), collections.OrderedDict(a=1)]

    assert outline(codec.decode(codec.encode(value))) == outline(value)


def test_pickle_names_the_type_that_it_cannot_store():
    with pytest.raises(EncodeError, match="function") as refused:
        codec_for("pickle").encode(lambda: SECRET)

    assert "lambda" not in str(refused.value)


def test_a_codec_of_ones_own_is_asked_for_all_but_numbers():
    codec = codec_for(Shout())

    assert codec.encode("hello") == b"\xc1HELLO"
    assert codec.decode(b"\xc1HELLO") == "HELLO"


def test_whatever_a_codec_of_ones_own_raises_is_an_error_of_ours():
    codec = codec_for(Shout())

    with pytest.raises(EncodeError, match="values of type list"):
        codec.encode([SECRET])
    with pytest.raises(ValueError, match="not written by this codec"):
        codec.decode(b"\xc1\xff")


def test_an_encode_error_of_ones_own_is_left_as_it_is():
    class Picky(Shout):
        def encode(self, _value):
            raise EncodeError("say please")

    with pytest.raises(EncodeError, match=r"^say please$"):
        codec_for(Picky()).encode("x")


@pytest.mark.parametrize("made", ["text", None, bytearray(b"x")])
def test_a_codec_that_does_not_make_bytes_is_an_encode_error(made):
    class Odd(Shout):
        def encode(self, _value):
            return made

    with pytest.raises(EncodeError, match=f"made {type(made).__name__}, not bytes"):
        codec_for(Odd()).encode("x")


class HalfACodec:
    def encode(self, _value):
        return b""


@pytest.mark.parametrize(
    "choice",
    ["yaml", "JSON", "", b"json", None, 3, HalfACodec(), Shout, pickle, ["json"]],
)
def test_a_choice_that_is_no_codec_is_a_config_error(choice):
    with pytest.raises(
        ConfigError, match=r"option codec: .* use json, msgpack, pickle or"
    ):
        codec_for(choice)
