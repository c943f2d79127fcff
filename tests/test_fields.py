"""What changed since the fields were loaded. No server here."""

import copy
import enum
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartredis_wsgi.codec import codec_for
from smartredis_wsgi.errors import EncodeError
from smartredis_wsgi.fields import Changes, Fields

JSON = codec_for("json")


def fields(codec=JSON, **stored):
    return Fields(codec, {name: codec.encode(value) for name, value in stored.items()})


def applied(stored, changes, codec=JSON):
    """The bytes that the store holds after the changes."""
    left = {n: raw for n, raw in stored.items() if n not in changes.deletions}
    sums = {
        name: codec.encode(codec.decode(left.get(name, b"0")) + by)
        for name, by in changes.additions.items()
    }
    return {**left, **changes.sets, **sums}


class Counting:
    """A codec that notes what it is asked for."""

    def __init__(self):
        self.encoded, self.decoded = [], []

    def encode(self, value):
        self.encoded.append(copy.deepcopy(value))
        return JSON.encode(value)

    def decode(self, raw):
        self.decoded.append(raw)
        return JSON.decode(raw)


# -- changes -------------------------------------------------------------------------


def test_changes_are_false_when_empty_and_true_otherwise():
    assert not Changes({}, frozenset(), {})
    assert Changes({"a": b"1"}, frozenset(), {})
    assert Changes({}, frozenset({"a"}), {})
    assert Changes({}, frozenset(), {"a": 0})


def test_every_change_counts():
    assert Changes({"a": b"1"}, frozenset("bc"), dict.fromkeys("defg", 1)).count == 7


def test_fresh_fields_have_no_changes():
    assert not Fields(JSON).changes()
    assert not fields(a=1, b=[2]).changes()


def test_a_read_is_no_change():
    some = fields(a=[1], b={"c": 1.5})
    assert dict(some) == {"a": [1], "b": {"c": 1.5}}
    assert not some.changes()


def test_an_equal_assignment_is_no_change():
    some = fields(a={"x": [1, (2,)]}, b=1)
    some["a"] = {"x": [1, (2,)]}
    some["b"] = 1
    assert not some.changes()


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), ([1], (1,))])
def test_an_equal_value_of_another_type_is_a_change(before, after):
    some = fields(a=before)
    some["a"] = after
    assert some.changes() == Changes({"a": JSON.encode(after)}, frozenset(), {})


def test_a_nested_change_is_a_change():
    some = fields(a={"x": [{"y": []}]}, b=[1])
    some["a"]["x"][0]["y"].append(1)
    some["b"][0] = 1
    assert some.changes().sets == {"a": JSON.encode({"x": [{"y": [1]}]})}


def test_other_spellings_of_what_is_stored_are_no_change():
    some = Fields(JSON, {"a": b'{"x" : 1.50}', "b": b" [1]"})
    assert some["a"] == {"x": 1.5}
    some["b"] = [1]
    assert not some.changes()


def test_what_was_never_read_is_never_coded():
    codec = Counting()
    some = Fields(codec, {"a": b"[1]", "b": b"[2]"})
    assert some["a"] == [1]
    assert set(some) == {"a", "b"}
    assert len(some) == 2
    assert "b" in some
    some["c"] = 3
    some.changes()
    assert codec.decoded.count(b"[2]") == 0
    assert [2] not in codec.encoded


def test_a_value_is_decoded_once():
    codec = Counting()
    some = Fields(codec, {"a": b"[1]"})
    assert some["a"] is some["a"]
    assert codec.decoded == [b"[1]"]


def test_a_deletion_of_what_is_stored_is_a_change():
    some = fields(a=1, b=2)
    del some["a"]
    assert some.changes() == Changes({}, frozenset({"a"}), {})
    assert dict(some) == {"b": 2}


def test_a_deletion_of_what_was_only_assigned_is_no_change():
    some = fields(a=1)
    some["b"] = 2
    del some["b"]
    some.add("c", 1)
    del some["c"]
    assert not some.changes()


