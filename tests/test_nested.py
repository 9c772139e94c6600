import json

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB

from bcnet.data.quantities import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.paired import MEASURES, Bootstrap, estimate
from bcnet.measurements import folds
from bcnet.measurements.cache import digest, keep, recall
from bcnet.measurements.folds import Task, answer_tasks, plan_tasks
from bcnet.measurements.judging import (
    estimate_differences,
    estimate_each,
    sample_locked,
    sample_metrics,
    sample_share,
)
from bcnet.measurements.luck import find_share, try_luck
from bcnet.measurements.models import FAMILIES
from bcnet.measurements.nested import compare_models, format_models
from bcnet.plots.models import plot_luck, plot_models

NAMES = ["naive_bayes", "svm_linear"]
SETTINGS = {"quick": True, "seed": 0, "rule": "sensitivity", "target": 0.9}


@pytest.fixture(scope="module")
def table():
    return load_wisconsin().iloc[::3].reset_index(drop=True)


@pytest.fixture(scope="module")
def result(table):
    return compare_models(table, names=NAMES, quick=True, repeats=2, jobs=1)


def draw_noise(n_rows, seed):
    """Draw measurements that say nothing of the labels beside them."""
    rng = np.random.default_rng(seed)
    noise = pd.DataFrame(rng.lognormal(size=(n_rows, len(FEATURES))), columns=list(FEATURES))
    labels = rng.permutation(np.arange(n_rows) % 2)
    return noise.assign(label=labels, patient_id=[str(i) for i in range(n_rows)])


def measure_auc(y_true, y_prob):
    return evaluate(y_true, y_prob, draws=1)["image"]["auc"]["value"]


# Leaks


@pytest.fixture
def small_grid(monkeypatch):
    """Let naive Bayes choose between few and many measurements only, to be done sooner."""
    family = FAMILIES["naive_bayes"]._replace(grid={"select__k": [5, 20]})
    monkeypatch.setitem(FAMILIES, "naive_bayes", family)


@pytest.mark.usefixtures("small_grid")
def test_compare_models_finds_nothing_in_shuffled_labels(table):
    labels = np.random.default_rng(0).permutation(table["label"])
    found = compare_models(table.assign(label=labels), names=["naive_bayes"], repeats=1, jobs=1)
    assert 0.35 < found["models"]["naive_bayes"]["metrics"]["auc"]["value"] < 0.65


@pytest.mark.usefixtures("small_grid")
def test_compare_models_selects_inside_the_folds():
    # Averages over draws: with so few patients, noise alone gives one draw an AUC of 0.4 or 0.6.
    outside, inside = [], []
    for seed in range(2):
        noise = draw_noise(60, seed)
        chosen = SelectKBest(k=5).fit_transform(noise[list(FEATURES)], noise["label"])
        leaked = cross_val_predict(GaussianNB(), chosen, noise["label"], method="predict_proba")
        outside.append(measure_auc(noise["label"], leaked[:, 1]))
        tasks = plan_tasks(noise, ["naive_bayes"], folds=5, repeats=1, seed=seed)
        answers = answer_tasks(tasks, noise, {**SETTINGS, "quick": False}, jobs=1)
        inside.append(
            measure_auc(noise["label"], folds.spread(tasks, "naive_bayes", pick(answers))[0])
        )
    assert np.mean(outside) > 0.62
    assert np.mean(inside) < 0.55


def pick(answers, field="y_prob"):
    return {place: answer[field] for place, answer in answers.items()}


@pytest.mark.parametrize("name", ["naive_bayes", "svm_linear"])
def test_answers_depend_on_no_patient_of_their_fold(table, name):
    rows = np.arange(len(table))
    task = Task(name, 0, 0, rows[rows % 5 > 0], rows[rows % 5 == 0])
    changed = table.copy()
    others = task.test[1:]
    changed.loc[others, list(FEATURES)] *= 3
    changed.loc[task.test, "label"] = 1 - table.loc[task.test, "label"]
    before, after = (
        answer_tasks([task], each, {**SETTINGS, "quick": False}, jobs=1)[task[:3]]
        for each in (table, changed)
    )
    assert before["choices"] == after["choices"]
    before, after = ([each["y_prob"][0], each["threshold"]] for each in (before, after))
    assert before == pytest.approx(after, abs=1e-9)  # a copied table adds up in another order


