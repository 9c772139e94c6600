"""What frozen layers see in the pictures, computed once, and datasets that a head learns from.

A frozen backbone gives the same features in every epoch and every trial, so they are computed once
for each symmetry that the augmentation draws.
"""

import logging
from hashlib import sha256
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bcnet.config import Config
from bcnet.data.pipeline import MEMORY_LIMIT, balance_classes, make_evaluation_ds
from bcnet.models import UNCHANGED, list_turns, turn_images
from bcnet.workflows.samples import Pictures

logger = logging.getLogger("bcnet")


class Features(NamedTuple):
    """Features and labels of the two parts that a head is trained with.

    Attributes:
        train: float32 `(turns, n, d)`: each picture of "train" in each of its symmetries.
        train_labels: `(n,)`, 0 or 1.
        validation: float32 `(m, d)`: the pictures of "validation" as they are.
        validation_labels: `(m,)`, 0 or 1.
    """

    train: np.ndarray
    train_labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray


def take_features(body: keras.Model, pictures: Pictures, config: Config, kept: dict) -> Features:
    """Compute the features of the training and validation pictures, unless they are there.

    Args:
        body: pictures to features `(n, d)`; its weights do not change between calls with equal
            `config.model`, `alpha`, `weights`, `initial_weights` and `stain_normalisation`.
        pictures: with the parts "train" and "validation".
        config: its modality says which symmetries there are.
        kept: where features are looked up, and kept for the next call.
    """
    train, validation = pictures.rows_in("train"), pictures.rows_in("validation")
    key = _name_features(pictures, config)
    if key not in kept:
        turns = _choose_turns(len(train), body.output_shape[-1], config)
        logger.info(
            "the head learns from features computed once in %s of each training picture; "
            "stain and mixing are not varied for it",
            f"{len(turns)} symmetries" if len(turns) > 1 else "the unaugmented view",
        )
        seen = np.stack([_run_body(body, pictures, train, turn) for turn in turns])
        kept[key] = seen, _run_body(body, pictures, validation, turns[-1])
    seen, judged = kept[key]
    return Features(seen, pictures.labels[train], judged, pictures.labels[validation])


def _name_features(pictures, config):
    names = ("model", "alpha", "end", "weights", "initial_weights", "stain_normalisation")
    words = [str(getattr(config, name)) for name in (*names, "image_size", "modality", "precision")]
    words += [*pictures.table["hash"], *pictures.table["split"].astype(str)]
    return sha256(" ".join(words).encode()).hexdigest()


def _choose_turns(count, width, config):
    """The symmetries of tissue; radiology is shifted, which has too many forms to keep them all."""
    if config.modality != "tissue":
        return [UNCHANGED]
    affordable = max(1, MEMORY_LIMIT // (count * width * 4))
    return list_turns(config.image_size, config.modality)[-affordable:]


def _run_body(body, pictures, rows, turn):
    ds = make_evaluation_ds(pictures.images, pictures.labels, rows=rows)
    turned = ds.map(lambda images, _: turn_images(images, turn))
    return body.predict(turned, verbose=0).astype(np.float32)


def make_feature_ds(features: Features, config: Config) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Make the two datasets a head is trained with; each epoch draws one symmetry per picture.

    Args:
        features: of both parts.
        config: batch_size and seed are used; the k-th pass is the same in every run.

    Returns:
        As `data.pipeline.make_training_ds` and `make_evaluation_ds`, with features for pictures.
    """
    labels = features.train_labels.astype(np.float32)
    weights = np.float32(balance_classes(labels))[features.train_labels.astype(int)]
    count = len(labels)
    order = tf.data.Dataset.range(count).shuffle(count, seed=config.seed)
    seeds = tf.data.Dataset.random(seed=config.seed, rerandomize_each_iteration=True).batch(2)
    seen = tf.constant(features.train)  # an array would be written into the graph, 2 GB at most

    def draw(rows, seed):
        turns = tf.random.stateless_uniform(tf.shape(rows), seed, 0, len(features.train), tf.int64)
        return tf.gather_nd(seen, tf.stack([turns, rows], axis=1)), *(
            tf.gather(values, rows) for values in (labels[:, None], weights)
        )

    train_ds = tf.data.Dataset.zip(order.batch(config.batch_size), seeds).map(draw).prefetch(2)
    judged = (features.validation, np.float32(features.validation_labels)[:, None])
    return train_ds, tf.data.Dataset.from_tensor_slices(judged).batch(1024)
