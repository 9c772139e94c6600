"""The model card as a file, with the figures that `card.json` holds the numbers of.

Belongs here: files and figures. Does not: the words (`card_text`), markup (`document`), what the
Hub reads before them (`front_matter`).
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bcnet import plots
from bcnet.atomic import write_text
from bcnet.modelfile import ModelFileError, locate_model, read_card
from bcnet.workflows.card_text import NOT_RECORDED, describe_model, find
from bcnet.workflows.document import Figure, write_html, write_markdown
from bcnet.workflows.front_matter import make_front_matter, write_yaml

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
    title, told = f"Model card: {name}", {"name": name, "licence": licence}
    if output.suffix == ".md":
        figures = _draw(card, output.with_name(f"{output.stem}_files"))
        text = write_markdown(title, describe_model(card, **told, figures=figures))
        write_text(output, f"---\n{write_yaml(make_front_matter(card, **told))}---\n\n{text}")
        return output
    with TemporaryDirectory() as folder:
        figures = _draw(card, Path(folder))
        write_text(output, write_html(title, describe_model(card, **told, figures=figures)))
    return output


def _draw(card, folder):
    """Draw figures, each for the section by whose title it stands."""
    simulated = " · simulated pictures" if find(card, "data", "simulated") else ""
    data = find(card, "data", "name") or NOT_RECORDED
    matrix, figures = find(card, "metrics", "test", "confusion_matrix"), {}
    if matrix:
        note = f"{data}, test{simulated}"
        ax = plots.plot_confusion_matrix(np.array(matrix), note=note)
        path = plots.save_figure(ax, folder / "confusion_matrix.png")
        figures["Metrics"] = Figure(path, f"Confusion matrix of the test part ({note})")
    history = find(card, "training", "history")
    if history:
        best, note = find(card, "training", "best_epoch"), f"{data}{simulated}"
        axes = plots.plot_history(history, best_epoch=best, note=note)
        path = plots.save_figure(axes[0], folder / "training.png")
        figures["Training"] = Figure(path, f"Loss and accuracy by epoch ({note})")
    return figures
