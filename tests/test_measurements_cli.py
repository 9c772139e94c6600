"""`bcnet measurements`: from a CSV to a model, answers, judgement and reasons."""

import csv
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import bcnet
from bcnet.cardfile import read_card
from bcnet.cli import main
from bcnet.data.measurements import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.evaluate.abstention import format_band
from bcnet.workflows.measurement_training import describe_rows, name_rows

FEW = ["--models", "naive_bayes,logistic", "--quick"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The first 400 patients, named, to train on; the others, unnamed, to judge by."""
    folder = tmp_path_factory.mktemp("measurements")
    table = load_wisconsin()
    table = table.assign(diagnosis=np.where(table["label"], "M", "B")).drop(columns="label")
    table[:400].rename(columns={"patient_id": "id"}).to_csv(folder / "ours.csv", index=False)
    table[400:].drop(columns="patient_id").to_csv(folder / "theirs.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    path = folder / "ours.skops"
    arguments = ["measurements", "train", str(folder / "ours.csv"), "--output", str(path), *FEW]
    assert main([*arguments, "--json", str(folder / "table.json"), "--pickle"]) == 0
    return str(path)


@pytest.fixture(scope="module")
def card(model):
    return read_card(model)


def run(*arguments):
    return main(["measurements", *map(str, arguments)])


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_train_writes_the_table_as_json(model, folder):
    result = json.loads((folder / "table.json").read_text())
    assert set(result["models"]) == {"naive_bayes", "logistic"}
    assert result["winner"] == "logistic"


def test_train_writes_a_pickle_with_its_hash(model, folder):
    from bcnet.measurements.model import MeasurementModel

    assert (folder / "ours.pkl.sha256").read_text().endswith("  ours.pkl\n")
    assert (
        MeasurementModel.load_pickle(folder / "ours.pkl").threshold == bcnet.load(model).threshold
    )


def test_train_comes_again_with_the_seed(model, folder):
    path = folder / "again.skops"
    run("train", folder / "ours.csv", "--output", path, *FEW)
    table = load_wisconsin()
    assert bcnet.load(path).predict(table).equals(bcnet.load(model).predict(table))


def test_train_goes_on_from_the_folds_it_has(model, folder, monkeypatch):
    def fail(*arguments, **settings):
        raise AssertionError("a fold was fitted again")

    monkeypatch.setattr("bcnet.measurements.folds.fit_measurements", fail)
    assert run("train", folder / "ours.csv", "--output", model, *FEW) == 0


def test_train_refuses_another_ending(folder, capsys):
    assert run("train", folder / "ours.csv", "--output", folder / "a.pkl") == 2
    assert "must end in .skops" in capsys.readouterr().err


def test_train_refuses_an_unknown_model(folder, capsys):
    assert run("train", folder / "ours.csv", "--output", folder / "a.skops", "--models", "cnn") == 2
    assert "must be one of logistic" in capsys.readouterr().err


def test_train_refuses_in_one_line_without_a_bar_above(folder, capsys):
    run("train", "--models", "perceptron", "--output", folder / "no.skops")
    assert capsys.readouterr().err.count("\n") == 1


def test_train_refuses_an_empty_column_before_it_compares(folder, monkeypatch, capsys):
    monkeypatch.setattr("bcnet.workflows.measurement_training.compare_models", None)
    table = load_wisconsin().assign(**{"mean radius": np.nan})
    table.to_csv(folder / "empty.csv", index=False)
    assert run("train", folder / "empty.csv", "--output", folder / "no.skops") == 2
    assert "no value at all of mean radius" in capsys.readouterr().err


def test_train_tells_what_it_promises(model, card, folder, capsys):
    run("train", folder / "ours.csv", "--output", model, *FEW)
    assert format_band(card["abstention"], "patient") in capsys.readouterr().out


def test_card_has_the_entries_of_a_picture_model(card):
    shared = {"format", "created", "class_names", "data", "samples", "calibration", "metrics"}
    shared |= {"versions", "threshold", "abstention", "training", "references"}
    assert shared <= set(card)
    assert card["kind"] == "measurements"


def test_card_describes_thirty_features(card):
    assert [each["name"] for each in card["features"]] == list(FEATURES)
    assert set(card["features"][0]) >= {"unit", "plausible", "lowest", "highest", "median"}


def test_card_says_what_the_threshold_reached(card):
    assert card["threshold"]["rule"].startswith("sensitivity of at least")
    assert card["threshold"]["reached"]["sensitivity"]["value"] >= 0.97


def test_card_holds_nested_metrics_with_intervals(card):
    nested = card["metrics"]["nested"]
    assert nested["n_patients"] == 400
    assert nested["metrics"]["auc"]["low"] < nested["metrics"]["auc"]["value"]
    assert nested["locked"]["sensitivity"]["value"] > 0.9


def test_card_hashes_rows_and_patients(card):
    train = card["samples"]["train"]
    assert (train["n_images"], train["n_patients"]) == (400, 400)
    assert len(train["pictures"]) == len(train["patients"]) == 400


def test_card_names_scikit_learn_and_skops(card):
    assert {"scikit-learn", "skops", "numpy", "python"} <= set(card["versions"])


def test_describe_rows_takes_no_row_number_for_a_patient():
    table = load_wisconsin().assign(patient_id=[str(number) for number in range(1, 570)])
    assert describe_rows(table, "a")["patients"] == []


def test_name_rows_knows_a_row_that_was_written_with_fewer_digits():
    table = load_wisconsin()
    again = table.assign(**{name: table[name].astype("float32") for name in FEATURES})
    assert (name_rows(table, "a")["hash"] == name_rows(again, "b")["hash"]).all()


def test_evaluate_of_other_patients_is_external(model, folder, capsys):
    path = folder / "result.json"
    assert run("evaluate", model, folder / "theirs.csv", "--json", path) == 0
    result = json.loads(path.read_text())
    assert (result["part"], result["n_rows"], result["n_images"]) == ("external", 169, 169)
    assert result["patient"]["auc"]["value"] > 0.97
    assert result["elsewhere"]["home"]["n_patients"] == 400
    assert "external validation: made with ours" in capsys.readouterr().out


def test_evaluate_has_the_shape_of_pictures(model, folder):
    path = folder / "result.json"
    run("evaluate", model, folder / "theirs.csv", "--json", path)
    keys = {"part", "threshold_rule", "precision", "data", "model_data", "unreadable", "n_images"}
    keys |= {"n_patients", "threshold", "majority_accuracy", "confusion_matrix", "image", "patient"}
    keys |= {"patient_majority_accuracy", "patient_reason", "calibration", "elsewhere", "n_rows"}
    assert set(json.loads(path.read_text())) == keys


def test_evaluate_refuses_training_patients(model, folder, capsys):
    assert run("evaluate", model, folder / "ours.csv") == 1
    assert "of 400 rows the model has seen 400" in capsys.readouterr().err


def test_evaluate_finds_training_rows_under_other_names(model, folder, capsys):
    table = pd.concat([pd.read_csv(folder / "theirs.csv"), pd.read_csv(folder / "ours.csv")[:3]])
    table.drop(columns="id").to_csv(folder / "mixed.csv", index=False)
    assert run("evaluate", model, folder / "mixed.csv") == 1
    assert "of 172 rows the model has seen 3" in capsys.readouterr().err


def test_evaluate_with_allow_seen_shows_both(model, folder, capsys):
    table = pd.concat([pd.read_csv(folder / "theirs.csv"), pd.read_csv(folder / "ours.csv")[:3]])
    table.drop(columns="id").to_csv(folder / "mixed.csv", index=False)
    path = folder / "seen.json"
    assert run("evaluate", model, folder / "mixed.csv", "--allow-seen", "--json", path) == 0
    result = json.loads(path.read_text())
    assert (result["part"], result["seen"]) == ("not a test", {"train": 3})
    assert result["unseen"]["n_images"] == 169
    assert "without the seen" in capsys.readouterr().out


def test_evaluate_needs_labels(model, folder, capsys):
    pd.read_csv(folder / "theirs.csv").drop(columns="diagnosis").to_csv(folder / "bare.csv")
    assert run("evaluate", model, folder / "bare.csv") == 2
    assert "must have a column `label`" in capsys.readouterr().err


def test_predict_writes_what_the_model_says(model, folder):
    assert run("predict", model, folder / "theirs.csv", "--output", folder / "said.csv") == 0
    rows = read_csv(folder / "said.csv")
    expected = bcnet.load(model).predict(folder / "theirs.csv")
    assert list(rows[0]) == ["row", "probability", "label", "status"]
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 170)]
    assert [row["label"] for row in rows] == expected["label"].tolist()
    said = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(said, expected["probability"], rtol=1e-6)


def test_predict_goes_on_counting_from_chunk_to_chunk(model, folder, monkeypatch):
    import bcnet.workflows.measurements as home

    whole = home.stream_rows
    monkeypatch.setattr(home, "stream_rows", lambda path: whole(path, rows=50))
    assert run("predict", model, folder / "theirs.csv", "--output", folder / "chunks.csv") == 0
    assert [row["row"] for row in read_csv(folder / "chunks.csv")] == [
        str(n) for n in range(1, 170)
    ]


def test_predict_keeps_bad_rows_and_counts_them(model, folder, capsys):
    table = pd.read_csv(folder / "theirs.csv")
    table["radius_mean"] = table.pop("mean radius").astype(object)
    table.loc[1, "radius_mean"], table.loc[2, "radius_mean"] = "17,990 px", 17990
    table.to_csv(folder / "bad.csv", index=False)
    assert run("predict", model, folder / "bad.csv", "--output", folder / "said.csv") == 0
    rows = read_csv(folder / "said.csv")
    assert (rows[1]["probability"], rows[1]["label"]) == ("", "")
    assert rows[2]["status"].startswith("unreadable: `mean radius` must be between")
    assert "2 of 169 rows could not be read" in capsys.readouterr().err


def test_predict_writes_nothing_when_no_row_can_be_read(model, folder, capsys):
    table = pd.read_csv(folder / "theirs.csv")
    table.assign(**{"mean radius": 17990}).to_csv(folder / "bad.csv", index=False)
    assert run("predict", model, folder / "bad.csv", "--output", folder / "none.csv") == 2
    assert not (folder / "none.csv").exists()
    assert "not one of 169 rows can be read; the first: `mean radius`" in capsys.readouterr().err


def test_predict_does_not_write_over_what_it_reads(model, folder, tmp_path, capsys):
    data = tmp_path / "theirs.csv"
    data.write_bytes((folder / "theirs.csv").read_bytes())
    assert run("predict", model, data, "--output", data) == 2
    assert "`output` must not be the file that is read" in capsys.readouterr().err
    assert data.read_bytes() == (folder / "theirs.csv").read_bytes()


def test_predict_to_standard_output_loads_no_tensorflow(model, folder):
    script = (
        "import sys; from bcnet.cli import main; main(sys.argv[1:]); "
        "print(sorted({'tensorflow', 'keras', 'shap'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, "measurements", "predict", model]
    found = subprocess.run(
        [*command, str(folder / "theirs.csv")], capture_output=True, text=True, check=True
    )
    lines = found.stdout.splitlines()
    assert lines[0] == "row,probability,label,status"
    assert (len(lines), lines[-1]) == (171, "[]")


@pytest.mark.parametrize("name", ["theirs.csv", "no.csv"])
def test_predict_tells_a_fault_in_one_line(folder, tmp_path, capsys, name):
    (tmp_path / "a.skops").write_bytes(b"no zip")
    assert run("predict", tmp_path / "a.skops", folder / name) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_card_check_finds_the_file_as_it_was(model, capsys):
    assert main(["card", model, "--check"]) == 0
    assert "answers as when it was saved" in capsys.readouterr().out


def test_explain_writes_figure_and_tables(model, folder):
    assert run("explain", model, folder / "theirs.csv", "--row", 3, "--output", folder / "why") == 0
    found = {path.name for path in (folder / "why").iterdir()}
    assert found == {"waterfall.png", "contributions.csv", "what_if.csv"}
    contributions = pd.read_csv(folder / "why" / "contributions.csv")
    patient = pd.read_csv(folder / "theirs.csv").iloc[2]
    values = contributions.set_index("measurement")["value"]
    assert values["mean radius"] == pytest.approx(patient["mean radius"])


def test_explain_tells_the_answer_of_that_row(model, folder, capsys):
    run("explain", model, folder / "theirs.csv", "--row", 3, "--output", folder / "why")
    expected = bcnet.load(model).predict(folder / "theirs.csv").iloc[2]
    told = capsys.readouterr().out
    assert told.startswith(f"row 3: probability of malignant {expected['probability']:.3g}")


def test_explain_refuses_a_row_that_is_not_there(model, folder, capsys):
    arguments = ["explain", model, folder / "theirs.csv", "--row", 170, "--output", folder / "no"]
    assert run(*arguments) == 2
    assert "`row` must be between 1 and 169. Received: row=170" in capsys.readouterr().err
