"""The classifier: a network and the card that says where its answers come from.

Belongs here: asking a model file – probabilities, labels, heatmaps, what it has seen. Training and
judging it do not; neither does the file format (`modelfile`).
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bcnet.config import CLASS_NAMES, PRECISIONS
from bcnet.data.folders import find_pictures
from bcnet.data.pipeline import resize_image, stream_samples
from bcnet.explain.heatmaps import explain_batch
from bcnet.modelfile import ModelFileError, locate_model, read_card, read_model, write_model
from bcnet.models import with_precision
from bcnet.readers import read_image
from bcnet.train import check_finite, choose_precision

# Pictures per call of the network: fewer cost more each, more let a core wait at the end …
SCORING_BATCH = 128
# … and pixels, for which VGG16 holds half a gigabyte.
SCORING_PIXELS = 2**20

# Two processors differ in the last digits of float32; a changed weight shows in the third.
REFERENCE_TOLERANCE = 1e-3
REFERENCE_COUNT = 8
REFERENCE_SEED = 20240229

# What is read from a card; one without them comes from elsewhere or from a later format.
CARD_ENTRIES = ("class_names", "data", "samples", "threshold", "references")


class Scores(NamedTuple):
    """What the network says of a stream of pictures, one entry each.

    Attributes:
        probability: float32 `(n,)`, of malignant; NaN where the picture was not read.
        hashes: `(n,)` pixel hashes, "" where not read or not asked for.
        reasons: `(n,)`, "" or why the picture was not read.
    """

    probability: np.ndarray
    hashes: np.ndarray
    reasons: np.ndarray


class Classifier:
    """One model file in use: the network, its card, and the one way to ask it.

    Attributes:
        model: the Keras network; takes RGB 0–255 at `image_size`, gives `(n, 1)` probabilities.
        card: a dictionary that can be written as JSON.

    Example:
        `Classifier.load("models/idc.keras").predict("pictures/")` gives a table with the columns
        path, probability, label and status.
    """

    def __init__(self, model: keras.Model, card: dict):
        self.model, self.card = model, card
        self._compiled = {}

    @classmethod
    def load(cls, path: str | os.PathLike, *, card: str | os.PathLike | None = None):
        """Load a model file after checking it, and check that it still answers as when saved.

        Args:
            path: a `.keras` file written by `save`, or the name of a model that comes with the
                project, such as "idc".
            card: the model file to take the card from, when `path` has lost it.

        Raises:
            FileNotFoundError: when there is no such file.
            ModelFileError: when the file is damaged or foreign, has no card, holds weights that
                are not finite, or answers its stored reference inputs differently.
        """
        path = locate_model(path)
        network = read_model(path)
        classifier = cls(network, read_card(card or path))
        classifier._check_fit(path)
        try:
            check_finite(network)
        except FloatingPointError as error:
            raise ModelFileError(path, str(error)) from error
        classifier._check_references(path)
        return classifier

    def save(self, path: str | os.PathLike) -> None:
        """Write network and card as one file, in one step.

        The answers to reference inputs made from a seed (never a patient's picture) go into the
        card, for `load` to compare.

        Args:
            path: must end in `.keras`.

        Raises:
            TrainingDiverged: when a weight is not finite; an existing file stays as it is.
            ValueError: for another ending.
        """
        check_finite(self.model)
        answers = self.predict_images(_make_references(self.image_size, REFERENCE_SEED))
        self.card["references"] = {
            "seed": REFERENCE_SEED,
            "probability": [round(float(p), 7) for p in answers],
        }
        write_model(path, self.model, self.card)

    @property
    def image_size(self) -> tuple[int, int]:
        """`(height, width)` in pixels that the network sees."""
        return tuple(self.model.input_shape[1:3])

    @property
    def batch_size(self) -> int:
        """Pictures per call of the network: the larger they are, the fewer."""
        height, width = self.image_size
        return max(1, min(SCORING_BATCH, SCORING_PIXELS // (height * width)))

    @property
    def threshold(self) -> float:
        """Probability from which a picture is called malignant."""
        return self.card["threshold"]["value"]

    def predict(
        self,
        inputs,
        *,
        threshold: float | None = None,
        precision: str = "float32",
        progress: Callable | None = None,
    ) -> pd.DataFrame:
        """Give probability, label and status of every picture; the order is that of the inputs.

        Args:
            inputs: a path, a folder, bytes of a picture file, an array uint8 `(h, w, 3)` or
                `(n, h, w, 3)`, a sequence of these, or what `list_inputs` made of them.
            threshold: overrides the card's.
            precision: "float32", or "bfloat16", "float16" or "auto" for bulk work: faster, and
                seen to move probabilities by up to 0.05.
            progress: called with the number of pictures done since the last call.

        Returns:
            One row per picture: `path` (as given, or below the folder given; `bytes[i]` and
            `array[i]` otherwise), `probability` of malignant, `label` and `status`, which is "ok"
            or "unreadable: reason" (probability and label are then missing).

        Raises:
            FileNotFoundError: when a path does not exist.
            ValueError: for an input of another kind or an array that is not uint8.
        """
        threshold = self.threshold if threshold is None else check_threshold(threshold)
        names, samples = list_inputs(inputs)
        scores = self.score_samples(
            samples, read=read_input, precision=precision, progress=progress, hashed=False
        )
        return tabulate(names, scores.probability, scores.reasons, threshold=threshold)

    def score_samples(
        self,
        samples: Sequence,
        *,
        read: Callable,
        precision: str = "float32",
        progress: Callable | None = None,
        hashed: bool = True,
    ) -> Scores:
        """Score a stream of pictures at constant memory (see `data.pipeline.stream_samples`).

        Args:
            samples: argument tuples of `read`.
            read: returns uint8 `(h, w, 3)` or raises `UnreadableImageError`.
            precision: as for `predict`.
            progress: called with the number of pictures done since the last call.
            hashed: also name the pictures by their pixels.
        """
        score = self._compile(precision)
        parts = [Scores(np.empty(0, np.float32), *[np.empty(0, object)] * 2)]
        for images, hashes, reasons in stream_samples(
            samples, self.image_size, batch_size=self.batch_size, read=read, hashed=hashed
        ):
            probability = np.where(reasons == "", score(images).numpy(), np.nan)
            parts.append(Scores(probability, hashes, reasons))
            if progress:
                progress(len(images))
        return Scores(*map(np.concatenate, zip(*parts, strict=True)))

    def predict_images(self, images: np.ndarray, *, precision: str = "float32") -> np.ndarray:
        """Give the probability of malignant for pictures already at `image_size`.

        Args:
            images: `(n, height, width, 3)` in 0–255.
            precision: as for `predict`.

        Returns:
            float32 `(n,)`; within 1e-5 of `model.predict(images)[:, 0]` in float32.
        """
        score = self._compile(precision)
        starts = range(0, len(images), self.batch_size)
        parts = [score(images[i : i + self.batch_size]).numpy() for i in starts]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def explain(self, inputs, *, class_name: str = CLASS_NAMES[1]):
        """Show where the evidence for a class lies (Grad-CAM at the logit).

        Args:
            inputs: as for `predict`.
            class_name: "malignant" or "benign".

        Returns:
            float32 `(h, w)` at the picture's own size, 0–1, 1 = most evidence, all zero where
            there is none; a list of them unless `inputs` is a single picture.

        Raises:
            UnreadableImageError: for a picture that cannot be read.
        """
        _, samples = list_inputs(inputs)
        images = (read_input(*sample) for sample in samples)
        heatmaps = [self.explain_image(image, class_name=class_name)[1] for image in images]
        return heatmaps[0] if _is_single(inputs) else heatmaps

    def explain_image(
        self, image: np.ndarray, *, class_name: str = CLASS_NAMES[1]
    ) -> tuple[float, np.ndarray]:
        """Give probability and heatmap of one picture, both from one pass of the network.

        Args:
            image: uint8 `(h, w, 3)`.
            class_name: as for `explain`.

        Returns:
            The probability of malignant, and float32 `(h, w)` as `explain` gives it.
        """
        seen = resize_image(image, self.image_size)[None]
        predictions, heatmaps = explain_batch(
            self.model, seen, class_name=class_name, size=image.shape[:2]
        )
        return float(predictions[0, 0]), heatmaps[0]

    def _compile(self, precision):
        """One compiled call per precision, shared by every way of asking."""
        if precision not in PRECISIONS:
            raise ValueError(
                f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}"
            )
        policy = choose_precision(precision)
        if policy not in self._compiled:
            network = self.model if policy == "float32" else with_precision(self.model, policy)
            signature = tf.TensorSpec((None, *self.image_size, 3), tf.float32)

            @tf.function(input_signature=[signature], autograph=False)
            def score(images):
                return network(images, training=False)[:, 0]

            self._compiled[policy] = lambda images: score(tf.cast(images, tf.float32))
        return self._compiled[policy]

    def _check_fit(self, path):
        """Check that network and card are of the kind that this class puts to use."""
        card = self.card if isinstance(self.card, dict) else {}
        missing = [name for name in CARD_ENTRIES if not card.get(name)]
        if missing:
            raise ModelFileError(path, f"its card has no {', '.join(missing)}")
        seen, said = (getattr(self.model, f"{end}_shape", None) for end in ("input", "output"))
        is_picture = isinstance(seen, tuple) and len(seen) == 4 and all(seen[1:]) and seen[3] == 3
        if not is_picture or said != (None, 1):
            raise ModelFileError(
                path, f"it must turn RGB pictures into one probability. Found: {seen} to {said}"
            )

    def _check_references(self, path):
        stored = self.card["references"]
        inputs = _make_references(self.image_size, stored["seed"])
        difference = np.abs(self.predict_images(inputs) - stored["probability"]).max()
        if not difference <= REFERENCE_TOLERANCE:
            raise ModelFileError(
                path,
                f"it no longer answers as when it was saved (its reference outputs differ by "
                f"{difference:.3g}, {REFERENCE_TOLERANCE} is allowed): file or software has "
                "changed",
            )


def settle_precision(precision: str) -> str:
    """Name the arithmetic that is really used: "auto" becomes "float32", "bfloat16" or "float16".

    Example:
        >>> settle_precision("bfloat16")
        'bfloat16'
    """
    return choose_precision(precision).removeprefix("mixed_")


def check_threshold(threshold: float) -> float:
    """Return `threshold` if it is a probability, else raise `ValueError`."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be between 0 and 1. Received: threshold={threshold}")
    return float(threshold)


