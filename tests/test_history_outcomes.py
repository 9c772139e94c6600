"""Live metrics: what the entered outcomes say of each model, and when they say too little."""

from datetime import UTC, datetime, timedelta

import pytest
from databases import make_answer

from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.subgroups import TOO_FEW

MAY = datetime(2026, 5, 1, tzinfo=UTC)

# Ten benign and twelve malignant cases, two of each called wrongly at 0.5.
Y_TRUE = [0] * 10 + [1] * 12
Y_PROB = [0.1] * 4 + [0.3] * 4 + [0.6, 0.7] + [0.2, 0.4] + [0.8] * 6 + [0.95] * 4


def add_cases(history, y_true, y_prob, **changes):
    answers = [
        make_answer(probability=p, time=MAY + timedelta(minutes=i), **changes)
        for i, p in enumerate(y_prob)
    ]
    ids = history.add(answers)
    for id, label in zip(ids, y_true, strict=True):
        history.set_outcome(id, ("benign", "malignant")[label], owner=changes.get("owner"))


def test_summarise_gives_what_evaluate_says(history):
    add_cases(history, Y_TRUE, Y_PROB)
    history.add([make_answer()])  # of which no outcome is known
    [measured] = history.summarise()
    expected = evaluate(Y_TRUE, Y_PROB)
    assert measured["confusion_matrix"] == expected["confusion_matrix"] == [[8, 2], [2, 10]]
    for name in ("sensitivity", "specificity", "auc"):
        assert measured[name] == expected["image"][name]
    counts = [measured[name] for name in ("n_cases", "n_benign", "n_malignant")]
    assert counts == [22, 10, 12]


def test_summarise_bounds_the_calibration(history):
    add_cases(history, Y_TRUE, Y_PROB)
    [measured] = history.summarise()
    brier = sum((p - y) ** 2 for y, p in zip(Y_TRUE, Y_PROB, strict=True)) / len(Y_TRUE)
    found = measured["calibration"]["brier"]
    assert found["value"] == pytest.approx(brier)
    assert found["low"] < brier < found["high"]


@pytest.mark.parametrize(
    ("n_benign", "n_malignant", "told"),
    [
        (9, 10, {"sensitivity"}),
        (10, 9, {"specificity"}),
        (0, 1, set()),
        (10, 10, {"sensitivity", "specificity", "auc", "calibration"}),
    ],
)
def test_summarise_says_where_cases_are_too_few(history, n_benign, n_malignant, told):
    y_true = [0] * n_benign + [1] * n_malignant
    add_cases(history, y_true, [0.3 + 0.4 * label for label in y_true])
    [measured] = history.summarise()
    measures = ("sensitivity", "specificity", "auc", "calibration")
    assert {name for name in measures if measured[name] != TOO_FEW} == told


def test_summarise_without_outcomes_is_empty(history):
    history.add([make_answer()])
    assert history.summarise() == []


def test_summarise_leaves_out_what_was_not_answered(history):
    [id] = history.add([make_answer(probability=None, label=None, status="unreadable: empty")])
    history.set_outcome(id, "benign")
    assert history.summarise() == []


def test_summarise_measures_each_model_file_and_threshold_by_itself(history):
    add_cases(history, [1], [0.9])
    add_cases(history, [1, 0], [0.9, 0.1], threshold=0.7)
    add_cases(history, [1, 0, 0], [0.9, 0.1, 0.2], model_hash="b" * 64)
    told = [(one["model_hash"][0], one["threshold"], one["n_cases"]) for one in history.summarise()]
    assert told == [("b", 0.5, 3), ("a", 0.7, 2), ("a", 0.5, 1)]


def test_summarise_counts_the_same_input_once_by_its_newest_answer(history):
    add_cases(history, [1, 0], [0.9, 0.2], input_hash="the same")
    [measured] = history.summarise()
    assert (measured["n_cases"], measured["n_repeated"]) == (1, 1)
    assert measured["confusion_matrix"] == [[1, 0], [0, 0]]  # the newest one: 0.2 and benign


def test_summarise_takes_the_newest_cases_where_there_are_very_many(history, monkeypatch):
    monkeypatch.setattr("bcnet.history.outcomes.MOST_CASES", 2)
    add_cases(history, [1, 0, 0], [0.9, 0.1, 0.2])
    [measured] = history.summarise()
    counts = [measured[name] for name in ("n_benign", "n_malignant", "n_older")]
    assert counts == [2, 0, 1]


def test_summarise_measures_anew_once_an_outcome_changes(history):
    add_cases(history, [1], [0.9])
    history.summarise()[0]["confusion_matrix"].clear()  # what one caller does with it is his
    [id] = [row["id"] for row in history.search().rows]
    assert history.summarise()[0]["confusion_matrix"] == [[0, 0], [0, 1]]
    history.set_outcome(id, "benign")
    assert history.summarise()[0]["confusion_matrix"] == [[0, 1], [0, 0]]


def test_summarise_takes_the_filters_of_search(history):
    add_cases(history, [1, 0], [0.9, 0.1])
    [measured] = history.summarise(since=MAY + timedelta(seconds=1), outcome="unknown")
    assert (measured["n_benign"], measured["n_malignant"]) == (1, 0)


def test_summarise_says_what_these_cases_are(history):
    add_cases(history, [1], [0.9])
    [measured] = history.summarise()
    assert measured["unit"] == "image-level: patients unknown"
    assert "followed up less often" in measured["caveat"]
