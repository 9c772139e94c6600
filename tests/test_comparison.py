"""Two models on the same cases: tests, intervals, baselines and the command."""

import doctest
import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from bcnet import workflows
from bcnet.cli import main
from bcnet.evaluate import baselines, comparison, significance
from bcnet.evaluate.baselines import count_colours, fit_colours
from bcnet.evaluate.comparison import compare, format_comparison, measure_alone
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.significance import COMPARED, apply_delong, apply_mcnemar, permute_models


def draw_cases(rng, n_patients, *, per_patient=1, gain=0.0):
    """Pictures of both classes in each patient, whose scores resemble each other by patient."""
    groups = np.repeat(np.arange(n_patients), per_patient)
    y_true = rng.integers(0, 2, len(groups)).astype(float)
    shared = rng.normal(size=(2, n_patients))[:, groups]
    scores = y_true + shared + rng.normal(size=(2, len(groups)))
    scores[1] += gain * y_true
    return y_true, 1 / (1 + np.exp(-scores)), groups


@pytest.mark.parametrize("module", [comparison, baselines, significance])
def test_examples_of_the_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_compare_takes_b_less_a():
    bootstrap = Bootstrap([0, 0, 1, 1], draws=50)
    result = compare([0.6, 0.1, 0.2, 0.9], [0.1, 0.2, 0.3, 0.9], bootstrap)
    values = {name: each["difference"]["value"] for name, each in result["measures"].items()}
    assert values["specificity"] == 0.5
    assert values["sensitivity"] == 0
    assert values["brier"] == pytest.approx((0.05 + 0.49 + 0.01 - 0.37 - 0.64 - 0.01) / 4)


def test_compare_finds_no_difference_between_equals():
    y_true, scores, groups = draw_cases(np.random.default_rng(0), 30)
    result = compare(scores[0], scores[0], Bootstrap(y_true, groups, draws=50))
    for name, each in result["measures"].items():
        assert each["difference"] == {"value": 0, "low": 0, "high": 0}, name
        assert (each["p_permutation"], each["detectable"]) == (1, None), name
    assert (result["delong"]["p"], result["mcnemar"]["p"]) == (1, 1)


def test_compare_ignores_the_order_of_pictures():
    y_true, scores, groups = draw_cases(np.random.default_rng(1), 20, per_patient=3)
    order = np.random.default_rng(2).permutation(len(y_true))
    first = compare(*scores, Bootstrap(y_true, groups, draws=50))
    again = compare(*scores[:, order], Bootstrap(y_true[order], groups[order], draws=50))
    for name in ("a", "b", "difference"):
        assert again["measures"]["auc"][name] == pytest.approx(first["measures"]["auc"][name])
    assert again["measures"]["auc"]["p_permutation"] == first["measures"]["auc"]["p_permutation"]
    assert again["delong"] == pytest.approx(first["delong"])


def test_compare_judges_each_model_at_its_own_threshold():
    bootstrap = Bootstrap([0, 1], draws=9)
    result = compare([0.2, 0.4], [0.2, 0.4], bootstrap, thresholds=(0.5, 0.3))
    assert result["measures"]["sensitivity"]["difference"]["value"] == 1


def test_compare_result_is_valid_json():
    y_true, scores, _ = draw_cases(np.random.default_rng(3), 8)
    json.dumps(compare(*scores, Bootstrap(y_true, draws=20)), allow_nan=False)


def test_compare_has_no_mcnemar_where_patients_have_several_cases():
    y_true, scores, groups = draw_cases(np.random.default_rng(4), 10, per_patient=3)
    assert compare(*scores, Bootstrap(y_true, groups, draws=20))["mcnemar"] is None


def test_compare_refuses_one_class():
    with pytest.raises(ValueError, match="must hold both classes"):
        compare([0.1, 0.2], [0.1, 0.2], Bootstrap([1, 1], draws=9))


def test_compare_refuses_scores_of_another_length():
    with pytest.raises(ValueError, match="same length"):
        compare([0.1, 0.2, 0.3], [0.1, 0.2], Bootstrap([0, 1], draws=9))


def test_compare_interval_covers_the_true_difference():
    rng, inside, gain = np.random.default_rng(5), [], 0.5
    # AUC of two normals whose means differ by d, each of variance 2: Φ(d / 2).
    true = norm.cdf((1 + gain) / 2) - norm.cdf(1 / 2)
    for _ in range(150):
        y_true, scores, groups = draw_cases(rng, 60, per_patient=3, gain=gain)
        bootstrap = Bootstrap(y_true, groups, draws=200, seed=int(rng.integers(1e6)))
        found = compare(*scores, bootstrap)["measures"]["auc"]["difference"]
        inside.append(found["low"] <= true <= found["high"])
    assert 0.89 <= np.mean(inside) <= 0.99  # 95 % ± three standard errors


