"""How pictures stream: decode, the one resize, augment, batch, all as tf.data.

Everything that shows a picture to a network goes through `stream_samples`, so training, the
command line and every later face see the same pixels. Batches hold RGB 0–255; normalisation
belongs to the model's own graph. Which pictures there are is the business of `manifest`.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from bcnet.atomic import replace_file
from bcnet.data.augment import augment, check_modality
from bcnet.data.manifest import read_sample
from bcnet.readers import UnreadableImageError

# Large enough to hide the cost of one Python call, small enough that both cores stay busy.
DECODE_BATCH = 64

# Decoded pictures above this stay on disk: a laptop with 8 GB must still have room for training.
MEMORY_LIMIT = 2 * 1024**3


class DecodedImages(NamedTuple):
    """Pictures of one table, decoded once at one size.

    Attributes:
        images: uint8 `(n, height, width, 3)`, in memory or a read-only memory map.
        hashes: `(n,)` object array of 16 hexadecimal digits: SHA-256 of the full-size pixels.
        reasons: `(n,)` object array; "" where the picture was read, else why it was not
            (its pixels are then zeros and must not be used).
    """

    images: np.ndarray
    hashes: np.ndarray
    reasons: np.ndarray

    @property
    def readable(self):
        """Boolean `(n,)`: which pictures were read."""
        return self.reasons == ""


def resize_image(image: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Stretch one picture to `image_size`; the only resize in the project.

    Each axis is treated by itself: area averaging where it shrinks (antialiased), linear
    interpolation where it grows. OpenCV's `INTER_AREA` does this only when both shrink.

    Args:
        image: uint8 `(height, width, 3)`.
        image_size: `(height, width)` in pixels.

    Returns:
        uint8 `(*image_size, 3)`; the same object when nothing changes.

    Example:
        >>> resize_image(np.uint8([[[0] * 3, [100] * 3]]), (1, 1)).tolist()
        [[[50, 50, 50]]]
    """
    height, width = image_size
    smaller = (min(height, image.shape[0]), min(width, image.shape[1]))
    if smaller != image.shape[:2]:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def hash_pixels(image: np.ndarray) -> str:
    """Name a picture by its pixels: the same for a file, its copy and a lossless re-save.

    Args:
        image: uint8 `(height, width, 3)`.

    Returns:
        16 hexadecimal digits of SHA-256 over shape and values.
    """
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()[:16]


def read_batch(samples: Sequence, image_size: tuple[int, int], *, read: Callable = read_sample):
    """Read some pictures at one size; one that cannot be read does not stop the others.

    Args:
        samples: argument tuples of `read`: `(path, source)` pairs, or any other.
        image_size: `(height, width)` in pixels.
        read: returns uint8 `(h, w, 3)` or raises `UnreadableImageError`.

    Returns:
        The parts of `DecodedImages`, hashes and reasons as bytes.
    """
    images = np.zeros((len(samples), *image_size, 3), np.uint8)
    hashes, reasons = [b""] * len(samples), [b""] * len(samples)
    for i, row in enumerate(samples):
        try:
            image = read(*row)
            hashes[i] = hash_pixels(image).encode()
            images[i] = resize_image(image, image_size)
        except (UnreadableImageError, OSError) as error:
            reasons[i] = (getattr(error, "reason", "") or str(error)).encode()
    return images, np.array(hashes, object), np.array(reasons, object)


def stream_samples(
    samples: Sequence, image_size: tuple[int, int], *, read: Callable = read_sample
) -> tf.data.Dataset:
    """Stream pictures in order, at constant memory.

    Args:
        samples: as for `read_batch`.
        image_size: `(height, width)` in pixels.
        read: as for `read_batch`.

    Returns:
        A dataset of batches as `read_batch` gives them, of at most `DECODE_BATCH` pictures.
    """

    def load(start):
        images, hashes, reasons = tf.numpy_function(
            lambda i: read_batch(samples[i : i + DECODE_BATCH], image_size, read=read),
            [start],
            [tf.uint8, tf.string, tf.string],
        )
        images.set_shape((None, *image_size, 3))
        hashes.set_shape((None,))
        reasons.set_shape((None,))
        return images, hashes, reasons

    starts = tf.data.Dataset.range(0, len(samples), DECODE_BATCH)
    return starts.map(load, num_parallel_calls=os.cpu_count(), deterministic=True).prefetch(2)


def decode_samples(
    samples: Sequence,
    image_size: tuple[int, int],
    *,
    memory_limit: int = MEMORY_LIMIT,
    progress: Callable | None = None,
) -> DecodedImages:
    """Decode every picture once: into memory when that fits, else into a file keyed by content.

    Args:
        samples: `(path, source)` pairs as `manifest.read_sample` takes them.
        image_size: `(height, width)` in pixels.
        memory_limit: bytes of decoded pixels above which they are kept on disk, in the folder
            of the environment variable `BCNET_CACHE` (else the user's cache folder).
        progress: called with the number of pictures done since the last call.

    Returns:
        `DecodedImages` in the order of `samples`.
    """
    shape = (len(samples), *image_size, 3)
    if np.prod(shape, dtype=np.int64) <= memory_limit:
        images = np.empty(shape, np.uint8)
        return DecodedImages(images, *_fill(images, samples, progress))
    return _decode_to_disk(samples, shape, progress)


