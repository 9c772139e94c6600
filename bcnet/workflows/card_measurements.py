"""What the model card of a model of measurements says, section by section.

The sections are those of a model of pictures, and what is missing is called "not recorded" here,
too. Belongs here: words and tables. Does not: what both kinds say alike (`card_words`), figures and
files (`card`).
"""

from collections.abc import Mapping, Sequence

from bcnet.config import CLASS_NAMES
from bcnet.data.measurements import FEATURES
from bcnet.evaluate.abstention import format_band
from bcnet.measurements.models import FAMILIES
from bcnet.measurements.ranges import MARGIN
from bcnet.workflows.card_words import (
    BASELINE,
    NOT_RECORDED,
    count_judged,
    describe_ethics,
    describe_licence,
    describe_software,
    find,
    put_together,
    tell,
    tell_count,
    tell_estimate,
    tell_malignant,
    tell_metric,
    tell_number,
)
from bcnet.workflows.document import Code, Figure, Paragraph, Points, Table
from bcnet.workflows.measurement_training import BUILT_IN


def describe_measurement_model(
    card: dict,
    name: str,
    *,
    licence: str | None = None,
    figures: Mapping[str, Sequence[Figure]] | None = None,
) -> list:
    """Describe a model of measurements to those who have to decide whether to use it.

    Args:
        card: the model's, of any age.
        name: of the model file, without its folder and ending.
        licence: of the model; the card knows only that of its data.
        figures: to stand at the end of the section whose title is the key.

    Returns:
        Blocks of `bcnet.workflows.document`.

    Example:
        >>> describe_measurement_model({}, "mine")[2].text
        'Intended use'
    """
    sections = {
        "Intended use": _describe_use(),
        "Out of scope": _describe_scope(card),
        "Data and patients": _describe_data(card),
        "Measurements": _describe_features(card),
        "Training": _describe_training(card),
        "Metrics": _describe_metrics(card),
        "Calibration": _describe_calibration(card),
        "Threshold": _describe_threshold(card),
        "What it does not answer": _describe_refusals(card),
        "Explanations": _describe_explanations(name),
        "Limits": _describe_limits(card),
        "Ethical considerations": describe_ethics(),
        "Licence": describe_licence(card, licence),
        "How to reproduce": _describe_reproduction(card, name),
    }
    return put_together(_summarise(card), sections, figures)


def _summarise(card):
    """Say first what most readers come for: how good such models were for other patients."""
    nested = find(card, "metrics", "nested")
    if not nested:
        return "In short: nothing is recorded of how good it is for patients it has not seen."
    auc = tell_estimate(find(nested, "metrics", "auc"))
    hits, passed = (
        tell_estimate(find(nested, "locked", name)) for name in ("sensitivity", "specificity")
    )
    return (
        f"In short: on {count_judged(nested, 'rows')} ({tell(card, 'data', 'name')}), each "
        f"answered by a model made without him, the AUC was {auc} and, from a threshold chosen "
        f"without him, the sensitivity {hits} and the specificity {passed} (with 95 % intervals)."
    )


def _describe_use():
    return [
        Paragraph(
            f"It takes {len(FEATURES)} measurements of the cell nuclei of a fine-needle aspirate, "
            f"listed below, and gives the probability of {CLASS_NAMES[1]}, which is the positive "
            "class. A missing value is replaced by the median of its training patients."
        ),
        Paragraph(
            "It is meant for studying such classifiers: to compare methods, to teach, and to be "
            "judged on a hospital's own patients before anything is built on it."
        ),
    ]


def _describe_scope(card):
    return [
        Points(
            [
                "Diagnosis, screening or triage of patients.",
                f"Measurements made otherwise than those of the data set "
                f"{tell(card, 'data', 'name')}: with other software, magnification or units.",
                "Pictures. Whoever has only these needs a model of pictures.",
            ]
        )
    ]


def _describe_data(card):
    points = [f"Data set: {tell(card, 'data', 'name')}"]
    for name in ("source", "licence", "modality"):
        points.append(f"{name.capitalize()}: {tell(card, 'data', name)}")
    points.append(f"A negative is: {tell(card, 'data', 'negative')}")
    train = find(card, "samples", "train")
    if not train:
        return [Points(points), Paragraph(f"Rows and patients: {NOT_RECORDED}.")]
    points.append(
        f"It learnt from: {count_judged(train, 'rows')}, {tell_malignant(train)} malignant"
    )
    told = (
        "The card names rows and patients by hashes only, for matching, which is not anonymity. "
        "Nearest neighbours and support vector machines, alone or in a vote or stack, keep scaled "
        "rows of patients in the file. Age, origin and other features of the patients: "
        f"{NOT_RECORDED}."
    )
    return [Points(points), Paragraph(told)]


def _describe_features(card):
    features = find(card, "features")
    if not features:
        return [Paragraph(f"Units and ranges: {NOT_RECORDED}.")]
    rows = [
        (
            each["name"],
            each["unit"] or "none",
            _tell_range(each["lowest"], each["highest"]),
            _tell_range(*each["plausible"]),
        )
        for each in features
    ]
    return [
        Paragraph(
            "A value that is not plausible is refused as a slip of the unit. One that is, but lies "
            f"more than {MARGIN:.0%} of the training patients' range beyond it, is flagged as "
            "outside the measured range: the answer means little there."
        ),
        Table(("measurement", "unit", "training patients", "plausible"), rows),
    ]


def _tell_range(low, high):
    return f"{low:g} to {high:g}"


