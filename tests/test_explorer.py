"""The explorer's fast slice, some of its mutants, and that it can see at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from explorer import cases, mutants, schedule
from explorer.catalogue import BODIES, FIXTURE
from explorer.model import Case, Picture, Response, Sight, Trial, judge
from explorer.run import case_of
from explorer.schedule import Choice, Diverged, Play, Step, walk
from explorer.walker import Walker
from redis.exceptions import ConnectionError as RedisConnectionError


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    with Walker() as walker:
        yield walker


# -- the slices ----------------------------------------------------------------------


def test_no_order_of_the_fast_slice_breaks_a_promise(walker: Walker) -> None:
    tallies = [walker.walk(case) for case in cases.fast()]
    wrong = [f"{t.case}: {t.examples[0]}" for t in tallies if t.anomalies]
    assert not wrong, "\n".join(wrong)
    assert sum(tally.orders for tally in tallies) > 2000


def test_a_whole_blob_store_loses_updates_and_revives_what_was_destroyed(
    walker: Walker,
) -> None:
    lost = walker.walk(Case(("nest", "append"), "blob"))
    revived = walker.walk(Case(("look_set_own", "look_destroy"), "blob"))
    assert lost.anomalies
    assert any("lives again" in example for example in revived.examples)


def test_our_own_code_is_content_with_what_the_mutants_are_caught_by(
    walker: Walker,
) -> None:
    texts = {text for mutant in mutants.MUTANTS for text in mutant.cases}
    pairs = [case_of(text) for text in sorted(texts) if text.count("+") < 2]
    tallies = [walker.walk(case) for case in pairs if case.lock != "redlock"]
    assert [str(tally.case) for tally in tallies if tally.anomalies] == []


@pytest.mark.parametrize(
    "name",
    [
        "an update does not check that there is a record",
        "what is stored is not compared with what was read",
        "a commit that is sent again is not recognised",
    ],
)
def test_a_mutant_is_caught(name: str) -> None:
    (mutant,) = [mutant for mutant in mutants.MUTANTS if mutant.name == name]
    assert mutants.hunt(mutant).is_caught


def test_every_mutant_can_be_made() -> None:
    for mutant in mutants.MUTANTS:
        with mutants.mutated(mutant):
            pass
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)
    assert len(mutants.MUTANTS) >= 10


def test_a_mutant_whose_text_is_not_there_is_an_error() -> None:
    edit = mutants.Edit("scripts/load.lua", "no such text", "")
    with (
        pytest.raises(mutants.MutantError, match="0 times"),
        mutants.mutated(mutants.Mutant("none", (edit,), ())),
    ):
        pass


# -- the schedule --------------------------------------------------------------------


class Board:
    """What actors write on; what can be seen is a copy of it."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, letter: str) -> None:
        self.text += letter

    def writer(self, letters: str) -> Callable[[], None]:
        def act() -> None:
            for letter in letters:
                schedule.exchange(letter, lambda letter=letter: self.write(letter))

        return act

    def play(
        self,
        choose: Callable[..., Choice],
        *letters: str,
        losses: int = 0,
        **events: Callable[[], None],
    ) -> str:
        self.text = ""
        acts = {letters: self.writer(letters) for letters in letters}
        Play(acts, events, lambda: self.text, losses).run(choose)
        return self.text


def test_every_order_is_walked_once() -> None:
    board = Board()
    orders = list(walk(lambda choose: board.play(choose, "ab", "xy")))
    assert sorted(orders) == ["abxy", "axby", "axyb", "xaby", "xayb", "xyab"]


def test_an_event_happens_at_any_time_while_somebody_is_on_the_way() -> None:
    board = Board()
    orders = walk(lambda c: board.play(c, "ab", bang=lambda: board.write("!")))
    assert sorted(orders) == ["!ab", "a!b", "ab"]


def test_a_lost_reply_is_an_exchange_made_twice() -> None:
    board = Board()
    orders = list(walk(lambda choose: board.play(choose, "a", "x", losses=1)))
    once = ["ax", "xa"]
    twice = ["aax", "axa", "axx", "xaa", "xax", "xxa"]
    assert sorted(orders) == sorted(once + twice)


