"""The id in HTTP headers."""

import ast
import base64
import hashlib
import hmac
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import smartredis_wsgi
from smartredis_wsgi.config import Config
from smartredis_wsgi.cookie import Cookie
from smartredis_wsgi.errors import ConfigError
from smartredis_wsgi.ids import new_id

# Fixed, as they are in the tests' names, which must be the same in all workers.
ID = "ours" + "0123456789_-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
OTHER = "other" + "x" * 54


def cookie(**options):
    return Cookie(Config.build(url="redis://nowhere", **options))


def value_of(session_id=ID, **options):
    """What the client is sent as the cookie's value."""
    _, header = cookie(**options).header(session_id)
    return header.partition(";")[0].partition("=")[2]


def attributes_of(header):
    """The attributes of a Set-Cookie header, in small letters; True where no value."""
    parts = [part.partition("=") for part in header[1].split("; ")[1:]]
    return {name.lower(): value if equals else True for name, equals, value in parts}


# -- find ----------------------------------------------------------------------------


def test_the_id_is_found():
    assert cookie().find(f"__Host-sid={ID}") == ID
    assert cookie(cookie_name="sid").find(f"sid={ID}") == ID


@pytest.mark.parametrize("separator", ["; ", ";", ", ", ",", " ; ", ";\t", ";;", ",;"])
@pytest.mark.parametrize(
    "neighbour",
    [
        '{"json":1}',
        "bad[name]=1",
        "foo",
        "b@d=1",
        "=__Host-sid=bad",
        f"=__Host-sid={OTHER}",
        'a="',
        'a="b',
        'a="b;c"',
        "a=\\",
        "é=ü",
        "\x00\x01",
        "$Version=1",
        f"x__Host-sid={OTHER}",
        f"__Host-sid2={OTHER}",
        f"__host-sid={OTHER}",
        "__Host-sid",
        "__Host-sid=",
        "__Host-sid=short",
        f'__Host-sid="{OTHER}"',
        f"__Host-sid={OTHER}x",
        f"__Host-sid = {OTHER}",
        f"__Host-sid= {OTHER}",
        f"__Host-sid={OTHER}.{'m' * 43}",
    ],
)
def test_odd_neighbours_hide_nothing_and_are_not_taken(neighbour, separator):
    ours = f"__Host-sid={ID}"
    for header in (
        neighbour + separator + ours,
        ours + separator + neighbour,
        separator.join([neighbour, ours, neighbour]),
    ):
        assert cookie().find(header) == ID
    assert cookie().find(neighbour) is None


latin = st.text(st.characters(max_codepoint=255))
separators = st.sampled_from([";", "; ", ",", ", ", ";\t"])


@given(latin, separators, separators, latin)
@example('"', ";", ";", '"')
@example("__Host-sid=", ",", ",", "=")
def test_among_any_junk_the_id_is_found(before, left, right, after):
    header = f"{before}{left}__Host-sid={ID}{right}{after}"
    assert cookie().find(header) == ID
    assert cookie().find(header.replace(ID, "")) is None


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1"))))
@example("")
@example("__Host-sid=\ud800")
def test_no_header_is_an_error(header):
    assert cookie().find(header) is None
    assert cookie(secret="s").find(header) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        ID[:-1],
        ID + "x",
        ID * 1000,
        ID[:-1] + "=",
        ID[:-1] + "\0",
        ID[:-1] + "é",
        ID[:-1] + "٣",
        f'"{ID}"',
        f"{ID} x",
        f"{ID}\n",
        f" {ID}",
        "null",
    ],
)
def test_a_malformed_value_is_as_no_cookie(value):
    assert cookie().find(f"a=b; __Host-sid={value}; c=d") is None
    assert cookie().find(f"__Host-sid={value}") is None


def test_of_two_ids_the_first_is_taken_and_a_line_logged(caplog):
    other = new_id()
    assert cookie().find(f"__Host-sid=bad; __Host-sid={ID}; __Host-sid={other}") == ID
    (record,) = caplog.records
    assert "2 different ids" in record.getMessage()
    assert ID not in caplog.text
    assert other not in caplog.text


def test_of_three_ids_the_first_is_taken_and_a_line_logged(caplog):
    others = f"__Host-sid={new_id()}; __Host-sid={new_id()}"
    assert cookie().find(f"__Host-sid={ID}; {others}") == ID
    (record,) = caplog.records
    assert "3 different ids" in record.getMessage()


