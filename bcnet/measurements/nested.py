"""How good each kind of model is on patients that nothing in it has seen: nested cross-validation.

Belongs here: the folds, what is run in them, and the table of models. Does not: what is fitted in
a fold (`fitting`), how its answers are judged (`judging`), drawing (`bcnet.plots`).
"""

import numpy as np

from bcnet.data.quantities import FEATURES
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.thresholds import describe_rule
from bcnet.measurements.fitting import TARGET, check_table
from bcnet.measurements.folds import answer_tasks, plan_tasks, spread
from bcnet.measurements.judging import (
    ANSWER_METRICS,
    METRICS,
    estimate_differences,
    estimate_each,
    sample_locked,
    sample_metrics,
    sample_share,
)
from bcnet.measurements.models import FAMILIES, find_family

# Ten folds, five times over, is what the field reports; a quick run must end within a minute.
FOLDS, REPEATS = 10, 5
QUICK_FOLDS, QUICK_REPEATS = 5, 1

RULE = {"rule": "sensitivity", "target": TARGET}


def compare_models(
    table, *, names=None, quick=False, seed=0, repeats=None, cache=None, progress=None, jobs=-1
):
    """Compare families by repeated nested cross-validation.

    In every fold the whole of `fit_measurements` – search, selection, calibration, threshold – sees
    only the patients outside it, and answers those inside. The winner is the model with the highest
    AUC, in which no threshold has a part; where others are within noise of it, it won by a hair,
    and its own figures flatter it by as much.

    Args:
        table: What `bcnet.data.measurements.read_measurements` gives, with labels.
        names: Of `bcnet.measurements.models.FAMILIES`; None for all.
        quick: Five folds once, and no search: under a minute on two processors. Else ten folds.
        seed: Of folds and models: same seed, same result.
        repeats: How often the patients are divided anew; None for 5, or 1 when quick.
        cache: A folder for the answers of each fold, by which a run that was stopped goes on; None
            keeps nothing.
        progress: Called with how many folds are done, and of how many; or None.
        jobs: Processors to use; −1 for all.

    Returns:
        A dict that JSON can hold: `n_rows`, `n_patients`, `n_malignant` (rows), `n_missing` (values
        imputed), `folds`, `repeats`, `seed`, `quick`, `rule`, `target`; `majority_accuracy`, always
        naming the larger class; `winner`; `fold`, that of each row in each repeat; and `models`, by
        name a dict of `words`, `metrics` (at 0.5) and `locked` (each fold by its own threshold),
        both to `{"value", "low", "high"}`; `difference` to the winner (`judging`); `seconds` of one
        processor in all folds; `y_prob`, `(repeats, n_rows)`; `thresholds` and `choices`,
        `(repeats, folds)`.

    Raises:
        ValueError: A column is missing, a class has too few patients, or a name is unknown.

    Example:
        >>> from bcnet.data.wisconsin import load_wisconsin
        >>> result = compare_models(load_wisconsin(), names=["naive_bayes"], quick=True, jobs=1)
        >>> result["winner"], round(result["majority_accuracy"]["value"], 3)
        ('naive_bayes', 0.627)
    """
    names = list(names or FAMILIES)
    folds, usual = (QUICK_FOLDS, QUICK_REPEATS) if quick else (FOLDS, REPEATS)
    repeats = usual if repeats is None else repeats
    _check(table, names, repeats)
    tasks = plan_tasks(table, names, folds=folds, repeats=repeats, seed=seed)
    settings = {"quick": quick, "seed": seed, **RULE}
    answers = answer_tasks(tasks, table, settings, cache=cache, progress=progress, jobs=jobs)
    fold_of_row = spread(tasks, names[0], {task[:3]: task.fold for task in tasks})
    return {
        **_describe(table),
        "folds": folds,
        "repeats": repeats,
        **settings,
        "fold": fold_of_row.astype(int).tolist(),
        **_judge(table, names, tasks, answers),
    }


