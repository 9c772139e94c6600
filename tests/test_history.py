"""What is kept can be found, completed and deleted, by its owner and by no one else."""

from datetime import UTC, datetime, timedelta

import pytest
from databases import make_answer

from bcnet.history import Deleted

MAY = datetime(2026, 5, 1, tzinfo=UTC)


def add_days(history, count, **changes):
    """Add an answer for each of some days in May; return the ids, the oldest first."""
    return history.add(
        [make_answer(time=MAY + timedelta(days=day), **changes) for day in range(count)]
    )


def list_ids(page):
    return [row["id"] for row in page.rows]


# Keeping


def test_add_gives_back_what_was_added(history):
    answer = make_answer(
        time=MAY,
        batch="9ac1a5a5-7f7f-4d0c-8ac8-000000000000",
        owner="anna",
        verdicts={"gate": "familiar", "distance": 0.5},
        name="Größe \N{MICROSCOPE}.png",
        image="picture-1",
        measurements={"radius_mean": 14.5, "area_mean": None},
    )
    [id] = history.add([answer])
    nothing = dict.fromkeys(["reason", "outcome", "outcome_by", "outcome_time", "note"])
    assert history.get(id, "anna") == {"id": id, **answer, **nothing}


def test_add_keeps_no_name_picture_or_measurements_unless_given(history):
    [id] = history.add([make_answer()])
    row = history.get(id)
    assert [row[name] for name in ("name", "image", "measurements")] == [None] * 3


def test_add_splits_a_status_from_its_reason(history):
    [id] = history.add([make_answer(status="unreadable: truncated: 12 bytes")])
    row = history.get(id)
    assert (row["status"], row["reason"]) == ("unreadable", "truncated: 12 bytes")


def test_add_gives_what_was_asked_together_one_batch(history):
    ids = history.add([make_answer(), make_answer()])
    [other] = history.add([make_answer()])
    batches = [history.get(id)["batch"] for id in [*ids, other]]
    assert batches[0] == batches[1] != batches[2]


def test_add_stores_the_time_of_another_zone_as_utc(history):
    in_june = datetime.fromisoformat("2026-06-01T01:00:00+02:00")
    [id] = history.add([make_answer(time=in_june)])
    assert history.get(id)["time"].isoformat() == "2026-05-31T23:00:00+00:00"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "slide"}, r"`kind` must be one of .*Received: kind='slide'"),
        ({"probability": 1.4}, r"`probability` must be between 0 and 1. Received: probability=1.4"),
        ({"probability": float("nan")}, "`probability` must be between 0 and 1"),
        ({"label": "unsure"}, "`label` must be one of"),
        ({"time": datetime(2026, 5, 1)}, "`time` must be a datetime with a time zone"),
        ({"model": None}, r"missing=\['model'\]"),
        ({"patient": "7"}, r"unknown=\['patient'\]"),
        ({"name": "a\0b"}, "`name` must be a text"),
        ({"name": "\udce4.png"}, "`name` must be a text"),
        ({"name": "x" * 10_001}, "`name` must be a text of at most 10,000 letters"),
        ({"measurements": {"radius_mean": float("nan")}}, "`measurements` must be a dict"),
        ({"verdicts": ["familiar"]}, "`verdicts` must be a dict"),
    ],
)
def test_add_refuses(history, changes, message):
    with pytest.raises(ValueError, match=message):
        history.add([make_answer(**changes)])


def test_add_refuses_a_probability_without_its_threshold(history):
    answer = make_answer()
    del answer["threshold"]
    with pytest.raises(ValueError, match="must have `threshold` and `label`"):
        history.add([answer])


def test_add_keeps_all_or_none(history):
    with pytest.raises(ValueError, match="kind"):
        history.add([make_answer(), make_answer(kind="slide")])
    assert history.search().total == 0


def test_get_of_an_unknown_id_is_none(history):
    assert history.get("no such id") is None


# Searching


def test_search_gives_the_newest_first(history):
    ids = add_days(history, 5)
    assert list_ids(history.search()) == ids[::-1]


def test_search_orders_answers_of_one_moment_by_when_they_were_added(history):
    ids = history.add([make_answer(time=MAY) for _ in range(5)])
    assert list_ids(history.search()) == ids[::-1]


