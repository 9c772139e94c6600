import doctest
import importlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import ParameterGrid
from threadpoolctl import threadpool_limits

from bcnet.data.quantities import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.evaluate.metrics import evaluate
from bcnet.measurements.features import ENGINEERINGS, Engineer
from bcnet.measurements.fitting import divide_patients, fit_measurements
from bcnet.measurements.models import FAMILIES, build_pipeline

MODULES = ("cache", "features", "fitting", "folds", "judging", "luck", "models", "nested")


@pytest.fixture(scope="module")
def table():
    return load_wisconsin().iloc[::3].reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted(table):
    return fit_measurements(table, "svm_linear", seed=3)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    module = importlib.import_module(f"bcnet.measurements.{name}")
    assert doctest.testmod(module).failed == 0


def test_modules_import_no_tensorflow():
    script = (
        "import sys, bcnet.measurements.nested, bcnet.measurements.luck\n"
        "print(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ENGINEERINGS)
def test_engineer_finds_columns_by_name(table, kind):
    turned = table[table.columns[::-1]]
    assert np.array_equal(Engineer(kind).transform(turned), Engineer(kind).transform(table))


@pytest.mark.parametrize("kind", ENGINEERINGS)
def test_engineer_names_every_column(table, kind):
    engineer = Engineer(kind)
    assert engineer.transform(table).shape[1] == len(set(engineer.get_feature_names_out()))


@pytest.mark.parametrize("kind", ENGINEERINGS)
def test_engineer_leaves_a_missing_value_missing(table, kind):
    row = table.iloc[[0]].assign(**{"mean texture": np.nan})
    missing = np.isnan(Engineer(kind).transform(row)[0])
    named = Engineer(kind).get_feature_names_out()[missing]
    assert set(named) <= {
        "mean texture",
        "log mean texture",
        "worst − mean texture",
        "relative texture error",
    }
    assert len(named) == (3 if kind == "rich" else 1)


def test_engineer_gives_a_nucleus_without_dents_a_logarithm(table):
    row = table.iloc[[0]].assign(**{"mean concavity": 0.0})
    assert np.isfinite(Engineer("log").transform(row)).all()


def test_engineer_calls_a_circle_round():
    row = pd.DataFrame([dict.fromkeys(FEATURES, 1.0)])
    row["mean perimeter"], row["mean area"] = 2 * np.pi * 3, np.pi * 9
    derived = dict(
        zip(
            Engineer("rich").get_feature_names_out(),
            Engineer("rich").transform(row)[0],
            strict=True,
        )
    )
    assert derived["mean roundness"] == pytest.approx(1)


def test_engineer_subtracts_the_mean_of_the_same_quantity(table):
    engineer = Engineer("rich")
    place = list(engineer.get_feature_names_out()).index("worst − mean concave points")
    found = engineer.transform(table)[:, place]
    assert np.allclose(found, table["worst concave points"] - table["mean concave points"])


def test_engineer_refuses_an_unknown_kind(table):
    with pytest.raises(ValueError, match="`kind` must be one of plain, log, rich"):
        Engineer("cubed").fit(table)


def test_engineer_names_the_missing_column(table):
    with pytest.raises(ValueError, match="must have a column 'worst area'"):
        Engineer().fit(table.drop(columns="worst area"))


@pytest.mark.parametrize("name", FAMILIES)
def test_build_pipeline_answers_rows_with_missing_values(table, name):
    holes = table.mask(np.random.default_rng(0).random(table.shape) < 0.05)
    with threadpool_limits(1):
        pipeline = build_pipeline(name).fit(holes[list(FEATURES)], table["label"])
        right = pipeline.predict(holes[list(FEATURES)]) == table["label"]
    assert right.mean() > 0.85


@pytest.mark.parametrize("name", FAMILIES)
def test_families_search_only_parameters_that_there_are(name):
    for choices in ParameterGrid(FAMILIES[name].grid):
        build_pipeline(name).set_params(**choices)


@pytest.mark.parametrize("name", FAMILIES)
def test_build_pipeline_seeds_every_step(name):
    parameters = build_pipeline(name, seed=7).get_params()
    assert {v for k, v in parameters.items() if k.endswith("random_state")} <= {7}


def test_build_pipeline_leaves_the_family_unseeded():
    build_pipeline("forest", seed=7)
    assert FAMILIES["forest"].pipeline["model"].random_state is None


def test_build_pipeline_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"`name` must be one of logistic, .*'oracle'"):
        build_pipeline("oracle")


