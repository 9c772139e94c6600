"""The benchmark of calibration: each fold by its own scaling, and a table that says so."""

import numpy as np
import pandas as pd
import pytest

from bcnet import Classifier
from bcnet.evaluate.scaling import Scaling, fit_scaling
from bcnet.workflows import calibration as workflow
from bcnet.workflows import divide
from bcnet.workflows.calibration import cut_at_logit
from bcnet.workflows.samples import decode_table


@pytest.fixture(scope="module")
def calibration(load):
    return load("calibration")


@pytest.fixture
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture(scope="module")
def pictures(simulated, quick_config):
    return decode_table(divide(simulated.table, quick_config), (48, 48))


def test_fit_scalings_fits_to_validation_patients(
    calibration, classifier, pictures, quick_config, monkeypatch
):
    monkeypatch.setattr(workflow, "FEWEST_PATIENTS", 2)
    found = calibration.fit_scalings(classifier.model, pictures, quick_config)
    rows = pictures.rows_in("validation")
    logits = cut_at_logit(classifier).predict_images(pictures.images[rows])
    for method in ("platt", "temperature"):
        expected = fit_scaling(pictures.labels[rows], logits, method=method)
        assert found[method] == pytest.approx(expected), method


def test_fit_scalings_leaves_the_network_as_it_is(
    calibration, classifier, pictures, quick_config, monkeypatch
):
    monkeypatch.setattr(workflow, "FEWEST_PATIENTS", 2)
    before = classifier.predict_images(pictures.images[:4])
    calibration.fit_scalings(classifier.model, pictures, quick_config)
    after = Classifier(classifier.model, {}).predict_images(pictures.images[:4])
    np.testing.assert_array_equal(before, after)


def test_fit_scalings_has_none_where_bcnet_would_not(
    calibration, classifier, pictures, quick_config
):
    found = calibration.fit_scalings(classifier.model, pictures, quick_config)
    assert found == {"none": None, "platt": None, "temperature": None}


def test_apply_scalings_takes_that_of_the_fold(calibration):
    table = pd.DataFrame({"fold": [0, 1, 0], "probability": [0.5, 0.8, 0.2]})
    # fold 0: logits 0 and −ln 4, moved by ln 4; fold 1 is left
    y_prob = calibration.apply_scalings(table, [Scaling(1.0, np.log(4)), None])
    np.testing.assert_allclose(y_prob, [0.8, 0.8, 0.5])


def test_format_row_shows_seed_0_the_range_and_how_many_folds(calibration):
    results = [
        {
            "n_images": 1200,
            "n_patients": 34,
            "platt": {
                "folds": 2,
                "ece_by_chance": 0.05,
                **{
                    name: {"value": value, "low": value - 0.01, "high": value + 0.01}
                    for name in ("ece", "brier", "log_loss")
                },
            },
        }
        for value in (0.2, 0.3)
    ]
    cells = [cell.strip() for cell in calibration.format_row("idc", "platt", results, 3).split("|")]
    assert cells[1:5] == ["idc", "1,200 / 34", "platt", "0.200 [0.190, 0.210], seeds 0.200–0.300"]
    assert cells[7:9] == ["0.050", "4 of 6"]


def test_main_names_a_set_that_is_not_there(calibration, tmp_path, capsys):
    assert calibration.main(["--root", str(tmp_path), "--sets", "idc"]) == 2
    assert "`--sets` names idc" in capsys.readouterr().err
