"""What is seen of each picture in one pass of the network: for its card, its gate, its cases.

Belongs here: running a model over pictures, decoded or streamed from a table. Does not: what
becomes of the numbers (`promises`, `cases`).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from bcnet.classifier import Classifier
from bcnet.data.pipeline import stream_samples
from bcnet.evaluate.gate import describe_colours
from bcnet.explain.graph import compile_answers
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import Pictures, list_samples, require_readable

LABEL = "looking at pictures"


class Views(NamedTuple):
    """What is seen of pictures, row by row.

    Attributes:
        probability: float32 `(n,)`, of malignant.
        features: float32 `(n, d)`, what the last layer sees (`bcnet.explain.graph`).
        colours: float32 `(n, 10)`, as `describe_colours` gives them.
    """

    probability: np.ndarray
    features: np.ndarray
    colours: np.ndarray

    def take(self, rows: np.ndarray) -> "Views":
        """Take some of the rows, by position or by truth."""
        return Views(*(values[rows] for values in self))


def view_part(
    classifier: Classifier, pictures: Pictures, part: str, *, progress: bool = False
) -> Views:
    """View the decoded pictures of one part, in their order, without copying them all.

    Args:
        classifier: the model.
        pictures: decoded at its image size.
        part: "train", "validation" or "test"; it holds a picture.
        progress: show a bar.
    """
    rows, size = pictures.rows_in(part), classifier.batch_size
    with make_bar(len(rows), LABEL, shown=progress) as bar:

        def take():
            for start in range(0, len(rows), size):
                yield pictures.images[rows[start : start + size]]
                bar.update(min(size, len(rows) - start))

        return _view(classifier, take())


def stream_views(
    classifier: Classifier, table: pd.DataFrame, *, progress: bool = False
) -> tuple[pd.DataFrame, Views]:
    """View the pictures of a table at constant memory; unreadable ones are named and left out.

    Args:
        classifier: the model.
        table: a manifest's table.
        progress: show a bar.

    Returns:
        The rows that were read, numbered anew, with the further column `hash`; and their views.

    Raises:
        ValueError: when not one picture can be read.
    """
    words = []
    with make_bar(len(table), LABEL, shown=progress) as bar:

        def read():
            samples, size = list_samples(table), classifier.image_size
            for batch in stream_samples(samples, size, batch_size=classifier.batch_size):
                words.append([batch.hashes, batch.reasons])
                yield batch.images
                bar.update(len(batch.images))

        views = _view(classifier, read())
    hashes, reasons = np.concatenate(words, axis=1)
    require_readable(table, reasons)
    is_read = reasons == ""
    return table.assign(hash=hashes)[is_read].reset_index(drop=True), views.take(is_read)


def _view(classifier: Classifier, batches: Iterable[np.ndarray]) -> Views:
    compute = compile_answers(classifier.model)
    parts = []
    for images in batches:
        predictions, features = compute(images)
        parts.append(Views(predictions.numpy()[:, 0], features.numpy(), describe_colours(images)))
    return Views(*map(np.concatenate, zip(*parts, strict=True)))
