"""Training: reproducible, resumable, and never leaving a NaN behind."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from bcnet.config import Config
from bcnet.data.pipeline import make_evaluation_ds, make_training_ds
from bcnet.models import build_cnn
from bcnet.train import TrainingDiverged, check_finite, choose_precision, train

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
