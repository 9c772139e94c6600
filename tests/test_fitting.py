"""Stages and members: what each starts from, what it may change, and how a run goes on."""

import logging
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers

from bcnet.config import Config
from bcnet.modelfile import write_model
from bcnet.models import UNCHANGED, build_mobilenet
from bcnet.models.parts import add_tail
from bcnet.workflows import features, fitting, starting
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.samples import Pictures
from bcnet.workflows.starting import check_start

CNN = Config(
    image_size=(16, 16),
    epochs=2,
    batch_size=16,
    learning_rate=1e-2,
    modality="tissue",
    precision="float32",
)
PRETRAINED = replace(
    CNN, model="mobilenet", weights="imagenet", fine_tune_rate=1e-2, epochs=1, modality="radiology"
)

# TensorFlow's word for what `eager` below does not reach, which nobody needs to hear.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")


def build_tiny(image_size, *, weights=None, name="mobilenet", **_):
    """A network of two convolutions; its pretrained weights come from a seed."""
    image = keras.Input((*image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(image)
    for block in ("conv1", "conv2"):
        x = layers.Conv2D(4, 3, strides=2, use_bias=False, name=block)(x)
        x = layers.BatchNormalization(name=f"{block}_bn")(x)
        x = layers.ReLU(name=f"{block}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    network = keras.Model(image, add_tail(x), name=name)
    if weights is not None:
        learn_elsewhere(network)
    return network


def learn_elsewhere(network):
    rng = np.random.default_rng(0)
    for layer in network.layers[: -len(("dropout", "logit", "calibration", "probability"))]:
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        layer.trainable = False


@pytest.fixture(autouse=True)
def eager():
    """Building the graph of a step takes longer than these few steps do without one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Small networks under both names."""
    monkeypatch.setitem(starting.MODELS, "mobilenet", build_tiny)
    monkeypatch.setitem(starting.MODELS, "cnn", partial(build_tiny, name="cnn"))


@pytest.fixture(scope="module")
def pictures():
    """Dark benign and bright malignant pictures: 32 train, 16 validate."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.integers(0, 120, (48, 16, 16, 3)) + 60 * labels[:, None, None, None]
    split = ["train"] * 32 + ["validation"] * 16
    table = {"label": labels, "split": split, "hash": [f"{i:016x}" for i in range(48)]}
    return Pictures(images.astype(np.uint8), pd.DataFrame(table))


class Stage:
    """One call of `train`: what it was given, and the weights before and after."""

    def __init__(self, network, config):
        self.network, self.config, self.before = network, config, network.get_weights()
        self.name, self.size = network.name, network.input_shape[1:-1]


@pytest.fixture
def stages(monkeypatch):
    """The stages of the runs of a test, in order."""
    seen, train = [], fitting.train

    def watch(network, train_ds, val_ds, config, **settings):
        seen.append(Stage(network, config))
        history = train(network, train_ds, val_ds, config, **settings)
        seen[-1].after = network.get_weights()
        return history

    monkeypatch.setattr(fitting, "train", watch)
    return seen


def assert_equal_weights(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def list_statistics(network):
    norms = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    return [np.asarray(w) for norm in norms for w in (norm.moving_mean, norm.moving_variance)]


# Two stages


def test_fit_network_trains_the_head_and_then_the_rest(pictures, stages):
    _, history = fit_network(pictures, PRETRAINED)
    assert [stage.name for stage in stages] == ["head", "mobilenet"]
    assert [stage.config.learning_rate for stage in stages] == [1e-2, 1e-2]
    assert len(history) == 2


def test_fit_network_fine_tunes_at_the_networks_own_rate(pictures, stages):
    fit_network(pictures, replace(PRETRAINED, fine_tune_rate=None))
    assert stages[1].config.learning_rate == starting.RATES["mobilenet"].fine_tune


def test_fit_network_lets_go_from_the_block_that_is_asked_for(pictures):
    network, _ = fit_network(pictures, replace(PRETRAINED, fine_tune_from="conv2"))
    learnt = build_tiny((16, 16), weights="imagenet")
    unchanged = {
        name: np.array_equal(network.get_layer(name).get_weights(), layer.get_weights())
        for name in ("conv1", "conv2")
        for layer in [learnt.get_layer(name)]
    }
    assert unchanged == {"conv1": True, "conv2": False}


def test_fit_network_leaves_batch_statistics_alone_in_both_stages(pictures):
    network, _ = fit_network(pictures, PRETRAINED)
    learnt = list_statistics(build_tiny((16, 16), weights="imagenet"))
    assert_equal_weights(list_statistics(network), learnt)


def test_fit_network_fine_tunes_what_the_head_has_learnt(pictures, stages):
    fit_network(pictures, PRETRAINED)
    head, rest = stages
    assert_equal_weights(rest.before[-4:], head.after[-4:])  # logit and calibration
    assert not np.array_equal(head.before[-4], head.after[-4])


def test_fit_network_computes_features_once_for_several_members_and_calls(pictures, monkeypatch):
    calls, run_body = [], features._run_body
    monkeypatch.setattr(
        features, "_run_body", lambda *given: calls.append(given[-1]) or run_body(*given)
    )
    kept = {}
    fit_network(pictures, replace(PRETRAINED, members=2), features=kept)
    fit_network(pictures, replace(PRETRAINED, learning_rate=0.5), features=kept)
    assert calls == [UNCHANGED, UNCHANGED]  # of training and of validation


def test_fit_network_trains_on_bfloat16_features(pictures):
    network, _ = fit_network(pictures, replace(PRETRAINED, precision="bfloat16"))
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


# Starting from a model of ours


def save_model(network, path):
    write_model(path, network, {})
    return str(path)


def test_fit_network_starts_from_a_model_of_ours(pictures, stages, tmp_path):
    parent = build_tiny((32, 32), name="cnn")
    path = save_model(parent, tmp_path / "parent.keras")
    fit_network(pictures, replace(CNN, epochs=1, initial_weights=path))
    assert_equal_weights(stages[0].before, parent.get_weights())


def test_check_start_tells_once_what_is_taken_over(tmp_path, caplog):
    path = save_model(build_tiny((32, 32), name="cnn"), tmp_path / "parent.keras")
    with caplog.at_level(logging.INFO, logger="bcnet"):
        check_start(replace(CNN, initial_weights=path))
    assert caplog.messages == [f"{path}: weights taken over in 5 of 5 layers"]


def test_fit_network_freezes_a_backbone_of_ours_first(pictures, stages, tmp_path):
    parent = build_tiny((16, 16), weights="imagenet")
    path = save_model(parent, tmp_path / "parent.keras")
    config = replace(PRETRAINED, weights=None, initial_weights=path, fine_tune_from="logit")
    network, _ = fit_network(pictures, config)
    assert [stage.name for stage in stages] == ["head", "mobilenet"]
    assert_equal_weights(network.get_weights()[:-4], parent.get_weights()[:-4])


def test_check_start_refuses_a_backbone_that_would_stay_random(tmp_path):
    parent = build_tiny((16, 16), weights=None)
    parent = keras.Model(parent.input, parent.get_layer("conv1_relu").output)
    path = save_model(parent, tmp_path / "parent.keras")
    with pytest.raises(ValueError, match="2 layers of mobilenet are not in it"):
        check_start(replace(PRETRAINED, initial_weights=path))


@pytest.mark.parametrize("model", ["cnn", "mobilenet"])
def test_check_start_refuses_a_model_of_which_nothing_fits(model, tmp_path):
    other = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)])
    path = save_model(other, tmp_path / "other.keras")
    config = replace(CNN, model=model, image_size=(32, 32), initial_weights=path)
    with pytest.raises(ValueError, match=r"no layer of .* fits"):
        check_start(config)


def test_check_start_refuses_a_mobilenet_of_another_width(tmp_path, monkeypatch):
    monkeypatch.setitem(starting.MODELS, "mobilenet", build_mobilenet)
    narrow = build_mobilenet((32, 32), weights=None, alpha=0.25)
    path = save_model(narrow, tmp_path / "narrow.keras")
    config = replace(PRETRAINED, image_size=(32, 32), weights=None, initial_weights=path)
    with pytest.raises(ValueError, match="no layer of mobilenet fits mobilenet"):
        check_start(config)


def test_check_start_refuses_a_block_that_is_not_there():
    with pytest.raises(ValueError, match="`block` must be one of conv1, conv2, logit"):
        check_start(replace(PRETRAINED, fine_tune_from="block5"))


def test_check_start_builds_nothing_that_begins_at_random(monkeypatch):
    monkeypatch.setattr(starting, "MODELS", {})
    check_start(CNN)
    check_start(replace(PRETRAINED, weights=None))


# Growing pictures, and several members


def test_fit_network_shows_pictures_of_half_the_size_first(pictures, stages):
    _, history = fit_network(pictures, replace(CNN, progressive=True, epochs=3))
    told = [(stage.size, stage.config.epochs, stage.config.schedule) for stage in stages]
    assert told == [((8, 8), 1, "constant"), ((16, 16), 2, "cosine")]
    assert len(history) == 3


def test_fit_network_goes_on_with_the_weights_of_half_the_size(pictures, stages):
    fit_network(pictures, replace(CNN, progressive=True))
    small, whole = stages
    assert_equal_weights(whole.before, small.after)
    assert not np.array_equal(small.before[0], small.after[0])


def test_fit_network_keeps_a_frozen_backbone_frozen_at_half_the_size(pictures, stages):
    config = replace(PRETRAINED, progressive=True, fine_tune_from="conv2", epochs=2)
    network, _ = fit_network(pictures, config)
    learnt = build_tiny((16, 16), weights="imagenet")
    assert [stage.size for stage in stages[1:]] == [(8, 8), (16, 16)]
    assert_equal_weights(network.layers[2].get_weights(), learnt.layers[2].get_weights())
    assert_equal_weights(list_statistics(network), list_statistics(learnt))


def test_fit_network_trains_each_member_from_a_seed_of_its_own(pictures, stages):
    network, _ = fit_network(pictures, replace(CNN, members=3, seed=7, epochs=1))
    assert [stage.config.seed for stage in stages] == [7, 8, 9]
    assert not np.array_equal(stages[0].before[0], stages[1].before[0])
    logits = [logit_of(stage, pictures.images) for stage in stages]
    np.testing.assert_allclose(
        logit_of(stages[0], pictures.images, network), np.mean(logits, axis=0), atol=1e-5
    )


def logit_of(stage, images, network=None):
    network = network or stage.network
    probe = keras.Model(network.input, network.get_layer("logit").output)
    return keras.ops.convert_to_numpy(probe(images.astype("float32"), training=False))


def test_fit_network_averages_the_symmetries_of_the_modality(pictures):
    network, _ = fit_network(pictures, replace(CNN, tta=True, modality="radiology", epochs=1))
    plain, mirrored = (
        network.predict(images.astype("float32"), verbose=0)
        for images in (pictures.images, pictures.images[:, :, ::-1])
    )
    np.testing.assert_allclose(plain, mirrored, atol=1e-6)


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C in the second epoch of one of the trainings of a run; the first is 0."""

    def __init__(self, training):
        super().__init__()
        self.training, self.begun = training, -1

    def on_train_begin(self, logs=None):
        self.begun += 1

    def on_epoch_begin(self, epoch, logs=None):
        if self.begun == self.training and epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("config", "training"),
    [
        (replace(CNN, members=2), 1),
        (replace(CNN, progressive=True, epochs=4, ema=0.9), 0),
        (replace(PRETRAINED, epochs=2), 1),
    ],
    ids=["second member", "half size", "second stage"],
)
def test_fit_network_resumed_equals_an_uninterrupted_run(pictures, tmp_path, config, training):
    whole, expected = fit_network(pictures, config)
    state = tmp_path / ".run.state"
    with pytest.raises(KeyboardInterrupt):
        fit_network(pictures, config, state=state, callbacks=(Interrupt(training),))
    resumed, history = fit_network(pictures, config, state=state)
    assert history == expected
    assert_equal_weights(resumed.get_weights(), whole.get_weights())


def test_fit_network_resumed_repeats_no_finished_member(pictures, tmp_path):
    config, state = replace(CNN, members=2), tmp_path / ".run.state"
    with pytest.raises(KeyboardInterrupt):
        fit_network(pictures, config, state=state, callbacks=(Interrupt(1),))
    epochs = []
    count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: epochs.append(epoch))
    fit_network(pictures, config, state=state, callbacks=(count,))
    assert epochs == [1]
