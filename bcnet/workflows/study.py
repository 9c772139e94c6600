"""The memory of a search: an Optuna study in one SQLite file, which a later call takes up again.

Belongs here: opening it safely, and what its trials say. Does not: what a trial does (`tuning`).
"""

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from bcnet.train import TrainingDiverged

STUDY_NAME = "bcnet"

# Trials that are compared at each epoch before one is judged hopeless: fewer are chance.
TRIALS_BEFORE_PRUNING = 5


@contextmanager
def open_study(path: str | os.PathLike, made_for: dict) -> Iterator[optuna.Study]:
    """Open the study in a file, or begin one; nobody else may meanwhile.

    Trials that a kill left running are marked as failed.

    Args:
        path: SQLite file.
        made_for: what the scores depend on, by name, as JSON knows it: pictures, options,
            searched parameters. A study that was made for anything else is refused.

    Yields:
        The study; more is better.

    Raises:
        ValueError: when the file is no study, was made for another search, or is in use.
    """
    path = Path(path)
    _require_plain(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        _require_study(path)
        storage = _connect(path)
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=STUDY_NAME,
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING),
            )
            _require_same(study, json.loads(json.dumps(made_for)), path)
            for trial in study.get_trials(states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _require_plain(path):
    # Optuna takes an address, not a path, and these are its syntax.
    if re.search(r"[{}?]", str(path)):
        raise ValueError(f"a study's path must be without {{, }} and ?. Received: {path}")


@contextmanager
def _lock(path):
    """Keep a second search out by a lock of SQLite's, which the system lifts after any kill."""
    lock = path.with_name(f"{path.name}-lock")
    with closing(sqlite3.connect(lock, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise ValueError(f"{path} is in use by another search; wait for its end") from error
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps the empty file while it is open
                lock.unlink()


def _require_study(path):
    if not path.exists():
        return
    query = "SELECT 1 FROM sqlite_master WHERE name = 'studies'"
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute(query).fetchone()
    except sqlite3.DatabaseError:
        found = None
    if found is None:
        raise ValueError(f"{path} is not a study; name another file for it")


def _connect(path):
    # Its own lines would tear the progress bar; what matters reaches the user by logging.
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.RDBStorage(f"sqlite:///{path}")


def _require_same(study, made_for, path):
    told = study.user_attrs.get("made_for")
    if told is None and not study.trials:
        study.set_user_attr("made_for", made_for)
        return
    told = told or {}
    other = sorted(
        name for name in made_for.keys() | told.keys() if made_for.get(name) != told.get(name)
    )
    if other:
        raise ValueError(
            f"{path} belongs to another search. Different: {', '.join(other)}. Repeat what that "
            "search was given, or name another file for the study"
        )


@contextmanager
def settle_trial(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Write down how a trial ended that did not end well, so that none is left running.

    A pruned or diverged trial (`TrainingDiverged`, whose reason is kept) ends the block in peace;
    whatever else raises, such as Ctrl-C, fails the trial and goes on upwards.

    Args:
        study: the study.
        trial: the one that the block runs, and tells its score when all is well.
    """
    try:
        yield
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except TrainingDiverged as error:
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.FAIL)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise


def count_tried(study: optuna.Study) -> int:
    """Count the trials that told something: finished, pruned or diverged, but not interrupted."""
    return sum(map(_has_told, study.trials))


def _has_told(trial):
    told = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return told or "reason" in trial.user_attrs


def read_parameters(trial) -> dict:
    """Read a trial's parameters as a person would write them: 0.3, not 0.30000000000000004.

    Args:
        trial: an `optuna.Trial`, or one that has ended.

    Returns:
        The value of each parameter by its name; six digits of a float.
    """
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in trial.params.items()
    }


def tabulate_trials(study: optuna.Study) -> pd.DataFrame:
    """Tabulate the trials of a study.

    Returns:
        One row per trial: `number`, `state` ("complete", "pruned" or "fail"), `score` (the last
        one reached where it was pruned), `seconds` (unless it was interrupted), `reason` of a
        failure that was not an interruption, and each parameter.
    """
    return pd.DataFrame([_describe_trial(trial) for trial in study.trials])


def _describe_trial(trial):
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "score": trial.value,
        "seconds": round(trial.duration.total_seconds(), 1) if _has_told(trial) else None,
        "reason": trial.user_attrs.get("reason"),
        **read_parameters(trial),
    }


def estimate_importance(study: optuna.Study, *, seed: int = 0) -> dict[str, float]:
    """Estimate which parameters the scores depend on: functional ANOVA of the finished trials.

    Hutter et al. 2014 (https://proceedings.mlr.press/v32/hutter14.html): the share of the
    variance, over a forest fitted to the scores, that each parameter explains by itself.

    Args:
        study: the trials.
        seed: of the forest.

    Returns:
        Shares that add up to 1, by parameter; empty when the scores do not differ.
    """
    if len({trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}) < 2:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=seed)
    shares = get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}