def test_what_is_deleted_and_set_again_is_set():
    some = fields(a=1, b=2)
    del some["a"], some["b"]
    some["a"] = 5
    some["b"] = 2
    assert some.changes() == Changes({"a": b"5"}, frozenset(), {})


def test_what_is_not_there_can_neither_be_read_nor_deleted():
    some = fields(a=1)
    del some["a"]
    for name in ("a", "b"):
        assert name not in some
        with pytest.raises(KeyError):
            some[name]
        with pytest.raises(KeyError):
            del some[name]
    assert some.changes().deletions == {"a"}


def test_a_nested_change_before_a_deletion_is_not_sent():
    some = fields(a=[1])
    some["a"].append(2)
    del some["a"]
    assert some.changes() == Changes({}, frozenset({"a"}), {}, {"a": b"[1]"})


def test_an_assignment_wins_over_a_nested_change():
    some = fields(a=[1])
    some["a"].append(2)
    some["a"] = [1]
    assert not some.changes()
    assert some["a"] == [1]


# -- additions -----------------------------------------------------------------------


def test_an_addition_stays_one():
    some = fields(n=5)
    some.add("n", 2)
    some.add("n", 1)
    some.add("new", -1)
    assert some.changes() == Changes({}, frozenset(), {"n": 3, "new": -1})
    assert dict(some) == {"n": 8, "new": -1}
    assert not some.changes().sets


def test_an_addition_to_what_was_assigned_is_an_assignment():
    some = fields(n=5)
    some["n"] = 1
    some.add("n", 2)
    assert some.changes() == Changes({"n": b"3"}, frozenset(), {})


def test_an_addition_to_what_was_deleted_begins_at_zero():
    some = fields(n=5)
    del some["n"]
    some.add("n", 2)
    assert some["n"] == 2
    assert some.changes() == Changes({"n": b"2"}, frozenset(), {})


def test_an_assignment_over_an_addition_is_an_assignment():
    some = fields(n=5)
    some.add("n", 2)
    some["n"] = 1
    assert some.changes() == Changes({"n": b"1"}, frozenset(), {})


def test_a_deletion_of_what_was_added_to_is_a_deletion():
    some = fields(n=5)
    some.add("n", 2)
    del some["n"]
    assert some.changes() == Changes({}, frozenset({"n"}), {})


@pytest.mark.parametrize(
    "by", [True, None, "1", math.nan, math.inf, -math.inf, 1j, [1]]
)
def test_what_is_no_finite_number_is_not_added(by):
    some = fields(n=1)
    with pytest.raises(EncodeError, match="'n'"):
        some.add("n", by)
    assert not some.changes()


@pytest.mark.parametrize("value", [True, None, "1", [1], math.inf])
def test_nothing_is_added_to_what_is_no_finite_number(value):
    stored, assigned = fields(n=value), Fields(JSON)
    assigned["n"] = value
    for some in (stored, assigned):
        before = some.changes()
        with pytest.raises(EncodeError, match="'n'"):
            some.add("n", 1)
        assert some.changes() == before


# -- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [5, None, b"a", ("a",), "\ud800"])
def test_a_name_that_is_no_text_is_refused(name):
    some = Fields(JSON)
    with pytest.raises(EncodeError, match="name"):
        some[name] = 1
    with pytest.raises(EncodeError, match="name"):
        some.add(name, 1)
    assert len(some) == 0


def test_a_value_that_cannot_be_encoded_is_refused_by_name_and_type():
    some = fields(good=1)
    some["bad"] = {"in": [object()]}
    with pytest.raises(EncodeError, match=r"'bad'.*object"):
        some.changes()
    del some["bad"]
    assert not some.changes()


def test_bytes_that_cannot_be_decoded_are_a_value_error_and_can_be_overwritten():
    some = Fields(JSON, {"bad": b"{", "good": b"1"})
    with pytest.raises(ValueError, match="codec"):
        some["bad"]
    assert some["good"] == 1
    assert not some.changes()
    some["bad"] = 2
    assert some.changes().sets == {"bad": b"2"}


