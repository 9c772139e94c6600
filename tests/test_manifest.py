"""Folders, CSVs and arrays in; one table, with all that was left out, out."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bcnet.data.manifest import (
    patient_keys,
    patients_known,
    read_manifest,
    read_sample,
    relative_names,
)

REAL = os.environ.get("BCNET_TEST_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="BCNET_TEST_DATA names no folder of pictures")


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write a picture of one colour at a relative path; the working folder is a fresh one."""
    monkeypatch.chdir(tmp_path)

    def write(*names, colour=(200, 60, 120)):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), colour).save(name)

    return write


def save_arrays(path, **changes):
    arrays = {
        "train_images": np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2),
        "train_labels": np.array([[0], [1], [1]], np.uint8),
        "val_images": np.full((2, 2, 2), 7, np.uint8),
        "val_labels": np.array([[1], [0]], np.uint8),
    }
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    np.savez(path, **arrays)


def column(manifest, name):
    return manifest.table.set_index("path")[name].to_dict()


# Folders


@pytest.mark.parametrize(
    ("benign", "malignant"),
    [("benign", "malignant"), ("0", "1"), ("B", "m"), ("Negative", "POSITIVE"), ("benign", "1")],
)
def test_read_manifest_labels_by_class_folder(put, benign, malignant):
    put(f"data/{benign}/x.png", f"data/{malignant}/y.png")
    labels = column(read_manifest("data"), "label")
    assert labels == {f"data/{benign}/x.png": 0, f"data/{malignant}/y.png": 1}


def test_read_manifest_reads_kaggle_idc_folders(put):
    put("data/10253/0/10253_idx5_x1_y1_class0.png", "data/10253/1/10253_idx5_x2_y1_class1.png")
    table = read_manifest("data").table
    assert table[["label", "patient_id"]].to_numpy().tolist() == [[0, "10253"], [1, "10253"]]


def test_read_manifest_reads_breakhis_folders(put):
    put("data/benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png")
    row = read_manifest("data").table.loc[0]
    told = row[["label", "patient_id", "tumour_type", "magnification"]].tolist()
    assert told == [0, "14-22549", "A", 40]


def test_read_manifest_takes_given_splits(put):
    put("data/train/benign/x.png", "data/Val/benign/x.png", "data/test/1/x.png")
    splits = read_manifest("data").table["split"]
    assert sorted(splits) == ["test", "train", "validation"]


def test_read_manifest_without_splits_gives_none(put):
    put("data/benign/x.png")
    assert read_manifest("data").table["split"].tolist() == [None]


def test_read_manifest_notes_pictures_outside_the_given_splits(put):
    put("data/train/benign/x.png", "data/benign/x.png")
    assert "1 of 2 pictures stand in no split while others do" in read_manifest("data").notes


def test_read_manifest_sorts_by_name(put):
    put("data/benign/b.png", "data/benign/a.png", "data/1/c.png")
    expected = ["data/1/c.png", "data/benign/a.png", "data/benign/b.png"]
    assert read_manifest("data").table["path"].tolist() == expected


def test_read_manifest_leaves_normal_out_and_says_so(put):
    put("data/normal/x.png", "data/benign/y.png")
    manifest = read_manifest("data")
    assert manifest.table["path"].tolist() == ["data/benign/y.png"]
    assert manifest.skipped == [
        ("data/normal/x.png", "normal: neither benign nor malignant"),
    ]
    assert manifest.notes[0] == (
        "normal/ holds 1 pictures and was left out; `--normal benign` counts them as benign"
    )


def test_read_manifest_counts_normal_as_benign_when_asked(put):
    put("data/normal/x.png", "data/malignant/y.png", "data/benign/z.png")
    manifest = read_manifest("data", normal="benign")
    assert column(manifest, "label")["data/normal/x.png"] == 0
    assert manifest.info.negative == "normal and benign"
    assert "1 normal pictures count as benign" in manifest.notes


def test_read_manifest_of_normal_pictures_alone_is_an_error(put):
    put("data/normal/x.png")
    with pytest.raises(ValueError, match="Found: normal only"):
        read_manifest("data")