def test_forged_ids_are_not_worth_a_line(caplog):
    forged = f"__Host-sid={ID}.{'m' * 43}; __Host-sid={OTHER}.{'m' * 43}"
    assert cookie(secret="s").find(forged) is None
    assert caplog.records == []


def test_the_same_id_twice_is_one(caplog):
    assert cookie().find(f"__Host-sid={ID}, __Host-sid={ID}") == ID
    assert caplog.records == []


HOSTILE = r"""
from smartredis_wsgi.config import Config
from smartredis_wsgi.cookie import Cookie
SIZE = 65536
name = "__Host-sid"
whole = name + "=" + "a" * 59
pieces = [" ", "\t", ";", "; ", ",", ", ", "=", '"', "\\", '\\"', '"\\', 'a="b\\', name,
          name + "=", whole, whole + " ", ";" + name, "; " + whole + ".",
          ";" + whole[:-1] + ";", ";" + whole + "." + "a" * 43 + " x"]
for secret in (None, "s"):
    cookie = Cookie(Config.build(url="redis://nowhere", secret=secret))
    for piece in pieces:
        for start in ("", ";", name + "=" + "a" * 59 if secret else ";" + name + "="):
            header = (start + piece * SIZE)[:SIZE] + '"'
            found = cookie.find(header)
            assert found in (None, "a" * 59) and (not secret or not found), header[:99]
            assert found is None or not piece.endswith("x"), header[:99]
print("done")
"""


def test_64_kb_of_hostile_header_are_searched_in_linear_time():
    # Were it quadratic, one of the 120 would take minutes.
    run = [sys.executable, "-c", HOSTILE]
    done = subprocess.run(run, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "done\n", done.stderr


def test_the_request_header_is_seen_by_no_cookie_parser():
    imported = set()
    for path in Path(smartredis_wsgi.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not [name for name in imported if name.startswith("http.cookies")]
    from_webob = {name for name in imported if name.startswith("webob.cookies")}
    makers = {"webob.cookies.make_cookie", "webob.cookies.SignedSerializer"}
    assert from_webob == makers


# -- signatures ----------------------------------------------------------------------


def test_a_signed_id_is_found_again():
    value = value_of(secret="s")
    assert value.startswith(ID + ".")
    assert cookie(secret="s").find(f"a=b; __Host-sid={value}; c=d") == ID


def test_a_signature_is_the_one_that_was_given_out_by_earlier_versions():
    mac = value_of("a" * 59, secret="s").partition(".")[2]
    message = b"smartredis_wsgi.id\0" + b"a" * 59
    made = hmac.new(b"s", message, hashlib.sha256).digest()
    assert mac == base64.urlsafe_b64encode(made).decode().rstrip("=")


def test_an_id_without_a_signature_is_refused_where_there_is_a_secret():
    assert cookie(secret="s").find(f"__Host-sid={ID}") is None
    assert cookie(secret="s").find(f"__Host-sid={ID}.") is None


def test_a_signed_id_is_malformed_where_there_is_no_secret():
    assert cookie().find(f"__Host-sid={value_of(secret='s')}") is None


def test_every_character_of_a_signed_value_counts():
    value = value_of(secret="s")
    for at, old in enumerate(value[:-1]):
        forged = value[:at] + ("A" if old != "A" else "B") + value[at + 1 :]
        assert cookie(secret="s").find(f"__Host-sid={forged}") is None
    for forged in (value[:-1], value + "A", value.replace(".", "..")):
        assert cookie(secret="s").find(f"__Host-sid={forged}") is None


def test_a_signature_fits_no_other_id():
    signature = value_of(secret="s").partition(".")[2]
    forged = f"__Host-sid={new_id()}.{signature}"
    assert cookie(secret="s").find(forged) is None


def test_a_wrong_signature_hides_no_right_one():
    forged = f"__Host-sid={new_id()}.{'m' * 43}"
    header = f"{forged}; __Host-sid={value_of(secret='s')}"
    assert cookie(secret="s").find(header) == ID


def test_the_first_secret_signs_and_all_verify():
    old, both = value_of(secret="old"), {"secret": ["new", "old"]}
    assert cookie(**both).find(f"__Host-sid={old}") == ID
    assert value_of(**both) == value_of(secret="new") != old
    assert cookie(secret="new").find(f"__Host-sid={old}") is None
    assert cookie(secret="old").find(f"__Host-sid={value_of(**both)}") is None


def test_a_secret_may_be_text_or_bytes():
    assert value_of(secret="ü") == value_of(secret="ü".encode()) != value_of(secret="u")


def test_the_secret_is_in_no_header():
    assert "hunter2" not in str(cookie(secret="hunter2").header(ID))
    assert "hunter2" not in repr(cookie(secret="hunter2"))


# -- Set-Cookie ----------------------------------------------------------------------


def test_the_header_by_default():
    name, text = cookie().header(ID)
    assert name == "Set-Cookie"
    assert text.startswith(f"__Host-sid={ID}; ")
    assert attributes_of((name, text)) == {
        "path": "/",
        "secure": True,
        "httponly": True,
        "samesite": "Lax",
    }


def test_the_cookie_that_is_not_secure_is_called_sid():
    _, text = cookie(cookie_secure=False).header(ID)
    assert text.startswith(f"sid={ID}; ")


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({"cookie_secure": False}, "secure", None),
        ({"cookie_httponly": False}, "httponly", None),
        ({"cookie_samesite": "Strict"}, "samesite", "Strict"),
        ({"cookie_samesite": "lax"}, "samesite", "Lax"),
        ({"cookie_samesite": "None"}, "samesite", "None"),
        ({"cookie_samesite": None}, "samesite", None),
        ({"cookie_path": "/app"}, "path", "/app"),
        ({"cookie_domain": "example.com"}, "domain", "example.com"),
        ({"cookie_max_age": "30d"}, "max-age", "2592000"),
        ({"cookie_max_age": 0.5}, "max-age", "1"),
        ({"cookie_partitioned": True}, "partitioned", True),
        ({}, "partitioned", None),
        ({}, "max-age", None),
        ({}, "expires", None),
        ({}, "domain", None),
    ],
)
def test_every_option_is_an_attribute(options, name, expected):
    made = cookie(cookie_name="sid", **options)
    for header in (made.header(ID), made.expiring_header()):
        is_expiring = header[1].startswith("sid=;")
        if not (is_expiring and name in ("max-age", "expires")):
            assert attributes_of(header).get(name) == expected