# -- revert, rebase, committed -------------------------------------------------------


def changed():
    some = fields(a=[1], b=2, n=5, same=0)
    some["a"].append(2)
    del some["b"]
    some.add("n", 1)
    some["new"] = 3
    some["same"] = 0
    return some


def test_revert_drops_every_change():
    some = changed()
    some.revert()
    assert not some.changes()
    assert dict(some) == {"a": [1], "b": 2, "n": 5, "same": 0}


def test_rebase_keeps_every_change_on_top_of_what_is_stored_now():
    some = changed()
    stored = {"a": b"[7]", "b": b"8", "n": b"9", "other": b"10"}
    some.rebase(stored)
    assert dict(some) == {"a": [1, 2], "n": 10, "other": 10, "new": 3, "same": 0}
    expected = {"a": JSON.encode([1, 2]), "new": b"3", "same": b"0"}
    changes = some.changes()
    assert changes == Changes(expected, frozenset({"b"}), {"n": 1}, {"a": b"[1]"})


def test_what_was_seen_and_changed_is_compared_with_what_it_was_seen_as():
    some = Fields(JSON)
    some["a"] = held = {"x": 1}
    some.committed(some.changes(), {})
    held["y"] = 2
    some.rebase({"a": b'{"x":1,"theirs":1}', "b": b"1"})
    assert some.changes().read_as == {"a": b'{"x":1}'}
    assert dict(some) == {"a": {"x": 1, "y": 2}, "b": 1}


def test_what_can_not_be_encoded_is_refused_when_it_is_committed():
    some = fields(a=[1], b=1)
    some["a"].append(object())
    some.rebase({"a": b"[1]", "b": b"2"})
    assert some["b"] == 2
    with pytest.raises(EncodeError, match="'a'"):
        some.changes()
    some.lose()
    with pytest.raises(EncodeError, match="'a'"):
        some.changes()


def test_rebase_shows_what_others_changed():
    some = fields(a=[1], b=2)
    assert dict(some) == {"a": [1], "b": 2}
    some.rebase({"a": b"[5]", "c": b"6"})
    assert dict(some) == {"a": [5], "c": 6}
    assert not some.changes()


def test_rebase_shows_the_sum_with_what_others_stored():
    some = fields(n=5)
    some.add("n", 1)
    some.rebase({"n": b"7"})
    assert some["n"] == 8


def test_rebase_leaves_nothing_to_delete_where_there_is_nothing():
    some = fields(a=1)
    del some["a"]
    some.rebase({})
    assert not some.changes()
    assert "a" not in some


def test_rebase_onto_what_one_has_is_no_change():
    some = fields(a=1)
    some["a"] = 2
    some.rebase({"a": b"2"})
    assert not some.changes()


def test_rebase_copes_with_a_value_that_cannot_be_encoded():
    some = Fields(JSON)
    some["bad"] = object()
    some.rebase({"a": b"1"})
    assert some["a"] == 1
    with pytest.raises(EncodeError, match="'bad'"):
        some.changes()


def test_what_is_committed_is_no_change_any_more():
    some = changed()
    changes = some.changes()
    some.committed(changes, {"n": b"6"})
    assert not some.changes()
    assert dict(some) == {"a": [1, 2], "n": 6, "new": 3, "same": 0}
    some["a"].append(3)
    assert some.changes().sets == {"a": JSON.encode([1, 2, 3])}


def test_what_was_committed_follows_what_others_store():
    some = fields()
    some["a"] = [1]
    some.committed(some.changes(), {})
    some.rebase({"a": b"[2]"})
    assert some["a"] == [2]
    assert not some.changes()