def test_compare_models_keeps_the_rows_of_a_patient_together(table):
    twice = pd.concat([table, table], ignore_index=True)
    found = compare_models(twice, names=["naive_bayes"], quick=True, jobs=1)
    first, second = np.split(np.array(found["fold"][0]), 2)
    assert np.array_equal(first, second)
    assert found["n_patients"] == len(table)


# The cache


def test_recall_finds_what_was_kept(tmp_path):
    keep(tmp_path, "key", {"y_prob": [0.1, 1 / 3]})
    assert recall(tmp_path, "key") == {"y_prob": [0.1, 1 / 3]}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"answer": 1}', '{"digest": "0", "answer": 1}']
)
def test_recall_trusts_no_damaged_file(tmp_path, content):
    (tmp_path / "key.json").write_text(content)
    assert recall(tmp_path, "key") is None


def test_recall_trusts_no_bytes_that_are_not_text(tmp_path):
    (tmp_path / "key.json").write_bytes(b"\xff\xfe\x00")
    assert recall(tmp_path, "key") is None


def test_keep_without_a_folder_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep(None, "key", 1)
    assert list(tmp_path.iterdir()) == []


def test_digest_tells_values_apart():
    assert digest({"C": 0.1}) != digest({"C": 0.3})


def test_digest_is_the_same_for_two_objects_of_a_class():
    assert digest([GaussianNB()]) == digest([GaussianNB()])


def count_fits(monkeypatch):
    """Count the folds that are fitted from here on."""
    fitted, fit = [], folds.fit_measurements

    def fit_and_count(table, name, **settings):
        fitted.append(name)
        return fit(table, name, **settings)

    monkeypatch.setattr(folds, "fit_measurements", fit_and_count)
    return fitted


def run_cached(table, cache, **settings):
    return compare_models(table, names=["naive_bayes"], quick=True, cache=cache, jobs=1, **settings)


@pytest.fixture(scope="module")
def kept(table, tmp_path_factory):
    """A folder with all answers of a run."""
    folder = tmp_path_factory.mktemp("kept")
    run_cached(table, folder)
    return folder


def test_compare_models_resumes_what_was_stopped(table, result, tmp_path, monkeypatch):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cached(table, tmp_path, progress=stop)
    fitted = count_fits(monkeypatch)
    resumed = run_cached(table, tmp_path)
    assert len(fitted) == 3
    uninterrupted = result["models"]["naive_bayes"]["y_prob"][0]
    assert resumed["models"]["naive_bayes"]["y_prob"][0] == uninterrupted


def test_compare_models_computes_a_damaged_answer_again(table, result, kept, monkeypatch):
    next(kept.glob("*.json")).write_text("{}")
    fitted = count_fits(monkeypatch)
    found = run_cached(table, kept)["models"]["naive_bayes"]["y_prob"][0]
    assert len(fitted) == 1
    assert found == result["models"]["naive_bayes"]["y_prob"][0]


@pytest.mark.parametrize("change", ["value", "label", "seed", "target"])
def test_answer_tasks_takes_no_answer_to_another_question(table, tmp_path, monkeypatch, change):
    tasks = plan_tasks(table, ["naive_bayes"], folds=5, repeats=1, seed=0)[:1]
    answer_tasks(tasks, table, SETTINGS, cache=tmp_path, jobs=1)
    fitted, changed, settings = count_fits(monkeypatch), table.copy(), dict(SETTINGS)
    if change == "value":
        changed.loc[0, "mean radius"] += 0.01
    elif change == "label":
        changed.loc[0, "label"] = 1 - changed.loc[0, "label"]
    else:
        settings[change] = {"seed": 1, "target": 0.95}[change]
    answer_tasks(tasks, changed, settings, cache=tmp_path, jobs=1)
    assert len(fitted) == 1


