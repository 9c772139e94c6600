"""A look at measurements before any model: one page of words, a table and figures.

Belongs here: the page and its files. Does not: the words (`exploration_text`), the numbers
(`bcnet.evaluate.exploration`), how they are drawn (`bcnet.plots.measurements`), markup
(`document`). None of it needs TensorFlow.
"""

import os
from collections.abc import Callable
from pathlib import Path

from bcnet import plots
from bcnet.atomic import write_text
from bcnet.config import CLASS_NAMES
from bcnet.data.measurement_checks import check_measurements
from bcnet.data.measurements import read_measurements
from bcnet.data.quantities import STATISTICS
from bcnet.data.wisconsin import LICENCE, SOURCE
from bcnet.evaluate.exploration import (
    cluster_measurements,
    find_outliers,
    judge_alone,
    project,
    summarise,
)
from bcnet.workflows.document import Figure, write_html
from bcnet.workflows.exploration_text import Look, describe_look
from bcnet.workflows.progress import make_bar

PAGE, FIGURES = "index.html", "figures"


def explore(
    source=None, output: str | os.PathLike = "exploration", *, progress: bool = False
) -> Path:
    """Write a page that shows what labelled measurements look like.

    Args:
        source: as for `bcnet.data.measurements.read_measurements`; None for the Wisconsin data.
        output: folder for `index.html`, which needs no other file, and its figures as PNG.
        progress: show a bar.

    Returns:
        The page. It names patients by the ids of the data.

    Raises:
        ValueError: the measurements cannot be read, or are not of both classes.
        OSError: a file cannot be read or written.

    Example:
        `explore(output="report")` writes `report/index.html` on 569 patients.
    """
    table = read_measurements(source, labelled=True)
    if table["label"].nunique() < 2:
        only = CLASS_NAMES[table["label"].iloc[0]]
        raise ValueError(f"both classes must be among the patients. Received: {only} only")
    look = _look(table, *_name_source(source))
    drawings = _list_drawings(look)
    folder, figures = Path(output) / FIGURES, {}
    with make_bar(len(drawings), "drawing", shown=progress) as bar:
        for name, (draw, caption) in drawings.items():
            figures[name] = Figure(plots.save_figure(draw(), folder / f"{name}.png"), caption)
            bar.update()
    page = Path(output) / PAGE
    write_text(page, write_html("A look at the measurements", describe_look(look, figures)))
    return page


def _name_source(source):
    if source is None:
        return SOURCE, LICENCE
    is_file = isinstance(source, str | os.PathLike)
    return Path(source).name if is_file else "a table", "not stated"


def _look(table, name, licence):
    return Look(
        table=table,
        name=name,
        licence=licence,
        findings=check_measurements(table),
        summary=summarise(table),
        judged=judge_alone(table),
        clustered=cluster_measurements(table),
        outliers=find_outliers(table),
        projected=project(table),
    )


def _list_drawings(look) -> dict[str, tuple[Callable, str]]:
    """List what is to be drawn, each with the words below it."""
    table, n_rows, note = look.table, len(look.table), look.name
    drawings = {
        statistic: (
            lambda statistic=statistic: plots.plot_distributions(
                table, statistic=statistic, note=note
            )[0],
            f"Distributions by class, {statistic}",
        )
        for statistic in STATISTICS
    }
    drawings["separation"] = (
        lambda: plots.plot_separation(look.judged, n_rows=n_rows, note=note),
        "AUC of each measurement alone, with 95 % intervals from a bootstrap over patients",
    )
    if look.clustered["clusters"]:
        drawings["correlation"] = (
            lambda: plots.plot_correlation(look.clustered, n_rows=n_rows, note=note),
            "Rank correlations, alike measurements beside each other",
        )
    drawings["projection"] = (
        lambda: plots.plot_projection(look.projected, table["label"], note=note)[0],
        "The first two principal components, and the variance that components hold",
    )
    if look.outliers:
        drawings["outliers"] = (
            lambda: plots.plot_outliers(look.outliers, table, note=note),
            "Values that stand apart, with the ids of the farthest patients",
        )
    return drawings
