"""The way in for programs: JSON out, a bearer token instead of cookies.

Belongs here: requests and answers of `/api/v1/`, as `openapi` describes them. On an open server no
token is needed; Host and Origin are checked as everywhere.
"""

import math

from flask import Blueprint, g, jsonify, request

from bcnet.config import CLASS_NAMES
from bcnet.web.cases import answer_pictures, choose_status
from bcnet.web.errors import SENTENCES, Refusal
from bcnet.web.fields import choose, read_page
from bcnet.web.measured import answer_rows
from bcnet.web.openapi import describe_api
from bcnet.web.pictures import read_question
from bcnet.web.records import PAGE_SIZE, enter_outcome, find_case, read_filters
from bcnet.web.services import get_services

views = Blueprint("api", __name__, url_prefix="/api/v1")

DISCLAIMER = "For research and teaching. Not a diagnostic device."


@views.post("/predict")
def predict():
    """Answer pictures (multipart field `file`, repeated for several) or measurements (JSON)."""
    if request.mimetype == "multipart/form-data":
        return _answer_files()
    if request.is_json:
        return _answer_measurements()
    raise Refusal(415, "Send multipart/form-data with the field `file`, or application/json.")


@views.get("/history")
def list_history():
    """Give the answers of this user, newest first."""
    number = read_page(request.args)
    filters = read_filters(request.args)
    page = get_services().history.search(owner=g.user, page=number, size=PAGE_SIZE, **filters)
    return jsonify(total=page.total, page=number, results=[_describe_row(row) for row in page.rows])


@views.get("/history/<uuid:id>")
def show_case(id):
    """Give one answer."""
    return jsonify(_describe_row(find_case(id)))


@views.route("/outcomes/<uuid:id>", methods=["PUT", "POST"])
def set_outcome(id):
    """Enter what a case turned out to be, once or again; null takes it back."""
    outcome = _read_json().get("outcome", "")
    if outcome not in (None, *CLASS_NAMES):
        raise Refusal(422, f"`outcome` must be {' or '.join(CLASS_NAMES)}, or null.")
    enter_outcome(id, outcome)
    return jsonify(_describe_row(find_case(id)))


@views.get("/openapi.json")
def show_document():
    """Give the description of this interface, OpenAPI 3.1."""
    return jsonify(describe_api())


def _answer_files():
    services = get_services()
    question = read_question(request.form, services.models.pictures)
    cases = answer_pictures(services, request.files.getlist("file"), question, owner=g.user)
    results = [_describe_case(case) for case in cases]
    status = choose_status(cases)
    told = {} if status == 200 else {"error": SENTENCES[status]}
    return jsonify(_describe_answer(question.model, results) | told), status


def _answer_measurements():
    services, sent = get_services(), _read_json()
    model = choose(sent, "model", list(services.models.measurements))
    rows = sent.get("measurements")
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refusal(422, "`measurements` must be an object of values by name, or a list of them.")
    table = answer_rows(services, rows, model=model, owner=g.user)
    return jsonify(_describe_answer(model, [_describe_measured(row) for row in table.itertuples()]))


def _read_json():
    try:
        sent = request.get_json(silent=True)
    except RecursionError:  # brackets within brackets, by the ten thousand
        sent = None
    if not isinstance(sent, dict):
        raise Refusal(422, "The body must be a JSON object.")
    return sent


def _describe_answer(model, results):
    return {"model": model, "results": results, "notice": DISCLAIMER}


def _describe_case(case):
    answer = case.answer
    return {
        "id": case.id,
        "name": case.picture.name,
        "probability": answer and answer.probability,
        "label": answer and answer.label,
        "status": case.status,
        "verdict": answer and answer.verdict.word,
    }


def _describe_measured(row):
    is_read = not math.isnan(row.probability)
    return {
        "id": row.id if is_read else None,
        "name": f"row {row.row}",
        "probability": row.probability if is_read else None,
        "label": row.label if is_read else None,
        "status": row.status,
        "verdict": None,
    }


# Of a row of the history, what a program may see; the owner is who asks.
SHOWN = (
    "id",
    "kind",
    "batch",
    "model",
    "model_hash",
    "input_hash",
    "probability",
    "threshold",
    "label",
    "status",
    "verdicts",
    "outcome",
    "note",
    "name",
)


def _describe_row(row):
    return {name: row[name] for name in SHOWN} | {"time": row["time"].isoformat()}
