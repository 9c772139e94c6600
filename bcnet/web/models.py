"""The page of the loaded models: what each was made from, and how good it was found."""

from flask import Blueprint, render_template

from bcnet.evaluate.metrics import format_estimate
from bcnet.web.services import get_services

views = Blueprint("models", __name__)

# What the page tells of a card's figures, where the card has them.
FIGURES = ("auc", "sensitivity", "specificity", "balanced_accuracy")


@views.get("/models")
def show_models():
    """Show the cards of all models side by side."""
    models = get_services().models
    loaded = models.pictures | models.measurements
    cards = [describe(name, model.card, models.hashes[name]) for name, model in loaded.items()]
    return render_template("models.html", cards=cards)


def describe(name: str, card: dict, file_hash: str) -> dict:
    """Tell of a model what its card says, in rows that stand side by side.

    Args:
        name: of the model.
        card: of its file.
        file_hash: SHA-256 of the file.

    Returns:
        `name`, and `rows`: a text by what it is about; what the card does not know is "unknown".
    """
    data, samples = card["data"], card["samples"]
    rows = {
        "Asked about": "measurements" if card.get("kind") == "measurements" else "pictures",
        "Data": data.get("name"),
        "Source": data.get("source"),
        "Licence of the data": data.get("licence"),
        "A negative means": data.get("negative"),
        "Simulated": "yes" if data.get("simulated") else "no",
        **{f"Patients, {part}": _count(entry) for part, entry in samples.items()},
        "Threshold": _format_threshold(card["threshold"]),
        "Made": card.get("created"),
        **_list_figures(card.get("metrics") or {}),
        "SHA-256 of the file": file_hash,
    }
    return {"name": name, "rows": {key: value or "unknown" for key, value in rows.items()}}


def _count(entry):
    if not isinstance(entry, dict) or entry.get("n_patients") is None:
        return None
    return f"{entry['n_patients']:,} ({entry.get('n_images', entry['n_patients']):,} samples)"


def _format_threshold(entry):
    return f"{entry['value']:.3f}: {entry.get('rule', 'unknown rule')}"


def _list_figures(metrics):
    """Give the test's figures with their intervals: of patients where they have them."""
    test = metrics.get("test") or {}
    figures = test.get("patient") or test.get("image") or {}
    return {
        f"Test, {name.replace('_', ' ').replace('auc', 'AUC')}": format_estimate(figures[name])
        for name in FIGURES
        if figures.get(name)
    }
