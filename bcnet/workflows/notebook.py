"""The notebook run from top to bottom, with its report and models in one folder."""

import html
import logging
import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from bcnet.atomic import write_text
from bcnet.workflows.progress import make_bar

NOTEBOOK = Path(__file__).parents[2] / "breast-cancer-image-project.ipynb"

# What TensorFlow's C++ writes when it starts, past every setting of Python.
STARTUP_CHATTER = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:")

COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # a terminal's, in a traceback

NO_DESCRIPTION = "No description has been provided for this image"

# A cell may train for long on a slow machine or on many pictures; only a hang should end it.
CELL_TIMEOUT = 6 * 3600


def run_notebook(
    output: str | os.PathLike, parameters: dict | None = None, *, progress: bool = False
) -> Path:
    """Run the notebook on its own data or on yours.

    Args:
        output: folder for the executed notebook, the HTML report (which needs no network) and the
            trained models.
        parameters: values instead of those of the cell tagged "parameters": DATA, EPOCHS,
            IMAGE_SIZE, SEED, VGG16_WEIGHTS.
        progress: show a bar over the cells.

    Returns:
        The report.

    Raises:
        FileNotFoundError: when the notebook is not beside the package.
        ValueError: for an unknown parameter, or when a cell fails; the notebook as far as it
            came, with its traceback, is in `output`.
    """
    notebook = _read_notebook()
    output = Path(output).resolve()
    settings = {"OUTPUT": str(output), **(parameters or {})}
    if settings.get("DATA"):
        settings["DATA"] = str(Path(settings["DATA"]).resolve())
    _set_parameters(notebook, settings)
    executed = output / NOTEBOOK.name
    try:
        _execute(notebook, progress)
    except CellExecutionError as error:
        write_text(executed, nbformat.writes(notebook))
        last = COLOURS.sub("", str(error)).strip().splitlines()[-1]
        raise ValueError(f"the notebook stopped: {last} (see {executed})") from error
    write_text(executed, nbformat.writes(notebook))
    report = executed.with_suffix(".html")
    write_text(report, to_html(notebook))
    return report


def _read_notebook():
    if not NOTEBOOK.exists():
        raise FileNotFoundError(f"no notebook at {NOTEBOOK}; run from a checkout of bcnet")
    return nbformat.read(NOTEBOOK, as_version=4)


def _set_parameters(notebook, settings):
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    lines = cell.source.splitlines()
    for name, value in settings.items():
        places = [i for i, line in enumerate(lines) if line.startswith(f"{name} = ")]
        if not places:
            raise ValueError(f"the notebook has no parameter {name}")
        lines[places[0]] = f"{name} = {value!r}"
    cell.source = "\n".join(lines)


def _execute(notebook, progress):
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    with make_bar(code, "notebook", shown=progress) as bar:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(NOTEBOOK.parent)}},
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute()
        finally:
            _keep_last_progress(notebook)


def _keep_last_progress(notebook):
    """Keep of each progress bar what was last seen of it, as a terminal does."""
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            same = kept and output.output_type == kept[-1].output_type == "stream"
            if same and output.name == kept[-1].name:
                kept[-1].text += output.text
            else:
                kept.append(output)
        for output in kept:
            if output.output_type == "stream":
                text = re.sub(r"[^\n]*\r(?=[^\n])", "", output.text)
                output.text = "".join(
                    line for line in text.splitlines(True) if not STARTUP_CHATTER.match(line)
                )
        if "outputs" in cell:
            cell.outputs = [o for o in kept if o.output_type != "stream" or o.text.strip()]


def to_html(notebook: nbformat.NotebookNode) -> str:
    """Turn a notebook into one HTML page that loads nothing from the network.

    Args:
        notebook: executed; figures are embedded.

    Returns:
        The page.
    """
    quiet = logging.getLogger("bcnet.nbconvert")
    quiet.setLevel(logging.ERROR)  # it warns of descriptions it does not look for: see below
    exporter = HTMLExporter(template_name="lab", embed_images=True, log=quiet)
    page, _ = exporter.from_notebook_node(notebook)
    page = _describe_figures(page, notebook)
    # The template fetches MathJax, RequireJS and Mermaid; a report without formulas needs none.
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL | re.IGNORECASE)


def _describe_figures(page, notebook):
    """Give each figure the description that its cell has: the template knows no `alt`."""
    figures = [
        cell.metadata.get("alt", NO_DESCRIPTION)
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    words = iter(figures)
    return re.sub(NO_DESCRIPTION, lambda found: html.escape(next(words, found[0])), page)