def tabulate(
    names: Sequence[str], probability: np.ndarray, reasons: np.ndarray, *, threshold: float
) -> pd.DataFrame:
    """Put answers into the table that `Classifier.predict` describes.

    Args:
        names: of the pictures.
        probability: `(n,)`, of malignant.
        reasons: object `(n,)`, "" or why the picture was not read.
        threshold: probability from which a picture is called malignant.

    Returns:
        Columns path, probability, label and status.
    """
    read = reasons == ""
    labels = np.where(probability >= threshold, CLASS_NAMES[1], CLASS_NAMES[0])
    return pd.DataFrame(
        {
            "path": names,
            "probability": np.where(read, probability, np.float32(np.nan)),
            "label": np.where(read, labels, None),
            "status": np.where(read, "ok", "unreadable: " + reasons),
        }
    )


class Inputs(NamedTuple):
    """Pictures that were handed over, listed.

    Attributes:
        names: as in `Classifier.predict`.
        samples: one tuple per picture, the argument of `read_input`.
    """

    names: list[str]
    samples: list[tuple]


def list_inputs(inputs) -> Inputs:
    """List whatever a user may hand over as pictures: names, and what reads each.

    Args:
        inputs: a path, a folder, bytes, an array, or a sequence of these; `Inputs` stay as they
            are, so that who needs their number need not list them twice.

    Returns:
        Names, and one tuple per picture: `(path,)`, `(bytes,)` or `(array,)`.

    Raises:
        FileNotFoundError: when a path does not exist.
        ValueError: for another kind of input.
    """
    if isinstance(inputs, Inputs):
        return inputs
    one = isinstance(inputs, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    items = [inputs] if one else list(inputs)
    names, samples = [], []
    for i, item in enumerate(items):
        if isinstance(item, str | os.PathLike):
            found = _list_path(os.fspath(item))
        elif isinstance(item, bytes | bytearray | memoryview):
            found = [(f"bytes[{i}]", bytes(item))]
        elif isinstance(item, np.ndarray):
            found = _list_array(item, i)
        else:
            raise ValueError(
                "`inputs` must be paths, bytes or uint8 arrays. Received: "
                f"{type(item).__name__} at position {i}"
            )
        names += [name for name, _ in found]
        samples += [(sample,) for _, sample in found]
    return Inputs(names, samples)


def _is_single(inputs):
    if isinstance(inputs, str | os.PathLike):
        return not os.path.isdir(inputs)
    array = isinstance(inputs, np.ndarray) and inputs.ndim <= 3
    return array or isinstance(inputs, bytes | bytearray | memoryview)


def _list_path(path):
    if not os.path.exists(path):
        raise FileNotFoundError(f"no picture or folder at {path}")
    if not os.path.isdir(path):
        return [(path, path)]
    names, _ = find_pictures(path)
    if not names:
        raise FileNotFoundError(f"no pictures below {path}")
    return [(name, os.path.join(path, name)) for name in names]


def _list_array(array, position):
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(
            "an array of pictures must be uint8 RGB in 0–255, (h, w, 3) or (n, h, w, 3): the model "
            f"normalises by itself. Received: {array.dtype} {array.shape}"
        )
    if array.ndim == 3:
        return [(f"array[{position}]", array)]
    return [(f"array[{i}]", image) for i, image in enumerate(array, start=position)]


def read_input(item) -> np.ndarray:
    """Read one sample of `list_inputs`: uint8 `(h, w, 3)`."""
    return item if isinstance(item, np.ndarray) else read_image(item)


def _make_references(image_size, seed):
    """Make smooth coloured fields, as unlike patients as they are like pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (REFERENCE_COUNT, 6, 6, 3)).astype(np.float32)
    return tf.image.resize(coarse, image_size, antialias=True).numpy()
