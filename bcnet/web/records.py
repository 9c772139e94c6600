"""The history's pages: what was answered, what it turned out to be, and how good that was.

Belongs here: search, a page per case, outcomes, notes, export and deletion. The database does not.
"""

import csv
from datetime import datetime, timedelta
from io import StringIO

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    g,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)

from bcnet.config import CLASS_NAMES
from bcnet.evaluate.metrics import format_estimate
from bcnet.web.errors import Refusal
from bcnet.web.fields import choose, read_page, read_text
from bcnet.web.keeping import remove_pictures
from bcnet.web.services import get_services

views = Blueprint("records", __name__)

PAGE_SIZE = 50

# What is searched by, as the history and the forms call it: one of some words, or any text.
CHOICES = {
    "label": ("", *CLASS_NAMES),
    "kind": ("", "picture", "measurements"),
    "outcome": ("", *CLASS_NAMES, "unknown", "known"),
}
TEXTS = ("model", "status", "batch", "text")
FIELDS = (*CHOICES, *TEXTS, "since", "until")

NOTE_LENGTH = 2000

# A spreadsheet takes a cell that begins so for a formula, also after blanks.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@views.app_template_filter("estimate")
def _format_estimate(estimate):
    """Format an estimate of `History.summarise`, which is a text where there are too few."""
    return estimate if isinstance(estimate, str) else format_estimate(estimate)


@views.get("/history")
def show_history():
    """Show the answers of this user, newest first, and how good they have been."""
    filters, history = read_filters(request.args), get_services().history
    number = read_page(request.args)
    page = history.search(owner=g.user, page=number, size=PAGE_SIZE, **filters)
    given = {name: request.args[name] for name in FIELDS if request.args.get(name)}
    return render_template(
        "history.html",
        page=page,
        number=number,
        last=max(1, -(-page.total // PAGE_SIZE)),
        given=given,
        choices=CHOICES,
        summary=history.summarise(owner=g.user, **filters),
    )


@views.get("/history/<uuid:id>")
def show_case(id):
    """Show one answer with its outcome, its note and what was changed."""
    history = get_services().history
    row = find_case(id)
    return render_template("case.html", row=row, changes=history.audit(str(id), owner=g.user))


@views.get("/history/<uuid:id>/picture")
def show_picture(id):
    """Show a picture that the operator has chosen to keep, as it was encoded anew."""
    row = find_case(id)
    if not row["image"]:
        abort(404)
    folder = get_services().settings.image_folder.absolute()
    return send_file(folder / row["image"], mimetype="image/png")


@views.post("/history/<uuid:id>/outcome")
def set_outcome(id):
    """Enter what a case turned out to be."""
    enter_outcome(id, request.form.get("outcome") or None)
    flash("The outcome is entered.")
    return redirect(url_for("records.show_case", id=id))


@views.post("/history/<uuid:id>/note")
def set_note(id):
    """Write a note to a case."""
    find_case(id)
    note = read_text(request.form, "note", NOTE_LENGTH)
    get_services().history.set_note(str(id), note, owner=g.user)
    flash("The note is kept.")
    return redirect(url_for("records.show_case", id=id))


@views.post("/history/<uuid:id>/delete")
def delete_case(id):
    """Delete one case, and its picture if there is one."""
    find_case(id)
    services = get_services()
    deleted = services.history.delete([str(id)], owner=g.user)
    remove_pictures(services.settings.image_folder, deleted.images)
    flash("The case is deleted.")
    return redirect(url_for("records.show_history"))


@views.post("/history/delete-all")
def delete_all():
    """Delete all cases of this user, once he has typed that he means it."""
    if request.form.get("confirm") != "delete":
        raise Refusal(422, "Type the word delete to confirm.")
    services = get_services()
    deleted = services.history.delete_all(owner=g.user)
    remove_pictures(services.settings.image_folder, deleted.images)
    flash(f"{deleted.count:,} cases are deleted.")
    return redirect(url_for("records.show_history"))


@views.get("/history.csv")
def export():
    """Give the answers found as a CSV file, row by row however many they are."""
    rows = get_services().history.export(owner=g.user, **read_filters(request.args))
    headers = {"Content-Disposition": 'attachment; filename="bcnet-history.csv"'}
    return Response(write_csv(rows), mimetype="text/csv", headers=headers)


COLUMNS = (
    "id",
    "time",
    "kind",
    "model",
    "probability",
    "threshold",
    "label",
    "status",
    "outcome",
    "note",
    "name",
)


def write_csv(rows):
    """Write rows as CSV, line by line, with no cell that a spreadsheet would compute.

    Args:
        rows: of `History.export`.

    Yields:
        Lines of text.
    """
    yield _write_line(COLUMNS)
    for row in rows:
        yield _write_line([guard_cell(row[name]) for name in COLUMNS])


def guard_cell(value):
    """Disarm text that a spreadsheet would take for a formula, by an apostrophe before it.

    Example:
        >>> guard_cell("=1+1"), guard_cell("benign"), guard_cell(-0.5)
        ("'=1+1", 'benign', -0.5)
    """
    is_formula = isinstance(value, str) and value.lstrip(" ").startswith(FORMULA)
    return f"'{value}" if is_formula else value


def read_filters(arguments) -> dict:
    """Read what is searched by; what is empty is not.

    Args:
        arguments: of a request, or any mapping: those of `CHOICES` and `TEXTS`, `since` and `until`
            (YYYY-MM-DD, the latter included).

    Raises:
        Refusal: 422 for a word or a date that is none.
    """
    filters = {name: choose(arguments, name, words) for name, words in CHOICES.items()}
    filters |= {name: read_text(arguments, name) for name in TEXTS}
    filters["since"] = _read_date(arguments, "since")
    filters["until"] = _read_date(arguments, "until", days=1)  # its whole day is included
    return {name: value for name, value in filters.items() if value}


def find_case(id) -> dict:
    """Find one answer of the user who asks.

    Raises:
        NotFound: when he has none of this id, whoever else may.
    """
    row = get_services().history.get(str(id), g.user)
    return row or abort(404)


def enter_outcome(id, outcome: str | None) -> None:
    """Enter what a case of the user who asks turned out to be.

    Args:
        id: of the answer.
        outcome: a class's name, or None to take an entry back.

    Raises:
        NotFound: when he has no answer of this id.
        Refusal: 422 for another outcome.
    """
    if outcome not in (None, *CLASS_NAMES):
        raise Refusal(422, f"The field `outcome` must be {' or '.join(CLASS_NAMES)}, or empty.")
    try:
        get_services().history.set_outcome(str(id), outcome, owner=g.user)
    except LookupError:
        abort(404)


def _read_date(arguments, name, days=0):
    text = arguments.get(name)
    try:
        return text and datetime.fromisoformat(text).astimezone() + timedelta(days)
    except (ValueError, OverflowError):
        raise Refusal(422, f"The field `{name}` must be a date as 2026-01-31.") from None


def _write_line(cells):
    csv.writer(line := StringIO()).writerow(cells)
    return line.getvalue()