def test_an_error_of_a_lost_exchange_is_lost_too() -> None:
    tries: list[int] = []

    def act() -> None:
        def send() -> None:
            tries.append(1)
            if len(tries) == 1:
                raise RedisConnectionError

        schedule.exchange("send", send)

    Play({"a": act}, {}, lambda: None, losses=1).run(lambda options: options[-1])
    assert len(tries) == 2


def test_one_actor_runs_at_a_time() -> None:
    running: list[int] = []

    def act() -> None:
        for _ in range(5):
            schedule.exchange("step", lambda: running.append(threading.get_ident()))
            assert not busy.locked()
            with busy:
                pass

    busy = threading.Lock()
    Play({"a": act, "b": act}, {}, lambda: None).run(lambda options: options[-1])
    assert len(running) == 10
    assert len(set(running)) == 2


def test_a_waiter_goes_on_only_when_something_has_changed() -> None:
    seen: list[str] = []
    board = Board()

    def waiter() -> None:
        schedule.exchange("try", lambda: None)
        schedule.wait("again", lambda: seen.append(board.text))

    def play(choose: Callable[..., Choice]) -> None:
        board.text = ""
        Play({"w": waiter, "x": board.writer("x")}, {}, lambda: board.text).run(choose)

    assert len(list(walk(play))) == 2
    assert set(seen) == {"x"}


def test_a_waiter_for_whom_nothing_changes_is_stuck_and_unwound() -> None:
    unwound = []

    def waiter() -> None:
        try:
            schedule.wait("for ever", lambda: None)
        finally:
            unwound.append(True)

    play = Play({"w": waiter}, {}, lambda: None)
    play.run(lambda options: options[0])
    assert play.is_stuck
    assert unwound


def test_an_actor_error_is_raised_when_the_order_is_over() -> None:
    def act() -> None:
        schedule.exchange("step", lambda: None)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        Play({"a": act}, {}, lambda: None).run(lambda options: options[0])


def test_an_order_that_does_not_go_as_before_is_noticed() -> None:
    board, letters = Board(), iter(["ab", "abc", "abcd", "abcde"])
    with pytest.raises(Diverged):
        list(walk(lambda choose: board.play(choose, next(letters), "x")))


# -- the model -----------------------------------------------------------------------

STORED = Picture({"old": FIXTURE})
GONE = Picture({})


def picture(name: str = "old", **fields: object) -> Picture:
    return Picture({name: {**FIXTURE, **fields}})


def trial(
    *pictures: Picture, event: str = "", actors: str = "", **responses: Response
) -> Trial:
    """One step between each two pictures; each by a, or as the actors say."""
    bodies = {name: BODIES[response.detail] for name, response in responses.items()}
    names = actors or "a" * (len(pictures) - 1)
    whose = {"!": event}
    steps = [
        Step(whose.get(name, name), "step", before, after)
        for name, before, after in zip(names, pictures, pictures[1:], strict=False)
    ]
    case = Case(tuple(body.name for body in bodies.values()), "none", event)
    return Trial(case, bodies, steps, responses)


def told(body: str, at: int, cookie: str | None = None, record: str = "") -> Response:
    """A good answer to what was sent with the old cookie; the detail is the body."""
    return Response("old", "200 OK", "", body, cookie, record, at)


def saw(response: Response, at: int = 1, **fields: object) -> Response:
    response.sights.append(Sight(at, fields))
    return response


def test_a_commit_of_ones_own_is_right() -> None:
    assert judge(trial(STORED, picture(**{"own a": "a"}), a=told("set_own", 1))) == []


def test_a_commit_that_is_missing_is_wrong() -> None:
    (wrong,) = judge(trial(STORED, STORED, a=told("set_own", 1)))
    assert "nowhere" in wrong


def test_a_commit_that_takes_anothers_with_it_is_wrong() -> None:
    both = {"count": 10, "own a": "a"}
    wrong = judge(
        trial(picture(count=11), picture(**both), a=told("set_own", 1)),
    )
    assert "'count': 10" in wrong[0]


def test_a_nested_commit_is_merged() -> None:
    theirs = {**FIXTURE["nest"], "b": 1}
    a = saw(told("nest", 3), seed="original")
    b = told("read", 2)
    before = [STORED, STORED, picture(nest=theirs)]
    good = trial(*before, picture(nest={**theirs, "a": 1}), actors="aba", a=a, b=b)
    lost = {**FIXTURE["nest"], "a": 1}
    bad = trial(*before, picture(nest=lost), actors="aba", a=a, b=b)
    assert [w for w in judge(good) if w.startswith("a")] == []
    assert [w for w in judge(bad) if w.startswith("a makes")]


