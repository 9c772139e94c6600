"""The page that takes thirty measurements and shows what a model says of them, and why.

Belongs here: the form, its examples, and answers as the page shows them. Reading pasted text
(`pasted`), drawing (`waterfall`) and keeping (`measured`) do not.
"""

from functools import cache

import numpy as np
import pandas as pd
from flask import Blueprint, g, render_template, request
from scipy.special import expit, logit

from bcnet.data.measurement_cells import read_values
from bcnet.data.measurements import FEATURES, MEASUREMENTS
from bcnet.data.quantities import STATISTICS
from bcnet.data.wisconsin import load_wisconsin
from bcnet.web.fields import choose, read_text
from bcnet.web.measured import answer_rows
from bcnet.web.pasted import decode, read_cell, read_lines
from bcnet.web.services import get_services
from bcnet.web.waterfall import Part, draw_waterfall

views = Blueprint("measurements", __name__)

# Made-up patients: this share of the way from the benign patients' medians to the malignant ones'.
EXAMPLES = {"typical benign": 0.0, "in between": 0.5, "typical malignant": 1.0}

GROUPS = {
    "mean": "Mean of all nuclei",
    "error": "Standard error of that mean",
    "worst": "Worst: mean of the three largest",
}

# Longer text in a field is no number.
LONGEST_NUMBER = 40


@views.app_context_processor
def _describe_fields():
    fields = {
        GROUPS[statistic]: [each for each in MEASUREMENTS.values() if each.statistic == statistic]
        for statistic in STATISTICS
    }
    return {"fields": fields, "examples": list(EXAMPLES)}


@views.get("/measurements")
def show_form():
    """Show the form, empty or with an example's values."""
    example = choose(request.args, "example", ["", *EXAMPLES])
    return _render(make_examples()[example] if example else {}, example=example)


@views.post("/measurements")
def show_answer():
    """Answer one patient's fields, and keep the answer."""
    return _answer_fields(keep=True)


@views.post("/measurements/try")
def try_out():
    """Answer what would be, which is nobody's case and is not kept."""
    return _answer_fields(keep=False)


@views.post("/measurements/table")
def show_answers():
    """Answer the lines that were pasted or uploaded; a single one as if typed into the fields."""
    file = request.files.get("file")
    text = decode(file.read()) if file else request.form.get("text", "")
    rows = read_lines(text)
    if len(rows) == 1:
        return _answer_row(rows[0], keep=True)
    name, _ = _choose_model()
    table = answer_rows(get_services(), rows, model=name, owner=g.user)
    told = table.astype(object).where(table.notna(), None)  # NaN would count as true
    return _render({}, rows=told.to_dict("records"), name=name)


@cache
def make_examples() -> dict[str, dict[str, str]]:
    """Make three patients who never were, of the Wisconsin patients' medians.

    Returns:
        By name, the thirty values as they stand in the fields, with four digits.

    Example:
        >>> make_examples()["typical benign"]["mean radius"]
        '12.2'
    """
    medians = load_wisconsin().groupby("label")[list(FEATURES)].median()
    way = medians.loc[1] - medians.loc[0]
    return {
        name: {each: f"{value:.4g}" for each, value in (medians.loc[0] + share * way).items()}
        for name, share in EXAMPLES.items()
    }


def tell_changes(changes: pd.DataFrame) -> list[str]:
    """Tell in sentences which smallest changes would turn an answer.

    Args:
        changes: of `MeasurementModel.what_if`.

    Returns:
        One sentence for each change, none where there is none.

    Example:
        >>> one = {"change": 1, "measurement": "worst area", "unit": "px²", "from": 900.0}
        >>> table = pd.DataFrame([one | {"to": 700.0, "size": 0.35, "label": "benign"}])
        >>> tell_changes(table)
        ['Benign, if worst area were 700 px² instead of 900 px² (0.35 standard deviations).']
    """
    return [_tell_change(parts.to_dict("records")) for _, parts in changes.groupby("change")]


def _tell_change(parts):
    told = " and ".join(
        f"{part['measurement']} were {_tell_value(part['to'], part['unit'])} instead of "
        f"{_tell_value(part['from'], part['unit'])}"
        for part in parts
    )
    label, size = parts[0]["label"].capitalize(), parts[0]["size"]
    return f"{label}, if {told} ({size:.2g} standard deviations)."


def _answer_fields(*, keep):
    typed = {name: read_text(request.form, name, LONGEST_NUMBER) for name in FEATURES}
    return _answer_row({name: read_cell(text) for name, text in typed.items()}, keep=keep)


def _answer_row(row, *, keep):
    name, model = _choose_model()
    values, faults = read_values(pd.DataFrame([row]))
    if faults:
        return _render(row, fault=f"{faults[0]}.", name=name), 422
    patient = {
        feature: None if np.isnan(value) else float(value)
        for feature, value in zip(FEATURES, values[0], strict=True)
    }
    if keep:
        table = answer_rows(get_services(), [patient], model=name, owner=g.user)
    else:
        table = model.predict(patient)
    shown = {"answer": table.iloc[0].to_dict(), "why": _explain(model, patient)}
    if request.form.get("changes"):
        shown["changes"] = tell_changes(model.what_if(patient))
    return _render(patient, name=name, model=model, **shown)


def _explain(model, patient):
    """Say what each measurement contributes: all of them, and the drawing."""
    found = model.explain(patient)
    steps = found.table.iloc[0]
    parts = [
        Part(each.name, _tell_value(patient[each.name], each.unit), float(steps[each.name]))
        for each in MEASUREMENTS.values()
    ]
    parts.sort(key=lambda part: -abs(part.step))
    return {
        "parts": parts,
        "drawn": draw_waterfall(parts, base=found.base, cut=float(logit(model.threshold))),
        "base": float(expit(found.base)),
    }


def _tell_value(value, unit):
    return "missing" if value is None else f"{value:.4g} {unit}".strip()


def _choose_model():
    models = get_services().models.measurements
    name = choose(request.form, "model", list(models))
    return name, models[name]


def _render(values, **shown):
    """Render the page, or of an answer only the part that a script puts into it."""
    is_part = request.form.get("part") == "answer"
    return render_template(
        "_measured.html" if is_part else "measurements.html",
        values={name: _write(value) for name, value in values.items()},
        models=get_services().models.measurements,
        **shown,
    )


def _write(value):
    """Write a value as it stands in a field."""
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else value
