"""A model of measurements: its answers, its file, and the files it refuses."""

import hashlib
import io
import json
import logging
import pickle
import subprocess
import sys
import zipfile
from functools import cache

import numpy as np
import pandas as pd
import pytest
import skops.io
from threadpoolctl import threadpool_limits

import bcnet
from bcnet.cardfile import ModelFileError, locate_model, read_card
from bcnet.data.measurements import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.measurements.fitting import fit_measurements
from bcnet.measurements.logits import take_apart
from bcnet.measurements.model import MeasurementModel
from bcnet.measurements.models import FAMILIES
from bcnet.measurements.ranges import MARGIN, describe_features, find_outside
from bcnet.measurements.trees import find_tree_fault
from bcnet.modelfile import check_model_file


@cache
def make_model(name="logistic"):
    """A quick model of Wisconsin with the card entries that its use needs."""
    table = load_wisconsin()
    fitted = fit_measurements(table, name, quick=True)
    card = {
        "kind": "measurements",
        "class_names": ["benign", "malignant"],
        "data": {"name": "wisconsin"},
        "samples": {"train": {"pictures": [], "patients": []}},
        "threshold": {"value": fitted.threshold},
        "abstention": {"low": fitted.threshold / 2, "high": fitted.threshold},
        "features": describe_features(table),
        "versions": {"scikit-learn": __import__("sklearn").__version__},
    }
    return MeasurementModel(fitted.estimator, card)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Boosting asks every processor for each of its few rows, and waits for the busiest."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def table():
    return load_wisconsin()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "mine.skops"
    make_model().save(path)
    return path


@pytest.fixture(scope="module")
def model(saved):
    return MeasurementModel.load(saved)


@pytest.fixture(scope="module")
def patient(table):
    return table[list(FEATURES)].iloc[0].to_dict()


def rewrite(source, target, change):
    """Copy a model file, its members given to `change` as a dict from name to bytes."""
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return target


def change_card(source, target, **entries):
    def change(members):
        members["card.json"] = json.dumps(json.loads(members["card.json"]) | entries).encode()

    return rewrite(source, target, change)


def find_array(members, size):
    """Find a float array of some size among the members, with its name."""
    for name, data in members.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(data))
            if array.dtype == float and array.size == size:
                return name, array
    raise AssertionError(f"no array of {size}")


