"""The pages of the loaded models: what each was made from, and how good it was found."""

from flask import Blueprint, abort, render_template

from bcnet.evaluate.abstention import format_band
from bcnet.evaluate.metrics import format_estimate
from bcnet.measurements.card import KIND
from bcnet.web.services import get_services
from bcnet.workflows.card import describe_card

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


@views.get("/models/<name>")
def show_card(name):
    """Show the whole card of one model."""
    models = get_services().models
    model = (models.pictures | models.measurements).get(name)
    if model is None:
        abort(404)
    return render_template("card.html", name=name, blocks=describe_card(model.card, name))


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
        "Asked about": "measurements" if card.get("kind") == KIND else "pictures",
        "Data": data.get("name"),
        "Source": data.get("source"),
        "Licence of the data": data.get("licence"),
        "A negative means": data.get("negative"),
        "Simulated": "yes" if data.get("simulated") else "no",
        **{f"Patients, {part}": _count(entry) for part, entry in samples.items()},
        "Threshold": _format_threshold(card["threshold"]),
        "Calibration": (card.get("calibration") or {}).get("method"),
        "Promise": format_band(card["abstention"]) if card.get("abstention") else "none",
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
    """Give figures with their intervals: of the test, by patient where it can; else nested ones."""
    test, nested = metrics.get("test") or {}, metrics.get("nested") or {}
    figures = test.get("patient") or test.get("image") or {}
    where = "Test"
    if nested:
        figures, where = nested["metrics"] | nested["locked"], "Left out in turn"
    return {
        f"{where}, {name.replace('_', ' ').replace('auc', 'AUC')}": format_estimate(figures[name])
        for name in FIGURES
        if figures.get(name)
    }
