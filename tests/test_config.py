"""Every option: its default, what it takes, and what is refused how."""

import dataclasses
import math
import os
import re
import traceback

import pytest
from doubles import DeadRedis

from smartredis_wsgi import ConfigError, NoLock, SessionMiddleware, SessionStore
from smartredis_wsgi.config import Config

URL = "redis://localhost:6379/0"
NODES = ["redis://a", "redis://b", "redis://c"]
PASSWORD = "hunter2"

# The table of options: what stands here is what users were told.
DEFAULTS = {
    "url": None,
    "client": None,
    "prefix": "session:",
    "ttl": 1800,
    "touch_every": 180,
    "max_lifetime": None,
    "delete_expiry": 5,
    "secret": (),
    "codec": "json",
    "conflict": "merge",
    "on_gone": "drop",
    "rotate_grace": 0,
    "wait_replicas": 0,
    "max_per_owner": None,
    "owner_overflow": "oldest",
    "lock": "none",
    "lock_scope": "request",
    "lock_methods": None,
    "lock_expiry": 5,
    "lock_renew": False,
    "lock_wait": 10,
    "lock_max_waiters": None,
    "retry_time": 0.1,
    "lock_nodes": (),
    "timeout": 1,
    "max_size": 1048576,
    "cookie_name": "__Host-sid",
    "cookie_secure": True,
    "cookie_httponly": True,
    "cookie_samesite": "Lax",
    "cookie_path": "/",
    "cookie_domain": None,
    "cookie_max_age": None,
    "cookie_partitioned": False,
    "import_from": None,
    "import_cookie": None,
    "import_secret": (),
    "import_prefix": None,
    "import_url": None,
    "import_pickle": False,
    "on_event": None,
    "environ_key": "smartredis.session",
}
NAMES = [field.name for field in dataclasses.fields(Config)]


def build(**options):
    if "client" not in options:
        options.setdefault("url", URL)
    return Config.build(options)


def refused(name, value):
    """The text of the refusal of one option's value."""
    with pytest.raises(ConfigError) as caught:
        build(**{name: value})
    return str(caught.value)


# -- names and defaults --------------------------------------------------------------


def test_the_options_are_those_of_the_table():
    assert set(NAMES) == set(DEFAULTS)


@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() - {"url"}))
def test_the_default_is_that_of_the_table(name):
    value = getattr(build(), name)
    assert value == DEFAULTS[name]
    assert isinstance(value, bool) is isinstance(DEFAULTS[name], bool)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_what_it_is(name):
    (field,) = (field for field in dataclasses.fields(Config) if field.name == name)
    assert field.metadata["help"]


def test_a_read_prolongs_at_most_ten_times_per_ttl_by_default():
    assert build(ttl=50).touch_every == 5
    assert build(ttl="1h").touch_every == 360
    assert build(ttl=50, touch_every=1).touch_every == 1


# -- what is taken -------------------------------------------------------------------

DURATIONS = ["ttl", "delete_expiry", "lock_expiry", "retry_time", "timeout"]
OR_ZERO = ["touch_every", "lock_wait", "rotate_grace"]
OR_NONE = ["max_lifetime", "cookie_max_age"]
SWITCHES = ["lock_renew", "cookie_secure", "cookie_httponly", "cookie_partitioned"]


@pytest.mark.parametrize("name", DURATIONS + OR_ZERO + OR_NONE)
@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (30, 30),
        (1.5, 1.5),
        ("30", 30),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1ms", 0.001),
        ("100ms", 0.1),
        ("5s", 5),
        ("2m", 120),
        ("0.25h", 900),
        ("0.01d", 864),
        (" 2 m ", 120),
    ],
)
def test_a_duration_is_seconds_or_text_with_a_unit(name, given, seconds):
    value = getattr(build(**{name: given}), name)
    assert value == pytest.approx(seconds)
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("given", "seconds"), [("1.5h", 5400), ("30m", 1800), ("36500d", 3_153_600_000)]
)
def test_a_long_duration_is_taken(given, seconds):
    assert build(ttl=given).ttl == seconds


