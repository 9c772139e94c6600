"""Fit a network to the training patients, watched by the validation patients.

Belongs here: precision, schedule, early stopping, resuming. Does not: which patients those are
(`data.split`), what a network looks like (`models`), or how good the result is (`evaluate`).
"""

import json
import os
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bcnet.atomic import replace_file
from bcnet.config import Config

# Tensor cores for float16 came with compute capability 7.0 (Volta, 2017).
TENSOR_CORE_CAPABILITY = (7, 0)

# Adam's own; the workflows choose by network.
DEFAULT_LEARNING_RATE = 1e-3


class TrainingDiverged(FloatingPointError):
    """The loss or a weight is no longer a finite number; no file was changed."""


@dataclass
class History:
    """What happened during a training run.

    Attributes:
        epochs: one list per curve, one float per epoch: loss, accuracy, val_loss, val_accuracy,
            and val_score when a score was given.
        best_epoch: the epoch (counted from 0) whose weights the model now has.
        finished: False while the run can still be resumed.
    """

    epochs: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = -1
    finished: bool = False

    def __len__(self):
        return len(self.epochs.get("loss", ()))

    def then(self, later: "History") -> "History":
        """Join the history of a second stage of training to this one."""
        joined = {name: self.epochs[name] + later.epochs[name] for name in self.epochs}
        return History(joined, len(self) + later.best_epoch, later.finished)


def choose_precision(precision: str = "auto", *, depthwise: bool = False) -> str:
    """Turn a precision's name into the Keras policy to train under.

    Args:
        precision: "float32", "bfloat16", "float16", or "auto": float16 on GPUs with tensor
            cores, bfloat16 on CPUs with AMX or AVX512-BF16 (seen to train 1.2 to 4 times as
            fast as float32), float32 elsewhere.
        depthwise: whether the network convolves each channel by itself, which CPUs do slower in
            bfloat16 (seen: MobileNet trains at 0.6 of its rate in float32).

    Returns:
        "float32", "mixed_bfloat16" or "mixed_float16".
    """
    if precision != "auto":
        return precision if precision == "float32" else f"mixed_{precision}"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        capable = details.get("compute_capability", (0, 0)) >= TENSOR_CORE_CAPABILITY
        return "mixed_float16" if capable else "float32"
    return "mixed_bfloat16" if _cpu_computes_bfloat16() and not depthwise else "float32"


