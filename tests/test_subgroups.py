"""Measures within subgroups, and the gaps between them."""

import doctest
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bcnet import Classifier, workflows
from bcnet.cli import main
from bcnet.evaluate import subgroups
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.subgroups import TOO_FEW, find_largest_gap, format_subgroups, measure_subgroups


def draw_laboratories(rng, sizes, sensitivities):
    """One picture a patient; a share of each laboratory's malignant ones is found."""
    values = np.repeat(list(sizes), list(sizes.values()))
    y_true = np.arange(len(values)) % 2
    found = rng.random(len(values)) < np.array([sensitivities[value] for value in values])
    y_prob = np.where(y_true == 1, np.where(found, 0.8, 0.3), 0.1) + 0.1 * rng.random(len(values))
    return y_true, y_prob, values


@pytest.fixture
def laboratories():
    sizes = {"lab1": 60, "lab2": 40, "lab3": 12}
    return draw_laboratories(np.random.default_rng(0), sizes, dict.fromkeys(sizes, 0.7))


def by_value(result):
    return {each["value"]: each for each in result["subgroups"]}


def test_examples_of_the_docstrings():
    assert doctest.testmod(subgroups).failed == 0


def test_measure_subgroups_equals_the_subgroup_alone(laboratories):
    y_true, y_prob, values = laboratories
    result = measure_subgroups(y_prob, values, Bootstrap(y_true, draws=99))
    rows = values == "lab2"
    alone = evaluate(y_true[rows], y_prob[rows], draws=9)["image"]
    for name in ("auc", "sensitivity", "specificity"):
        assert by_value(result)["lab2"][name]["value"] == pytest.approx(alone[name]["value"]), name


def test_measure_subgroups_counts_pictures_and_patients():
    patients, values = list("aabbcd"), ["40", "100", "40", "100", "40", None]
    result = measure_subgroups(
        np.full(6, 0.5), values, Bootstrap([0, 0, 1, 1, 1, 0], patients, draws=9)
    )
    counts = {
        value: (each["n_images"], each["n_patients"], each["n_benign"], each["n_malignant"])
        for value, each in by_value(result).items()
    }
    # Numbers by size, and what is not told last.
    assert list(counts) == ["40", "100", "not told"]
    assert counts == {"40": (3, 3, 1, 2), "100": (2, 2, 1, 1), "not told": (1, 1, 1, 0)}


def test_measure_subgroups_tells_only_what_ten_patients_of_a_class_tell():
    y_true = np.array([0] * 30 + [1] * 10)
    result = measure_subgroups(
        np.linspace(0, 1, 40), ["a"] * 9 + ["b"] * 31, Bootstrap(y_true, draws=99)
    )
    few, many = by_value(result)["a"], by_value(result)["b"]
    assert {few["auc"], few["sensitivity"], few["specificity"]} == {TOO_FEW}
    assert many["sensitivity"]["value"] == 1
    assert result["largest_gaps"]["specificity"] is None


def test_measure_subgroups_needs_only_the_class_that_a_measure_is_about():
    result = measure_subgroups(np.full(12, 0.9), ["a"] * 12, Bootstrap([1] * 12, draws=99))
    only = by_value(result)["a"]
    assert only["sensitivity"]["value"] == 1
    assert (only["specificity"], only["auc"]) == (TOO_FEW, TOO_FEW)


def test_measure_subgroups_of_the_same_patients_are_paired():
    """Two magnifications of the same patients, answered alike, differ by nothing in any draw."""
    y_true = np.tile(np.arange(40) % 2, 2)
    y_prob = np.tile(np.random.default_rng(1).random(40), 2)
    patients, values = np.tile(np.arange(40), 2), np.repeat([40, 100], 40)
    result = measure_subgroups(y_prob, values, Bootstrap(y_true, patients, draws=200))
    gap = result["largest_gaps"]["auc"]
    assert (gap["value"], gap["low"], gap["high"]) == (0, 0, 0)
    assert by_value(result)["40"]["auc"]["low"] < by_value(result)["40"]["auc"]["high"]


def test_measure_subgroups_judges_a_patients_pictures_of_one_subgroup():
    """Of a patient with pictures in both subgroups, each is scored by its own pictures."""
    y_true = np.repeat(np.arange(20) % 2, 2)
    patients, values = np.repeat(np.arange(20), 2), np.tile(["a", "b"], 20)
    rng = np.random.default_rng(2)
    y_prob = rng.random(40)
    result = measure_subgroups(y_prob, values, Bootstrap(y_true, patients, draws=9))
    assert result["unit"] == "patient"
    expected = roc_auc_score(y_true[::2], y_prob[::2])
    assert by_value(result)["a"]["auc"]["value"] == pytest.approx(expected)


