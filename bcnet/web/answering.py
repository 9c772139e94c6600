"""The queue before the networks: pictures that wait are answered in one compiled call.

Belongs here: one thread that owns TensorFlow's work, so that requests do not fight over the cores.
Decoding pictures and storing answers do not.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLong
from itertools import islice
from threading import Condition, Thread
from typing import NamedTuple

import numpy as np
import pandas as pd

from bcnet.classifier import Classifier
from bcnet.config import CLASS_NAMES, HEATMAP_METHODS
from bcnet.explain.cases import locate_index
from bcnet.explain.faithfulness import Verdict
from bcnet.explain.heatmaps import BATCH_SIZE

# Sixteen users with twenty pictures each; more would wait longer than a browser does.
MOST_WAITING = 320

# Seconds after which a request gives up; the slow methods need some for twenty pictures.
PATIENCE = 100

# Neighbours shown; their labels are told at a glance.
SIMILAR_CASES = 5


class BusyError(RuntimeError):
    """Too many pictures are waiting; to be tried again later."""


class Answer(NamedTuple):
    """What a network says of one picture.

    Attributes:
        probability: of malignant.
        label: the class's name.
        status: "ok", "refer" or "unlike training data" (see `Classifier.predict`).
        heatmap: float32 `(h, w)` at the size that the network sees, 0–1.
        verdict: whether the map can be trusted.
        similar: table of `Classifier.similar_cases`; None where not asked for or without index.
    """

    probability: float
    label: str
    status: str
    heatmap: np.ndarray
    verdict: Verdict
    similar: pd.DataFrame | None


class Question(NamedTuple):
    """What is asked about each picture; the pictures of equal questions are answered together.

    Attributes:
        model: the classifier's name.
        classifier: the network with its card.
        method: of the heatmap, one of `HEATMAP_METHODS`.
        class_name: whose evidence the heatmap shows.
        similar: also look for similar cases.
    """

    model: str
    classifier: Classifier
    method: str = HEATMAP_METHODS[0]
    class_name: str = CLASS_NAMES[1]
    similar: bool = False


class AnswerQueue:
    """Pictures in, answers out, in the order of arrival and together where they are alike."""

    def __init__(self):
        self._waiting = deque()  # of (question, images, future)
        self._changed = Condition()
        self._is_open = True
        self._thread = Thread(target=self._work, name="bcnet-answers", daemon=True)
        self._thread.start()

    def ask(self, question: Question, images: Sequence[np.ndarray]) -> list[Answer]:
        """Wait for the answers about some pictures.

        Args:
            question: what is asked.
            images: uint8 `(h, w, 3)` at the size that the network sees.

        Raises:
            BusyError: when too many pictures wait already, or the answer takes too long.
        """
        if not images:
            return []
        future = self._add(question, images)
        try:
            return future.result(timeout=PATIENCE)
        except WaitedTooLong:
            future.cancel()
            raise BusyError(f"no answer within {PATIENCE} seconds") from None

    def count_waiting(self) -> int:
        """Count the pictures that wait."""
        with self._changed:
            return self._count()

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()

    def _count(self):
        return sum(len(images) for _, images, _ in self._waiting)

    def _add(self, question, images):
        future = Future()
        with self._changed:
            waiting = self._count()
            if not self._is_open or waiting + len(images) > MOST_WAITING:
                raise BusyError(f"{waiting} pictures are waiting")
            self._waiting.append((question, list(images), future))
            self._changed.notify()
        return future

    def _work(self):
        while (taken := self._take()) is not None:
            if taken:
                _settle(taken)

    def _take(self):
        """Take the oldest question and those alike, as many as one call of the network holds."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._is_open)
            if not self._waiting:
                return None
            first, _, _ = self._waiting[0]
            taken, left, count = [], deque(), 0
            for question, images, future in self._waiting:
                fits = not taken or count + len(images) <= BATCH_SIZE
                if question != first or not fits:
                    left.append((question, images, future))
                elif future.set_running_or_notify_cancel():  # else its asker has given up
                    taken.append((question, images, future))
                    count += len(images)
            self._waiting = left
            return taken


def _settle(taken):
    """Answer alike questions in one go, and give each asker his part, or the error."""
    try:
        question = taken[0][0]
        answers = iter(answer_images(question, [image for _, part, _ in taken for image in part]))
        for _, images, future in taken:
            future.set_result(list(islice(answers, len(images))))
    except Exception as error:  # theirs who asked: the thread goes on for the others
        for _, _, future in taken:
            future.set_exception(error)


def answer_images(question: Question, images: Sequence[np.ndarray]) -> list[Answer]:
    """Ask the network, here and now.

    Args:
        question: what is asked.
        images: uint8 `(h, w, 3)`; any size, though that which the network sees costs least.

    Returns:
        One answer each; probability, label and status are those of `Classifier.predict`.
    """
    classifier = question.classifier
    table = classifier.predict(images)
    explained = classifier.explain_each(
        images, method=question.method, class_name=question.class_name
    )
    return [
        Answer(
            probability=float(row.probability),
            label=row.label,
            status=row.status,
            heatmap=each.heatmap,
            verdict=each.verdict,
            similar=_find_similar(question, image),
        )
        for row, each, image in zip(table.itertuples(), explained, images, strict=True)
    ]


def _find_similar(question, image):
    classifier = question.classifier
    if not question.similar or not locate_index(classifier.path).is_file():
        return None
    return classifier.similar_cases(image, SIMILAR_CASES)


def warm_up(queue: AnswerQueue, classifiers: dict[str, Classifier]) -> None:
    """Have each network compiled before the first user waits for it.

    Args:
        queue: asked with a grey picture, whose answer is thrown away.
        classifiers: the networks, by name.
    """
    for name, classifier in classifiers.items():
        grey = np.full((*classifier.image_size, 3), 128, np.uint8)
        queue.ask(Question(name, classifier, similar=True), [grey])
