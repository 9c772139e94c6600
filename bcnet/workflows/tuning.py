"""A search for the hyper-parameters that suit some pictures, judged on validation patients.

Belongs here: what a trial is, and how a search is told. Does not: where it looks (`search`), how
its trials are kept (`study`), how a network is trained (`fitting`).
"""

import gc
import os
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import distribution_to_json
from optuna.trial import TrialState

from bcnet import plots
from bcnet.config import Config
from bcnet.data.manifest import Manifest
from bcnet.data.split import fold_by_patient
from bcnet.data.tables import write_table
from bcnet.evaluate.metrics import PATIENTS_UNKNOWN
from bcnet.workflows.ancestry import require_unseen
from bcnet.workflows.config_file import write_config
from bcnet.workflows.evaluation import describe_data
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.progress import make_bar
from bcnet.workflows.samples import decode_table, list_patients
from bcnet.workflows.search import Search, make_space
from bcnet.workflows.study import (
    count_tried,
    estimate_importance,
    open_study,
    read_parameters,
    settle_trial,
    tabulate_trials,
)
from bcnet.workflows.training import divide, require_both_classes, settle_config


class Tuning(NamedTuple):
    """What a search has found.

    Attributes:
        config: the winner, whole: image size and modality included.
        parameters: what was searched, as the winner has it.
        score: its validation AUC, which flatters it: it was chosen for that.
        trials: one row per trial, see `study.tabulate_trials`.
        importance: see `study.estimate_importance`.
        files: what was written: configuration, table, figure.
    """

    config: Config
    parameters: dict
    score: float
    trials: pd.DataFrame
    importance: dict[str, float]
    files: tuple[Path, Path, Path]


def tune(
    manifest: Manifest,
    output: str | os.PathLike,
    config: Config | None = None,
    *,
    search: Search | None = None,
    split: str | os.PathLike | None = None,
    progress: bool = False,
) -> Tuning:
    """Search for better hyper-parameters without a look at the test patients.

    The patients are divided as `train` divides them, and the pictures of the test patients are
    not even read. Each trial trains one network (in each fold, and whatever `members` says),
    reports the validation AUC after each epoch, and is pruned when it falls behind the median of
    the others. A tree-structured Parzen estimator proposes what to try (Bergstra et al. 2011,
    https://papers.nips.cc/paper/4443).

    Choosing the best of many on one validation part flatters its score, the more so the fewer
    patients and the more trials; `folds` flatters less. Only the test patients tell what it is
    worth: train with the winner, and look at them once.

    Args:
        manifest: the pictures; a split they bring is kept.
        output: JSON file for the winner, as `config_file.read_config` reads it; the table (CSV)
            and the figure (PNG) of the search lie beside it under the same name.
        config: what is not searched.
        search: see `Search`.
        split: CSV that says which picture stands where, instead.
        progress: show a bar with the best so far.

    Returns:
        The `Tuning`.

    Raises:
        ValueError: when the pictures cannot be divided, a field cannot be searched, the study
            belongs to another search, or every trial diverged.
        SeenInTraining: when `initial_weights` have seen those who are to judge.
    """
    search, output = search or Search(), Path(output)
    if output.suffix != ".json":
        raise ValueError(f"`output` must end in .json. Received: output={str(output)!r}")
    table = divide(manifest.table, config or Config(), split)
    manifest = replace(manifest, table=table[table["split"] != "test"].reset_index(drop=True))
    config = settle_config(manifest, config or Config())
    space = make_space(config, search.fields)
    pictures = decode_table(manifest.table, config.image_size, progress=progress)
    parts = _make_parts(pictures, search.folds, config.seed)
    _require_fair(parts, config)
    made_for = _describe_search(parts, config, space)
    with open_study(search.study or output.with_suffix(".db"), made_for) as study:
        _run_trials(study, parts, config, space=space, trials=search.trials, progress=progress)
        return _summarise(study, config, output, note=_describe_judges(manifest, parts))


def _make_parts(pictures, folds, seed):
    parts = [pictures]
    if folds > 1:
        table = fold_by_patient(pictures.table, folds=folds, seed=seed)
        parts = [_hold_out(pictures._replace(table=table), fold) for fold in range(folds)]
    return parts


def _require_fair(parts, config):
    for part in parts:
        require_both_classes(part)
        if config.initial_weights is not None:
            judges = part.table.iloc[part.rows_in("validation")]
            require_unseen(config.initial_weights, judges)