def _cpu_computes_bfloat16():
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split()
    except OSError:  # not Linux: what the processor can do is not told, so nothing is assumed
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def use_gpu_gently() -> None:
    """Let GPUs hand out memory as needed, so that a notebook and a script can share one."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # already in use: its setting can no longer change
            return


class Pace(NamedTuple):
    """How long a training goes on, and in which steps.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures per step.
        patience: passes without a better validation score before it stops early.
    """

    epochs: int
    batch_size: int
    patience: int


USUAL_PACE = Pace(epochs=25, batch_size=64, patience=10)
# From random weights, 25 passes in steps of 64 are too few steps where pictures are few, and the
# score of a few validation patients jumps too much to stop by.
SMALL_SET, SMALL_PACE = 1000, Pace(epochs=60, batch_size=16, patience=60)


def choose_pace(config: Config, n_images: int = SMALL_SET) -> Pace:
    """Choose epochs, batch size and patience, as far as the configuration leaves them open.

    Args:
        config: see `Config`.
        n_images: pictures there are, of all parts; by default enough.

    Returns:
        What was asked for, else what suits so many pictures.

    Example:
        >>> choose_pace(Config(epochs=5), 300)
        Pace(epochs=5, batch_size=16, patience=60)
    """
    is_small = n_images < SMALL_SET and config.model == "cnn"
    own = SMALL_PACE if is_small else USUAL_PACE
    return Pace(*(getattr(config, name) or getattr(own, name) for name in Pace._fields))


def train(
    model: keras.Model,
    train_ds: tf.data.Dataset,
    val_ds: tf.data.Dataset,
    config: Config,
    *,
    score: Callable | None = None,
    state: str | os.PathLike | None = None,
    callbacks: tuple = (),
) -> History:
    """Train with Adam and binary cross-entropy; the model ends with its best epoch's weights.

    The learning rate rises during the warm-up and then falls as a cosine. After each epoch the
    validation patients are scored; `config.patience` epochs without a better score stop the run.

    Args:
        model: ends in a probability `(b, 1)`; compiled here.
        train_ds: batches as `data.pipeline.make_training_ds` gives them.
        val_ds: batches as `data.pipeline.make_evaluation_ds` gives them.
        config: epochs, learning_rate, warmup_epochs, patience and seed are used.
        score: `score(y_true, y_prob) -> float`, more is better; without it, the negative
            validation loss.
        state: file that holds the run after each epoch. Where it exists the run goes on from it
            and ends with the weights of an uninterrupted one (same machine).
        callbacks: further Keras callbacks, such as a progress bar.

    Returns:
        The `History`.

    Raises:
        TrainingDiverged: when loss or weights are no longer finite.
        ValueError: when `state` belongs to another network or another run.
    """
    config = replace(config, **choose_pace(config)._asdict())
    keras.utils.set_random_seed(config.seed)
    steps = int(train_ds.cardinality())
    loss = keras.losses.BinaryCrossentropy(label_smoothing=config.label_smoothing)
    model.compile(_make_optimizer(config, steps), loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    keeper = _Keeper(model, val_ds, config, score, state)
    keeper.restore()
    if not keeper.history.finished:
        _run_epochs(model, train_ds, config, len(keeper.history), [keeper, *callbacks])
    keeper.finish()
    return keeper.history


def _run_epochs(model, train_ds, config, start, callbacks):
    """Do what `model.fit` does, but draw exactly one order an epoch.

    `fit` draws further ones that it does not use, so that a resumed run would see another order.
    """
    steps = int(train_ds.cardinality())
    callbacks = keras.callbacks.CallbackList(
        callbacks, model=model, epochs=config.epochs, steps=steps
    )
    for _ in range(start):  # each pass has a new order: those already used are passed over
        next(iter(train_ds))
    callbacks.on_train_begin()
    for epoch in range(start, config.epochs):
        callbacks.on_epoch_begin(epoch)
        batches, sizes = [], []
        for step, (images, labels, weights) in enumerate(train_ds):
            logs = model.train_on_batch(images, labels, sample_weight=weights, return_dict=True)
            callbacks.on_train_batch_end(step, logs)
            batches.append(logs)
            sizes.append(len(labels))
        means = {name: np.average([b[name] for b in batches], weights=sizes) for name in logs}
        callbacks.on_epoch_end(epoch, means)
        if model.stop_training:
            break
    callbacks.on_train_end()


def _make_optimizer(config, steps):
    averaging = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    return keras.optimizers.Adam(_make_schedule(config, steps), **averaging)


def _make_schedule(config, steps):
    highest = config.learning_rate or DEFAULT_LEARNING_RATE
    warmup = config.warmup_epochs * steps
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=highest / 10 if warmup else highest,
        decay_steps=max(1, config.epochs * steps - warmup),
        alpha=0.0 if config.schedule == "cosine" else 1.0,  # the share of the rate that is left
        warmup_target=highest if warmup else None,
        warmup_steps=warmup,
    )


class _Keeper(keras.callbacks.Callback):
    """Scores each epoch, keeps the best weights, and keeps the run on disk."""

    def __init__(self, model, val_ds, config, score, state):
        super().__init__()
        self.set_model(model)
        self.val_ds, self.config, self.score = val_ds, config, score
        # Read once: the order of the validation pictures never changes.
        self.y_true = np.concatenate([labels for _, labels in val_ds.as_numpy_iterator()])[:, 0]
        self.state = Path(state) if state else None
        self.history = History()
        self.best_score, self.best_weights = -np.inf, None

    def on_train_batch_end(self, batch, logs=None):
        if not np.isfinite(logs["loss"]):
            raise TrainingDiverged(
                f"the loss is no longer finite in epoch {len(self.history) + 1}; no file was "
                "changed. Lower `learning_rate`, or train with precision float32."
            )

    def on_epoch_end(self, epoch, logs=None):
        check_finite(self.model)
        with self._averaged_weights():
            logs.update(self._validate())
            current = logs.get("val_score", -logs["val_loss"])
            if self.best_weights is None or current > self.best_score:
                self.best_score, self.history.best_epoch = current, epoch
                self.best_weights = self.model.get_weights()
        for name, value in logs.items():
            self.history.epochs.setdefault(name, []).append(float(value))
        waited = epoch - self.history.best_epoch
        self.history.finished = waited >= self.config.patience or epoch + 1 == self.config.epochs
        self.model.stop_training = self.history.finished
        self._save()

    @contextmanager
    def _averaged_weights(self):
        """Let the running average, where one is kept, stand in for the weights."""
        if not self.config.ema:
            yield
            return
        current = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        yield
        self.model.set_weights(current)

    def finish(self):
        self.model.set_weights(self.best_weights)

    def _validate(self):
        y_prob = self.model.predict(self.val_ds, verbose=0)[:, 0].astype(np.float64)
        # As Keras does: a probability of exactly 0 or 1 still has a finite logarithm.
        likelihood = np.clip(np.where(self.y_true == 1, y_prob, 1 - y_prob), 1e-7, 1.0)
        found = {"val_loss": -np.log(likelihood).mean()}
        found["val_accuracy"] = np.mean((y_prob >= 0.5) == (self.y_true == 1))
        if self.score:
            found["val_score"] = self.score(self.y_true, y_prob)
        return found

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _save(self):
        if self.state is None:
            return
        words = {"run": _describe_run(self.config, self.model), "best_score": self.best_score}
        words |= {"history": vars(self.history)}
        arrays = {f"now_{i}": np.asarray(v) for i, v in enumerate(self._variables())}
        arrays |= {f"best_{i}": w for i, w in enumerate(self.best_weights)}
        with replace_file(self.state) as temporary, open(temporary, "wb") as file:
            np.savez(file, words=json.dumps(words), **arrays)

    def restore(self):
        if self.state is None or not self.state.exists():
            return
        try:
            with np.load(self.state, allow_pickle=False) as saved:
                arrays = dict(saved)
            words = json.loads(str(arrays.pop("words")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.state} is not a readable training state: {error}") from error
        if words["run"] != _describe_run(self.config, self.model):
            raise ValueError(
                f"{self.state} belongs to another run; repeat that run's options, or delete the "
                "file to start anew"
            )
        for i, variable in enumerate(self._variables()):
            variable.assign(arrays[f"now_{i}"])
        self.best_weights = [arrays[f"best_{i}"] for i in range(len(self.model.weights))]
        self.best_score, self.history = words["best_score"], History(**words["history"])


def check_finite(model: keras.Model) -> None:
    """Raise `TrainingDiverged` when a weight of the model is NaN or infinite."""
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight, np.float32)).all():
            raise TrainingDiverged(f"the weight {weight.path} is not finite; no file was changed")


def _describe_run(config, model):
    shapes = [list(weight.shape) for weight in model.weights]
    return json.loads(json.dumps({**asdict(config), "shapes": shapes}))
