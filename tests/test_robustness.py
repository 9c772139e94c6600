"""Perturbed pictures, and what a model makes of them."""

import doctest
import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from bcnet import Classifier, plots, workflows
from bcnet.cli import main
from bcnet.data.stain_vectors import STAIN_VECTORS
from bcnet.evaluate import perturbations, robustness
from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.perturbations import (
    PERTURBATIONS,
    add_noise,
    choose_perturbations,
    compress,
    rotate,
    scale_contrast,
    shift_stain,
)
from bcnet.evaluate.robustness import STRESSED, find_break, format_break, format_stress, stress
from bcnet.workflows.robustness import limit_patients

BY_NAME = {each.name: each for each in PERTURBATIONS}
DARKER = BY_NAME["darker"]


@pytest.fixture(scope="module")
def images():
    """Three smooth pictures, not square, in the colours of haematoxylin and eosin."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform([120, 60, 140], [230, 190, 220], (3, 6, 6, 3)).astype(np.float32)
    return np.stack([cv2.resize(each, (40, 32)) for each in coarse]).astype(np.uint8)


@pytest.mark.parametrize("module", [perturbations, robustness])
def test_examples_of_the_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", BY_NAME)
def test_perturbation_is_pure_and_keeps_shape_and_type(images, name):
    before = images.copy()
    after = BY_NAME[name].apply(images, BY_NAME[name].amounts[2])
    assert (after.shape, after.dtype) == (images.shape, np.uint8)
    assert (images == before).all()
    assert not np.shares_memory(after, images)


@pytest.mark.parametrize("name", BY_NAME)
def test_perturbation_grows_with_its_severity(images, name):
    changes = [
        np.abs(np.float32(BY_NAME[name].apply(images, amount)) - images).mean()
        for amount in BY_NAME[name].amounts
    ]
    assert len(changes) == 5
    assert (np.diff([0, *changes]) > 0).all()


@pytest.mark.parametrize("name", BY_NAME)
def test_perturbation_of_a_picture_does_not_depend_on_the_others(images, name):
    apply, amount = BY_NAME[name].apply, BY_NAME[name].amounts[3]
    assert (apply(images, amount)[1:2] == apply(images[1:2], amount)).all()


def test_shift_stain_changes_the_amounts_of_one_pixel_as_told():
    pixel = np.uint8([[[[150, 90, 170]]]])
    shifted = shift_stain(pixel, 0.25)
    before, after = (
        np.linalg.solve(STAIN_VECTORS.T, -np.log((each.ravel() + 1.0) / 256))
        for each in (pixel, shifted)
    )
    assert after / before == pytest.approx([1.25, 0.75, 1], abs=0.04)  # rounded to whole levels


def test_shift_stain_by_nothing_changes_nothing(images):
    assert (shift_stain(images, 0) == images).all()


def test_scale_contrast_keeps_the_mean(images):
    assert scale_contrast(images, -0.6).mean() == pytest.approx(images.mean(), abs=0.5)


def test_add_noise_has_the_deviation_it_is_told():
    grey = np.full((1, 100, 100, 3), 128, np.uint8)
    assert add_noise(grey, 20).std() == pytest.approx(20, rel=0.03)


def test_add_noise_differs_between_pictures():
    greys = np.stack([np.full((8, 8, 3), 128, np.uint8), np.full((8, 8, 3), 129, np.uint8)])
    first, second = add_noise(greys, 20).astype(int) - greys
    assert (first != second).any()


def test_compress_keeps_the_order_of_colours():
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert (compress(red, 90)[0, 8, 8] > 100).tolist() == [True, False, False]


def test_rotate_turns_counter_clockwise():
    square = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert (rotate(square, 90) == np.rot90(square, axes=(1, 2))).all()


def test_choose_perturbations_shifts_no_stain_of_radiology():
    assert not any("stain" in each.name for each in choose_perturbations("radiology"))


def see_light(images):
    """A model that calls light pictures malignant."""
    return images.mean(axis=(1, 2, 3)) / 255


@pytest.fixture(scope="module")
def light_pictures():
    """Forty pictures, two of each patient; malignant ones are lighter, at most of them."""
    rng = np.random.default_rng(2)
    y_true = np.repeat([0, 1], 20)
    levels = np.where(y_true == 1, 150, 100) + rng.integers(-25, 26, 40)
    images = np.uint8(levels)[:, None, None, None] + np.zeros((1, 8, 8, 3), np.uint8)
    return images, Bootstrap(y_true, np.repeat(np.arange(20), 2), draws=200)


@pytest.fixture(scope="module")
def stressed(light_pictures):
    return stress(see_light, *light_pictures, threshold=0.58)


def find(result, name):
    return next(each for each in result["perturbations"] if each["name"] == name)


def test_stress_unperturbed_equals_evaluate(stressed, light_pictures):
    images, bootstrap = light_pictures
    patients = [f"{number:02}" for number in bootstrap.groups]
    expected = evaluate(
        bootstrap.y_true, see_light(images), patients=patients, threshold=0.58, draws=9
    )
    for name in ("auc", "sensitivity", "specificity"):
        value = stressed["unperturbed"][name]["value"]
        assert value == pytest.approx(expected["patient"][name]["value"]), name


@pytest.mark.parametrize("name", ["brier", "ece"])
def test_stress_calibration_of_worse_pictures_equals_that_of_these_alone(
    stressed, light_pictures, name
):
    images, bootstrap = light_pictures
    patients = [f"{number:02}" for number in bootstrap.groups]
    y_prob = see_light(DARKER.apply(images, DARKER.amounts[2]))
    expected = evaluate_calibration(bootstrap.y_true, y_prob, patients=patients, draws=9)
    found = find(stressed, "darker")["severities"][2][name]
    assert found["value"] == pytest.approx(expected["patient"][name]["value"])
    assert found["low"] < found["value"] < found["high"]


def test_stress_finds_what_the_model_depends_on(stressed):
    darker, rotation = find(stressed, "darker"), find(stressed, "rotation")
    assert darker["sensitivity_breaks"]["value"] == 1
    assert darker["severities"][4]["sensitivity"]["value"] == 0
    assert rotation["sensitivity_breaks"] == {"value": None, "low": None, "high": None}


def test_stress_follows_specificity_and_calibration_where_sensitivity_gains(stressed):
    lighter = find(stressed, "lighter")
    assert lighter["sensitivity_breaks"]["value"] is None
    assert lighter["specificity_breaks"]["value"] is not None
    shifts = [each["calibration_shift"]["value"] for each in lighter["severities"]]
    assert shifts == sorted(shifts)


def test_stress_pairs_the_draws(stressed):
    """Where no answer changes, the change has no spread, wide as the interval itself may be."""
    level = find(stressed, "rotation")["severities"][0]
    assert level["sensitivity"]["low"] < level["sensitivity"]["high"]
    assert level["sensitivity_change"] == {"value": 0, "low": 0, "high": 0}


def test_stress_counts_every_picture_it_scores(light_pictures):
    scored = []
    stress(see_light, *light_pictures, perturbations=PERTURBATIONS[:2], progress=scored.append)
    assert sum(scored) == 40 * (1 + 2 * 5)


def test_stress_is_valid_json(stressed):
    json.dumps(stressed, allow_nan=False)


def test_stress_refuses_one_class(light_pictures):
    with pytest.raises(ValueError, match="must hold both classes"):
        stress(see_light, light_pictures[0][:2], Bootstrap([1, 1], draws=9))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([[-0.04] * 5, [-0.05] * 5], {"value": 2, "low": 2, "high": 2}),
        ([[-0.04] * 5, [-0.04] * 5], {"value": None, "low": None, "high": None}),
        ([[-0.06] * 5, [0.0] * 5], {"value": 1, "low": 1, "high": 1}),
        ([[0.65 - 0.7] * 5], {"value": 1, "low": 1, "high": 1}),
        ([[-0.01, -0.1, -0.1, 0, 0]], {"value": None, "low": 1, "high": None}),
    ],
)
def test_find_break_by_hand(changes, expected):
    assert find_break(changes) == expected


@pytest.mark.parametrize(
    ("found", "text"),
    [((None, None, None), "none up to 5"), ((None, 4, None), "none up to 5 [4, above 5]")],
)
def test_format_break_says_when_it_never_breaks(found, text):
    assert format_break(dict(zip(("value", "low", "high"), found, strict=True))) == text


def test_format_stress_has_a_row_for_each_perturbation_and_measure(stressed):
    lines = format_stress(stressed).splitlines()
    assert lines[0] == "judged by patient: 40 pictures, 20 patients"
    for name in BY_NAME:
        assert sum(line.startswith(name) for line in lines) == len(STRESSED), name


def test_plot_stress_draws_the_sensitivity_from_no_perturbation_on(stressed):
    axes = plots.plot_stress(stressed, note="simulated")
    levels = [stressed["unperturbed"], *find(stressed, "darker")["severities"]]
    darker = axes[list(BY_NAME).index("darker")]
    assert darker.lines[1].get_label() == "sensitivity"
    assert darker.lines[1].get_ydata().tolist() == [each["sensitivity"]["value"] for each in levels]
    assert darker.lines[4].get_xdata() == [1, 1]


def test_plot_stress_draws_the_calibration_error(stressed):
    line = plots.plot_stress(stressed)[list(BY_NAME).index("lighter")].lines[3]
    levels = [stressed["unperturbed"], *find(stressed, "lighter")["severities"]]
    assert line.get_label() == "expected calibration error"
    assert line.get_ydata().tolist() == [each["ece"]["value"] for each in levels]


def test_plot_stress_names_amounts_and_unit(stressed):
    ax = plots.plot_stress(stressed)[list(BY_NAME).index("blur")]
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["none", "0.5", "1", "1.5", "2", "3"]
    assert ax.get_xlabel() == "sigma in pixels"


@pytest.fixture
def few_perturbations(monkeypatch):
    """One kind of worse pictures, for the sake of time."""
    monkeypatch.setattr("bcnet.workflows.robustness.choose_perturbations", lambda _: [DARKER])


def make_table(sizes):
    patients = [name for name, size in sizes.items() for _ in range(size)]
    paths = [f"{i}.png" for i in range(len(patients))]
    return pd.DataFrame({"path": paths, "patient_id": patients, "dataset": "set"})


def test_limit_patients_keeps_patients_whole():
    kept = limit_patients(make_table(dict.fromkeys("abcdef", 5)), 17)
    assert kept["patient_id"].value_counts().tolist() == [5, 5, 5]


def test_limit_patients_refuses_less_than_one_patient():
    with pytest.raises(ValueError, match="`limit` must leave room for a patient's 5 pictures"):
        limit_patients(make_table({"a": 5}), 4)


def test_command_judges_the_test_patients_of_the_card(
    model_file, simulated_folder, capsys, tmp_path
):
    output = tmp_path / "result.json"
    options = ["--json", str(output), "--plots", str(tmp_path)]
    assert main(["stress", str(model_file), str(simulated_folder), *options]) == 0
    result = json.loads(output.read_text())
    card = Classifier.load(model_file).card["metrics"]["test"]["patient"]
    assert result["part"] == "test"
    assert result["unperturbed"]["auc"]["value"] == pytest.approx(card["auc"]["value"])
    assert "5 points lost from" in capsys.readouterr().out
    assert (tmp_path / "robustness.png").stat().st_size > 0


def test_command_refuses_what_the_model_has_seen(model_file, simulated, tmp_path, capsys):
    rows = simulated.table.assign(split="test")
    rows["path"] = [str(path) for path in rows["path"]]
    rows[["path", "label", "split"]].to_csv(tmp_path / "all.csv", index=False)
    assert main(["stress", str(model_file), str(tmp_path / "all.csv")]) == 1
    assert "this is no test" in capsys.readouterr().err


def test_workflow_with_allow_seen_says_that_it_is_no_test(model_file, simulated, few_perturbations):
    seen = replace(simulated, table=simulated.table.assign(split="test"))
    result = workflows.stress(Classifier.load(model_file), seen, allow_seen=True)
    assert (result["part"], result["n_images"]) == ("not a test", 80)
    assert result["seen"] == {"train": 52, "validation": 12}


def test_workflow_uses_and_tells_the_precision(model_file, simulated, few_perturbations):
    classifier = Classifier.load(model_file)
    exact = workflows.stress(classifier, simulated)
    coarse = workflows.stress(classifier, simulated, precision="bfloat16")
    assert (exact["precision"], coarse["precision"]) == ("float32", "bfloat16")
    assert exact["unperturbed"]["brier"] != coarse["unperturbed"]["brier"]


def test_workflow_gives_radiology_no_stain(model_file, simulated, quick_config):
    grey = replace(simulated, info=replace(simulated.info, modality="radiology"))
    result = workflows.stress(Classifier.load(model_file), grey)
    assert [each["name"] for each in result["perturbations"]] == [
        each.name for each in choose_perturbations("radiology")
    ]
