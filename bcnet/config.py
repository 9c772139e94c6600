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

NETWORKS = (
    "cnn",
    "vgg16",
    "resnet50",
    "mobilenet",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
)
"""The networks by the name a user types; all but the first are backbones of Keras."""

ALPHAS = (1.0, 0.75, 0.5, 0.25)
"""Shares of its channels that there are ImageNet weights of MobileNet for."""

SCHEDULES = ("cosine", "constant")
"""How Adam's rate goes on after the warm-up."""

SAMPLINGS = ("weighted", "balanced")
"""How unequal classes are made to count the same: by their weight in the loss, or drawn so."""

STAIN_NORMALISATIONS = ("reinhard", "macenko")
"""Ways of bringing each picture's stain to a reference, inside the network's own graph."""

CALIBRATIONS = ("platt", "temperature")
"""Ways of bringing a trained network's probabilities to what validation patients show."""

THRESHOLD_RULES = ("youden", "fixed", "f1", "cost", "sensitivity", "specificity")
"""Rules by which the threshold is chosen; those after "youden", but for "f1", have a target."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
"""Arithmetic of the hidden layers; weights, the last three layers and every loss stay float32."""

HEATMAP_METHODS = (
    "grad_cam",
    "grad_cam_plus_plus",
    "layer_cam",
    "hires_cam",
    "score_cam",
    "integrated_gradients",
    "smooth_grad",
    "occlusion",
)
"""The ways of showing where evidence lies, by the names of their functions; the first is usual."""


@dataclass(frozen=True)
class Config:
    """Everything about a training run that one may tune; the defaults are the recommended run.

    Attributes:
        model: "cnn" (three convolution blocks) or a backbone, one of `NETWORKS`.
        alpha: share of its channels that MobileNet has: 1, 0.75, 0.5 or 0.25.
        end: name of the layer that a backbone ends with; None for its own last.
        image_size: `(height, width)` in pixels the network sees; None chooses by the pictures.
        weights: "imagenet", a weights file of the backbone, or None to start from random weights.
        initial_weights: a `.keras` file of ours whose layers are taken over where they match.
        epochs: passes over the training pictures (of each stage, where there are two); None
            chooses by their number.
        batch_size: pictures per step; None chooses by their number.
        learning_rate: Adam's highest rate, reached after the warm-up; None for the network's own.
        fine_tune_rate: the same for the second stage, when pretrained layers are let loose.
        fine_tune_from: name of the first block let loose then; None for the network's own.
        schedule: "cosine" lets the rate fall to zero after the warm-up, "constant" keeps it.
        warmup_epochs: passes during which the rate rises.
        patience: passes without a better validation score before training stops early; None
            chooses by their number.
        label_smoothing: share by which labels are drawn towards one half.
        mixup: alpha of the Beta distribution by which pairs of pictures are mixed; 0 mixes none.
        sampling: one of `SAMPLINGS`.
        stain_jitter: share by which the amount of each stain is varied (tissue only).
        stain_normalisation: one of `STAIN_NORMALISATIONS`, or None.
        ema: momentum of the running average of the weights that is kept; 0 keeps the weights.
        progressive: train the first half of the epochs on pictures of half the size.
        members: networks, trained from different seeds, whose logits the model averages.
        tta: average over the symmetries of each picture as well (test-time augmentation).
        calibration: one of `CALIBRATIONS`, fitted to enough validation patients, or None.
        threshold_rule: one of `THRESHOLD_RULES`, applied to validation patients.
        target: of the rule: the threshold, the false alarms that one miss weighs, or a share.
        validation: share of the patients that choose epoch, calibration and threshold.
        test: share of the patients that judge the finished model, once.
        seed: of split, weights, order and augmentation: same seed, same machine, same weights.
        precision: one of `PRECISIONS`; "auto" takes the fastest that the processor computes well.
        modality: "tissue", "radiology", or "auto": as the data set says, else by its colours.

    Raises:
        ValueError: for a value outside its range, naming it.

    Example:
        >>> Config(epochs=5).epochs
        5
    """

    model: str = "cnn"
    alpha: float = 1.0
    end: str | None = None
    image_size: tuple[int, int] | None = None
    weights: str | None = None
    initial_weights: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    fine_tune_rate: float | None = None
    fine_tune_from: str | None = None
    schedule: str = "cosine"
    warmup_epochs: int = 1
    patience: int | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    sampling: str = "weighted"
    stain_jitter: float = 0.15
    stain_normalisation: str | None = None
    ema: float = 0.0
    progressive: bool = False
    members: int = 1
    tta: bool = False
    calibration: str | None = "platt"
    threshold_rule: str = "youden"
    target: float | None = None
    validation: float = 0.15
    test: float = 0.2
    seed: int = 0
    precision: str = "auto"
    modality: str = "auto"

    def __post_init__(self):
        for name in ("epochs", "batch_size", "patience", "members"):
            value = getattr(self, name)
            _check(name, value, value is None or value >= 1, "at least 1")
        for name in ("learning_rate", "fine_tune_rate"):
            value = getattr(self, name)
            _check(name, value, value is None or 0 < value <= 1, "above 0, at most 1")
        for name in ("label_smoothing", "stain_jitter", "ema", "test"):
            value = getattr(self, name)
            _check(name, value, 0 <= value < 1, "0 or more and below 1")
        _check("mixup", self.mixup, 0 <= self.mixup <= 10, "from 0 to 10")
        _check("validation", self.validation, 0 < self.validation < 1, "between 0 and 1")
        whole = self.validation + self.test
        _check("validation + test", whole, whole < 1, "below 1, to leave patients for training")
        _check("warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0, "0 or more")
        _check("seed", self.seed, 0 <= self.seed < 2**31, "between 0 and 2147483647")
        self._check_words()
        if self.image_size is not None:
            allowed = all(8 <= side <= 1024 for side in self.image_size)
            _check("image_size", self.image_size, allowed, "from 8 to 1024 pixels a side")

    def _check_words(self):
        words = {
            "model": NETWORKS,
            "alpha": ALPHAS,
            "precision": PRECISIONS,
            "modality": ("auto", *MODALITIES),
            "sampling": SAMPLINGS,
            "schedule": SCHEDULES,
            "stain_normalisation": (None, *STAIN_NORMALISATIONS),
            "calibration": (None, *CALIBRATIONS),
            "threshold_rule": THRESHOLD_RULES,
        }
        for name, allowed in words.items():
            _check(name, getattr(self, name), getattr(self, name) in allowed, f"one of {allowed}")


def _check(name, value, holds, allowed):
    if not holds:
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}")
