"""Four ways to a result that is too good, each done on purpose, measured, and caught.

Belongs here: the demonstrations. Does not: what prevents these failures elsewhere (splits by
patient in `data.split`, pixels checked by `inputs`, hashes of what was seen in `ancestry`).
"""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from bcnet.classifier import Classifier
from bcnet.config import Config
from bcnet.data.manifest import Manifest, patients_known
from bcnet.data.split import fold_by_patient, sample_patients, split_by_patient
from bcnet.evaluate.comparison import compare
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.paired import MEASURES, Bootstrap, estimate
from bcnet.evaluate.thresholds import choose_threshold
from bcnet.inputs import list_inputs
from bcnet.workflows.ancestry import SeenInTraining
from bcnet.workflows.cross_validation import align, judge_folds
from bcnet.workflows.evaluation import settle_part
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.samples import (
    decode_table,
    describe_samples,
    list_patients,
    score_rows,
)
from bcnet.workflows.training import require_both_classes, settle_config

# Small and quick: what leaks shows in the difference of two runs, not in how good either is.
SIDE, EPOCHS, BATCH = 48, 10, 32
FOLDS = 3
SEEDS = 5


def leak_demo(
    manifest: Manifest,
    *,
    limit: int = 1000,
    failures: Sequence[str] = (),
    seed: int = 0,
    progress: bool = False,
) -> dict:
    """Show what a random split of pictures pretends, and further failures on request.

    The same network is cross-validated on the same pictures twice, in folds of patients and in
    folds of pictures; so every picture is judged both ways and the difference is paired.

    Args:
        manifest: the pictures; their patients must be known.
        limit: about how many pictures to take, of whole patients.
        failures: any of `FAILURES`.
        seed: of the patients, the folds and the networks.
        progress: show bars.

    Returns:
        A dict that JSON can hold: `data`, `n_images`, `n_patients`, `unit` of what is judged;
        `patient_split`, `image_split` and `inflation`, the AUC of each and the second less the
        first as `{"value", "low", "high"}`; `failures`, by name a dict of `measure`, `wrong`,
        `right` and `difference` (wrong less right) and `caught`, the words by which it is.

    Raises:
        ValueError: for unknown patients, too few of them, or a name that is not a failure.
    """
    for name in failures:
        if name not in FAILURES:
            allowed = ", ".join(FAILURES)
            raise ValueError(f"`failures` must be among {allowed}. Received: {name}")
    if not patients_known(manifest.table):
        raise ValueError("`leak_demo` needs to know the patients: there is none of some pictures")
    table = sample_patients(manifest.table.assign(split=None), images=limit, seed=seed)
    manifest = replace(manifest, table=table.drop(columns="fold", errors="ignore"))
    size = {"image_size": (SIDE, SIDE), "batch_size": BATCH}
    config = Config(epochs=EPOCHS, patience=EPOCHS, seed=seed, **size)
    result = {"data": manifest.info.name, **_compare_splits(manifest, config, progress)}
    result["failures"] = {}
    if failures:
        runs = _Runs(manifest, config, progress)
        result["failures"] = {name: FAILURES[name](runs) for name in failures}
    return result


def _compare_splits(manifest, config, progress):
    """Judge every picture by folds of patients, and by folds that take each for a patient."""
    anonymous = replace(manifest, table=manifest.table.assign(patient_id=None))
    by_patient, by_picture = (
        judge_folds(each, config, folds=FOLDS, progress=progress) for each in (manifest, anonymous)
    )
    bootstrap = Bootstrap(by_patient["label"], list_patients(by_patient))
    scores = [align(each["probability"], each["threshold"]) for each in (by_patient, by_picture)]
    found = compare(*scores, bootstrap)
    auc = found["measures"]["auc"]
    return {
        "n_images": len(by_patient),
        "n_patients": bootstrap.n_patients,
        "unit": bootstrap.unit,
        "patient_split": auc["a"],
        "image_split": auc["b"],
        "inflation": auc["difference"],
    }


class _Runs:
    """One honest split, and networks trained on it as they are asked for, each once."""

    def __init__(self, manifest, config, progress):
        self.config, self.progress = settle_config(manifest, config), progress
        table = split_by_patient(manifest.table, validation=0.15, test=0.35, seed=config.seed)
        self.pictures = decode_table(table, self.config.image_size, progress=progress)
        require_both_classes(self.pictures)
        self.test = self.pictures.table.iloc[self.pictures.rows_in("test")].reset_index(drop=True)
        self.images = self.pictures.images[self.pictures.rows_in("test")]
        self.bootstrap = Bootstrap(self.test["label"], list_patients(self.test))
        self.trained = {}

    def train(self, member=0):
        """Give a network, its best epoch, and its test scores after each epoch."""
        if member not in self.trained:
            watcher = _Watcher(self.images)
            network, history = fit_network(
                self.pictures,
                replace(self.config, seed=self.config.seed + member),
                label=f"seed {member + 1}",
                callbacks=(watcher,),
                progress=self.progress,
            )
            self.trained[member] = Classifier(network, {}), history.best_epoch, watcher.scores
        return self.trained[member]

    def find_auc(self, scores):
        """Find the AUC of test scores, by the unit of all measures."""
        y_true, y_prob, _ = self.bootstrap.merge_cases(scores)
        return roc_auc_score(y_true, y_prob)

    def set_against(self, measure, wrong, right, threshold=0.5):
        """Estimate a measure of wrong and right scores of the test, and the difference."""
        place = MEASURES.index(measure)
        samples = [
            self.bootstrap.measure(each, threshold=threshold)[:, place] for each in (wrong, right)
        ]
        named = {"wrong": samples[0], "right": samples[1], "difference": samples[0] - samples[1]}
        return {"measure": measure, **{name: estimate(each) for name, each in named.items()}}


