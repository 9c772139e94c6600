"""What model cards of pictures and of measurements say alike, and how they say it.

Belongs here: finding an entry of a card, how numbers are told, and sections that are the same for
both. Does not: what is said of one kind only (`card_text`, `card_measurements`).
"""

from collections.abc import Mapping, Sequence

from bcnet.evaluate.metrics import format_estimate
from bcnet.workflows.document import Figure, Heading, Paragraph, Points

NOT_RECORDED = "not recorded"

PURPOSE = """\
For research and teaching. Not a diagnostic device: no regulator has looked at it, and nobody \
should be treated, or not treated, because of its answers."""

# Metrics whose name is not the word for it.
METRIC_WORDS = {
    "auc": "AUC",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "expected calibration error",
}

BASELINE = "accuracy of always giving the commoner class"


def put_together(
    summary: str, sections: Mapping[str, list], figures: Mapping[str, Sequence[Figure]] | None
) -> list:
    """Put the sections of a card under their titles, after its purpose and a summary.

    Args:
        summary: one sentence.
        sections: blocks by title.
        figures: to stand at the end of the section whose title is the key.

    Returns:
        Blocks of `bcnet.workflows.document`.
    """
    figures = figures or {}
    blocks = [Paragraph(PURPOSE), Paragraph(summary)]
    for title, section in sections.items():
        blocks += [Heading(title), *section, *figures.get(title, [])]
    return blocks


def find(card: dict, *names: str):
    """Find an entry of a card, None where it has none.

    Example:
        >>> find({"data": {"name": "idc"}}, "data", "name"), find({}, "data", "name")
        ('idc', None)
    """
    for name in names:
        card = card.get(name) if isinstance(card, dict) else None
    return card


def tell(card: dict, *names: str) -> str:
    """Tell an entry of a card as it stands there, or that it is not recorded.

    Example:
        >>> tell({"seed": 0}, "seed"), tell({}, "seed")
        ('0', 'not recorded')
    """
    value = find(card, *names)
    return NOT_RECORDED if value is None else str(value)


def tell_number(value: float | None, form: str = ".3g") -> str:
    """Tell a number, or that it is not recorded.

    Example:
        >>> tell_number(0.12345), tell_number(None)
        ('0.123', 'not recorded')
    """
    return NOT_RECORDED if value is None else format(value, form)


def tell_count(value: int | None) -> str:
    """Tell how many, or that it is unknown.

    Example:
        >>> tell_count(1620), tell_count(None)
        ('1,620', 'unknown')
    """
    return "unknown" if value is None else f"{value:,}"


def count_judged(entry: dict, things: str) -> str:
    """Tell how many `things` of how many patients an entry is about.

    Example:
        >>> count_judged({"n_images": 1620, "n_patients": 44}, "pictures")
        '1,620 pictures of 44 patients'
    """
    n_patients = entry.get("n_patients")
    of_whom = "of unknown patients" if n_patients is None else f"of {n_patients:,} patients"
    return f"{tell_count(entry.get('n_images'))} {things} {of_whom}"


def tell_estimate(estimate: dict | None) -> str:
    """Tell a metric with its interval, or that it is not recorded.

    Example:
        >>> tell_estimate({"value": 0.8, "low": 0.7, "high": 0.9})
        '0.800 [0.700, 0.900]'
    """
    return format_estimate(estimate) if estimate else NOT_RECORDED


def tell_metric(name: str) -> str:
    """Tell the name of a metric in words.

    Example:
        >>> tell_metric("auc"), tell_metric("balanced_accuracy")
        ('AUC', 'balanced accuracy')
    """
    return METRIC_WORDS.get(name, name.replace("_", " "))


def tell_malignant(entry: dict) -> str:
    """Tell how many of an entry's pictures or rows are malignant, and which share.

    Example:
        >>> tell_malignant({"n_images": 4, "n_malignant": 1})
        '1 (25%)'
    """
    n_images, n_malignant = entry.get("n_images"), entry.get("n_malignant")
    share = f" ({n_malignant / n_images:.0%})" if n_images and n_malignant is not None else ""
    return f"{tell_count(n_malignant)}{share}"


def describe_ethics() -> list:
    """Describe whom a wrong answer harms, and what has to be measured before use."""
    return [
        Paragraph(
            "A missed cancer and a false alarm harm different people differently; the threshold "
            "weighs one against the other and is a choice, not a fact. Whether it serves "
            "all groups of patients alike has to be measured before use. Treat the model file, and "
            "what is made from its training data, like that data."
        )
    ]


def describe_licence(card: dict, licence: str | None) -> list:
    """Describe the licences of model and data; the card knows only the latter."""
    data = tell(card, "data", "licence")
    return [Points([f"Model: {licence or NOT_RECORDED}", f"Data: {data}"])]


def describe_software(card: dict) -> list:
    """Describe the versions a model was made with."""
    versions = find(card, "versions") or {}
    told = ", ".join(f"{package} {number}" for package, number in versions.items())
    return [Paragraph(f"Software: {told or NOT_RECORDED}.")]