def test_what_is_changed_while_it_is_committed_is_still_a_change():
    some = fields()
    some.update(a=1, b=1)
    some.add("more", 2)
    some.add("less", 2)
    some.add("same", 1000)
    changes = some.changes()
    some["a"] = True
    del some["b"]
    for name, by in (("more", 3), ("less", -5), ("same", 1), ("same", -1)):
        some.add(name, by)
    some.committed(changes, {"more": b"2", "less": b"2", "same": b"1000"})
    added, read_as = {"more": 3, "less": -5}, {"a": b"1", "b": b"1"}
    now = Changes({"a": b"true"}, frozenset("b"), added, read_as)
    assert some.changes() == now


def test_what_was_added_to_what_is_not_known_is_not_known_after_the_commit():
    some = Fields(JSON)
    some.add("n", 1)
    some.committed(some.changes(), {})
    assert not some.changes()
    assert dict(some) == {}


def test_a_sum_is_what_it_is_in_the_store_whoever_has_added():
    some = fields(n=5, gone=1)
    assert some["n"] == 5
    some.add("n", 1)
    some.add("gone", 1)
    some.committed(some.changes(), {"n": b"16", "gone": None})
    assert dict(some) == {"n": 16}
    assert not some.changes()
    some["n"] = 16
    assert not some.changes()
    some["n"] = 17
    assert some.changes() == Changes({"n": b"17"}, frozenset(), {}, {"n": b"16"})


def test_a_sum_that_was_deleted_can_be_set_and_added_to_again():
    for again in (lambda some: some.update(n=1), lambda some: some.add("n", 1)):
        some = fields(n=5)
        some.add("n", 1)
        some.committed(some.changes(), {"n": b"6"})
        del some["n"]
        some.committed(some.changes(), {})
        assert dict(some) == {}
        again(some)
        assert dict(some) == {"n": 1}


# -- fields whose bytes are left in the store ----------------------------------------


def test_bytes_are_lacking_where_nothing_is_assigned_or_deleted():
    some = Fields(JSON, {"a": b"1"}, left={"b", "c", "d"})
    some["c"] = 1
    del some["d"]
    assert [name for name in "abcde" if some.lacks(name)] == ["b"]


def test_what_was_left_is_there_once_it_is_filled_or_is_no_more():
    some = Fields(JSON, {"a": b"1"}, left={"b", "c"})
    assert sorted(some) == ["a", "b", "c"]
    some.fill({"b": b"[2]", "c": None})
    assert dict(some) == {"a": 1, "b": [2]}
    assert sorted(some.asked) == ["a", "b"]


# -- values that were not written here -----------------------------------------------

DEEP = b"[" * 70 + b"]" * 70  # can be read, and would not be written


def test_what_would_not_be_written_is_refused_only_if_it_was_changed():
    stored = b'["b", ' + DEEP + b"]"
    some = Fields(JSON, {"a": stored})
    assert some["a"][0] == "b"
    assert not some.changes()
    for first in ("a", "c"):
        some["a"][0] = first
        with pytest.raises(EncodeError, match="'a'"):
            some.changes()
    some["a"] = JSON.decode(stored)
    with pytest.raises(EncodeError, match="'a'"):
        some.changes()


def test_what_is_equal_and_would_not_be_written_is_refused():
    some = Fields(JSON, {"a": b"[1]"})
    some["a"][0] = enum.IntEnum("Color", "RED").RED
    assert some["a"] == [1]
    with pytest.raises(EncodeError, match="'a'"):
        some.changes()


# -- what a change was read as -------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [
        lambda some: some["a"],
        lambda some: some.get("a"),
        lambda some: "a" in some,
        lambda some: dict(some),
        lambda some: some.setdefault("a", 5),
    ],
)
def test_a_field_is_read_when_it_is_looked_at_or_for(look):
    some = fields(a=[1], b=2)
    look(some)
    some["a"] = [2]
    assert some.changes().read_as == {"a": b"[1]"}


@pytest.mark.parametrize("look", [lambda some: some.get("a"), lambda some: "a" in some])
def test_a_field_that_was_not_there_was_read_as_none(look):
    some = Fields(JSON)
    look(some)
    some["a"] = 1
    assert some.changes().read_as == {"a": None}


