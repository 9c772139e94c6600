"""What a model card says, section by section, of what a model file's `card.json` holds.

The sections are those of Mitchell et al. 2019, "Model cards for model reporting"
(arXiv:1810.03993). Belongs here: words and tables. Does not: figures and files (`card`), markup
(`document`). What a card does not hold is called "not recorded", never left out or guessed.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import PureWindowsPath

from bcnet.config import CLASS_NAMES, SPLITS
from bcnet.workflows.ancestry import ANCESTORS, CALIBRATED, SEEN
from bcnet.workflows.card_trials import tell_robustness, tell_subgroups
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
from bcnet.workflows.out_of_fold import OUT_OF_FOLD
from bcnet.workflows.promises import tell_promise
from bcnet.workflows.recording import ROBUSTNESS, SUBGROUPS

PARTS = (*SPLITS, CALIBRATED)

UNITS = {"patient": "patient", "image": "picture"}
"""What a metric counts, by its entry in the card."""


def describe_model(
    card: dict,
    name: str,
    *,
    licence: str | None = None,
    figures: Mapping[str, Sequence[Figure]] | None = None,
) -> list:
    """Describe a model to those who have to decide whether to use it.

    Args:
        card: the model's, of any age.
        name: of the model file, without its folder and ending.
        licence: of the model; the card knows only that of its data.
        figures: to stand at the end of the section whose title is the key.

    Returns:
        Blocks of `bcnet.workflows.document`.

    Example:
        >>> describe_model({}, "mine")[2].text
        'Intended use'
    """
    sections = {
        "Intended use": _describe_use(card),
        "Out of scope": _describe_scope(card),
        "Data and patients": _describe_data(card),
        "Training": _describe_training(card),
        "Metrics": _describe_metrics(card),
        "Calibration": _describe_calibration(card),
        "Threshold": _describe_threshold(card),
        "What it does not answer": _describe_promise(card),
        "Subgroups": _describe_subgroups(card, name),
        "Robustness": _describe_robustness(card, name),
        "Explanations": _describe_explanations(),
        "Limits": _describe_limits(card),
        "Ethical considerations": describe_ethics(),
        "Licence": describe_licence(card, licence),
        "How to reproduce": _describe_reproduction(card, name),
    }
    return put_together(_summarise(card), sections, figures)


def _summarise(card):
    """Say first what most readers come for: how good it was for patients it had not seen."""
    test = find(card, "metrics", "test")
    if not test:
        return "In short: no test is recorded, so nothing here says how good it is for others."
    unit = "patient" if test.get("patient") else "image"
    auc, hits, passed = (
        tell_estimate(find(test, unit, name)) for name in ("auc", "sensitivity", "specificity")
    )
    simulated = ", simulated" if find(card, "data", "simulated") else ""
    return (
        f"In short: on {count_judged(test, 'pictures')} ({tell(card, 'data', 'name')}{simulated}), "
        f"{_tell_seen(card)}, its AUC was {auc}, its sensitivity {hits} and its specificity "
        f"{passed} (by {UNITS[unit]}, with 95 % intervals)."
    )


def _tell_seen(card):
    """Tell, by hash, whether the test was one; a picture may be in the data twice."""
    test, *seen = (find(card, "samples", part) or {} for part in ("test", *SEEN, ANCESTORS))
    pictures, patients = (
        len({*test.get(name, [])} & {item for part in seen for item in part.get(name, [])})
        for name in ("pictures", "patients")
    )
    if pictures or patients:
        return f"no clean test, for it had seen {pictures:,} of the pictures, {patients:,} patients"
    return "kept apart from its training"


def _describe_use(card):
    size = find(card, "image_size")
    told = f"{size[0]} × {size[1]} pixels" if size else f"a size that is {NOT_RECORDED}"
    return [
        Paragraph(
            f"It takes a colour picture (RGB 0–255, {tell(card, 'resize')} to {told}) and gives "
            f"the probability of {CLASS_NAMES[1]}, which is the positive class. A negative is in "
            f"its data: {tell(card, 'data', 'negative')}."
        ),
        Paragraph(
            "It is meant for studying such classifiers: to compare methods, to teach, and to be "
            "judged on a hospital's own pictures before anything is built on it."
        ),
    ]


def _describe_scope(card):
    seen = f"{tell(card, 'data', 'modality')} of the data set {tell(card, 'data', 'name')}"
    points = [
        "Diagnosis, screening or triage of patients.",
        f"Pictures of another kind than it was trained on ({seen}).",
        "Pictures of other laboratories or devices, until it has been judged on enough of them.",
    ]
    negative = find(card, "data", "negative")
    if negative and not negative.startswith(CLASS_NAMES[0]):
        points.append(f"Telling benign from malignant lesions: its negatives are {negative}.")
    return [Points(points)]


def _describe_data(card):
    simulated = find(card, "data", "simulated")
    kinds = {True: "simulated, at least some of them", False: "real", None: NOT_RECORDED}
    points = [f"Data set: {tell(card, 'data', 'name')}", f"Pictures: {kinds[simulated]}"]
    for name in ("source", "licence", "modality"):
        points.append(f"{name.capitalize()}: {tell(card, 'data', name)}")
    points.append(f"A negative is: {tell(card, 'data', 'negative')}")
    blocks = [Points(points)]
    samples = {part: find(card, "samples", part) for part in PARTS}
    rows = [_count_samples(part, entry) for part, entry in samples.items() if entry]
    blocks.append(
        Table(("part", "patients", "pictures", "malignant"), rows)
        if rows
        else Paragraph(f"Pictures and patients: {NOT_RECORDED}.")
    )
    ancestors = find(card, "samples", ANCESTORS)
    if ancestors:
        told = ", ".join(ancestors.get("data", []))
        blocks.append(Paragraph(f"It started from a model that had learnt from: {told}."))
    blocks.append(
        Paragraph(
            f"{_tell_overlap(samples)} The model file names pictures and patients by hashes "
            "only, for matching, which is not anonymity. Age, origin and other features of the "
            f"patients: {NOT_RECORDED}."
        )
    )
    return blocks


def _tell_overlap(samples):
    """Tell, by hash, whether train, validation and test share what they should not."""
    parts = [samples[part] for part in SPLITS if samples[part]]
    if not parts:
        return f"Whether patients were kept apart: {NOT_RECORDED}."
    shared = {
        name: sum(len({*a.get(name, [])} & {*b.get(name, [])}) for a, b in combinations(parts, 2))
        for name in ("patients", "pictures")
    }
    if any(shared.values()):
        told = " and ".join(f"{count} {name}" for name, count in shared.items() if count)
        return f"Shared by two of the parts train, validation and test: {told}."
    if any(part.get("n_patients") is None for part in parts):
        return "No picture stands in two of these parts; of patients that cannot be told."
    return "No patient and no picture stands in two of the parts train, validation and test."


def _count_samples(part, entry):
    counts = (entry.get("n_patients"), entry.get("n_images"))
    return (part, *map(tell_count, counts), tell_malignant(entry))


def _describe_training(card):
    training = find(card, "training")
    if not training:
        return [Paragraph(f"How it was trained: {NOT_RECORDED}.")]
    config = training.get("config") or {}
    members = config.get("members") or 1
    average = f", the average of {members}" if members > 1 else ""
    start = config.get("initial_weights") or config.get("weights")
    began = _strip_folders(start) if start else "random weights"
    points = [
        f"Network: {tell(config, 'model')}{average}",
        f"Started from: {began if config else NOT_RECORDED}",
        f"Epochs: {tell(config, 'epochs')} at most, the weights of epoch "
        f"{tell(training, 'best_epoch')} were kept",
        f"Arithmetic of training: {tell(training, 'precision')}; it answers in float32",
        f"Time: {tell(training, 'seconds')} s",
        f"Made: {tell(card, 'created')}",
    ]
    return [Points(points)]


def _describe_metrics(card):
    judged = {part: find(card, "metrics", part) for part in (*PARTS, OUT_OF_FOLD)}
    blocks = [Paragraph("Intervals are 95 %, from a bootstrap over patients where they are known.")]
    if not judged["test"]:
        blocks.append(Paragraph("No test is recorded."))
    for part in ("test", "validation", CALIBRATED, OUT_OF_FOLD):
        if judged[part]:
            blocks += _describe_part(card, part, judged[part])
    return blocks


def _list_choices(card):
    """List what the validation patients chose: later steps may have had others."""
    later = ("calibration", "threshold")
    chosen = [name for name in later if tell(card, name, "data").endswith("validation")]
    return " and ".join(["epoch", *chosen])


def _describe_part(card, part, entry):
    why = {
        "test": "the part set aside for it",
        "validation": f"patients who chose {_list_choices(card)}, so these figures flatter it",
        CALIBRATED: "patients who chose calibration and threshold, so these figures flatter it",
        OUT_OF_FOLD: "each patient answered by a network trained alike without him, not by this "
        "model; they chose calibration and threshold, which flatters these figures a little",
    }[part]
    lead = (
        f"{part.capitalize()}: {why}. {count_judged(entry, 'pictures')}; called malignant from "
        f"{tell_number(entry.get('threshold'))} on."
    )
    units = {unit: entry[unit] for unit in UNITS if entry.get(unit)}
    rows = [
        (tell_metric(name), *(tell_estimate(unit.get(name)) for unit in units.values()))
        for name in (entry.get("image") or {})
    ]
    baseline = {"patient": "patient_majority_accuracy", "image": "majority_accuracy"}
    told = (tell_number(entry.get(baseline[unit]), "#.3g") for unit in units)
    rows.append((BASELINE, *told))
    blocks = [Paragraph(lead), Table(("metric", *(f"by {UNITS[unit]}" for unit in units)), rows)]
    if entry.get("patient_reason"):
        blocks.append(Paragraph(f"No figures by patient: {entry['patient_reason']}."))
    return blocks


def _describe_calibration(card):
    calibration = find(card, "calibration") or {}
    if "method" not in calibration:
        return [Paragraph(f"Calibration: {NOT_RECORDED}.")]
    if calibration["method"] == "none":
        reason = calibration.get("reason")
        told = f" ({reason})" if reason else ""
        return [
            Paragraph(
                f"None{told}: the probabilities are the network's own. They put cases in "
                "order; do not read 0.8 as 80 malignant among 100 such cases."
            )
        ]
    return [
        Paragraph(
            f"{str(calibration['method']).capitalize()} scaling, fitted to "
            f"{tell(calibration, 'data')}: {count_judged(calibration, 'pictures')}. The "
            "probabilities are meant for a share of malignant pictures of "
            f"{tell_number(calibration.get('prevalence'))}, and mean less where it is another."
        )
    ]


def _describe_threshold(card):
    value = find(card, "threshold", "value")
    blocks = [
        Paragraph(
            f"Called malignant from {tell_number(value)} on. Rule: "
            f"{tell(card, 'threshold', 'rule')}. Chosen on: {tell(card, 'threshold', 'data')}."
        )
    ]
    folds = find(card, "samples", CALIBRATED, "folds")
    if folds:
        count = tell_count(find(card, "samples", CALIBRATED, "n_patients"))
        told = f"out-of-fold predictions of {count} patients in {folds} folds"
        blocks.append(Paragraph(f"Calibration and threshold rest on {told}."))
    reached = find(card, "threshold", "reached") or {}
    if reached:
        told = [f"{name} {tell_estimate(estimate)}" for name, estimate in reached.items()]
        blocks.append(Paragraph(f"It reached there, by picture: {', '.join(told)}."))
    return blocks


def _describe_promise(card):
    entries = {
        name: find(card, name) or {"reason": "the card holds nothing of it"}
        for name in ("abstention", "gate")
    }
    band, gate = tell_promise(entries).split("\n")
    return [Points([f"Referral: {band}", f"Gate: {gate}"])]


def _describe_subgroups(card, name):
    trials = find(card, SUBGROUPS)
    if trials:
        return tell_subgroups(trials.values())
    return [
        Paragraph(
            f"{NOT_RECORDED.capitalize()}. bcnet evaluate {name}.keras DATA --by COLUMN --record "
            "measures it by laboratory, magnification or any other column."
        )
    ]


def _describe_robustness(card, name):
    trials = find(card, ROBUSTNESS)
    if trials:
        return tell_robustness(trials.values())
    return [
        Paragraph(
            f"{NOT_RECORDED.capitalize()}. bcnet stress {name}.keras DATA --record measures it "
            "under changed stain, brightness, blur and the like."
        )
    ]


def _describe_explanations():
    return [
        Paragraph(
            "A heatmap shows which places moved the answer. It does not show why, it does not "
            "outline a lesion, and a plausible one does not make the answer right. "
            "The command bcnet explain gives every map a verdict; a map whose verdict is not ok "
            "should not be shown to anyone as a reason."
        )
    ]


def _describe_limits(card):
    patients = find(card, "samples", "train", "n_patients")
    learnt = "an unknown number of" if patients is None else f"{patients:,}"
    points = [
        f"It learnt from {learnt} patients of {tell(card, 'data', 'name')}, and figures above are "
        "of the same data. Other laboratories, devices and populations may be answered worse; "
        "how much is unknown.",
        "One division of the patients is one draw: another would give other figures.",
        "It answers every picture it can read with a probability, whatever it shows; heed the "
        "status that bcnet predict gives beside it.",
    ]
    if find(card, "data", "simulated"):
        points.insert(0, "Some of its pictures were drawn by a program: it says nothing of people.")
    return [Points(points)]


def _describe_reproduction(card, name):
    config = find(card, "training", "config")
    blocks = []
    if config:
        # A card from before there was a choice is of a model that was not calibrated.
        config = {"calibration": None, **config}
        for key in ("weights", "initial_weights"):
            config[key] = _strip_folders(config[key]) if config.get(key) else None
        blocks = [
            Paragraph("With the pictures in DATA and these lines as config.json:"),
            Code(f"bcnet train DATA --output {name}.keras --config config.json"),
            Code(_write_config(config)),
            Paragraph(
                "If a CSV divided the patients (--split), or bcnet calibrate or bcnet promise "
                "followed, do that again too; the same seed gives the same weights on the same "
                "kind of machine only."
            ),
        ]
    return [*blocks, *describe_software(card)]


def _write_config(config):
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in config.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _strip_folders(path):
    """Name a file without the folders of somebody's machine, of either kind."""
    return PureWindowsPath(path).name