def _hold_out(pictures, fold):
    is_held_out = pictures.table["fold"] == fold
    split = np.where(is_held_out, "validation", "train")
    return pictures._replace(table=pictures.table.assign(split=split))


def _describe_search(parts, config, space):
    """Name all that the scores depend on, so that a study is never gone on with by another."""
    rows = pd.concat([part.table[["hash", "split"]].astype(str) for part in parts])
    pictures = sha256(" ".join(sorted(rows["hash"] + rows["split"])).encode()).hexdigest()
    options = {name: value for name, value in asdict(config).items() if name not in space}
    searched = {name: distribution_to_json(where) for name, where in space.items()}
    return {"pictures": pictures, "folds": len(parts), "searched fields": searched, **options}


def _run_trials(study, parts, config, *, space, trials, progress):
    # One network tells which settings suit; the winner still gets all its members and turns.
    config, features = replace(config, members=1, tta=False), {}
    with make_bar(trials, "tuning", shown=progress) as bar:
        bar.initial = bar.n = min(count_tried(study), trials)
        while count_tried(study) < trials:
            # A seed for each trial, not for each call: a search taken up repeats no proposal.
            seed = np.random.SeedSequence((config.seed, len(study.trials))).generate_state(1)[0]
            study.sampler = optuna.samplers.TPESampler(seed=int(seed))
            trial = study.ask(space)
            reporter = _Reporter(study, trial, config.epochs, bar)
            with settle_trial(study, trial):
                trial_config = replace(config, **read_parameters(trial))
                study.tell(trial, _judge(parts, trial_config, reporter, features))
            bar.set_postfix_str(_name_best(study))
            bar.update()
            gc.collect()  # a network is full of cycles: left to Python, several stay in memory


def _judge(parts, config, reporter, features):
    scores = []
    for pictures in parts:
        _, history = fit_network(pictures, config, callbacks=(reporter,), features=features)
        scores.append(history.epochs["val_score"][history.best_epoch])
    return float(np.mean(scores))


class _Reporter(keras.callbacks.Callback):
    """Tells a trial its score after each epoch, and ends it when it is hopeless."""

    def __init__(self, study, trial, epochs, bar):
        super().__init__()
        self.trial, self.epochs, self.bar = trial, epochs, bar
        self.best = _name_best(study)
        self.begun = -1

    def on_train_begin(self, logs=None):
        # Stages and folds are trainings of their own; their epochs are compared each with its
        # like, though one ended early.
        self.begun += 1

    def on_epoch_end(self, epoch, logs=None):
        told = f"trial {self.trial.number}, epoch {epoch + 1}: AUC {logs['val_score']:.3f}"
        self.bar.set_postfix_str(f"{told}; {self.best}")
        self.trial.report(logs["val_score"], self.begun * self.epochs + epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _name_best(study):
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        return "best: none yet"
    return f"best {study.best_value:.3f} (trial {study.best_trial.number})"


def _summarise(study, config, output, *, note):
    trials = tabulate_trials(study)
    if not (trials["state"] == "complete").any():
        reasons = trials["reason"].dropna().unique()
        raise ValueError(f"no trial has finished, so there is no winner: {'; '.join(reasons)}")
    parameters = read_parameters(study.best_trial)
    winner = replace(config, **parameters)
    importance = estimate_importance(study, seed=config.seed)
    files = tuple(output.with_suffix(suffix) for suffix in (".json", ".csv", ".png"))
    pruned = trials["state"] == "pruned"
    axes = plots.plot_tuning(trials["score"], pruned, importance, note=note)
    write_config(winner, files[0])
    write_table(trials, files[1])
    plots.save_figure(axes[0], files[2])
    return Tuning(winner, parameters, study.best_value, trials, importance, files)


def _describe_judges(manifest, parts):
    judges = pd.concat([part.table.iloc[part.rows_in("validation")] for part in parts])
    patients = list_patients(judges)
    count = None if patients is None else len(set(patients))
    part = "validation" if len(parts) == 1 else f"mean of {len(parts)} folds"
    facts = {"part": part, "n_patients": count, "patient_reason": PATIENTS_UNKNOWN}
    told = f"{len(judges):,} pictures" if count is None else f"{count:,} patients"
    return f"{describe_data(manifest, facts)} · {told}"