def test_a_field_that_was_only_assigned_deleted_or_listed_was_not_read():
    some = fields(a=1, b=2, c=3)
    assert len(some) == 3
    assert list(some) == ["a", "b", "c"]
    some["a"], some["new"] = 5, 6
    assert some["new"] == 6
    assert "a" in some
    del some["b"]
    assert some.changes().read_as == {}


def test_only_what_changed_is_said_to_be_read():
    some = fields(a=[1], b=2, n=3)
    assert dict(some)
    some["a"].append(2)
    some.add("n", 1)
    assert some.changes().read_as == {"a": b"[1]"}


def test_a_popped_field_was_read():
    some = fields(a=1)
    assert some.pop("a") == 1
    assert some.changes() == Changes({}, frozenset({"a"}), {}, {"a": b"1"})


def test_what_was_committed_was_read_as_it_is_stored_now():
    some = fields(a=1, b=2)
    some["a"] = 5
    assert some.pop("b") == 2
    some.committed(some.changes(), {})
    some["a"], some["b"] = 6, 7
    assert some.changes().read_as == {"a": b"5", "b": None}


def test_what_was_reverted_was_not_read():
    some = fields(a=1)
    assert some["a"] == 1
    some.revert()
    some["a"] = 2
    assert some.changes().read_as == {}


# -- merge ---------------------------------------------------------------------------


def test_a_merge_sends_what_both_made_of_it_compared_to_theirs():
    some = fields(a={"x": 1}, b=[1])
    some["a"]["y"] = 2
    some["b"].append(2)
    theirs = {"a": JSON.encode({"x": 1, "z": 3}), "b": JSON.encode([1, 3])}
    some.merge(some.changes(), theirs)
    sets = {"a": JSON.encode({"x": 1, "z": 3, "y": 2}), "b": JSON.encode([1, 3, 2])}
    assert some.changes() == Changes(sets, frozenset(), {}, theirs)
    assert dict(some) == {"a": {"x": 1, "z": 3, "y": 2}, "b": [1, 3, 2]}


def test_a_merge_leaves_the_other_changes_alone():
    some = changed()
    some.merge(some.changes(), {"a": b"[1,7]"})
    sets = {"a": JSON.encode([1, 7, 2]), "new": b"3"}
    assert some.changes() == Changes(sets, frozenset({"b"}), {"n": 1}, {"a": b"[1,7]"})


def test_a_merge_into_what_they_have_already_is_no_change():
    some = fields(a={"x": 1}, b=1)
    some["a"]["x"], some["b"] = 2, some["b"] + 1
    some.merge(some.changes(), {"a": JSON.encode({"x": 2, "y": 3}), "b": b"2"})
    assert not some.changes()
    assert dict(some) == {"a": {"x": 2, "y": 3}, "b": 2}


def test_an_item_that_both_appended_is_there_twice():
    some = fields(a=[1])
    some["a"].append(2)
    some.merge(some.changes(), {"a": b"[1,2]"})
    assert some["a"] == [1, 2, 2]


def test_a_deletion_is_later_than_their_change_and_a_change_than_their_deletion():
    some = fields(a=1, b=[1])
    assert some.pop("a") == 1
    some["b"].append(2)
    some.merge(some.changes(), {"a": b"5", "b": None})
    sets = {"b": JSON.encode([1, 2])}
    bases = {"a": b"5", "b": None}
    assert some.changes() == Changes(sets, frozenset({"a"}), {}, bases)
    assert dict(some) == {"b": [1, 2]}


def test_what_both_deleted_is_no_change():
    some = fields(a=1)
    assert some.pop("a") == 1
    some.merge(some.changes(), {"a": None})
    assert not some.changes()
    assert "a" not in some


