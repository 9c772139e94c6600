"""Training: reproducible, resumable, and never leaving a NaN behind."""

import copy
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bcnet.config import Config
from bcnet.data.pipeline import make_evaluation_ds, make_training_ds
from bcnet.models import build_cnn
from bcnet.train import (
    SMALL_PACE,
    SMALL_SET,
    USUAL_PACE,
    History,
    TrainingDiverged,
    check_finite,
    choose_pace,
    choose_precision,
    train,
)

CONFIG = Config(epochs=4, batch_size=8, patience=4)


@pytest.fixture(scope="module")
def pictures():
    """Dark benign and bright malignant pictures, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    noise = rng.integers(0, 120, (40, 16, 16, 3))
    return (noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels


def make_datasets(pictures):
    images, labels = pictures
    train_ds = make_training_ds(images, labels, batch_size=8, modality="tissue", seed=0)
    return train_ds, make_evaluation_ds(images, labels)


def make_network():
    keras.utils.set_random_seed(0)
    return build_cnn((16, 16), widths=(4, 4, 4), dense=8)


class Killed(RuntimeError):
    pass


class KillAfter(keras.callbacks.Callback):
    """Stop in the middle of an epoch, as a kill would."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.now = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 2:
            raise Killed


def test_train_learns_what_there_is_to_learn(pictures):
    model = make_network()
    history = train(model, *make_datasets(pictures), Config(epochs=12, batch_size=8))
    assert history.epochs["val_accuracy"][history.best_epoch] >= 0.9


def test_train_reports_the_mean_loss_of_an_epoch(pictures):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    config = Config(epochs=1, batch_size=8)
    history = train(make_network(), *make_datasets(pictures), config, callbacks=(Watch(),))
    assert history.epochs["loss"] == [pytest.approx(np.mean(seen))]  # five batches of eight


def test_train_twice_gives_the_same_weights(pictures):
    first, second = make_network(), make_network()
    train(first, *make_datasets(pictures), CONFIG)
    train(second, *make_datasets(pictures), CONFIG)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_train_resumed_after_a_kill_equals_an_uninterrupted_run(pictures, tmp_path, epoch):
    whole = make_network()
    expected = train(whole, *make_datasets(pictures), CONFIG)
    state = tmp_path / "run.state"
    with pytest.raises(Killed):
        train(
            make_network(),
            *make_datasets(pictures),
            CONFIG,
            state=state,
            callbacks=(KillAfter(epoch),),
        )
    resumed = make_network()
    history = train(resumed, *make_datasets(pictures), CONFIG, state=state)
    assert history == expected
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_train_restores_the_weights_of_the_best_epoch(pictures):
    model = make_network()
    scores = iter([0.2, 0.9, 0.1, 0.3])
    kept = []

    def score(y_true, y_prob):
        kept.append(copy.deepcopy(model.get_weights()))
        return next(scores)

    history = train(model, *make_datasets(pictures), CONFIG, score=score)
    assert history.best_epoch == 1
    for a, b in zip(model.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_train_stops_when_patience_is_over(pictures):
    config = Config(epochs=9, batch_size=8, patience=2)
    scores = iter([0.5, 0.6, 0.4, 0.4, 0.9])
    history = train(make_network(), *make_datasets(pictures), config, score=lambda *_: next(scores))
    assert len(history) == 4
    assert history.best_epoch == 1


@pytest.mark.parametrize(
    ("model", "n_images", "expected"),
    [
        ("cnn", SMALL_SET - 1, SMALL_PACE),
        ("cnn", SMALL_SET, USUAL_PACE),
        ("mobilenet", SMALL_SET - 1, USUAL_PACE),
    ],
)
def test_choose_pace_gives_few_pictures_more_and_smaller_steps(model, n_images, expected):
    assert choose_pace(Config(model=model), n_images) == expected


def test_choose_pace_follows_the_user_first():
    assert choose_pace(Config(epochs=5, batch_size=8, patience=2), 300) == (5, 8, 2)


def test_train_names_a_loss_that_is_not_finite(pictures, tmp_path):
    model = make_network()
    weights = model.get_layer("logit").get_weights()
    model.get_layer("logit").set_weights([weights[0] * np.nan, weights[1]])
    state = tmp_path / "run.state"
    with pytest.raises(TrainingDiverged, match="no longer finite in epoch 1; no file was changed"):
        train(model, *make_datasets(pictures), CONFIG, state=state)
    assert not state.exists()


def test_train_refuses_the_state_of_another_run(pictures, tmp_path):
    state = tmp_path / "run.state"
    train(make_network(), *make_datasets(pictures), CONFIG, state=state)
    other = Config(epochs=4, batch_size=8, patience=4, learning_rate=0.5)
    with pytest.raises(ValueError, match="belongs to another run"):
        train(make_network(), *make_datasets(pictures), other, state=state)


def make_linear(bias=0.0):
    """A network of three weights, all zero, and a bias, whose training is quickly followed."""
    keras.utils.set_random_seed(0)
    pixel = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixel))
    x = keras.layers.Dense(
        1, "sigmoid", kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(bias)
    )(x)
    return keras.Model(pixel, x)


