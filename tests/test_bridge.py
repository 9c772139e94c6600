"""Pictures and measurements of the same patients: nothing of the held-out ones may be learned."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from bcnet import Classifier, plots, workflows
from bcnet.data.manifest import patient_keys
from bcnet.data.quantities import FEATURES
from bcnet.workflows.bridging import MODELS, _bound_share, format_bridge


@pytest.fixture(scope="module")
def divided(simulated, quick_config):
    return replace(simulated, table=workflows.divide(simulated.table, quick_config))


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture(scope="module")
def result(classifier, divided):
    return workflows.bridge(classifier, divided, folds=2)


def test_bridge_judges_all_three_on_the_held_out_patients(result, divided):
    test = divided.table["split"] == "test"
    keys = patient_keys(divided.table)
    assert result["n_test"] == keys[test].nunique()
    assert result["n_train"] == keys[~test].nunique()
    assert tuple(result["models"]) == MODELS
    assert result["models"]["measurements"]["auc"]["value"] > 0.9  # they are what was drawn
    for found in result["differences"].values():
        assert found["n_cases"] == result["n_test"]


def test_bridge_learns_nothing_from_the_labels_of_held_out_patients(result, classifier, divided):
    test = divided.table["split"] == "test"
    labels = divided.table["label"].where(~test, 1 - divided.table["label"])
    turned = replace(divided, table=divided.table.assign(label=labels))
    again = workflows.bridge(classifier, turned, folds=2)
    assert again["weights"] == result["weights"]
    for name in MODELS:
        aucs = [each["models"][name]["auc"]["value"] for each in (result, again)]
        assert sum(aucs) == pytest.approx(1)


def test_bridge_recovers_every_measurement_best_first(result):
    assert set(result["recovered"]) == set(FEATURES)
    values = [each["value"] for each in result["recovered"].values()]
    assert values == sorted(values, reverse=True)


def test_bridge_refuses_pictures_that_were_not_drawn_from_measurements(classifier, divided):
    other = replace(divided, info=replace(divided.info, simulated=False))
    with pytest.raises(ValueError, match="needs the built-in pictures"):
        workflows.bridge(classifier, other)


def test_bridge_refuses_pictures_without_a_test(classifier, divided):
    without = replace(divided, table=divided.table.assign(split="train"))
    with pytest.raises(ValueError, match="must have a test part"):
        workflows.bridge(classifier, without)


@pytest.mark.parametrize(
    ("predicted", "share"), [([1, 2, 3, 4], 1.0), ([2.5] * 4, 0.0), ([2, 2, 3, 3], 0.6)]
)
def test_bound_share_is_one_for_the_truth_and_none_for_the_mean(predicted, share):
    truth = np.array([1.0, 2, 3, 4])  # variance 5 / 4; of the last, 2 / 4 is left
    found = _bound_share(truth, (truth - predicted) ** 2, draws=1)
    assert found["value"] == pytest.approx(share)


def test_format_bridge_names_the_models_and_the_differences(result):
    told = format_bridge(result)
    assert "picture       AUC" in told
    assert "measurements → both: AUC" in told


def test_plot_bridge_shows_each_model_and_each_measurement(result):
    axes = plots.plot_bridge(result, note="simulated")
    models, recovered = (ax.containers[0].lines[0].get_xdata() for ax in axes)
    assert models.tolist() == [each["auc"]["value"] for each in result["models"].values()]
    assert recovered.tolist() == [each["value"] for each in result["recovered"].values()]
    plt.close(axes[0].figure)