# Judging


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(80) % 2)
    return labels, np.clip(rng.normal(0.35 + 0.3 * labels, 0.2, size=(3, 80)), 0.01, 0.99)


@pytest.fixture(scope="module")
def bootstrap(scores):
    return Bootstrap(scores[0], range(80), draws=300)


@pytest.mark.parametrize("name", ["auc", "accuracy", "sensitivity", "specificity", "f1"])
def test_sample_metrics_of_one_repeat_are_those_of_evaluate(scores, bootstrap, name):
    labels, y_prob = scores
    expected = evaluate(labels, y_prob[0], draws=1)["image"][name]["value"]
    assert sample_metrics(y_prob[:1], bootstrap)[name][0] == pytest.approx(expected)


def test_sample_metrics_average_over_the_repeats(scores, bootstrap):
    _, y_prob = scores
    single = [sample_metrics(each[None], bootstrap)["auc"][0] for each in y_prob]
    assert sample_metrics(y_prob, bootstrap)["auc"][0] == pytest.approx(np.mean(single))


def test_sample_metrics_gain_no_patients_by_repeating(scores, bootstrap):
    _, y_prob = scores
    once = estimate_each(sample_metrics(y_prob[:1], bootstrap))["accuracy"]
    often = estimate_each(sample_metrics(np.repeat(y_prob[:1], 5, axis=0), bootstrap))["accuracy"]
    assert often == pytest.approx(once)


def test_sample_locked_judges_each_row_by_its_own_threshold(scores, bootstrap):
    labels, y_prob = scores
    thresholds = np.where(np.arange(80) < 40, 0.3, 0.7)[None]
    found = sample_locked(y_prob[:1], thresholds, bootstrap)["accuracy"][0]
    assert found == pytest.approx(np.mean((y_prob[0] >= thresholds[0]) == labels))


def test_sample_share_follows_the_draws(bootstrap):
    share = sample_share(bootstrap)
    assert share[0] == pytest.approx(0.5)
    assert np.allclose(share[1:], bootstrap.counts[:, bootstrap.groups] @ bootstrap.y_true / 80)


def test_estimate_differences_are_paired(scores, bootstrap):
    _, y_prob = scores
    a, b = (bootstrap.measure(each, threshold=0.5) for each in y_prob[:2])
    samples = [sample_metrics(each[None], bootstrap) for each in y_prob[:2]]
    column = MEASURES.index("accuracy")
    expected = estimate(b[:, column] - a[:, column])
    found = estimate_differences(samples[1], samples[0])["accuracy"]
    assert {end: found[end] for end in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "within"), [(-0.2, False), (0.0, True), (0.2, False)])
def test_estimate_differences_say_what_is_within_noise(shift, within):
    noise = np.r_[0, np.random.default_rng(0).normal(0, 0.05, 500)]
    samples = {"auc": shift + noise}
    found = estimate_differences(samples, {"auc": np.zeros(501)})["auc"]
    assert found["within_noise"] is within


# The table of models


def test_compare_models_gives_what_json_can_hold(result):
    assert json.loads(json.dumps(result)) == result


def test_compare_models_names_the_highest_auc_the_winner(result):
    best = max(result["models"], key=lambda name: result["models"][name]["metrics"]["auc"]["value"])
    assert result["winner"] == best


def test_compare_models_finds_no_difference_of_the_winner_to_himself(result):
    difference = result["models"][result["winner"]]["difference"]["auc"]
    assert (difference["low"], difference["high"], difference["within_noise"]) == (0, 0, True)


def test_compare_models_divides_anew_in_each_repeat(result):
    assert result["fold"][0] != result["fold"][1]