def _fill(images, samples, progress):
    hashes, reasons = [], []
    for batch, batch_hashes, batch_reasons in stream_samples(samples, images.shape[1:3]):
        images[len(hashes) : len(hashes) + len(batch)] = batch
        hashes += [value.decode() for value in batch_hashes.numpy()]
        reasons += [value.decode() for value in batch_reasons.numpy()]
        if progress:
            progress(len(batch))
    return np.array(hashes, object), np.array(reasons, object)


def _decode_to_disk(samples, shape, progress):
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    pixels = folder / f"{_content_key(samples, shape)}.npy"
    words = pixels.with_suffix(".words.npy")
    if not (pixels.exists() and words.exists()):
        with replace_file(pixels) as raw, replace_file(words) as words_raw:
            images = np.lib.format.open_memmap(raw, "w+", np.uint8, shape)
            np.save(words_raw, np.stack(_fill(images, samples, progress)).astype(str))
            images.flush()
    hashes, reasons = np.load(words).astype(object)
    return DecodedImages(np.load(pixels, mmap_mode="r"), hashes, reasons)


def cache_folder() -> Path:
    """Return the folder of decoded pictures: `BCNET_CACHE`, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "bcnet")
    return Path(os.environ.get("BCNET_CACHE") or default)


def _content_key(samples, shape):
    digest = hashlib.sha256(str(shape).encode())
    for path, source in samples:
        file = Path(path if os.path.isfile(path) else source)
        digest.update(f"{Path(path).name}:".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"-")
    return digest.hexdigest()[:32]


def make_training_ds(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    modality: str,
    seed: int = 0,
    rows: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Make the dataset one epoch of which is every picture once, shuffled and augmented.

    Each pass has a new order and new augmentation, and the k-th pass is the same in every run
    with the same seed; it feeds `model.fit` as it is.

    Args:
        images: uint8 `(n, height, width, 3)`, an array or a memory map.
        labels: `(n,)`, 0 or 1.
        batch_size: pictures per batch; the last batch may be smaller.
        modality: "tissue" or "radiology": which augmentation keeps the label.
        seed: of order and augmentation.
        rows: positions of the pictures to use; all of them by default.

    Returns:
        A dataset of float32 `(b, height, width, 3)` in 0–255, float32 `(b, 1)` labels and float32
        `(b,)` weights, by which both classes count the same whatever their share.

    Raises:
        ValueError: for an unknown modality.
    """
    check_modality(modality)
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    class_weights = tf.constant(balance_classes(np.asarray(labels)[rows]), tf.float32)
    order = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(rows), seed=seed).batch(batch_size)
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)

    def prepare(batch_rows, seed_pair):
        batch, batch_labels = _gather(images, labels, batch_rows)
        weights = tf.gather(class_weights, tf.cast(batch_labels[:, 0], tf.int32))
        return augment(batch, seed_pair, modality), batch_labels, weights

    ds = tf.data.Dataset.zip(order, seeds)
    return ds.map(prepare, num_parallel_calls=os.cpu_count(), deterministic=True).prefetch(2)


def balance_classes(labels: np.ndarray) -> tuple[float, float]:
    """Weigh the classes so that both count the same and the mean weight is one.

    Args:
        labels: `(n,)`, 0 or 1.

    Returns:
        The weights of label 0 and label 1; 1 and 1 where only one class is there.

    Example:
        >>> balance_classes([0, 0, 0, 1])
        (0.6666666666666666, 2.0)
    """
    malignant = float(np.mean(labels))
    if malignant in (0.0, 1.0):
        return 1.0, 1.0
    return 0.5 / (1 - malignant), 0.5 / malignant


def make_evaluation_ds(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 256,
    rows: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Make the dataset that shows every picture once, in order and unchanged.

    Args:
        images: uint8 `(n, height, width, 3)`, an array or a memory map.
        labels: `(n,)`, 0 or 1.
        batch_size: pictures per batch.
        rows: positions of the pictures to use; all of them by default.

    Returns:
        A dataset of float32 `(b, height, width, 3)` in 0–255 and float32 `(b, 1)` labels.
    """
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)

    def prepare(batch_rows):
        batch, batch_labels = _gather(images, labels, batch_rows)
        return tf.cast(batch, tf.float32), batch_labels

    ds = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)
    return ds.map(prepare, num_parallel_calls=os.cpu_count(), deterministic=True).prefetch(2)


def _gather(images, labels, rows):
    column = np.asarray(labels, np.float32)[:, None]
    batch, batch_labels = tf.numpy_function(
        lambda chosen: (images[chosen], column[chosen]), [rows], [tf.uint8, tf.float32]
    )
    batch.set_shape((None, *images.shape[1:]))
    batch_labels.set_shape((None, 1))
    return batch, batch_labels
