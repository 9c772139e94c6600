"""What a model has seen: its own pictures and patients, and those of the model it started from."""

import os

import pandas as pd

from bcnet.cardfile import read_card
from bcnet.data.manifest import hash_patient, patient_keys

# The entry of a card's samples for what the models behind a model have learnt from.
ANCESTORS = "ancestors"

# … and for the pictures that have calibrated a model after its training.
CALIBRATED = "calibration"

SEEN = ("train", "validation", CALIBRATED)
"""The parts of which a model has learnt something; what stands in them can be no test."""


class SeenInTraining(ValueError):
    """The pictures to be called a test have trained or tuned the model."""

    exit_status = 1  # of the command line: the input is sound, the claim is not


def find_parts(card: dict, table: pd.DataFrame) -> pd.Series:
    """Tell by hash in which part of the model's making each picture or its patient stood.

    Args:
        card: the model's card.
        table: rows of a manifest with the column `hash`.

    Returns:
        "train", "validation", "calibration", "test" or None per row. A picture that trained the
        model, or a model it started from, counts as such wherever its copy lies.
    """
    patients = patient_keys(table).map(hash_patient)
    patients = patients.where(table["patient_id"].notna(), "")
    parts = pd.Series(None, index=table.index, dtype=object)
    for entry in ("test", CALIBRATED, ANCESTORS, "validation", "train"):
        samples = card["samples"].get(entry, {"pictures": [], "patients": []})
        seen = table["hash"].isin(samples["pictures"]) | patients.isin(samples["patients"])
        parts[seen] = "train" if entry == ANCESTORS else entry
    return parts


def count_seen(parts: pd.Series) -> dict[str, int]:
    """Count the pictures that each step of the model's making has touched.

    Args:
        parts: as `find_parts` gives them.

    Returns:
        From those of `SEEN` that occur to the number of pictures, the most first.

    Example:
        >>> count_seen(pd.Series(["train", "test", None, "train"]))
        {'train': 2}
    """
    return parts[parts.isin(SEEN)].value_counts().to_dict()


def tell_seen(counts: dict[str, int], n_images: int, *, unit: str = "pictures") -> str:
    """Tell how many of the pictures the model has seen, and which step has touched them.

    `unit` is what they are, where they are not pictures.

    Example:
        >>> tell_seen({"train": 2, "validation": 1}, 9)  # doctest: +NORMALIZE_WHITESPACE
        'this is no test: of 9 pictures the model has seen 3, or others of the same patients (2 in
        train and 1 in validation)'
    """
    told = " and ".join(f"{count} in {step}" for step, count in counts.items())
    return (
        f"this is no test: of {n_images} {unit} the model has seen {sum(counts.values())}, or "
        f"others of the same patients ({told})"
    )


def require_unseen(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Refuse to judge on pictures or patients that the model to start from has seen.

    Args:
        path: the model file that training starts from.
        table: rows of a manifest that are to judge, with the column `hash`.

    Raises:
        SeenInTraining: naming how many.
    """
    seen = find_parts(read_card(path), table).isin(SEEN)
    if seen.any():
        raise SeenInTraining(
            f"of {len(table)} pictures that are to judge, {path} has seen {seen.sum()}, or others "
            "of the same patients. Start from a model trained on other patients"
        )


def describe_parent(path: str | os.PathLike) -> dict:
    """Describe for the card what the model to start from, and those behind it, learnt from.

    Args:
        path: the model file that training starts from.

    Returns:
        `pictures` and `patients`, sorted hashes, and `data`, names of the data sets.
    """
    card = read_card(path)
    behind = card["samples"].get(ANCESTORS, {"data": []})
    parts = [card["samples"][part] for part in SEEN if part in card["samples"]] + [behind]
    seen = {
        name: sorted({item for part in parts for item in part.get(name, [])})
        for name in ("pictures", "patients")
    }
    return {"data": [card["data"]["name"], *behind["data"]], **seen}