@pytest.mark.parametrize("mine", [{"x": 1}, None])
def test_corrupt_bytes_of_theirs_are_nothing_to_merge_with(mine):
    some = fields(a={})
    assert some.pop("a") == {}
    if mine:
        some["a"] = mine
    some.merge(some.changes(), {"a": b"\xff{"})
    changes = some.changes()
    assert changes.sets == ({"a": JSON.encode(mine)} if mine else {})
    assert changes.deletions == (set() if mine else {"a"})
    assert changes.read_as == {"a": b"\xff{"}


def inside(value):
    """The value's mutable parts, itself included, at every depth of dicts."""
    if isinstance(value, dict):
        return [value, *(part for inner in value.values() for part in inside(inner))]
    return [value] if isinstance(value, (list, set)) else []


@pytest.mark.parametrize(
    ("base", "theirs", "change", "both"),
    [
        ([1], [1, 2], lambda v: v.append(3), [1, 2, 3]),
        ({1}, {1, 2}, lambda v: v.add(3), {1, 2, 3}),
        ({"x": 1}, {"x": 1, "y": 2}, lambda v: v.update(z=3), {"x": 1, "y": 2, "z": 3}),
        ({"x": [1]}, {"x": [1, 2]}, lambda v: v["x"].append(3), {"x": [1, 2, 3]}),
        ({"x": {1}, "y": 1}, {"x": {1}, "y": 2}, lambda v: v["x"].add(3), None),
        ({"x": [1], "y": 1}, {"x": [1], "y": 2}, lambda v: v["x"].append(3), None),
        ({"x": {"z": 1}, "y": 1}, {"x": {"z": 1}}, lambda v: v["x"].update(z=3), None),
        ({1}, [2], lambda v: v.add(3), {1, 3}),
        ([1], {2}, lambda v: v.append(3), [1, 3]),
        ({"x": 1}, 5, lambda v: v.update(x=2), {"x": 2}),
        ({"x": {1}}, {"x": 5}, lambda v: v["x"].add(3), {"x": {1, 3}}),
        ({"x": {1}}, None, lambda v: v["x"].add(3), {"x": {1, 3}}),
    ],
)
def test_a_merge_keeps_the_objects_that_the_application_holds(
    base, theirs, change, both
):
    some = fields(a=base)
    held = some["a"]
    change(held)
    parts = inside(held)
    if both is None:  # they only changed what is beside it
        both = {**theirs, "x": copy.deepcopy(held["x"])}
    some.merge(some.changes(), {"a": None if theirs is None else JSON.encode(theirs)})
    assert some["a"] is held
    assert repr(held) == repr(both)
    assert {*map(id, parts)} <= {*map(id, inside(some["a"]))}
    assert some.changes().sets == {"a": JSON.encode(both)}


def test_merging_twice_is_merging_the_same_onto_the_second():
    some = fields(a=[1])
    some["a"].append(2)
    proposed = some.changes()
    some.merge(proposed, {"a": b"[1,3]"})
    some.merge(proposed, {"a": b"[1,3,4]"})
    assert some["a"] == [1, 3, 4, 2]
    assert some.changes().read_as == {"a": b"[1,3,4]"}


def test_what_was_merged_once_and_deleted_since_does_not_come_back():
    some = fields(a={"kept": 0})
    held = some["a"]
    held["mine"] = 1
    proposed = some.changes()
    some.merge(proposed, {"a": b'{"kept":0,"theirs":1}'})
    assert held == {"kept": 0, "mine": 1, "theirs": 1}
    some.merge(proposed, {"a": None})
    assert some["a"] is held
    assert held == {"kept": 0, "mine": 1}
    some.merge(proposed, {"a": b'{"other":1}'})
    assert held == {"mine": 1, "other": 1}


def test_the_bytes_that_it_was_given_are_not_changed():
    stored = {"a": b"1", "b": b"2"}
    some = Fields(JSON, stored)
    del some["a"]
    some["c"] = 3
    some.committed(some.changes(), {})
    assert stored == {"a": b"1", "b": b"2"}


# -- all of it -----------------------------------------------------------------------

