"""Heatmaps for pictures without a truth: a folder in, a folder of overlays and their table out.

How maps are made and judged is the classifier's business; what is written of each is in `overlays`.
"""

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from bcnet.atomic import write_text
from bcnet.classifier import Classifier, settle_precision, tabulate
from bcnet.inputs import list_inputs
from bcnet.workflows.masks import find_masks
from bcnet.workflows.overlays import SHEET_SIZE, ExplainOptions, OverlayWriter
from bcnet.workflows.progress import make_bar
from bcnet.workflows.scoring import to_csv

logger = logging.getLogger("bcnet")


def explain(
    classifier: Classifier,
    inputs,
    output: str | os.PathLike,
    options: ExplainOptions | None = None,
    *,
    progress: bool = False,
) -> pd.DataFrame:
    """Write one overlay per picture: the tissue, and over it where the evidence lies.

    Pictures go through in batches, at constant memory however many they are.

    Args:
        classifier: the model.
        inputs: as for `Classifier.predict`.
        output: folder for overlays (PNG, under the pictures' own names), `explanations.csv` and
            what else `options` ask for.
        options: what is explained and written; None for their defaults.
        progress: show a bar.

    Returns:
        The table, as written. One row per picture with the columns of `Classifier.predict`, and
        `method`, `class`, `verdict` and `verdict_value` (see `bcnet.explain.faithfulness`),
        `hot_area` (share of the picture where the map is at least half of its maximum) and
        `overlay`, the file's name. With raw maps, `map` is the name of theirs; `precision` is
        there where it is not float32. With masks, `mask_area` (the share of the picture, which is
        what chance reaches), `pointing_hit`, `mass_inside` and `best_iou` (see
        `bcnet.explain.measures`), which are missing where there is no mask, or nothing in it.

    Raises:
        ValueError: when the folder lies among the pictures to be explained, or no mask is theirs.
    """
    options = options or ExplainOptions()
    _check_output(inputs, output)
    listed = list_inputs(inputs)
    masks = {} if options.masks is None else _find_masks(options.masks, listed.names)
    writer = OverlayWriter(output, options)
    explanations = classifier.explain_each(
        listed,
        class_name=options.class_name,
        method=options.method,
        precision=options.precision,
    )
    rows = []
    with make_bar(len(listed.names), "explaining", shown=progress) as bar:
        stems = _name_files(listed.names)
        for name, stem, each in zip(listed.names, stems, explanations, strict=True):
            rows.append(writer.write(each, name, stem, masks.get(name, ())))
            bar.update()
    writer.write_sheet()
    table = _tabulate(classifier, listed.names, rows, options)
    write_text(Path(output, "explanations.csv"), to_csv(table))
    return table


def count_verdicts(table: pd.DataFrame) -> str:
    """Count the verdicts of a table of `explain`, the most frequent first.

    Example:
        >>> count_verdicts(pd.DataFrame({"verdict": ["ok", "blank", "ok", None]}))
        '2 ok, 1 blank'
    """
    counts = Counter(table["verdict"].dropna())
    return ", ".join(f"{count:,} {word}" for word, count in counts.most_common())


def _find_masks(folder, names):
    masks = find_masks(folder, names)
    if len(masks) < len(set(names)):
        logger.info("%s of %s pictures have a mask in %s", len(masks), len(names), folder)
    return masks


def _tabulate(classifier, names, rows, options):
    rows = pd.DataFrame(rows)
    probability = rows.pop("probability").to_numpy(np.float32)
    reasons = rows.pop("reason").to_numpy()
    table = tabulate(names, probability, reasons, threshold=classifier.threshold)
    table = classifier.refer(table, rows.pop("familiar").to_numpy())
    table["method"], table["class"] = options.method, options.class_name
    if settle_precision(options.precision) != "float32":
        table["precision"] = settle_precision(options.precision)
    columns = ["verdict", "verdict_value", "hot_area", "overlay"]
    columns += ["map"] if options.raw else []
    columns += ["mask_area", "pointing_hit", "mass_inside", "best_iou"] if options.masks else []
    return table.join(rows.reindex(columns=columns))


def _check_output(inputs, output):
    """Refuse to write among what is read: the next run would explain its own overlays."""
    items = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    folders = [item for item in items if isinstance(item, str | os.PathLike)]
    for folder in filter(os.path.isdir, folders):
        if Path(output).resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(
                f"`output` must lie outside the pictures' folder {folder}, or the next run would "
                f"explain the overlays. Received: {output}"
            )


def _name_files(names):
    """Flatten the pictures' names; those of one name, from two folders, are numbered."""
    sheets = range(1, 2 + len(names) // SHEET_SIZE)
    taken = {f"sheet-{sheet}" for sheet in sheets}
    for name in names:
        parts = [part for part in Path(name).parts if part not in (Path(name).anchor, "..", ".")]
        stem = file = _cut("_".join(parts))
        number = 1
        while file.casefold() in taken:  # some disks take A.png for a.png
            number += 1
            file = f"{stem}-{number}"
        taken.add(file.casefold())
        yield file


def _cut(stem):
    """The end of a name, as long as file systems take it with a number and an ending."""
    return os.fsencode(stem)[-200:].decode(errors="ignore")
