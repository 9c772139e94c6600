"""The model card of a model of measurements: its words, its front matter, its files."""

import re

import pytest
import yaml

from bcnet.cardfile import ModelFileError, read_card, write_card
from bcnet.measurements.models import FAMILIES
from bcnet.workflows import train_measurements, write_model_card
from bcnet.workflows.card_measurements import describe_measurement_model
from bcnet.workflows.document import write_markdown
from bcnet.workflows.front_matter import make_front_matter

SECTIONS = [
    "Intended use",
    "Out of scope",
    "Data and patients",
    "Measurements",
    "Training",
    "Metrics",
    "Calibration",
    "Threshold",
    "What it does not answer",
    "Explanations",
    "Limits",
    "Ethical considerations",
    "Licence",
    "How to reproduce",
]


def estimate(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def make_card(**training):
    """A card small enough to check by eye."""
    return {
        "kind": "measurements",
        "data": {"name": "wisconsin", "licence": "CC BY 4.0"},
        "features": [
            {
                "name": "mean area",
                "unit": "px²",
                "plausible": [10.0, 35000.0],
                "lowest": 143.5,
                "highest": 2501.0,
            }
        ],
        "samples": {"train": {"n_images": 8, "n_malignant": 2, "n_patients": 7}},
        "calibration": {"method": "sigmoid", "data": "wisconsin", "n_images": 8, "n_patients": 7},
        "metrics": {
            "nested": {
                "n_images": 8,
                "n_patients": 7,
                "folds": 10,
                "repeats": 5,
                "majority_accuracy": estimate(0.6),
                "metrics": {"auc": estimate(0.9), "sensitivity": estimate(0.8)},
                "locked": {"sensitivity": estimate(0.97), "specificity": estimate(0.7)},
                "within_noise": ["svm_rbf"],
            }
        },
        "threshold": {"value": 0.25, "rule": "a rule", "reached": {"sensitivity": estimate(0.98)}},
        "abstention": {"reason": "too few patients"},
        "training": {
            "family": "logistic",
            "choices": {"model__C": 0.1},
            "compared": ["logistic", "svm_rbf", "knn"],
            "quick": False,
            "seed": 3,
            **training,
        },
        "versions": {"scikit-learn": "1.9.1"},
    }


def write_out(card, **told):
    return write_markdown("Card", describe_measurement_model(card, "mine", **told))


def read_section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cards") / "mine.skops"
    train_measurements(None, path, names=["naive_bayes"], quick=True)
    return path


@pytest.mark.parametrize("card", [{}, make_card()], ids=["empty", "full"])
def test_describe_measurement_model_has_all_sections_in_order(card):
    assert re.findall(r"^## (.*)$", write_out(card), re.MULTILINE) == SECTIONS


@pytest.mark.parametrize(
    "title", ["Data and patients", "Measurements", "Training", "Metrics", "Calibration"]
)
def test_describe_measurement_model_says_what_is_not_recorded(title):
    assert "not recorded" in read_section(write_out({}), title)


@pytest.mark.parametrize("word", ["RGB", "heatmap", "gate", "epoch", "validation:", ".keras"])
def test_describe_measurement_model_does_not_speak_of_pictures(word):
    assert word not in write_out(make_card()).lower()


def test_describe_measurement_model_begins_with_patients_left_out():
    lead = write_out(make_card()).split("\n\n")[2]
    assert "on 8 rows of 7 patients (wisconsin)" in lead
    assert "AUC was 0.900 [0.890, 0.910]" in lead
    assert "sensitivity 0.970 [0.960, 0.980]" in lead


def test_describe_measurement_model_shows_unit_and_ranges():
    section = read_section(write_out(make_card()), "Measurements")
    assert "| mean area | px² | 143.5 to 2501 | 10 to 35000 |" in section


def test_describe_measurement_model_shows_metrics_by_both_thresholds():
    section = read_section(write_out(make_card()), "Metrics")
    assert "10 folds × 5: 8 rows of 7 patients" in section
    assert "| sensitivity | 0.800 [0.790, 0.810] | 0.970 [0.960, 0.980] |" in section
    assert "| AUC | 0.900 [0.890, 0.910] | the same |" in section


def test_describe_measurement_model_tells_who_cannot_be_told_from_it():
    section = read_section(write_out(make_card()), "Metrics")
    assert "It was the best of 3 kinds" in section
    assert f"The AUC of {FAMILIES['svm_rbf'].words} cannot be told from its own" in section


def test_describe_measurement_model_of_one_kind_compares_with_none():
    section = read_section(write_out(make_card(compared=["logistic"])), "Metrics")
    assert "No other kind of model was compared." in section


@pytest.mark.parametrize(
    ("training", "told"),
    [({}, "took: model__C 0.1"), ({"quick": True, "choices": {}}, "took: nothing was searched")],
)
def test_describe_measurement_model_tells_what_the_search_took(training, told):
    assert told in read_section(write_out(make_card(**training)), "Training")


def test_describe_measurement_model_tells_why_nobody_is_referred():
    section = read_section(write_out(make_card()), "What it does not answer")
    assert "no patient is referred: too few patients" in section


@pytest.mark.parametrize(
    ("data", "training", "command"),
    [
        ("wisconsin", {}, "train --output mine.skops --models logistic,svm_rbf,knn --seed 3"),
        ("ours", {"compared": [*FAMILIES]}, "train DATA --output mine.skops --seed 3"),
        ("ours", {"compared": [*FAMILIES], "quick": True}, "mine.skops --quick --seed 3"),
    ],
)
def test_describe_measurement_model_tells_the_command_that_made_it(data, training, command):
    card = make_card(**training)
    card["data"]["name"] = data
    assert f"{command}\n" in read_section(write_out(card), "How to reproduce")


def test_make_front_matter_of_measurements_names_library_and_task():
    front = make_front_matter(make_card(), "mine")
    assert front["library_name"] == "sklearn"
    assert front["pipeline_tag"] == "tabular-classification"
    assert "tabular-classification" in front["tags"]


def test_make_front_matter_of_measurements_prefers_the_folds_thresholds():
    (entry,) = make_front_matter(make_card(), "mine")["model-index"]
    (result,) = entry["results"]
    assert result["dataset"]["split"] == "nested cross-validation"
    assert {each["type"]: each["value"] for each in result["metrics"]} == {
        "roc_auc": 0.9,
        "sensitivity": 0.97,
        "specificity": 0.7,
    }


@pytest.mark.parametrize("ending", ["md", "html"])
def test_write_model_card_of_measurements_names_no_patient(model_file, tmp_path, ending):
    text = write_model_card(model_file, tmp_path / f"card.{ending}").read_text(encoding="utf-8")
    train = read_card(model_file)["samples"]["train"]
    assert "569 rows of 569 patients, 212 (37%) malignant" in text
    assert not any(each in text for each in train["patients"] + train["pictures"])


def test_write_model_card_of_measurements_begins_with_front_matter(model_file, tmp_path):
    text = write_model_card(model_file, tmp_path / "card.md").read_text(encoding="utf-8")
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "sklearn"


def test_write_model_card_tells_a_damaged_card(model_file, tmp_path):
    path = tmp_path / "a.skops"
    path.write_bytes(model_file.read_bytes())
    card = read_card(path)
    card["features"][0].pop("lowest")
    write_card(path, card)
    with pytest.raises(ModelFileError, match="its card is damaged: 'lowest'"):
        write_model_card(path, tmp_path / "card.md")