def test_the_expiring_header_is_empty_and_has_the_same_place():
    made = cookie(
        cookie_name="sid", cookie_path="/app", cookie_domain="example.com", secret="s"
    )
    name, text = made.expiring_header()
    assert name == "Set-Cookie"
    assert text.startswith("sid=; ")
    assert ID not in text
    attributes = attributes_of((name, text))
    assert attributes["max-age"] == "0"
    assert attributes["path"] == "/app"
    assert attributes["domain"] == "example.com"
    assert attributes["secure"] is True


@pytest.mark.parametrize(
    "name",
    ["sid", "__Host-x", "__Secure-x", "a|b", "!#$", "1", "path", "Domain", "$sid"],
)
def test_a_name_is_refused_at_the_start_or_serves(name):
    try:
        made = cookie(cookie_name=name)
    except ConfigError:
        return
    _, text = made.header(ID)
    assert text.startswith(f"{name}={ID}; ")
    assert made.find(f"a=b; {text.partition(';')[0]}") == ID


@pytest.mark.parametrize("path", ["/", "/a-b_c.d~e/", "/a%20b", "/a,b", '/a"b', "/a b"])
def test_a_path_is_refused_at_the_start_or_sent_as_it_is(path):
    try:
        made = cookie(cookie_name="sid", cookie_path=path)
    except ConfigError:
        assert re.search('[, "]', path)
        return
    assert attributes_of(made.header(ID))["path"] == path


@given(st.text(st.sampled_from("abcXYZ019!#%&'*+-.^_`|~"), min_size=1, max_size=12))
def test_what_the_header_says_is_found_again_whatever_the_name(name):
    made = cookie(cookie_name="x" + name, secret="s")
    _, text = made.header(ID)
    assert made.find(f"a=b; {text.partition(';')[0]}") == ID
    assert cookie(cookie_name="y" + name, secret="s").find(text) is None