def test_measure_subgroups_gap_interval_covers_the_true_gap():
    rng, inside = np.random.default_rng(3), []
    sizes, sensitivities = {"a": 120, "b": 120, "c": 120}, {"a": 0.9, "b": 0.8, "c": 0.6}
    for _ in range(150):
        y_true, y_prob, values = draw_laboratories(rng, sizes, sensitivities)
        bootstrap = Bootstrap(y_true, draws=400, seed=int(rng.integers(1e6)))
        gap = measure_subgroups(y_prob, values, bootstrap)["largest_gaps"]["sensitivity"]
        true = sensitivities[gap["between"][0]] - sensitivities[gap["between"][1]]
        inside.append(gap["low"] <= true <= gap["high"])
    assert np.mean(inside) >= 0.92


def test_measure_subgroups_gap_of_equals_is_rarely_called_one():
    rng, called = np.random.default_rng(4), []
    sizes = dict.fromkeys("abcd", 100)
    for _ in range(150):
        y_true, y_prob, values = draw_laboratories(rng, sizes, dict.fromkeys(sizes, 0.75))
        bootstrap = Bootstrap(y_true, draws=400, seed=int(rng.integers(1e6)))
        gap = measure_subgroups(y_prob, values, bootstrap)["largest_gaps"]["sensitivity"]
        called.append(gap["low"] > 0)
    assert np.mean(called) <= 0.1  # 5 % + three standard errors; without Bonferroni 20 %


def test_measure_subgroups_refuses_a_column_of_many_values():
    with pytest.raises(ValueError, match="at most 20 different values"):
        measure_subgroups(np.full(21, 0.5), range(21), Bootstrap([0, 1] * 10 + [1], draws=9))


def test_measure_subgroups_refuses_values_of_another_length():
    with pytest.raises(ValueError, match="one entry per picture"):
        measure_subgroups([0.1, 0.2], ["a"], Bootstrap([0, 1], draws=9))


def test_measure_subgroups_is_valid_json(laboratories):
    y_true, y_prob, values = laboratories
    json.dumps(measure_subgroups(y_prob, values, Bootstrap(y_true, draws=99)), allow_nan=False)


def test_find_largest_gap_needs_two_subgroups():
    assert find_largest_gap({"a": np.array([0.5, 0.5])}) is None


def test_format_subgroups_states_too_few_and_the_largest_gap(laboratories):
    y_true, y_prob, values = laboratories
    result = measure_subgroups(y_prob, values, Bootstrap(y_true, draws=99))
    lines = format_subgroups("laboratory", result).splitlines()
    assert lines[0].split()[:3] == ["by", "laboratory", "pictures"]
    assert lines[3].split()[:5] == ["lab3", "12", "unknown", "6", "6"]
    assert lines[3].count(TOO_FEW) == 4
    assert "over" in lines[5]


def test_command_makes_subgroups_of_any_column_of_a_csv(
    model_file, simulated, quick_config, capsys, tmp_path
):
    divided = workflows.divide(simulated.table, quick_config)
    test = divided[divided["split"] == "test"].assign(device=["x", "y"] * 8)
    test[["path", "label", "patient_id", "device"]].to_csv(tmp_path / "test.csv", index=False)
    output = tmp_path / "result.json"
    arguments = [model_file, tmp_path / "test.csv", "--by", "device", "--json", output]
    assert main(["evaluate", *map(str, arguments)]) == 0
    assert "by device" in capsys.readouterr().out
    found = json.loads(output.read_text())["subgroups"]["device"]["subgroups"]
    assert [(each["value"], each["n_images"]) for each in found] == [("x", 8), ("y", 8)]


def test_command_names_the_columns_there_are(model_file, simulated_folder, capsys):
    assert main(["evaluate", str(model_file), str(simulated_folder), "--by", "age"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "Received: by=age; there are: patient_id" in told
    assert "laboratory" in told


def test_workflow_makes_subgroups_of_laboratories(model_file, simulated):
    result = workflows.evaluate(Classifier.load(model_file), simulated, by=["laboratory"])
    found = result["subgroups"]["laboratory"]["subgroups"]
    assert sum(each["n_images"] for each in found) == result["n_images"]
    assert all(each["value"].startswith("lab") for each in found)
