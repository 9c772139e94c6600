"""What a search for hyper-parameters looks through, and how far.

How a search runs, and what it finds, is the business of `tuning`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bcnet.config import SAMPLINGS, SCHEDULES, Config
from bcnet.workflows.starting import is_pretrained

SEARCHABLE = {
    # About a factor of five beyond what is recommended of any network, on either side.
    "learning_rate": FloatDistribution(2e-5, 1e-2, log=True),
    "fine_tune_rate": FloatDistribution(2e-6, 5e-3, log=True),
    "batch_size": CategoricalDistribution((16, 32, 64, 128)),
    # In steps, so that 0, which leaves a recipe out, is tried as often as any other.
    "label_smoothing": FloatDistribution(0.0, 0.2, step=0.05),
    "mixup": FloatDistribution(0.0, 0.4, step=0.1),
    "stain_jitter": FloatDistribution(0.0, 0.3, step=0.05),
    "ema": CategoricalDistribution((0.0, 0.99, 0.999)),
    "warmup_epochs": IntDistribution(0, 3),
    "sampling": CategoricalDistribution(SAMPLINGS),
    "schedule": CategoricalDistribution(SCHEDULES),
}
"""What may be searched, by field of `Config`, and where."""

USUAL = ("learning_rate", "batch_size", "label_smoothing", "mixup", "ema")
"""What is searched of any network and any pictures, unless fields are named."""


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        trials: how many to reach, those of earlier calls included; interrupted ones do not count.
        fields: what to search, of `SEARCHABLE`; None for what is usual of such a network and
            such pictures.
        folds: 1 judges a trial on the validation part; more judge it by the mean over so many
            folds of all patients but the test's, at so many times the cost.
        study: SQLite file that keeps the trials; None puts it beside the output.

    Raises:
        ValueError: for fewer than one trial or fold.

    Example:
        >>> Search(trials=10, fields=("learning_rate",)).folds
        1
    """

    trials: int = 30
    fields: Sequence[str] | None = None
    folds: int = 1
    study: str | os.PathLike | None = None

    def __post_init__(self):
        for name in ("trials", "folds"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")


def make_space(config: Config, fields: Sequence[str] | None = None) -> dict[str, BaseDistribution]:
    """Choose what to search, and where.

    Args:
        config: settled, see `training.settle_config`.
        fields: names from `SEARCHABLE`; None for what is usual.

    Returns:
        The distribution of each field, in the order of `SEARCHABLE`.

    Raises:
        ValueError: for a field that cannot be searched, or that would change nothing.

    Example:
        >>> list(make_space(Config(), ("batch_size", "learning_rate")))
        ['learning_rate', 'batch_size']
    """
    idle = set()
    if not is_pretrained(config):
        idle.add("fine_tune_rate")
    if config.modality != "tissue":
        idle.add("stain_jitter")
    if fields is None:
        fields = {*USUAL, "fine_tune_rate", "stain_jitter"} - idle
    for name in fields:
        if name not in SEARCHABLE:
            allowed = ", ".join(SEARCHABLE)
            raise ValueError(f"`search` must name some of {allowed}. Received: {name}")
        if name in idle:
            raise ValueError(f"`search` names {name}, which changes nothing here; leave it out")
    return {name: SEARCHABLE[name] for name in SEARCHABLE if name in fields}
