"""Predictions of cross-validation kept in a CSV, and models calibrated by them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bcnet import Classifier, workflows
from bcnet.cardfile import read_card
from bcnet.cli import main
from bcnet.data.split import write_split
from bcnet.evaluate.cases import find_logits
from bcnet.evaluate.scaling import fit_scaling
from bcnet.workflows import calibration, cross_validation, out_of_fold
from bcnet.workflows.ancestry import SeenInTraining
from bcnet.workflows.calibration import CalibrationOptions
from bcnet.workflows.card_text import describe_model
from bcnet.workflows.document import write_markdown
from bcnet.workflows.out_of_fold import COLUMNS, align_folds, read_out_of_fold


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Let few patients do, so that the data can be small."""
    monkeypatch.setattr(calibration, "FEWEST_PATIENTS", 2)
    monkeypatch.setattr(out_of_fold, "FEWEST_SHARED", 2)


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture(scope="module")
def split(simulated, quick_config, tmp_path_factory):
    """The division that the model was trained with, as a CSV."""
    path = tmp_path_factory.mktemp("split") / "split.csv"
    write_split(workflows.divide(simulated.table, quick_config), path)
    return path


def cross_validate(manifest, classifier, path, **settings):
    """Cross-validate with networks that are all the same, for the sake of time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "fit_network", lambda *_, **__: (classifier.model, None))
        workflows.cross_validate(manifest, folds=2, out_of_fold=path, **settings)
    return path


@pytest.fixture(scope="module")
def predictions(simulated, classifier, split, tmp_path_factory):
    path = tmp_path_factory.mktemp("folds") / "folds.csv"
    return cross_validate(simulated, classifier, path, split=split)


@pytest.fixture(scope="module")
def calibrated(simulated, classifier, predictions, tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrated") / "model.keras"
    options = CalibrationOptions("platt", "sensitivity", 0.75)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "FEWEST_PATIENTS", 2)
        patch.setattr(out_of_fold, "FEWEST_SHARED", 2)
        workflows.calibrate(classifier, simulated, path, options, out_of_fold=predictions)
    return path


def change(predictions, folder, **columns):
    """Write the predictions again with other values in some columns."""
    table = pd.read_csv(predictions, dtype={"patient_id": str})
    table.assign(**columns).to_csv(folder / "changed.csv", index=False)
    return folder / "changed.csv"


def test_cross_validate_writes_each_picture_but_those_of_the_test(predictions, split):
    table, divided = read_out_of_fold(predictions), pd.read_csv(split)
    assert tuple(table) == COLUMNS
    assert len(table) == (divided["split"] != "test").sum()
    assert table["fold"].nunique() == 2


def test_written_predictions_are_those_of_the_networks(predictions, simulated_folder, classifier):
    table = read_out_of_fold(predictions)
    paths = [str(simulated_folder / path) for path in table["path"]]
    expected = classifier.predict(paths)["probability"]
    np.testing.assert_allclose(table["probability"], expected, atol=1e-6)


def test_calibrate_fits_to_the_predictions(predictions, calibrated):
    table = read_out_of_fold(predictions)
    expected = fit_scaling(table["label"], find_logits(table["probability"].to_numpy()))
    card = read_card(calibrated)
    found = card["calibration"]
    assert (found["slope"], found["intercept"]) == pytest.approx(expected, rel=1e-3)
    assert found["n_images"] == len(table)


def test_align_folds_takes_mean_and_spread_of_the_shared_pictures_by_fold():
    # fold 0: from mean 1, spread 1 to mean 7, spread 2; fold 1: ten more
    logits, own = np.array([0.0, 2, 4, 1, 2]), np.array([5.0, 9, 0, 11, 12])
    folds, shared = np.array([0, 0, 0, 1, 1]), np.array([True, True, False, True, True])
    aligned = align_folds(logits, own, folds=folds, shared=shared)
    np.testing.assert_allclose(aligned, [5, 9, 13, 11, 12])


@pytest.mark.parametrize("logits", [[1.0, 2, 3], [1.0, 1, 3]], ids=["one shared", "all alike"])
def test_align_folds_refuses_what_tells_no_spread(logits):
    shared = np.array([True, logits[0] == logits[1], False])
    with pytest.raises(ValueError, match="each fold must hold 2 or more pictures"):
        align_folds(np.array(logits), np.arange(3.0), folds=np.zeros(3, int), shared=shared)


def test_calibrate_undoes_another_scale_of_the_folds(
    simulated, classifier, predictions, calibrated, tmp_path
):
    table = read_out_of_fold(predictions)
    shifts, factors = table["fold"] - 1.5, 1 + table["fold"]
    moved = find_logits(table["probability"].to_numpy()) * factors + shifts
    path = change(predictions, tmp_path, probability=1 / (1 + np.exp(-moved)))
    options = CalibrationOptions("platt", "sensitivity", 0.75)
    card = workflows.calibrate(
        classifier, simulated, tmp_path / "m.keras", options, out_of_fold=path
    ).card
    expected = read_card(calibrated)
    assert card["threshold"]["value"] == pytest.approx(expected["threshold"]["value"], rel=1e-3)
    assert card["calibration"]["slope"] == pytest.approx(expected["calibration"]["slope"], rel=1e-3)


def test_calibrate_reaches_the_target_out_of_fold(calibrated):
    assert read_card(calibrated)["threshold"]["reached"]["sensitivity"]["value"] >= 0.75


def test_calibrate_promises_nothing_by_other_networks(calibrated):
    assert "bcnet promise" in read_card(calibrated)["abstention"]["reason"]
    assert Classifier.load(calibrated).band is None


def test_card_tells_how_many_patients_in_how_many_folds(calibrated):
    told = write_markdown("Card", describe_model(read_card(calibrated), "mine"))
    assert "out-of-fold predictions of 32 patients in 2 folds" in told
    assert "Out-of-fold: each patient answered by a network trained alike without him" in told


def test_calibrate_leaves_the_test_a_test(calibrated, simulated):
    result = workflows.evaluate(Classifier.load(calibrated), simulated)
    assert (result["part"], result["n_images"]) == ("test", 16)


def test_calibrate_refuses_predictions_of_test_patients(simulated, classifier, tmp_path):
    path = cross_validate(simulated, classifier, tmp_path / "all.csv")
    with pytest.raises(SeenInTraining, match=r"holds 16 predictions .* are to judge the model"):
        workflows.calibrate(classifier, simulated, tmp_path / "m.keras", out_of_fold=path)


def test_calibrate_refuses_patients_that_the_model_does_not_know(
    simulated, classifier, predictions, tmp_path
):
    path = change(predictions, tmp_path, hash="another", dataset="elsewhere")
    with pytest.raises(ValueError, match="Of 64 rows 64 are of others"):
        workflows.calibrate(classifier, simulated, tmp_path / "m.keras", out_of_fold=path)


@pytest.mark.parametrize(
    "columns",
    [{"hash": "another"}, {"label": 0}, {"patient_id": lambda table: table["patient_id"] + "x"}],
    ids=["picture", "label", "patient"],
)
def test_calibrate_refuses_predictions_of_other_data(
    simulated, classifier, predictions, tmp_path, columns
):
    path = change(predictions, tmp_path, **columns)
    with pytest.raises(ValueError, match="must hold predictions of the same data"):
        workflows.calibrate(classifier, simulated, tmp_path / "m.keras", out_of_fold=path)


def test_calibrate_refuses_a_split_beside_predictions(
    simulated, classifier, predictions, split, tmp_path
):
    with pytest.raises(ValueError, match="Received: `split`, too"):
        workflows.calibrate(
            classifier, simulated, tmp_path / "m.keras", split=split, out_of_fold=predictions
        )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"probability": 1.5}, "Found another in row 2"),
        ({"probability": "much"}, "Found another in row 2"),
        ({"label": None}, "Found another in row 2"),
        ({"fold": None}, "Found another in row 2"),
        ({"patient_id": "7", "dataset": "a"}, "No patient may stand in two parts"),
    ],
)
def test_read_out_of_fold_refuses(predictions, tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        read_out_of_fold(change(predictions, tmp_path, **columns))


def test_read_out_of_fold_refuses_another_csv(split):
    with pytest.raises(ValueError, match="Not there: dataset, hash, fold, probability, threshold"):
        read_out_of_fold(split)


def test_out_of_fold_works_without_known_patients(simulated, classifier, split, tmp_path):
    divided = workflows.divide(simulated.table, cross_validation.Config())
    unknown = replace(simulated, table=divided.assign(patient_id=None))
    path = cross_validate(unknown, classifier, tmp_path / "folds.csv")
    card = workflows.calibrate(classifier, unknown, tmp_path / "m.keras", out_of_fold=path).card
    assert card["calibration"]["n_patients"] is None


def test_commands_go_from_folds_to_a_calibrated_model(
    model_file, classifier, simulated_folder, split, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(cross_validation, "fit_network", lambda *_, **__: (classifier.model, None))
    folds, output = tmp_path / "folds.csv", tmp_path / "new.keras"
    data = str(simulated_folder)
    told = ["--folds", "2", "--split", str(split), "--out-of-fold", str(folds)]
    assert main(["cross-validate", data, *told]) == 0
    options = ["--out-of-fold", str(folds), "--output", str(output)]
    assert main(["calibrate", str(model_file), data, *options]) == 0
    assert "on out-of-fold patients" in capsys.readouterr().out
    assert read_card(output)["samples"]["calibration"]["folds"] == 2
