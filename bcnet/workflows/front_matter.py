"""What the Hugging Face Hub reads before a model card: licence, tags and results, as YAML.

Its words are in https://huggingface.co/docs/hub/model-cards. Does not belong here: the card itself.
"""

import json
import re

from bcnet.measurements.card import KIND
from bcnet.workflows.card_words import NOT_RECORDED, find, tell_metric

# Licences by the names the Hub knows; any other is "other" there, with its own name beside.
HUB_LICENCES = ("mit", "apache-2.0", "bsd-3-clause", "gpl-3.0", "cc0-1.0", "cc-by-4.0")
HUB_LICENCES += ("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")

NESTED = "nested cross-validation"

# Our metrics by the Hub's names, as far as it has them.
HUB_METRICS = {"auc": "roc_auc", "average_precision": "average_precision"}


def make_front_matter(card: dict, name: str, licence: str | None = None) -> dict:
    """Make what the Hugging Face Hub reads of a card: licence, tags, and results of a test.

    A model of measurements has nested cross-validation for a test.

    Args:
        card: the model's.
        name: of the model.
        licence: of the model; "unknown" where not given.

    Returns:
        A dictionary of texts, numbers, lists and dictionaries.

    Example:
        >>> make_front_matter({}, "mine", "MIT")["license"]
        'mit'
    """
    front, result = _tell_measurements(card) if card.get("kind") == KIND else _tell_pictures(card)
    front = {**_name_licence(licence), **front}
    if result:
        data = find(card, "data", "name") or NOT_RECORDED
        result = {
            "task": {"type": front["pipeline_tag"]},
            "dataset": {"name": data, "type": data, "split": result["split"]},
            "metrics": result["metrics"],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
    return front


def _name_licence(licence):
    known = (licence or "unknown").lower()
    if known in (*HUB_LICENCES, "unknown"):
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", known).strip("-")}


def _tell_pictures(card):
    """Tell what the Hub asks of a model of pictures; metrics are by patient where there are any."""
    modality, test = find(card, "data", "modality"), find(card, "metrics", "test")
    front = {
        "library_name": "keras",
        "tags": ["breast-cancer", "medical-imaging", *([modality] if modality else []), "bcnet"],
        "pipeline_tag": "image-classification",
    }
    if not test:
        return front, None
    unit = "patient" if test.get("patient") else "image"
    told = f"by {'patient' if unit == 'patient' else 'picture'}"
    return front, {"split": "test", "metrics": _list_metrics(test.get(unit) or {}, told)}


def _tell_measurements(card):
    """Tell what the Hub asks of a model of measurements; metrics are by the folds' thresholds."""
    nested = find(card, "metrics", "nested")
    front = {
        "library_name": "sklearn",
        "tags": ["breast-cancer", "sklearn", "skops", "tabular-classification", "bcnet"],
        "pipeline_tag": "tabular-classification",
    }
    if not nested:
        return front, None
    metrics = _list_metrics({**nested["metrics"], **nested["locked"]}, NESTED)
    return front, {"split": NESTED, "metrics": metrics}


def _list_metrics(measured, told):
    return [
        {
            "type": HUB_METRICS.get(name, name),
            "name": f"{tell_metric(name)}, {told}",
            "value": round(estimate["value"], 4),
        }
        for name, estimate in measured.items()
        if estimate["value"] is not None
    ]


def write_yaml(value: dict | list, indent: str = "") -> str:
    """Write dictionaries and lists as YAML, with every text in quotes.

    So that "no", "1e3" or a colon in a data set's name stay what they are. Characters that YAML
    does not allow are dropped.

    Args:
        value: of texts, numbers, and of dictionaries and lists; keys are plain words.
        indent: what each line begins with.

    Returns:
        The lines.

    Example:
        >>> print(write_yaml({"tags": ["a: b"], "value": 0.5}), end="")
        tags:
          - "a: b"
        value: 0.5
    """
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    return "".join(_write_item(name, item, indent) for name, item in items)


def _write_item(name, item, indent):
    mark = "-" if name is None else f"{name}:"
    if not (isinstance(item, dict | list) and item):
        return f"{indent}{mark} {_quote(item)}\n"
    lines = write_yaml(item, indent + "  ")
    # An entry of a list begins on the line of its dash.
    return f"{indent}{mark} {lines.lstrip()}" if name is None else f"{indent}{mark}\n{lines}"


def _quote(value):
    """Write a text, a number or an empty list as JSON, which YAML takes as it is."""
    if isinstance(value, str):
        value = "".join(each for each in " ".join(value.split()) if each.isprintable())
    return json.dumps(value, ensure_ascii=False)