def test_compare_detectable_difference_is_found_with_the_promised_power():
    rng, gain = np.random.default_rng(6), 0.4
    true = norm.cdf((1 + gain) / 2) - norm.cdf(1 / 2)
    results = []
    for _ in range(150):
        y_true, scores, groups = draw_cases(rng, 100, per_patient=2, gain=gain)
        bootstrap = Bootstrap(y_true, groups, draws=200, seed=int(rng.integers(1e6)))
        results.append(compare(*scores, bootstrap)["measures"]["auc"])
    detectable = np.mean([each["detectable"] for each in results])
    found = np.mean([each["difference"]["low"] > 0 for each in results])
    # The power at the true difference, as the detectable one tells it.
    error = detectable / (norm.ppf(0.975) + norm.ppf(0.8))
    assert found == pytest.approx(norm.cdf(true / error - norm.ppf(0.975)), abs=0.12)


def delong_by_pairs(y_true, scores):
    """Variance of the difference of two AUCs by the definition of DeLong 1988, pair by pair."""
    kernels = [
        np.array([[(p > n) + 0.5 * (p == n) for n in s[y_true == 0]] for p in s[y_true == 1]])
        for s in scores
    ]
    rows = np.cov([kernel.mean(axis=1) for kernel in kernels]) / len(kernels[0])
    columns = np.cov([kernel.mean(axis=0) for kernel in kernels]) / kernels[0].shape[1]
    contrast = np.array([-1, 1])
    return contrast @ (rows + columns) @ contrast


def test_apply_delong_of_single_cases_equals_the_definition():
    y_true, scores, groups = draw_cases(np.random.default_rng(7), 40)
    scores = np.round(scores, 1)  # with ties
    found = apply_delong(y_true, *scores, groups)
    assert found["standard_error"] ** 2 == pytest.approx(delong_by_pairs(y_true, scores))
    aucs = [roc_auc_score(y_true, each) for each in scores]
    assert found["difference"] == pytest.approx(aucs[1] - aucs[0])


def test_apply_delong_is_not_deceived_by_doubled_pictures():
    y_true, scores, groups = draw_cases(np.random.default_rng(8), 30)
    once = apply_delong(y_true, *scores, groups)
    twice = apply_delong(*(np.tile(each, 2) for each in (y_true, *scores, groups)))
    assert twice == pytest.approx(once)


def test_apply_delong_knows_the_spread_where_patients_have_both_classes():
    rng = np.random.default_rng(14)
    cases = (draw_cases(rng, 50, per_patient=8) for _ in range(300))
    found = [apply_delong(y_true, *scores, groups) for y_true, scores, groups in cases]
    spread = np.std([each["difference"] for each in found])
    told = np.mean([each["standard_error"] for each in found])
    assert told == pytest.approx(spread, rel=0.12)  # three standard errors of the spread


def test_apply_delong_and_permutation_keep_their_level_within_patients():
    rng, p_values, naive = np.random.default_rng(9), [], []
    for _ in range(200):
        y_true, scores, groups = draw_cases(rng, 40, per_patient=6)
        y_true = rng.integers(0, 2, 40).astype(float)[groups]  # one class a patient
        delong = apply_delong(y_true, *scores, groups)["p"]
        permuted = permute_models(y_true, scores, scores > 0.5, groups, draws=200)["auc"]
        p_values.append((delong, permuted))
        naive.append(apply_delong(y_true, *scores, np.arange(len(groups)))["p"])
    rates = np.mean(np.array(p_values) < 0.05, axis=0)
    assert (rates < 0.1).all()  # 5 % + three standard errors
    assert np.mean(np.array(naive) < 0.05) > 0.15  # pictures taken for patients


def test_apply_delong_needs_two_patients_of_each_class():
    y_true = np.array([0.0, 0, 1, 1])
    scores = np.array([0.1, 0.6, 0.4, 0.9])
    found = apply_delong(y_true, scores, scores**2, np.array([0, 1, 2, 2]))
    assert (found["p"], found["difference"]) == (None, 0)


def enumerate_p(y_true, scores, answers, groups):
    """Two-sided p-values of AUC and accuracy over all exchanges, one by one."""
    ranks = np.array([[np.sum(s < x) + np.sum(s == x) / 2 for x in s] for s in scores])
    differences = []
    for swap in product([False, True], repeat=int(groups.max()) + 1):
        is_swapped = np.array(swap)[groups]
        a, b = np.where(is_swapped, ranks[::-1], ranks)
        right = np.where(is_swapped, answers[::-1], answers) == y_true
        differences.append(
            (roc_auc_score(y_true, b) - roc_auc_score(y_true, a), right[1].mean() - right[0].mean())
        )
    differences = np.abs(differences)
    return np.mean(differences >= differences[0] - 1e-9, axis=0)


def test_permute_models_equals_enumeration_for_few_patients():
    y_true, scores, groups = draw_cases(np.random.default_rng(10), 7, per_patient=3, gain=1)
    answers = scores > 0.5
    found = permute_models(y_true, scores, answers, groups, draws=128)
    expected = enumerate_p(y_true, scores, answers, groups)
    assert (found["auc"], found["accuracy"]) == pytest.approx(tuple(expected))


