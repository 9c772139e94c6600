"""The classifier: a network and the card that says where its answers come from.

Belongs here: asking a model file – probabilities, labels, heatmaps, what it has seen. Training and
judging it do not; neither does the file format (`modelfile`).
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import count
from threading import Semaphore
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bcnet.cardfile import ModelFileError, locate_model, read_card
from bcnet.config import CLASS_NAMES, HEATMAP_METHODS, PRECISIONS
from bcnet.data.pipeline import resize_image, stream_samples, try_read
from bcnet.evaluate.abstention import find_referred, read_band
from bcnet.evaluate.gate import is_earlier_kind, read_gate
from bcnet.evaluate.metrics import check_threshold
from bcnet.evaluate.scaling import Scaling
from bcnet.explain.cases import (
    CaseIndex,
    check_fingerprint,
    fingerprint_weights,
    locate_index,
    read_index,
)
from bcnet.explain.faithfulness import Verdict, find_background, judge_heatmaps
from bcnet.explain.graph import compile_answers, compile_features
from bcnet.explain.heatmaps import BATCH_SIZE, explain_batch
from bcnet.explain.scaling import divide_by_maximum, enlarge
from bcnet.explain.similar import similar_cases
from bcnet.inputs import is_single, list_inputs, read_input
from bcnet.modelfile import read_model, write_model
from bcnet.models import with_precision
from bcnet.readers import UnreadableImageError
from bcnet.train import check_finite, choose_precision

logger = logging.getLogger("bcnet")

# Pictures per call of the network: fewer cost more each, more let a core wait at the end …
SCORING_BATCH = 256
# … and pixels, for which VGG16 holds half a gigabyte in each of the calls at once. Of these, two
# keep all cores busy: what one call computes on a single core, the other fills.
SCORING_PIXELS = 2**20
CALLS_AT_ONCE = 2

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
        familiar: bool `(n,)`, whether it is like the training pictures; all are where the card
            has no gate.
    """

    probability: np.ndarray
    hashes: np.ndarray
    reasons: np.ndarray
    familiar: np.ndarray


class Explanation(NamedTuple):
    """Why a picture was answered as it was.

    Attributes:
        image: uint8 `(h, w, 3)`, the picture; None where it was not read.
        probability: of malignant; NaN where it was not read.
        heatmap: float32 `(h, w)`, 0–1, 1 = most evidence, or None.
        verdict: `bcnet.explain.faithfulness.Verdict`, a word and a number: whether the map can be
            trusted; None where nothing was judged.
        reason: "" or why the picture was not read.
        familiar: whether it is like the training pictures; True where the card has no gate.
    """

    image: np.ndarray | None
    probability: float
    heatmap: np.ndarray | None
    verdict: Verdict | None
    reason: str = ""
    familiar: bool = True


