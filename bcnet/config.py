"""The words every floor uses: class names and the numbers one may tune.

Standard library only, so that everything may import it. No behaviour belongs here.
"""

from dataclasses import dataclass

CLASS_NAMES = ("benign", "malignant")
"""Class names by label: benign = 0, malignant = 1 = the positive class, everywhere."""

SPLITS = ("train", "validation", "test")
"""The three parts of a data set, by the only names used for them."""

MODALITIES = ("tissue", "radiology")
"""Tissue has no up or down and is stained; radiology has both up and down and grey values."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
"""Arithmetic of the hidden layers; weights, the last three layers and every loss stay float32."""


@dataclass(frozen=True)
class Config:
    """Everything about a training run that one may tune; the defaults are the recommended run.

    Attributes:
        model: "cnn" (three convolution blocks) or "vgg16".
        image_size: `(height, width)` in pixels the network sees; None chooses by the pictures.
        epochs: passes over the training pictures (of each stage, where there are two).
        batch_size: pictures per step.
        learning_rate: Adam's highest rate, reached after the warm-up; None for the network's own.
        fine_tune_rate: the same for the second stage, when pretrained layers are let loose.
        warmup_epochs: passes during which the rate rises; it then falls as a cosine to zero.
        patience: passes without a better validation score before training stops early.
        validation: share of the patients that choose the epoch and the threshold.
        test: share of the patients that judge the finished model, once.
        seed: of split, weights, order and augmentation: same seed, same machine, same weights.
        precision: one of `PRECISIONS`; "auto" takes the fastest that the processor computes well.
        modality: "tissue", "radiology", or "auto": as the data set says, else by its colours.
        weights: "imagenet", a weights file, or None to start from random weights.

    Raises:
        ValueError: for a value outside its range, naming it.

    Example:
        >>> Config(epochs=5).batch_size
        64
    """

    model: str = "cnn"
    image_size: tuple[int, int] | None = None
    epochs: int = 25
    batch_size: int = 64
    learning_rate: float | None = None
    fine_tune_rate: float = 1e-5
    warmup_epochs: int = 1
    patience: int = 10
    validation: float = 0.15
    test: float = 0.2
    seed: int = 0
    precision: str = "auto"
    modality: str = "auto"
    weights: str | None = None

    def __post_init__(self):
        for name in ("epochs", "batch_size", "patience"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "fine_tune_rate"):
            value = getattr(self, name)
            _check(name, value, value is None or 0 < value <= 1, "above 0, at most 1")
        _check("validation", self.validation, 0 < self.validation < 1, "between 0 and 1")
        _check("test", self.test, 0 <= self.test < 1, "0 or more and below 1")
        whole = self.validation + self.test
        _check("validation + test", whole, whole < 1, "below 1, to leave patients for training")
        _check("seed", self.seed, 0 <= self.seed < 2**31, "between 0 and 2147483647")
        _check("precision", self.precision, self.precision in PRECISIONS, f"one of {PRECISIONS}")
        modalities = ("auto", *MODALITIES)
        _check("modality", self.modality, self.modality in modalities, f"one of {modalities}")
        if self.image_size is not None:
            allowed = all(8 <= side <= 1024 for side in self.image_size)
            _check("image_size", self.image_size, allowed, "from 8 to 1024 pixels a side")


def _check(name, value, holds, allowed):
    if not holds:
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}")