def test_read_manifest_uses_or_lists_every_file(put):
    put("data/benign/x.png", "data/benign/.hidden.png", "data/benign/x_mask.png", "data/loose.png")
    put("data/masks/x.png", "data/__MACOSX/benign/x.png", "data/benign/x_mask_1.png")
    for name in ("benign/.DS_Store", "benign/Thumbs.db", "desktop.ini", "benign/notes.txt"):
        Path("data", name).write_text("no picture")
    Path("data/malignant").mkdir()
    Path("data/dataset.json").write_text("{}")
    manifest = read_manifest("data")
    assert manifest.table["path"].tolist() == ["data/benign/x.png"]
    assert dict(manifest.skipped) == {
        "data/__MACOSX": "hidden or of the system",
        "data/benign/.DS_Store": "hidden or of the system",
        "data/benign/.hidden.png": "hidden or of the system",
        "data/benign/Thumbs.db": "hidden or of the system",
        "data/desktop.ini": "hidden or of the system",
        "data/benign/notes.txt": "not a picture",
        "data/benign/x_mask.png": "a mask",
        "data/benign/x_mask_1.png": "a mask",
        "data/masks/x.png": "a mask",
        "data/loose.png": "no class folder above it",
        "data/malignant": "an empty folder",
    }
    assert "3 masks are no pictures of a class and were left out" in manifest.notes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_read_manifest_knows_pictures_without_an_ending_by_their_first_bytes(put, kind):
    Path("data/benign").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save("data/benign/scan", format=kind)
    assert read_manifest("data").table["path"].tolist() == ["data/benign/scan"]


def test_read_manifest_keeps_damaged_pictures_for_the_reader_to_name(put):
    put("data/benign/x.png")
    Path("data/benign/y.png").write_bytes(b"")
    assert len(read_manifest("data").table) == 2


def test_read_manifest_ends_on_a_loop_of_links(put):
    put("data/benign/x.png")
    os.symlink("..", "data/benign/again")
    os.symlink("self", "data/self")
    manifest = read_manifest("data")
    assert manifest.table["path"].tolist() == ["data/benign/x.png"]
    assert dict(manifest.skipped).keys() == {"data/benign/again", "data/self"}


def test_read_manifest_follows_a_link_to_a_folder(put):
    put("elsewhere/x.png")
    Path("data").mkdir()
    os.symlink("../elsewhere", "data/benign")
    assert read_manifest("data").table["path"].tolist() == ["data/benign/x.png"]


def test_read_manifest_of_an_empty_folder_is_an_error(put):
    Path("data").mkdir()
    with pytest.raises(ValueError, match=r"No picture in a class folder below data.*empty folder"):
        read_manifest("data")


def test_read_manifest_without_class_folders_says_what_was_looked_for_and_found(put):
    put("data/a/x.png", "data/a/y.png")
    with pytest.raises(ValueError, match=r"benign.*no class folder above it \(2\)"):
        read_manifest("data")


def test_read_manifest_of_a_class_folder_points_to_its_parent(put):
    put("data/benign/x.png")
    with pytest.raises(ValueError, match="give the folder that holds it"):
        read_manifest("data/benign")


def test_read_manifest_of_nothing_names_the_path():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_manifest("nowhere")


def test_read_manifest_refuses_another_kind_of_file(put):
    put("x.png")
    with pytest.raises(ValueError, match=r"must be a folder, a \.csv or an \.npz"):
        read_manifest("x.png")


@pytest.mark.parametrize("choice", [{"normal": "maybe"}, {"modality": "sound"}])
def test_read_manifest_refuses_an_unknown_choice(put, choice):
    put("data/benign/x.png")
    with pytest.raises(ValueError, match="must be one of"):
        read_manifest("data", **choice)


# Patients


def test_read_manifest_says_when_patients_are_unknown(put):
    put("data/benign/x.png")
    manifest = read_manifest("data")
    assert manifest.notes[0].startswith("patients unknown")
    assert not patients_known(manifest.table)


def test_read_manifest_says_when_some_patients_are_unknown(put):
    put("data/benign/x.png", "data/benign/CAWI_003.png")
    notes = read_manifest("data").notes
    assert "1 of 2 pictures tell no patient and count as one each" in notes


def test_read_manifest_searches_the_pattern_below_the_source(put):
    put("7/benign/8/x.png", "7/malignant/9/x.png")
    table = read_manifest("7", patient_pattern=r"(\d)/").table
    assert table["patient_id"].tolist() == ["8", "9"]


def test_read_manifest_takes_the_pattern_before_names(put):
    put("data/benign/CAWI_003.png")
    table = read_manifest("data", patient_pattern=r"_(\d+)").table
    assert table["patient_id"].tolist() == ["003"]


