"""The card of a model of measurements: what has to stand in it before anything relies on it.

Belongs here: looking at a card that came with a file. Does not: making one
(`bcnet.workflows.measurement_training`), reading it (`bcnet.cardfile`), its words.
"""

import numpy as np
import sklearn

from bcnet.cardfile import ModelFileError
from bcnet.data.measurements import FEATURES

KIND = "measurements"
"""The entry `kind` of the card; the cards of models of pictures have none."""

REFERENCE_COUNT = 8

# What is read from a card; one without them comes from elsewhere or from a later format.
CARD_ENTRIES = {
    "class_names": list,
    "data": dict,
    "samples": dict,
    "threshold": dict,
    "features": list,
    "references": dict,
    "versions": dict,
}


def check_card(path, card) -> None:
    """Raise `ModelFileError` for `path` unless a model can be asked with such a card.

    Args:
        path: the file it came with.
        card: whatever stood there.
    """
    card = card if isinstance(card, dict) else {}
    missing = [name for name, kind in CARD_ENTRIES.items() if not isinstance(card.get(name), kind)]
    if missing:
        raise ModelFileError(path, f"its card has no {', '.join(missing)}")
    if card.get("kind", KIND) != KIND:
        raise ModelFileError(path, f"its card is not of a model of {KIND}")
    names = [each.get("name") for each in card["features"] if isinstance(each, dict)]
    if names != list(FEATURES):
        raise ModelFileError(path, "the measurements of its card are not the thirty of bcnet")
    for name, is_sound in SOUND.items():
        try:
            sound = is_sound(card)
        except (AttributeError, KeyError, TypeError, ValueError):  # text for a number, or no number
            sound = False
        if not sound:
            raise ModelFileError(path, f"the entry {name} of its card is damaged")


def tell_versions(card: dict) -> str:
    """Tell of another minor version of scikit-learn, and what to do; "" where it is the same."""
    saved, now = str(card["versions"].get("scikit-learn")), sklearn.__version__
    if saved.split(".")[:2] == now.split(".")[:2]:
        return ""
    return (
        f"; it was saved with scikit-learn {saved} and this is {now}: install the former "
        f'(python -m pip install "scikit-learn=={saved}"), or train it anew'
    )


def _are_features_sound(card):
    ends = ("lowest", "median", "highest", "deviation")
    numbers = np.array([[each[end] for end in ends] for each in card["features"]], np.float64)
    lowest, median, highest, _ = numbers.T
    return np.isfinite(numbers).all() and ((lowest <= median) & (median <= highest)).all()


def _are_references_sound(card):
    logits, seed = np.array(card["references"]["logit"], np.float64), card["references"]["seed"]
    return len(logits) == REFERENCE_COUNT and np.isfinite(logits).all() and int(seed) == seed >= 0


def _is_threshold_sound(card):
    return 0 <= card["threshold"]["value"] <= 1


def _is_band_sound(card):
    band = card.get("abstention") or {}
    return "low" not in band or 0 <= band["low"] <= band["high"] <= 1


def _are_versions_sound(card):
    return all(isinstance(each, str) for each in card["versions"].values())


SOUND = {
    "features": _are_features_sound,
    "references": _are_references_sound,
    "threshold": _is_threshold_sound,
    "abstention": _is_band_sound,
    "versions": _are_versions_sound,
}
"""For each entry of whose numbers the answers are made: whether they can be."""