class Follow(keras.callbacks.Callback):
    """Keeps the raw weights after every step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(copy.deepcopy(self.model.get_weights()))


@pytest.fixture(scope="module")
def averaged(pictures):
    """Training with a running average: the configuration, every step, and the kept weights."""
    config = Config(epochs=3, batch_size=8, ema=0.5, learning_rate=0.1)
    model, follow, scores = make_linear(), Follow(), iter([0.1, 0.3, 0.2])
    train(
        model,
        *make_datasets(pictures),
        config,
        score=lambda *_: next(scores),
        callbacks=(follow,),
    )
    return config, follow.steps, model.get_weights()


def test_train_keeps_the_running_average_of_the_best_epoch(averaged):
    _, steps, kept = averaged
    mean = steps[0]
    for step in steps[1:10]:  # five steps an epoch, and the second epoch is the best
        mean = [0.5 * a + 0.5 * b for a, b in zip(mean, step, strict=True)]
    for ours, expected in zip(kept, mean, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_train_goes_on_from_the_raw_weights_after_validation(averaged, pictures):
    config, steps, _ = averaged
    follow = Follow()
    plain = replace(config, ema=0.0)
    train(make_linear(), *make_datasets(pictures), plain, callbacks=(follow,))
    for ours, expected in zip(steps, follow.steps, strict=True):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_train_smooths_labels_in_the_loss_alone(pictures):
    malignant = (pictures[0], np.ones(40, int))
    config = Config(epochs=1, batch_size=8, learning_rate=1e-9, label_smoothing=0.2)
    model = make_linear(np.log(9))  # every probability is 0.9
    history = train(model, *make_datasets(malignant), config)
    smoothed = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))  # the label 1 has become 0.9
    assert history.epochs["loss"] == [pytest.approx(smoothed, rel=1e-4)]
    assert history.epochs["val_loss"] == [pytest.approx(-np.log(0.9), rel=1e-4)]


class Rates(keras.callbacks.Callback):
    """Keeps the rate of every step."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize(
    ("schedule", "last"), [("constant", 0.01), ("cosine", 0.01 * (1 + np.cos(0.9 * np.pi)) / 2)]
)
def test_train_rises_to_the_highest_rate_and_then_follows_the_schedule(pictures, schedule, last):
    seen = Rates()
    config = Config(epochs=3, batch_size=8, learning_rate=0.01, schedule=schedule)
    train(make_linear(), *make_datasets(pictures), config, callbacks=(seen,))
    assert seen.rates[:5] == pytest.approx([0.0028, 0.0046, 0.0064, 0.0082, 0.01])
    assert seen.rates[-2] == pytest.approx(last)


def test_then_joins_two_histories():
    first = History({"loss": [3.0, 2.0]}, best_epoch=0, finished=True)
    joined = first.then(History({"loss": [1.0, 0.5]}, best_epoch=1, finished=True))
    assert joined == History({"loss": [3.0, 2.0, 1.0, 0.5]}, best_epoch=3, finished=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half of a file"])
def test_train_refuses_a_damaged_state(pictures, tmp_path, content):
    state = tmp_path / "run.state"
    state.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable training state"):
        train(make_network(), *make_datasets(pictures), CONFIG, state=state)


def test_check_finite_names_the_weight():
    model = make_network()
    kernel, bias = model.get_layer("conv2").get_weights()
    model.get_layer("conv2").set_weights([kernel, bias + np.inf])
    with pytest.raises(TrainingDiverged, match="conv2/bias"):
        check_finite(model)


def test_choose_precision_knows_that_cpus_convolve_by_channel_slowly_in_bfloat16(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "flags : amx_bf16\n")
    assert choose_precision("auto", depthwise=True) == "float32"
    assert choose_precision("bfloat16", depthwise=True) == "mixed_bfloat16"


def test_choose_precision_obeys_the_user():
    assert choose_precision("float32") == "float32"
    assert choose_precision("bfloat16") == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu amx_bf16", "mixed_bfloat16"), ("avx512_bf16", "mixed_bfloat16"), ("avx2", "float32")],
)
def test_choose_precision_reads_the_processor(monkeypatch, flags, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: f"flags : {flags}\n")
    assert choose_precision("auto") == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "mixed_float16"), ((6, 1), "float32")]
)
def test_choose_precision_asks_a_gpu_for_tensor_cores(monkeypatch, capability, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert choose_precision("auto") == expected