names = st.sampled_from("abc")
numbers = st.one_of(st.integers(-9, 9), st.sampled_from([0.5, -2.0]))
values = st.one_of(
    numbers,
    st.booleans(),
    st.text(max_size=2),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.lists(st.integers(0, 3)), max_size=2),
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("set"), names, values),
        st.tuples(st.just("del"), names, st.none()),
        st.tuples(st.just("add"), names, numbers),
        st.tuples(st.just("grow"), names, values),
        st.tuples(st.just("commit"), names, st.none()),
        st.tuples(st.just("revert"), names, st.none()),
    ),
    max_size=12,
)


def do(action, target, name, value):
    """One action on fields or on a dict; both must take it, or neither."""
    found = target.get(name)
    if action == "set":
        target[name] = copy.deepcopy(value)
    elif action == "del" and name in target:
        del target[name]
    elif action == "add" and type(target.get(name, 0)) in (int, float):
        if isinstance(target, Fields):
            target.add(name, value)
        else:
            target[name] = target.get(name, 0) + value
    elif action == "grow" and isinstance(found, (list, dict)):
        mine = copy.deepcopy(value)
        found.append(mine) if isinstance(found, list) else found.update(x=mine)


@settings(deadline=None)
@given(st.dictionaries(names, values), actions, st.sampled_from(["json", "msgpack"]))
def test_the_changes_make_of_what_was_stored_what_a_dict_holds(
    start, script, codec_name
):
    codec = codec_for(codec_name)
    stored = {name: codec.encode(value) for name, value in start.items()}
    some, model = Fields(codec, stored), copy.deepcopy(start)
    kept = copy.deepcopy(model)
    for action, name, value in script:
        if action == "commit":
            changes = some.changes()
            stored = applied(stored, changes, codec)
            some.committed(changes, {name: stored[name] for name in changes.additions})
            kept = copy.deepcopy(model)
        elif action == "revert":
            some.revert()
            model = copy.deepcopy(kept)
        else:
            do(action, some, name, value)
            do(action, model, name, value)
        assert repr(sorted(some.items())) == repr(sorted(model.items()))
        assert len(some) == len(model)
    changes = some.changes()
    for name, raw in changes.sets.items():
        assert raw != stored.get(name), "what is equal must not be sent"
    assert changes.deletions <= stored.keys()
    assert changes.read_as.keys() <= changes.sets.keys() | changes.deletions
    for name, raw in changes.read_as.items():
        assert raw == stored.get(name), "what nobody else changed is what was read"
    assert not changes.sets.keys() & changes.additions.keys()
    assert not changes.deletions & (changes.sets.keys() | changes.additions.keys())
    after = {n: codec.decode(raw) for n, raw in applied(stored, changes, codec).items()}
    assert repr(sorted(after.items())) == repr(sorted(model.items()))


# -- numbers that the store could not add --------------------------------------------


@pytest.mark.parametrize(
    ("before", "by"),
    [
        (10**400, 1.5),
        (1e308, 1e308),
        (10**18, 1),
        (-(10**18), 1),
        (0, 10**18),
        (1.5, 10**18),
    ],
)
def test_what_the_store_could_not_add_is_refused_here_too(before, by):
    assigned = Fields(JSON)
    assigned["n"] = before
    read = Fields(JSON, {"n": repr(before).encode()})
    for some in (assigned, read):
        with pytest.raises(EncodeError):
            some.add("n", by)


def test_additions_that_are_too_large_together_are_refused():
    some = Fields(JSON)
    some.add("n", 1e308)
    with pytest.raises(EncodeError):
        some.add("n", 1e308)


def test_additions_with_too_many_digits_together_leave_the_first():
    for some in (Fields(JSON), fields(n=1)):
        some.add("n", 9 * 10**17)
        with pytest.raises(EncodeError):
            some.add("n", 9 * 10**17)
        assert some.changes().additions == {"n": 9 * 10**17}


def test_the_largest_that_can_be_counted_is_counted():
    some = fields(n=10**18 - 1)
    some.add("n", 10**18 - 1)
    assert some["n"] == 2 * (10**18 - 1)