def _describe_training(card):
    training = find(card, "training")
    if not training:
        return [Paragraph(f"How it was trained: {NOT_RECORDED}.")]
    choices = training.get("choices") or {}
    told = ", ".join(f"{name} {value}" for name, value in choices.items())
    taken = "nothing was searched (a quick run)" if training.get("quick") else told or "none"
    others = [_tell_family(name) for name in training.get("compared") or ()]
    points = [
        f"Kind of model: {_tell_family(training.get('family'))}",
        f"Parameters that the search took: {taken}",
        f"Compared, the highest AUC wins: {', '.join(others) or NOT_RECORDED}",
        f"Time: {tell(training, 'seconds')} s of one processor, in all folds",
        f"Made: {tell(card, 'created')}",
    ]
    return [Points(points)]


def _tell_family(name):
    return FAMILIES[name].words if name in FAMILIES else name or NOT_RECORDED


def _describe_metrics(card):
    nested = find(card, "metrics", "nested")
    if not nested:
        return [Paragraph(f"Nested cross-validation: {NOT_RECORDED}.")]
    at_half, locked = nested["metrics"], nested["locked"]
    rows = [
        (tell_metric(name), tell_estimate(estimate), _tell_locked(name, locked))
        for name, estimate in at_half.items()
    ]
    rows.append((BASELINE, *[tell_estimate(nested.get("majority_accuracy"))] * 2))
    return [
        Paragraph(
            f"Nested cross-validation, {nested['folds']} folds × {nested['repeats']}: "
            f"{count_judged(nested, 'rows')}. Parameters, calibration and threshold were chosen "
            "anew in each fold, by patients other than those judged. So this judges the procedure; "
            "the model itself has learnt from all of them. Intervals are 95 %, from a bootstrap "
            "over patients."
        ),
        Table(("metric", "called malignant from 0.5 on", "from the fold's threshold on"), rows),
        Paragraph(_tell_rivals(card, nested)),
    ]


def _tell_locked(name, locked):
    """Tell a metric by the folds' thresholds; AUC, Brier score and ECE do not hang on one."""
    return tell_estimate(locked[name]) if name in locked else "the same"


def _tell_rivals(card, nested):
    others = len(find(card, "training", "compared") or ()) - 1
    if others < 1:
        return "No other kind of model was compared."
    rivals = [_tell_family(name) for name in nested.get("within_noise") or ()]
    told = "cannot be told from its own" if rivals else "is within noise of its own"
    return (
        f"It was the best of {others + 1} kinds by these figures, which flatters them a little. "
        f"The AUC of {', '.join(rivals) or 'none of the others'} {told}."
    )


def _describe_calibration(card):
    calibration = find(card, "calibration")
    if not calibration:
        return [Paragraph(f"Calibration: {NOT_RECORDED}.")]
    return [
        Paragraph(
            f"Platt scaling (method: {tell(calibration, 'method')}), fitted to the scores of "
            f"{count_judged(calibration, 'rows')} ({tell(calibration, 'data')}). The probabilities "
            f"are meant for a share of malignant patients of "
            f"{tell_number(calibration.get('prevalence'))}, and mean less where it is another."
        )
    ]


def _describe_threshold(card):
    told = (
        f"Called malignant from {tell_number(find(card, 'threshold', 'value'))} on. Rule: "
        f"{tell(card, 'threshold', 'rule')}."
    )
    reached = find(card, "threshold", "reached") or {}
    if reached:
        estimates = (f"{name} {tell_estimate(each)}" for name, each in reached.items())
        told += (
            f" It reached on these, by row: {', '.join(estimates)}. They chose it, which flatters "
            "it; what to expect of others is told under Metrics."
        )
    return [Paragraph(told)]


def _describe_refusals(card):
    band = find(card, "abstention") or {"reason": "the card holds nothing of it"}
    return [
        Points(
            [
                f"Referral: {format_band(band, 'patient')}",
                "Measured range: a patient outside of it is answered, and flagged",
                "Unreadable: a row with text for a number, or a value that is not plausible, gets "
                "the reason instead of an answer",
            ]
        )
    ]


def _describe_explanations(name):
    return [
        Paragraph(
            "Contributions (SHAP values: Lundberg and Lee 2017) say how far each measurement moves "
            "the answer from that for a made-up patient with the median of everything; together "
            "they are the whole way. They explain the model, not the disease, and measurements "
            "that say the same, such as radius, perimeter and area, divide a contribution between "
            "them as it happens. The command writes them for one patient, and the smallest change "
            "that would turn the answer:"
        ),
        Code(f"bcnet measurements explain {name}.skops CSV --row N --output DIR"),
    ]


def _describe_limits(card):
    patients = tell_count(find(card, "samples", "train", "n_patients"))
    return [
        Points(
            [
                f"It learnt from {patients} patients of {tell(card, 'data', 'name')}, and the "
                "figures above are of the same data. Other laboratories, devices and populations "
                "may be answered worse; how much is unknown.",
                "It believes whoever measured: a nucleus outlined otherwise is another patient.",
                "Heed the status that bcnet measurements predict gives beside each probability.",
            ]
        )
    ]


def _describe_reproduction(card, name):
    training = find(card, "training")
    blocks = []
    if training:
        blocks = [
            Code(_write_command(training, name, find(card, "data", "name"))),
            Paragraph("The same seed and the same software give the same answers."),
        ]
    told = "Load the file with the same minor version of scikit-learn; another one warns."
    return [*blocks, *describe_software(card), Paragraph(told)]


def _write_command(training, name, data):
    parts = ["bcnet measurements train", *([] if data == BUILT_IN else ["DATA"])]
    parts.append(f"--output {name}.skops")
    compared = training.get("compared") or ()
    if {*compared} != {*FAMILIES}:
        parts.append(f"--models {','.join(compared)}")
    parts += ["--quick"] if training.get("quick") else []
    return " ".join([*parts, f"--seed {tell(training, 'seed')}"])