def test_search_pages_give_each_answer_once(history):
    ids = add_days(history, 7)
    pages = [history.search(page=page, size=3) for page in (1, 2, 3, 4)]
    assert [list_ids(page) for page in pages] == [ids[:3:-1], ids[3:0:-1], ids[:1], []]
    assert {page.total for page in pages} == {7}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"model": "cells"}, [0, 1]),
        ({"model_hash": "b" * 64}, [1]),
        ({"label": "benign"}, [2]),
        ({"status": "outside the measured range"}, [1]),
        ({"batch": "batch-4"}, [4]),
        ({"kind": "measurements"}, [0, 1]),
        ({"since": MAY + timedelta(days=3)}, [3, 4]),
        ({"until": MAY + timedelta(days=1)}, [0]),
        ({"outcome": "benign"}, [3]),
        ({"outcome": "malignant"}, [4]),
        ({"outcome": "known"}, [3, 4]),
        ({"outcome": "unknown"}, [0, 1, 2]),
        ({"model": "cells", "status": "ok"}, [0]),
    ],
    ids=str,
)
def test_search_filters(history, filters, expected):
    cells = {"kind": "measurements", "model": "cells"}
    changes = [
        cells,
        {**cells, "model_hash": "b" * 64, "status": "outside the measured range: area_mean"},
        {"label": "benign"},
        {},
        {"batch": "batch-4"},
    ]
    times = [MAY + timedelta(days=day) for day in range(5)]
    ids = history.add([make_answer(time=t, **c) for t, c in zip(times, changes, strict=True)])
    history.set_outcome(ids[3], "benign")
    history.set_outcome(ids[4], "malignant")
    assert list_ids(history.search(**filters)) == [ids[i] for i in reversed(expected)]


@pytest.mark.parametrize("text", ["ärz", "ÄRZTIN", "Bea's", "50%_off"])
def test_search_finds_a_text_in_a_note_whatever_its_case(history, text):
    ids = add_days(history, 2)
    history.set_note(ids[0], "die Ärztin: Bea's note, 50%_off")
    assert list_ids(history.search(text=text)) == ids[:1]


def test_search_finds_a_text_in_a_name(history):
    ids = history.add([make_answer(name="Slide 7.PNG"), make_answer()])
    assert list_ids(history.search(text="slide 7.png")) == ids[:1]


@pytest.mark.parametrize("text", ["%", "_", "\\", "' OR 1=1 --", "'; DROP TABLE answers; --", "/"])
def test_search_takes_a_text_as_it_stands(history, text):
    [id, _] = history.add([make_answer(), make_answer()])
    history.set_note(id, "nothing to be found")
    assert history.search(text=text).total == 0
    assert history.search().total == 2


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"patient": "7"}, "`filter` must be one of .*Received: filter='patient'"),
        ({"label": "' OR 1=1 --"}, "`label` must be one of"),
        ({"outcome": "unsure"}, "`outcome` must be one of"),
        ({"since": "yesterday"}, "`since` must be a datetime"),
        ({"text": "a\0b"}, "`text` must be a text"),
        ({"page": 0}, "`page` must be a whole number from 1 to"),
        ({"page": 10**30}, "`page` must be a whole number from 1 to"),
        ({"size": 1001}, "`size` must be a whole number from 1 to 1,000"),
    ],
)
def test_search_refuses(history, filters, message):
    with pytest.raises(ValueError, match=message):
        history.search(**filters)


def test_export_gives_what_search_finds(history, monkeypatch):
    monkeypatch.setattr("bcnet.history.store.LARGEST_PAGE", 3)
    add_days(history, 7, label="benign")
    add_days(history, 4)
    assert list(history.export(label="benign")) == [
        row for page in (1, 2, 3) for row in history.search(label="benign", page=page, size=3).rows
    ]


def test_export_goes_on_where_it_was_while_answers_come_and_go(history, monkeypatch):
    monkeypatch.setattr("bcnet.history.store.LARGEST_PAGE", 2)
    ids = add_days(history, 6)
    rows = history.export()
    first = next(rows)["id"]
    history.add([make_answer()])
    history.delete([ids[5], ids[0]])
    assert [first, *(row["id"] for row in rows)] == ids[:0:-1]


def test_export_refuses_a_filter_at_once(history):
    with pytest.raises(ValueError, match="`filter` must be one of"):
        history.export(patient="7")


# Outcomes, notes and their audit


def test_set_outcome_says_who_entered_it_and_when(history):
    [id] = history.add([make_answer(owner="anna")])
    before = datetime.now(UTC)
    history.set_outcome(id, "benign", owner="anna")
    row = history.get(id, "anna")
    assert (row["outcome"], row["outcome_by"]) == ("benign", "anna")
    assert before <= row["outcome_time"] <= datetime.now(UTC)


def test_set_outcome_taken_back_leaves_none(history):
    [id] = history.add([make_answer()])
    history.set_outcome(id, "benign", by="bea")
    history.set_outcome(id, None, by="bea")
    row = history.get(id)
    assert [row[name] for name in ("outcome", "outcome_by", "outcome_time")] == [None] * 3


def test_every_change_of_an_outcome_is_an_audit_row(history):
    [id] = history.add([make_answer()])
    for outcome, by in (("benign", "anna"), ("malignant", "bea"), (None, "anna")):
        history.set_outcome(id, outcome, by=by)
    told = [tuple(c[n] for n in ("what", "by", "before", "after")) for c in history.audit(id)]
    assert told == [
        ("outcome", "anna", None, "benign"),
        ("outcome", "bea", "benign", "malignant"),
        ("outcome", "anna", "malignant", None),
    ]


