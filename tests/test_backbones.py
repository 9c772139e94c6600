"""Networks of Keras with our ends: pixels, weights files, frozen layers, and each one's graph."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from bcnet import config
from bcnet.models import BACKBONES, MODELS, build_mobilenet, build_vgg16, find_downloaded, unfreeze
from bcnet.models.backbones import ALPHAS, IMAGENET_MEAN_BGR
from bcnet.workflows.starting import RATES

TAIL = ["logit", "calibration", "probability"]
SIZE = (32, 64)  # the smallest side that is allowed, and one that is not the other's
NARROW = {"mobilenet": {"alpha": 0.25}}

REAL_PICTURES = os.environ.get("BCNET_TEST_DATA")
needs_real_weights = pytest.mark.skipif(
    REAL_PICTURES is None, reason="real weights are where BCNET_TEST_DATA points to, which is unset"
)


class Case(NamedTuple):
    """A backbone of Keras with random weights, its file, and our network made from that file."""

    name: str
    bare: keras.Model
    file: Path
    ours: keras.Model


@pytest.fixture(scope="module", params=BACKBONES)
def case(request, images, tmp_path_factory):
    name = request.param
    path = tmp_path_factory.mktemp(name) / "notop.h5"
    keras.utils.set_random_seed(0)
    bare = build_bare(name, weights=None)
    if name == "efficientnet_b0":  # whose graph is another one where Keras downloads the weights
        bare.save(path)
        bare = build_bare(name, weights=path)
    settle_statistics(name, bare, images)
    bare.save(path)  # the same kind of file as the one keras.applications downloads
    return Case(name, bare, path, MODELS[name](SIZE, weights=path, **NARROW.get(name, {})))


def build_bare(name, weights):
    """Build Keras's own; from a file, it has to believe that it has downloaded that file."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_download(monkeypatch, lambda *_, **__: weights)
        return getattr(keras.applications, BACKBONES[name].application)(
            include_top=False,
            weights=weights and "imagenet",
            input_shape=(*SIZE, 3),
            **NARROW.get(name, {}),
        )


def replace_download(monkeypatch, get_file):
    monkeypatch.setattr(sys.modules[keras.utils.get_file.__module__], "get_file", get_file)


