"""One run of the benchmark of explanations: a network on one data set, all methods on its pictures.

Belongs here: who is judged by which network, what is measured of each map, and the distributions
that the thresholds of the verdicts were read from. Does not: the tables.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rounds import describe_machine

from bcnet.classifier import Classifier
from bcnet.config import Config
from bcnet.data.manifest import Manifest, read_manifest
from bcnet.data.simulate import simulate
from bcnet.data.split import fold_by_patient
from bcnet.evaluate.metrics import bound_mean
from bcnet.explain import measures, perturbation, sanity
from bcnet.explain.faithfulness import VERDICTS, find_background, judge_heatmaps
from bcnet.explain.heatmaps import METHODS
from bcnet.explain.randomise import find_block, find_head, randomise_layers
from bcnet.readers import read_image
from bcnet.workflows import train
from bcnet.workflows.ancestry import find_parts
from bcnet.workflows.samples import decode_table, list_patients

# Maps that know neither picture nor network.
BASELINES = {
    "random": measures.draw_random_maps,
    "centre_blob": measures.draw_centre_blobs,
}

# Where the distributions of `--thresholds` are read off.
QUANTILES = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)

# A cascade asks for many maps, and the slower methods make few in a second: per network, the first.
CASCADE_PICTURES, TIMED_PICTURES = 16, 8

MALIGNANT = 1


class Judged(NamedTuple):
    """Pictures of patients whom a network has not seen.

    Attributes:
        classifier: the network with its card.
        images: uint8 `(n, height, width, 3)` at the network's own size.
        masks: bool `(n, height, width)`, what the picture is about: nuclei or lesion.
        background: bool `(n, height, width)`.
        labels: `(n,)`.
        patients: `(n,)` keys.
    """

    classifier: Classifier
    images: np.ndarray
    masks: np.ndarray
    background: np.ndarray
    labels: np.ndarray
    patients: np.ndarray

    def take(self, rows: np.ndarray) -> "Judged":
        """Take some of the pictures."""
        return Judged(self.classifier, *(each[rows] for each in self[1:]))


def measure_methods(settings: dict, scratch: str) -> dict:
    """Measure every method on the malignant pictures of one data set, explained for malignant.

    Args:
        settings: as for `list_judged`, with `methods`, names; `pictures`, how many at most.
        scratch: folder for the built-in pictures and for models that are not to be kept.

    Returns:
        `rows`: by method or baseline a dictionary of measures, each as `bound_mean` gives it,
        `verdicts`, shares by word, and `seconds` and `verdict_seconds` per picture. Besides
        `n_images`, `n_patients`, `auc` of the networks on all pictures judged, and `machine`.
    """
    parts = list(list_judged(settings, scratch))
    chosen = choose_malignant([part.labels for part in parts], settings["pictures"])
    picked = [part.take(rows) for part, rows in zip(parts, chosen, strict=True)]
    keys = [part.patients for part in picked]
    rows = {
        method: summarise([measure_method(method, part) for part in picked], keys)
        for method in (*settings["methods"], *BASELINES)
    }
    patients = np.concatenate(keys)
    chance = np.concatenate([part.masks.mean(axis=(1, 2)) for part in picked])
    return {
        "rows": rows,
        "chance": bound_mean(chance, patients=patients),
        "n_images": len(patients),
        "n_patients": len(set(patients)),
        "auc": [part.classifier.card["metrics"]["test"]["image"]["auc"] for part in parts],
        "machine": describe_machine(),
    }


def list_judged(settings: dict, scratch: str) -> Iterator[Judged]:
    """List networks with the pictures of their test patients; train those that are not there.

    Args:
        settings: `data`, a folder, or None for the built-in pictures; `masks`, a folder of equal
            names, or None for `masks` in the data; `folds`, networks that share the patients
            between them, or 1 for one network and its test part; `patients`, how many to draw of
            the built-in ones, or None; `config`, fields of `Config`; `models`, the beginning of
            the model files' names, or None to keep none.
        scratch: as for `measure_methods`.
    """
    folder = settings["data"] or simulate(Path(scratch, "data"), patients=settings["patients"])
    masks = Path(settings["masks"] or Path(folder, "masks"))
    manifest = read_manifest(folder)
    for fold in range(settings["folds"]):
        file = Path(f"{settings['models'] or Path(scratch, 'model')}-{fold}.keras")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            config = Config(**settings["config"])
            train(hold_out(manifest, fold, settings["folds"]), file, config)
        yield open_judged(file, manifest, masks)


def hold_out(manifest: Manifest, fold: int, folds: int) -> Manifest:
    """Make one fold of the patients the test part; with one fold, leave that to `train`."""
    if folds == 1:
        return manifest
    table = fold_by_patient(manifest.table, folds=folds, seed=0)
    parts = np.where(table["fold"] == fold, "test", "train")
    return replace(manifest, table=table.assign(split=parts))


def open_judged(file: Path, manifest: Manifest, masks: Path) -> Judged:
    """Open a model with the pictures that its card names as its test, and their masks."""
    classifier = Classifier.load(file)
    pictures = decode_table(manifest.table, classifier.image_size)
    rows = np.flatnonzero(find_parts(classifier.card, pictures.table) == "test")
    if not len(rows):
        raise ValueError(f"{file} has no test patients among the pictures")
    images, table = pictures.images[rows], pictures.table.iloc[rows]
    return Judged(
        classifier,
        images,
        np.stack([read_mask(masks / Path(path).name, images.shape[1:3]) for path in table["path"]]),
        find_background(images, manifest.info.modality),
        table["label"].to_numpy(),
        list_patients(table),
    )


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a mask, and stretch it as the pipeline stretches its picture."""
    mask = read_image(path)[..., 0]
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA) > 127


