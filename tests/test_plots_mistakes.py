"""What a figure of mistakes shows is what was measured."""

import pytest
from matplotlib import pyplot as plt

from bcnet import plots


@pytest.fixture
def leak():
    def estimate(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.05}

    found = {"right": estimate(0.7), "wrong": estimate(0.5), "difference": estimate(-0.2)}
    return {
        "n_images": 1200,
        "n_patients": 300,
        "patient_split": estimate(0.8),
        "image_split": estimate(0.9),
        "inflation": estimate(0.1),
        "failures": {"normalisation": {"measure": "balanced_accuracy", **found}},
    }


def test_plot_mistakes_sets_each_mistake_beside_what_is_right(leak):
    ax = plots.plot_mistakes(leak, note="simulated")
    right, wrong = (container.lines[0].get_xdata().tolist() for container in ax.containers)
    assert (right, wrong) == ([0.8, 0.7], [0.9, 0.5])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0] == "split by picture: AUC"
    assert names[1].endswith("balanced accuracy")
    told = " ".join(text.get_text() for text in ax.texts)
    assert "difference 0.100 [0.000, 0.150]" in told
    assert "1,200 pictures of 300 patients" in told
    assert "simulated" in told
    plt.close(ax.figure)


def test_plot_mistakes_draws_a_figure_without_an_interval(leak):
    leak["image_split"] = {"value": 0.9, "low": None, "high": None}
    ax = plots.plot_mistakes(leak)
    assert ax.containers[1].lines[0].get_xdata().tolist() == [0.9, 0.5]
    plt.close(ax.figure)
