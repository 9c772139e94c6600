"""The page that takes pictures and shows what a network says of them, and why.

Belongs here: the form, and the answers as the page shows them. Asking and keeping do not.
"""

from flask import Blueprint, g, render_template, request

from bcnet.config import CLASS_NAMES, HEATMAP_METHODS
from bcnet.web.answering import Question
from bcnet.web.cases import answer_pictures, choose_status
from bcnet.web.fields import choose
from bcnet.web.services import get_services
from bcnet.web.uploads import embed, paint_map

views = Blueprint("pictures", __name__)


@views.app_context_processor
def _name_choices():
    return {"methods": HEATMAP_METHODS, "class_names": CLASS_NAMES}


@views.get("/")
def show_form():
    """Show the form that pictures are sent with."""
    return render_template("pictures.html", models=get_services().models.pictures)


@views.post("/")
def show_answers():
    """Answer the pictures sent, each with its evidence; nothing of them stays on the server."""
    services = get_services()
    question = read_question(request.form, services.models.pictures)
    question = question._replace(similar=True)
    cases = answer_pictures(services, request.files.getlist("file"), question, owner=g.user)
    shown = [(case, _illustrate(case)) for case in cases]
    page = render_template(
        "answers.html", shown=shown, question=question, models=services.models.pictures
    )
    return page, choose_status(cases)


def read_question(form, classifiers: dict) -> Question:
    """Read which model, method and class a form asks for; what it leaves out is as usual.

    Args:
        form: with the fields `model`, `method` and `class`, or without.
        classifiers: the loaded ones by name.

    Raises:
        Refusal: 422 for a choice that is not offered.
    """
    name = choose(form, "model", list(classifiers))
    method = choose(form, "method", HEATMAP_METHODS)
    class_name = choose(form, "class", CLASS_NAMES[::-1])
    return Question(name, classifiers[name], method, class_name)


def _illustrate(case):
    """Give the pictures of a case as `data:` addresses: the picture, the map over it, the map."""
    if case.answer is None:
        return {}
    shown, heatmap = case.picture.shown, case.answer.heatmap
    size = shown.shape[:2]
    return {
        "picture": embed(shown),
        "overlay": embed(paint_map(heatmap, size)),
        "map": embed(paint_map(heatmap, size, bare=True)),
        "height": size[0],
        "width": size[1],
    }
