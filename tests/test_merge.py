"""Three-way merge of values: examples, and laws for all of them. No server here."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smartredis_wsgi.codec import codec_for
from smartredis_wsgi.merge import ABSENT, merge, pour

JSON = codec_for("json")


def exact(value: Any) -> Any:
    """The value with all types written out; what is equal and of equal types, is equal.

    Unlike the values themselves: 1, 1.0 and True differ, and a tuple is no list.
    """
    if isinstance(value, dict):
        members: Any = {exact(key): exact(inner) for key, inner in value.items()}
        return ("dict", frozenset(members.items()))
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, frozenset(map(exact, value)))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, tuple(map(exact, value)))
    return (type(value).__name__, repr(value))


def is_there(value: Any) -> bool:
    return value is not ABSENT


def is_same(one: Any, other: Any) -> bool:
    return bool(exact(one) == exact(other))


def merged(base: Any, theirs: Any, mine: Any) -> Any:
    """What becomes of it; none of the three is changed by that."""
    before = copy.deepcopy((base, theirs, mine))
    result = merge(base, theirs, mine, is_same)
    assert is_same((base, theirs, mine), before)
    return result


# -- examples ------------------------------------------------------------------------

Case = tuple[Any, Any, Any, Any]
EXAMPLES: dict[str, Case] = {  # base, theirs, mine, both
    "nobody": (1, 1, 1, 1),
    "only they": (1, 2, 1, 2),
    "only I": (1, 1, 3, 3),
    "both the same": (1, 4, 4, 4),
    "a leaf": (1, 2, 3, 3),
    "text is a leaf": ("a", "ab", "ac", "ac"),
    "bytes are a leaf": (b"a", b"ab", b"ac", b"ac"),
    "a tuple is a leaf": ((1,), (1, 2), (1, 3), (1, 3)),
    "None is a value": (None, 1, None, 1),
    "a deletion after a change": (1, 2, ABSENT, ABSENT),
    "a change after a deletion": (1, ABSENT, 2, 2),
    "their deletion": (1, ABSENT, 1, ABSENT),
    "my deletion": (1, 1, ABSENT, ABSENT),
    "both deleted": (1, ABSENT, ABSENT, ABSENT),
    "they created": (ABSENT, 1, ABSENT, 1),
    "I created": (ABSENT, ABSENT, 1, 1),
    "both created a leaf": (ABSENT, 1, 2, 2),
    "a dict after a deletion": ({"a": 1}, ABSENT, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
    "other keys": ({}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    "the same key": ({"a": 0}, {"a": 1}, {"a": 2}, {"a": 2}),
    "a key deleted, one set": ({"a": 1, "b": 1}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2}),
    "other keys deleted": ({"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}, {"b": 2}, {}),
    "their key changed, mine deleted": ({"a": 1}, {"a": 2}, {}, {}),
    "their key deleted, mine changed": ({"a": 1}, {}, {"a": 2}, {"a": 2}),
    "deeper": (
        {"a": {"b": {"c": 1, "d": 1}}},
        {"a": {"b": {"c": 2, "d": 1}}},
        {"a": {"b": {"c": 1, "d": 3}}, "e": 4},
        {"a": {"b": {"c": 2, "d": 3}}, "e": 4},
    ),
    "they deleted what I changed inside": (
        {"a": {"b": 1}, "c": 1},
        {"c": 1},
        {"a": {"b": 2}, "c": 1},
        {"a": {"b": 2}, "c": 1},
    ),
    "both created a dict": (ABSENT, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    "both created a list": (ABSENT, [1], [2], [1, 2]),
    "both created a set": (ABSENT, {1}, {2}, {1, 2}),
    "both created the same key": (
        {},
        {"k": {"a": [1]}},
        {"k": {"a": [2], "b": 3}},
        {"k": {"a": [1, 2], "b": 3}},
    ),
    "both made dicts of a leaf": (1, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    "another kind each": ([1], {"a": 1}, {1}, {1}),
    "both appended": ([1], [1, 2, 3], [1, 4], [1, 2, 3, 4]),
    "both appended to nothing": ([], [1], [2], [1, 2]),
    "I appended, they removed": ([1, 2], [1], [1, 2, 3], [1, 2, 3]),
    "I removed, they appended": ([1, 2], [1, 2, 3], [2], [2]),
    "I changed one of the first": ([1, 2], [1, 2, 3], [9, 2], [9, 2]),
    "they changed one of the first": ([1, 2], [9, 2], [1, 2, 3], [1, 2, 3]),
    "lists in a dict": (
        {"a": [1], "b": [2]},
        {"a": [1, 3], "b": [2]},
        {"a": [1, 4], "b": [2, 5]},
        {"a": [1, 3, 4], "b": [2, 5]},
    ),
    "dicts in a list are a leaf": ([{"a": 1}], [{"a": 2}], [{"b": 3}], [{"b": 3}]),
    "sets": ({1, 2, 3}, {2, 3, 4}, {1, 2, 5}, {2, 4, 5}),
    "frozensets": (
        frozenset({1, 2}),
        frozenset({1}),
        frozenset({1, 2, 3}),
        frozenset({1, 3}),
    ),
    "a set and a frozenset": ({1}, {1, 2}, frozenset({1, 3}), frozenset({1, 3})),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_both_changed_becomes_what_the_example_says(name: str) -> None:
    base, theirs, mine, both = EXAMPLES[name]
    assert exact(merged(base, theirs, mine)) == exact(both)


KINDS = [1, True, 1.0]


@pytest.mark.parametrize("base", KINDS)
@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("is_mine", [True, False])
def test_an_equal_value_of_another_type_is_a_change(
    base: Any, other: Any, is_mine: bool
) -> None:
    pair = (base, other) if is_mine else (other, base)
    assert exact(merged(base, *pair)) == exact(other)
    nested = [{"a": [side]} for side in (base, *pair)]
    assert exact(merged(*nested)) == exact({"a": [other]})


def test_what_began_with_an_equal_item_of_another_type_was_not_appended_to() -> None:
    assert exact(merged([1], [1, 2], [True, 3])) == exact([True, 3])
    assert exact(merged([1], [1.0, 2], [1, 3])) == exact([1, 3])


def test_what_is_put_together_of_both_is_an_object_of_its_own() -> None:
    base: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    theirs, mine = {**base, "a": [1], "c": [1]}, {**base, "b": [2], "c": [2]}
    result = merge(base, theirs, mine, is_same)
    result["c"].append(3)
    assert (theirs["c"], mine["c"], base["c"]) == ([1], [2], [])


# -- laws ----------------------------------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, 1.0, -0.5]),
    st.sampled_from(["", "a", b"a"]),
    st.frozensets(st.integers(0, 3), max_size=3),
)
keys = st.sampled_from("abc")
listless = st.recursive(
    st.one_of(st.just(ABSENT), leaves, st.sets(st.integers(0, 3), max_size=3)),
    lambda inner: st.dictionaries(keys, inner.filter(is_there), max_size=3),
    max_leaves=6,
)  # as what both appended to a list is there twice
values = st.recursive(
    st.one_of(leaves, st.sets(st.integers(0, 3), max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)
anything = st.one_of(st.just(ABSENT), values)
Path = tuple[str, ...]


@given(anything, anything)
def test_what_only_they_changed_is_theirs(base: Any, theirs: Any) -> None:
    assert exact(merged(base, theirs, base)) == exact(theirs)


@given(anything, anything)
def test_what_only_i_changed_is_mine(base: Any, mine: Any) -> None:
    assert exact(merged(base, base, mine)) == exact(mine)


@given(anything, listless)
def test_what_both_changed_alike_is_that(base: Any, both: Any) -> None:
    assert exact(merged(base, both, both)) == exact(both)


@given(anything, leaves, leaves)
def test_a_leaf_that_both_changed_is_mine(base: Any, theirs: Any, mine: Any) -> None:
    assume(not is_same(mine, base) and not is_same(theirs, base))
    assume(not isinstance(mine, frozenset) or not isinstance(theirs, frozenset))
    assert exact(merged(base, theirs, mine)) == exact(mine)


@given(values, values)
def test_of_a_deletion_and_a_change_the_later_one_counts(
    base: Any, changed: Any
) -> None:
    assume(not is_same(base, changed))
    assert exact(merged(base, ABSENT, changed)) == exact(changed)
    assert merged(base, changed, ABSENT) is ABSENT


@given(anything, anything, anything)
def test_merging_once_more_with_the_same_changes_nothing(
    base: Any, theirs: Any, mine: Any
) -> None:
    once = merged(base, theirs, mine)
    assert exact(merged(theirs, theirs, once)) == exact(once)
    assert exact(merged(theirs, once, theirs)) == exact(once)


@given(anything, anything, anything)
def test_a_merge_under_a_key_is_the_merge_of_what_is_there(
    base: Any, theirs: Any, mine: Any
) -> None:
    def under(value: Any) -> Any:
        return {"other": 1} if value is ABSENT else {"other": 1, "k": value}

    both = merged(under(base), under(theirs), under(mine))
    assert exact(both) == exact(under(merged(base, theirs, mine)))


@given(anything, anything, anything)
def test_the_codecs_sameness_gives_the_same_merge(
    base: Any, theirs: Any, mine: Any
) -> None:
    def coded(one: Any, other: Any) -> bool:
        if one is ABSENT or other is ABSENT:
            return one is other
        return JSON.encode(one) == JSON.encode(other)

    def ordered(value: Any) -> Any:
        """The value with its keys in order, which the codec keeps."""
        if isinstance(value, dict):
            return {key: ordered(value[key]) for key in sorted(value)}
        if isinstance(value, (list, tuple)):
            return type(value)(map(ordered, value))
        return value

    sides = ordered(base), ordered(theirs), ordered(mine)
    assert exact(merge(*sides, coded)) == exact(merged(*sides))


def put(tree: dict[str, Any], path: Path, value: Any) -> None:
    """Set or delete what lies at the path; dicts are made on the way."""
    *way, last = path
    for key in way:
        tree = tree.setdefault(key, {})
    if value is not ABSENT:
        tree[last] = value
    else:
        tree.pop(last, None)


def at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree.get(key, ABSENT) if isinstance(tree, dict) else ABSENT
    return tree


def changed(tree: Any, edits: Iterable[tuple[Path, Any]]) -> Any:
    tree = copy.deepcopy(tree)
    for path, value in edits:
        put(tree, path, copy.deepcopy(value))
    return tree


@st.composite
def edits_apart(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """A tree of dicts, and edits of two requests that touch different keys of it."""
    paths = [(a, b, c) for a in "ab" for b in "ab" for c in "abc"]
    base = changed({}, [(path, draw(values)) for path in paths if draw(st.booleans())])
    for a in "ab":  # so that no dict is made by both, which is another law
        base.setdefault(a, {})
        for b in "ab":
            base[a].setdefault(b, {})
    mine_at = draw(st.sets(st.sampled_from(paths)))
    theirs_at = draw(st.sets(st.sampled_from(paths))) - mine_at
    theirs = [(path, draw(anything)) for path in sorted(theirs_at)]
    return base, theirs, [(path, draw(anything)) for path in sorted(mine_at)]


@given(edits_apart())
def test_edits_of_different_keys_at_any_depth_are_all_kept_in_either_order(
    script: tuple[dict[str, Any], list[Any], list[Any]],
) -> None:
    base, their_edits, my_edits = script
    theirs, mine = changed(base, their_edits), changed(base, my_edits)
    one, other = merged(base, theirs, mine), merged(base, mine, theirs)
    assert exact(one) == exact(other) == exact(changed(theirs, my_edits))
    for path, value in [*their_edits, *my_edits]:
        assert exact(at(one, path)) == exact(value)


@given(edits_apart(), st.lists(keys, min_size=1, max_size=6))
def test_the_depth_of_the_dicts_does_not_matter(
    script: tuple[dict[str, Any], list[Any], list[Any]], way: list[str]
) -> None:
    base, their_edits, my_edits = script
    sides = [base, changed(base, their_edits), changed(base, my_edits)]
    deep = [changed({"top": 1}, [((*way, "x"), side)]) for side in sides]
    expected = changed(deep[0], [((*way, "x"), merged(*sides))])
    assert exact(merged(*deep)) == exact(expected)


lists = st.lists(values, max_size=3)


@given(lists, lists, lists)
def test_both_tails_are_kept_and_theirs_comes_first(
    base: list[Any], theirs: list[Any], mine: list[Any]
) -> None:
    assume(not is_same(theirs, mine))
    both = merged(base, [*base, *theirs], [*base, *mine])
    assert exact(both) == exact([*base, *theirs, *mine])


@given(lists, lists)
def test_lists_that_both_created_are_one_after_the_other(
    theirs: list[Any], mine: list[Any]
) -> None:
    assume(not is_same(theirs, mine))
    assert exact(merged(ABSENT, theirs, mine)) == exact([*theirs, *mine])


sets = st.sets(st.integers(0, 9))


@pytest.mark.parametrize("kind", [set, frozenset])
@given(base=sets, theirs=sets, mine=sets)
def test_a_set_has_what_either_added_and_nothing_that_either_removed(
    kind: Any, base: set[int], theirs: set[int], mine: set[int]
) -> None:
    both = merged(kind(base), kind(theirs), kind(mine))
    assert type(both) is kind
    for member in range(10):
        kept = {member in side for side in (theirs, mine)}
        assert (member in both) is (
            member not in base if len(kept) == 2 else kept.pop()
        )
    assert both == merged(kind(base), kind(mine), kind(theirs))


dicts = st.dictionaries(keys, leaves)


@given(dicts, dicts)
def test_dicts_that_both_created_have_the_keys_of_both(
    theirs: dict[str, Any], mine: dict[str, Any]
) -> None:
    both = merged(ABSENT, theirs, mine)
    assert both.keys() == theirs.keys() | mine.keys()
    for key in mine.keys() - theirs.keys():
        assert exact(both[key]) == exact(mine[key])
    for key in theirs.keys() - mine.keys():
        assert exact(both[key]) == exact(theirs[key])


@given(sets, sets)
def test_sets_that_both_created_are_united(theirs: set[int], mine: set[int]) -> None:
    assert merged(ABSENT, theirs, mine) == theirs | mine


# -- pour ----------------------------------------------------------------------------


def test_what_is_poured_is_seen_by_who_holds_the_objects() -> None:
    inner, tags = [1], {"a"}
    held = {"x": inner, "t": tags, "gone": 1}
    assert pour({"x": [1, 2], "t": {"b"}, "n": 1}, held) is held
    assert held == {"x": [1, 2], "t": {"b"}, "n": 1}
    assert held["x"] is inner
    assert held["t"] is tags


def test_what_is_equal_stays_the_object_that_is_held() -> None:
    held: list[int] = [1]
    assert pour([1], held) is held


@pytest.mark.parametrize(("value", "into"), [((1,), [1]), (1, [1]), ([1], None)])
def test_what_is_of_another_type_is_not_poured(value: Any, into: Any) -> None:
    before = copy.copy(into)
    assert pour(value, into) is value
    assert into == before


def test_an_object_that_stands_twice_does_not_mix_what_is_poured() -> None:
    twice = [1]
    held = {"a": twice, "b": twice}
    assert pour({"a": [1, 2], "b": [1, 3]}, held) == {"a": [1, 2], "b": [1, 3]}
