"""A model judged elsewhere, and on pictures that it has seen: what is set beside the numbers."""

import doctest
import json
from dataclasses import replace

import numpy as np
import pytest

from bcnet import Classifier, workflows
from bcnet.cli import main
from bcnet.config import Config
from bcnet.data.manifest import read_manifest
from bcnet.data.simulate import simulate
from bcnet.data.split import write_split
from bcnet.evaluate import elsewhere
from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.cases import find_logits, find_probabilities
from bcnet.evaluate.elsewhere import (
    format_recalibration,
    judge_recalibration,
    recalibrate_by_fold,
)
from bcnet.evaluate.scaling import fit_scaling
from bcnet.workflows.ancestry import SeenInTraining
from bcnet.workflows.evaluation import NOT_A_TEST


def draw_shifted(rng, n_patients=200, per_patient=3, slope=3.0, intercept=2.0):
    """Pictures whose logits are true ones stretched and shifted; patients have one label."""
    groups = np.repeat(np.arange(n_patients), per_patient)
    logits = rng.normal(scale=1.5, size=n_patients)
    y_true = (rng.random(n_patients) < find_probabilities(logits)).astype(int)
    return y_true[groups], find_probabilities(slope * logits + intercept)[groups], groups


def test_examples_of_the_docstrings():
    assert doctest.testmod(elsewhere).failed == 0


def test_recalibrate_by_fold_undoes_a_shift():
    y_true, y_prob, groups = draw_shifted(np.random.default_rng(0), n_patients=2000)
    recalibrated = recalibrate_by_fold(y_true, y_prob, patients=groups)
    true = find_probabilities((find_logits(y_prob) - 2) / 3)
    assert np.abs(recalibrated - true).max() < 0.06


def test_recalibrate_by_fold_fits_each_patient_by_the_others_alone():
    y_true, y_prob, groups = draw_shifted(np.random.default_rng(1), n_patients=60)
    before = recalibrate_by_fold(y_true, y_prob, patients=groups)
    changed = np.where(groups == 7, 1 - y_prob, y_prob)
    after = recalibrate_by_fold(y_true, changed, patients=groups)
    # The scaling of patient 7 comes from others: his new logit is that scaling of the mirrored one.
    unchanged = [g for g in range(60) if np.allclose(before[groups == g], after[groups == g])]
    fold = [g for g in unchanged if g != 7]
    assert len(fold) == 60 / 5 - 1  # those left out together with him saw no change


def test_recalibrate_by_fold_keeps_patients_whole(monkeypatch):
    y_true, y_prob, groups = draw_shifted(np.random.default_rng(2), n_patients=40)
    sizes = []

    def spy(y_true, logits):
        sizes.append(len(y_true))
        return fit_scaling(y_true, logits)

    monkeypatch.setattr(elsewhere, "fit_scaling", spy)
    recalibrate_by_fold(y_true, y_prob, patients=groups)
    assert sizes == [40 * 3 * 4 / 5] * 5


def test_judge_recalibration_repairs_a_shift_and_says_so():
    y_true, y_prob, groups = draw_shifted(np.random.default_rng(3), n_patients=1000)
    found = judge_recalibration(y_true, y_prob, patients=groups, draws=200)
    assert found["unit"] == "patient"
    assert found["change"]["brier"]["high"] < 0
    assert found["change"]["log_loss"]["high"] < 0
    assert found["slope"] == pytest.approx(1 / 3, rel=0.3)


def test_judge_recalibration_change_is_after_less_before():
    y_true, y_prob, groups = draw_shifted(np.random.default_rng(4), n_patients=60)
    found = judge_recalibration(y_true, y_prob, patients=groups, draws=20)
    before = evaluate_calibration(y_true, y_prob, patients=groups, draws=20)["patient"]
    for name, change in found["change"].items():
        after = found["after"]["patient"][name]["value"]
        assert change["value"] == pytest.approx(after - before[name]["value"]), name


def test_judge_recalibration_claims_no_repair_where_nothing_is_wrong():
    rng, repaired = np.random.default_rng(5), []
    for _ in range(60):
        cases = draw_shifted(rng, n_patients=80, per_patient=1, slope=1, intercept=0)
        found = judge_recalibration(*cases[:2], patients=cases[2], draws=200)
        repaired.append(found["change"]["log_loss"]["high"] < 0)
    assert np.mean(repaired) <= 0.1


def test_recalibrate_by_fold_names_too_few_patients():
    with pytest.raises(ValueError, match=r"needs 5 patients of each class; of one there are 2"):
        recalibrate_by_fold([0, 0, 1, 1, 1], [0.2] * 5, patients=list("abcde"))


