"""The session as the application sees it, mostly through `SessionStore.open`."""

# ruff: noqa: PT012 - a block is what commits, so it is a block that raises

import contextlib
import copy
import itertools
import pickle
import traceback

import pytest
from doubles import DeadRedis, FlakyProxy, counting_client
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from records import META, meta_of, set_meta
from servers import wait_until

from smartredis_wsgi import (
    EncodeError,
    LockLost,
    LockTimeout,
    Session,
    SessionFrozen,
    SessionGone,
    SessionStore,
    SessionTooLarge,
    SmartRedisError,
    StoreUnavailable,
)
from smartredis_wsgi.ids import new_id
from smartredis_wsgi.store import size_of


class AppError(Exception):
    """What an application raises."""


def sessions(client, **options):
    return SessionStore.from_config(client=client, **options)


def stored(store, **fields):
    """The id of a new session that holds the fields."""
    with store.open() as session:
        session.update(fields)
    return session.id


def fields_of(store, session_id):
    with store.open(session_id) as session:
        return dict(session)


def key_of(client):
    """The only key that is there."""
    (key,) = client.keys("*")
    return key


def rotated(store, session_id):
    with store.open(session_id) as session:
        session.regenerate_id()
    return session.id


def dropped(caplog):
    """How many changes of gone sessions the log tells of."""
    lines = [record.getMessage() for record in caplog.records]
    return sum("gone" in line and "dropped" in line for line in lines)


@pytest.fixture
def counted(server):
    with counting_client(server.url) as client:
        yield client


# -- laziness ------------------------------------------------------------------------


def test_a_session_that_is_not_touched_costs_no_command(counted):
    store = sessions(counted)
    with store.open() as new, store.open(new_id()) as known:
        repr(new)
        repr(known)
    assert counted.trips.count == 0


def test_a_new_session_is_read_without_a_command(counted):
    with sessions(counted).open() as session:
        assert dict(session) == {}
        assert session.id
        assert session.is_new
        assert not session.modified
    assert counted.trips.count == 0


def test_reading_loads_once(counted):
    store = sessions(counted)
    session_id = stored(store, a=1, b=2)
    counted.trips.reset()
    with store.open(session_id) as session:
        assert session["a"] + session["b"] == 3
        assert "c" not in session
        assert len(session) == 2
        assert session.id == session_id
    assert counted.trips.count == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda session: session.__setitem__("seen", 1),
        lambda session: session.incr("n"),
        lambda session: session.update(a=1, b=[2]),
        lambda session: session.set_ttl(60),
        lambda session: session.changed(),
        lambda session: session.regenerate_id(),
        lambda session: session.destroy(),
        lambda session: (session.incr("n"), session.save()),
    ],
    ids=["set", "incr", "update", "set_ttl", "changed", "rotate", "destroy", "save"],
)
def test_a_blind_write_is_one_round_trip(counted, write):
    store = sessions(counted)
    session_id = stored(store, n=1)
    counted.trips.reset()
    with store.open(session_id) as session:
        write(session)
    assert counted.trips.count == 1


def test_who_has_written_does_not_look_again_for_a_rolling_cookie(counted):
    store = sessions(counted, cookie_max_age=3600)
    session_id = stored(store, n=1)
    counted.trips.reset()
    with store.open(session_id) as session:
        session["n"] += 1
    assert counted.trips.count == 2


def test_who_only_reads_does_not_look_again_without_a_rolling_cookie(counted):
    store = sessions(counted, touch_every=0)
    session_id = stored(store, n=1)
    counted.pexpire(key_of(counted), 60_000)
    counted.trips.reset()
    assert fields_of(store, session_id) == {"n": 1}
    assert counted.trips.count == 1


def test_creating_is_one_round_trip(counted):
    with sessions(counted).open() as session:
        session["a"] = 1
        session.incr("n")
        session.set_ttl("1h")
    assert counted.trips.count == 1


def test_modified_costs_no_round_trip(counted):
    store = sessions(counted)
    session_id = stored(store, a=1)
    counted.trips.reset()
    with store.open(session_id) as session:
        assert not session.modified
    assert counted.trips.count == 0


def test_a_write_without_a_load_keeps_the_other_fields(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=1, n=1)
    with store.open(session_id) as session:
        session["b"] = 2
        session.incr("n", 4)
    assert session.id == session_id
    assert fields_of(store, session_id) == {"a": 1, "b": 2, "n": 5}


# -- a mutable mapping ---------------------------------------------------------------


names = st.sampled_from(["a", "b", "@c", "", "ü \x00", "ÿ"])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.sampled_from([0.5, -0.0, 1e300, b"raw", "text", "", (1, "two")]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "$y", ""]), inner, max_size=3),
    ),
    max_leaves=6,
)
steps = st.one_of(st.integers(-5, 5), st.sampled_from([0.25, -1.5]))


def is_number(value):
    return type(value) in (int, float)


def exact(mapping):
    """A mapping with its types written out: 1, 1.0 and True differ."""
    return {name: repr(value) for name, value in mapping.items()}


