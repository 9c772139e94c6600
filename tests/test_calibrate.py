"""Calibrating a model file: what it then says, what its card tells, and whom it refuses."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from bcnet import Classifier, workflows
from bcnet.cardfile import read_card
from bcnet.cli import main
from bcnet.config import Config
from bcnet.data.manifest import read_manifest
from bcnet.data.simulate import simulate
from bcnet.evaluate.cases import find_logits
from bcnet.evaluate.scaling import Scaling, fit_scaling
from bcnet.models import average_members, build_cnn
from bcnet.readers import read_image
from bcnet.workflows import calibration
from bcnet.workflows.ancestry import SeenInTraining, describe_parent, find_parts
from bcnet.workflows.calibration import (
    CalibrationOptions,
    calibrate_trained,
    choose_within_reach,
    cut_at_logit,
)
from bcnet.workflows.samples import decode_table
from bcnet.workflows.training import make_classifier


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Let few patients do, so that the data can be small."""
    monkeypatch.setattr(calibration, "FEWEST_PATIENTS", 2)


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Sixty patients of another hospital."""
    folder = tmp_path_factory.mktemp("elsewhere") / "simulated"
    simulate(folder, images_per_patient=1, image_size=48, patients=60, seed=7)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"name": "elsewhere"}))
    return read_manifest(folder)


@pytest.fixture(scope="module")
def calibrated(classifier, elsewhere, tmp_path_factory):
    """The model file after calibration on `elsewhere`."""
    path = tmp_path_factory.mktemp("calibrated") / "model.keras"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(calibration, "FEWEST_PATIENTS", 2)
        workflows.calibrate(classifier, elsewhere, path)
    return path


def read_pictures(manifest):
    return np.stack([read_image(path) for path in manifest.table["path"]])


def find_expected(classifier, manifest, **settings):
    """Probabilities that a fit to the pictures' logits gives them."""
    logits = cut_at_logit(classifier).predict_images(read_pictures(manifest))
    return fit_scaling(manifest.table["label"], logits, **settings).apply(logits)


def test_calibrate_gives_a_file_that_plain_keras_answers_from(calibrated, classifier, elsewhere):
    answers = keras.models.load_model(calibrated).predict(read_pictures(elsewhere), verbose=0)
    np.testing.assert_allclose(answers[:, 0], find_expected(classifier, elsewhere), atol=1e-5)


def test_calibrate_leaves_the_given_classifier_as_it_is(calibrated, classifier, model_file):
    assert classifier.card == read_card(model_file)
    assert classifier.model.get_layer("calibration").get_weights()[0] == 1


def test_calibrate_leaves_the_order_as_it_is(calibrated, classifier, elsewhere):
    images = read_pictures(elsewhere)
    before = classifier.predict_images(images)
    after = Classifier.load(calibrated).predict_images(images)
    np.testing.assert_array_equal(np.argsort(before), np.argsort(after))


def test_calibrate_tells_the_card_method_data_and_threshold(calibrated, elsewhere):
    card = read_card(calibrated)
    told = card["calibration"]
    assert (told["method"], told["n_images"], told["n_patients"]) == ("platt", 60, 60)
    assert told["data"] == f"{elsewhere.info.name}, calibration"
    assert card["threshold"]["rule"] == "maximum balanced accuracy on calibration patients"
    assert set(card["threshold"]["reached"]) == {"sensitivity", "specificity"}
    assert list(card["metrics"]) == ["calibration"]


def test_calibrate_names_its_pictures_so_that_they_are_no_test(calibrated, elsewhere):
    classifier = Classifier.load(calibrated)
    scored = elsewhere.table.assign(split="test")
    with pytest.raises(SeenInTraining, match=r"has seen 60, .*60 in calibration"):
        workflows.evaluate(classifier, replace(elsewhere, table=scored))


def test_calibrate_hands_down_what_has_calibrated(calibrated):
    card = read_card(calibrated)
    handed = describe_parent(calibrated)["patients"]
    assert set(card["samples"]["calibration"]["patients"]) <= set(handed)