def write_array(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_predict_gives_what_the_plain_estimator_gives(model, table):
    expected = model.estimator.predict_proba(table[list(FEATURES)])[:, 1]
    np.testing.assert_allclose(model.predict(table)["probability"], expected, atol=1e-12)


def test_predict_of_one_patient_as_a_dict(model, table, patient):
    answer = model.predict(patient)
    assert list(answer.columns) == ["row", "probability", "label", "status"]
    assert answer["probability"][0] == model.predict(table)["probability"][0]


def test_predict_labels_from_the_threshold_on(model, table):
    answers = model.predict(table)
    assert ((answers["label"] == "malignant") == (answers["probability"] >= model.threshold)).all()


def test_predict_takes_another_threshold(model, table):
    assert set(model.predict(table, threshold=0)["label"]) == {"malignant"}


def test_predict_refuses_a_threshold_that_is_none(model, table):
    with pytest.raises(ValueError, match=r"`threshold` must be between 0 and 1. Received.*1\.4"):
        model.predict(table, threshold=1.4)


def test_predict_finds_columns_in_any_order(model, table):
    turned = table[table.columns[::-1]]
    assert model.predict(turned).equals(model.predict(table))


def test_predict_imputes_a_missing_value(model, patient):
    answer = model.predict(patient | {"worst texture": None})
    assert answer["status"][0] in ("ok", "refer")


def test_predict_refers_between_the_ends_of_the_band(model, table):
    answers = model.predict(table)
    low, high = model.band
    is_inside = answers["probability"].between(low, high, inclusive="left")
    assert is_inside.any()
    assert (answers["status"][is_inside] != "ok").all()
    assert "refer" not in set(answers["status"][~is_inside])


def test_predict_names_what_is_outside_the_measured_range(model, patient):
    far = patient | {"mean radius": 90.0, "worst area": 20000.0}
    assert model.predict(far)["status"][0] == "outside the measured range: mean radius, worst area"


def test_predict_keeps_a_row_that_cannot_be_read(model, patient):
    answers = model.predict([patient, patient | {"mean radius": 17990.0}])
    assert answers["status"][1].startswith("unreadable: `mean radius` must be between")
    assert np.isnan(answers["probability"][1])
    assert pd.isna(answers["label"][1])


def test_find_outside_allows_the_margin(table):
    features = describe_features(table)
    width = features[0]["highest"] - features[0]["lowest"]
    rows = table[list(FEATURES)].iloc[[0, 0]].copy()
    ends = features[0]["highest"] + width * (MARGIN + np.array([-0.01, 0.01]))
    rows["mean radius"] = ends
    assert find_outside(rows, features)[:, 0].tolist() == [False, True]


def test_describe_features_holds_no_missing_measurement(table):
    with pytest.raises(ValueError, match="no value at all of mean radius"):
        describe_features(table.assign(**{"mean radius": np.nan}))


@pytest.mark.parametrize("name", ["logistic", "svm_rbf", "knn", "tree", "boosting"])
def test_saved_and_loaded_gives_equal_answers(name, table, tmp_path):
    before = make_model(name)
    before.save(tmp_path / "a.skops")
    after = MeasurementModel.load(tmp_path / "a.skops")
    assert after.predict(table).equals(before.predict(table))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_of_trusted_types(name, tmp_path):
    from bcnet.measurements.file import TRUSTED
    from bcnet.measurements.models import build_pipeline

    rng = np.random.default_rng(0)
    rows = load_wisconsin().iloc[rng.permutation(569)[:60]]
    pipeline = build_pipeline(name).fit(rows[list(FEATURES)], rows["label"])
    data = skops.io.dumps(pipeline)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(TRUSTED)


def test_load_by_bcnet_imports_no_tensorflow(saved):
    script = (
        f"import sys, bcnet; model = bcnet.load({str(saved)!r}); print(type(model).__name__, "
        "sorted({'tensorflow', 'keras', 'shap'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "MeasurementModel []"


def test_load_of_a_skops_file_without_our_card(saved, tmp_path):
    path = rewrite(saved, tmp_path / "a.skops", lambda members: members.pop("card.json"))
    with pytest.raises(ModelFileError, match="it has no card"):
        bcnet.load(path)


def test_load_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file at"):
        bcnet.load(tmp_path / "none.skops")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_load_of_a_truncated_file(saved, tmp_path, share):
    path = tmp_path / "cut.skops"
    path.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    with pytest.raises(ModelFileError, match="not a skops model file, or a truncated one"):
        bcnet.load(path)


def test_load_refuses_a_changed_coefficient(saved, tmp_path):
    def change(members):
        name, array = find_array(members, 30)
        members[name] = write_array(array * 1.01)

    with pytest.raises(ModelFileError, match="not what it was saved with"):
        bcnet.load(rewrite(saved, tmp_path / "a.skops", change))


def test_load_refuses_other_answers_even_with_a_fitting_fingerprint(saved, tmp_path):
    references = read_card(saved)["references"]
    references["logit"][3] += 1e-4
    path = change_card(saved, tmp_path / "a.skops", references=references)
    with pytest.raises(ModelFileError, match="no longer answers as when it was saved"):
        bcnet.load(path)


def test_load_refuses_a_foreign_member(saved, tmp_path):
    path = rewrite(saved, tmp_path / "a.skops", lambda members: members.update({"../a.py": b""}))
    with pytest.raises(ModelFileError, match=r"it holds '../a\.py', which no model of ours does"):
        bcnet.load(path)


def test_load_refuses_a_type_that_is_not_listed(saved, tmp_path):
    def change(members):
        schema = members["schema.json"].replace(b'"LogisticRegression"', b'"system"')
        members["schema.json"] = schema.replace(b'"sklearn.linear_model._logistic"', b'"os"')

    with pytest.raises(ModelFileError, match=r"it holds (os|posix)\.system, which no model"):
        bcnet.load(rewrite(saved, tmp_path / "a.skops", change))


def test_load_refuses_a_damaged_schema(saved, tmp_path):
    path = rewrite(saved, tmp_path / "a.skops", lambda each: each.update({"schema.json": b"{"}))
    with pytest.raises(ModelFileError, match="its schema is damaged"):
        bcnet.load(path)


def test_load_refuses_an_array_that_claims_more_than_it_holds(saved, tmp_path):
    def change(members):
        name, _ = find_array(members, 30)
        claim = b"(30000000000,), }"
        members[name] = members[name].replace(b"(30,), }".ljust(len(claim)), claim)

    with pytest.raises(ModelFileError, match="is no array of 240 bytes"):
        bcnet.load(rewrite(saved, tmp_path / "a.skops", change))


def test_load_refuses_a_file_that_unpacks_to_too_much(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("bcnet.measurements.file.LARGEST_FILE", 1000)
    with pytest.raises(ModelFileError, match="would unpack to"):
        bcnet.load(saved)


@pytest.mark.parametrize("entry", ["threshold", "features", "versions", "references"])
def test_load_refuses_a_card_that_lacks_an_entry(saved, tmp_path, entry):
    path = change_card(saved, tmp_path / "a.skops", **{entry: None})
    with pytest.raises(ModelFileError, match=f"its card has no {entry}"):
        bcnet.load(path)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ("threshold", {"value": "0.5"}),
        ("threshold", {"value": 1.5}),
        ("abstention", {"low": 0.6, "high": 0.4}),
        ("references", {"logit": ["a"] * 8}),
        ("references", {"logit": [1.0]}),
        ("references", {"seed": "a"}),
        ("versions", {"scikit-learn": 1.2}),
    ],
)
def test_load_names_an_entry_of_the_card_that_is_damaged(saved, tmp_path, entry, change):
    damaged = read_card(saved)[entry] | change
    path = change_card(saved, tmp_path / "a.skops", **{entry: damaged})
    with pytest.raises(ModelFileError, match=f"the entry {entry} of its card is damaged"):
        bcnet.load(path)


@pytest.mark.parametrize("change", [{"lowest": "a"}, {"lowest": 1e9}, {"median": None}])
def test_load_refuses_a_damaged_range(saved, tmp_path, change):
    features = read_card(saved)["features"]
    features[3] |= change
    path = change_card(saved, tmp_path / "a.skops", features=features)
    with pytest.raises(ModelFileError, match="the entry features of its card is damaged"):
        bcnet.load(path)


def test_load_refuses_the_card_of_another_kind(saved, tmp_path):
    path = change_card(saved, tmp_path / "a.skops", kind="pictures")
    with pytest.raises(ModelFileError, match="not of a model of measurements"):
        bcnet.load(path)


def test_load_of_a_model_of_pictures_says_what_is_wanted():
    with pytest.raises(ModelFileError, match="pictures, where one of measurements is wanted"):
        MeasurementModel.load(locate_model("idc"))


def test_load_warns_once_of_another_minor_version(saved, tmp_path, caplog):
    path = change_card(saved, tmp_path / "a.skops", versions={"scikit-learn": "1.2.3"})
    with caplog.at_level(logging.WARNING, "bcnet"):
        bcnet.load(path)
    [record] = caplog.records
    assert "saved with scikit-learn 1.2.3 and this is" in record.getMessage()
    assert 'pip install "scikit-learn==1.2.3"' in record.getMessage()


def test_load_names_both_versions_when_the_answers_differ_too(saved, tmp_path):
    references = read_card(saved)["references"]
    references["logit"][0] += 1
    changes = {"versions": {"scikit-learn": "1.2.3"}, "references": references}
    path = change_card(saved, tmp_path / "a.skops", **changes)
    with pytest.raises(ModelFileError, match=r"saved with scikit-learn 1\.2\.3 and this is"):
        bcnet.load(path)


def test_load_refuses_what_is_no_calibrated_model(saved, tmp_path):
    from sklearn.preprocessing import StandardScaler

    path, card = tmp_path / "a.skops", read_card(saved)
    card["references"].pop("weights")
    skops.io.dump(StandardScaler(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("card.json", json.dumps(card))
    with pytest.raises(ModelFileError, match="one pipeline, calibrated by one sigmoid"):
        bcnet.load(path)


def test_classifier_refuses_a_file_of_measurements(saved):
    with pytest.raises(ModelFileError, match="a model of measurements, where one of pictures"):
        check_model_file(saved)


def test_save_refuses_another_ending_and_writes_nothing(model, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.skops"):
        model.save(tmp_path / "a.pkl")
    assert list(tmp_path.iterdir()) == []


def test_references_hold_no_row_of_a_patient(model, table):
    from bcnet.measurements.model import _make_references

    rows = _make_references(model.card["features"], model.card["references"]["seed"])
    known = {tuple(row) for row in table[list(FEATURES)].to_numpy()}
    assert not known & {tuple(row) for row in rows.to_numpy()}


def test_pickle_comes_back_by_its_hash(model, table, tmp_path):
    digest = model.save_pickle(tmp_path / "a.pkl")
    assert digest == hashlib.sha256((tmp_path / "a.pkl").read_bytes()).hexdigest()
    for given in (None, digest):
        again = MeasurementModel.load_pickle(tmp_path / "a.pkl", sha256=given)
        assert again.predict(table).equals(model.predict(table))


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of the pickle was run')",)


def test_pickle_with_another_hash_is_not_run(model, tmp_path):
    model.save_pickle(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelFileError, match="it was not loaded"):
        MeasurementModel.load_pickle(tmp_path / "a.pkl")


def test_pickle_without_a_hash_is_not_run(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelFileError, match="by its SHA-256 only"):
        MeasurementModel.load_pickle(tmp_path / "a.pkl")


def test_bcnet_load_refuses_a_pickle(model, tmp_path):
    model.save_pickle(tmp_path / "a.pkl")
    with pytest.raises(ModelFileError, match="pickles can run code"):
        bcnet.load(tmp_path / "a.pkl")


def test_take_apart_refuses_an_ensemble(table):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.naive_bayes import GaussianNB

    ensemble = CalibratedClassifierCV(GaussianNB(), ensemble=True, cv=2)
    with pytest.raises(ValueError, match="with 2 calibrators"):
        take_apart(ensemble.fit(table[list(FEATURES)], table["label"]))


@pytest.mark.parametrize("name", ["tree", "boosting"])
def test_find_tree_fault_passes_grown_trees(name):
    assert find_tree_fault(make_model(name).estimator) == ""


def test_find_tree_fault_finds_a_child_that_points_back(table):
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(max_depth=2).fit(table[list(FEATURES)], table["label"])
    model.tree_.children_left[0] = 0
    assert find_tree_fault([model]) == "a tree in it has a child where none can be"


def test_find_tree_fault_finds_a_question_nobody_can_answer(table):
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(max_depth=2).fit(table[list(FEATURES)], table["label"])
    model.tree_.feature[0] = 30
    assert "asks for another measurement" in find_tree_fault([model])


def test_describe_features_is_of_the_training_patients(table):
    first = describe_features(table)[0]
    assert (first["name"], first["lowest"], first["highest"]) == ("mean radius", 6.981, 28.11)
    assert first["median"] == pd.Series(table["mean radius"]).median()