def test_compare_models_states_the_majority(table, result):
    benign = np.mean(table["label"] == 0)
    assert result["majority_accuracy"]["value"] == pytest.approx(benign)


def test_compare_models_counts_imputed_values(table):
    holes = table.assign(**{"mean radius": table["mean radius"].mask(table.index < 7)})
    assert run_cached(holes, None)["n_missing"] == 7


def test_compare_models_tells_progress_to_the_end(table):
    told = []
    run_cached(table, None, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(6)]


def test_compare_models_answers_the_same_on_two_processors(table, result):
    found = compare_models(table, names=["naive_bayes"], quick=True, jobs=2)
    expected = result["models"]["naive_bayes"]["y_prob"][:1]
    assert found["models"]["naive_bayes"]["y_prob"] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["oracle"]}, "`name` must be one of"),
        ({"repeats": 0}, "`repeats` must be at least 1"),
    ],
)
def test_compare_models_refuses(table, settings, message):
    with pytest.raises(ValueError, match=message):
        compare_models(table, **settings)


def test_compare_models_names_the_missing_column(table):
    with pytest.raises(ValueError, match="`table` must have a column 'patient_id'"):
        compare_models(table.drop(columns="patient_id"))


def test_format_models_puts_the_winner_first(result):
    lines = format_models(result).splitlines()
    assert lines[5].startswith(result["models"][result["winner"]]["words"])


def test_format_models_compares_nothing_with_one_model_alone(result):
    alone = result | {"models": {result["winner"]: result["models"][result["winner"]]}}
    assert "less the winner" in format_models(result)
    assert "less the winner" not in format_models(alone)


def test_format_models_marks_what_is_within_noise(result):
    loser = next(name for name in NAMES if name != result["winner"])
    difference = result["models"][loser]["difference"]["auc"]
    text = format_models(result).split("less the winner")[1]
    first = text.splitlines()[2].split("]")[1].strip()
    assert first.startswith("~") is difference["within_noise"]


# Luck


def test_try_luck_repeats_itself_with_the_same_seed(table):
    assert try_luck(table, holdouts=3, seed=5) == try_luck(table, holdouts=3, seed=5)


def test_try_luck_draws_each_hold_out_anew(table):
    assert len(set(try_luck(table, "naive_bayes", holdouts=8)["accuracy"])) > 1


def test_try_luck_refuses_no_hold_outs(table):
    with pytest.raises(ValueError, match="`holdouts` must be at least 1"):
        try_luck(table, holdouts=0)


def test_find_share_counts_those_at_the_level():
    assert find_share({"accuracy": [0.98, 0.99, 1.0, 0.5]}, 0.99) == 0.5


# Figures


def test_plot_models_draws_the_values_in_rising_order(result):
    ax = plot_models(result)[0]
    values = sorted(model["metrics"]["auc"]["value"] for model in result["models"].values())
    assert ax.lines[0].get_xdata().tolist() == values


def test_plot_models_names_each_row_by_its_model(result):
    ax = plot_models(result)[0]
    assert ax.get_yticklabels()[-1].get_text() == result["models"][result["winner"]]["words"]


def test_plot_luck_counts_the_hold_outs_of_each_accuracy():
    ax = plot_luck({"name": "knn", "n_test": 100, "accuracy": [0.99, 0.97, 0.99]})
    bars = [(bar.get_center()[0], bar.get_height()) for bar in ax.patches]
    assert bars == [(pytest.approx(0.97), 1), (pytest.approx(0.99), 2)]


def test_plot_luck_marks_the_nested_estimate():
    estimate = {"value": 0.97, "low": 0.95, "high": 0.98}
    luck = {"name": "knn", "n_test": 100, "accuracy": [0.99, 0.97]}
    ax = plot_luck(luck, estimate=estimate)
    assert [line.get_xdata()[0] for line in ax.lines] == [0.97, 0.95, 0.98]
