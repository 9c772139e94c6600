"""How pictures stream: decode, the one resize, augment, batch.

Everything that shows a picture to a network goes through `read_batch`, so training, the command
line and every later face see the same pixels. What trains is tf.data throughout; what only scores
is streamed by threads, which starts at once. Batches hold RGB 0–255; normalisation belongs to the
model's own graph. Which pictures there are is the business of `manifest`.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from bcnet.atomic import replace_file
from bcnet.config import SAMPLINGS
from bcnet.data.augment import STAIN_RANGE, augment, check_modality, mix_up
from bcnet.data.manifest import read_sample
from bcnet.readers import UnreadableImageError

# Large enough to hide the cost of handing a batch over, small enough that all cores stay busy.
DECODE_BATCH = 64

# Decoding and resizing happen outside Python's lock, so that threads do for cores. A stream has two
# more, for those that wait for the network; batches ahead bridge pauses, and bound the memory.
DECODERS = os.cpu_count() or 1
STREAMERS = DECODERS + 2
BATCHES_AHEAD = STREAMERS + 1

# Decoded pictures above this stay on disk: a laptop with 8 GB must still have room for training.
MEMORY_LIMIT = 2 * 1024**3


class DecodedImages(NamedTuple):
    """Pictures decoded at one size.

    Attributes:
        images: uint8 `(n, height, width, 3)`, in memory or a read-only memory map.
        hashes: `(n,)` object array of 16 hexadecimal digits: SHA-256 of the full-size pixels;
            "" where the picture was not read or no hash was asked for.
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


def read_batch(
    samples: Sequence,
    image_size: tuple[int, int],
    *,
    read: Callable = read_sample,
    hashed: bool = True,
) -> DecodedImages:
    """Read some pictures at one size; one that cannot be read does not stop the others.

    Args:
        samples: argument tuples of `read`: `(path, source)` pairs, or any other.
        image_size: `(height, width)` in pixels.
        read: returns uint8 `(h, w, 3)` or raises `UnreadableImageError`.
        hashed: also name the pictures by their pixels, which takes 5 % longer.

    Returns:
        `DecodedImages` in the order of `samples`.
    """
    images = np.zeros((len(samples), *image_size, 3), np.uint8)
    hashes, reasons = np.full((2, len(samples)), "", object)
    for i, sample in enumerate(samples):
        image, reasons[i] = try_read(sample, read)
        if image is not None:
            images[i] = resize_image(image, image_size)
            hashes[i] = hash_pixels(image) if hashed else ""
    return DecodedImages(images, hashes, reasons)


def try_read(sample: tuple, read: Callable) -> tuple[np.ndarray | None, str]:
    """Read one picture, or say why not.

    Args:
        sample: arguments of `read`.
        read: as for `read_batch`.

    Returns:
        The picture, uint8 `(h, w, 3)`, and ""; or None and the reason.
    """
    try:
        return read(*sample), ""
    except (UnreadableImageError, OSError) as error:
        return None, getattr(error, "reason", "") or str(error)


def stream_samples(
    samples: Sequence,
    image_size: tuple[int, int],
    *,
    batch_size: int = DECODE_BATCH,
    read: Callable = read_sample,
    hashed: bool = True,
    finish: Callable | None = None,
) -> Iterator:
    """Stream pictures in order, at constant memory, reading on while a batch is in use.

    Args:
        samples: as for `read_batch`.
        image_size: `(height, width)` in pixels.
        batch_size: pictures per batch; the last may be smaller.
        read: as for `read_batch`; called from several threads.
        hashed: as for `read_batch`.
        finish: what each batch is turned into, by the thread that read it: no core then waits
            for another's batch. Called from several threads at once.

    Yields:
        `DecodedImages` of one batch after the other, or what `finish` made of them.
    """

    def load(part):
        batch = read_batch(part, image_size, read=read, hashed=hashed)
        return batch if finish is None else finish(batch)

    pool = ThreadPoolExecutor(STREAMERS)
    try:
        waiting = deque()
        for start in range(0, len(samples), batch_size):
            waiting.append(pool.submit(load, samples[start : start + batch_size]))
            if len(waiting) > BATCHES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # who stops early waits for what is being worked on, not for what was to come
        pool.shutdown(cancel_futures=True)


def make_decoding_ds(
    samples: Sequence, image_size: tuple[int, int], *, read: Callable = read_sample
) -> tf.data.Dataset:
    """Make the dataset that decodes and resizes every picture once, in order.

    Args:
        samples: as for `read_batch`.
        image_size: `(height, width)` in pixels.
        read: as for `read_batch`.

    Returns:
        A dataset of batches of at most `DECODE_BATCH` pictures: uint8 `(b, height, width, 3)`,
        and their hashes and reasons as in `DecodedImages`, as strings of bytes.
    """

    def load(start):
        def decode(i):
            return read_batch(samples[i : i + DECODE_BATCH], image_size, read=read)

        batch = tf.numpy_function(decode, [start], [tf.uint8, tf.string, tf.string])
        for part, shape in zip(batch, ((None, *image_size, 3), (None,), (None,)), strict=True):
            part.set_shape(shape)
        return tuple(batch)

    starts = tf.data.Dataset.range(0, len(samples), DECODE_BATCH)
    return starts.map(load, num_parallel_calls=DECODERS, deterministic=True).prefetch(2)


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
    words = np.full((2, len(samples)), "", object)
    start = 0
    for batch, *told in make_decoding_ds(samples, images.shape[1:3]).as_numpy_iterator():
        rows = slice(start, start := start + len(batch))
        images[rows] = batch
        words[:, rows] = [[word.decode() for word in part] for part in told]
        if progress:
            progress(len(batch))
    return words


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


