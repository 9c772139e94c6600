"""What the Hugging Face Hub reads before a model card: licence, tags and results, as YAML.

Its words are in https://huggingface.co/docs/hub/model-cards. Does not belong here: the card itself.
"""

import json
import re

from bcnet.workflows.card_text import NOT_RECORDED, find

# Licences by the names the Hub knows; any other is "other" there, with its own name beside.
HUB_LICENCES = ("mit", "apache-2.0", "bsd-3-clause", "gpl-3.0", "cc0-1.0", "cc-by-4.0")
HUB_LICENCES += ("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")

# Our metrics by the Hub's names, as far as it has them.
HUB_METRICS = {"auc": "roc_auc", "average_precision": "average_precision"}


def make_front_matter(card: dict, name: str, licence: str | None = None) -> dict:
    """Make what the Hugging Face Hub reads of a card: licence, tags, and the results of the test.

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
    modality = find(card, "data", "modality")
    tags = ["breast-cancer", "medical-imaging", *([modality] if modality else []), "bcnet"]
    front = {**_name_licence(licence), "library_name": "keras", "tags": tags}
    front["pipeline_tag"] = "image-classification"
    test = find(card, "metrics", "test")
    if test:
        front["model-index"] = [{"name": name, "results": [_make_result(card, test)]}]
    return front


def _name_licence(licence):
    known = (licence or "unknown").lower()
    if known in (*HUB_LICENCES, "unknown"):
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", known).strip("-")}


def _make_result(card, test):
    """Make one result of the Hub's model index: its metrics are by patient where there are any."""
    data = find(card, "data", "name") or NOT_RECORDED
    unit = "patient" if test.get("patient") else "image"
    measured = test.get(unit) or {}
    metrics = [
        {
            "type": HUB_METRICS.get(name, name),
            "name": f"{name.replace('_', ' ')}, by {'patient' if unit == 'patient' else 'picture'}",
            "value": round(estimate["value"], 4),
        }
        for name, estimate in measured.items()
        if estimate["value"] is not None
    ]
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": data, "type": data, "split": "test"},
        "metrics": metrics,
    }


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