def test_a_reader_that_writes_is_wrong() -> None:
    a = saw(told("read", 1), seed="original")
    assert judge(trial(STORED, picture(shared="x"), a=a))


def test_who_is_gone_stays_so() -> None:
    a = saw(told("look_set_own", 3), seed="original")
    good = trial(STORED, STORED, GONE, GONE, event="expire", actors="a!a", a=a)
    bad = trial(STORED, STORED, GONE, STORED, event="expire", actors="a!a", a=a)
    assert judge(good) == []
    assert any("lives again" in wrong for wrong in judge(bad))


def test_who_finds_nothing_makes_a_new_one_and_gets_its_cookie() -> None:
    new = Picture({"new": {"own a": "a"}})
    steps = (STORED, GONE, GONE, new)
    good = trial(
        *steps, event="expire", actors="!aa", a=told("set_own", 3, "id", "new")
    )
    bad = trial(*steps, event="expire", actors="!aa", a=told("set_own", 3))
    assert judge(good) == []
    assert judge(bad) == ["a made a record, but gets no cookie for it"]


def test_two_of_one_descent_are_wrong() -> None:
    both = Picture({"old": FIXTURE, "new": FIXTURE})
    wrong = judge(trial(STORED, both, a=told("regenerate", 1, "id", "new")))
    assert any("one descent" in sentence for sentence in wrong)


def test_a_rotation_is_right_and_the_late_writer_follows_it() -> None:
    moved = picture("new")
    late = picture("new", **{"own b": "b"})
    a = told("regenerate", 2, "id", "new")
    b = saw(told("look_set_own", 3), seed="original")
    follows = trial(STORED, STORED, moved, late, actors="bab", a=a, b=b)
    dropped = trial(STORED, STORED, moved, moved, actors="bab", a=a, b=b)
    assert judge(follows) == []
    assert judge(dropped) == ["b was told 200, but its changes are not stored"]


def test_who_comes_after_a_rotation_may_not_follow_it() -> None:
    moved, late = picture("new"), picture("new", **{"own b": "b"})
    a, b = told("regenerate", 1, "id", "new"), told("set_own", 2)
    assert judge(trial(STORED, moved, moved, actors="ab", a=a, b=b)) == []
    (wrong,) = judge(trial(STORED, moved, late, actors="ab", a=a, b=b))
    assert "after the rotation" in wrong


def test_a_destruction_that_leaves_the_session_is_wrong() -> None:
    a = told("destroy", 1, "")
    a.destroyed_at = 1
    assert judge(trial(STORED, GONE, a=a)) == []
    assert judge(trial(STORED, STORED, a=a)) == ["a destroyed the session, which lives"]


def test_a_failure_is_wrong() -> None:
    a = Response("old", "503 Service Unavailable", detail="set_own", at=1)
    assert judge(trial(STORED, STORED, a=a))


def test_a_stranger_is_not_written_to() -> None:
    stranger, written = Picture({"old": {"other": 1}}), {"other": 1, "own a": "a"}
    a = saw(told("look_set_own", 3), seed="original")
    steps = STORED, STORED, stranger, Picture({"old": written})
    wrong = judge(trial(*steps, event="replace", actors="a!a", a=a))
    assert wrong == ["a changed another session than it had read"]


def test_what_never_expires_and_what_is_left_is_wrong() -> None:
    forever = STORED._replace(immortal=("key",))
    left = trial(STORED, forever, a=saw(told("read", 1), seed="original"))
    assert judge(left._replace(locks_left=["lock"], is_stuck=True)) == [
        "key key never expires",
        "lock lock is left",
        "a request waits for a lock for ever",
    ]


def test_who_reads_what_is_not_stored_is_wrong() -> None:
    assert judge(trial(STORED, STORED, a=saw(told("read", 1), seed="forged")))


def test_every_event_and_body_is_somewhere_in_the_full_slice() -> None:
    full = cases.full()
    assert {case.event for case in full} == {"", *cases.EVENTS}
    assert {case.lock for case in full} == set(cases.LOCKS)
    assert {body for case in full for body in case.bodies} >= BODIES.keys()
    assert len(set(full)) == len(full)
