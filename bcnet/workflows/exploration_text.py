"""The words of the page that `exploration` writes.

Belongs here: what is said of measurements before any model. Does not: finding it
(`bcnet.evaluate.exploration`), files and figures (`exploration`), markup (`document`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.data.measurements import MEASUREMENTS
from bcnet.data.quantities import STATISTICS
from bcnet.evaluate.exploration import FAR, SAME
from bcnet.evaluate.metrics import format_estimate
from bcnet.workflows.document import Figure, Heading, Paragraph, Points, Table

NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps an interval on one line of a narrow cell
SHOWN = 12  # lines of a list; it is said how many more there are


class Look(NamedTuple):
    """All that the page tells of a table.

    Attributes:
        table: as from `bcnet.data.measurements.read_measurements`, labelled.
        name: of the data.
        licence: of the data.
        findings: as from `check_measurements`.
        summary: as from `summarise`, and so on with the functions of `evaluate.exploration`.
        judged: as from `judge_alone`.
        clustered: as from `cluster_measurements`.
        outliers: as from `find_outliers`.
        projected: as from `project`.
    """

    table: pd.DataFrame
    name: str
    licence: str
    findings: list
    summary: list
    judged: list
    clustered: dict
    outliers: list
    projected: dict


def describe_look(look: Look, figures: Mapping[str, Figure]) -> list:
    """Describe measurements as the blocks of a document.

    Args:
        look: what is known of them.
        figures: by name: one for each of `STATISTICS`, "separation", "projection" and, where
            there is something to show, "correlation" and "outliers".

    Returns:
        Blocks for `document.write_html`.
    """
    return [
        *_describe_data(look),
        *_describe_findings(look.findings),
        *_describe_summary(look),
        Heading("Distributions"),
        *(figures[statistic] for statistic in STATISTICS),
        *_describe_judged(look.judged, figures),
        *_describe_clusters(look.clustered, figures),
        *_describe_outliers(look.outliers, figures),
        *_describe_projection(look.projected, figures),
    ]


def _describe_data(look):
    table = look.table
    counts = [int((table["label"] == label).sum()) for label in (0, 1)]
    shares = [
        f"{count:,} {name} ({count / len(table):.1%})"
        for count, name in zip(counts, CLASS_NAMES, strict=True)
    ]
    n_patients, larger = table["patient_id"].nunique(), max(counts) / len(table)
    return [
        Paragraph("For research and teaching. Nothing on this page is used by a model."),
        Heading("The data"),
        Points(
            [
                f"{look.name}; licence: {look.licence}",
                f"{len(table):,} rows of {n_patients:,} patients, 30 measurements each",
                f"{' and '.join(shares)}; malignant = positive",
                f"always saying {CLASS_NAMES[counts[1] > counts[0]]} is right in {larger:.1%}",
            ]
        ),
    ]


def _describe_findings(findings):
    lines = [f"{each['severity']}: {each['message']}" for each in findings]
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    nothing = "No duplicate, contradiction, impossible value, gap or constant column was found."
    told = Points(lines[:SHOWN] + more) if lines else Paragraph(nothing)
    return [Heading("What a check of the table found"), told]


def _describe_summary(look):
    aucs = {each["name"]: format_estimate(each["auc"], 2) for each in look.judged}
    aucs = {name: told.replace(" ", NO_BREAK) for name, told in aucs.items()}
    rows = [
        [
            _name_with_unit(each["name"]),
            *(_tell_quartiles(each[class_name]) for class_name in CLASS_NAMES),
            aucs[each["name"]],
        ]
        for each in look.summary
    ]
    gaps = [f"{each['name']} {each['missing']:,}" for each in look.summary if each["missing"]]
    told = (
        "Median [quartiles] by class, and the AUC of the measurement alone with its 95 % interval. "
        "Lengths are in pixels, as far as is known: no source states a unit. "
        f"Missing values: {', '.join(gaps) or 'none'}."
    )
    names = ["Measurement", *CLASS_NAMES, "AUC alone"]
    return [Heading("Summary"), Paragraph(told), Table(names, rows)]


def _name_with_unit(name):
    unit = MEASUREMENTS[name].unit
    return f"{name} ({unit})" if unit else name


def _tell_quartiles(quartiles):
    if quartiles is None:
        return "none"
    low, middle, high = (
        f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}" for value in quartiles
    )
    return f"{middle} [{low}, {high}]"


def _describe_judged(judged, figures):
    best = judged[0]
    unsure = [
        each["name"] for each in judged if each["auc"]["low"] is None or each["auc"]["low"] <= 0.5
    ]
    told = f"Alone, {best['name']} does best: AUC {format_estimate(best['auc'])}. "
    if unsure:
        told += f"Not told from chance: {', '.join(unsure)}. "
    told += (
        "The best of thirty is flattered by having been chosen on these very patients. Useless "
        "alone does not mean useless together with others."
    )
    return [Heading("Each measurement alone"), Paragraph(told), figures["separation"]]


def _describe_clusters(clustered, figures):
    groups = [each for each in clustered["clusters"] if len(each["members"]) > 1]
    lines = [
        f"{each['name']}: {len(each['members'])} measurements, |ρ| ≥ {each['lowest']:.2f}"
        for each in groups
    ]
    if clustered["left_out"]:
        lines.append(f"left out, as they do not vary: {', '.join(clustered['left_out'])}")
    told = (
        f"Measurements are put together while any two correlate by at least {SAME:g}. How much "
        "weight a model gives to which of them is then largely chance."
    )
    blocks = [Heading("Which tell the same"), Paragraph(told)]
    blocks += [Points(lines)] if lines else []
    return blocks + [figures[name] for name in ("correlation",) if name in figures]


def _describe_outliers(outliers, figures):
    heading = Heading("Who stands apart")
    if not outliers:
        return [heading, Paragraph(f"No value lies beyond {FAR:g} robust standard deviations.")]
    by_patient = {}
    for each in outliers:
        value = f"{each['name']} {each['value']:g} ({each['distance']:+.1f})"
        by_patient.setdefault((each["row"], each["patient_id"]), []).append(value)
    lines = [f"patient {key[1]}: {', '.join(told)}" for key, told in by_patient.items()]
    more = [f"and {len(lines) - SHOWN:,} more patients"] if len(lines) > SHOWN else []
    told = (
        f"Values farther than {FAR:g} robust standard deviations (in brackets) from the median of "
        "all patients. They may be true: none is removed, and a model should bear them."
    )
    return [heading, Paragraph(told), Points(lines[:SHOWN] + more), figures["outliers"]]


def _describe_projection(projected, figures):
    told = [
        f"component {number} ({share:.0%} of the variance): {_tell_loadings(loadings)}"
        for number, (share, loadings) in enumerate(
            zip(projected["explained"], projected["loadings"], strict=False), start=1
        )
    ]
    return [
        Heading("Principal components"),
        Paragraph("The directions in which patients differ most, found without their labels."),
        Points(told),
        figures["projection"],
    ]


def _tell_loadings(loadings):
    largest = sorted(loadings, key=lambda name: -abs(loadings[name]))[:4]
    return "most of " + ", ".join(f"{name} ({loadings[name]:+.2f})" for name in largest)
