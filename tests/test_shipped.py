"""The models that come with the project: found by name, sound, licensed and small."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

import bcnet
from bcnet.cardfile import SHIPPED_FOLDER, list_shipped, locate_model
from bcnet.data.wisconsin import load_wisconsin
from bcnet.explain.cases import locate_index, read_index
from bcnet.measurements.models import FAMILIES

LARGEST_BYTES = 5 * 1024**2


@pytest.fixture(scope="module", params=list_shipped(".keras"))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def classifier(name):
    return bcnet.load(name)


@pytest.fixture(scope="module")
def images(classifier):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, *classifier.image_size, 3)).astype(np.uint8)


def test_list_shipped_names_every_model_of_the_folder():
    assert "idc" in list_shipped()


def test_shipped_model_is_small(name):
    path = Path(locate_model(name))
    both = (path, locate_index(path))
    assert sum(file.stat().st_size for file in both) <= LARGEST_BYTES


def test_shipped_model_answers_as_plain_keras_does(name, classifier, images):
    plain = keras.models.load_model(locate_model(name), compile=False)
    expected = plain.predict(images.astype("float32"), verbose=0)[:, 0]
    np.testing.assert_allclose(classifier.predict(images)["probability"], expected, atol=1e-5)


def test_shipped_model_explains_a_picture(classifier, images):
    heatmap = classifier.explain(images[0])
    assert heatmap.shape == classifier.image_size
    assert np.isfinite(heatmap).all()


def test_shipped_model_knows_its_training_pictures(classifier, images):
    cases = read_index(locate_index(classifier.path))
    assert len(cases.paths) == classifier.card["samples"]["train"]["n_images"]
    assert not any(os.path.isabs(path) for path in cases.paths)
    found = classifier.similar_cases(images[0], k=3)
    assert set(found["path"]) <= set(cases.paths)
    assert found["distance"].between(0, 2).all()


def test_shipped_model_was_trained_on_data_in_the_public_domain(classifier):
    assert classifier.card["data"]["licence"].startswith("CC0")
    assert classifier.card["training"]["config"]["weights"] is None


def test_shipped_model_tells_what_its_negatives_are(classifier):
    assert classifier.card["data"]["negative"] != "benign"


def test_shipped_model_has_its_command_in_the_readme(name):
    assert f"models/{name}.keras" in (SHIPPED_FOLDER / "README.md").read_text(encoding="utf-8")


def test_locate_model_prefers_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("idc").write_bytes(b"mine")
    assert locate_model("idc") == "idc"


def test_locate_model_passes_over_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("idc").mkdir()
    assert locate_model("idc").endswith("idc.keras")


def test_locate_model_leaves_paths_alone(tmp_path):
    assert locate_model(tmp_path / "idc") == str(tmp_path / "idc")


def test_load_names_the_shipped_models_when_there_is_no_such_file():
    with pytest.raises(FileNotFoundError, match=r"come with bcnet: .*idc"):
        bcnet.load("nothing.keras")


@pytest.mark.skipif(not os.environ.get("BCNET_TEST_DATA"), reason="BCNET_TEST_DATA is not set")
def test_shipped_model_reaches_what_its_card_says_on_its_test_patients():
    from bcnet.workflows import evaluate

    classifier = bcnet.load("idc")
    manifest = bcnet.read_manifest([os.path.join(os.environ["BCNET_TEST_DATA"], "idc")])
    judged = evaluate(classifier, manifest)["image"]["auc"]["value"]
    stored = classifier.card["metrics"]["test"]["image"]["auc"]["value"]
    assert judged == pytest.approx(stored, abs=1e-3)


@pytest.fixture(scope="module")
def wisconsin():
    return bcnet.load("wisconsin")


def test_shipped_measurement_model_learned_from_the_public_patients(wisconsin):
    assert wisconsin.card["samples"]["train"]["n_patients"] == 569
    assert wisconsin.card["data"]["licence"].startswith("CC BY")


def test_shipped_measurement_model_was_judged_in_full(wisconsin):
    assert wisconsin.card["training"]["quick"] is False
    assert set(wisconsin.card["training"]["compared"]) == set(FAMILIES)
    assert wisconsin.card["metrics"]["nested"]["locked"]["sensitivity"]["value"] >= 0.97


def test_shipped_measurement_model_tells_clear_patients_apart(wisconsin):
    table = load_wisconsin()
    answers = wisconsin.predict(table.drop(columns=["label", "patient_id"]))
    answered = answers["status"] == "ok"
    malignant = answers["label"] == "malignant"
    assert answered.mean() > 0.8
    assert (malignant == (table["label"] == 1))[answered].mean() > 0.95


def test_shipped_measurement_model_has_its_command_in_the_readme():
    assert "models/wisconsin.skops" in (SHIPPED_FOLDER / "README.md").read_text(encoding="utf-8")