@pytest.mark.parametrize("name", DURATIONS + OR_ZERO + OR_NONE)
@pytest.mark.parametrize(
    "given",
    [
        *(-1, -0.5, math.inf, -math.inf, math.nan, 1e300, 1e-9, 10**30, 10**400, 5j),
        3_153_600_001,
        *("-5", "-5s", "inf", "nan", "1e3", "", " ", "soon", "5 weeks", "30M", "5s5"),
        *("0.0001ms", "9" * 400, True, False, [5], b"5", object()),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_duration_is_refused(name, given):
    message = refused(name, given)
    assert f"option {name}:" in message
    assert repr(given) in message
    assert "duration" in message
    assert "30m" in message
    assert message.endswith("; or 0") is (name in OR_ZERO)


@pytest.mark.parametrize("name", DURATIONS + OR_NONE)
@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s"])
def test_zero_is_no_duration(name, zero):
    assert "duration" in refused(name, zero)


@pytest.mark.parametrize("name", OR_ZERO)
@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s", "0ms", "0.0", " 0 "])
def test_zero_is_taken_where_it_means_at_once(name, zero):
    assert getattr(build(**{name: zero}), name) == 0


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(
    ("given", "expected"),
    [(True, True), (False, False)]
    + [(word, True) for word in ("true", "True", "yes", "on", "ON", "1", " true ")]
    + [(word, False) for word in ("false", "False", "no", "off", "OFF", "0")],
)
def test_a_switch_is_a_boolean_or_a_word(name, given, expected):
    assert getattr(build(**{name: given}), name) is expected


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("given", [None, 1, 0, 2.5, "", "maybe", [], b"on", object()])
def test_what_is_no_switch_is_refused(name, given):
    message = refused(name, given)
    assert f"option {name}: {given!r}" in message
    assert "true or false" in message


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("url", "unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("prefix", "app:", "app:"),
        ("prefix", "", ""),
        ("max_lifetime", "12h", 43200),
        ("max_lifetime", "none", None),
        ("max_lifetime", None, None),
        ("secret", "one", (b"one",)),
        ("secret", b"one", (b"one",)),
        ("secret", ["one", b"two"], (b"one", b"two")),
        ("secret", "one\n  two\n", (b"one", b"two")),
        ("secret", "with space, and comma", (b"with space, and comma",)),
        ("secret", None, ()),
        ("codec", "MsgPack", "msgpack"),
        ("codec", "pickle", "pickle"),
        ("conflict", "Raise", "raise"),
        ("conflict", "overwrite", "overwrite"),
        ("on_gone", "raise", "raise"),
        ("lock", " single ", "single"),
        ("lock_scope", "commit", "commit"),
        ("lock_scope", "manual", "manual"),
        ("max_size", 5, 5),
        ("max_size", "5", 5),
        ("max_size", "64k", 65536),
        ("max_size", "64KiB", 65536),
        ("max_size", "2 MiB", 2 << 20),
        ("max_size", "100b", 100),
        ("max_size", 1, 1),
        ("max_size", 2**40 - 1, 2**40 - 1),
        ("wait_replicas", 0, 0),
        ("wait_replicas", " 0 ", 0),
        ("wait_replicas", 1, 1),
        ("wait_replicas", "2", 2),
        ("cookie_name", "sid", "sid"),
        ("cookie_name", None, "__Host-sid"),
        ("cookie_samesite", "strict", "Strict"),
        ("cookie_samesite", "none", "None"),
        ("cookie_samesite", None, None),
        ("cookie_samesite", "", None),
        ("cookie_domain", None, None),
        ("cookie_domain", "none", None),
        ("cookie_path", "/", "/"),
        ("environ_key", "beaker.session", "beaker.session"),
        ("touch_every", None, 180),
        ("lock_max_waiters", None, None),
        ("lock_methods", None, None),
        ("lock_methods", "all", None),
        ("lock_nodes", None, ()),
    ],
)
def test_an_option_is_parsed_the_same_from_every_source(name, given, expected):
    base = {} if name == "url" else {"url": URL}
    by_dict = Config.build({**base, name: given})
    by_keyword = Config.build(**base, **{name: given})
    settings = {f"s.{key}": value for key, value in {**base, name: given}.items()}
    by_section = Config.build(Config.section({**settings, "other": "x"}, "s."))
    for config in (by_dict, by_keyword, by_section):
        assert getattr(config, name) == expected


def test_a_cookie_that_is_not_secure_is_called_sid_by_default():
    assert build(cookie_secure="off").cookie_name == "sid"
    assert build(cookie_secure="off", cookie_name="other").cookie_name == "other"


def test_lock_options_are_parsed():
    config = build(lock="single", lock_methods="post, PUT delete", lock_max_waiters="5")
    assert config.lock_methods == {"POST", "PUT", "DELETE"}
    assert config.lock_max_waiters == 5
    assert build(lock="single", lock_methods=["Get"]).lock_methods == {"GET"}
    assert build(lock="redlock", lock_nodes=NODES).lock_nodes == tuple(NODES)
    texts = " ".join(NODES), ",\n".join(NODES)
    for text in texts:
        assert build(lock="redlock", lock_nodes=text).lock_nodes == tuple(NODES)
    five = (*NODES, "redis://d", "redis://e")
    assert build(lock="redlock", lock_nodes=five).lock_nodes == five


def test_objects_are_taken_as_they_are():
    class Codec:
        def encode(self, value):
            return value

        decode = encode

    codec, lock, client = Codec(), NoLock(), DeadRedis()
    config = Config.build(client=client, codec=codec, lock=lock)
    assert config.client is client
    assert config.codec is codec
    assert config.lock is lock
    clients = [DeadRedis() for _ in range(3)]
    assert build(lock="redlock", lock_nodes=clients).lock_nodes == tuple(clients)


def listen(_event):
    """A function of one argument."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (listen, listen),
        ("builtins:print", print),
        (" os.path:exists ", os.path.exists),
        (None, None),
        ("none", None),
    ],
)
def test_a_function_is_taken_as_it_is_or_imported(given, expected):
    assert build(on_event=given).on_event is expected


def test_keywords_override_the_dict():
    given = {"url": URL, "ttl": 5, "prefix": "a"}
    for config in (
        Config.build(given, ttl=7),
        SessionMiddleware(None, given, ttl=7).config,
    ):
        assert (config.ttl, config.prefix) == (7, "a")


def test_a_middleware_takes_an_ini_section():
    settings = {
        "session.url": URL,
        "session.ttl": "30m",
        "session.cookie_secure": "off",
        "session.lock": "single",
        "session.lock_methods": "POST, PUT",
        "pyramid.session.ttl": "5",
        "sessions": "x",
    }
    config = SessionMiddleware.from_settings(None, settings).config
    assert (config.ttl, config.cookie_name, config.lock) == (1800, "sid", "single")
    other = {"my.url": URL, "my.ttl": "5", "session.lok": "x"}
    config = SessionMiddleware.from_settings(None, other, prefix="my.").config
    assert config.ttl == 5


def test_the_config_that_is_given_is_left_as_it_is():
    given = {"url": URL, "ttl": "5m"}
    Config.build(given, prefix="x")
    assert given == {"url": URL, "ttl": "5m"}


def test_a_config_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        build().ttl = 5


# -- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("lok", "lock"),
        ("tll", "ttl"),
        ("lock_expire", "lock_expiry"),
        ("cookie_samsite", "cookie_samesite"),
        ("TTL", None),
        ("banana", None),
        ("", None),
        (5, None),
    ],
)
def test_an_unknown_option_is_refused_and_the_nearest_is_named(wrong, meant):
    with pytest.raises(ConfigError) as caught:
        Config.build({"url": URL, wrong: PASSWORD})
    message = str(caught.value)
    assert f"unknown option {wrong}" in message
    if meant:
        assert f"did you mean {meant}?" in message
    assert PASSWORD not in message


SUGGESTION = re.escape("unknown option lok; did you mean lock?")


def test_the_example_of_the_design_is_said_word_for_word():
    with pytest.raises(ConfigError, match=SUGGESTION):
        SessionMiddleware(None, url=URL, lok="single")
    with pytest.raises(ConfigError, match=SUGGESTION):
        SessionStore.from_config({"url": URL, "lok": "single"})
    with pytest.raises(ConfigError, match=SUGGESTION):
        SessionMiddleware.from_settings(None, {"session.url": URL, "session.lok": "x"})


class Odd:
    """Of no use for any option."""


@pytest.mark.parametrize(
    ("name", "wrongs"),
    [
        ("url", [5, b"redis://x", "", "a\nb", Odd(), ["redis://x"]]),
        ("client", [5, URL, Odd(), True]),
        ("prefix", [None, 5, "a b", "a\n", "a{b}", "\x00", b"x", Odd()]),
        ("secret", ["", [], [""], [b""], 5, [5], Odd(), {}, ["ok", None]]),
        ("codec", [None, "xml", "", 5, int, Odd()]),
        ("conflict", [None, "mix", "", True, 5]),
        ("on_gone", [None, "explode", "", True, 5]),
        ("lock", [None, "double", "", 5, True, Odd()]),
        ("lock_scope", [None, "all", "", 5]),
        ("lock_methods", ["", [], 5, [5], "GET;POST", "G(T"]),
        ("lock_max_waiters", [0, -1, 1.5, "many", True, "1.5", ""]),
        ("max_per_owner", [0, -1, 1.5, "many", True, "1.5", ""]),
        ("owner_overflow", ["newest", "", None, 1]),
        ("lock_nodes", ["", [], NODES[:2], NODES[:1], [*NODES, "redis://d"], 5]),
        ("lock_nodes", [[*NODES[:2], NODES[0]], [1, 2, 3], URL]),
        ("max_size", [None, 0, -1, 1.5, "", "big", True, "-5", "5 gb", "1.5m", []]),
        ("max_size", [math.inf, "9" * 5000, 2**40, 2**41, "1048576m"]),
        ("wait_replicas", [None, -1, "-1", 1.5, "many", True, False, "", " "]),
        ("on_event", [5, "", "print", "math:pi", "math:nothing", "nowhere.at:all"]),
        ("cookie_name", ["", "a b", "a;b", "a=b", "a,b", "ü", "a\n", 5, "a\x00"]),
        ("cookie_samesite", ["loose", 5, True, "Lax; Secure"]),
        ("cookie_path", [None, "", "app", "/a;b", "/a\n", "/ü", 5, "/\x7f"]),
        ("cookie_domain", ["", "a b", "a;b", "a..b", "ü.de", "a\n", 5, "a/b"]),
        ("environ_key", [None, "", 5, "a\x00", b"x"]),
    ],
)
def test_a_wrong_value_is_refused_with_option_value_and_remedy(name, wrongs):
    for wrong in wrongs:
        message = refused(name, wrong)
        assert f"option {name}:" in message
        is_secret = name in ("url", "client", "secret", "lock_nodes") and wrong
        assert ("the value given" if is_secret else repr(wrong)) in message
        assert message.partition("; use ")[2]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("conflict", "use merge, raise or overwrite"),
        ("on_gone", "use drop or raise"),
        ("lock_scope", "use request, commit or manual"),
        ("lock", "use none, single or redlock, or an object with acquire()"),
        ("codec", "use json, msgpack or pickle, or an object with encode()"),
        ("wait_replicas", "a whole number, 0 or more"),
        ("max_size", 'a whole number over 0 (65536) or with a unit ("64k", "1M")'),
    ],
)
def test_a_refusal_says_all_that_would_do(name, remedy):
    assert refused(name, "banana").endswith(f" {remedy}")


@pytest.mark.parametrize("config", ["redis://x", [("url", URL)], 5, b"x"])
def test_a_config_that_is_no_mapping_is_refused(config):
    with pytest.raises(ConfigError, match="dict"):
        Config.build(config)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"url": None}, "url"),
        ({"client": DeadRedis(), "url": URL}, "url"),
        ({"ttl": 60, "touch_every": 61}, "touch_every"),
        ({"lock": "redlock"}, "lock_nodes"),
        ({"lock_nodes": NODES}, "lock_nodes"),
        ({"lock": "single", "lock_nodes": NODES}, "lock_nodes"),
        ({"lock_methods": "POST"}, "lock_methods"),
        ({"lock_max_waiters": 5}, "lock_max_waiters"),
        ({"lock": NoLock(), "lock_max_waiters": 5}, "lock_max_waiters"),
        (
            {"lock": "redlock", "lock_nodes": NODES, "lock_max_waiters": 5},
            "lock_max_waiters",
        ),
        ({"cookie_domain": "example.com"}, "cookie_domain"),
        ({"cookie_path": "/app"}, "cookie_path"),
        ({"cookie_name": "__host-x", "cookie_path": "/app"}, "cookie_path"),
        ({"cookie_name": "__Host-x", "cookie_secure": False}, "cookie_secure"),
        ({"cookie_name": "__Secure-x", "cookie_secure": False}, "cookie_secure"),
        ({"cookie_samesite": "None", "cookie_secure": False}, "cookie_samesite"),
        ({"cookie_partitioned": True, "cookie_secure": False}, "cookie_partitioned"),
        ({"import_cookie": "sid"}, "import_cookie"),
        ({"import_secret": "x"}, "import_secret"),
        ({"import_prefix": "sess:"}, "import_prefix"),
        ({"import_url": URL}, "import_url"),
        ({"import_pickle": True}, "import_pickle"),
    ],
)
def test_a_contradiction_is_refused_by_name(options, name):
    with pytest.raises(ConfigError) as caught:
        build(**options)
    assert f"option {name}:" in str(caught.value)
    assert str(caught.value).partition("; use ")[2]


def test_nothing_at_all_is_too_little():
    for config in (None, {}, {"ttl": 5}, {"url": None, "client": None}):
        with pytest.raises(ConfigError, match="url or client"):
            Config.build(config)


@pytest.mark.parametrize("nodes", [NODES[:1], NODES[:2], [*NODES, "redis://d"]])
def test_too_few_masters_or_an_even_number_are_refused(nodes):
    with pytest.raises(ConfigError, match="an odd number, 3 or more"):
        build(lock="redlock", lock_nodes=nodes)


def test_two_addresses_are_too_many():
    with pytest.raises(ConfigError, match="either url or client, not both"):
        Config.build(url=URL, client=DeadRedis())


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "__Secure-x", "cookie_domain": "example.com"},
        {"cookie_name": "sid", "cookie_path": "/app", "cookie_domain": ".example.com"},
        {"cookie_samesite": "None", "cookie_partitioned": True},
        {"ttl": 60, "touch_every": 60},
        {"ttl": 60, "max_lifetime": 30},
        {"lock": "single", "lock_methods": "POST", "lock_max_waiters": 5},
        {"lock": "redlock", "lock_nodes": NODES, "lock_methods": "POST"},
        {"lock": NoLock(), "lock_methods": "POST"},
        {"import_from": "beaker", "import_pickle": True, "import_cookie": "b"},
    ],
)
def test_what_is_no_contradiction_is_taken(options):
    assert build(**options)


# -- silence -------------------------------------------------------------------------

URLS = [
    f"redis://:{PASSWORD}#x@localhost",
    f"redis://:{PASSWORD}/x@localhost:1/0",
    f"redis://:{PASSWORD}?x@localhost:1/0",
    f"user:{PASSWORD}@localhost:6379",
    f"http://:{PASSWORD}@localhost",
    f"redis://u:{PASSWORD}[@h/0",
    f"redis+sentinel://:{PASSWORD}@h:1",
    f"redis+sentinel://:{PASSWORD}#x@h:1/s",
    f"redis+sentinel://:{PASSWORD}@h:x/s",
    f"redis+cluster://:{PASSWORD}#x@h:1",
    f"redis+cluster://:{PASSWORD}@h:x",
    f"redis+cluster://u:{PASSWORD}@[::1",
    f"redis://localhost/0?socket_timeout={PASSWORD}",
    f"redis://localhost/0?{PASSWORD}=1",
]


def told(act):
    """All that an error says, with whatever caused it."""
    try:
        act()
    except ConfigError as error:
        return "".join(traceback.format_exception(error))
    return ""


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_will_not_do_is_not_shown(url):
    if told_of := told(lambda: SessionStore.from_config(url=url)):
        lines = [line for line in told_of.splitlines() if "ConfigError" in line]
        assert "url" in lines[-1]
    assert PASSWORD not in told_of


@pytest.mark.parametrize(
    "options",
    [
        {"url": f"redis://:{PASSWORD}@h", "client": DeadRedis()},
        {"url": f"redis://:{PASSWORD}@h\n"},
        {"url": f"redis://:{PASSWORD}@h".encode()},
        {"url": [f"redis://:{PASSWORD}@h"]},
        {"client": f"redis://:{PASSWORD}@h"},
        {"url": URL, "secret": {PASSWORD: 5}.values()},
        {"url": URL, "secret": [PASSWORD, 5]},
        {"url": URL, "lock_nodes": [f"redis://:{PASSWORD}@{h}" for h in "abc"]},
        {"url": URL, "lock": "redlock", "lock_nodes": f"redis://:{PASSWORD}@h"},
        {"url": URL, "lock": "redlock", "lock_nodes": [f"redis://:{PASSWORD}@h"] * 3},
    ],
)
def test_no_refusal_shows_a_secret(options):
    message = told(lambda: Config.build(options))
    assert "ConfigError" in message
    assert PASSWORD not in message


def test_a_master_that_will_not_do_is_not_shown():
    nodes = [f"redis://:{PASSWORD}#x@{host}" for host in "abc"]
    options = {"url": URL, "lock": "redlock", "lock_nodes": nodes}
    message = told(lambda: SessionStore.from_config(options))
    assert "ConfigError" in message
    assert PASSWORD not in message


def test_no_repr_shows_a_secret():
    options = {"url": f"redis://:{PASSWORD}@localhost", "secret": PASSWORD}
    middleware = SessionMiddleware(None, options)
    for thing in (
        middleware,
        middleware.config,
        middleware.store,
        middleware.cookie,
        middleware.store.begin(lambda _: None),
    ):
        assert PASSWORD not in repr(thing)
        assert PASSWORD not in str(thing)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ttl", 10**5000),
        ("prefix", "\ud800"),
        ("on_event", ".relative:name"),
        ("max_size", "9" * 5000),
        ("lock_max_waiters", "9" * 5000),
    ],
    ids=["ttl", "prefix", "on_event", "max_size", "lock_max_waiters"],
)
def test_an_absurd_value_is_refused_as_any_other(name, wrong):
    with pytest.raises(ConfigError, match=f"option {name}: .*; use (a|bytes)\\b"):
        Config.build(url="redis://nowhere", **{name: wrong})


def test_a_secret_that_is_not_valid_unicode_is_not_quoted():
    with pytest.raises(ConfigError) as failure:
        Config.build(url="redis://nowhere", secret="hunter\udce9")
    assert "udce9" not in str(failure.value)
    assert failure.value.__suppress_context__
