"""A slice of the histories, its controls, and whether the checker can be believed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
from explorer.mutants import MUTANTS
from histories import hunt, run
from histories.checker import Undecided, check
from histories.crew import Crew, Job, job_list
from histories.history import Ended, History, Invoked
from histories.model import ILLEGAL, MODELS, UNKNOWN, Model, Operation
from histories.visitor import (
    DEATHS,
    DEEDS,
    LOSSES,
    OVERSLEEP,
    Request,
    Setting,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = run.Size(processes=4, length=8)


@pytest.fixture(scope="module")
def servers() -> Iterator[run.Servers]:
    with run.Servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(SIZE.processes) as crew:
        yield crew


# -- real processes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "rounds"), [("none", 8), ("single", 2), ("redlock", 1)]
)
def test_what_becomes_of_each_field_has_an_order(
    servers: run.Servers, crew: Crew, lock: str, rounds: int
) -> None:
    total = run.play(crew, servers.settings("ours", lock), rounds, SIZE)
    assert not total.refusals, "\n".join(map(str, total.refusals))
    assert total.undecided == 0
    assert total.fields == rounds * len(MODELS)
    assert total.killed == rounds
    assert 0 < 4 * total.unknown < total.operations  # what is unknown may be anything


def test_a_whole_blob_store_is_refused(servers: run.Servers, crew: Crew) -> None:
    total = run.play(crew, servers.settings("blob", "none")[:1], 5, SIZE)
    assert total.refusals


def test_our_own_that_overwrites_what_others_appended_is_refused(
    servers: run.Servers, crew: Crew
) -> None:
    total = run.play(crew, servers.settings("overwrite", "none")[:1], 8, SIZE)
    assert {refusal.field for refusal in total.refusals} & {"log", "nest"}
    assert {refusal.field for refusal in total.refusals} <= {"log", "nest"}


def test_a_process_that_fails_is_no_victim() -> None:
    job = Job(Setting("ours", "no such lock", 1), "", (Request(()),))
    with Crew(1) as crew, pytest.raises(RuntimeError, match="ended with 1"):
        crew.play([job], History())


def test_the_mutants_that_are_hunted_are_the_explorers() -> None:
    assert {mutant.name for mutant in MUTANTS} >= hunt.HUNTED.keys()


def test_every_fault_and_verb_is_somewhere_in_a_run() -> None:
    dice, setting = random.Random(0), Setting("ours", "single", 1)
    jobs = [job for _ in range(50) for job in job_list(setting, "", 5, 10, dice)]
    requests = [request for job in jobs for request in job.requests]
    assert {r.fault for r in requests} == {"", OVERSLEEP, *LOSSES, *DEATHS}
    deeds = {(deed.field, deed.verb) for r in requests for deed in r.deeds}
    assert {field for field, _ in deeds} == MODELS.keys()
    assert {verb for _, verb in deeds} == DEEDS.keys()


# -- what is told --------------------------------------------------------------------


def test_a_write_is_unknown_until_its_end_is_told() -> None:
    history, write = History(), Operation("set", "x", None, invoked=1)
    history.tell(Invoked((1, 1), "name", write))
    assert (history.operations, history.unknown) == (1, 1)
    history.tell(Ended(((1, 1),), 5))
    assert history.by_field() == {"name": [write._replace(returned=5)]}
    assert (history.operations, history.unknown) == (1, 0)


def test_a_write_that_was_dropped_is_none() -> None:
    history = History()
    history.tell(Invoked((1, 1), "name", Operation("set", "x", None, invoked=1)))
    history.tell(Ended(((1, 1),), None))
    assert history.by_field() == {}
    assert history.dropped == 1


# -- the checker ---------------------------------------------------------------------


def op(
    verb: str, value: object, invoked: int, returned: float, result: object = None
) -> Operation:
    """An operation; of a read the value is what it got."""
    if verb == "read":
        return Operation(verb, None, value, invoked, returned)
    return Operation(verb, value, result, invoked, returned)


def is_linearizable(field: str, *operations: Operation) -> bool:
    return check(operations, MODELS[field]).is_linearizable


def items(**values: object) -> frozenset[tuple[str, object]]:
    return frozenset(values.items())


RIGHT: dict[str, tuple[str, list[Operation]]] = {
    "nothing": ("name", []),
    "one after the other": (
        "name",
        [op("set", "a", 1, 2), op("set", "b", 3, 4), op("read", "b", 5, 6)],
    ),
    "a read during a write gets the new value": (
        "name",
        [op("set", "a", 1, 9), op("read", "a", 2, 3)],
    ),
    "a read during a write gets the old value": (
        "name",
        [op("set", "a", 1, 9), op("read", None, 2, 3)],
    ),
    "of two writes at once the first to return may be the last": (
        "name",
        [op("set", "a", 1, 4), op("set", "b", 2, 3), op("read", "a", 5, 6)],
    ),
    "deleted": (
        "name",
        [op("set", "a", 1, 2), op("delete", None, 3, 4), op("read", None, 5, 6)],
    ),
    "an unknown write never happened": (
        "name",
        [op("set", "a", 1, UNKNOWN), op("read", None, 5, 6)],
    ),
    "an unknown write happened late": (
        "name",
        [
            op("set", "a", 1, UNKNOWN),
            op("read", None, 5, 6),
            op("set", "b", 7, 8),
            op("read", "a", 9, 10),
        ],
    ),
    "one of two unknown additions happened": (
        "count",
        [op("add", 5, 1, UNKNOWN), op("add", 7, 1, UNKNOWN), op("read", 7, 5, 6)],
    ),
    "two bumps one after the other": (
        "count",
        [op("bump", 5, 1, 9, 3), op("bump", 3, 2, 8, 0), op("read", 8, 10, 11)],
    ),
    "appended at once, in one order": (
        "log",
        [
            op("append", "a", 1, 9),
            op("append", "b", 2, 8),
            op("read", ("b",), 3, 4),
            op("read", ("b", "a"), 10, 11),
        ],
    ),
    "keys of several, and one dropped": (
        "nest",
        [
            op("put", ("a", 1), 1, 5),
            op("put", ("b", 2), 1, 5),
            op("drop", "a", 6, 7),
            op("read", items(b=2), 8, 9),
        ],
    ),
    "what returned when another began overlaps it": (
        "name",
        [op("set", "a", 1, 3), op("set", "b", 3, 4), op("read", "a", 5, 6)],
    ),
}

WRONG: dict[str, tuple[str, list[Operation]]] = {
    "a value that nobody wrote": ("name", [op("read", "a", 1, 2)]),
    "an old value": (
        "name",
        [op("set", "a", 1, 2), op("set", "b", 3, 4), op("read", "a", 5, 6)],
    ),
    "a response that left before its commit": (
        "name",
        [op("set", "a", 1, 2), op("read", None, 3, 4), op("read", "a", 5, 6)],
    ),
    "a new value, and then the old one again": (
        "name",
        [op("set", "a", 1, 9), op("read", "a", 2, 3), op("read", None, 4, 5)],
    ),
    "two readers disagree about which of two writes was the last": (
        "name",
        [
            op("set", "a", 1, 4),
            op("set", "b", 1, 4),
            op("read", "a", 5, 6),
            op("read", "b", 7, 8),
        ],
    ),
    "what was deleted is back": (
        "name",
        [op("set", "a", 1, 2), op("delete", None, 3, 4), op("read", "a", 5, 6)],
    ),
    "an unknown write happened before it began": (
        "name",
        [op("read", "a", 1, 2), op("set", "a", 3, UNKNOWN)],
    ),
    "an unknown write happened twice": (
        "name",
        [
            op("set", "a", 1, UNKNOWN),
            op("read", "a", 2, 3),
            op("set", "b", 4, 5),
            op("read", "b", 6, 7),
            op("read", "a", 8, 9),
            op("set", "c", 10, 11),
            op("read", "c", 12, 13),
            op("read", "a", 14, 15),
        ],
    ),
    "an unknown addition was counted twice": (
        "count",
        [op("add", 5, 1, UNKNOWN), op("read", 10, 2, 3)],
    ),
    "a lost addition": (
        "count",
        [op("add", 5, 1, 4), op("add", 7, 2, 3), op("read", 7, 5, 6)],
    ),
    "two bumps of the same number": (
        "count",
        [op("bump", 5, 1, 9, 0), op("bump", 3, 2, 8, 0)],
    ),
    "a lost item": (
        "log",
        [
            op("append", "a", 1, 4),
            op("append", "b", 2, 3),
            op("read", ("b",), 5, 6),
        ],
    ),
    "an item twice": (
        "log",
        [op("append", "a", 1, 2), op("read", ("a", "a"), 3, 4)],
    ),
    "items in the wrong order": (
        "log",
        [
            op("append", "a", 1, 2),
            op("append", "b", 3, 4),
            op("read", ("b", "a"), 5, 6),
        ],
    ),
    "two orders of the same items": (
        "log",
        [
            op("append", "a", 1, 9),
            op("append", "b", 1, 9),
            op("read", ("a",), 2, 3),
            op("read", ("b", "a"), 10, 11),
        ],
    ),
    "a lost key": (
        "nest",
        [
            op("put", ("a", 1), 1, 5),
            op("put", ("b", 2), 1, 5),
            op("read", items(b=2), 8, 9),
        ],
    ),
    "half of a pair": (
        "pair",
        [op("set", "a", 1, 4), op("read", ("a", None), 2, 3)],
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_has_an_order_is_accepted(name: str) -> None:
    field, operations = RIGHT[name]
    assert is_linearizable(field, *operations)


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_order_is_refused(name: str) -> None:
    field, operations = WRONG[name]
    assert not is_linearizable(field, *operations)


def test_a_refusal_says_where_the_longest_attempt_ended() -> None:
    write, late = op("set", "a", 1, 2), op("read", None, 3, 4)
    assert check([late, write], MODELS["name"]) == (False, 1, "a", [late])


def test_a_search_that_is_too_long_is_undecided() -> None:
    adds = [op("add", 2**i, 1, 100) for i in range(20)]
    with pytest.raises(Undecided, match="21 operations"):
        check([*adds, op("read", -1, 101, 102)], MODELS["count"], most=1000)


def test_a_verb_that_the_model_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such verb: fly"):
        check([op("fly", 1, 1, 2)], MODELS["count"])


# -- the checker and chance ----------------------------------------------------------

FIELDS = st.sampled_from(["name", "count", "log", "nest"])
VALUES = st.sampled_from("abc")
NUMBERS = st.integers(1, 5)
WRITES = {
    "name": st.tuples(st.just("set"), VALUES) | st.just(("delete", None)),
    "count": st.tuples(st.sampled_from(["add", "bump"]), NUMBERS),
    "log": st.tuples(st.just("append"), VALUES),
    "nest": st.tuples(st.just("put"), st.tuples(VALUES, NUMBERS))
    | st.tuples(st.just("drop"), VALUES),
}


@st.composite
def executions(
    draw: st.DrawFn, field: str, most: int, spread: int = 35
) -> list[Operation]:
    """One operation after the other, at 10, 20 and so on; then spread around that.

    Some writes have an unknown end, and some of these never happened.
    """
    model = MODELS[field]
    state, history = model.initial, []
    times = st.integers(0, spread)
    for turn in range(1, draw(st.integers(min(3, most), most)) + 1):
        verb, argument = draw(st.just(("read", None)) | WRITES[field])
        result = state if verb in ("read", "bump") else None
        invoked, returned = 10 * turn - draw(times), 10 * turn + draw(times)
        operation = Operation(verb, argument, result, invoked, returned)
        fate = "known" if verb == "read" else draw(st.sampled_from(FATES))
        if fate != "known":
            operation = operation._replace(returned=UNKNOWN)
        if fate != "never":
            state = model.step(state, operation)
        history.append(operation)
    return draw(st.permutations(history))


FATES = ["known", "known", "known", "happened", "never"]


@settings(deadline=None)
@given(st.data())
def test_what_was_spread_from_one_order_is_accepted(data: st.DataObject) -> None:
    field = data.draw(FIELDS)
    history = data.draw(executions(field, 15))
    assert check(history, MODELS[field]).is_linearizable


def has_an_order(history: Sequence[Operation], model: Model) -> bool:
    """By the definition: any order of the known and of some of the others."""
    unknown = [i for i, o in enumerate(history) if o.returned == UNKNOWN]
    known = [i for i, o in enumerate(history) if o.returned < UNKNOWN]
    return any(
        _is_order([history[i] for i in order], model)
        for size in range(len(unknown) + 1)
        for some in itertools.combinations(unknown, size)
        for order in itertools.permutations([*known, *some])
    )


def _is_order(order: Sequence[Operation], model: Model) -> bool:
    pairs = itertools.combinations(order, 2)
    if any(later.returned < earlier.invoked for earlier, later in pairs):
        return False
    state = model.initial
    for operation in order:
        state = model.step(state, operation)
        if state is ILLEGAL:
            return False
    return True


@settings(deadline=None)
@given(st.data())
def test_the_checker_says_what_the_definition_says(data: st.DataObject) -> None:
    """Of an order, spread a little, in which some operations are at another time."""
    field = data.draw(FIELDS)
    history = data.draw(executions(field, 5, spread=12))
    for at, operation in enumerate(history):
        if operation.returned < UNKNOWN and data.draw(st.booleans()):
            invoked = data.draw(st.sampled_from([0, 20, 40, 60]))
            moved = {"invoked": invoked, "returned": invoked + 8}
            history[at] = operation._replace(**moved)
    model = MODELS[field]
    assert check(history, model).is_linearizable == has_an_order(history, model)


def test_a_corrupted_result_is_mostly_refused() -> None:
    refused = [_is_refused(random.Random(seed)) for seed in range(200)]
    assert refused.count(True) > 150  # the last item may well have come later


def _is_refused(dice: random.Random) -> bool:
    """A list that is appended to and read; one read misses an item that it had."""
    state: tuple[int, ...] = ()
    history: list[Operation] = []
    for turn in range(1, 31):
        times = 10 * turn - dice.randint(0, 25), 10 * turn + dice.randint(0, 25)
        if dice.random() < 0.5:
            state = (*state, turn)
            history.append(op("append", turn, *times))
        else:
            history.append(op("read", state, *times))
    reads = [i for i, o in enumerate(history) if o.verb == "read" and o.result]
    at = dice.choice(reads)
    lost = list(history[at].result)
    lost.pop(dice.randrange(len(lost)))
    assert is_linearizable("log", *history)
    history[at] = history[at]._replace(result=tuple(lost))
    return not is_linearizable("log", *history)
