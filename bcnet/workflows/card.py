"""The model card as a file, with the figures that `card.json` holds the numbers of.

Belongs here: files and figures. Does not: the words (`card_text` of pictures, `card_measurements`),
markup (`document`), what the Hub reads before them (`front_matter`).
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bcnet import plots
from bcnet.atomic import write_text
from bcnet.cardfile import ModelFileError, first_line, locate_model, read_card
from bcnet.measurements.card import KIND
from bcnet.workflows.card_measurements import describe_measurement_model
from bcnet.workflows.card_text import describe_model
from bcnet.workflows.card_words import NOT_RECORDED, find
from bcnet.workflows.document import Figure, write_html, write_markdown
from bcnet.workflows.front_matter import make_front_matter, write_yaml
from bcnet.workflows.recording import ROBUSTNESS

FORMATS = (".md", ".html")


def write_model_card(
    path: str | os.PathLike, output: str | os.PathLike, *, licence: str | None = None
) -> Path:
    """Write the model card of a model file, from its `card.json` alone.

    Args:
        path: the model file, or the name of one that comes with the project.
        output: `.md`, with the Hub's front matter and figures in the folder NAME_files beside it;
            or `.html`, one file that needs no other.
        licence: of the model, e.g. "MIT"; the card knows only that of its data.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: when there is no such model file.
        ValueError: for another ending, or a model file without a card.
    """
    output = Path(output)
    if output.suffix not in FORMATS:
        raise ValueError(f"`output` must end in {' or '.join(FORMATS)}. Received: output={output}")
    path = locate_model(path)
    card, name = read_card(path), Path(path).stem
    if not isinstance(card, dict):
        raise ModelFileError(path, "its card is not a JSON object")
    write = _write_markdown if output.suffix == ".md" else _write_html
    try:
        write(output, card, {"name": name, "licence": licence})
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # as text for a number does
        raise ModelFileError(path, f"its card is damaged: {first_line(error)}") from error
    return output


def _write_markdown(output, card, told):
    blocks = _describe(card, told, output.with_name(f"{output.stem}_files"))
    front, text = make_front_matter(card, **told), write_markdown(_make_title(told), blocks)
    write_text(output, f"---\n{write_yaml(front)}---\n\n{text}")


def _write_html(output, card, told):
    with TemporaryDirectory() as folder:
        blocks = _describe(card, told, Path(folder))
        write_text(output, write_html(_make_title(told), blocks))


def _make_title(told):
    return f"Model card: {told['name']}"


def _describe(card, told, folder):
    return describe_card(card, **told, figures=_draw(card, folder))


def describe_card(
    card: dict, name: str, *, licence: str | None = None, figures: dict | None = None
) -> list:
    """Tell all that a card holds, of a model of either kind.

    Args:
        card: as in the model file.
        name: of the model.
        licence: of the model.
        figures: `document.Figure`s by the title of the section that they stand in.

    Returns:
        Blocks of `document`.
    """
    describe = describe_measurement_model if card.get("kind") == KIND else describe_model
    return describe(card, name, licence=licence, figures=figures)


def _draw(card, folder):
    """Draw figures, listed by the title of the section that they stand in."""
    simulated = " · simulated pictures" if find(card, "data", "simulated") else ""
    data = find(card, "data", "name") or NOT_RECORDED
    matrix, figures = find(card, "metrics", "test", "confusion_matrix"), {}
    if matrix:
        note = f"{data}, test{simulated}"
        ax = plots.plot_confusion_matrix(np.array(matrix), note=note)
        path = plots.save_figure(ax, folder / "confusion_matrix.png")
        figures["Metrics"] = [Figure(path, f"Confusion matrix of the test part ({note})")]
    history = find(card, "training", "history")
    if history:
        best, note = find(card, "training", "best_epoch"), f"{data}{simulated}"
        axes = plots.plot_history(history, best_epoch=best, note=note)
        path = plots.save_figure(axes[0], folder / "training.png")
        figures["Training"] = [Figure(path, f"Loss and accuracy by epoch ({note})")]
    trials = find(card, ROBUSTNESS) or {}
    figures["Robustness"] = [
        _draw_stress(trial, folder / f"robustness_{number}.png")
        for number, trial in enumerate(trials.values(), 1)
    ]
    return figures


def _draw_stress(trial, path):
    note = f"{trial['data']}, {trial['part']}"
    note += " · simulated pictures" if trial["simulated"] else ""
    path = plots.save_figure(plots.plot_stress(trial, note=note)[0], path)
    return Figure(path, f"Measures by severity of what was done to the pictures ({note})")