class _Watcher(keras.callbacks.Callback):
    """Looks at the test after every epoch, as nobody should."""

    def __init__(self, images):
        super().__init__()
        self.images, self.scores = images, []

    def on_epoch_end(self, epoch, logs=None):
        scores = self.model.predict(self.images, batch_size=256, verbose=0)
        self.scores.append(scores[:, 0].astype(np.float64))


def _normalise_wrongly(runs):
    """Divide pixels by 255 before a network that does so itself."""
    classifier, _, _ = runs.train()
    rows = runs.pictures.rows_in("validation")
    chosen = score_rows(classifier, runs.pictures.images, rows)
    threshold = choose_threshold(runs.pictures.labels[rows], chosen)
    divided = runs.images.astype(np.float32) / 255
    right, wrong = (classifier.predict_images(each) for each in (runs.images, divided))
    return {
        **runs.set_against("balanced_accuracy", wrong, right, threshold),
        "caught": _catch(ValueError, list_inputs, divided[0]),
    }


def _stop_on_test(runs):
    """Keep the epoch that is best on the test, where the validation should choose."""
    _, best_epoch, scores = runs.train()
    flattering = max(scores, key=runs.find_auc)
    # The card of a network that was stopped so has the test patients as its validation.
    card = {"samples": {"validation": describe_samples(runs.test)}}
    return {
        **runs.set_against("auc", flattering, scores[best_epoch]),
        "caught": _catch(SeenInTraining, settle_part, card, runs.test, "test"),
    }


def _catch(expected, call, *arguments):
    try:
        call(*arguments)
    except expected as error:
        return str(error)
    raise AssertionError("a failure that bcnet is to catch went through")


def _choose_lucky_seed(runs):
    """Train several times, and report the best on the test."""
    scores = np.stack([runs.train(member)[2][runs.train(member)[1]] for member in range(SEEDS)])
    aucs = [runs.find_auc(each) for each in scores]
    order = np.argsort(aucs)
    told = measure_luck(scores, runs.test, seed=runs.config.seed)
    return {
        **runs.set_against("auc", scores[order[-1]], scores[order[len(order) // 2]]),
        "caught": (
            f"{SEEDS} seeds reach {min(aucs):.3f} to {max(aucs):.3f}; the best of them leads their "
            f"mean, by picture, by {told['chosen']:+.3f} on patients that chose it and by "
            f"{told['others']:+.3f} on others"
        ),
    }


def measure_luck(scores: np.ndarray, table: pd.DataFrame, *, seed: int = 0) -> dict:
    """Measure how far the best of several networks leads, where it was chosen and elsewhere.

    Half of the patients choose and the others judge, both ways round.

    Args:
        scores: `(n_networks, n_images)` probabilities of malignant.
        table: `n_images` rows of a manifest.
        seed: of the halves.

    Returns:
        `chosen` and `others`: the mean lead in AUC over the mean of all networks, by picture.

    Example:
        Of equally good networks the best leads by luck: `chosen` above 0, `others` about 0.
    """
    folds = fold_by_patient(table, folds=2, seed=seed)["fold"].to_numpy()
    labels = table["label"].to_numpy()
    aucs = np.array(
        [[roc_auc_score(labels[folds == f], each[folds == f]) for each in scores] for f in (0, 1)]
    )
    leads, best = aucs - aucs.mean(axis=1, keepdims=True), aucs.argmax(axis=1)
    chosen = np.mean([leads[0, best[0]], leads[1, best[1]]])
    others = np.mean([leads[1, best[0]], leads[0, best[1]]])
    return {"chosen": float(chosen), "others": float(others)}


FAILURES = {
    "normalisation": _normalise_wrongly,
    "early-stopping": _stop_on_test,
    "lucky-seed": _choose_lucky_seed,
}
"""Further failures by name, and what does each on purpose."""


def format_leak(result: dict) -> str:
    """Format what `leak_demo` found as lines for the terminal.

    Args:
        result: what it returned.

    Returns:
        A text of several lines without a final newline.
    """
    unit = "picture" if result["unit"] == "image" else "patient"
    inflation = result["inflation"]
    is_shown = inflation["low"] is not None and inflation["low"] > 0
    lines = [
        f"{result['data']}: {result['n_images']:,} pictures of {result['n_patients']:,} patients",
        f"AUC by {unit}, split by patient  {format_estimate(result['patient_split'])}",
        f"AUC by {unit}, split by picture  {format_estimate(result['image_split'])}",
        f"inflation                     {format_estimate(inflation)}",
        f"The leak {'flatters' if is_shown else 'shows no inflation'} here."
        f"{'' if is_shown else ' That does not make the split right.'}",
    ]
    for name, found in result["failures"].items():
        words = found["measure"].replace("_", " ").replace("auc", "AUC")
        told = [f"{key} {format_estimate(found[key])}" for key in ("wrong", "right", "difference")]
        lines += [f"\n{name}: {words} {', '.join(told)}", f"  caught: {found['caught']}"]
    return "\n".join(lines)