def test_calibrate_replaces_an_earlier_calibration(calibrated, classifier, elsewhere, tmp_path):
    options = CalibrationOptions("temperature")
    again = workflows.calibrate(
        Classifier.load(calibrated), elsewhere, tmp_path / "again.keras", options
    )
    expected = find_expected(classifier, elsewhere, method="temperature")
    answers = again.predict_images(read_pictures(elsewhere))
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_calibrate_takes_the_validation_patients_of_the_card(classifier, simulated, tmp_path):
    card = workflows.calibrate(classifier, simulated, tmp_path / "model.keras").card
    samples = card["samples"]
    assert samples["calibration"]["pictures"] == samples["validation"]["pictures"]
    assert list(card["metrics"]) == ["validation"]


def test_calibrate_keeps_validation_patients_apart_from_test(classifier, simulated, tmp_path):
    new = workflows.calibrate(classifier, simulated, tmp_path / "model.keras")
    assert workflows.evaluate(new, simulated)["part"] == "test"


@pytest.mark.parametrize("part", ["train", "test"])
def test_calibrate_refuses_pictures_that_trained_or_judge(classifier, simulated, tmp_path, part):
    divided = workflows.divide(simulated.table, Config())
    chosen = divided[divided["split"] == part].assign(split="validation")
    with pytest.raises(SeenInTraining, match=f"in {part}"):
        workflows.calibrate(classifier, replace(simulated, table=chosen), tmp_path / "m.keras")


def test_calibrate_refuses_too_few_patients(classifier, elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "FEWEST_PATIENTS", 50)
    with pytest.raises(ValueError, match="needs 50 patients of each class"):
        workflows.calibrate(classifier, elsewhere, tmp_path / "model.keras")


def test_calibrate_refuses_a_target_that_cannot_be_shown(classifier, elsewhere, tmp_path):
    options = CalibrationOptions(threshold_rule="sensitivity", target=0.99)
    with pytest.raises(ValueError, match=r"sensitivity of 0\.99 cannot be shown"):
        workflows.calibrate(classifier, elsewhere, tmp_path / "model.keras", options)


def test_calibrate_reaches_the_target_where_it_was_chosen(classifier, elsewhere, tmp_path):
    options = CalibrationOptions(threshold_rule="sensitivity", target=0.8)
    card = workflows.calibrate(classifier, elsewhere, tmp_path / "model.keras", options).card
    assert card["threshold"]["reached"]["sensitivity"]["value"] >= 0.8


def test_calibrate_moves_the_odds_to_a_prevalence(calibrated, classifier, elsewhere, tmp_path):
    options = CalibrationOptions(prevalence=0.01)
    moved = workflows.calibrate(classifier, elsewhere, tmp_path / "model.keras", options)
    images, share = read_pictures(elsewhere), elsewhere.table["label"].mean()
    before = Classifier.load(calibrated).predict_images(images)
    difference = find_logits(moved.predict_images(images)) - find_logits(before)
    expected = find_logits(0.01) - find_logits(share)
    np.testing.assert_allclose(difference, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "isotonic"}, "`method` must be"),
        ({"threshold_rule": "f2"}, "`threshold_rule` must be"),
        ({"prevalence": 2}, "`prevalence` must be between"),
        ({"prevalence": 0.1, "method": None}, "only platt has"),
    ],
)
def test_calibration_options_name_a_wrong_value(settings, message):
    with pytest.raises(ValueError, match=message):
        CalibrationOptions(**settings)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_set_scaling_is_seen_by_a_graph_that_has_run(model_file, elsewhere, precision):
    classifier = Classifier.load(model_file)
    images = read_pictures(elsewhere)[:4]
    before = find_logits(classifier.predict_images(images, precision=precision))
    classifier.set_scaling(Scaling(2.0, 1.0))
    after = find_logits(classifier.predict_images(images, precision=precision))
    np.testing.assert_allclose(after, 2 * before + 1, atol=1e-3)


def test_set_scaling_works_on_an_ensemble():
    classifier = Classifier(average_members([build_cnn((32, 32)), build_cnn((32, 32))]), {})
    images = np.zeros((1, 32, 32, 3), np.float32)
    logits = cut_at_logit(classifier).predict_images(images)
    classifier.set_scaling(Scaling(2.0, 1.0))
    found = find_logits(classifier.predict_images(images))
    np.testing.assert_allclose(found, 2 * logits + 1, atol=1e-4)


