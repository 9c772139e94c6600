"""Whether one of two models is better on the same cases, and what these cases could show.

Belongs here: paired differences, and the table of them. Does not: their tests (`significance`),
what any model has to beat (`baselines`), and which pictures may be judged at all (`workflows`).
"""

import numpy as np
from scipy.stats import norm

from bcnet.evaluate.cases import check_cases, require_both_classes
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.paired import MEASURES, estimate
from bcnet.evaluate.significance import COMPARED, apply_delong, apply_mcnemar, permute_models

# A true difference of this many standard errors is found with 80 % power at the 5 % level.
DETECTABLE = norm.ppf(0.975) + norm.ppf(0.8)


def compare(y_prob_a, y_prob_b, bootstrap, *, thresholds=(0.5, 0.5)):
    """Compare two models on the same pictures.

    Differences are B − A. Intervals come from drawing patients with all their pictures, the same
    for both models. p-values are two-sided: `p_permutation` for every measure (see
    `permute_models`), `delong` for the AUC, `mcnemar` for the answers; the last is None where
    patients have several cases, of which it knows nothing.

    Args:
        y_prob_a: Probabilities of malignant by the first model, shape `(n_images,)`, 0–1.
        y_prob_b: The same by the second.
        bootstrap: The truth and the draws, of the same pictures; both classes must occur. There
            are as many permutations as draws.
        thresholds: That of each model; a case is called malignant from there on.

    Returns:
        A dict that JSON can hold: `unit` of what is judged ("patient" or "image"), `n_cases`,
        `n_patients` (None when unknown); `measures`, for each name in `COMPARED` a dict of `a`,
        `b`, `difference` (each `{"value", "low", "high"}`), `p_permutation` and `detectable`, the
        smallest true difference that so many patients would show with 80 % power at the 5 % level
        (None where the draws do not vary); `delong` and `mcnemar`, as their functions give them.

    Raises:
        ValueError: Scores are of another length or out of range, or only one class occurs.

    Example:
        >>> from bcnet.evaluate.paired import Bootstrap
        >>> bootstrap = Bootstrap([0, 0, 1, 1])
        >>> result = compare([0.1, 0.6, 0.4, 0.9], [0.1, 0.2, 0.8, 0.9], bootstrap)
        >>> result["measures"]["auc"]["difference"]["value"]
        0.25
    """
    require_both_classes(bootstrap.y_true)
    probabilities = [check_cases(bootstrap.y_true, each)[1] for each in (y_prob_a, y_prob_b)]
    pairs = zip(probabilities, thresholds, strict=True)
    samples = [bootstrap.measure(y_prob, threshold=threshold) for y_prob, threshold in pairs]
    merged = [bootstrap.merge_cases(y_prob) for y_prob in probabilities]
    y_true, groups = merged[0][0], merged[0][2]
    scores = np.stack([each[1] for each in merged])
    answers = scores >= np.reshape(thresholds, (2, 1))
    draws, n_patients = bootstrap.counts.shape
    p_values = permute_models(y_true, scores, answers, groups, draws=draws)
    return {
        "unit": bootstrap.unit,
        "n_cases": len(y_true),
        "n_patients": bootstrap.n_patients,
        "measures": {
            name: _set_side_by_side(*(each[:, MEASURES.index(name)] for each in samples))
            | {"p_permutation": p_values[name]}
            for name in COMPARED
        },
        "delong": apply_delong(y_true, *scores, groups),
        "mcnemar": apply_mcnemar(*(answers == y_true)) if len(y_true) == n_patients else None,
    }


def measure_alone(y_prob, bootstrap, *, threshold=0.5):
    """Measure one model, or a baseline, as `compare` measures two.

    Args:
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        bootstrap: The truth and the draws, of the same pictures.
        threshold: A case is called malignant from this probability on.

    Returns:
        An estimate `{"value", "low", "high"}` for each name in `COMPARED`.

    Example:
        >>> from bcnet.evaluate.paired import Bootstrap
        >>> measure_alone([0.3] * 4, Bootstrap([0, 0, 0, 1]))["accuracy"]["value"]
        0.75
    """
    measured = bootstrap.measure(y_prob, threshold=threshold)
    return {name: estimate(measured[:, MEASURES.index(name)]) for name in COMPARED}


def _set_side_by_side(a, b):
    difference = b - a
    spread = np.nanstd(difference[1:], ddof=1) if np.isfinite(difference[1:]).sum() > 1 else 0
    return {
        "a": estimate(a),
        "b": estimate(b),
        "difference": estimate(difference),
        "detectable": float(DETECTABLE * spread) or None,
    }


def format_comparison(result):
    """Format a comparison with its baselines as tables for the terminal.

    Args:
        result: What `compare` returned, with `baselines`: by name, what `measure_alone` gives, or
            None where one is not available; further entries are ignored.

    Returns:
        A text of several lines without a final newline.

    Example:
        `format_comparison(result).splitlines()[0]` names the unit and how many there were.
    """
    columns = {"A": {name: each["a"] for name, each in result["measures"].items()}}
    columns["B"] = {name: each["b"] for name, each in result["measures"].items()}
    columns |= {name: each for name, each in result["baselines"].items() if each}
    values = [["", *columns]] + [
        [name.replace("_", " "), *(format_estimate(each[name]) for each in columns.values())]
        for name in COMPARED
    ]
    differences = [["", "B − A", "p (permutation)", "could be shown"]] + [
        [
            name.replace("_", " "),
            format_estimate(each["difference"]),
            _write_p(each["p_permutation"]),
            "–" if each["detectable"] is None else f"{each['detectable']:.3f}",
        ]
        for name, each in result["measures"].items()
    ]
    patients = "unknown" if result["n_patients"] is None else f"{result['n_patients']:,}"
    head = f"judged by {result['unit']}: {result['n_cases']:,} cases, patients: {patients}"
    tables = [_lay_out(rows) for rows in (values, differences)]
    return "\n".join([head, *tables[0], "", *tables[1], *_tell_tests(result)])


def _lay_out(rows):
    return ["  ".join(f"{cell:<22}" for cell in row).rstrip() for row in rows]


def _write_p(p):
    return "below 0.0001" if p < 0.0001 else f"{p:.4f}"


def _tell_tests(result):
    delong, mcnemar = result["delong"], result["mcnemar"]
    p = "too few patients" if delong["p"] is None else f"p = {_write_p(delong['p'])}"
    yield f"AUC by DeLong, for several cases of a patient (Obuchowski 1997): {p}"
    if mcnemar is None:
        yield "no McNemar test: patients have several cases; the permutation of accuracy stands"
    else:
        told = f"only A right {mcnemar['only_a']}, only B right {mcnemar['only_b']}"
        yield f"McNemar, exact: {told}, p = {_write_p(mcnemar['p'])}"
    yield "could be shown: the smallest true difference found with 80 % power at the 5 % level"