def test_read_manifest_refuses_a_pattern_that_matches_nothing(put):
    put("data/benign/x.png")
    with pytest.raises(ValueError, match=r"must match.*such as benign/x\.png"):
        read_manifest("data", patient_pattern="case(.)")


def test_patient_keys_tell_data_sets_and_unknown_patients_apart():
    rows = [("x", "7", "a"), ("y", "7", "b"), ("z", None, "b")]
    table = pd.DataFrame(rows, columns=["path", "patient_id", "dataset"], index=[3, 1, 2])
    assert patient_keys(table).to_dict() == {3: "a/7", 1: "b/7", 2: "b/z"}


def test_relative_names_do_not_depend_on_the_place(put):
    put("data/benign/x.png")
    tables = [read_manifest(place).table for place in ("data", "data/", os.path.abspath("data"))]
    assert [relative_names(table).tolist() for table in tables] == [["benign/x.png"]] * 3


# Tables


def test_read_manifest_reads_a_csv_relative_to_itself(put):
    put("study/a/x.png", "study/y.png")
    Path("study/list.csv").write_text(
        "path,label,patient_id,split,fold,age\na/x.png,Malignant,007,Val,1,63\ny.png,b,,train,0,\n"
    )
    rows = read_manifest("study/list.csv").table.to_dict("records")
    common = {"source": "study/list.csv", "dataset": "list"}
    first = {"path": "study/a/x.png", "label": 1, "patient_id": "007", "split": "validation"}
    second = {"path": "study/y.png", "label": 0, "patient_id": None, "split": "train"}
    assert rows == [
        first | common | {"fold": 1, "age": "63"},
        second | common | {"fold": 0, "age": None},
    ]


@pytest.mark.parametrize(
    "content",
    ["\ufeffpath,label\nx.png,1\n", "Path;Label\r\nx.png; 1 \r\n\r\n", "path\tlabel\nx.png\t1"],
)
def test_read_manifest_reads_what_spreadsheets_write(put, content):
    put("x.png")
    Path("list.csv").write_text(content, encoding="utf-8")
    assert column(read_manifest("list.csv"), "label") == {"x.png": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,class\nx.png,1\n", "must have a column `label`. Found: path, class"),
        ("file,label\nx.png,1\n", "must have a column `path`. Found: file, label"),
        ("path,label\nx.png,1\ny.png,cancer\n", "Received: label='cancer' in row 3"),
        ("path,label\nx.png,\n", "no label in row 2"),
        ("path,label,split\nx.png,1,holdout\n", "Received: split='holdout' in row 2"),
        ("path,label,fold\nx.png,1,one\n", "`fold` must be a whole number.*row 2"),
        ("path,label\nx.png,1,2\n", "must have 2 values in each row. Found 3 in row 2"),
        ("path,label\n./x.png,1\nx.png,1\n", "name each picture once. Found again in row 3"),
        ("path,label,label\nx.png,1,1\n", "name each column once"),
        ("path,label\n", "at least one row"),
        ("", "at least one row"),
    ],
)
def test_read_manifest_names_the_fault_of_a_csv(put, content, message):
    put("x.png", "y.png")
    Path("list.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_manifest("list.csv")


def test_read_manifest_refuses_a_csv_in_another_encoding(put):
    Path("list.csv").write_bytes("path,label\nKöln.png,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="must be a CSV in UTF-8"):
        read_manifest("list.csv")


def test_read_manifest_counts_missing_files_and_names_three(put):
    Path("list.csv").write_text("path,label\n" + "".join(f"{i}.png,1\n" for i in range(5)))
    with pytest.raises(FileNotFoundError, match=r"5 pictures.*: 0\.png, 1\.png, 2\.png$"):
        read_manifest("list.csv")


def test_read_manifest_takes_the_patient_column_before_names(put):
    put("CAWI_003.png")
    Path("list.csv").write_text("path,label,patient_id\nCAWI_003.png,1,12\n")
    assert read_manifest("list.csv").table["patient_id"].tolist() == ["12"]


def test_read_manifest_takes_the_pattern_before_the_patient_column(put):
    put("CAWI_003.png")
    Path("list.csv").write_text("path,label,patient_id\nCAWI_003.png,1,12\n")
    table = read_manifest("list.csv", patient_pattern=r"_(\d+)").table
    assert table["patient_id"].tolist() == ["003"]


def test_read_manifest_leaves_normal_rows_of_a_csv_out(put):
    put("x.png", "y.png")
    Path("list.csv").write_text("path,label\nx.png,normal\ny.png,1\n")
    assert [path for path, _ in read_manifest("list.csv").skipped] == ["x.png"]


def test_read_manifest_keeps_a_column_whose_name_it_needs_itself(put):
    put("x.png")
    Path("list.csv").write_text("path,label,source\nx.png,1,clinic\n")
    row = read_manifest("list.csv").table.loc[0]
    assert (row["source"], row["source_given"]) == ("list.csv", "clinic")


# Arrays


def test_read_manifest_turns_medmnist_labels_round(put):
    save_arrays("set.npz")
    labels = column(read_manifest("set.npz"), "label")
    assert labels == {"train[0]": 1, "train[1]": 0, "train[2]": 0, "val[0]": 0, "val[1]": 1}


def test_read_manifest_takes_the_splits_of_arrays(put):
    save_arrays("set.npz", train_labels=np.array([0, 1, 1]))
    splits = read_manifest("set.npz").table["split"]
    assert splits.tolist() == ["train"] * 3 + ["validation"] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "must have both images and labels"),
        ({"train_labels": np.array([[0], [1], [2]])}, "must be 0 .malignant. or 1"),
        ({"train_labels": np.array([[0], [1]])}, r"must be \(3, 1\) or \(3,\)"),
        ({"train_images": np.zeros((3, 2, 2), np.float32)}, "must be uint8"),
        ({"train_images": np.zeros((3, 2, 2, 2), np.uint8)}, "must be uint8"),
        ({"train_images": np.array([{}, {}, {}])}, "allow_pickle"),
    ],
)
def test_read_manifest_names_the_fault_of_arrays(put, changes, message):
    save_arrays("set.npz", **changes)
    with pytest.raises(ValueError, match=message):
        read_manifest("set.npz")


