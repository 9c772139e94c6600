"""Four mistakes of students, made on purpose: each must be measured, and caught."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bcnet import workflows
from bcnet.cli import main
from bcnet.data.manifest import read_manifest
from bcnet.train import History
from bcnet.workflows import cross_validation, leakage
from bcnet.workflows.leakage import format_leak, leak_demo, measure_luck

BRIEF = {"EPOCHS": 2, "FOLDS": 2, "SEEDS": 2, "SIDE": 16}


@pytest.fixture
def brief(monkeypatch):
    """Runs of a moment."""
    for name, value in BRIEF.items():
        monkeypatch.setattr(leakage, name, value)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Thirty patients, each of a colour that tells him from all others but not his label."""
    folder, rng = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    for i, colour in enumerate(rng.integers(0, 250, (30, 3))):
        place = folder / ("benign", "malignant")[i % 2]
        place.mkdir(exist_ok=True)
        for j in range(4):
            image = np.full((16, 16, 3), colour + j, np.uint8)
            Image.fromarray(image).save(place / f"case{i:02d}-{j}.png")
    return read_manifest(folder, patient_pattern=r"case(\d+)")


class Nearest(keras.layers.Layer):
    """Answers with the label of the training picture of the nearest colour."""

    def __init__(self, colours, labels):
        super().__init__()
        self.colours, self.labels = colours.astype("float32"), labels.astype("float32")

    def call(self, images):
        means = keras.ops.mean(images, axis=(1, 2))
        distances = keras.ops.sum((means[:, None] - self.colours) ** 2, axis=-1)
        nearest = keras.ops.argmin(distances, axis=1)
        return keras.ops.take(self.labels, nearest)[:, None]


def memorise(pictures, config, **_):
    rows = pictures.rows_in("train")
    inputs = keras.Input((*config.image_size, 3))
    layer = Nearest(pictures.images[rows].mean(axis=(1, 2)), pictures.labels[rows])
    return keras.Model(inputs, layer(inputs)), History()


@pytest.fixture(scope="module")
def found(simulated):
    """All failures at once, on forty patients."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in BRIEF.items():
            patch.setattr(leakage, name, value)
        patch.setattr(cross_validation, "fit_network", memorise)
        return leak_demo(simulated, failures=tuple(leakage.FAILURES))


def test_leak_demo_shows_what_a_network_gains_by_knowing_its_patients(coloured, brief, monkeypatch):
    monkeypatch.setattr(cross_validation, "fit_network", memorise)
    result = leak_demo(coloured)
    assert (result["n_images"], result["n_patients"], result["unit"]) == (120, 30, "patient")
    assert result["patient_split"]["low"] < 0.5 < result["patient_split"]["high"] + 0.2
    assert result["image_split"]["value"] > 0.95
    assert result["inflation"]["low"] > 0
    assert "The leak flatters here." in format_leak(result)


def test_leak_demo_tells_a_result_without_inflation_as_it_is(coloured, brief, monkeypatch):
    def guess(pictures, config, **_):
        inputs = keras.Input((*config.image_size, 3))
        outputs = keras.layers.Lambda(lambda x: x[:, 0, 0, :1] / 255)(inputs)
        return keras.Model(inputs, outputs), History()

    monkeypatch.setattr(cross_validation, "fit_network", guess)
    assert "shows no inflation here" in format_leak(leak_demo(coloured))


def test_audit_and_training_catch_a_split_that_divides_patients(simulated, tmp_path):
    parts = np.resize(["train", "test", "validation", "train"], len(simulated.table))
    divided = replace(simulated, table=simulated.table.assign(split=parts))
    with pytest.raises(ValueError, match="No patient may stand in two parts"):
        workflows.train(divided, tmp_path / "leak.keras")


def test_leak_demo_catches_wrong_normalisation(found):
    told = found["failures"]["normalisation"]
    assert "must be uint8 RGB in 0–255" in told["caught"]
    assert told["measure"] == "balanced_accuracy"
    assert told["wrong"]["value"] == 0.5  # all pictures are nearly black to it


def test_leak_demo_catches_early_stopping_on_the_test(found):
    told = found["failures"]["early-stopping"]
    assert "this is no test" in told["caught"]
    assert "in validation" in told["caught"]
    assert told["difference"]["value"] >= 0


def test_leak_demo_catches_a_lucky_seed(found):
    told = found["failures"]["lucky-seed"]
    assert told["caught"].startswith("2 seeds reach 0.")
    assert told["difference"]["value"] >= 0


def tabulate_patients(labels):
    names = [f"{i:03d}" for i in range(len(labels))]
    columns = {"path": names, "source": "", "patient_id": names, "dataset": "a", "label": labels}
    return pd.DataFrame(columns)


def test_measure_luck_of_equal_networks_vanishes_on_other_patients():
    rng, leads = np.random.default_rng(1), []
    labels = np.tile([0, 1], 40)
    table = tabulate_patients(labels)
    for seed in range(20):
        scores = labels + rng.normal(size=(5, 80))
        leads.append(measure_luck(scores, table, seed=seed))
    means = pd.DataFrame(leads).mean()
    assert means["chosen"] > 0.05
    assert abs(means["others"]) < 0.03  # three standard errors of twenty repetitions


def test_measure_luck_leaves_a_better_network_its_lead():
    rng, labels = np.random.default_rng(2), np.tile([0, 1], 200)
    table = tabulate_patients(labels)
    scores = labels * np.array([[2.0], [0.5], [0.5]]) + rng.normal(size=(3, 400))
    luck = measure_luck(scores, table)
    aucs = [roc_auc_score(labels, each) for each in scores]
    assert luck["others"] == pytest.approx(aucs[0] - np.mean(aucs), abs=0.02)


def test_leak_demo_result_is_valid_json(found):
    json.dumps(found, allow_nan=False)


def test_format_leak_tells_every_failure(found):
    lines = format_leak(found).splitlines()
    for name in leakage.FAILURES:
        assert any(line.startswith(f"{name}: ") for line in lines)


def test_leak_demo_names_an_unknown_failure(simulated):
    with pytest.raises(ValueError, match=r"among normalisation, .* Received: vanity"):
        leak_demo(simulated, failures=["vanity"])


def test_leak_demo_needs_patients(simulated):
    anonymous = replace(simulated, table=simulated.table.assign(patient_id=None))
    with pytest.raises(ValueError, match="needs to know the patients"):
        leak_demo(anonymous)


def test_command_prints_both_splits(simulated_folder, brief, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cross_validation, "fit_network", memorise)
    output = tmp_path / "leak.json"
    assert main(["leak-demo", str(simulated_folder), "--json", str(output)]) == 0
    told = capsys.readouterr().out
    assert "split by patient" in told
    assert "split by picture" in told
    assert json.loads(output.read_text())["n_patients"] == 40
