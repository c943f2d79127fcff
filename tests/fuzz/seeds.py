"""What each property is tried with first: what is odd, and what was found."""

from __future__ import annotations

from typing import Any

from .targets import ID

_OURS = b"__Host-sid=" + ID.encode()
_DEEP = b"[" * 65 + b"1" + b"]" * 65
_KNOWN = {"n": b"[1]", "list": b"[]"}


def _record(plant: Any, *acts: str, codec: str = "json", lock: str = "none") -> Any:
    return plant, list(acts), codec, lock


SEEDS: dict[str, list[Any]] = {
    "cookie": [
        _OURS,
        b"a=b; " + _OURS + b", c=d",
        b'a="b;' + _OURS + b'"',
        b"=" + _OURS + b";" + _OURS[:-1],
        _OURS + b"." + b"m" * 43,
        b"\xff\x00;\t" + _OURS + b" \t;" + _OURS[:-1] + b"x",
        b'a="' + b"\\" * 300,
    ],
    "json": [
        b'{"a":[1,2.5,null,true,"x"]}',
        b'{"$datetime":"2024-01-01T00:00:00+01:00[Europe/Berlin][_fold=1]"}',
        b'{"$dict":[[1,{"$set":[1]}],[{"$tuple":[]},{"$bytes":"YQ=="}]]}',
        b'{"$decimal":"sNaN"}',
        b'{"$timedelta":[1,2,3]}',
        b'{"$float":"nan"}',
        b'{"$time":"12:00:00+00:00:00.5"}',
        b'{"$uuid":"12345678123456781234567812345678"}',
        b'{"$int":"99999999999999999999999"}',
        b'"\\ud800"',
        _DEEP,
    ],
    "msgpack": [
        b"1.5e+30",
        b"\xc1\x93\x01\xcb\x7f\xf8\0\0\0\0\0\0\xc4\x01a",
        b"\xc1\x81\xa5$dict\x91\x92\x01\x02",
        b"\xc1\x81\x01\x02",
        b"\xc1\xd6\xff\0\0\0\0",
        b"\xc1" + b"\x91" * 65 + b"\x01",
    ],
    "config": [
        {"ttl": 10**5000},
        {"prefix": "\ud800"},
        {"on_event": ".x:y"},
        {"secret": "hunter\ud800"},
        {"max_size": "9" * 5000},
        {"cookie_name": "a", "cookie_domain": "a\r\nSet-Cookie: b=c"},
        {"cookie_name": "a\r\nSet-Cookie: b", "cookie_path": "/\n"},
        {"cookie_name": "sid", "cookie_path": "/;a=b", "cookie_samesite": "Lax; a"},
        {"cookie_name": "sid", "cookie_domain": ".example.com", "cookie_max_age": 1e9},
    ],
    "url": [
        "redis://h/0?cache_config=1",
        "redis://u:hunter2@h:x/",
        "redis+cluster://:hunter2@[h/",
    ],
    "record": [
        _record(("ours", (b"i 1 1 - 1 0 1 1 ABCDEFGH", {b"a": b"1"})), "clear"),
        _record(("sound", {b"n": _DEEP}), "dict"),
        _record(
            ("sound", {b"n": b"\xc1" + b"\x91" * 65 + b"\1"}), "dict", codec="msgpack"
        ),
        _record(("sound", {b"bad": b"cos\nsystem\n(S'true'\ntR."}), "dict", "set"),
        _record(("string", b"moved 9999999999999 KEY"), "incr"),
        _record(("string", b"moved 0 \xff"), "login", "set", lock="single"),
        _record(("list", b"x"), "set", "destroy", lock="single"),
    ],
    "http": [],
}
