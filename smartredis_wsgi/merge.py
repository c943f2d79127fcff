"""Three-way merge of values. Pure.

Two requests started from the same *base*: one made *theirs* of it and committed, the
other made *mine*. What only one of them changed is kept as that one has it. Where both
did, dicts are merged key by key at any depth, lists to which both appended keep both
tails (theirs first), sets keep what either added and lose what either removed. Anything
else that both changed is one leaf, and takes the later commit's value: mine. A deletion
changes the whole value.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any


class Absent(Enum):
    """There is no such field or key."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
Same = Callable[[Any, Any], bool]


def merge(base: Any, theirs: Any, mine: Any, same: Same) -> Any:
    """What theirs and mine make of the base together; `ABSENT` if it is deleted.

    Args:
        same: Whether two values are the same, also in type.
    """
    if same(mine, base):
        return theirs
    kind = type(mine)
    if type(theirs) is not kind or kind not in _MERGES:
        return mine
    start = base if type(base) is kind else kind()
    return _MERGES[kind](start, theirs, mine, same)


def pour(value: Any, into: Any) -> Any:
    """The value, in the objects of another: who holds one of them sees it there.

    Returns:
        The other, or the value where that is of another type.
    """
    return _pour(value, into, set())


def _pour(value: Any, into: Any, filled: set[int]) -> Any:
    """Each object is filled once: where it stands twice, the second is another."""
    if value is into or type(value) is not type(into) or id(into) in filled:
        return value
    if not isinstance(into, (dict, set, list)):
        return value
    filled.add(id(into))
    if isinstance(into, list):
        into[:] = value
    else:
        if isinstance(into, dict):
            value = {k: _pour(v, into.get(k), filled) for k, v in value.items()}
        into.clear()
        into.update(value)
    return into


def _merge_dicts(base: Any, theirs: Any, mine: Any, same: Same) -> Any:
    merged = {
        key: merge(
            base.get(key, ABSENT), theirs.get(key, ABSENT), mine.get(key, ABSENT), same
        )
        for key in {**theirs, **mine}
    }
    return {key: value for key, value in merged.items() if value is not ABSENT}


def _merge_lists(base: Any, theirs: Any, mine: Any, same: Same) -> Any:
    size = len(base)
    both_append = same(theirs[:size], base) and same(mine[:size], base)
    return [*theirs, *mine[size:]] if both_append else mine


def _merge_sets(base: Any, theirs: Any, mine: Any, _: Same) -> Any:
    return (theirs - (base - mine)) | (mine - base)


_MERGES: dict[type, Callable[[Any, Any, Any, Same], Any]] = {
    dict: _merge_dicts,
    list: _merge_lists,
    set: _merge_sets,
    frozenset: _merge_sets,
}
