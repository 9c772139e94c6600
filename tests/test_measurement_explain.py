"""Why an answer of a measurements model is what it is: contributions, importance, what-if."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcnet import plots
from bcnet.data.measurements import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.measurements.explain import explain_rows
from bcnet.measurements.features import Engineer
from bcnet.measurements.fitting import fit_measurements
from bcnet.measurements.importance import measure_importance, trace_dependence
from bcnet.measurements.logits import take_apart
from bcnet.measurements.ranges import describe_features, make_median_row
from bcnet.measurements.what_if import find_changes


@pytest.fixture(scope="module")
def table():
    return load_wisconsin()


@pytest.fixture(scope="module")
def features(table):
    return describe_features(table)


@pytest.fixture(scope="module")
def reference(features):
    return make_median_row(features)


def fit(table, model, kind="plain"):
    """Fit and calibrate a model behind an engineering and a scaling."""
    pipeline = make_pipeline(Engineer(kind), StandardScaler(), model)
    estimator = CalibratedClassifierCV(pipeline, ensemble=False, cv=2)
    return take_apart(estimator.fit(table[list(FEATURES)], table["label"]))


@pytest.fixture(scope="module")
def linear(table):
    return fit(table, LogisticRegression(C=0.1), "log")


@pytest.fixture(scope="module")
def forest(table):
    return fit(table, RandomForestClassifier(20, max_depth=5, random_state=0))


@pytest.fixture(scope="module")
def kernel(table):
    return take_apart(fit_measurements(table, "svm_rbf", quick=True).estimator)


@pytest.mark.parametrize(
    ("name", "method"), [("linear", "linear"), ("forest", "tree"), ("kernel", "exchange")]
)
def test_contributions_and_base_sum_to_the_logit(name, method, table, reference, request):
    calibrated = request.getfixturevalue(name)
    rows = table[list(FEATURES)].iloc[::60]
    found = explain_rows(calibrated, rows, reference)
    assert found.method == method
    sums = found.base + found.table.sum(axis=1)
    np.testing.assert_allclose(sums, calibrated.compute_logits(rows), atol=1e-6)


def test_contributions_are_in_the_calibrated_logit(linear, table, reference):
    rows = table[list(FEATURES)].iloc[:3]
    found = explain_rows(linear, rows, reference)
    z = linear.slope * linear.pipeline.decision_function(rows) + linear.intercept
    np.testing.assert_allclose(found.base + found.table.sum(axis=1), z, atol=1e-12)


def test_contributions_of_a_plane_are_those_of_shap(linear, table, reference):
    import shap

    rows = table[list(FEATURES)].iloc[:5]
    seen, seen_reference = (linear.pipeline[:-1].transform(each) for each in (rows, reference))
    expected = shap.LinearExplainer(linear.pipeline[-1], seen_reference).shap_values(seen)
    found = explain_rows(linear, rows, reference).table
    np.testing.assert_allclose(found, linear.slope * expected, atol=1e-9)


def test_contributions_by_exchange_of_a_plane_are_exact(linear, table, reference):
    from bcnet.measurements.explain import _explain_by_exchange

    rows = table[list(FEATURES)].iloc[:2]
    found = _explain_by_exchange(linear.compute_logits, rows, reference, seed=0)
    np.testing.assert_allclose(found, explain_rows(linear, rows, reference).table, atol=1e-9)


def test_contributions_by_exchange_share_a_product_equally(reference):
    from bcnet.measurements.explain import _explain_by_exchange

    def multiply(rows):
        return rows["mean radius"].to_numpy() * rows["mean texture"].to_numpy()

    start = pd.DataFrame(np.zeros((1, 30)), columns=list(FEATURES))
    row = start.assign(**{"mean radius": 2.0, "mean texture": 3.0})
    found = _explain_by_exchange(multiply, row, start, seed=0)[0]
    assert found[:3].tolist() == [3.0, 3.0, 0.0]


def test_contributions_of_the_reference_are_nothing(kernel, reference):
    assert explain_rows(kernel, reference, reference).table.abs().to_numpy().max() == 0


def test_contributions_of_a_derived_column_are_of_what_it_is_made(table, reference):
    rich = fit(table, LogisticRegression(C=0.1), "rich")
    found = explain_rows(rich, table[list(FEATURES)].iloc[:1], reference)
    assert found.method == "exchange"
    assert list(found.table.columns) == list(FEATURES)


def test_contribution_of_a_missing_value_is_nothing_where_the_median_stands_in(table, reference):
    calibrated = take_apart(fit_measurements(table, "logistic", quick=True).estimator)
    row = table[list(FEATURES)].iloc[:1].assign(**{"worst texture": np.nan})
    assert abs(explain_rows(calibrated, row, reference).table["worst texture"].iloc[0]) < 1e-9


def test_contributions_come_again_with_the_seed(kernel, table, reference):
    rows = table[list(FEATURES)].iloc[:1]
    first, again, other = (explain_rows(kernel, rows, reference, seed=s).table for s in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def use_first_two(rows):
    """Logit of two measurements: the mean radius, and the mean texture ten times as weakly."""
    return (rows["mean radius"] - 15).to_numpy() + 0.1 * (rows["mean texture"] - 20).to_numpy()


def test_measure_importance_puts_what_is_used_first(table):
    found = measure_importance(use_first_two, table.iloc[:200], draws=100)
    assert found["measurement"][:1].tolist() == ["mean radius"]
    assert found["low"][0] > 0
    assert (found.set_index("measurement").loc[list(FEATURES[2:]), "importance"].abs() < 1e-9).all()


def test_measure_importance_needs_labels(table):
    with pytest.raises(ValueError, match="must have labels"):
        measure_importance(use_first_two, table.drop(columns="label"))


def test_trace_dependence_of_a_single_measurement(table):
    found = trace_dependence(lambda rows: rows["mean radius"].to_numpy() - 15, table, "mean radius")
    expected = 1 / (1 + np.exp(15 - found["value"]))
    np.testing.assert_allclose(found["probability"], expected)


def test_trace_dependence_of_no_measurement(table):
    with pytest.raises(ValueError, match=r"one of the 30 measurements. Received: name='id'"):
        trace_dependence(use_first_two, table, "id")


def take_patient(table, **values):
    return (
        table[list(FEATURES)]
        .iloc[[19]]
        .assign(**{k.replace("_", " "): v for k, v in values.items()})
    )


def test_find_changes_finds_the_smallest_of_one_measurement(table, features):
    row = take_patient(table, mean_radius=13.0, worst_radius=28.0)
    found = find_changes(lambda rows: rows["mean radius"].to_numpy() - 15, row, features, cut=0)
    assert found["measurement"].tolist() == ["mean radius"]
    assert 15 <= found["to"][0] < 15.1
    assert found["size"][0] == pytest.approx((found["to"][0] - 13) / features[0]["deviation"])
    assert found["label"][0] == "malignant"


def test_find_changes_really_turn_the_answer(linear, table, features):
    row, cut = table[list(FEATURES)].iloc[[19]], 0.0
    found = find_changes(linear.compute_logits, row, features, cut=cut)
    assert len(found)
    for change in found.to_dict("records"):
        turned = row.assign(**{change["measurement"]: change["to"]})
        assert linear.compute_logits(turned)[0] >= cut > linear.compute_logits(row)[0]


def test_find_changes_keeps_worst_above_mean(table, features):
    def add(rows):
        return (rows["mean radius"] + 0.001 * rows["worst radius"]).to_numpy() - 15

    row = take_patient(table, mean_radius=13.0, worst_radius=14.0)
    found = find_changes(add, row, features, cut=0)
    assert set(found["measurement"][found["change"] == 1]) == {"mean radius", "worst radius"}
    to = found.set_index("measurement")["to"]
    assert to["worst radius"] >= to["mean radius"] >= 14.9


def test_find_changes_stays_in_the_measured_range(table, features):
    row = take_patient(table)
    highest = features[1]["highest"]
    found = find_changes(
        lambda rows: rows["mean texture"].to_numpy() - highest - 1, row, features, cut=0
    )
    assert found.empty


def test_find_changes_tries_several_where_one_is_not_enough(table, features):
    needed = 0.9 * (features[1]["highest"] + features[4]["highest"] * 100)

    def add(rows):
        return rows["mean texture"].to_numpy() + rows["mean smoothness"].to_numpy() * 100 - needed

    row = take_patient(table, mean_texture=15.0, mean_smoothness=0.08, worst_texture=49.0,
                       worst_smoothness=0.22)  # fmt: skip
    found = find_changes(add, row, features, cut=0)
    assert set(found[found["change"] == 1]["measurement"]) == {"mean texture", "mean smoothness"}


def test_plot_waterfall_ends_at_the_logit():
    told = {"measurement": list("abc"), "value": [1.0, np.nan, 2.0], "unit": ["px", "", ""]}
    contributions = pd.DataFrame(told | {"contribution": [2.0, -0.5, 0.25]})
    ax = plots.plot_waterfall(contributions, base=-1.0, threshold=0.5, shown=2)
    last = ax.patches[-1]
    assert last.get_x() + last.get_width() == pytest.approx(0.75)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["a = 1 px", "b = missing", "1 others"]


def test_plot_beeswarm_shows_every_row(table):
    values = table[list(FEATURES)].iloc[:50]
    ax = plots.plot_beeswarm(values - values.mean(), values, shown=3)
    points = [each for each in ax.collections if len(each.get_offsets()) == 50]
    assert len(points) == 3
    assert {round(y) for each in points for y in each.get_offsets()[:, 1]} == {0, 1, 2}


def test_plot_dependence_leaves_missing_values_out():
    ax = plots.plot_dependence([1.0, np.nan, 3.0], [0.1, 0.2, 0.3], name="a")
    assert "2 rows" in "".join(each.get_text() for each in ax.texts)
