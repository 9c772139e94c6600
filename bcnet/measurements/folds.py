"""The folds of a comparison: what is fitted in each, on all processors, and never twice.

Belongs here: tasks, their answers, and all that an answer depends on. Does not: what a fold fits
(`fitting`), what the answers are worth (`nested`).
"""

import time
from typing import NamedTuple

import numpy as np
import sklearn
from joblib import Parallel, delayed
from sklearn.model_selection import ParameterGrid

from bcnet.data.quantities import FEATURES
from bcnet.measurements.cache import digest, keep, recall
from bcnet.measurements.fitting import INNER_FOLDS, divide_patients, fit_measurements
from bcnet.measurements.models import build_pipeline, find_family

# To be raised whenever the code of a fold changes what it answers: kept answers are then void.
PROCEDURE = 1


class Task(NamedTuple):
    """One model to be fitted to the patients outside one fold, and to answer those inside."""

    name: str
    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


def plan_tasks(table, names, *, folds, repeats, seed):
    """Plan one task for each model, repeat and fold, the models of a fold side by side.

    Args:
        table: As for `divide_patients`.
        names: Of the models.
        folds: Into how many the patients are divided.
        repeats: How often they are divided anew.
        seed: Of the first division; the next one has the next.

    Returns:
        A list of `Task`.

    Raises:
        ValueError: There are fewer patients of a class than folds.

    Example:
        >>> from bcnet.data.wisconsin import load_wisconsin
        >>> len(plan_tasks(load_wisconsin(), ["knn", "tree"], folds=10, repeats=5, seed=0))
        100
    """
    return [
        Task(name, repeat, fold, *rows)
        for repeat in range(repeats)
        for fold, rows in enumerate(divide_patients(table, folds=folds, seed=seed + repeat))
        for name in names
    ]


def spread(tasks, name, values):
    """Spread what each fold says over the rows inside it.

    Args:
        tasks: From `plan_tasks`.
        name: Of the model.
        values: By `(name, repeat, fold)`, one number or one for each row inside.

    Returns:
        float64 `(repeats, n_rows)`.

    Example:
        >>> task = Task("knn", 0, 0, np.array([1]), np.array([0, 2]))
        >>> spread([task, Task("knn", 0, 1, task.test, task.train)], "knn",
        ...        {("knn", 0, 0): [0.25, 0.75], ("knn", 0, 1): 0.5}).tolist()
        [[0.25, 0.5, 0.75]]
    """
    own = [task for task in tasks if task.name == name]
    found = np.full((own[-1].repeat + 1, len(own[0].train) + len(own[0].test)), np.nan)
    for task in own:
        found[task.repeat, task.test] = values[task[:3]]
    return found


def answer_tasks(tasks, table, settings, *, cache=None, progress=None, jobs=-1):
    """Answer every task, those that the cache does not know on all processors.

    Args:
        tasks: From `plan_tasks`.
        table: As for `fit_measurements`.
        settings: Its keyword arguments.
        cache: A folder, or None.
        progress: Called with how many tasks are done, and of how many; or None.
        jobs: Processors; −1 for all.

    Returns:
        By `(name, repeat, fold)` a dict that JSON can hold: `y_prob` of the patients inside the
        fold, `threshold`, `choices`, and the `seconds` of one processor that it took.
    """
    keys = _find_keys(tasks, table, settings)
    answers = {task[:3]: recall(cache, keys[task[:3]]) for task in tasks}
    waiting = [task for task in tasks if answers[task[:3]] is None]
    tell = progress or (lambda done, total: None)
    tell(len(tasks) - len(waiting), len(tasks))
    found = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_answer)(task, table, settings) for task in waiting
    )
    for done, (place, answer) in enumerate(found, len(tasks) - len(waiting) + 1):
        keep(cache, keys[place], answer)
        answers[place] = answer
        tell(done, len(tasks))
    return answers


def _answer(task, table, settings):
    started = time.process_time()
    fitted = fit_measurements(table.iloc[task.train], task.name, **settings)
    y_prob = fitted.estimator.predict_proba(table.iloc[task.test])[:, 1]
    return task[:3], {
        "y_prob": y_prob.tolist(),
        "threshold": fitted.threshold,
        "choices": fitted.choices,
        "seconds": time.process_time() - started,
    }


def _find_keys(tasks, table, settings):
    """Digest all that the answer of each task depends on."""
    shared = {
        "rows": digest(table[list(FEATURES)].to_numpy(np.float64).tobytes()),
        "labels": table["label"].tolist(),
        "patients": table["patient_id"].tolist(),
        "procedure": [PROCEDURE, INNER_FOLDS, settings],
        "versions": [sklearn.__version__, np.__version__],
    }
    families = {task.name: digest([shared, _describe_family(task.name)]) for task in tasks}
    return {task[:3]: digest([families[task.name], task.train.tolist()]) for task in tasks}


def _describe_family(name):
    return [name, build_pipeline(name).get_params(), list(ParameterGrid(find_family(name).grid))]