class Classifier:
    """One model file in use: the network, its card, and the one way to ask it.

    Attributes:
        model: the Keras network; takes RGB 0–255 at `image_size`, gives `(n, 1)` probabilities.
        card: a dictionary that can be written as JSON.
        path: the model file it was loaded from or last saved in, None before.

    Example:
        `Classifier.load("models/idc.keras").predict("pictures/")` gives a table with the columns
        path, probability, label and status.
    """

    def __init__(self, model: keras.Model, card: dict):
        self.model, self.card, self.path = model, card, None
        self._networks, self._compiled = {"float32": model}, {}

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
        classifier = cls.open(path, card=card)
        try:
            check_finite(classifier.model)
        except FloatingPointError as error:
            raise ModelFileError(classifier.path, str(error)) from error
        classifier._check_references(classifier.path)
        return classifier

    @classmethod
    def open(cls, path: str | os.PathLike, *, card: str | os.PathLike | None = None):
        """Open a model file without asking whether it answers as when saved; `load` does that.

        For finding out what has changed; nothing else should be asked of it.

        Args:
            path: as for `load`.
            card: as for `load`.

        Raises:
            FileNotFoundError: when there is no such file.
            ModelFileError: when the file is damaged or foreign, or has no card.
        """
        path = locate_model(path)
        classifier = cls(read_model(path), read_card(card or path))
        classifier._check_fit(path)
        classifier._drop_earlier_gate()
        classifier.path = path
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
            "weights": fingerprint_weights(self.model),
        }
        write_model(path, self.model, self.card)
        self.path = os.fspath(path)

    @property
    def image_size(self) -> tuple[int, int]:
        """`(height, width)` in pixels that the network sees."""
        return tuple(self.model.input_shape[1:3])

    @property
    def batch_size(self) -> int:
        """Pictures per call of the network: the larger they are, the fewer."""
        height, width = self.image_size
        return max(1, min(SCORING_BATCH, SCORING_PIXELS // (height * width)))

    def set_scaling(self, scaling: Scaling) -> None:
        """Set what turns logits into probabilities, in the network's own layer.

        Copies of the network in other precisions are dropped; they are made again when asked for.

        Args:
            scaling: `bcnet.evaluate.scaling.Scaling`.
        """
        weights = [np.array([[scaling.slope]]), np.array([scaling.intercept])]
        self.model.get_layer("calibration").set_weights(weights)
        self._networks, self._compiled = {"float32": self.model}, {}

    @property
    def threshold(self) -> float:
        """Probability from which a picture is called malignant."""
        return self.card["threshold"]["value"]

    @property
    def band(self) -> tuple[float, float] | None:
        """Probabilities `(low, high)` between which a case is referred; None without a promise."""
        return read_band(self.card)

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
            `array[i]` otherwise), `probability` of malignant, `label` and `status`, the first of
            these that holds: "unreadable: reason" (probability and label are then missing);
            "unlike training data", where the card has a gate; "refer", where it has a band of
            probabilities too uncertain to answer; "ok". Both were set for the card's threshold in
            float32; with another threshold the band reaches up to the higher of the two.

        Raises:
            FileNotFoundError: when a path does not exist.
            ValueError: for an input of another kind or an array that is not uint8.
        """
        threshold = self.threshold if threshold is None else check_threshold(threshold)
        names, samples = list_inputs(inputs)
        scores = self.score_samples(
            samples, read=read_input, precision=precision, progress=progress, hashed=False
        )
        table = tabulate(names, scores.probability, scores.reasons, threshold=threshold)
        return self.refer(table, scores.familiar, threshold=threshold)

    def refer(
        self, table: pd.DataFrame, familiar: np.ndarray, *, threshold: float | None = None
    ) -> pd.DataFrame:
        """Mark the pictures of a table that the network should not be asked about.

        Args:
            table: as `tabulate` makes it.
            familiar: bool `(n,)`, which pictures are like the training pictures.
            threshold: that the labels are by; the card's by default.

        Returns:
            The table with the status that `predict` describes.
        """
        status = table["status"]
        is_read = status == "ok"
        if self.band is not None:
            low, high = self.band
            high = max(high, self.threshold if threshold is None else threshold)
            status = status.mask(is_read & find_referred(table["probability"], low, high), "refer")
        return table.assign(status=status.mask(is_read & ~familiar, "unlike training data"))

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
        score, turn = self._compile_judging(precision), Semaphore(CALLS_AT_ONCE)

        def answer(batch):
            with turn:
                probability, familiar = score(batch.images)
            probability = np.where(batch.readable, probability, np.float32(np.nan))
            return Scores(probability, batch.hashes, batch.reasons, familiar)

        nothing = np.empty(0, object)
        parts = [Scores(np.empty(0, np.float32), nothing, nothing, np.empty(0, bool))]
        for part in stream_samples(
            samples,
            self.image_size,
            batch_size=self.batch_size,
            read=read,
            hashed=hashed,
            finish=answer,
        ):
            parts.append(part)
            if progress:
                progress(len(part.reasons))
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

    def explain(
        self, inputs, *, class_name: str = CLASS_NAMES[1], method: str = HEATMAP_METHODS[0]
    ):
        """Show where the evidence for a class lies.

        Args:
            inputs: as for `predict`.
            class_name: "malignant" or "benign".
            method: one of `HEATMAP_METHODS`.

        Returns:
            float32 `(h, w)` at the picture's own size, 0–1, 1 = most evidence, all zero where
            there is none; a list of them unless `inputs` is a single picture.

        Raises:
            UnreadableImageError: for a picture that cannot be read.
        """
        listed = list_inputs(inputs)
        explanations = self.explain_each(listed, class_name=class_name, method=method, judged=False)
        heatmaps = []
        for name, explanation in zip(listed.names, explanations, strict=True):
            if explanation.reason:
                raise UnreadableImageError(name, explanation.reason)
            heatmaps.append(explanation.heatmap)
        return heatmaps[0] if is_single(inputs) else heatmaps

    def explain_each(
        self,
        inputs,
        *,
        class_name: str = CLASS_NAMES[1],
        method: str = HEATMAP_METHODS[0],
        precision: str = "float32",
        judged: bool = True,
    ) -> Iterator[Explanation]:
        """Explain picture after picture: its probability, its heatmap and how far to trust it.

        At constant memory: maps are made and judged a batch at a time, at the size that the
        network sees, and each picture is read once more when its turn comes, for the batch of
        mammograms that would else be kept has gigabytes.

        Args:
            inputs: as for `predict`.
            class_name: as for `explain`.
            method: as for `explain`.
            precision: as for `predict`.
            judged: give verdicts, which take several passes of the network more.

        Yields:
            An `Explanation` of each picture, in the order of the inputs.

        Example:
            `[each.verdict.word for each in classifier.explain_each("pictures/")]`
        """
        _, samples = list_inputs(inputs)
        network = self._rebuild(precision)
        what = {"class_name": class_name, "method": method}
        batches = stream_samples(
            samples, self.image_size, batch_size=BATCH_SIZE, read=read_input, hashed=False
        )
        for start, batch in zip(count(0, BATCH_SIZE), batches):
            seen, answers = batch.images[batch.readable], []
            if len(seen):
                _, familiar = self._compile_judging(precision)(seen)
                explained = self._explain_batch(network, seen, judged, what)
                answers = zip(*explained, familiar, strict=True)
            rows = zip(samples[start : start + BATCH_SIZE], batch.reasons, strict=True)
            yield from _finish_explanations(rows, iter(answers))

    def _explain_batch(self, network, images, judged, what):
        """Give probabilities, heatmaps and verdicts, at the size the network sees."""
        predictions, heatmaps = explain_batch(network, images, **what)
        verdicts = [None] * len(images)
        if judged:
            background = find_background(images, self.card["data"]["modality"])
            verdicts = judge_heatmaps(network, images, heatmaps, background=background, **what)
        return predictions[:, 0], heatmaps, verdicts

    def similar_cases(self, picture, k: int = 5, *, index: CaseIndex | None = None):
        """Find the known pictures that the network takes for most alike to one picture.

        Args:
            picture: one picture, as for `predict`. If it is among the known ones, it comes first.
            k: how many to find.
            index: the known pictures; by default those in `NAME.cases.npz` beside the model file.

        Returns:
            The table of `bcnet.explain.similar.similar_cases`: path, label, patient_id, distance.

        Raises:
            FileNotFoundError: when there is no index, naming the command that makes one.
            UnreadableImageError: for a picture that cannot be read.
            ValueError: for several pictures, an index of other weights, or `k` below 1.
        """
        _, samples = list_inputs(picture)
        if len(samples) != 1:
            raise ValueError(f"`picture` must be one picture. Received: {len(samples)}")
        index = self._read_cases() if index is None else index
        check_fingerprint(index, self._fingerprint)
        image = resize_image(read_input(*samples[0]), self.image_size)
        features = compile_features(self.model)(image[None])[0]
        return similar_cases(features.numpy(), index, k)

    @cached_property
    def _fingerprint(self):
        """Name the weights once and not for every query: a large network's take a while."""
        return fingerprint_weights(self.model)

    def _read_cases(self):
        if self.path is None:
            raise ValueError("`index` must be given: this classifier has no model file yet")
        path = locate_index(self.path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no index of cases at {path}: `bcnet features {self.path} DATA --part train "
                f"--output {path}` makes it from the pictures the model was trained on"
            )
        status = path.stat()
        return _read_unless_known(path, (status.st_mtime_ns, status.st_size))

    def _compile(self, precision):
        """One compiled call per precision, shared by every way of asking."""
        network = self._rebuild(precision)
        if network not in self._compiled:
            signature = tf.TensorSpec((None, *self.image_size, 3), tf.float32)

            @tf.function(input_signature=[signature], autograph=False)
            def score(images):
                return network(images, training=False)[:, 0]

            self._compiled[network] = lambda images: score(tf.cast(images, tf.float32))
        return self._compiled[network]

    def _compile_judging(self, precision):
        """Make what gives probabilities, and who is like the training pictures, in one pass."""
        entry = self.card.get("gate") or {}
        if "features" not in entry:
            score = self._compile(precision)
            return lambda images: (score(images).numpy(), np.ones(len(images), bool))
        compute, gate = compile_answers(self._rebuild(precision)), read_gate(entry)

        def judge(images):
            predictions, features = compute(images)
            return predictions.numpy()[:, 0], gate.measure(features.numpy(), images) <= 1

        return judge

    def _rebuild(self, precision):
        """The network under a precision, built once."""
        if precision not in PRECISIONS:
            raise ValueError(
                f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}"
            )
        policy = choose_precision(precision)
        if policy not in self._networks:
            self._networks[policy] = with_precision(self.model, policy)
        return self._networks[policy]

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

    def _drop_earlier_gate(self):
        entry = self.card.get("gate") or {}
        if is_earlier_kind(entry):
            reason = "the card's gate is of an earlier kind; `bcnet promise` makes a new one"
            logger.warning("no picture is flagged as unlike training data: %s", reason)
            self.card["gate"] = {"reason": reason, "data": entry["data"]}

    def compare_references(self) -> tuple[np.ndarray, np.ndarray]:
        """Answer the reference inputs again.

        Returns:
            The answers as saved and as they are now, float32 `(n,)` each.
        """
        stored = self.card["references"]
        inputs = _make_references(self.image_size, stored["seed"])
        return np.array(stored["probability"], np.float32), self.predict_images(inputs)

    def _check_references(self, path):
        saved, now = self.compare_references()
        difference = np.abs(now - saved).max()
        if not difference <= REFERENCE_TOLERANCE:
            raise ModelFileError(
                path,
                f"it no longer answers as when it was saved (its reference outputs differ by "
                f"{difference:.3g}, {REFERENCE_TOLERANCE} is allowed): file or software has "
                "changed",
            )
        weights = self.card["references"].get("weights")  # files of earlier versions have none
        if weights and weights != fingerprint_weights(self.model):
            raise ModelFileError(path, "its weights are not those it was saved with")


# One index, prepared for searching, is kept as long as its file is unchanged.
@lru_cache(maxsize=1)
def _read_unless_known(path, _version):
    return read_index(path)


def settle_precision(precision: str) -> str:
    """Name the arithmetic that is really used: "auto" becomes "float32", "bfloat16" or "float16".

    Example:
        >>> settle_precision("bfloat16")
        'bfloat16'
    """
    return choose_precision(precision).removeprefix("mixed_")


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


def _finish_explanations(rows, answers):
    """Bring each picture's map to its own size; `answers` are those of the readable ones."""
    for sample, reason in rows:
        answer = None if reason else next(answers)
        image, reason = (None, reason) if reason else try_read(sample, read_input)
        if image is None:
            yield Explanation(None, np.nan, None, None, reason)
            continue
        probability, heatmap, verdict, familiar = answer
        heatmap = divide_by_maximum(enlarge(heatmap[None], image.shape[:2]))[0]
        yield Explanation(image, float(probability), heatmap, verdict, familiar=bool(familiar))


def _make_references(image_size, seed):
    """Make smooth coloured fields, as unlike patients as they are like pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (REFERENCE_COUNT, 6, 6, 3)).astype(np.float32)
    return tf.image.resize(coarse, image_size, antialias=True).numpy()