def test_fit_measurements_answers_each_patient_by_a_model_without_him(table):
    labels = np.random.default_rng(0).permutation(table["label"])
    # The nearest neighbour of a patient that trained it is himself: seen, he is always right.
    fitted = fit_measurements(table.assign(label=labels), "knn", quick=True)
    assert evaluate(labels, fitted.out_of_fold, draws=1)["image"]["auc"]["value"] < 0.65


def test_fit_measurements_calibrates_scores_of_models_that_lacked_the_patient(table, fitted):
    rows, labels, scores = table[list(FEATURES)], table["label"], np.zeros(len(table))
    for train, test in divide_patients(table, folds=5, seed=3):
        pipeline = build_pipeline("svm_linear", seed=3).set_params(**fitted.choices)
        scores[test] = pipeline.fit(rows.iloc[train], labels[train]).decision_function(
            rows.iloc[test]
        )
    sigmoid = fitted.estimator.calibrated_classifiers_[0].calibrators[0]
    expected = 1 / (1 + np.exp(sigmoid.a_ * scores + sigmoid.b_))
    assert np.allclose(fitted.out_of_fold, expected)


def test_fit_measurements_reaches_the_target_on_those_that_chose(table, fitted):
    found = fitted.out_of_fold[table["label"] == 1] >= fitted.threshold
    assert found.mean() >= 0.98


def test_fit_measurements_fits_what_the_search_took(fitted):
    parameters = fitted.estimator.calibrated_classifiers_[0].estimator.get_params()
    assert fitted.choices.items() <= parameters.items()


def test_fit_measurements_searches_nothing_when_quick(table):
    assert fit_measurements(table, "svm_linear", quick=True).choices == {}


def test_fit_measurements_repeats_itself_with_the_same_seed(table, fitted):
    again = fit_measurements(table, "svm_linear", seed=3)
    assert np.array_equal(again.out_of_fold, fitted.out_of_fold)


def test_fit_measurements_keeps_no_rows_in_the_estimator(fitted):
    assert fitted.estimator.cv is None


def test_fit_measurements_tells_each_step(table):
    steps = []
    fit_measurements(table, "naive_bayes", quick=True, progress=steps.append)
    assert steps == ["search", "calibration", "threshold"]


def test_fit_measurements_names_the_missing_column(table):
    with pytest.raises(ValueError, match="`table` must have a column 'label'"):
        fit_measurements(table.drop(columns="label"), "knn")


def test_divide_patients_never_divides_a_patient(table):
    twice = pd.concat([table, table], ignore_index=True)
    for train, test in divide_patients(twice, folds=5, seed=0):
        assert not set(twice["patient_id"][train]) & set(twice["patient_id"][test])


def test_divide_patients_keeps_the_share_of_malignant_patients(table):
    shares = [table["label"][test].mean() for _, test in divide_patients(table, folds=5, seed=0)]
    assert max(shares) - min(shares) < 0.05


def test_divide_patients_counts_patients_not_rows(table):
    one = table[table["label"] == 1].iloc[[0] * 20]
    few = pd.concat([table[table["label"] == 0], one], ignore_index=True)
    with pytest.raises(ValueError, match=r"at least 5 patients of each class.*1 with label 1"):
        divide_patients(few, folds=5, seed=0)
