"""Splits by patient: whole, balanced, repeatable, and checked when read."""

import os
from pathlib import Path

import pandas as pd
import pytest

from bcnet.data.manifest import patient_keys, read_manifest
from bcnet.data.split import (
    apply_split,
    assert_disjoint,
    fold_by_patient,
    split_by_patient,
    write_split,
)

REAL = os.environ.get("BCNET_TEST_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="BCNET_TEST_DATA names no folder of pictures")


def make_table(patients, folder="data"):
    """Build a table from the labels of each patient's pictures: `{"7": [0, 1]}`."""
    rows = [
        (f"{folder}/{patient}-{place}.png", label, patient)
        for patient, labels in patients.items()
        for place, label in enumerate(labels)
    ]
    table = pd.DataFrame(rows, columns=["path", "label", "patient_id"])
    return table.assign(split=None, source=folder, dataset="data")


def pure(benign, malignant):
    patients = [(f"b{number}", [0]) for number in range(benign)]
    return make_table(dict(patients + [(f"m{number}", [1]) for number in range(malignant)]))


def mixed(count=40):
    """Patients of 1 to 7 pictures, of both classes but for every third."""
    return make_table(
        {f"p{n}": [n % 2] * (1 + n % 7) + ([1 - n % 2] if n % 3 else []) for n in range(count)}
    )


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Empty files for six patients of each class below `study/`; no test decodes them."""
    monkeypatch.chdir(tmp_path)
    for label in "01":
        Path("study", label).mkdir(parents=True)
        for patient in range(6):
            Path(f"study/{label}/{patient}{label}_idx5_x1_y1_class{label}.png").write_bytes(b"")
    return read_manifest("study").table


def test_split_by_patient_gives_each_part_its_share_of_each_class():
    table = split_by_patient(pure(10, 10), validation=0.1, test=0.2)
    counts = table.groupby(["split", "label"]).size().to_dict()
    assert counts == {
        ("test", 0): 2,
        ("test", 1): 2,
        ("train", 0): 7,
        ("train", 1): 7,
        ("validation", 0): 1,
        ("validation", 1): 1,
    }


def test_split_by_patient_never_divides_a_patient():
    table = split_by_patient(mixed())
    assert table.groupby("patient_id")["split"].nunique().eq(1).all()


def test_split_by_patient_balances_unequal_patients():
    table = split_by_patient(mixed())
    shares = table["split"].value_counts(normalize=True)
    prevalence = table.groupby("split")["label"].mean()
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    assert shares["validation"] == pytest.approx(0.15, abs=0.02)
    assert prevalence.max() - prevalence.min() < 0.06


def test_split_by_patient_ignores_the_order_of_rows():
    table = mixed()
    shuffled = split_by_patient(table.sample(frac=1, random_state=1))
    pd.testing.assert_series_equal(shuffled["split"].sort_index(), split_by_patient(table)["split"])


@pytest.mark.parametrize("known", [True, False])
def test_split_by_patient_ignores_where_the_data_lie(known):
    tables = [make_table({f"p{n}": [n % 2] for n in range(30)}, place) for place in ("a", "/b/c")]
    if not known:
        tables = [table.assign(patient_id=None, dataset=table["source"]) for table in tables]
    first, second = (split_by_patient(table)["split"].tolist() for table in tables)
    assert first == second


def test_split_by_patient_depends_on_the_seed():
    table = mixed()
    assert not split_by_patient(table)["split"].equals(split_by_patient(table, seed=1)["split"])


@pytest.mark.parametrize("seed", range(20))
def test_split_by_patient_gives_every_part_the_rare_class(seed):
    table = split_by_patient(pure(60, 3), validation=0.05, test=0.05, seed=seed)
    assert sorted(table.loc[table["label"] == 1, "split"]) == ["test", "train", "validation"]


def test_split_by_patient_lets_patients_with_both_classes_serve_for_both():
    table = make_table({"1": [0, 1], "2": [0, 1], "3": [0, 1]})
    assert split_by_patient(table)["split"].nunique() == 3


def test_split_by_patient_counts_unknown_patients_one_by_one():
    table = pure(20, 20).assign(patient_id=None)
    assert split_by_patient(table)["split"].value_counts().to_dict() == {
        "train": 26,
        "test": 8,
        "validation": 6,
    }


@pytest.mark.parametrize(
    ("shares", "parts"),
    [
        ({"test": 0}, {"train", "validation"}),
        ({"validation": 0}, {"train", "test"}),
        ({"test": 0, "validation": 0}, {"train"}),
    ],
)
def test_split_by_patient_leaves_out_a_part_without_share(shares, parts):
    assert set(split_by_patient(pure(5, 5), **shares)["split"]) == parts


@pytest.mark.parametrize("shares", [{"test": -0.1}, {"test": 1}, {"test": 0.5, "validation": 0.5}])
def test_split_by_patient_refuses_impossible_shares(shares):
    with pytest.raises(ValueError, match=r"leave a share for training\. Received"):
        split_by_patient(pure(5, 5), **shares)


def test_split_by_patient_refuses_too_few_patients_of_a_class():
    message = "2 malignant patients cannot fill train, validation and test"
    with pytest.raises(ValueError, match=message):
        split_by_patient(pure(9, 2))


def test_split_by_patient_leaves_the_table_given_as_it_was():
    table = pure(5, 5)
    split_by_patient(table)
    assert table["split"].isna().all()


def test_fold_by_patient_gives_equal_folds():
    table = fold_by_patient(pure(10, 10), folds=5)
    assert table.groupby(["fold", "label"]).size().tolist() == [2] * 10


def test_fold_by_patient_never_divides_a_patient():
    table = fold_by_patient(mixed())
    assert table.groupby("patient_id")["fold"].nunique().eq(1).all()


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, "must be at least 2"),
        (9, "number of patients, 8. Received: folds=9"),
        (4, "3 malignant patients cannot fill 4 folds"),
    ],
)
def test_fold_by_patient_refuses_impossible_folds(folds, message):
    with pytest.raises(ValueError, match=message):
        fold_by_patient(pure(5, 3), folds=folds)


@pytest.mark.parametrize("column", ["split", "fold"])
def test_assert_disjoint_names_three_divided_patients(column):
    table = make_table({str(number): [0, 1] for number in range(4)})
    table[column] = ["train", "test"] * 4
    with pytest.raises(ValueError, match=r"Found 4: data/0 in train and test; data/1 .*data/2 "):
        assert_disjoint(table)


def test_assert_disjoint_tells_data_sets_apart():
    table = make_table({"7": [0, 1]}).assign(split=["train", "test"], dataset=["a", "b"])
    assert_disjoint(table)


def test_assert_disjoint_passes_over_unknown_patients_and_parts():
    table = make_table({"7": [0, 1], "8": [0, 1]}).assign(split=["train", None, "train", "test"])
    table.loc[2:, "patient_id"] = None
    assert_disjoint(table)


def test_write_split_writes_paths_relative_to_the_csv(study):
    write_split(split_by_patient(study), "out/split.csv")
    written = pd.read_csv("out/split.csv", dtype=str)
    assert written.columns.tolist() == ["path", "patient_id", "label", "split"]
    assert written["path"][0] == "../study/0/00_idx5_x1_y1_class0.png"


def test_write_split_writes_data_for_read_manifest(study):
    table = split_by_patient(study)
    write_split(table, "out/split.csv")
    read = read_manifest("out/split.csv").table
    columns = ["label", "patient_id", "split"]
    pd.testing.assert_frame_equal(read[columns], table[columns])


def test_write_split_writes_folds(study):
    write_split(fold_by_patient(study, folds=3), "fold.csv")
    assert pd.read_csv("fold.csv").columns.tolist() == ["path", "patient_id", "label", "fold"]


def test_write_split_tells_data_sets_apart(study):
    table = study.assign(dataset=["a", "b"] * 6, patient_id="7", split=["train", "test"] * 6)
    write_split(table, "split.csv")
    read = read_manifest("split.csv").table
    assert set(patient_keys(read)) == {"a/7", "b/7"}


def test_write_split_harms_no_older_file_when_it_fails(study, monkeypatch):
    Path("split.csv").write_text("older")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_split(split_by_patient(study), "split.csv")
    assert sorted(os.listdir()) == ["split.csv", "study"]
    assert Path("split.csv").read_text() == "older"


def test_write_split_refuses_a_table_without_parts(study):
    with pytest.raises(ValueError, match="must have `split` or `fold` filled"):
        write_split(study, "split.csv")


def test_apply_split_gives_back_what_was_written(study):
    table = split_by_patient(study)
    write_split(table, "out/split.csv")
    again = read_manifest(os.path.abspath("study")).table
    assert apply_split(again, "out/split.csv")["split"].tolist() == table["split"].tolist()


def test_apply_split_joins_folds(study):
    table = fold_by_patient(study, folds=3)
    write_split(table, "fold.csv")
    pd.testing.assert_series_equal(apply_split(study, "fold.csv")["fold"], table["fold"])


def test_apply_split_joins_arrays_by_name(tmp_path):
    rows = [("train[0]", 0), ("train[1]", 1)]
    table = pd.DataFrame(rows, columns=["path", "label"])
    table = table.assign(patient_id=None, split=None, source="a.npz", dataset="a")
    write_split(table.assign(split=["test", "train"]), tmp_path / "split.csv")
    assert apply_split(table, tmp_path / "split.csv")["split"].tolist() == ["test", "train"]


def test_apply_split_leaves_out_and_counts_what_has_no_partner(study):
    write_split(split_by_patient(study).iloc[:9], "split.csv")
    result = apply_split(study.iloc[3:], "split.csv")
    assert len(result) == 6
    assert result.attrs["notes"] == [
        "3 rows of split.csv name no picture of the data",
        "3 pictures of the data are not in split.csv and were left out",
    ]


def test_apply_split_refuses_a_csv_of_other_pictures(study):
    Path("split.csv").write_text("path,split\nother.png,test\n")
    with pytest.raises(ValueError, match=r"must name pictures of the data.*other\.png"):
        apply_split(study, "split.csv")


def test_apply_split_refuses_another_label(study):
    table = split_by_patient(study)
    write_split(table.assign(label=1 - table["label"]), "split.csv")
    with pytest.raises(ValueError, match=r"agree with the data on labels. Found 12"):
        apply_split(study, "split.csv")


def test_apply_split_refuses_a_divided_patient(study):
    study["patient_id"] = "7"
    Path("split.csv").write_text(
        "path,split\n"
        + "".join(
            f"{path},{part}\n"
            for path, part in zip(study["path"], ["train", "test"] * 6, strict=True)
        )
    )
    with pytest.raises(ValueError, match=r"two parts\. Found 1: study/7"):
        apply_split(study, "split.csv")


def test_apply_split_takes_patients_from_the_csv_where_unknown(study):
    write_split(split_by_patient(study), "split.csv")
    result = apply_split(study.assign(patient_id=None), "split.csv")
    assert result["patient_id"].tolist() == study["patient_id"].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n{path},0\n", "`split` or `fold` in row 2"),
        ("path,split\n{path},\n", "`split` or `fold` in row 2"),
        ("path,split\n{path},test\n./{path},test\n", "name each picture once"),
    ],
)
def test_apply_split_names_the_fault_of_a_csv(study, content, message):
    Path("split.csv").write_text(content.format(path=study["path"][0]))
    with pytest.raises(ValueError, match=message):
        apply_split(study, "split.csv")


@needs_real
def test_split_by_patient_balances_real_patients():
    table = read_manifest(Path(REAL, "idc")).table
    table = split_by_patient(table)
    assert_disjoint(table)
    shares = table["split"].value_counts(normalize=True)
    prevalence = table.groupby("split")["label"].mean()
    assert shares["test"] == pytest.approx(0.2, abs=0.01)
    assert shares["validation"] == pytest.approx(0.15, abs=0.01)
    assert prevalence.max() - prevalence.min() < 0.02