def test_permute_models_approaches_enumeration_for_more_patients():
    y_true, scores, groups = draw_cases(np.random.default_rng(11), 8, per_patient=3, gain=1)
    exact = permute_models(y_true, scores, scores > 0.5, groups, draws=256)
    drawn = permute_models(y_true, scores, scores > 0.5, groups, draws=255)
    for name in COMPARED:
        assert drawn[name] == pytest.approx(exact[name], abs=0.1), name


def test_permute_models_of_many_patients_finds_a_true_difference():
    y_true, scores, groups = draw_cases(np.random.default_rng(12), 300, gain=1.5)
    found = permute_models(y_true, scores, scores > 0.5, groups, draws=999)
    assert found["auc"] == 0.001  # none of 999, and the observed one


def test_apply_mcnemar_by_hand():
    right_a = np.array([1, 0, 0, 0, 0, 0, 0, 1]) == 1
    right_b = np.array([0, 1, 1, 1, 1, 1, 1, 1]) == 1
    # Of 7 discordant cases, 1 or fewer one way or the other: 2 × (1 + 7) / 2⁷.
    assert apply_mcnemar(right_a, right_b) == {"only_a": 1, "only_b": 6, "p": 0.125}


def test_measure_alone_of_the_majority_is_no_better_than_chance():
    found = measure_alone([0.3] * 10, Bootstrap([0] * 7 + [1] * 3, draws=99))
    assert found["auc"]["value"] == found["balanced_accuracy"]["value"] == 0.5


def test_count_colours_knows_nothing_of_places():
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    shuffled = np.random.default_rng(1).permutation(image.reshape(-1, 3)).reshape(image.shape)
    assert (count_colours(image) == count_colours(shuffled)).all()


def test_fit_colours_tells_dark_from_light():
    rng = np.random.default_rng(2)
    y_true = np.repeat([0, 1], 20)
    images = rng.integers(0, 160, (40, 8, 8, 3), np.uint8) + 80 * y_true[:, None, None, None]
    colours = np.stack([count_colours(image) for image in images])
    y_prob = fit_colours(colours[::2], y_true[::2])(colours[1::2])
    assert roc_auc_score(y_true[1::2], y_prob) == 1


def test_format_comparison_sets_the_baselines_beside_the_models():
    y_true, scores, groups = draw_cases(np.random.default_rng(13), 20)
    bootstrap = Bootstrap(y_true, groups, draws=99)
    chance = measure_alone(np.full(20, 0.4), bootstrap)
    known = {"majority class": chance, "colours only": None}
    lines = format_comparison({**compare(*scores, bootstrap), "baselines": known}).splitlines()
    assert lines[1].split() == ["A", "B", "majority", "class"]
    assert any(line.startswith("McNemar, exact: only A right") for line in lines)


@pytest.fixture(scope="module")
def other_model(simulated, quick_config, model_file, tmp_path_factory):
    """A model trained on other patients than `model_file`, and a split of its own."""
    path = tmp_path_factory.mktemp("other") / "other.keras"
    workflows.train(simulated, path, replace(quick_config, seed=1, epochs=1))
    return path


def test_command_compares_with_both_baselines(model_file, simulated_folder, capsys, tmp_path):
    copy, output = shutil.copy(model_file, tmp_path / "copy.keras"), tmp_path / "result.json"
    arguments = [model_file, copy, simulated_folder, "--json", output]
    assert main(["compare", *map(str, arguments)]) == 0
    told = capsys.readouterr().out
    result = json.loads(output.read_text())
    assert "majority class" in told
    assert "colours only" in told
    assert result["part"] == "test"
    assert result["measures"]["auc"]["difference"]["value"] == 0
    assert result["n_colours"] > 0


def test_command_refuses_what_the_second_model_has_seen(
    model_file, other_model, simulated_folder, capsys
):
    arguments = ["compare", str(model_file), str(other_model), str(simulated_folder)]
    assert main(arguments) == 1
    assert "other.keras: this is no test: of 16 pictures" in capsys.readouterr().err


def test_command_with_allow_seen_compares_under_not_a_test(
    model_file, other_model, simulated_folder, capsys, tmp_path
):
    arguments = ["compare", str(model_file), str(other_model), str(simulated_folder)]
    options = ["--allow-seen", "--precision", "bfloat16", "--json", str(tmp_path / "result.json")]
    assert main([*arguments, *options]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    told = capsys.readouterr().out
    assert "not a test (simulated)" in told
    assert "B: this is no test: of 16 pictures" in told
    assert (result["part"], result["precision"]) == ("not a test", "bfloat16")
    assert result["models"][0]["seen"] == {}
    assert sum(result["models"][1]["seen"].values()) > 0


def test_workflow_without_training_pictures_has_no_colours(model_file, simulated, quick_config):
    from bcnet import Classifier

    classifier = Classifier.load(model_file)
    divided = workflows.divide(simulated.table, quick_config)
    test = divided[divided["split"] == "test"].reset_index(drop=True)
    result = workflows.compare((classifier, classifier), replace(simulated, table=test))
    assert result["baselines"]["colours only"] is None
