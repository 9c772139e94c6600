"""A model file is looked at before it is trusted; every fault has its own sentence."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from bcnet.cardfile import ModelFileError, read_card
from bcnet.modelfile import check_model_file, read_model, write_model
from bcnet.models import build_cnn


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "a.keras"
    write_model(path, build_cnn((16, 16), widths=(4, 4, 4), dense=8), {"word": "ü"})
    return path


def rewrite(source, target, **changes):
    """Copy a model file with some members changed (None: left out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        members |= {name.replace("__", "."): data for name, data in changes.items()}
        for name, data in members.items():
            if data is not None:
                new.writestr(name, data)
    return target


def read_config(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def test_write_model_gives_an_ordinary_keras_file(saved):
    model = keras.models.load_model(saved)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3))
    np.testing.assert_allclose(
        model.predict(images, verbose=0), read_model(saved).predict(images, verbose=0), atol=1e-7
    )


def test_write_model_keeps_the_card(saved):
    assert read_card(saved) == {"word": "ü"}


def test_write_model_refuses_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.keras. Received: path=.*a\.h5"):
        write_model(tmp_path / "a.h5", build_cnn((16, 16)), {})


def test_write_model_keeps_the_old_file_when_the_card_cannot_be_written(saved, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(saved.read_bytes())
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_model(path, build_cnn((16, 16)), {"auc": float("nan")})
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_read_card_says_how_to_go_on_when_the_card_was_lost(saved, tmp_path):
    path = tmp_path / "resaved.keras"
    keras.models.load_model(saved).save(path)
    with pytest.raises(ModelFileError, match=r"the card was lost .* takes it from the original"):
        read_card(path)


def test_read_card_refuses_one_that_unpacks_to_too_much(saved, monkeypatch):
    monkeypatch.setattr("bcnet.cardfile.LARGEST_JSON", 3)
    with pytest.raises(ModelFileError, match=r"its card\.json would unpack to \d+ bytes"):
        read_card(saved)


def test_read_model_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file at"):
        read_model(tmp_path / "none.keras")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_read_model_of_a_truncated_file(saved, tmp_path, share):
    path = tmp_path / "cut.keras"
    path.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    with pytest.raises(ModelFileError, match="not a Keras model file, or a truncated one"):
        read_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evil__py": b"import os"}, "it holds 'evil.py'"),
        ({"config__json": None}, "it has no config.json"),
        ({"model__weights__h5": None}, "it has no model.weights.h5"),
        ({"config__json": b"{"}, "config.json is damaged"),
        ({"card__json": b"\xff"}, "card.json is damaged"),
        ({"model__weights__h5": b"no HDF5"}, "the weights are damaged"),
        ({"config__json": b'{"class_name": "NoSuchLayer"}'}, "its config is no network"),
    ],
)
def test_model_file_fault_is_named(saved, tmp_path, changes, message):
    path = rewrite(saved, tmp_path / "b.keras", **changes)
    with pytest.raises(ModelFileError, match=message):
        (read_card if "card__json" in changes else read_model)(path)


def test_read_model_refuses_h5(tmp_path):
    path = tmp_path / "old.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ModelFileError, match=r"only \.keras files are loaded"):
        read_model(path)


def test_read_model_refuses_code_in_a_lambda(tmp_path):
    image = keras.Input((4, 4, 3))
    x = keras.layers.Lambda(lambda t: t + 1, output_shape=(4, 4, 3))(image)
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    path = tmp_path / "lambda.keras"
    model.save(path)
    with pytest.raises(ModelFileError):
        read_model(path)


def test_check_model_file_refuses_a_config_that_asks_for_more_than_the_file_holds(saved, tmp_path):
    config = read_config(saved)
    for layer in config["config"]["layers"]:
        if layer["config"]["name"] == "dense1":
            layer["config"]["units"] = 1_000_000_000
        layer.pop("build_config", None)
    path = rewrite(saved, tmp_path / "bomb.keras", config__json=json.dumps(config))
    with pytest.raises(ModelFileError, match=r"asks for|no network"):
        check_model_file(path)


def test_check_model_file_refuses_a_sound_config_of_a_larger_network(saved, tmp_path):
    write_model(tmp_path / "large.keras", build_cnn((16, 16), widths=(4, 4, 4), dense=500), {})
    text = json.dumps(read_config(tmp_path / "large.keras"))
    path = rewrite(saved, tmp_path / "d.keras", config__json=text)
    with pytest.raises(ModelFileError, match=r"asks for [\d,]+ weights while the file holds"):
        check_model_file(path)


def test_check_model_file_refuses_a_gigantic_input(saved, tmp_path):
    text = json.dumps(read_config(saved)).replace("[null, 16, 16, 3]", "[null, 99999, 99999, 3]")
    path = rewrite(saved, tmp_path / "wide.keras", config__json=text)
    with pytest.raises(ModelFileError, match="larger than 4096 px"):
        check_model_file(path)


def test_check_model_file_refuses_weights_that_are_declared_but_not_stored(saved, tmp_path):
    hollow = tmp_path / "hollow.h5"
    with h5py.File(hollow, "w") as file:
        file.create_dataset("kernel", shape=(100_000, 10_000), dtype="float32", chunks=(100, 100))
    path = rewrite(saved, tmp_path / "c.keras", model__weights__h5=hollow.read_bytes())
    with pytest.raises(ModelFileError, match="'kernel' are not stored in the file"):
        check_model_file(path)
