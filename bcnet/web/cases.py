"""From uploaded files to answered, stored cases: what page and API do alike.

Belongs here: the order of things – read, ask, keep. How a case is shown does not.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from werkzeug.datastructures import FileStorage

from bcnet.history import HistoryError
from bcnet.web.answering import Answer, Question
from bcnet.web.errors import Refusal
from bcnet.web.keeping import keep_picture, remove_pictures
from bcnet.web.services import Services
from bcnet.web.uploads import Picture, read_upload

MOST_FILES = 20


class Case(NamedTuple):
    """One picture and what became of it.

    Attributes:
        picture: as uploaded.
        answer: of the network; None where the picture could not be read.
        id: under which the answer is kept; None where there is none.
    """

    picture: Picture
    answer: Answer | None = None
    id: str | None = None

    @property
    def status(self) -> str:
        """The status, in the words of `Classifier.predict`."""
        return self.answer.status if self.answer else f"unreadable: {self.picture.reason}"


def answer_pictures(
    services: Services,
    files: Sequence[FileStorage],
    question: Question,
    *,
    owner: str | None,
) -> list[Case]:
    """Read, answer and keep the pictures of one request.

    Args:
        services: of the server.
        files: as Flask gives them; those that a browser sends for an empty field are passed over.
        question: what is asked.
        owner: the user, None on an open server.

    Returns:
        A case for each file, in their order.

    Raises:
        Refusal: without a file, or with too many.
    """
    files = [file for file in files if file.filename]
    if not files:
        raise Refusal(422, "Choose at least one picture (field `file`).")
    if len(files) > MOST_FILES:
        raise Refusal(413, f"At most {MOST_FILES} pictures at once. Received: {len(files)}.")
    keep = services.settings.keep_images
    size = question.classifier.image_size
    pictures = [read_upload(file, size, keep=keep) for file in files]
    read = [picture for picture in pictures if not picture.reason]
    answers = services.queue.ask(question, [picture.seen for picture in read])
    services.counts.add("bcnet_pictures_total", len(answers), model=question.model)
    about = {"owner": owner, "batch": str(uuid4())}
    rows = [
        _describe(services, question, picture, answer) | about
        for picture, answer in zip(read, answers, strict=True)
    ]
    stored = iter(zip(answers, _store(services, rows), strict=True))
    return [Case(each) if each.reason else Case(each, *next(stored)) for each in pictures]


def choose_status(cases: Sequence[Case]) -> int:
    """Choose the HTTP status: a failure only where not one picture could be answered.

    Returns:
        200; 415 where no file is a picture, 422 where those that are cannot be read.
    """
    if any(case.answer for case in cases):
        return 200
    return 422 if any(case.picture.is_picture for case in cases) else 415


def _store(services, rows):
    try:
        return services.history.add(rows)
    except HistoryError:
        names = [row["image"] for row in rows if "image" in row]
        remove_pictures(services.settings.image_folder, names)
        raise


def _describe(services, question, picture, answer):
    """Make the history's row of an answer; name and picture only where the operator keeps them."""
    row = {
        "kind": "picture",
        "model": question.model,
        "model_hash": services.models.hashes[question.model],
        "input_hash": picture.hash,
        "probability": answer.probability,
        "threshold": question.classifier.threshold,
        "label": answer.label,
        "status": answer.status,
        "verdicts": {
            "heatmap": answer.verdict.word,
            "value": round(float(answer.verdict.value), 4),
            "method": question.method,
            "class": question.class_name,
        },
    }
    if picture.kept is not None:
        row |= {
            "name": picture.name,
            "image": keep_picture(services.settings.image_folder, picture.kept),
        }
    return row
