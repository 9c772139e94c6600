"""What a model card says of trials that were recorded: subgroups and worse pictures.

Belongs here: words and tables of an entry that `recording` wrote. Does not: the other sections
(`card_text`), figures (`card`).
"""

from collections.abc import Iterable

from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.robustness import format_break
from bcnet.evaluate.subgroups import tabulate_subgroups
from bcnet.workflows.document import Paragraph, Table

# What is asked first of pictures that came out badly.
SHOWN = {"auc": "AUC", "sensitivity": "sensitivity", "ece": "ECE"}


def tell_subgroups(trials: Iterable[dict]) -> list:
    """Tell how a model fared in subgroups, a table for each column.

    Args:
        trials: as `recording.record_subgroups` keeps them.

    Returns:
        Blocks of `bcnet.workflows.document`.
    """
    blocks = []
    for trial in trials:
        names, *rows = tabulate_subgroups(trial["column"], trial)
        blocks += [Paragraph(_introduce(trial)), Table(names, rows)]
    told = "The largest gap is the largest of several; its interval is widened for their number."
    return [*blocks, Paragraph(told)]


def tell_robustness(trials: Iterable[dict]) -> list:
    """Tell from which severity on a model can no longer be used, and what is left of it then.

    Args:
        trials: as `recording.record_robustness` keeps them.

    Returns:
        Blocks of `bcnet.workflows.document`.
    """
    blocks = []
    for trial in trials:
        rows = [("nothing", "", "", *_tell_level(trial["unperturbed"]))]
        rows += [_tell_perturbation(each) for each in trial["perturbations"]]
        blocks += [Paragraph(_introduce(trial)), Table(_name_columns(), rows)]
    told = (
        "Five severities of each were tried on the same pictures; the gravest is the last that is "
        "named. ECE is the expected calibration error: how far probabilities are from what is seen."
    )
    return [*blocks, Paragraph(told)]


def _introduce(trial):
    kinds = {"test": "the part set aside for it", "external": "data that it knows nothing of"}
    n_patients = trial["n_patients"]
    of_whom = "unknown patients" if n_patients is None else f"{n_patients:,} patients"
    simulated = ", simulated" if trial["simulated"] else ""
    return (
        f"{trial['data']}{simulated}, {trial['part']} ({kinds[trial['part']]}), {trial['date']}: "
        f"{trial['n_images']:,} pictures of {of_whom}, judged by "
        f"{'picture' if trial['unit'] == 'image' else trial['unit']}, called malignant from "
        f"{trial['threshold']:.3g} on. Intervals are 95 %."
    )


def _name_columns():
    gravest = [f"{word} at the gravest" for word in SHOWN.values()]
    return ("made worse by", "severities", "5 points of sensitivity lost from severity", *gravest)


def _tell_perturbation(perturbation):
    levels = perturbation["severities"]
    amounts = ", ".join(f"{level['amount']:g}".replace("-", "−") for level in levels)
    lost = format_break(perturbation["sensitivity_breaks"])
    return (
        perturbation["name"],
        f"{amounts} ({perturbation['unit']})",
        lost,
        *_tell_level(levels[-1]),
    )


def _tell_level(level):
    return [format_estimate(level[name]) for name in SHOWN]