def test_format_recalibration_says_why_there_is_none():
    assert format_recalibration({}, {"reason": "too few"}).endswith("not known: too few")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Twenty-four patients that the model does not know."""
    folder = tmp_path_factory.mktemp("others") / "others"
    simulate(folder, images_per_patient=2, image_size=48, patients=24, seed=5)
    manifest = read_manifest(folder)
    info = replace(manifest.info, name="others")
    return replace(manifest, table=manifest.table.assign(dataset="others"), info=info)


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


def test_evaluate_elsewhere_sets_the_cards_own_test_beside_it(classifier, others):
    result = workflows.evaluate(classifier, others)
    assert result["part"] == "external"
    assert result["elsewhere"]["home"] == classifier.card["metrics"]["test"]
    json.dumps(result, allow_nan=False)


def test_evaluate_elsewhere_knows_a_divided_data_set_as_external_too(classifier, others):
    divided = replace(others, table=others.table.assign(split="test"))
    assert "elsewhere" in workflows.evaluate(classifier, divided)


def test_evaluate_at_home_is_no_external_validation(classifier, simulated):
    assert "elsewhere" not in workflows.evaluate(classifier, simulated)


def test_evaluate_elsewhere_with_few_patients_says_what_it_cannot_tell(classifier, others):
    few = others.table.groupby("label").head(4).reset_index(drop=True)
    found = workflows.evaluate(classifier, replace(others, table=few))["elsewhere"]
    assert "needs 5 patients of each class" in found["recalibration"]["reason"]


def test_evaluate_elsewhere_does_without_a_test_in_the_card(classifier, others, monkeypatch):
    monkeypatch.setitem(classifier.card, "metrics", {})
    assert workflows.evaluate(classifier, others)["elsewhere"]["home"] is None


def test_command_says_that_a_validation_is_external(model_file, tmp_path, capsys):
    folder = simulate(tmp_path / "o", images_per_patient=1, image_size=48, patients=16, seed=5)
    (folder / "dataset.json").unlink()  # so that its patients are others than those at home
    assert main(["evaluate", str(model_file), str(folder)]) == 0
    told = capsys.readouterr().out
    assert "external validation: made with simulated, it knows none of these" in told
    assert "its own test (simulated)" in told


@pytest.fixture(scope="module")
def all_as_test(simulated):
    return replace(simulated, table=simulated.table.assign(split="test"))


def test_evaluate_refuses_seen_pictures_and_names_the_steps(classifier, all_as_test):
    told = r"of 80 pictures the model has seen 64, .* \(52 in train and 12 in validation\)"
    with pytest.raises(SeenInTraining, match=told):
        workflows.evaluate(classifier, all_as_test)


def test_evaluate_with_allow_seen_judges_the_unseen_beside(classifier, all_as_test, simulated):
    result = workflows.evaluate(classifier, all_as_test, allow_seen=True)
    own = workflows.evaluate(classifier, simulated)
    assert (result["part"], result["n_images"]) == (NOT_A_TEST, 80)
    assert result["seen"] == {"train": 52, "validation": 12}
    assert result["unseen"] == {name: own[name] for name in result["unseen"]}


def test_evaluate_with_allow_seen_of_nothing_unseen_has_none(classifier, all_as_test):
    own = classifier.card["samples"]["train"]["pictures"]
    scored = workflows.divide(all_as_test.table.assign(split=None), Config())
    seen = scored[scored["split"] == "train"].assign(split="test").reset_index(drop=True)
    result = workflows.evaluate(classifier, replace(all_as_test, table=seen), allow_seen=True)
    assert result["n_images"] == len(own)
    assert result["unseen"] is None


def test_evaluate_with_allow_seen_of_a_true_test_changes_nothing(classifier, simulated):
    result = workflows.evaluate(classifier, simulated, allow_seen=True)
    assert result["part"] == "test"
    assert "seen" not in result


def test_command_prints_seen_pictures_under_not_a_test(model_file, simulated, tmp_path, capsys):
    write_split(simulated.table.assign(split="test"), tmp_path / "split.csv")
    arguments = ["evaluate", str(model_file), str(tmp_path / "split.csv")]
    assert main(arguments) == 1
    assert "or see both with --allow-seen" in capsys.readouterr().err
    assert main([*arguments, "--allow-seen"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("not a test (simulated)")
    assert "without the seen" in told


def test_evaluate_finds_the_one_training_picture_in_an_official_test(tmp_path):
    """As in BreastMNIST: one picture stands in both parts, with the other label."""
    rng = np.random.default_rng(6)
    arrays = {}
    for part, count in {"train": 40, "val": 12, "test": 12}.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 2
    arrays["test_images"][3] = arrays["train_images"][8]
    np.savez(tmp_path / "official.npz", **arrays)
    manifest = read_manifest(tmp_path / "official.npz")
    config = Config(epochs=1, precision="float32")
    classifier = workflows.train(manifest, tmp_path / "model.keras", config, cases=False)
    with pytest.raises(SeenInTraining, match=r"of 12 pictures the model has seen 1, .*1 in train"):
        workflows.evaluate(classifier, manifest)
    result = workflows.evaluate(classifier, manifest, allow_seen=True)
    assert result["unseen"]["n_images"] == 11