def _check(table, names, repeats):
    for name in names:
        find_family(name)
    if repeats < 1:
        raise ValueError(f"`repeats` must be at least 1. Received: repeats={repeats}")
    check_table(table)


def _describe(table):
    return {
        "n_rows": len(table),
        "n_patients": int(table["patient_id"].nunique()),
        "n_malignant": int(table["label"].sum()),
        "n_missing": int(table[list(FEATURES)].isna().sum().sum()),
    }


def _judge(table, names, tasks, answers):
    """Judge the answers of all models on the same draws of patients."""
    bootstrap = Bootstrap(table["label"], table["patient_id"])
    said = {
        field: {place: answer[field] for place, answer in answers.items()}
        for field in ("y_prob", "threshold", "choices", "seconds")
    }
    y_prob = {name: spread(tasks, name, said["y_prob"]) for name in names}
    thresholds = {name: spread(tasks, name, said["threshold"]) for name in names}
    samples = {name: sample_metrics(y_prob[name], bootstrap) for name in names}
    winner = max(names, key=lambda name: samples[name]["auc"][0])
    models = {
        name: {
            "words": find_family(name).words,
            "metrics": estimate_each(samples[name]),
            "locked": estimate_each(sample_locked(y_prob[name], thresholds[name], bootstrap)),
            "difference": estimate_differences(samples[name], samples[winner]),
            "seconds": sum(_list_of(tasks, name, said["seconds"])),
            "choices": _list_of(tasks, name, said["choices"]),
            "thresholds": _list_of(tasks, name, said["threshold"]),
            "y_prob": y_prob[name].tolist(),
        }
        for name in names
    }
    share = sample_share(bootstrap)
    majority = estimate_each({"accuracy": np.maximum(share, 1 - share)})["accuracy"]
    return {"majority_accuracy": majority, "winner": winner, "models": models}


def _list_of(tasks, name, values):
    return [values[task[:3]] for task in tasks if task.name == name]


def format_models(result):
    """Format the result of `compare_models` as tables for the terminal, the best model first.

    Args:
        result: What `compare_models` returned.

    Returns:
        A text of several lines without a final newline.

    Example:
        `format_models(result).splitlines()[0]` names how many patients there were.
    """
    ranked = sorted(result["models"].values(), key=lambda model: -model["metrics"]["auc"]["value"])
    head = (
        f"{result['n_patients']:,} patients, {result['n_malignant']:,} of {result['n_rows']:,} "
        f"rows malignant; nested cross-validation, {result['folds']} folds × {result['repeats']}; "
        f"{result['n_missing']:,} missing values imputed"
    )
    baseline = (
        f"always naming the larger class: accuracy {format_estimate(result['majority_accuracy'])}"
    )
    rule = describe_rule(result["rule"], result["target"])
    tables = [
        ("at 0.5", _tabulate(ranked, "metrics", METRICS[:3] + METRICS[6:])),
        ("at 0.5", _tabulate(ranked, "metrics", METRICS[3:6])),
        (f"threshold of each fold: {rule}", _tabulate(ranked, "locked", ANSWER_METRICS[:4])),
    ]
    if ranked[1:]:
        compared = _tabulate(ranked[1:], "difference", ("auc", "accuracy", "sensitivity", "brier"))
        tables.append((f"less the winner, {ranked[0]['words']} (~ within noise)", compared))
    blocks = ["\n".join([title, *lines]) for title, lines in tables]
    return "\n\n".join([f"{head}\n{baseline}", *blocks, _tell_time(ranked)])


def _tabulate(models, field, names):
    rows = [["", *(name.replace("_", " ") for name in names)]]
    rows += [[model["words"], *(_write(model[field][name]) for name in names)] for model in models]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _write(estimate):
    if "within_noise" not in estimate:
        return format_estimate(estimate)
    return format_estimate(estimate, 4) + " ~" * estimate["within_noise"]


def _tell_time(models):
    spent = (f"{model['words']} {model['seconds']:,.0f}" for model in models)
    return f"seconds of one processor: {', '.join(spent)}"
