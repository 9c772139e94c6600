"""One network fitted to the training part of some pictures, with a progress bar."""

import os
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from bcnet.config import Config
from bcnet.data.pipeline import make_evaluation_ds, make_training_ds
from bcnet.models import MODELS, unfreeze, with_precision
from bcnet.train import History, choose_precision, train, use_gpu_gently
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import Pictures

# VGG16's last block, the most special to ImageNet, has the most to learn here.
FINE_TUNED_BLOCK = "block5"


def fit_network(
    pictures: Pictures,
    config: Config,
    *,
    state: Path | None = None,
    label: str = "training",
    log_folder: str | os.PathLike | None = None,
    progress: bool = False,
) -> tuple[keras.Model, History]:
    """Build a network, train it on the part "train", and give it back in float32.

    Pretrained weights are trained in two stages: the head alone, then with the last block.
    """
    use_gpu_gently()
    keras.utils.set_random_seed(config.seed)
    policy = choose_precision(config.precision)
    pretrained = config.weights is not None
    extra = {"weights": config.weights} if config.model != "cnn" else {}
    network = MODELS[config.model](config.image_size, precision=policy, **extra)

    logs = () if log_folder is None else (_log_for_tensorboard(log_folder),)

    def run_stage(stage_config, stage):
        with closing(TrainingBar(f"{label} {stage}".strip(), shown=progress)) as bar:
            return train(
                network,
                stream_part(pictures, "train", stage_config),
                stream_part(pictures, "validation", stage_config),
                stage_config,
                score=roc_auc_score,
                state=state and state.with_name(f"{state.name}{stage}"),
                callbacks=(bar, *logs),
            )

    history = run_stage(config, "head" if pretrained else "")
    if pretrained:
        unfreeze(network, FINE_TUNED_BLOCK)
        later = run_stage(replace(config, learning_rate=config.fine_tune_rate), FINE_TUNED_BLOCK)
        history = history.then(later)
    return with_precision(network, "float32"), history


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
