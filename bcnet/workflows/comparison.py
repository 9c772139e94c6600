"""Compare two saved models on pictures that neither has seen."""

import os

import numpy as np
import pandas as pd

from bcnet.classifier import Classifier, settle_precision
from bcnet.data.manifest import Manifest, read_sample
from bcnet.evaluate.baselines import count_colours, fit_colours
from bcnet.evaluate.comparison import compare as judge
from bcnet.evaluate.comparison import measure_alone
from bcnet.evaluate.paired import Bootstrap
from bcnet.workflows.ancestry import SeenInTraining, count_seen, find_parts, tell_seen
from bcnet.workflows.evaluation import NOT_A_TEST, score_table, select_part, settle_part
from bcnet.workflows.samples import list_patients, list_samples, take_table

# Pictures that the colours-only baseline is fitted on at most: 48 numbers need no more.
MOST_TRAINING = 5000


def compare(
    classifiers: tuple[Classifier, Classifier],
    manifest: Manifest,
    *,
    split: str | os.PathLike | None = None,
    allow_seen: bool = False,
    precision: str = "float32",
    progress: bool = False,
) -> dict:
    """Compare two models, each at its own threshold, and set two baselines beside them.

    What is the test is told by `split`, else by the data's own split, else by the card of the
    first model that knows some of the pictures; where none does, all are judged as "external".
    The baselines know what the first model was trained on: the share of malignant pictures, and
    the colours of those of its training pictures that are in the data.

    Args:
        classifiers: A and B.
        manifest: the pictures, best with those that A was trained on.
        split: CSV as `bcnet split` writes it.
        allow_seen: compare on a test of which a model has seen some, as part "not a test".
        precision: of both networks; float32 unless asked for.
        progress: show a bar.

    Returns:
        What `bcnet.evaluate.comparison.compare` gives, with `part`, `precision`, `data`, `models`
        (a dict of `path`, `data`, `threshold` and `seen` of each, the latter the number of the
        pictures that each step has touched), `n_images`, `unreadable`, `baselines` ("majority
        class" and "colours only", as `measure_alone` gives them; the latter None without training
        pictures) and `n_colours`, the number of pictures that the latter was fitted on.

    Raises:
        SeenInTraining: when a picture or patient of the test has trained or tuned either model,
            unless `allow_seen`.
        ValueError: when the part has no readable pictures, or one class only.
    """
    table = take_table(manifest, split)
    first, second = classifiers
    scored, unreadable = score_table(first, table, precision, progress)
    table, part = _choose_test(scored, [each.card for each in classifiers])
    seen = _count_seen(classifiers, table, allow_seen)
    other, _ = score_table(second, table, precision, progress)
    bootstrap = Bootstrap(table["label"], list_patients(table))
    training = _take_training(first.card, scored)
    return {
        "part": NOT_A_TEST if any(seen) else part,
        "precision": settle_precision(precision),
        "data": manifest.info.name,
        "models": [
            _name_model(each) | {"seen": counts}
            for each, counts in zip(classifiers, seen, strict=True)
        ],
        "n_images": len(table),
        "unreadable": unreadable,
        **judge(
            table["probability"],
            other["probability"],
            bootstrap,
            thresholds=(first.threshold, second.threshold),
        ),
        "baselines": {
            "majority class": measure_alone(_repeat_share(first.card, len(table)), bootstrap),
            "colours only": _judge_colours(training, table, bootstrap),
        },
        "n_colours": len(training),
    }


def _choose_test(table, cards):
    if table["split"].notna().any():
        return select_part(table, "test"), "test"
    for card in cards:
        chosen, part = settle_part(card, table, "test")
        if part == "test":
            return chosen, part
    return table, "external"


def _count_seen(classifiers, table, allow_seen):
    """Count for each model what it has seen of the pictures; refuse that unless it is allowed."""
    seen = [count_seen(find_parts(each.card, table)) for each in classifiers]
    for classifier, counts in zip(classifiers, seen, strict=True):
        if counts and not allow_seen:
            raise SeenInTraining(
                f"{classifier.path}: {tell_seen(counts, len(table))}. Compare on patients that "
                "neither model has seen, or see what comes of it with --allow-seen"
            )
    return seen


def _name_model(classifier):
    card = classifier.card
    return {
        "path": classifier.path,
        "data": card["data"]["name"],
        "threshold": classifier.threshold,
    }


def _repeat_share(card, count):
    samples = card["samples"]["train"]
    return np.full(count, samples["n_malignant"] / samples["n_images"])


def _take_training(card, table):
    """The pictures that trained the model, or as many of them, evenly spread, as are enough."""
    rows = table[find_parts(card, table) == "train"]
    if len(set(rows["label"])) < 2:
        return rows.iloc[:0]
    spread = np.linspace(0, len(rows) - 1, min(len(rows), MOST_TRAINING)).astype(int)
    return rows.iloc[spread]


def _judge_colours(training, table, bootstrap):
    if training.empty:
        return None
    predict = fit_colours(_read_colours(training), training["label"])
    return measure_alone(predict(_read_colours(table)), bootstrap)


def _read_colours(table: pd.DataFrame) -> np.ndarray:
    return np.stack([count_colours(read_sample(*sample)) for sample in list_samples(table)])