def insides(value):
    """The value's containers, itself included, at every depth."""
    if isinstance(value, (list, dict)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from insides(inner)


class SessionBesideDict(RuleBasedStateMachine):
    """A session through many blocks, and a dict to which the same happens."""

    dead = Bundle("dead")

    def __init__(self, client):
        super().__init__()
        client.flushall()
        self.client, self.store = client, sessions(client)
        self.id = self.block = None
        self.kept = {}  # what is stored

    is_open = precondition(lambda self: self.block is not None)

    @precondition(lambda self: self.block is None)
    @rule()
    def open(self):
        self.block = self.store.open(self.id)
        self.session = self.block.__enter__()
        self.dict, self.forgotten = copy.deepcopy(self.kept), False

    @is_open
    @rule(target=dead)
    def close(self):
        self.block.__exit__(None, None, None)
        self.block = None
        return self._keep()

    @is_open
    @rule()
    def fail(self):
        error = AppError()
        with contextlib.suppress(AppError):
            self.block.__exit__(AppError, error, None)
        self.block = None

    @is_open
    @rule(target=dead)
    def save(self):
        self.session.save()
        return self._keep()

    def _keep(self):
        """What was changed is stored now; returns the id that died of it, if any."""
        if self.forgotten:
            return multiple()
        self.kept = copy.deepcopy(self.dict)
        before, self.id = self.id, self.session.id
        return multiple() if before in (None, self.id) else before

    @is_open
    @rule(target=dead)
    def destroy(self):
        self.session.destroy()
        self.dict, self.kept, before = {}, {}, self.id
        self.id = None
        return multiple() if before is None else before

    @is_open
    @rule()
    def forget(self):
        self.session.forget()
        self.dict, self.forgotten = copy.deepcopy(self.kept), True

    @is_open
    @rule()
    def reload(self):
        self.session.reload()
        self.dict = copy.deepcopy(self.kept)

    @is_open
    @rule()
    def regenerate_id(self):
        self.session.regenerate_id()

    @is_open
    @rule(name=names, value=values)
    def assign(self, name, value):
        self.session[name] = copy.deepcopy(value)
        self.dict[name] = value

    @is_open
    @rule(name=names, by=steps)
    def incr(self, name, by):
        before = self.dict.get(name, 0)
        if is_number(before):
            self.session.incr(name, by)
            self.dict[name] = before + by

    @is_open
    @rule(data=st.data(), value=values)
    def change_inside(self, data, value):
        name = data.draw(st.sampled_from(sorted(self.dict) or ["a"]))
        both = self.session.get(name), self.dict.get(name)
        pairs = [*zip(*map(insides, both), strict=True)]
        if pairs:
            for side in data.draw(st.sampled_from(pairs)):
                mine = copy.deepcopy(value)
                side.append(mine) if isinstance(side, list) else side.update(x=mine)

    @is_open
    @rule(name=names)
    def delete(self, name):
        if name in self.dict:
            del self.session[name], self.dict[name]
        else:
            with pytest.raises(KeyError):
                del self.session[name]

    @is_open
    @rule(name=names, default=leaves)
    def pop(self, name, default):
        mine = self.session.pop(name, default)
        assert repr(mine) == repr(self.dict.pop(name, default))

    @is_open
    @rule()
    def popitem(self):
        if self.dict:
            name, value = self.session.popitem()
            assert repr(value) == repr(self.dict.pop(name))
        else:
            with pytest.raises(KeyError):
                self.session.popitem()

    @is_open
    @rule(name=names, default=values)
    def setdefault(self, name, default):
        mine = self.session.setdefault(name, copy.deepcopy(default))
        assert repr(mine) == repr(self.dict.setdefault(name, default))

    @is_open
    @rule(new=st.dictionaries(names, values, max_size=3))
    def update(self, new):
        self.session.update(copy.deepcopy(new))
        self.dict.update(new)

    @is_open
    @rule()
    def clear(self):
        self.session.clear()
        self.dict.clear()

    @is_open
    @rule(name=names)
    def read_one(self, name):
        assert repr(self.session.get(name)) == repr(self.dict.get(name))
        assert (name in self.session) is (name in self.dict)

    @is_open
    @rule()
    def read_all(self):
        assert exact(self.session) == exact(self.dict)
        assert len(self.session) == len(self.dict)
        assert set(self.session) == self.dict.keys()
        assert self.session == self.dict

    @rule(session_id=consumes(dead))
    def a_dead_id_stays_dead(self, session_id):
        assert fields_of(self.store, session_id) == {}

    @invariant()
    def what_is_stored_is_what_the_dict_kept(self):
        if self.id is not None:
            assert exact(fields_of(self.store, self.id)) == exact(self.kept)
        assert all(self.client.pttl(key) > 0 for key in self.client.keys("*"))


@pytest.mark.parametrize("comes", ["whole", "field by field"])
def test_a_session_does_what_a_dict_does(redis, comes, monkeypatch):
    if comes != "whole":
        leave_all_fields(monkeypatch)
    run_state_machine_as_test(
        lambda: SessionBesideDict(redis),
        settings=settings(
            max_examples=100,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking is slow
        ),
    )


def test_a_session_does_what_a_dict_does_on_every_server(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=1, b={"c": [1]}, d=2, e=3, n=1.5)
    with store.open(session_id) as session:
        session["b"]["c"].append(2)
        del session["d"]
        assert session.pop("e") == 3
        assert session.pop("e", None) is None
        assert session.setdefault("f", []) == []
        session["f"].append("deep")
        session.incr("n", 2)
        session.incr("m")
        with pytest.raises(KeyError):
            session["d"]
    expected = {"a": 1, "b": {"c": [1, 2]}, "f": ["deep"], "n": 3.5, "m": 1}
    assert fields_of(store, session_id) == expected
    with store.open(session_id) as session:
        session.clear()
        session["g"] = None
    assert fields_of(store, session_id) == {"g": None}


def test_a_cleared_session_stays_under_its_id(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        session.clear()
    with store.open(session_id) as session:
        assert dict(session) == {}
        assert not session.is_new
        assert session.id == session_id


def test_a_session_never_equals_what_is_no_mapping(redis):
    with sessions(redis).open() as session:
        assert session != []
        assert session == {}
        assert not session


@pytest.mark.parametrize("name", [5, None, b"a", ("a",)])
def test_a_name_that_is_no_text_is_refused_at_once(redis, name):
    with sessions(redis).open() as session:
        with pytest.raises(EncodeError, match="name"):
            session[name] = 1
        with pytest.raises(EncodeError, match="name"):
            session.incr(name)
    assert redis.keys("*") == []


# -- only changes travel (rule 5) ----------------------------------------------------


@pytest.mark.parametrize("value", [1, "1", [1, {"a": (1, 2)}], {"b": 1, "a": 2}, 1.5])
def test_an_equal_assignment_is_not_written(counted, value):
    store = sessions(counted)
    session_id = stored(store, a=value)
    counted.trips.reset()
    with store.open(session_id) as session:
        assert session["a"] == value
        session["a"] = copy.deepcopy(value)
        assert not session.modified
    assert counted.trips.count == 1


def test_a_value_that_is_changed_and_changed_back_is_not_written(counted):
    store = sessions(counted)
    session_id = stored(store, a=[1])
    counted.trips.reset()
    with store.open(session_id) as session:
        session["a"].append(2)
        assert session.modified
        session["a"].pop()
        assert not session.modified
    assert counted.trips.count == 1


@pytest.mark.parametrize("other", [1.0, True, "1", (1,)])
def test_an_assignment_of_another_type_is_a_change(redis, other):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        assert session["a"] == 1
        session["a"] = other
    assert repr(fields_of(store, session_id)["a"]) == repr(other)


@pytest.mark.parametrize("depth", [1, 2, 5, 30])
def test_a_nested_change_is_noticed_at_any_depth(backend, depth):
    store = sessions(backend.client)
    innermost = value = []
    for level in range(depth):
        value = {"in": value} if level % 2 else [value]
    session_id = stored(store, deep=value, other=1)
    with store.open(session_id) as session:
        found = session["deep"]
        for level in reversed(range(depth)):
            found = found["in"] if level % 2 else found[0]
        found.append("new")
        assert session.modified
    innermost.append("new")
    assert fields_of(store, session_id) == {"deep": value, "other": 1}


def test_a_field_that_is_only_read_is_never_sent(counted):
    store = sessions(counted)
    session_id = stored(store, read="quiet", changed=[], unread="silent")
    with store.open(session_id) as session:
        assert session["read"] == "quiet"
        session["changed"].append("loud")
        counted.trips.reset()
    (command,) = counted.trips.commands
    assert b"changed" in command
    assert b'["loud"]' in command
    for word in (b"read", b'"quiet"', b"unread", b'"silent"'):
        assert word not in command


def test_deleting_a_field_sends_its_name_alone(counted):
    store = sessions(counted)
    session_id = stored(store, a="gone", b="stays")
    with store.open(session_id) as session:
        del session["a"]
        counted.trips.reset()
    (command,) = counted.trips.commands
    assert b"a" in command
    assert b'"gone"' not in command
    assert b"b" not in command
    assert fields_of(store, session_id) == {"b": "stays"}


def test_a_reader_writes_nothing(counted, redis):
    store = sessions(counted)
    session_id = stored(store, a=[1], b=2)
    record = redis.hgetall(key_of(redis))
    counted.trips.reset()
    with store.open(session_id) as session:
        assert dict(session) == {"a": [1], "b": 2}
        session.get("none")
        session.pop("none", None)
        assert session.setdefault("b", 5) == 2
        session.save()
    assert counted.trips.count == 1
    assert redis.hgetall(key_of(redis)) == record


def test_a_slow_reader_undoes_nobodys_work(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=[1])
    with store.open(session_id) as reader:
        assert reader["a"] == [1]
        with store.open(session_id) as writer:
            writer["a"] = [2]
            writer["b"] = 1
    assert fields_of(store, session_id) == {"a": [2], "b": 1}


@pytest.mark.parametrize("session_id", [None, "x" * 59, "", "short", "ü" * 59, "a\0"])
def test_reading_and_popping_nothing_creates_no_key(backend, session_id):
    with sessions(backend.client).open(session_id) as session:
        assert session.get("a") is None
        assert session.pop("a", 1) == 1
        assert "a" not in session
        assert list(session) == []
        session.clear()
        session.save()
        session.reload()
        session.forget()
        session.set_ttl(5)
        session.regenerate_id()
        session.destroy()
    assert backend.client.keys("*") == []


def test_a_touch_that_was_torn_is_made_again(redis):
    def find(_):
        if not torn:
            torn.append(True)
            raise AppError

    store, torn = sessions(redis), []
    for keep in (True, False):
        torn.clear()
        life = store.begin(find)
        with pytest.raises(AppError):
            Session(life).get("n")
        if keep:
            assert Session(life).get("n") is None
        life.end(keep)


def test_blind_verbs_on_an_unknown_id_create_no_key(redis):
    for verb in (lambda s: s.set_ttl(5), Session.regenerate_id, Session.destroy):
        with sessions(redis).open(new_id()) as session:
            verb(session)
        assert redis.keys("*") == []


# -- two at once ---------------------------------------------------------------------


def request(store, session_id, is_reader, act):
    """A request, as steps: load, act, commit."""
    with store.open(session_id) as session:
        yield
        if is_reader:
            session.get("a")
        yield
        act(session)
        yield


ORDERS = sorted(set(itertools.permutations("AAABBB")))


@pytest.mark.parametrize("is_reader", [True, False], ids=["loaded", "blind"])
def test_two_writers_of_different_fields_both_win_in_every_order(backend, is_reader):
    store = sessions(backend.client)
    for order in ORDERS:
        session_id = stored(store, a=0, n=0)
        acts = {
            "A": lambda session: (session.update(x=1), session.incr("n")),
            "B": lambda session: (session.update(y=2), session.incr("n", 10)),
        }
        steps_of = {
            who: request(store, session_id, is_reader, act) for who, act in acts.items()
        }
        for steps_left in steps_of.values():
            next(steps_left)
        for who in order:
            next(steps_of[who], None)
        expected = {"a": 0, "x": 1, "y": 2, "n": 11}
        assert fields_of(store, session_id) == expected, order


def test_a_delete_and_a_write_of_other_fields_both_win_in_every_order(redis):
    store = sessions(redis)
    for order in ORDERS:
        session_id = stored(store, a=0, b=[1], c=0)
        steps_of = {
            "A": request(store, session_id, True, lambda s: s.pop("c")),
            "B": request(store, session_id, True, lambda s: s["b"].append(2)),
        }
        for steps_left in steps_of.values():
            next(steps_left)
        for who in order:
            next(steps_of[who], None)
        assert fields_of(store, session_id) == {"a": 0, "b": [1, 2]}, order


def test_a_field_that_both_delete_is_deleted(redis):
    store = sessions(redis)
    session_id = stored(store, a=1, b=2)
    with store.open(session_id) as slow:
        del slow["a"]
        with store.open(session_id) as fast:
            del fast["a"]
        slow["c"] = 3
    assert fields_of(store, session_id) == {"b": 2, "c": 3}


# -- destroy -------------------------------------------------------------------------


def test_destroy_is_done_at_the_call(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=1)
    key = key_of(backend.client)
    with store.open(session_id) as session:
        session["b"] = 2
        session.destroy()
        assert backend.client.get(key) == b"destroyed"
        assert 0 < backend.client.pttl(key) <= 5000
        assert fields_of(store, session_id) == {}
        assert dict(session) == {}
        assert session.is_new
        assert not session.modified
    assert backend.client.keys("*") == [key]


def test_a_destroyed_session_goes_on_under_a_new_id(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        assert session["a"] == 1
        session.destroy()
        assert session.id != session_id
        session["b"] = 2
        session.incr("n")
    assert session.id != session_id
    assert fields_of(store, session.id) == {"b": 2, "n": 1}
    assert fields_of(store, session_id) == {}


@pytest.mark.parametrize("name", ["destroy", "invalidate", "delete"])
def test_every_name_of_destroy_destroys(redis, name):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        getattr(session, name)()
    assert redis.get(key_of(redis)) == b"destroyed"


def test_destroying_twice_is_destroying_once(counted, redis):
    store = sessions(counted)
    session_id = stored(store, a=1)
    counted.trips.reset()
    with store.open(session_id) as session:
        session.destroy()
        session.destroy()
    assert counted.trips.count == 1
    with store.open(session_id) as session:
        session.destroy()
    assert redis.get(key_of(redis)) == b"destroyed"
    assert store.destroy(session_id) is False or redis.dbsize() == 1


def test_a_tombstone_lives_as_long_as_configured(redis):
    store = sessions(redis, delete_expiry="90s")
    store.destroy(stored(store, a=1))
    assert 5000 < redis.pttl(key_of(redis)) <= 90_000


WRITES = [
    lambda session: session.update(b=2),
    lambda session: session["a"].append(2),
    lambda session: session.pop("a"),
    lambda session: session.incr("n"),
    lambda session: session.regenerate_id(),
    lambda session: session.set_ttl(60),
    lambda session: session.changed(),
]
WRITE_NAMES = ["set", "nested", "pop", "incr", "rotate", "set_ttl", "changed"]


@pytest.mark.parametrize("tombstone", ["stands", "ended"])
@pytest.mark.parametrize("write", WRITES, ids=WRITE_NAMES)
def test_a_late_write_brings_no_destroyed_session_back(
    backend, caplog, write, tombstone
):
    store = sessions(backend.client)
    session_id = stored(store, a=[1])
    key = key_of(backend.client)
    with store.open(session_id) as late:
        assert late["a"] == [1]
        store.destroy(session_id)
        if tombstone == "ended":
            backend.client.delete(key)
        write(late)
    assert dropped(caplog) == 1
    assert backend.client.keys("*") == ([key] if tombstone == "stands" else [])
    assert fields_of(store, session_id) == {}
    assert dict(late) == {}


@pytest.mark.parametrize("end", ["destroyed", "deleted", "rotated, destroyed"])
def test_a_late_write_raises_where_on_gone_says_so(redis, end):
    store = sessions(redis, on_gone="raise")
    session_id = stored(store, a=1)
    with pytest.raises(SessionGone), store.open(session_id) as late:
        late["a"] += 1
        if end == "deleted":
            redis.flushall()
        else:
            rotates = end.startswith("rotated")
            store.destroy(rotated(store, session_id) if rotates else session_id)
    assert fields_of(store, session_id) == {}
    assert b"hash" not in map(redis.type, redis.keys("*"))


@pytest.mark.parametrize("is_blind", [True, False])
def test_a_first_look_after_a_rotation_raises_at_its_write(redis, is_blind):
    store = sessions(redis, on_gone="raise")
    session_id = stored(store, a=1)
    moved_id = rotated(store, session_id)
    with pytest.raises(SessionGone), store.open(session_id) as session:
        if not is_blind:
            assert dict(session) == {}
        session["b"] = 2
    assert fields_of(store, moved_id) == {"a": 1}
    assert redis.dbsize() == 2


def test_an_expired_session_is_not_half_brought_back(backend, caplog):
    store = sessions(backend.client)
    session_id = stored(store, a=1, b=2)
    key = key_of(backend.client)
    with store.open(session_id) as late:
        late["a"] += 1
        backend.client.pexpire(key, 1)
        wait_until(lambda: not backend.client.exists(key), 5, "the session expires")
    assert dropped(caplog) == 1
    assert backend.client.keys("*") == []


def test_what_was_saved_without_a_load_is_not_half_brought_back(redis, caplog):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as late:
        late["b"] = 2
        late.save()
        redis.flushall()
        late["c"] = 3
    assert dropped(caplog) == 1
    assert redis.keys("*") == []


def test_a_late_save_is_dropped_and_so_is_what_follows(redis, caplog):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as late:
        late["a"] += 1
        redis.flushall()
        late.save()
        assert dict(late) == {}
        late["c"] = 1
    assert dropped(caplog) == 2
    assert redis.keys("*") == []


def test_a_record_of_another_incarnation_is_not_written_to(redis, caplog):
    store = sessions(redis)
    session_id = stored(store, a=1)
    key = key_of(redis)
    with store.open(session_id) as late:
        late["a"] += 1
        stored(store, other=1)
        (other,) = set(redis.keys("*")) - {key}
        redis.rename(other, key)
    assert dropped(caplog) == 1
    assert fields_of(store, session_id) == {"other": 1}


@pytest.mark.parametrize("is_blind", [True, False])
def test_who_looks_after_the_destroy_gets_an_empty_session(redis, caplog, is_blind):
    store = sessions(redis)
    session_id = stored(store, a=1)
    key = key_of(redis)
    store.destroy(session_id)
    with store.open(session_id) as session:
        if not is_blind:
            assert dict(session) == {}
            assert session.is_new
            assert session.id != session_id
        session["b"] = 2
    assert redis.get(key) == b"destroyed"
    assert dropped(caplog) == 0
    assert session.id != session_id
    assert fields_of(store, session.id) == {"b": 2}


def test_who_looks_after_a_rotation_writes_nowhere(redis, caplog):
    store = sessions(redis)
    session_id = stored(store, a=1)
    moved_id = rotated(store, session_id)
    with store.open(session_id) as session:
        assert dict(session) == {}
        session["b"] = 2
    with store.open(session_id) as session:
        session["c"] = 3
    assert dropped(caplog) == 2
    assert fields_of(store, moved_id) == {"a": 1}
    assert sorted(map(redis.type, redis.keys("*"))) == [b"hash", b"string"]


def test_a_blind_write_to_an_unknown_id_makes_a_new_session(backend):
    store = sessions(backend.client)
    unknown = new_id()
    with store.open(unknown) as session:
        session["a"] = 1
        session.incr("n", 2)
    assert session.is_new
    assert session.id != unknown
    assert fields_of(store, session.id) == {"a": 1, "n": 2}
    assert fields_of(store, unknown) == {}
    assert backend.client.dbsize() == 1


@pytest.mark.parametrize("odd", ["", "a", "x" * 60, "ü" * 59, "a" * 58 + "\n", "\0"])
def test_a_malformed_id_is_as_none(counted, odd):
    store = sessions(counted)
    with store.open(odd) as session:
        assert dict(session) == {}
    assert store.destroy(odd) is False
    assert counted.trips.count == 0
    with store.open(odd) as session:
        session["a"] = 1
    assert session.id != odd
    assert counted.dbsize() == 1


def test_store_destroy_tells_whether_there_was_one(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    assert store.destroy(session_id) is True
    assert store.destroy(new_id()) is False
    assert redis.dbsize() == 1


# -- proposals and promises ----------------------------------------------------------


def test_an_exception_drops_the_changes(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=[1], b=1)
    with pytest.raises(AppError), store.open(session_id) as session:
        session["a"].append(2)
        del session["b"]
        session["c"] = 1
        session.incr("n")
        session.regenerate_id()
        raise AppError
    assert fields_of(store, session_id) == {"a": [1], "b": 1}
    with pytest.raises(AppError), store.open() as session:
        session["a"] = 1
        raise AppError
    assert backend.client.dbsize() == 1


def test_an_exception_undoes_no_destroy(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with pytest.raises(AppError), store.open(session_id) as session:
        session.destroy()
        session["b"] = 1
        raise AppError
    assert redis.get(key_of(redis)) == b"destroyed"


def test_an_exception_undoes_no_save(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with pytest.raises(AppError), store.open(session_id) as session:
        session["b"] = 2
        session.save()
        session["c"] = 3
        raise AppError
    assert fields_of(store, session_id) == {"a": 1, "b": 2}


def test_an_exception_undoes_no_lock_block(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with pytest.raises(AppError), store.open(session_id) as session:
        with session.lock():
            session["b"] = 2
        session["c"] = 3
        raise AppError
    assert fields_of(store, session_id) == {"a": 1, "b": 2}


def test_save_commits_now_and_goes_on(counted, redis):
    store = sessions(counted)
    with store.open() as session:
        session["a"] = [1]
        session.save()
        assert not session.modified
        assert session.is_new
        assert fields_of(sessions(redis), session.id) == {"a": [1]}
        session["a"].append(2)
        assert session.modified
        session.incr("n")
    assert fields_of(store, session.id) == {"a": [1, 2], "n": 1}
    assert redis.dbsize() == 1
    assert counted.trips.count == 3


def test_what_is_saved_is_not_added_again(redis):
    store = sessions(redis)
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session.incr("n")
        session.save()
        session.save()
        session.incr("n")
        assert session["n"] == 3
    assert fields_of(store, session_id) == {"n": 3}


def test_forget_keeps_nothing_of_before_and_after(redis):
    store = sessions(redis)
    session_id = stored(store, a=[1])
    record = redis.hgetall(key_of(redis))
    with store.open(session_id) as session:
        session["a"].append(2)
        session["b"] = 1
        session.regenerate_id()
        session.set_ttl(5)
        session.forget()
        assert dict(session) == {"a": [1]}
        session["c"] = 1
        session["a"].append(3)
        session.save()
        session.regenerate_id()
    assert redis.hgetall(key_of(redis)) == record
    assert redis.pttl(key_of(redis)) > 5000
    with store.open() as session:
        session.forget()
        session["a"] = 1
    assert redis.dbsize() == 1


def test_what_was_promised_is_not_forgotten(redis):
    store = sessions(redis)
    saved_id, destroyed_id = stored(store, a=1), stored(store, a=1)
    with store.open(saved_id) as session:
        session["b"] = 1
        session.save()
        session.forget()
    assert fields_of(store, saved_id) == {"a": 1, "b": 1}
    with store.open(destroyed_id) as session:
        session.forget()
        session.destroy()
    assert fields_of(store, destroyed_id) == {}


def test_reload_drops_the_changes_and_loads_again(counted, redis):
    store = sessions(counted)
    session_id = stored(store, a=[1], b=1)
    with store.open(session_id) as session:
        session["a"].append(2)
        session["c"] = 1
        session.incr("b")
        with sessions(redis).open(session_id) as other:
            other["d"] = 4
        counted.trips.reset()
        session.reload()
        assert counted.trips.count == 1
        assert dict(session) == {"a": [1], "b": 1, "d": 4}
    assert counted.trips.count == 1
    assert fields_of(store, session_id) == {"a": [1], "b": 1, "d": 4}


def test_a_reload_may_be_the_first_touch(counted):
    store = sessions(counted)
    session_id = stored(store, a=1)
    counted.trips.reset()
    with store.open(session_id) as session:
        session.reload()
        assert dict(session) == {"a": 1}
    assert counted.trips.count == 1


def test_a_reload_keeps_the_lock(redis):
    store = sessions(redis, lock="single", lock_wait="20ms")
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        assert session["a"] == 1
        locks = redis.keys("lock:*")
        session.reload()
        assert redis.keys("lock:*") == locks != []
        session["a"] += 1
    assert fields_of(store, session_id) == {"a": 2}
    assert redis.keys("lock:*") == []


def test_reload_sees_that_the_session_is_gone(redis, caplog):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        assert session["a"] == 1
        redis.flushall()
        session.reload()
        assert dict(session) == {}
        session["b"] = 1
    assert dropped(caplog) == 1
    assert redis.keys("*") == []


def test_changed_commits_even_if_nothing_changed(counted):
    store = sessions(counted)
    session_id = stored(store, a=1)
    counted.trips.reset()
    with store.open(session_id) as session:
        assert session["a"] == 1
        session.changed()
        assert session.modified
    assert counted.trips.count == 2
    with store.open() as session:
        session.changed()
    assert fields_of(store, session.id) == {}
    with store.open(session.id) as session:
        assert not session.is_new


# -- what it tells of itself ---------------------------------------------------------


def test_the_id_of_a_new_session_is_the_one_it_is_stored_under(redis):
    store = sessions(redis)
    with store.open() as session:
        announced = session.id
        assert session.id == announced
        session["a"] = 1
    assert session.id == announced
    assert fields_of(store, announced) == {"a": 1}


def test_an_unknown_id_is_never_adopted(redis):
    store = sessions(redis)
    unknown = new_id()
    with store.open(unknown) as session:
        assert session.is_new
        assert session.id != unknown
        session["a"] = 1
    assert fields_of(store, unknown) == {}


def test_is_new_tells_whether_there_was_a_session(redis):
    store = sessions(redis)
    with store.open() as session:
        assert session.is_new
        session["a"] = 1
        session.save()
        assert session.is_new
    with store.open(session.id) as known:
        assert not known.is_new
        known["b"] = 1
        known.save()
        assert not known.is_new
        known.regenerate_id()
        known.save()
        assert not known.is_new
        known.destroy()
        assert known.is_new


def test_created_is_on_the_servers_clock(redis):
    def now():
        whole, micro = redis.time()
        return whole + micro // 1000 / 1000

    store = sessions(redis)
    before = now()
    session_id = stored(store, a=1)
    after = now()
    with store.open(session_id) as session:
        created = session.created
        assert before <= created <= after
        session["a"] = 2
        session.regenerate_id()
        session.save()
        assert session.created == created
    with store.open(session.id) as session:
        assert session.created == created


def test_a_new_session_knows_when_it_was_created_once_it_is_saved(redis):
    store = sessions(redis)
    with store.open() as session:
        assert session.created > 0
        session["a"] = 1
        session.save()
        created = session.created
    with store.open(session.id) as session:
        assert session.created == created


@pytest.mark.parametrize("write", WRITES, ids=WRITE_NAMES)
def test_modified_tells_of_what_is_not_committed(redis, write):
    store = sessions(redis)
    with store.open(stored(store, a=[1])) as session:
        assert session["a"] == [1]
        assert not session.modified
        write(session)
        assert session.modified
        session.save()
        assert not session.modified


# -- regenerate_id -------------------------------------------------------------------


def test_regenerate_id_keeps_the_fields_and_kills_the_old_id(backend):
    store = sessions(backend.client)
    session_id = stored(store, a=1, b=[2])
    key = key_of(backend.client)
    with store.open(session_id) as session:
        session["c"] = 3
        session.regenerate_id()
        announced = session.id
        assert announced != session_id
        assert fields_of(store, session_id) == {"a": 1, "b": [2]}
    assert session.id == announced
    assert fields_of(store, announced) == {"a": 1, "b": [2], "c": 3}
    assert fields_of(store, session_id) == {}
    (moved_key,) = set(backend.client.keys("*")) - {key}
    assert backend.client.get(key) == b"moved 0 " + moved_key
    assert 0 < backend.client.pttl(key) <= 5000
    assert backend.client.dbsize() == 2


def test_regenerate_id_gives_a_new_session_another_id(redis):
    store = sessions(redis)
    with store.open() as session:
        before = session.id
        session.regenerate_id()
        assert session.id != before
        session["a"] = 1
    assert fields_of(store, session.id) == {"a": 1}
    assert fields_of(store, before) == {}
    assert redis.dbsize() == 1


@pytest.mark.parametrize("is_blind", [True, False])
def test_of_two_who_regenerate_at_once_one_wins(redis, caplog, is_blind):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as slow:
        slow.regenerate_id()
        slow["slow"] = 1
        if not is_blind:
            slow.get("a")
        with store.open(session_id) as fast:
            fast.regenerate_id()
            fast["fast"] = 1
        lost = slow._life._next_id
    assert dropped(caplog) == is_blind
    kept = {} if is_blind else {"slow": 1}
    assert fields_of(store, fast.id) == {"a": 1, "fast": 1, **kept}
    assert fields_of(store, session_id) == fields_of(store, lost) == {}
    assert slow._life.stored_id is None
    assert sorted(map(redis.type, redis.keys("*"))) == [b"hash", b"string"]


@pytest.mark.parametrize("tombstone", ["stands", "ended"])
def test_a_slow_request_never_revives_the_old_id(redis, caplog, tombstone):
    store = sessions(redis)
    session_id = stored(store, a=[1])
    key = key_of(redis)
    with store.open(session_id) as slow:
        slow["a"].append(2)
        moved_id = rotated(store, session_id)
        if tombstone == "ended":
            redis.delete(key)
    follows = tombstone == "stands"
    assert dropped(caplog) == (not follows)
    assert redis.type(key) == (b"string" if follows else b"none")
    assert fields_of(store, session_id) == {}
    assert fields_of(store, moved_id) == {"a": [1, 2] if follows else [1]}


def test_a_session_regenerates_its_id_again_and_again(redis):
    store = sessions(redis)
    seen = [stored(store, n=0)]
    for _ in range(3):
        with store.open(seen[-1]) as session:
            session.incr("n")
            session.regenerate_id()
            session.regenerate_id()
            session.save()
            session.regenerate_id()
        seen.append(session.id)
    assert len(set(seen)) == 4
    assert fields_of(store, seen[-1]) == {"n": 3}
    assert all(fields_of(store, dead) == {} for dead in seen[:-1])


def test_regenerate_id_works_in_a_cluster(cluster):
    store = SessionStore.from_config(url=cluster.url)
    ids = [stored(store, a=n) for n in range(5)]
    moved = [rotated(store, session_id) for session_id in ids]
    assert [fields_of(store, i) for i in moved] == [{"a": n} for n in range(5)]
    assert all(fields_of(store, i) == {} for i in ids)


# -- refusals ------------------------------------------------------------------------


class Opaque:
    def __repr__(self):
        return canary()


def canary():
    return "hunter" + str(2)


@pytest.mark.parametrize("value", [Opaque(), [1, {"a": Opaque()}], {1: {Opaque()}}])
def test_what_cannot_be_encoded_is_refused_and_nothing_is_written(backend, value):
    store = sessions(backend.client)
    session_id = stored(store, a=1)
    record = backend.client.hgetall(key_of(backend.client))
    with (
        pytest.raises(EncodeError, match=r"'bad'.*Opaque"),
        store.open(session_id) as s,
    ):
        s["a"] = 2
        s["bad"] = value
    assert backend.client.hgetall(key_of(backend.client)) == record
    with pytest.raises(EncodeError), store.open() as s:
        s["bad"] = value
    assert backend.client.dbsize() == 1


def test_what_cannot_be_encoded_can_be_taken_back(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        session["bad"] = Opaque()
        with contextlib.suppress(EncodeError):
            session.get("a")
        with pytest.raises(EncodeError):
            session.save()
        del session["bad"]
        assert dict(session) == {"a": 1}
        session["b"] = 2
    assert fields_of(store, session_id) == {"a": 1, "b": 2}


@pytest.mark.parametrize("by", [True, "1", None, float("nan"), float("inf"), 1 + 0j])
def test_only_finite_numbers_are_added(redis, by):
    store = sessions(redis)
    with (
        store.open(stored(store, n=1)) as session,
        pytest.raises(EncodeError, match="n"),
    ):
        session.incr("n", by)


@pytest.mark.parametrize("value", ["1", True, None, [1], float("inf")])
def test_only_a_number_is_added_to(redis, value):
    store = sessions(redis)
    session_id = stored(store, n=value)
    with store.open(session_id) as session:
        session.get("n")
        with pytest.raises(EncodeError, match="'n'"):
            session.incr("n")
    with pytest.raises(EncodeError, match="'n'"), store.open(session_id) as session:
        session["other"] = 1
        session.incr("n")
    assert repr(fields_of(store, session_id)) == repr({"n": value})


def test_a_session_that_would_be_too_large_is_refused_unwritten(backend):
    store = sessions(backend.client, max_size=1000)
    session_id = stored(store, a="x" * 900)
    record = backend.client.hgetall(key_of(backend.client))
    with (
        pytest.raises(SessionTooLarge, match="1000"),
        store.open(session_id) as session,
    ):
        session["b"] = "x" * 200
    with pytest.raises(SessionTooLarge), store.open(session_id) as session:
        session["a"] += "x" * 200
    assert backend.client.hgetall(key_of(backend.client)) == record
    with pytest.raises(SessionTooLarge), store.open() as session:
        session["a"] = "x" * 1100
    assert backend.client.dbsize() == 1
    with store.open(session_id) as session:
        del session["a"]
        session["b"] = "x" * 900
    assert fields_of(store, session_id) == {"b": "x" * 900}


def test_a_new_session_may_have_the_largest_size_and_no_more(redis):
    size = size_of({"a": b'"%b"' % (b"x" * 600)})
    store = sessions(redis, max_size=size)
    session_id = stored(store, a="x" * 600)
    with pytest.raises(SessionTooLarge), store.open() as session:
        session["a"] = "x" * 601
    assert fields_of(store, session_id) == {"a": "x" * 600}
    assert redis.dbsize() == 1


def test_a_session_that_is_too_large_already_may_shrink(redis):
    session_id = stored(sessions(redis), a="x" * 900, b="x" * 900)
    store = sessions(redis, max_size="500")
    with store.open(session_id) as session:
        del session["a"]
    assert fields_of(store, session_id) == {"b": "x" * 900}


FROZEN = {
    "set": lambda s: s.__setitem__("a", 2),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "clear": lambda s: s.clear(),
    "update": lambda s: s.update(b=1),
    "setdefault": lambda s: s.setdefault("b", 1),
    "incr": lambda s: s.incr("n"),
    "destroy": lambda s: s.destroy(),
    "invalidate": lambda s: s.invalidate(),
    "delete": lambda s: s.delete(),
    "regenerate_id": lambda s: s.regenerate_id(),
    "save": lambda s: s.save(),
    "changed": lambda s: s.changed(),
    "set_ttl": lambda s: s.set_ttl(5),
    "lock": lambda s: s.lock().__enter__(),
}


@pytest.mark.parametrize("touch", [True, False], ids=["loaded", "untouched"])
@pytest.mark.parametrize("verb", FROZEN)
def test_after_the_block_a_write_raises(redis, verb, touch):
    store = sessions(redis)
    session_id = stored(store, a=1)
    record = redis.hgetall(key_of(redis))
    with store.open(session_id) as session:
        if touch:
            session.get("a")
    with pytest.raises(SessionFrozen):
        FROZEN[verb](session)
    assert redis.hgetall(key_of(redis)) == record
    assert dict(session) == {"a": 1}


@pytest.mark.parametrize("lock", ["none", "single"])
def test_after_the_block_the_session_can_be_read(redis, lock):
    store = sessions(redis, lock=lock)
    session_id = stored(store, a=1)
    with store.open(session_id) as untouched:
        pass
    with store.open(session_id) as session:
        session["b"] = [2]
    for one in (session, untouched):
        assert dict(one) == {"a": 1, "b": [2]}
        assert one.get("c") is None
        assert one.id == session_id
        assert not one.is_new
        one.reload()
        assert one["a"] == 1
        assert redis.keys("lock:*") == []


# -- locks ---------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["request", "commit"])
@pytest.mark.parametrize("failure", ["encode", "large", "app", "gone"])
def test_the_lock_is_released_when_the_request_fails(redis, scope, failure):
    store = sessions(
        redis, lock="single", lock_scope=scope, max_size=1000, on_gone="raise"
    )
    session_id = stored(store, a=1)
    raised = {
        "encode": EncodeError,
        "large": SessionTooLarge,
        "app": AppError,
        "gone": SessionGone,
    }
    with pytest.raises(raised[failure]), store.open(session_id) as session:
        assert session["a"] == 1
        assert bool(redis.keys("lock:*")) is (scope == "request")
        session["b"] = {"encode": Opaque(), "large": "x" * 2000}.get(failure, 1)
        if failure == "gone":
            store.destroy(session_id)
        if failure == "app":
            raise AppError
    assert redis.keys("lock:*") == []


@pytest.mark.parametrize(
    "act", ["read", "write", "incr", "destroy", "rotate", "unknown"]
)
def test_the_lock_is_released_at_the_end_of_the_block(redis, act):
    store = sessions(redis, lock="single")
    session_id = new_id() if act == "none" else stored(store, n=1)
    with store.open(session_id) as session:
        session.get("n")
        {
            "write": lambda: session.update(a=1),
            "incr": lambda: session.incr("n"),
            "destroy": session.destroy,
            "rotate": session.regenerate_id,
        }.get(act, lambda: None)()
    assert redis.keys("lock:*") == []


def test_a_session_is_locked_from_its_first_touch_to_its_commit(redis):
    store = sessions(redis, lock="single", lock_wait="20ms")
    session_id = stored(store, n=1)
    with store.open(session_id) as holder:
        assert redis.keys("lock:*") == []
        holder["n"] += 1
        with pytest.raises(LockTimeout), store.open(session_id) as waiter:
            waiter.get("n")
        holder["n"] += 1
    assert fields_of(store, session_id) == {"n": 3}


@pytest.fixture(params=["none", "single-manual", "single-request", "single-commit"])
def locking(request, redis):
    """A store of each way to lock."""
    lock, _, scope = request.param.partition("-")
    return sessions(redis, lock=lock, lock_scope=scope or "manual", lock_wait="20ms")


def test_a_lock_block_is_committed_at_its_end(locking, redis):
    session_id = stored(locking, n=1)
    with locking.open(session_id) as session:
        with session.lock() as same:
            assert same is session
            session["n"] += 1
        assert not session.modified
        assert fields_of(sessions(redis), session_id) == {"n": 2}
        session["n"] += 1
    assert fields_of(locking, session_id) == {"n": 3}
    assert redis.keys("lock:*") == []


def test_an_exception_drops_what_the_lock_block_changed(locking, redis):
    session_id = stored(locking, a=[1])
    with locking.open(session_id) as session:
        with pytest.raises(AppError), session.lock():
            session["a"].append(2)
            session["b"] = 1
            raise AppError
        assert dict(session) == {"a": [1]}
        session["c"] = 1
    assert fields_of(locking, session_id) == {"a": [1], "c": 1}
    assert redis.keys("lock:*") == []


def test_a_lock_block_commits_what_was_pending_and_sees_what_others_did(redis):
    for lock in ("none", "single"):
        store = sessions(redis, lock=lock, lock_scope="manual")
        session_id = stored(store, n=1)
        with store.open(session_id) as session:
            assert session["n"] == 1
            session["mine"] = 1
            with store.open(session_id) as other:
                other["n"] = 5
            with session.lock():
                assert fields_of(sessions(redis), session_id) == {"n": 5, "mine": 1}
                assert dict(session) == {"n": 5, "mine": 1}
                session["n"] += 1
        assert fields_of(store, session_id) == {"n": 6, "mine": 1}


def test_a_lock_block_has_the_session_alone(redis):
    store = sessions(redis, lock="single", lock_scope="manual", lock_wait="20ms")
    session_id = stored(store, n=1)
    with store.open(session_id) as session, session.lock():
        assert len(redis.keys("lock:*")) == 1
        with (
            store.open(session_id) as other,
            pytest.raises(LockTimeout),
            other.lock(),
        ):
            pytest.fail("two have the lock")
    with store.open(session_id) as other, other.lock():
        other["n"] += 1
    assert fields_of(store, session_id) == {"n": 2}


@pytest.mark.parametrize("act", ["read", "write", "fail", "destroy"])
def test_a_lock_block_gives_the_lock_back_at_its_end(redis, act):
    store = sessions(redis, lock="single", lock_scope="manual")
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        with contextlib.suppress(AppError), session.lock():
            assert len(redis.keys("lock:*")) == 1
            if act == "write":
                session["n"] += 1
            elif act == "fail":
                raise AppError
            elif act == "destroy":
                session.destroy()
        assert redis.keys("lock:*") == []


def test_lock_blocks_may_stand_in_one_another(locking, redis):
    session_id = stored(locking, n=1)
    with locking.open(session_id) as session, session.lock():
        locks = redis.keys("lock:*")
        session["n"] += 1
        with session.lock():
            session["n"] += 1
        assert redis.keys("lock:*") == locks
        session["n"] += 1
    assert fields_of(locking, session_id) == {"n": 4}
    assert redis.keys("lock:*") == []


def test_a_lock_block_of_a_new_session_creates_it(locking, redis):
    with locking.open() as session:
        with session.lock():
            session["a"] = 1
        assert fields_of(sessions(redis), session.id) == {"a": 1}
    assert redis.keys("lock:*") == []


@pytest.mark.parametrize("lock", ["none", "single"])
def test_who_comes_in_between_a_lock_block_is_not_overwritten(redis, lock):
    session_id = stored(sessions(redis), n=1)
    store = sessions(redis, lock=lock, lock_scope="manual")
    with store.open(session_id) as session:
        with pytest.raises(LockLost), session.lock():
            session["n"] += 1
            with sessions(redis).open(session_id) as other:
                other["m"] = 5
        session.reload()
        assert dict(session) == {"n": 1, "m": 5}
    assert fields_of(store, session_id) == {"n": 1, "m": 5}
    assert redis.keys("lock:*") == []


def test_what_was_read_before_a_lock_block_is_fresh_in_it_and_held_after_it(
    locking, redis
):
    session_id = stored(locking, cart=[1], tags={"a"}, deep={"x": {"y": 1}}, same=[1])
    with locking.open(session_id) as session:
        cart, deep = session["cart"], session["deep"]
        if not redis.keys("lock:*"):
            with sessions(redis).open(session_id) as other:
                other["cart"].append(2)
                other["deep"]["x"]["z"] = 2
        with session.lock():
            assert session["cart"] is cart
            tags, same, inner = session["tags"], session["same"], deep["x"]
            cart.append(3)
            same.append(2)
        tags.add("b")
        inner["w"] = 3
    now = fields_of(locking, session_id)
    assert now["cart"] in ([1, 2, 3], [1, 3])
    assert (now["tags"], now["same"]) == ({"a", "b"}, [1, 2])
    assert {"y": 1, "w": 3}.items() <= now["deep"]["x"].items()


def test_what_was_put_into_a_new_session_before_a_lock_block_counts_in_it(
    locking,
):
    with locking.open() as session:
        session["cart"] = cart = []
        with session.lock():
            cart.append(1)
        cart.append(2)
    assert fields_of(locking, session.id) == {"cart": [1, 2]}


def test_a_lock_block_finds_out_that_the_session_is_gone(redis, caplog):
    store = sessions(redis, lock="single", lock_scope="manual")
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        assert session["a"] == 1
        store.destroy(session_id)
        with session.lock():
            assert dict(session) == {}
            session["b"] = 1
    assert dropped(caplog) == 1
    assert redis.keys("lock:*") == []
    assert fields_of(store, session_id) == {}


def test_what_is_forgotten_need_not_be_encodable(redis):
    store = sessions(redis)
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session.forget()
        session["q"] = object()
        assert not session.modified
    assert fields_of(store, session_id) == {"n": 1}


# -- large fields ----------------------------------------------------------------------


BIG = "x" * 20_000


def leave_all_fields(monkeypatch):
    """From now on each field of each record counts as large."""
    monkeypatch.setattr("smartredis_wsgi.store._WHOLE", -1)
    monkeypatch.setattr("smartredis_wsgi.store._LARGE", -1)


def bytes_out(client, act):
    """How many bytes the server sends to others while something is done."""
    before = client.info("stats")["total_net_output_bytes"]
    own = client.info("stats")["total_net_output_bytes"] - before
    act()
    return client.info("stats")["total_net_output_bytes"] - before - 2 * own


def test_a_large_field_is_moved_only_when_it_is_read(redis):
    store = sessions(redis)
    session_id = stored(store, small=1, big="x" * 1_000_000, other=[1])

    def small():
        with store.open(session_id) as session:
            assert session["small"] == 1
            assert "big" in session
            assert len(session) == 3
            session["other"].append(2)

    def large():
        with store.open(session_id) as session:
            assert len(session["big"]) == 1_000_000
            session["big"] += "y"

    small()
    assert bytes_out(redis, small) < 5_000
    assert 1_000_000 < bytes_out(redis, large) < 1_010_000
    with store.open(session_id) as session:
        assert (session["other"], session["big"][-1]) == ([1, 2, 2], "y")


def test_a_large_field_costs_one_round_trip_and_is_kept(counted):
    store = sessions(counted)
    session_id = stored(store, small=1, big=BIG, large=BIG)
    counted.trips.reset()
    with store.open(session_id) as session:
        assert session["small"] == 1
        assert counted.trips.count == 1
        assert session["big"] == session["big"] == session.get("big") == BIG
        assert counted.trips.count == 2
        assert dict(session) == {"small": 1, "big": BIG, "large": BIG}
        assert counted.trips.count == 3
        session["big"] = "small now"
        assert session["big"] == "small now"
    assert counted.trips.count == 4
    with store.open(session_id) as session:
        counted.trips.reset()
        assert dict(session) == {"small": 1, "big": "small now", "large": BIG}
        assert counted.trips.count == 2


def test_a_small_field_beside_large_ones_is_not_left(counted):
    store = sessions(counted)
    session_id = stored(store, **{f"f{n}": "x" * 4_000 for n in range(10)}, big=BIG)
    counted.trips.reset()
    with store.open(session_id) as session:
        assert all(len(session[f"f{n}"]) == 4_000 for n in range(10))
    assert counted.trips.count == 1


def test_a_session_that_is_not_large_comes_whole(counted):
    store = sessions(counted)
    session_id = stored(store, big="x" * 16_000)
    counted.trips.reset()
    assert fields_of(store, session_id) == {"big": "x" * 16_000}
    assert counted.trips.count == 1


@pytest.mark.parametrize("left", [True, False], ids=["all left", "large"])
def test_a_large_field_is_written_deleted_and_merged_as_others_are(
    redis, monkeypatch, left
):
    if left:
        leave_all_fields(monkeypatch)
    store = sessions(redis)
    session_id = stored(store, a=[BIG], b=BIG, c=BIG, d=BIG, e={"k": BIG}, n=1)
    with store.open(session_id) as session:
        session["a"].append(1)  # merged
        assert "b" in session
        session["b"] = "new"
        del session["c"]
        assert session.pop("d") == BIG
        session["e"]["mine"] = 1
        session.incr("n")
        with store.open(session_id) as other:
            other["a"].append(2)
            other["e"]["theirs"] = 2
            other["b"] = "lost"
            other.incr("n")
    expected = {"a": [BIG, 2, 1], "b": "new", "n": 3}
    expected["e"] = {"k": BIG, "theirs": 2, "mine": 1}
    assert fields_of(store, session_id) == expected


def test_a_large_field_is_no_more_where_the_session_is_gone(redis):
    store = sessions(redis)
    session_id = stored(store, small=1, big=BIG)
    with store.open(session_id) as session:
        assert session["small"] == 1
        store.destroy(session_id)
        with pytest.raises(KeyError):
            session["big"]
        assert dict(session) == {}
    assert fields_of(store, session_id) == {}


def test_a_large_field_is_no_more_where_another_has_deleted_it(redis):
    store = sessions(redis)
    session_id = stored(store, small=1, big=BIG)
    with store.open(session_id) as session:
        assert "big" in session
        with store.open(session_id) as other:
            del other["big"]
        assert session.get("big", "none") == "none"
        assert dict(session) == {"small": 1}


def test_a_large_field_is_followed_where_the_session_was_rotated(redis):
    store = sessions(redis)
    session_id = stored(store, small=1, big=BIG)
    with store.open(session_id) as session:
        assert session["small"] == 1
        with store.open(session_id) as other:
            other.regenerate_id()
        assert session["big"] == BIG
        session["late"] = 1
    assert fields_of(store, other.id) == {"small": 1, "big": BIG, "late": 1}


def test_a_large_text_is_not_counted(redis):
    store = sessions(redis)
    session_id = stored(store, small=1, big=BIG)
    for looks in (True, False):
        with pytest.raises(EncodeError, match="'big'"), store.open(session_id) as one:
            if looks:
                assert one["small"] == 1
            one.incr("big")
    assert fields_of(store, session_id) == {"small": 1, "big": BIG}


def test_a_large_list_that_is_held_is_fresh_in_a_lock_block(redis):
    store = sessions(redis, lock="single", lock_scope="manual")
    session_id = stored(store, items=[BIG], small=1)
    with store.open(session_id) as session:
        items = session["items"]
        with store.open(session_id) as other:
            other["items"].append(1)
        with session.lock():
            assert session["items"] is items
            items.append(2)
        items.append(3)
    assert fields_of(store, session_id)["items"] == [BIG, 1, 2, 3]


@pytest.mark.parametrize("how", ["deleted", "destroyed", "corrupt"])
def test_a_large_field_that_vanishes_fails_no_loop(redis, how):
    store = sessions(redis)
    session_id = stored(store, small=1, big=BIG, large=BIG)
    with store.open(session_id) as session:
        assert session["small"] == 1
        if how == "deleted":
            with store.open(session_id) as other:
                del other["big"]
        elif how == "destroyed":
            store.destroy(session_id)
        else:
            redis.hset(key_of(redis), "big", b"\xff" * 20_000)
        left = {"small": 1, "large": BIG} if how == "deleted" else {}
        assert dict(session) == left
        assert list(session.items()) == list(left.items())


def test_a_session_of_many_small_fields_comes_whole(redis, counted):
    store = sessions(counted)
    many = {f"field {n}": n for n in range(2_000)}
    session_id = stored(store, **many)
    before = redis.info("commandstats").get("cmdstat_hstrlen", {"calls": 0})["calls"]
    counted.trips.reset()
    assert fields_of(store, session_id) == many
    assert counted.trips.count == 1
    after = redis.info("commandstats").get("cmdstat_hstrlen", {"calls": 0})["calls"]
    assert after == before


def test_a_corrupt_large_field_makes_the_session_count_as_empty(redis):
    store = sessions(redis)
    session_id = stored(store, small=1, big=BIG)
    redis.hset(key_of(redis), "big", b"\xff" * 20_000)
    with store.open(session_id) as session:
        assert session["small"] == 1
        assert session.get("big") is None
        assert dict(session) == {}


# -- commits without an answer -------------------------------------------------------


@pytest.fixture
def lossy(server):
    """A store whose client tries nothing again, and how its next reply is lost."""
    with FlakyProxy(server) as proxy, proxy.client() as client:
        yield sessions(client, conflict="raise"), proxy


def unanswered(session, proxy):
    """Save, and hear nothing of it: it is stored all the same."""
    before = proxy.dropped
    proxy.drop_next_reply()
    with pytest.raises(StoreUnavailable):
        session.save()
    assert proxy.dropped == before + 1


def test_what_was_saved_without_an_answer_is_stored_once(lossy):
    store, proxy = lossy
    session_id = stored(store, n=1, log=["a"])
    with store.open(session_id) as session:
        session.incr("n")
        session["log"].append("b")
        unanswered(session, proxy)
    assert fields_of(store, session_id) == {"n": 2, "log": ["a", "b"]}


def test_what_is_changed_after_a_save_without_an_answer_is_stored_too(lossy):
    store, proxy = lossy
    session_id = stored(store, n=1, log=["a"], old=1, flag=1, gone=1)
    with store.open(session_id) as session:
        log = session["log"]
        log.append("b")
        session.incr("n", 10)
        session["flag"], session["new"] = 2, "short-lived"
        del session["old"]
        unanswered(session, proxy)
        log.append("c")
        session.incr("n", 100)
        session["flag"], session["old"] = 3, "back"
        del session["new"]
        del session["gone"]
    expected = {"n": 111, "log": ["a", "b", "c"], "flag": 3, "old": "back"}
    assert fields_of(store, session_id) == expected


def test_a_new_session_saved_without_an_answer_is_one_session(lossy, redis):
    store, proxy = lossy
    with store.open() as session:
        session["a"], session["b"] = 1, 2
        session.incr("n")
        session.incr("m")
        unanswered(session, proxy)
        del session["b"]
        del session["m"]
        session.incr("n")
    assert fields_of(store, session.id) == {"a": 1, "n": 2}
    assert redis.dbsize() == 1


def test_a_read_after_a_save_without_an_answer_sees_it_once(lossy):
    store, proxy = lossy
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session.incr("n")
        unanswered(session, proxy)
        assert session["n"] == 2
    assert fields_of(store, session_id) == {"n": 2}


def test_a_rotation_saved_without_an_answer_is_the_one_that_counts(lossy):
    store, proxy = lossy
    old_id = stored(store, n=1)
    with store.open(old_id) as session:
        session.regenerate_id()
        unanswered(session, proxy)
        session["n"] = 2
    assert session.id != old_id
    assert fields_of(store, session.id) == {"n": 2}
    assert fields_of(store, old_id) == {}


def test_a_ttl_asked_for_after_a_save_without_an_answer_is_set(lossy, redis):
    store, proxy = lossy
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session.set_ttl(100)
        unanswered(session, proxy)
        session.set_ttl(7)
    assert redis.pttl(key_of(redis)) <= 7_000


def unsent(session, proxy):
    """Save, and reach nobody: nothing is stored."""
    proxy.black_hole()
    with pytest.raises(StoreUnavailable):
        session.save()
    proxy.restore()


@pytest.fixture
def reaching(server, monkeypatch):
    """A store that merges, by a proxy which can swallow what is sent."""
    monkeypatch.setattr(
        "smartredis_wsgi.transport.silence._MOST_TRIES", 0
    )  # none lasts
    with FlakyProxy(server) as proxy, proxy.client(socket_timeout=0.1) as client:
        yield sessions(client, timeout=60), proxy


def test_what_is_forgotten_is_forgotten_though_redis_is_away(reaching, redis):
    store, proxy = reaching
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session["n"] = 5
        proxy.black_hole()
        with pytest.raises(StoreUnavailable):
            session.save()
        session.forget()
        proxy.restore()
    assert fields_of(sessions(redis), session_id) == {"n": 1}


def test_what_was_stored_before_a_logout_does_not_come_back_in_another_session(
    lossy, redis
):
    store, proxy = lossy
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session["secret"] = "x"
        unanswered(session, proxy)
        sessions(redis).destroy(session_id)
        session["late"] = 1
    assert [redis.type(key) for key in redis.keys("session:*")] == [b"string"]


def test_a_save_without_an_answer_is_not_tried_again_when_it_would_not_be_known(
    lossy, monkeypatch
):
    monkeypatch.setattr("smartredis_wsgi.life._KNOWN_SECONDS", -1.0)
    store, proxy = lossy
    session_id = stored(store, n=1)
    with pytest.raises(StoreUnavailable), store.open(session_id) as session:
        session.incr("n")
        unanswered(session, proxy)
    assert fields_of(store, session_id) == {"n": 2}


def test_what_came_in_between_a_save_that_reached_nobody_is_merged(reaching, redis):
    store, proxy = reaching
    session_id = stored(store, log=["first"], x=1)
    with store.open(session_id) as session:
        session["log"].append("mine")
        session["x"] = 2
        unsent(session, proxy)
        session["log"].append("mine too")
        session["x"] = 1
        with sessions(redis).open(session_id) as other:
            other["log"].append("theirs")
            other["x"] = 5
    assert fields_of(store, session_id)["log"] == [
        "first",
        "theirs",
        "mine",
        "mine too",
    ]


def test_a_rotation_after_a_creation_without_an_answer_moves_what_was_created(
    lossy, redis
):
    store, proxy = lossy
    with store.open() as session:
        session["cart"] = 1
        unanswered(session, proxy)
        session.regenerate_id()
    assert fields_of(store, session.id) == {"cart": 1}
    assert len(redis.keys("session:*")) <= 2
    kinds = sorted(redis.type(key) for key in redis.keys("session:*"))
    assert kinds in ([b"hash"], [b"hash", b"string"])


@pytest.mark.parametrize("verb", ["reload", "forget"])
def test_the_id_of_a_rotation_without_an_answer_is_not_thrown_away(lossy, verb):
    store, proxy = lossy
    old_id = stored(store, n=1)
    with store.open(old_id) as session:
        assert session["n"] == 1
        session.regenerate_id()
        unanswered(session, proxy)
        getattr(session, verb)()
        assert session["n"] == 1
    assert session.id != old_id
    assert fields_of(store, session.id) == {"n": 1}


def test_a_corrupt_field_after_a_save_without_an_answer_makes_a_new_session(
    lossy, redis
):
    store, proxy = lossy
    session_id = stored(store, n=1, bad="x")
    with store.open(session_id) as session:
        assert session["n"] == 1
        redis.hset(key_of(redis), "bad", b"\xff")
        session.reload()
        session["n"] = 2
        unanswered(session, proxy)
        assert session.get("bad") is None
        session["late"] = 1
    assert session.id != session_id
    assert fields_of(store, session.id)["late"] == 1


def test_a_save_that_reached_nobody_makes_no_session_of_one_that_is_gone(
    reaching, redis
):
    store, proxy = reaching
    session_id = stored(store, small=1, big=BIG)
    with store.open(session_id) as session:
        session["small"] = 2 * session["small"]
        unsent(session, proxy)
        sessions(redis).destroy(session_id)
        assert session.get("big") is None
        session["late"] = 1
    assert [redis.type(key) for key in redis.keys("session:*")] == [b"string"]


def test_a_change_of_what_was_saved_before_a_load_is_merged(redis):
    store = sessions(redis)
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session["d"] = held = {"a": 1}
        session.save()
        with store.open(session_id) as other:
            other["d"]["theirs"] = 1
        held["b"] = 2
        assert session["n"] == 1
    assert fields_of(store, session_id)["d"] == {"a": 1, "b": 2, "theirs": 1}


def test_conflicts_of_many_saves_do_not_add_up(redis):
    store = sessions(redis)
    session_id = stored(store, log=[])
    with store.open(session_id) as session:
        for turn in range(70):
            with store.open(session_id) as other:
                other["log"].append(-turn)
            session["log"].append(turn)
            session.save()
    assert len(fields_of(store, session_id)["log"]) == 140


def test_what_was_saved_without_an_answer_can_be_dropped(lossy):
    store, proxy = lossy
    session_id = stored(store, n=1)
    with store.open(session_id) as session:
        session.incr("n")
        unanswered(session, proxy)
        session.destroy()
        session["m"] = 1
    assert fields_of(store, session_id) == {}
    assert fields_of(store, session.id) == {"m": 1}


# -- lifetimes -----------------------------------------------------------------------


def test_a_server_that_takes_no_writes_can_be_read_though_it_does_not_prolong(
    server, redis
):
    store = sessions(redis, ttl=100, touch_every=0)
    session_id = stored(store, a=1)
    redis.pexpire(key_of(redis), 50_000)
    redis.execute_command("REPLICAOF", "127.0.0.1", server.port)
    try:
        assert fields_of(store, session_id) == {"a": 1}
        assert redis.pttl(key_of(redis)) <= 50_000
    finally:
        redis.execute_command("REPLICAOF", "NO", "ONE")


def test_a_server_that_takes_no_writes_still_tells_who_is_too_old(server, redis):
    session_id = stored(sessions(redis), a=1)
    set_meta(redis, key_of(redis), created=1)
    strict = sessions(redis, max_lifetime=60)
    redis.execute_command("REPLICAOF", "127.0.0.1", server.port)
    try:
        assert fields_of(strict, session_id) == {}
    finally:
        redis.execute_command("REPLICAOF", "NO", "ONE")


def test_use_prolongs_a_session_reads_included(backend):
    client = backend.client
    store = sessions(client, ttl=100, touch_every=10)
    session_id = stored(store, a=1)
    key = key_of(client)
    assert 90_000 < client.pttl(key) <= 100_000
    client.pexpire(key, 50_000)
    assert fields_of(store, session_id) == {"a": 1}
    assert 90_000 < client.pttl(key) <= 100_000
    client.pexpire(key, 95_000)
    assert fields_of(store, session_id) == {"a": 1}
    assert client.pttl(key) <= 95_000
    with store.open(session_id) as session:
        session["a"] = 2
    assert client.pttl(key) > 95_000


@pytest.mark.parametrize(
    ("given", "ms"), [(50, 50_000), ("30m", 1_800_000), (0.5, 500)]
)
def test_set_ttl_gives_the_session_an_idle_timeout_of_its_own(backend, given, ms):
    client = backend.client
    store = sessions(client, ttl=100)
    with store.open() as session:
        session["a"] = 1
        session.set_ttl(given)
    key = key_of(client)
    assert ms * 0.2 < client.pttl(key) <= ms
    other_id = stored(store, a=1)
    (other,) = set(client.keys("*")) - {key}
    with store.open(other_id) as session:
        session.set_ttl(given)
    assert ms * 0.2 < client.pttl(other) <= ms


def test_the_ttl_of_its_own_stays_with_the_session(redis):
    store = sessions(redis, ttl=100)
    with store.open() as session:
        session["a"] = 1
        session.set_ttl("30m")
    key = key_of(redis)
    redis.pexpire(key, 1000)
    assert fields_of(store, session.id) == {"a": 1}
    assert redis.pttl(key) > 1_700_000
    redis.pexpire(key, 1000)
    with store.open(session.id) as session:
        session["a"] = 2
    assert redis.pttl(key) > 1_700_000
    redis.delete(key)
    with store.open(stored(store, a=1)) as session:
        session.set_ttl("30m")
        session.regenerate_id()
    with store.open(session.id) as session:
        session["a"] = 2
    assert max(map(redis.pttl, redis.keys("*"))) > 1_700_000


@pytest.mark.parametrize(
    "ttl",
    [
        0,
        -1,
        "0",
        "",
        "soon",
        "5 weeks",
        None,
        True,
        float("nan"),
        float("inf"),
        [],
        b"5",
    ],
)
def test_a_ttl_that_is_no_duration_is_refused(redis, ttl):
    store = sessions(redis)
    session_id = stored(store, a=1)
    with store.open(session_id) as session:
        with pytest.raises(ValueError, match="duration"):
            session.set_ttl(ttl)
        assert not session.modified


def test_no_use_outlives_the_max_lifetime(backend):
    client = backend.client
    store = sessions(client, ttl=60, max_lifetime=50)
    with store.open() as session:
        session["a"] = 1
    key = key_of(client)
    assert client.pttl(key) <= 50_000
    client.pexpire(key, 1000)
    assert fields_of(store, session.id) == {"a": 1}
    assert 1000 < client.pttl(key) <= 50_000
    with store.open(session.id) as session:
        session["a"] = 2
        session.set_ttl("1h")
    assert client.pttl(key) <= 50_000
    with store.open(session.id) as session:
        session.regenerate_id()
    assert max(client.pttl(k) for k in client.keys("*")) <= 50_000


def test_a_session_in_use_lives_to_its_max_lifetime(redis):
    store = sessions(redis, ttl=100, max_lifetime=150)
    session_id = stored(store, a=1)
    key = key_of(redis)
    # It was read last at 45 s, which gave it 100 s more, and is read at 144 s again.
    set_meta(redis, key, created=int(meta_of(redis, key)["created"]) - 144_000)
    redis.pexpire(key, 1000)
    assert fields_of(store, session_id) == {"a": 1}
    assert 1000 < redis.pttl(key) <= 6000


@pytest.mark.parametrize("is_blind", [True, False])
def test_a_session_older_than_the_max_lifetime_is_gone(redis, is_blind):
    patient = sessions(redis)
    session_id = stored(patient, a=1)
    strict = sessions(redis, max_lifetime="1ms")
    whole, micro = redis.time()

    def is_later():
        later_whole, later_micro = redis.time()
        return (later_whole - whole) * 1000 + (later_micro - micro) / 1000 > 2

    wait_until(is_later, 5, "the server's clock goes on")
    with strict.open(session_id) as session:
        if not is_blind:
            assert dict(session) == {}
            assert session.is_new
        session.set_ttl(5)
    assert fields_of(patient, session_id) == {}


# -- corrupt records -----------------------------------------------------------------


READS = {
    "get": lambda s: s.get("bad"),
    "iter": lambda s: list(s),
    "dict": lambda s: dict(s),
    "items": lambda s: list(s.items()),
    "values": lambda s: list(s.values()),
    "eq": lambda s: s == {},
    "pop": lambda s: s.pop("bad", None),
    "incr": lambda s: (s.get("good"), s.incr("bad")),
    "setdefault": lambda s: s.setdefault("bad", 1),
}
JUNK = {"json": b"\xff{", "msgpack": b"\xc1\xc1", "pickle": b"\xc1junk"}


@pytest.mark.parametrize("codec", JUNK)
@pytest.mark.parametrize("read", READS)
def test_a_field_that_cannot_be_decoded_makes_an_empty_session(
    redis, caplog, codec, read
):
    store = sessions(redis, codec=codec)
    session_id = stored(store, good=1, bad=2)
    key = key_of(redis)
    redis.hset(key, "bad", JUNK[codec])
    record = redis.hgetall(key)
    with store.open(session_id) as session:
        READS[read](session)
        assert dict(session).keys() <= {"bad"}
        assert len(session) == len(dict(session))
        session["after"] = 1
    assert sum("can't be decoded" in r.getMessage() for r in caplog.records) == 1
    assert redis.hgetall(key) == record
    assert session.id != session_id
    assert session.is_new
    assert fields_of(store, session.id)["after"] == 1


def test_what_was_written_before_a_field_proved_corrupt_goes_to_a_new_session(redis):
    store = sessions(redis)
    session_id = stored(store, good=[1], bad=2, n=1)
    redis.hset(key_of(redis), "bad", b"junk")
    with store.open(session_id) as session:
        session["written"] = 1
        session.incr("m")
        assert session.get("good") == [1]
        assert session.get("bad") is None
    assert fields_of(store, session.id) == {"written": 1, "m": 1}


def test_reading_a_corrupt_session_creates_no_key(backend):
    store = sessions(backend.client)
    session_id = stored(store, bad=2)
    key = key_of(backend.client)
    backend.client.hset(key, "bad", b"\xff\xfe")
    for _ in range(2):
        assert fields_of(store, session_id) == {}
    assert backend.client.keys("*") == [key]
    with store.open(session_id) as session:
        session["bad"] = "healed"
    assert fields_of(store, session_id) == {"bad": "healed"}


@pytest.mark.parametrize(
    ("codec", "deep"),
    [
        ("json", b"[" * 65 + b"1" + b"]" * 65),
        ("msgpack", b"\xc1" + b"\x91" * 65 + b"\x01"),
    ],
)
def test_a_value_too_deep_to_be_written_is_read_and_left(redis, codec, deep):
    store = sessions(redis, codec=codec)
    session_id = stored(store, planted=1)
    redis.hset(key_of(redis), "planted", deep)
    with store.open(session_id) as session:
        held = session["planted"]
        session["n"] = 1
    assert redis.hget(key_of(redis), "planted") == deep
    with (
        pytest.raises(EncodeError, match="'planted'"),
        store.open(session_id) as session,
    ):
        session["planted"].append(1)
    with pytest.raises(EncodeError, match="'copy'"), store.open(session_id) as session:
        session["copy"] = held


def test_a_page_that_only_counts_survives_corrupt_bytes(redis):
    store = sessions(redis)
    session_id = stored(store, n=2)
    redis.hset(key_of(redis), "n", b"\xffjunk")
    with store.open(session_id) as session:
        session.incr("n")
    assert session.id != session_id
    assert fields_of(store, session.id) == {"n": 1}


def test_a_name_that_is_no_text_makes_an_empty_session_and_stays(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    redis.hset(key_of(redis), b"\xfe", "x")
    assert fields_of(store, session_id) == {}
    assert redis.hget(key_of(redis), b"\xfe") == b"x"


def test_tombstones_that_lead_in_a_circle_end_a_request(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    key = key_of(redis)
    redis.set(key, b"moved 9999999999999 " + key, px=60_000)
    for act in (dict, lambda s: s.destroy(), lambda s: s.incr("n")):
        with pytest.raises(StoreUnavailable), store.open(session_id) as session:
            act(session)


def test_a_tombstone_that_leads_to_no_text_is_one(redis):
    store = sessions(redis)
    session_id = stored(store, a=1)
    redis.set(key_of(redis), b"moved 0 \xff\xfe", px=60_000)
    assert fields_of(store, session_id) == {}
    with store.open(session_id) as session:
        session["b"] = 1
    assert redis.get(key_of(redis)) == b"moved 0 \xff\xfe"


FOREIGN = {
    "string": lambda r, k: r.set(k, "someone's"),
    "list": lambda r, k: r.rpush(k, "someone's"),
    "hash": lambda r, k: r.hset(k, "name", "someone's"),
    "set": lambda r, k: r.sadd(k, "someone's"),
    "zset": lambda r, k: r.zadd(k, {"someone's": 1}),
    "stream": lambda r, k: r.xadd(k, {"someone's": 1}),
    "name": lambda r, k: r.hset(k, b"\xff\xff", "y"),
    "no ttl": lambda r, k: r.hset(k, META, "incarnation 1 1 - 1 0 1 1 ABCDEFGH"),
}


@pytest.mark.parametrize("is_blind", [True, False], ids=["blind", "read"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_an_empty_session_and_left_as_it_is(
    redis, caplog, kind, is_blind
):
    store = sessions(redis)
    session_id = stored(store, a=1)
    key = key_of(redis)
    redis.delete(key)
    FOREIGN[kind](redis, key)
    redis.expire(key, 600)
    planted = redis.dump(key)
    with store.open(session_id) as session:
        if not is_blind:
            assert dict(session) == {}
            assert len(caplog.records) == 1
        session["b"] = 2
    assert session.id != session_id
    assert fields_of(store, session.id) == {"b": 2}
    assert redis.dump(key) == planted


@pytest.mark.parametrize("kind", sorted(FOREIGN.keys() - {"name"}))
def test_what_is_not_ours_is_not_destroyed(redis, kind):
    store = sessions(redis)
    session_id = stored(store, a=1)
    key = key_of(redis)
    redis.delete(key)
    FOREIGN[kind](redis, key)
    redis.expire(key, 600)
    planted = redis.dump(key)
    assert store.destroy(session_id) is False
    with store.open(session_id) as session:
        session.destroy()
    assert redis.dump(key) == planted


executed = []


def execute(word):
    executed.append(word)


class Bomb:
    def __reduce__(self):
        return execute, ("boom",)


@pytest.mark.parametrize("mark", [b"", b"\xc1"])
@pytest.mark.parametrize("codec", ["json", "msgpack", "upper"])
def test_a_planted_pickle_is_not_executed(redis, caplog, codec, mark):
    executed.clear()
    payload = pickle.dumps(Bomb())
    pickle.loads(payload)
    assert executed.pop() == "boom"
    store = sessions(redis, codec=Upper() if codec == "upper" else codec)
    session_id = stored(store, a="text")
    redis.hset(key_of(redis), "a", mark + payload)
    assert fields_of(store, session_id) == {}
    assert executed == []
    assert "can't be decoded" in caplog.text


# -- codecs --------------------------------------------------------------------------


class Upper:
    """A user's codec that knows only text."""

    def encode(self, value):
        return value.upper().encode()

    def decode(self, raw):
        return raw.decode()


CODECS = {
    "json": ({"a": [1, (2, None)], "b": b"\xff"}, {"a": [1, (2, None)], "b": b"\xff"}),
    "msgpack": ({"a": [1, (2,)], "b": b"\xff"}, {"a": [1, (2,)], "b": b"\xff"}),
    "pickle": ([ORDERS, 1 + 2j, AppError], [ORDERS, 1 + 2j, AppError]),
    "upper": ("text", "TEXT"),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_serves_and_counts(backend, name):
    store = sessions(backend.client, codec=Upper() if name == "upper" else name)
    value, expected = CODECS[name]
    session_id = stored(store, value=value, n=1, x=0.5, big=10**17)
    with store.open(session_id) as session:
        session.incr("n", -3)
        session.incr("x")
        session.incr("big")
        session.incr("new", 2)
    expected = {"value": expected, "n": -2, "x": 1.5, "big": 10**17 + 1, "new": 2}
    assert fields_of(store, session_id) == expected
    with store.open(session_id) as session:
        session["n"] += 1
        assert session["x"] == 1.5
    assert fields_of(store, session_id) == expected | {"n": -1}


@pytest.mark.parametrize("name", ["json", "msgpack", "pickle"])
def test_every_codec_notices_a_nested_change_and_no_other(counted, name):
    store = sessions(counted, codec=name)
    session_id = stored(store, a={"b": [1]}, c={"d": 1.0})
    counted.trips.reset()
    with store.open(session_id) as session:
        assert dict(session) == {"a": {"b": [1]}, "c": {"d": 1.0}}
    assert counted.trips.count == 1
    with store.open(session_id) as session:
        session["a"]["b"].append(2)
    assert fields_of(store, session_id) == {"a": {"b": [1, 2]}, "c": {"d": 1.0}}


# -- silence -------------------------------------------------------------------------


def test_no_repr_error_or_log_line_holds_an_id_or_a_value(redis, caplog):
    caplog.set_level("DEBUG")
    store = sessions(redis, max_size=1000)
    texts, secrets_seen = [], set()

    def attempt(act, store=store, session_id=None):
        if session_id is None:
            redis.flushall()
            session_id = stored(sessions(redis), a=canary(), n="x")
        secrets_seen.add(session_id)
        try:
            with store.open(session_id) as session:
                texts.append(repr(session))
                act(session)
                texts.append(repr(session))
        except SmartRedisError as error:
            texts.append("".join(traceback.format_exception(error)))
        secrets_seen.add(session.id if store is not dead else session_id)

    dead = sessions(DeadRedis())
    raising = sessions(redis, on_gone="raise")
    waiting = sessions(redis, lock="single", lock_wait="10ms")
    attempt(lambda s: s.update(bad=Opaque()))
    attempt(lambda s: s.update(big=canary() * 1000))
    attempt(lambda s: s.incr("n"))
    attempt(lambda s: s.incr("n", canary()))
    attempt(lambda s: (s.get("a"), redis.flushall(), s.update(b=canary())))
    attempt(lambda s: (s.get("a"), redis.flushall(), s.update(b=canary())), raising)
    attempt(lambda s: s.get("a"), dead)
    attempt(lambda s: s.update(b=canary()), dead)
    attempt(lambda s: redis.hset(key_of(redis), "a", canary()) and s.get("a"))
    attempt(lambda s: (s.destroy(), s.update(b=canary())))
    attempt(lambda s: (s.regenerate_id(), s.get("a")))
    redis.flushall()
    session_id = stored(waiting, a=canary())
    with waiting.open(session_id) as holder:
        holder["a"] += "!"
        attempt(lambda s: s.get("a"), waiting, session_id)
    with store.open(session_id) as session:
        pass
    with pytest.raises(SessionFrozen) as refused:
        session["a"] = canary()
    texts.append(str(refused.value))
    raised = (EncodeError, SessionTooLarge, SessionGone, StoreUnavailable, LockTimeout)
    everything = "\n".join([*texts, caplog.text])
    for kind in raised:
        assert kind.__name__ in everything
    assert canary() not in everything
    for seen in secrets_seen:
        assert seen not in everything
        assert seen[16:] not in everything
        assert seen[:16] not in everything


def test_redis_is_never_told_an_id(counted):
    store = sessions(counted, lock="single")
    seen = [stored(store, a=1)]
    with store.open(seen[0]) as session:
        session["a"] += 1
        session.regenerate_id()
    seen.append(session.id)
    with store.open(seen[1]) as session:
        session.destroy()
    sent = b"\n".join(str(command).encode() for command in counted.trips.commands)
    assert counted.trips.count >= 4
    for session_id in seen:
        for part in (session_id, session_id[:16], session_id[16:]):
            assert part.encode() not in sent


def test_a_dead_redis_is_an_error_at_the_touch_or_at_the_commit():
    store = sessions(DeadRedis())
    with store.open(new_id()):
        pass
    with store.open(new_id()) as session, pytest.raises(StoreUnavailable):
        session.get("a")
    with pytest.raises(StoreUnavailable), store.open(new_id()) as session:
        session["a"] = 1
    with pytest.raises(StoreUnavailable), store.open() as session:
        session["a"] = 1
