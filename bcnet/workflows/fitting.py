"""Networks fitted to the training part of some pictures, stage by stage, with a progress bar.

A stage is one call of `bcnet.train.train`: the head of a pretrained network, what is then let
loose, a first half at half the size; several members are fitted one after the other.
"""

import os
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from bcnet.config import Config
from bcnet.data.pipeline import Recipe, make_evaluation_ds, make_training_ds, resize_image
from bcnet.models import (
    average_members,
    copy_weights,
    list_turns,
    split_head,
    unfreeze,
    with_precision,
)
from bcnet.train import History, train, use_gpu_gently
from bcnet.workflows.features import make_feature_ds, take_features
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import Pictures
from bcnet.workflows.starting import (
    RATES,
    build_network,
    choose_block,
    is_pretrained,
    start_network,
)


@dataclass(frozen=True)
class _Run:
    """What all stages of all members share."""

    pictures: Pictures
    state: Path | None
    label: str
    progress: bool
    callbacks: tuple
    features: dict

    def named(self, words):
        """The same run for one of several members or stages, with a state file of its own."""
        state = self.state and self.state.with_name(f"{self.state.name}{words.replace(' ', '')}")
        return replace(self, state=state, label=f"{self.label} {words}")


def fit_network(
    pictures: Pictures,
    config: Config,
    *,
    state: Path | None = None,
    label: str = "training",
    log_folder: str | os.PathLike | None = None,
    progress: bool = False,
    callbacks: tuple = (),
    features: dict | None = None,
) -> tuple[keras.Model, History]:
    """Build a network, train it on the part "train", and give it back in float32.

    Pretrained weights are trained in two stages: the head alone, on features computed once, then
    what `config.fine_tune_from` lets loose. Several members are trained from seeds one apart.

    Args:
        pictures: with the parts "train" and "validation".
        config: as `workflows.settle_config` gives it.
        state: beginning of the names of the files that hold the stages while they run.
        label: what the bars say.
        log_folder: where to log for TensorBoard.
        progress: show bars.
        callbacks: further Keras callbacks of each stage.
        features: what frozen layers computed, kept here and reused by further calls.

    Returns:
        The network, and the history of its first member.
    """
    use_gpu_gently()
    logs = () if log_folder is None else (_log_for_tensorboard(log_folder),)
    features = {} if features is None else features
    run = _Run(pictures, state, label, progress, (*logs, *callbacks), features)
    members, histories = [], []
    for i in range(config.members):
        member = replace(config, seed=config.seed + i)
        network, history = _fit_member(run.named(f"member {i + 1}") if i else run, member)
        members.append(with_precision(network, "float32"))
        histories.append(history)
    turns = {"turns": list_turns(config.image_size, config.modality)} if config.tta else {}
    return average_members(members, **turns), histories[0]


def _fit_member(run, config):
    network = start_network(config)
    if not is_pretrained(config):
        return _run_stages(run, network, config, "")
    block = choose_block(config)
    history = _train_head(run, network, config)
    unfreeze(network, block)
    rate = config.fine_tune_rate or RATES[config.model].fine_tune
    network, later = _run_stages(run, network, replace(config, learning_rate=rate), block)
    return network, history.then(later)


def _run_stages(run, network, config, name):
    """Train at full size, or half of the epochs at half of it first."""
    if not config.progressive:
        return network, _train_stage(run, network, config, name)
    half = tuple(side // 2 for side in config.image_size)
    epochs = config.epochs // 2
    smaller = build_network(replace(config, weights=None), half)
    copy_weights(network, smaller)
    for layer, twin in zip(smaller.layers, network.layers, strict=True):
        layer.trainable = twin.trainable
    images = np.stack([resize_image(image, half) for image in run.pictures.images])
    halved = replace(run, pictures=run.pictures._replace(images=images))
    early = replace(config, epochs=epochs, schedule="constant")
    history = _train_stage(halved, smaller, early, f"{name} half size".strip())
    copy_weights(smaller, network)
    late = replace(config, epochs=config.epochs - epochs)
    return network, history.then(_train_stage(run, network, late, name))


def _train_head(run, network, config):
    body, head = split_head(network)
    found = take_features(body, run.pictures, config, run.features)
    datasets = make_feature_ds(found, config)
    return _train(run, head, datasets, config, "head")


def _train_stage(run, network, config, name):
    datasets = (stream_part(run.pictures, part, config) for part in ("train", "validation"))
    return _train(run, network, tuple(datasets), config, name)


def _train(run, network, datasets, config, name):
    run = run.named(name) if name else run
    with closing(TrainingBar(run.label, shown=run.progress)) as bar:
        return train(
            network,
            *datasets,
            config,
            score=roc_auc_score,
            state=run.state,
            callbacks=(bar, *run.callbacks),
        )


def _log_for_tensorboard(folder):
    if find_spec("tensorboard") is None:
        raise ValueError("`log_folder` needs TensorBoard: python -m pip install tensorboard")
    return keras.callbacks.TensorBoard(folder)


def stream_part(pictures: Pictures, part: str, config: Config) -> tf.data.Dataset:
    """Stream one part as `model.fit` takes it; only "train" is shuffled and augmented."""
    rows = pictures.rows_in(part)
    if part != "train":
        return make_evaluation_ds(pictures.images, pictures.labels, rows=rows)
    return make_training_ds(
        pictures.images,
        pictures.labels,
        rows=rows,
        batch_size=config.batch_size,
        modality=config.modality,
        seed=config.seed,
        recipe=Recipe(config.stain_jitter, config.mixup, config.sampling),
    )


class TrainingBar(keras.callbacks.Callback):
    """A progress bar over the steps of all epochs, with loss and validation score.

    Args:
        label: what is being trained.
        shown: False for silence.
    """

    def __init__(self, label: str, *, shown: bool):
        super().__init__()
        self.label, self.shown, self.bar = label, shown, None

    def on_epoch_begin(self, epoch, logs=None):
        """Open the bar; a resumed run begins at a later epoch."""
        if self.bar is None:
            steps = self.params["steps"]
            self.bar = make_bar(steps * self.params["epochs"], self.label, shown=self.shown)
            self.bar.initial = self.bar.n = steps * epoch

    def on_train_batch_end(self, batch, logs=None):
        """Count one step."""
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Show what the epoch has reached."""
        score = f", AUC {logs['val_score']:.3f}" if "val_score" in logs else ""
        self.bar.set_postfix_str(
            f"epoch {epoch + 1}: loss {logs['loss']:.3f}, validation {logs['val_loss']:.3f}{score}"
        )

    def close(self):
        """Close the bar where training ended or broke off, so that the next line is a new one."""
        if self.bar is not None:
            self.bar.close()