def test_an_outcome_that_stands_already_is_no_change(history):
    [id] = history.add([make_answer()])
    history.set_outcome(id, "benign", by="anna")
    history.set_outcome(id, "benign", by="bea")
    assert [change["by"] for change in history.audit(id)] == ["anna"]


def test_set_outcome_refuses_another_word(history):
    [id] = history.add([make_answer()])
    with pytest.raises(ValueError, match="`outcome` must be one of"):
        history.set_outcome(id, "unknown")


def test_set_note_is_audited_without_its_text(history):
    [id] = history.add([make_answer()])
    history.set_note(id, "biopsy on Monday", by="anna")
    assert history.get(id)["note"] == "biopsy on Monday"
    [change] = history.audit(id)
    assert (change.pop("time") and change) == {
        "by": "anna",
        "what": "note",
        "before": None,
        "after": None,
    }


def test_set_note_of_an_empty_text_takes_it_away(history):
    [id] = history.add([make_answer()])
    history.set_note(id, "biopsy on Monday")
    history.set_note(id, "")
    assert history.get(id)["note"] is None


# Deleting


def test_delete_leaves_only_the_audit(history):
    ids = history.add([make_answer(), make_answer(image="kept")])
    history.set_outcome(ids[1], "benign", by="anna")
    assert history.delete([ids[1], "no such id"], by="bea") == Deleted(1, ["kept"])
    assert history.get(ids[1]) is None
    assert list_ids(history.search()) == ids[:1]
    told = [(change["what"], change["by"]) for change in history.audit(ids[1])]
    assert told == [("outcome", "anna"), ("deleted", "bea")]


def test_delete_takes_more_ids_than_a_statement(history, monkeypatch):
    monkeypatch.setattr("bcnet.history.store.LARGEST_PAGE", 2)
    ids = add_days(history, 5)
    assert history.delete(ids).count == 5


def test_expire_deletes_what_is_older_of_all_owners(history):
    now = datetime.now(UTC)
    old, new = now - timedelta(days=30, minutes=1), now - timedelta(days=30, minutes=-1)
    ids = history.add([make_answer(time=t, owner=o) for t in (old, new) for o in ("anna", None)])
    assert history.expire(30).count == 2
    left = [history.search(owner=owner).total for owner in ("anna", None)]
    assert left == [1, 1]
    assert [change["by"] for change in history.audit(ids[1])] == ["(retention)"]


@pytest.mark.parametrize("days", [0, -1, float("nan"), 10**9])
def test_expire_refuses(history, days):
    with pytest.raises(ValueError, match="`days` must be above 0"):
        history.expire(days)


# One owner never meets another's


@pytest.fixture
def anna_and_bea(history):
    """Ids of an answer of each, anna's with an outcome."""
    ids = history.add([make_answer(owner="anna"), make_answer(owner="bea"), make_answer()])
    history.set_outcome(ids[0], "malignant", owner="anna")
    return ids


@pytest.mark.parametrize("other", ["bea", None, "", "Anna", "anna' --"])
@pytest.mark.parametrize(
    ("ask", "nothing"),
    [
        (lambda history, id, owner: history.get(id, owner), None),
        (lambda history, id, owner: id in list_ids(history.search(owner=owner)), False),
        (lambda history, id, owner: id in {r["id"] for r in history.export(owner=owner)}, False),
        (lambda history, id, owner: history.audit(id, owner), []),
        (lambda history, id, owner: history.summarise(owner=owner), []),
        (lambda history, id, owner: history.delete([id], owner=owner).count, 0),
    ],
    ids=["get", "search", "export", "audit", "summarise", "delete"],
)
def test_another_owner_finds_nothing(history, anna_and_bea, ask, nothing, other):
    assert ask(history, anna_and_bea[0], other) == nothing
    assert ask(history, anna_and_bea[0], "anna") != nothing


@pytest.mark.parametrize("other", ["bea", None])
@pytest.mark.parametrize("change", ["set_outcome", "set_note"])
def test_another_owner_changes_nothing(history, anna_and_bea, change, other):
    before = history.get(anna_and_bea[0], "anna")
    with pytest.raises(LookupError, match="there is no such answer"):
        getattr(history, change)(anna_and_bea[0], "benign", owner=other)
    assert history.get(anna_and_bea[0], "anna") == before


@pytest.mark.parametrize("owner", ["anna", "bea", None])
def test_delete_all_leaves_the_others(history, anna_and_bea, owner):
    assert history.delete_all(owner).count == 1
    left = [history.search(owner=each).total for each in ("anna", "bea", None)]
    assert left == [int(each != owner) for each in ("anna", "bea", None)]
