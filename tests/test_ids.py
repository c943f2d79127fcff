"""The id of a session, and what of it may be seen."""

import ast
import hashlib
import inspect
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartredis_wsgi import ids
from smartredis_wsgi.ids import ID, Address, id_after, new_id, new_incarnation, stand_in


def test_an_id_is_well_formed():
    for _ in range(100):
        assert ID.fullmatch(new_id())
        assert ID.fullmatch(new_id(like=new_id()))


def test_no_two_ids_are_alike():
    assert len({new_id() for _ in range(1000)}) == 1000
    like = new_id()
    assert len({new_id(like=like) for _ in range(1000)} | {like}) == 1001


def test_an_id_that_is_like_another_has_256_random_bits_of_its_own(monkeypatch):
    asked = []
    truly = ids.secrets.token_urlsafe
    monkeypatch.setattr(
        ids.secrets, "token_urlsafe", lambda size: asked.append(size) or truly(size)
    )
    new_id(like="x" * 59)
    assert sum(asked) >= 32


def test_an_incarnation_has_128_random_bits(monkeypatch):
    monkeypatch.setattr(ids.secrets, "token_urlsafe", lambda size: f"{size} bytes")
    assert new_incarnation() == b"16 bytes"


def test_chance_comes_from_secrets_alone():
    tree = ast.parse(inspect.getsource(ids))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "secrets" in imported
    assert not imported & {"random", "uuid", "time", "os"}


@given(st.text())
@example("x" * 58)
@example("x" * 60)
@example("x" * 59 + "\n")
@example("é" * 59)
@example("٣" * 59)
@example("x" * 58 + "\0")
def test_what_is_not_59_urlsafe_characters_is_no_id(text):
    is_id = len(text) == 59 and re.fullmatch("[A-Za-z0-9_-]*", text, re.ASCII)
    assert bool(ID.fullmatch(text)) is bool(is_id and text[-1:] != "\n")


def test_an_address_is_always_the_same_for_an_id():
    session_id = new_id()
    assert Address.of(session_id) == Address.of(str(session_id))
    assert Address.of(session_id) != Address.of(new_id())


def test_an_id_leads_where_it_has_always_led():
    digest = "6e20a1199bf58ddb8fadbe63725f1dd9de8440153af062ca56b70d99a22c306e"
    slot = "{9c5729595fb287cc}"
    assert Address.of("x" * 59) == (slot + digest, slot)
    label, digits = "THKXg3PHrzPJnBmL", "0ffbee53001092d209d4b79f0ffb2336"
    assert stand_in("ann's") == f"{label}:{digits}8bad616cd45cff0ff9641dcb63408a04"
    tail = "a7Wwqqf4p5_hRf2F3iGrNH1BGj-cVNG9sP0Ez2nCMZU"
    assert id_after("ann's", b"incarnation") == label + tail


def test_an_address_holds_digests_only():
    for _ in range(50):
        session_id = new_id()
        address = Address.of(session_id)
        assert hashlib.sha256(session_id.encode()).hexdigest() in address.record
        for text in (*address, repr(address)):
            for start in range(len(session_id) - 8):
                assert session_id[start : start + 8] not in text


def test_a_rotated_session_has_its_lock_and_its_slot_and_another_record():
    before = new_id()
    after = new_id(like=before)
    old, new = Address.of(before), Address.of(after)
    assert old.lock == new.lock
    assert old.record != new.record
    assert old.handle != new.handle


def test_a_record_and_its_lock_share_a_cluster_slot():
    address = Address.of(new_id())
    tags = [re.search(r"\{([^{}]+)\}", name)[1] for name in address[:2]]
    assert tags[0] == tags[1]


def test_sessions_are_spread_over_the_slots():
    assert len({Address.of(new_id()).lock for _ in range(200)}) == 200


@pytest.mark.parametrize("at", [0, 15, 16, 58])
def test_every_character_of_the_id_counts(at):
    session_id = "x" * 59
    other = session_id[:at] + "y" + session_id[at + 1 :]
    assert Address.of(session_id).record != Address.of(other).record


def test_a_handle_is_the_beginning_of_the_digest_and_short():
    session_id = new_id()
    handle = Address.of(session_id).handle
    assert 6 <= len(handle) <= 12
    assert hashlib.sha256(session_id.encode()).hexdigest().startswith(handle)
