"""The notebook: what is committed can be trusted, and it runs from top to bottom."""

import re

import nbformat
import pytest

from bcnet import Classifier, workflows
from bcnet.workflows.notebook import NOTEBOOK


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


def list_code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebook_was_committed_executed_in_order(committed):
    counts = [cell.execution_count for cell in list_code(committed)]
    assert counts == list(range(1, len(counts) + 1))


def test_notebook_is_small_and_holds_no_path_of_the_machine_it_ran_on():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 2_000_000
    assert not re.search(r"(?<![\w.])/(?:work|tmp|root|home|Users)/\w", text)


def test_notebook_cells_are_short_and_define_nothing(committed):
    for cell in list_code(committed):
        lines = cell.source.splitlines()
        assert len(lines) <= 15
        assert not any(line.startswith(("def ", "class ")) for line in lines)


def test_notebook_shows_neither_errors_nor_warnings(committed):
    for cell in list_code(committed):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert "Warning" not in output.get("text", "")


def test_notebook_figures_have_a_description(committed):
    for cell in list_code(committed):
        if any("image/jpeg" in output.get("data", {}) for output in cell.outputs):
            assert cell.metadata.get("alt")


def test_run_notebook_leaves_report_notebook_and_models(simulated_folder, tmp_path):
    report = workflows.run_notebook(tmp_path, {"DATA": str(simulated_folder), "EPOCHS": 1})
    executed = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    assert all(cell.execution_count for cell in list_code(executed))
    assert Classifier.load(tmp_path / "models" / "notebook-cnn.keras").image_size == (48, 48)
    page = report.read_text(encoding="utf-8")
    assert "<img" in page
    assert not re.search(r"<script|@import|<link[^>]+href|src=\"http|url\(\"?http", page)
    assert "simulated" in page
    assert 'alt="Confusion matrix and ROC curve of the test patients"' in page


def test_run_notebook_names_a_parameter_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no parameter EPOCH"):
        workflows.run_notebook(tmp_path, {"EPOCH": 1})


def test_run_notebook_says_why_it_stopped_and_keeps_what_it_had(tmp_path):
    with pytest.raises(ValueError, match=r"the notebook stopped: .*nowhere"):
        workflows.run_notebook(tmp_path, {"DATA": str(tmp_path / "nowhere")})
    assert (tmp_path / NOTEBOOK.name).exists()
