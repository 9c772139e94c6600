"""What a model file's card keeps of trials that came after the training.

Belongs here: what may be kept of subgroups and robustness, and writing it. Does not: the trials
themselves (`evaluation`, `robustness`), and how the model card tells of them (`card_trials`).
"""

import logging
from datetime import UTC, datetime

from bcnet.cardfile import read_card, write_card
from bcnet.classifier import Classifier

logger = logging.getLogger("bcnet")

SUBGROUPS, ROBUSTNESS = TRIALS = ("subgroups", "robustness")
"""The entries of a card, each of which says nothing of another calibration or threshold."""

# Parts of which the model has seen nothing.
TESTS = ("test", "external")

# What the model card shows of each severity.
RECORDED = ("auc", "sensitivity", "specificity", "ece")

# Of every number; with fewer, what is rounded again for a table could differ from the terminal's.
DIGITS = 6


def record_subgroups(classifier: Classifier, result: dict) -> None:
    """Keep in the card of a model file how it fared in subgroups of a test.

    Of each data set and column the latest is kept. Network, references and all else of the file
    stay.

    Args:
        classifier: loaded from a file, which is changed in one step.
        result: of `evaluate` with `by`.

    Raises:
        ValueError: when this was no test of the model at its own threshold in float32, or was not
            of subgroups, or when the file is no longer that which was loaded.

    Example:
        `record_subgroups(classifier, evaluate(classifier, manifest, by=["laboratory"]))`
    """
    if not result.get("subgroups"):
        raise ValueError("`result` must have subgroups: name a column to judge by")
    told = _describe(classifier, result)
    found = {
        f"{result['data']} by {column}": {**told, "column": column, **_shorten(each)}
        for column, each in result["subgroups"].items()
    }
    _keep(classifier, SUBGROUPS, found)


def record_robustness(classifier: Classifier, result: dict) -> None:
    """Keep in the card of a model file how it fared on worse and worse pictures of a test.

    Of each data set the latest is kept. Network, references and all else of the file stay.

    Args:
        classifier: loaded from a file, which is changed in one step.
        result: of `stress`.

    Raises:
        ValueError: as `record_subgroups` does.

    Example:
        `record_robustness(classifier, stress(classifier, manifest))`
    """
    perturbations = [
        each | {"severities": [_select(level, "amount") for level in each["severities"]]}
        for each in result["perturbations"]
    ]
    found = {
        "unit": result["unit"],
        "unperturbed": _select(result["unperturbed"]),
        "perturbations": perturbations,
    }
    told = _describe(classifier, result)
    _keep(classifier, ROBUSTNESS, {result["data"]: told | _shorten(found)})


def _select(level, *names):
    return {name: level[name] for name in (*names, *RECORDED)}


def _shorten(value):
    """Round every number in nested lists and dicts."""
    if isinstance(value, dict):
        return {name: _shorten(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shorten(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _describe(classifier, result):
    """Say of what test a trial was; refuse what was none."""
    if result["part"] not in TESTS:
        raise ValueError(f"only a test is recorded. Received: part={result['part']}")
    if result["threshold"] != classifier.threshold:
        raise ValueError(
            f"only a test at the model's own threshold, {classifier.threshold:.3g}, is recorded. "
            f"Received: threshold={result['threshold']:.3g}"
        )
    if result["precision"] != "float32":
        raise ValueError(f"only float32 is recorded. Received: precision={result['precision']}")
    names = ("data", "simulated", "part", "n_images", "n_patients", "threshold")
    date = datetime.now(UTC).date().isoformat()
    return {**{name: result[name] for name in names}, "date": date}


def _keep(classifier, entry, found):
    card = read_card(classifier.path) if classifier.path else {}
    if card.get("references") != classifier.card.get("references"):
        raise ValueError(f"{classifier.path} must be the file that was judged; it has changed")
    kept = card.get(entry, {})
    for name in kept.keys() & found.keys():
        logger.info("replaced in the card: %s, %s of %s", entry, name, kept[name]["date"])
    card[entry] = classifier.card[entry] = kept | found
    write_card(classifier.path, card)