def test_read_manifest_refuses_other_arrays(put):
    np.savez("set.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"must hold train_images and train_labels.*Found: x"):
        read_manifest("set.npz")


def test_read_manifest_refuses_a_damaged_npz(put):
    Path("set.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"must be an \.npz file"):
        read_manifest("set.npz")


# Pixels


def test_read_sample_repeats_grey_of_an_array(put):
    save_arrays("set.npz")
    assert read_sample("train[1]", "set.npz").tolist() == [[[4] * 3, [5] * 3], [[6] * 3, [7] * 3]]


def test_read_sample_gives_colour_of_an_array_to_be_written_into(put):
    save_arrays("set.npz", train_images=np.ones((3, 2, 2, 3), np.uint8))
    read_sample("train[1]", "set.npz")[:] = 9
    assert read_sample("train[1]", "set.npz").max() == 1


def test_read_sample_sees_that_a_file_has_changed(put):
    save_arrays("set.npz")
    read_sample("val[0]", "set.npz")
    save_arrays("set.npz", val_images=np.full((2, 3, 3), 8, np.uint8))
    assert read_sample("val[0]", "set.npz").shape == (3, 3, 3)


@pytest.mark.parametrize("name", ["val[2]", "test[0]", "x"])
def test_read_sample_names_a_picture_that_is_not_there(put, name):
    save_arrays("set.npz")
    with pytest.raises(ValueError, match="must hold the picture asked for"):
        read_sample(name, "set.npz")


def test_read_sample_reads_a_file(put):
    put("data/benign/x.png", colour=(1, 2, 3))
    image = read_sample("data/benign/x.png", "data")
    assert image.dtype == np.uint8
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


# The data in its own words


def test_read_manifest_reads_the_data_sets_own_words(put):
    put("data/benign/x.png")
    words = {
        "name": "ours",
        "source": "clinic",
        "licence": "CC0",
        "modality": "radiology",
        "negative": "cyst",
        "simulated": True,
    }
    Path("data/dataset.json").write_text(json.dumps(words | {"year": 2014}))
    assert vars(read_manifest("data").info) == words


def test_read_manifest_finds_the_words_beside_the_pictures_of_a_distant_csv(put):
    put("data/benign/x.png", "data/malignant/y.png")
    Path("data/dataset.json").write_text('{"name": "ours"}')
    Path("list.csv").write_text("path,label\ndata/benign/x.png,0\ndata/malignant/y.png,1\n")
    assert read_manifest("list.csv").info.name == "ours"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must hold one JSON object"),
        ('{"name": 7}', "`name` in .* must be a text"),
        ('{"simulated": "no"}', "`simulated` in .* must be true or false"),
        ('{"modality": "sound"}', "`modality` in .* must be one of tissue, radiology"),
    ],
)
def test_read_manifest_names_the_fault_of_dataset_json(put, content, message):
    put("data/benign/x.png")
    Path("data/dataset.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_manifest("data")


@pytest.mark.parametrize(
    ("colour", "modality"), [((90, 90, 90), "radiology"), ((200, 60, 120), "tissue")]
)
def test_read_manifest_takes_grey_for_radiology(put, colour, modality):
    put("data/benign/x.png", colour=colour)
    assert read_manifest("data").info.modality == modality


def test_read_manifest_takes_the_argument_before_the_words_and_pixels(put):
    put("data/benign/x.png", colour=(90, 90, 90))
    Path("data/dataset.json").write_text('{"modality": "radiology"}')
    assert read_manifest("data", modality="tissue").info.modality == "tissue"


def test_read_manifest_looks_past_unreadable_pictures(put):
    put("data/benign/x.png", colour=(90, 90, 90))
    Path("data/benign/a.png").write_bytes(b"damaged")
    assert read_manifest("data").info.modality == "radiology"


def test_read_manifest_knows_what_idc_negatives_are(put):
    put("data/0/7_idx5_x1_y1_class0.png", "data/1/7_idx5_x2_y1_class1.png")
    assert read_manifest("data").info.negative == "IDC-negative tissue"


# Several sources


def test_read_manifest_tells_two_places_of_one_name_apart(put):
    put("a/data/benign/CAWI_001.png", "b/data/benign/CAWI_002.png")
    manifest = read_manifest(["a/data", "b/data"])
    assert manifest.table["dataset"].tolist() == ["a/data", "b/data"]
    assert patient_keys(manifest.table).nunique() == 2
    assert manifest.info.name == "a/data + b/data"


def test_read_manifest_joins_places_that_say_they_are_one(put):
    put("a/benign/CAWI_001.png", "b/benign/CAWI_002.png")
    for place in "ab":
        Path(place, "dataset.json").write_text('{"name": "ours"}')
    manifest = read_manifest(["a", "b"])
    assert patient_keys(manifest.table).unique().tolist() == ["ours/CAWI"]


def test_read_manifest_takes_train_and_test_of_one_place_for_one_data_set(put):
    put("ours/train/benign/CAWI_001.png", "ours/test/benign/CAWI_002.png")
    table = read_manifest(["ours/train", "ours/test"]).table
    assert patient_keys(table).unique().tolist() == ["ours/CAWI"]


def test_read_manifest_leaves_none_where_another_source_tells_nothing(put):
    put("data/benign/x.png", "y.png")
    Path("list.csv").write_text("path,label,fold,view\ny.png,1,2,CC\n")
    table = read_manifest(["data", "list.csv"]).table
    assert table["view"].tolist() == [None, "CC"]
    assert table["fold"].tolist() == [pd.NA, 2]


def test_read_manifest_takes_two_arrays_with_the_same_names(put):
    save_arrays("a.npz")
    save_arrays("b.npz")
    table = read_manifest(["a.npz", "b.npz"]).table
    assert patient_keys(table).is_unique


def test_read_manifest_refuses_a_picture_given_twice(put):
    put("data/train/benign/x.png")
    with pytest.raises(ValueError, match="must hold each picture once"):
        read_manifest(["data", "data/train"])


def test_read_manifest_of_mixed_modalities_is_radiology_and_says_so(put):
    put("a/benign/x.png", colour=(90, 90, 90))
    put("b/benign/x.png")
    manifest = read_manifest(["a", "b"])
    assert manifest.info.modality == "radiology"
    assert any("mixed" in note for note in manifest.notes)


# Real pictures


@needs_real
@pytest.mark.parametrize(
    ("name", "benign", "malignant", "patients", "modality"),
    [
        ("idc", 5876, 2207, 223, "tissue"),
        ("bus_uclm", 99, 70, 24, "radiology"),
        ("breakhis", 21, 24, 18, "tissue"),
        ("pcam", 3200, 3200, 6400, "tissue"),
        ("breastmnist/breastmnist.npz", 456, 168, 624, "radiology"),
    ],
)
def test_read_manifest_counts_real_sets(name, benign, malignant, patients, modality):
    manifest = read_manifest(Path(REAL, name))
    table = manifest.table
    assert table["label"].value_counts().to_dict() == {0: benign, 1: malignant}
    assert patient_keys(table).nunique() == patients
    assert manifest.info.modality == modality