def choose_malignant(labels: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Choose some malignant pictures by chance, spread over several parts.

    Args:
        labels: of each part, `(n,)`.
        count: how many to choose at most.

    Returns:
        Positions in each part, in order.

    Example:
        >>> [rows.tolist() for rows in choose_malignant([np.array([0, 1]), np.array([1])], 2)]
        [[1], [0]]
    """
    part, row = np.concatenate(
        [[(i, row) for row in np.flatnonzero(each == MALIGNANT)] for i, each in enumerate(labels)]
    ).T
    drawn = np.random.default_rng(0).permutation(len(part))[:count]
    return [np.sort(row[drawn][part[drawn] == i]) for i in range(len(labels))]


def measure_method(method: str, judged: Judged) -> dict:
    """Measure one method, or one baseline, on every picture.

    Returns:
        Arrays `(n,)` by measure, `words` of the verdicts, and seconds per picture; a baseline has
        only those that need no network to be asked for maps.
    """
    images, model = judged.images, judged.classifier.model
    if method in BASELINES:
        heatmaps = BASELINES[method](len(images), images.shape[1:3])
        return measure_maps(heatmaps, judged)
    explain = METHODS[method]
    heatmaps = explain(model, images)
    judge = partial(judge_heatmaps, method=method)
    verdicts = judge(model, images, heatmaps, background=judged.background)
    few = slice(0, CASCADE_PICTURES)
    cascade = sanity.trace_cascade(explain, model, images[few], heatmaps[few])
    timed = slice(0, TIMED_PICTURES)
    return {
        **measure_maps(heatmaps, judged),
        "stability": sanity.measure_stability(partial(explain, model), images, heatmaps),
        "cascade": cascade.mean(axis=1),
        "words": [verdict.word for verdict in verdicts],
        # all is compiled by now
        "seconds": time_picture(explain, model, images[timed]),
        "verdict_seconds": time_picture(judge, model, images[timed], heatmaps[timed]),
    }


def measure_maps(heatmaps: np.ndarray, judged: Judged) -> dict:
    """Measure how true maps are to the network, and how well they meet the masks."""
    score, images, masks = judged.classifier.predict_images, judged.images, judged.masks
    drop, increase = perturbation.measure_drop(score, images, heatmaps)
    return {
        "deletion": perturbation.measure_area(perturbation.trace_deletion(score, images, heatmaps)),
        "insertion": perturbation.measure_area(
            perturbation.trace_insertion(score, images, heatmaps)
        ),
        "drop": drop,
        "increase": increase.astype(float),
        "pointing": measures.point_at_mask(heatmaps, masks),
        "mass": measures.measure_mass(heatmaps, masks),
        "overlap": measures.find_best_overlap(heatmaps, masks),
    }


def time_picture(work: Callable, model, images: np.ndarray, *more) -> float:
    """Time some work on pictures; return the seconds per picture."""
    started = time.perf_counter()
    work(model, images, *more)
    return (time.perf_counter() - started) / len(images)


def summarise(parts: list[dict], patients: list[np.ndarray]) -> dict:
    """Average what was measured over all pictures, with intervals over patients.

    Args:
        parts: what `measure_method` gave for each network.
        patients: keys of the pictures of each network; a measure may be of the first ones only.

    Returns:
        A dictionary as JSON knows it.
    """
    row = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if name == "words":
            counts = Counter(word for words in values for word in words)
            row["verdicts"] = {word: counts[word] / counts.total() for word in VERDICTS}
        elif name.endswith("seconds"):
            row[name] = float(np.mean(values))
        else:
            keys = [each[: len(value)] for each, value in zip(patients, values, strict=True)]
            row[name] = bound_mean(np.concatenate(values), patients=np.concatenate(keys))
    return row


def describe_sound_maps(settings: dict, scratch: str) -> dict:
    """Describe what the verdicts look at, in Grad-CAM maps of a network and pictures unknown to it.

    Args:
        settings: as for `list_judged`.
        scratch: as for `measure_methods`.

    Returns:
        By question the values at `QUANTILES`, of the maps that are not blank; and `blank`, the
        share that is.
    """
    (judged,) = list_judged(settings, scratch)
    model, explain = judged.classifier.model, METHODS["grad_cam"]
    heatmaps = explain(model, judged.images)
    seen = heatmaps.max(axis=(1, 2)) > 0
    judged, heatmaps = judged.take(seen), heatmaps[seen]
    found = {
        "contrast": measures.measure_contrast(heatmaps),
        "border": measures.measure_border(heatmaps),
        "off-tissue": measures.measure_mass(heatmaps, judged.background),
        "stability": sanity.measure_stability(partial(explain, model), judged.images, heatmaps),
    }
    for name, layers in {"head": find_head(model), "block": find_block(model)}.items():
        ask = partial(explain, randomise_layers(model, layers))
        found[f"similarity, {name}"] = sanity.measure_similarity(ask, judged.images, heatmaps)
    quantiles = {name: np.quantile(values, QUANTILES).tolist() for name, values in found.items()}
    return {"blank": float(1 - seen.mean()), **quantiles}