@dataclass(frozen=True)
class Recipe:
    """How training batches are put together; the defaults are the recommended way.

    Attributes:
        stain_jitter: share by which the amount of each stain is varied; of tissue only.
        mixup: alpha of the Beta distribution by which pairs are mixed; 0 mixes none.
        sampling: "weighted" shows every picture once an epoch and weighs the classes in the loss;
            "balanced" draws both equally often, repeating the smaller and leaving out some of
            the larger, others each time: an epoch stays as long, and every weight is 1.

    Raises:
        ValueError: for a value outside its range, naming it.
    """

    stain_jitter: float = STAIN_RANGE
    mixup: float = 0.0
    sampling: str = "weighted"

    def __post_init__(self):
        if not 0 <= self.stain_jitter < 1:
            raise ValueError(
                "`stain_jitter` must be 0 or more and below 1. "
                f"Received: stain_jitter={self.stain_jitter}"
            )
        if self.mixup < 0:
            raise ValueError(f"`mixup` must be 0 or more. Received: mixup={self.mixup}")
        if self.sampling not in SAMPLINGS:
            raise ValueError(
                f"`sampling` must be one of {SAMPLINGS}. Received: sampling={self.sampling!r}"
            )


def make_training_ds(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    modality: str,
    seed: int = 0,
    rows: np.ndarray | None = None,
    recipe: Recipe | None = None,
) -> tf.data.Dataset:
    """Make the dataset one epoch of which is as many pictures as there are, shuffled and augmented.

    Each pass has a new order and new augmentation, and the k-th pass is the same in every run
    with the same seed; it feeds `model.fit` as it is.

    Args:
        images: uint8 `(n, height, width, 3)`, an array or a memory map.
        labels: `(n,)`, 0 or 1.
        batch_size: pictures per batch; the last batch may be smaller.
        modality: "tissue" or "radiology": which augmentation keeps the label.
        seed: of order and augmentation.
        rows: positions of the pictures to use; all of them by default.
        recipe: how batches are drawn, jittered and mixed; `Recipe()` by default.

    Returns:
        A dataset of float32 `(b, height, width, 3)` in 0–255, float32 `(b, 1)` labels and float32
        `(b,)` weights, by which both classes count the same whatever their share.

    Raises:
        ValueError: for an unknown modality, or "balanced" pictures of a single class.
    """
    check_modality(modality)
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    recipe = recipe or Recipe()
    shown_labels = np.asarray(labels)[rows]
    if recipe.sampling == "balanced":
        order, class_weights = draw_balanced(rows, shown_labels, seed), (1.0, 1.0)
    else:
        order = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(rows), seed=seed)
        class_weights = balance_classes(shown_labels)
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)

    def prepare(batch_rows, seed_pair):
        batch, batch_labels = _gather(images, labels, batch_rows)
        weights = tf.gather(tf.constant(class_weights), tf.cast(batch_labels[:, 0], tf.int32))
        changed = augment(batch, seed_pair, modality, stain_jitter=recipe.stain_jitter)
        if not recipe.mixup:
            return changed, batch_labels, weights
        # Folded, so that shares do not follow the draws of `augment`.
        mixing_seed = tf.random.fold_in(tf.cast(seed_pair, tf.int32), 1)
        return mix_up(changed, batch_labels, weights, seed=mixing_seed, alpha=recipe.mixup)

    ds = tf.data.Dataset.zip(order.batch(batch_size), seeds)
    return ds.map(prepare, num_parallel_calls=os.cpu_count(), deterministic=True).prefetch(2)


def draw_balanced(rows: np.ndarray, labels: np.ndarray, seed: int) -> tf.data.Dataset:
    """Draw as many rows as there are, half of them from each class, in a new order each pass.

    Args:
        rows: `(n,)` positions.
        labels: `(n,)` of those rows, 0 or 1.
        seed: of which rows and which order.

    Returns:
        A dataset of n rows; each row of a class appears once before any appears again in a pass.

    Raises:
        ValueError: if only one class is there.
    """
    classes = [rows[labels == label] for label in (0, 1)]
    if not all(len(members) for members in classes):
        raise ValueError(
            "`sampling` can be balanced only between two classes. "
            f"Received: {len(classes[0])} benign and {len(classes[1])} malignant pictures"
        )
    shares = (len(rows) // 2, len(rows) - len(rows) // 2)

    def draw(seed_pair):
        seeds = tf.unstack(tf.random.split(tf.cast(seed_pair, tf.int32), 3))
        halves = [_permute(*drawn) for drawn in zip(classes, shares, seeds[:2], strict=True)]
        return tf.data.Dataset.from_tensor_slices(
            _permute(tf.concat(halves, axis=0), len(rows), seeds[2])
        )

    # Not `shuffle` and `repeat`: how far those read ahead, by which the next pass differs, varies.
    passes = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2).take(1)
    order = passes.flat_map(draw)
    return order.apply(tf.data.experimental.assert_cardinality(len(rows)))


def _permute(rows, count, seed):
    """Give `count` rows: each once, in a new order, before any comes again."""
    keys = tf.random.stateless_uniform((-(-count // len(rows)), len(rows)), seed)
    return tf.reshape(tf.gather(rows, tf.argsort(keys)), [-1])[:count]


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
