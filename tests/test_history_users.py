"""Passwords and tokens are checked by their digests, which alone are stored."""

from datetime import UTC, datetime

import pytest
from databases import make_answer
from sqlalchemy import select

from bcnet.history import users as module
from bcnet.history.database import reading
from bcnet.history.tables import Token, User

SHIPPED_COST = module.COST
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def digests(monkeypatch):
    """Cheap digests; the list tells of each with which cost it was made."""
    made, digest = [], module._digest

    def note(password, salt, cost):
        made.append(cost)
        return digest(password, salt, cost)

    monkeypatch.setattr(module, "_digest", note)
    monkeypatch.setattr(module, "COST", 16)
    return made


@pytest.fixture
def users(history):
    history.users.add("anna", PASSWORD)
    return history.users


def test_check_knows_the_password(users):
    assert users.check("anna", PASSWORD)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("anna", PASSWORD + "!"),
        ("anna", ""),
        ("anna", "\udce4"),
        ("bea", PASSWORD),
        ("Anna", PASSWORD),
        ("anna\0", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        ("", ""),
    ],
)
def test_check_knows_no_other(users, name, password):
    assert not users.check(name, password)


@pytest.mark.parametrize("name", ["anna", "bea", "no name!"])
def test_check_takes_as_long_for_a_name_that_there_is_not(users, digests, name):
    digests.clear()
    users.check(name, "a wrong password")
    assert digests == [16]


def test_check_takes_the_longest_password_and_nothing_behind_it(users):
    users.add("bea", "x" * 1024)
    assert users.check("bea", "x" * 1024)
    assert not users.check("bea", "x" * 1025)


def test_check_takes_the_same_letters_however_they_are_typed(users):
    users.add("bea", "Größe und Würde")
    assert users.check("bea", "Gro\N{COMBINING DIAERESIS}ße und Wu\N{COMBINING DIAERESIS}rde")


def test_check_still_knows_passwords_of_another_cost(users, monkeypatch):
    monkeypatch.setattr(module, "COST", 32)
    assert users.check("anna", PASSWORD)


def test_the_cost_is_not_below_what_is_advised():
    # OWASP's table for p = 3: N = 2 ** 15, r = 8; the fixture has made COST cheap.
    assert (SHIPPED_COST, module.BLOCK, module.PARALLEL) >= (2**15, 8, 3)


def test_the_same_password_is_stored_differently_for_each(history, users):
    users.add("bea", PASSWORD)
    with reading(history._engine) as session:
        anna, bea = session.scalars(select(User).order_by(User.name))
    assert anna.salt != bea.salt
    assert anna.digest != bea.digest


def test_no_password_and_no_token_is_stored(history, users):
    token = users.create_token("anna")
    with reading(history._engine) as session:
        rows = [*session.execute(select(User.__table__)), *session.execute(select(Token.__table__))]
    stored = b" ".join(bytes(cell) for row in rows for cell in row if isinstance(cell, bytes))
    assert PASSWORD.encode() not in stored
    assert token.encode() not in stored


@pytest.mark.parametrize("name", ["", "Anna", "an na", "-anna", "a" * 65, "ann\0", "änna", None])
def test_add_refuses_a_name(users, name):
    with pytest.raises(ValueError, match="`name` must be 1 to 64 of a-z"):
        users.add(name, PASSWORD)


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 1025, None])
def test_add_refuses_a_password_without_telling_it(users, password):
    with pytest.raises(ValueError, match=r"`password` must have 12 to 1,024 letters$"):
        users.add("bea", password)


def test_add_refuses_a_name_that_is_taken(users):
    with pytest.raises(ValueError, match="there is a user 'anna' already"):
        users.add("anna", "another password")
    assert users.check("anna", PASSWORD)


def test_add_refuses_a_name_whose_answers_the_new_user_would_see(history, users):
    history.add([make_answer(owner="anna", time=datetime.now(UTC))])
    users.remove("anna")
    with pytest.raises(ValueError, match="an earlier user 'anna' has left answers"):
        users.add("anna", PASSWORD)
    history.delete_all("anna")
    users.add("anna", PASSWORD)


def test_list_gives_the_names_sorted(users):
    for name in ("zoe", "bea"):
        users.add(name, PASSWORD)
    assert users.list() == ["anna", "bea", "zoe"]


def test_remove_takes_the_tokens_too(users):
    token = users.create_token("anna")
    users.remove("anna")
    assert not users.check("anna", PASSWORD)
    assert users.check_token(token) is None
    assert users.list() == []


@pytest.mark.parametrize("change", ["remove", "create_token"])
def test_an_unknown_user_is_named(users, change):
    with pytest.raises(LookupError, match="there is no user 'bea'"):
        getattr(users, change)("bea")


def test_change_password_leaves_only_the_new_one(users):
    users.change_password("anna", "another password")
    assert users.check("anna", "another password")
    assert not users.check("anna", PASSWORD)


def test_change_password_of_an_unknown_user_is_refused(users):
    with pytest.raises(LookupError, match="there is no user 'bea'"):
        users.change_password("bea", PASSWORD)


def test_stamp_changes_with_the_password_and_goes_with_the_user(users):
    first = users.stamp("anna")
    assert users.stamp("anna") == first
    users.change_password("anna", PASSWORD)
    assert users.stamp("anna") not in (first, None)
    users.remove("anna")
    assert users.stamp("anna") is None


def test_check_token_tells_whose_it_is(users):
    users.add("bea", PASSWORD)
    tokens = {name: users.create_token(name) for name in ("anna", "bea")}
    assert {name: users.check_token(token) for name, token in tokens.items()} == {
        "anna": "anna",
        "bea": "bea",
    }


@pytest.mark.parametrize("token", ["", "bcnet_", "bcnet_\udce4", "' OR 1=1 --", "x" * 100_000])
def test_check_token_knows_no_other(users, token):
    users.create_token("anna")
    assert users.check_token(token) is None


def test_revoke_tokens_leaves_those_of_others(users):
    users.add("bea", PASSWORD)
    tokens = [users.create_token(name) for name in ("anna", "anna", "bea")]
    assert users.revoke_tokens("anna") == 2
    assert [users.check_token(token) for token in tokens] == [None, None, "bea"]
