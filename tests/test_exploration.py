"""A look at measurements: numbers worked by hand, figures by their data, the page by its words."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import scale

from bcnet import plots
from bcnet.cli import main
from bcnet.data.measurements import FEATURES, read_measurements
from bcnet.evaluate.exploration import (
    SAME,
    cluster_measurements,
    find_outliers,
    judge_alone,
    project,
    summarise,
)
from bcnet.plots.style import CLASS_COLOURS, plt
from bcnet.workflows import explore


@pytest.fixture(scope="module")
def wisconsin():
    return read_measurements()


@pytest.fixture(scope="module")
def judged(wisconsin):
    return judge_alone(wisconsin, draws=50)


@pytest.fixture(scope="module")
def small(wisconsin):
    """Sixty patients of both classes, with a gap and a column that says nothing."""
    table = wisconsin.iloc[20:80].reset_index(drop=True)
    table["mean texture"] = 20.0
    table.loc[3, "worst area"] = np.nan
    return table


@pytest.fixture
def ramp():
    """Seven rows in which every measurement rises by 1, and the last runs away."""
    rows = {name: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0] for name in FEATURES}
    return pd.DataFrame(rows).assign(label=[0, 0, 0, 0, 1, 1, 1], patient_id=list("abcdefg"))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_summarise_gives_quartiles_by_class(ramp):
    first = summarise(ramp)[0]
    assert first["benign"] == [0.75, 1.5, 2.25]
    assert first["malignant"] == [4.5, 5.0, 7.0]


def test_summarise_counts_gaps(small):
    assert {each["name"]: each["missing"] for each in summarise(small)}["worst area"] == 1


def test_judge_alone_equals_scikit_learns_auc(wisconsin, judged):
    for each in judged:
        auc = roc_auc_score(wisconsin["label"], wisconsin[each["name"]])
        assert each["auc"]["value"] == pytest.approx(max(auc, 1 - auc)), each["name"]


def test_judge_alone_says_which_class_is_higher(judged):
    higher = {each["name"]: each["higher"] for each in judged}
    assert higher["worst radius"] == "malignant"
    assert higher["symmetry error"] == "benign"


def test_judge_alone_sorts_the_best_first(judged):
    values = [each["auc"]["value"] for each in judged]
    assert values == sorted(values, reverse=True)


def test_judge_alone_puts_the_value_within_its_interval(judged):
    assert all(each["auc"]["low"] <= each["auc"]["value"] <= each["auc"]["high"] for each in judged)


def test_judge_alone_lets_the_interval_of_noise_reach_below_a_half(judged):
    assert next(each for each in judged if each["name"] == "texture error")["auc"]["low"] < 0.5


def test_judge_alone_draws_patients_not_rows(ramp):
    thrice = pd.concat([ramp.assign(label=[0, 1, 0, 1, 0, 1, 1])] * 30)
    by_row = thrice.assign(patient_id=[str(row) for row in range(len(thrice))])
    widths = [
        auc["high"] - auc["low"]
        for auc in (judge_alone(table, draws=400)[0]["auc"] for table in (thrice, by_row))
    ]
    assert widths[0] > 2 * widths[1]


def test_judge_alone_leaves_gaps_out(small):
    found = {each["name"]: each["n"] for each in judge_alone(small, draws=10)}
    assert (found["worst area"], found["mean area"]) == (59, 60)


def test_judge_alone_puts_a_measurement_without_values_last(ramp):
    found = judge_alone(ramp.assign(**{"mean area": np.nan}), draws=10)
    assert found[-1] == {
        "name": "mean area",
        "n": 0,
        "higher": None,
        "auc": {"value": None, "low": None, "high": None},
    }


def test_cluster_measurements_puts_the_sizes_together(wisconsin):
    clusters = {each["name"]: each for each in cluster_measurements(wisconsin)["clusters"]}
    assert len(clusters["radius, perimeter, area"]["members"]) == 9
    assert clusters["texture error"]["members"] == ["texture error"]


def test_cluster_measurements_keeps_its_promise_within_clusters(wisconsin):
    found = cluster_measurements(wisconsin)
    ranks = wisconsin[found["order"]].rank()
    for cluster in found["clusters"]:
        within = ranks[cluster["members"]].corr().abs().to_numpy()
        assert within.min() == pytest.approx(cluster["lowest"])
        assert within.min() >= SAME


def test_cluster_measurements_takes_opposites_for_the_same(ramp):
    turned = ramp.assign(**{"mean radius": -ramp["mean radius"]})
    names = [each["name"] for each in cluster_measurements(turned)["clusters"]]
    assert names == ["radius, texture, perimeter and 7 more"]


def test_cluster_measurements_orders_its_matrix_as_its_names(wisconsin):
    found = cluster_measurements(wisconsin)
    expected = wisconsin[found["order"]].corr(method="spearman")
    np.testing.assert_allclose(found["correlation"], expected)


def test_cluster_measurements_leaves_out_what_does_not_vary(small):
    found = cluster_measurements(small)
    assert found["left_out"] == ["mean texture"]
    assert sorted([*found["order"], "mean texture"]) == sorted(FEATURES)


def test_find_outliers_measures_each_side_by_its_own_spread():
    # above the median of 10 the usual distance is 1, below it 5: 20 is far, 0 is not
    values = [0.0, 4.0, 5.0, 6.0, 10.0, 10.5, 11.0, 11.0, 20.0]
    table = pd.DataFrame(dict.fromkeys(FEATURES, values)).assign(patient_id=list("abcdefghi"))
    found = find_outliers(table)
    assert {each["patient_id"] for each in found} == {"i"}
    assert found[0]["distance"] == pytest.approx(10 / 1.4826)


def test_find_outliers_names_patient_row_and_value(wisconsin):
    first = find_outliers(wisconsin)[0]
    assert (first["patient_id"], first["row"]) == ("462", 461)
    assert first["value"] == wisconsin.loc[461, first["name"]]


def test_find_outliers_passes_over_gaps_and_constants(small):
    names = {each["name"] for each in find_outliers(small)}
    assert "mean texture" not in names


def test_plot_correlation_writes_the_name_of_one_large_cluster_inside(ramp):
    ax = plots.plot_correlation(cluster_measurements(ramp))
    assert [text.get_position()[0] for text in ax.texts if "radius" in text.get_text()] == [14.5]


def test_project_equals_scikit_learns_components(wisconsin):
    reference = PCA(2).fit(scale(wisconsin[list(FEATURES)]))
    found = project(wisconsin)
    np.testing.assert_allclose(found["explained"][:2], reference.explained_variance_ratio_)
    scores = reference.transform(scale(wisconsin[list(FEATURES)]))
    np.testing.assert_allclose(np.abs(found["scores"]), np.abs(scores), atol=1e-9)


def test_project_bears_gaps_and_constants(small):
    found = project(small)
    assert found["left_out"] == ["mean texture"]
    assert np.isfinite(found["scores"]).all()


def test_project_refuses_rows_that_are_all_alike(ramp):
    with pytest.raises(ValueError, match="must vary between patients"):
        project(ramp.iloc[[1, 1]])


@pytest.mark.parametrize("statistic", ["mean", "error", "worst"])
def test_plot_distributions_shows_each_class_as_shares(small, statistic):
    axes = plots.plot_distributions(small, statistic=statistic)
    assert len(axes) == 10
    benign, malignant = axes[0].patches[0], axes[0].patches[2]
    assert benign.get_data().values.sum() == pytest.approx(100)
    assert malignant.get_data().values.sum() == pytest.approx(100)


def test_plot_distributions_says_unit_and_class_sizes(small):
    axes = plots.plot_distributions(small)
    assert axes[0].get_xlabel() == "px"
    n_malignant = small["label"].sum()
    assert f"{n_malignant} malignant" in axes[0].figure.get_supxlabel()


def test_plot_distributions_refuses_another_statistic(small):
    with pytest.raises(ValueError, match="Received: 'median'"):
        plots.plot_distributions(small, statistic="median")


def test_plot_correlation_shows_the_matrix_and_names_clusters(wisconsin):
    clustered = cluster_measurements(wisconsin)
    ax = plots.plot_correlation(clustered, n_rows=569)
    np.testing.assert_array_equal(ax.images[0].get_array(), clustered["correlation"])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == clustered["order"]
    assert "radius, perimeter, area" in [text.get_text() for text in ax.texts]


def test_plot_separation_shows_every_measurement_by_its_higher_class(judged):
    ax = plots.plot_separation(judged)
    shown = {
        line.get_label(): len(line.get_xdata())
        for line in ax.lines
        if line.get_label().startswith("higher")
    }
    benign = sum(each["higher"] == "benign" for each in judged)
    assert shown == {"higher in benign": benign, "higher in malignant": 30 - benign}


def test_plot_projection_shows_each_patient_once(wisconsin):
    axes = plots.plot_projection(project(wisconsin), wisconsin["label"])
    assert [len(line.get_xdata()) for line in axes[0].lines] == [357, 212]
    assert [line.get_color() for line in axes[0].lines] == list(CLASS_COLOURS)


def test_plot_outliers_names_the_farthest(wisconsin):
    outliers = find_outliers(wisconsin)
    ax = plots.plot_outliers(outliers, wisconsin)
    assert sum(len(line.get_xdata()) for line in ax.lines) == len(outliers)
    assert "462" in [text.get_text() for text in ax.texts]


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """The command in a process of its own, on patients whose ids look like markup."""
    folder = tmp_path_factory.mktemp("exploration")
    ids = [f"<b>{number}</b>" for number in range(len(small))]
    marked = small.assign(patient_id=ids)
    marked.loc[0, "area error"] = 900.0
    marked.to_csv(folder / "data.csv", index=False)
    script = (
        "import sys; from bcnet.cli import main\n"
        f"main(['measurements', 'explore', {str(folder / 'data.csv')!r}, "
        f"'--output', {str(folder)!r}])\n"
        "print('loaded', sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    settings = {"capture_output": True, "text": True, "check": True}
    return folder, subprocess.run([sys.executable, "-c", script], **settings)


def test_explore_loads_no_tensorflow(run):
    folder, process = run
    lines = process.stdout.splitlines()
    assert lines == [f"the page is {folder / 'index.html'}", "loaded []"]


def test_explore_writes_one_page_that_needs_no_other(run):
    text = (run[0] / "index.html").read_text(encoding="utf-8")
    figures = list((run[0] / "figures").glob("*.png"))
    assert len(figures) == text.count('src="data:image/png;base64,') == 7
    assert "<link" not in text
    assert "<script" not in text


def test_explore_tells_classes_findings_and_gaps(run, small):
    text = (run[0] / "index.html").read_text(encoding="utf-8")
    for said in (
        f"{small['label'].sum()} malignant (",
        "mean texture is 20 in every row",
        "Missing values: worst area 1.",
        "left out, as they do not vary: mean texture",
    ):
        assert said in text


def test_explore_escapes_what_the_data_say(run):
    text = (run[0] / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "patient &lt;b&gt;0&lt;/b&gt;: " in text


def test_explore_refuses_one_class(small, tmp_path):
    with pytest.raises(ValueError, match="Received: benign only"):
        explore(small[small["label"] == 0], tmp_path)


def test_measurements_explore_says_a_fault_in_one_line(tmp_path, capsys):
    path = tmp_path / "bad.csv"
    path.write_text("a,b\n1,2\n")
    assert main(["measurements", "explore", str(path), "--output", str(tmp_path / "x")]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith(f"bcnet: {path} must have a column for each")
    assert "\n" not in told