def settle_statistics(name, model, images):
    """Give normalisations what they would have learnt, so that pictures count to the last layer.

    With random statistics a deep network gives nearly the same features for any picture.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([np.full(3, 0.4), np.full(3, 0.3), np.array(1)])
            layer.finalize_state()
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(preprocess(name, images), training=True)


def preprocess(name, images):
    """Do what Keras documents for one of its networks."""
    module = sys.modules[getattr(keras.applications, BACKBONES[name].application).__module__]
    return module.preprocess_input(images.copy())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (4, *SIZE, 3)).astype("float32")


@pytest.fixture(scope="module")
def answers(case, images):
    """Features and probabilities of our network."""
    probe = keras.Model(case.ours.input, [case.ours.get_layer("features").output, case.ours.output])
    return [keras.ops.convert_to_numpy(x) for x in probe(images, training=False)]


def predict(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def list_trainable(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def test_backbones_preprocess_as_keras_does(case, images, answers):
    keras_own = predict(case.bare, preprocess(case.name, images)).mean(axis=(1, 2))
    # Rounding of 1e-7 at the start grows in a hundred normalised layers.
    tolerance = 1e-3 * np.abs(keras_own).max()
    assert np.ptp(keras_own, axis=0).max() > 100 * tolerance  # the pictures do count
    np.testing.assert_allclose(answers[0], keras_own, rtol=0, atol=tolerance)


def test_backbones_take_uint8_and_float_alike(case, images, answers):
    np.testing.assert_array_equal(predict(case.ours, images.astype("uint8")), answers[1])


def test_backbones_give_one_float32_probability(answers):
    assert (answers[1].shape, answers[1].dtype) == ((4, 1), np.float32)


def test_backbones_survive_saving(case, images, answers, tmp_path):
    case.ours.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(predict(loaded, images), answers[1])


def test_backbones_are_flat_and_hold_no_code(case):
    assert not [layer for layer in case.ours.layers if isinstance(layer, keras.Model)]
    assert "Lambda" not in case.ours.to_json()


def test_backbones_end_in_features_and_the_tail(case):
    names = [layer.name for layer in case.ours.layers]
    assert names[-5:] == ["features", "dropout", *TAIL]


def test_backbones_start_frozen_with_pretrained_weights(case):
    assert list_trainable(case.ours) == ["logit"]


def test_backbones_are_let_loose_from_their_own_block(case):
    block = RATES[case.name].block
    case.ours.trainable = False
    unfreeze(case.ours, block)
    loose = list_trainable(case.ours)
    assert loose[0].startswith(block)
    assert loose[-1] == "logit"
    norms = [x for x in case.ours.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert not [norm.name for norm in norms if norm.trainable_weights]


def test_backbones_tell_the_blocks_they_have(case):
    with pytest.raises(ValueError, match=r"`block` must be one of .*logit\. Received") as caught:
        unfreeze(case.ours, "nonsense")
    for block in str(caught.value).split("one of ")[1].split(". Received")[0].split(", "):
        unfreeze(case.ours, block)  # each name that is told is a name that works


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_ask_for_the_file_that_find_downloaded_looks_for(name, monkeypatch, tmp_path):
    asked = []

    def refuse(file, *_, **__):
        asked.append(file)
        raise Exception("URL fetch failure on https://storage/weights.h5: None -- no route\n")

    replace_download(monkeypatch, refuse)
    told = r"ImageNet weights could not be downloaded \(URL fetch .* no route\); .*`weights=None`"
    with pytest.raises(ConnectionError, match=told) as caught:
        MODELS[name](SIZE)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert find_downloaded(name) is None
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / asked[0]).touch()
    assert find_downloaded(name) == str(tmp_path / "models" / asked[0])


def test_find_downloaded_keeps_the_widths_of_mobilenet_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5").touch()
    assert find_downloaded("mobilenet", alpha=0.25).endswith("mobilenet_2_5_224_tf_no_top.h5")
    assert find_downloaded("mobilenet") is None


def test_the_command_line_knows_every_network_and_width():
    assert tuple(MODELS) == config.NETWORKS
    assert tuple(BACKBONES) == config.NETWORKS[1:]
    assert tuple(ALPHAS) == config.ALPHAS


@pytest.fixture(scope="module")
def narrow():
    """The cheapest network, with random weights."""
    return build_mobilenet((32, 32), weights=None, alpha=0.25)


@pytest.fixture(scope="module")
def narrow_file(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    narrow.save_weights(path)
    return path


def test_build_mobilenet_trains_all_layers_from_random_weights(narrow):
    with_weights = [layer.name for layer in narrow.layers if layer.weights]
    assert list_trainable(narrow) == [name for name in with_weights if name != "calibration"]


def test_build_mobilenet_loads_the_weights_file_of_a_network_of_ours(narrow, narrow_file):
    loaded = build_mobilenet((64, 32), weights=narrow_file, alpha=0.25)
    for ours, theirs in zip(loaded.get_weights()[:-4], narrow.get_weights()[:-4], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_build_mobilenet_refuses_weights_of_another_width(narrow_file):
    with pytest.raises(ValueError, match=r"MobileNet without top\. Received: .*own\.weights\.h5"):
        build_mobilenet((32, 32), weights=narrow_file, alpha=0.5)


def test_build_mobilenet_refuses_a_width_without_weights():
    with pytest.raises(ValueError, match=r"`alpha` must be one of 1, 0\.75, 0\.5, 0\.25\. Rec"):
        build_mobilenet((32, 32), weights=None, alpha=0.3)


def test_build_mobilenet_keeps_both_ends_float32_in_bfloat16():
    model = build_mobilenet((32, 32), weights=None, alpha=0.25, precision="mixed_bfloat16")
    float32 = [layer.name for layer in model.layers if layer.compute_dtype == "float32"]
    assert float32 == ["image", "normalise", *TAIL]


def test_build_mobilenet_ends_where_it_is_told(narrow):
    model = build_mobilenet((32, 32), weights=None, alpha=0.25, end="conv_pw_6_relu")
    names = [layer.name for layer in model.layers]
    assert names[names.index("features") - 1] == "conv_pw_6_relu"


def test_build_mobilenet_names_ends_that_are_near():
    with pytest.raises(ValueError, match=r"such as conv_pw_6, .*Received: end='conv_pw6'"):
        build_mobilenet((32, 32), weights=None, alpha=0.25, end="conv_pw6")


def test_build_vgg16_refuses_weights_of_another_network(narrow_file, recwarn):
    with pytest.raises(ValueError, match=r"VGG16 without top\. Received: .*own\.weights\.h5") as e:
        build_vgg16((32, 32), weights=narrow_file)
    assert "\n" not in str(e.value)
    assert not [warning for warning in recwarn if warning.category is UserWarning]


def test_build_vgg16_refuses_a_file_that_lacks_a_block(tmp_path):
    path = tmp_path / "shallow.weights.h5"
    bare = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    keras.Model(bare.input, bare.get_layer("block2_pool").output).save_weights(path)
    with pytest.raises(ValueError, match=r"shallow\.weights\.h5"):
        build_vgg16((32, 32), weights=path)


def test_build_vgg16_refuses_a_corrupt_file_in_one_line(tmp_path):
    path = tmp_path / "corrupt.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"corrupt\.h5 \(.+\)") as caught:
        build_vgg16((32, 32), weights=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.h5", "."])
def test_build_vgg16_names_a_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="No weights file of VGG16 at"):
        build_vgg16((32, 32), weights=tmp_path / name)


def test_build_vgg16_turns_a_pure_red_pixel_into_bgr():
    model = build_vgg16((32, 32), weights=None, end="block1_conv1")
    pixels = np.tile(np.array([255, 0, 0], dtype="float32"), (1, 32, 32, 1))
    ours = predict(keras.Model(model.input, model.get_layer("normalise").output), pixels)
    blue, green, red = IMAGENET_MEAN_BGR
    np.testing.assert_allclose(ours[0, 0, 0], [-blue, -green, 255 - red], atol=1e-4)


def test_build_vgg16_refuses_less_than_32_pixels():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        build_vgg16((31, 32), weights=None)


@needs_real_weights
def test_build_mobilenet_loads_real_imagenet_weights(narrow):
    file = Path(REAL_PICTURES) / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    model = build_mobilenet((32, 32), weights=file, alpha=0.25)
    kernel, random = (net.get_layer("conv1").get_weights()[0] for net in (model, narrow))
    assert kernel.shape == random.shape
    assert np.abs(kernel).max() > 2 * np.abs(random).max()  # learnt edges, not noise