def test_cut_at_logit_refuses_a_foreign_network():
    with pytest.raises(ValueError, match="`logit` and `calibration`"):
        cut_at_logit(Classifier(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), {}))


def judge(classifier, table, logits, config):
    calibrate_trained(classifier, logits, table, config, "mine, validation")
    return classifier.card["calibration"]


def test_calibrate_trained_says_why_it_does_not(model_file, elsewhere, monkeypatch):
    classifier, table = Classifier.load(model_file), elsewhere.table.assign(hash="0")
    turned = 1.0 - 2 * table["label"].to_numpy()
    assert "must not turn" in judge(classifier, table, turned, Config())["reason"]
    monkeypatch.setattr(calibration, "FEWEST_PATIENTS", 50)
    assert "needs 50 patients" in judge(classifier, table, -turned, Config())["reason"]
    assert classifier.model.get_layer("calibration").get_weights() == [1, 0]


def test_calibrate_trained_follows_the_configuration(model_file, elsewhere):
    classifier, table = Classifier.load(model_file), elsewhere.table.assign(hash="0")
    logits = np.random.default_rng(0).normal(table["label"], 1)
    assert judge(classifier, table, logits, Config(calibration=None)) == {"method": "none"}
    assert judge(classifier, table, logits, Config())["method"] == "platt"


def test_choose_within_reach_falls_back_with_a_word(caplog):
    config = Config(threshold_rule="specificity", target=0.9)
    value, rule = choose_within_reach(np.array([0, 1]), np.array([0.9, 0.1]), config)
    assert rule == "maximum balanced accuracy"
    assert "no threshold has a specificity of 0.9" in caplog.text
    assert 0 < value < 0.1


def test_make_classifier_calibrates_on_validation_patients(model_file, simulated):
    classifier = Classifier.load(model_file)
    pictures = decode_table(workflows.divide(simulated.table, Config()), (48, 48))
    card = make_classifier(classifier.model, pictures, simulated, Config()).card
    rows = pictures.rows_in("validation")
    logits = cut_at_logit(classifier).predict_images(pictures.images[rows])
    expected = fit_scaling(pictures.labels[rows], logits)
    assert card["calibration"]["slope"] == pytest.approx(expected.slope)
    weights = classifier.model.get_layer("calibration").get_weights()
    assert [weight.item() for weight in weights] == pytest.approx(expected, rel=1e-5)


def test_calibrate_chooses_the_referred_probabilities_anew(classifier, elsewhere, tmp_path):
    banded = Classifier(classifier.model, classifier.card | {"abstention": {"low": 2.0}})
    band = workflows.calibrate(banded, elsewhere, tmp_path / "model.keras").card["abstention"]
    assert band["data"] == "elsewhere, calibration"
    assert band.get("low") != 2.0


def test_train_checks_the_target_before_any_work(simulated, tmp_path):
    config = Config(threshold_rule="sensitivity", target=0.99)
    with pytest.raises(ValueError, match=r"sensitivity of 0\.99 cannot be shown by"):
        workflows.train(simulated, tmp_path / "model.keras", config)


def test_find_parts_takes_what_trained_for_more_than_what_calibrated(calibrated, simulated):
    card = read_card(calibrated)
    card["samples"]["calibration"] = card["samples"]["train"]
    row = simulated.table.iloc[:1].assign(hash=card["samples"]["train"]["pictures"][0])
    assert find_parts(card, row).tolist() == ["train"]


def test_calibrate_command_writes_the_file_and_says_what_it_chose(
    model_file, elsewhere, tmp_path, capsys
):
    folder = elsewhere.table["path"].iloc[0].rsplit("/", 2)[0]
    output = tmp_path / "new.keras"
    arguments = ["--threshold-rule", "cost", "--target", "5", "--method", "none"]
    assert main(["calibrate", str(model_file), folder, "--output", str(output), *arguments]) == 0
    assert "least cost, a miss weighing 5 false alarms on calibration" in capsys.readouterr().out
    assert read_card(output)["calibration"] == {"method": "none"}


def test_evaluate_command_says_what_answers_mean_at_a_prevalence(
    model_file, simulated_folder, capsys
):
    assert main(["evaluate", str(model_file), str(simulated_folder), "--prevalence", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "Brier score" in printed
    assert "where 1 % are malignant, of 1,000 women" in printed
