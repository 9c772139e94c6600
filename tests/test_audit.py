"""The audit on tables small enough to check by eye, and likeness on planted copies."""

import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bcnet.data import duplicates
from bcnet.data.audit import audit, format_audit
from bcnet.data.duplicates import find_duplicates, take_fingerprint
from bcnet.data.manifest import read_manifest
from bcnet.readers import UnreadableImageError

WHITE = np.full((64, 64, 3), 255, np.uint8)
"""A tile of empty glass."""


def draw_picture(seed, shape=(64, 64)):
    """Coloured clouds of several sizes: no two seeds alike."""
    rng = np.random.default_rng(seed)
    clouds = np.zeros((*shape, 3), np.float32)
    for cells in (4, 8, 16):
        clouds += cv2.resize(rng.normal(size=(cells, cells, 3)).astype(np.float32), shape[::-1])
    return np.clip(140 + 30 * clouds, 0, 255).astype(np.uint8)


def add_noise(image, seed, amount):
    noise = np.random.default_rng(seed).integers(-amount, amount + 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def encode_jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def resize(image, factor):
    size = [round(side * factor) for side in image.shape[1::-1]]
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def scale(image, factor, around=0):
    return np.clip(around + factor * (image.astype(float) - around), 0, 255).astype(np.uint8)


def turn(image, symmetry):
    turned = np.rot90(image, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


CHANGES = {
    "equal": lambda image: image.copy(),
    "jpeg 90": lambda image: encode_jpeg(image, 90),
    "jpeg 50": lambda image: encode_jpeg(image, 50),
    "half": lambda image: resize(image, 0.5),
    "double": lambda image: resize(image, 2),
    "darker": lambda image: scale(image, 0.8),
    "brighter": lambda image: scale(image, 1.2),
    "less contrast": lambda image: scale(image, 0.8, around=128),
    "more contrast": lambda image: scale(image, 1.2, around=128),
    "turned and jpeg 50": lambda image: encode_jpeg(turn(image, 1).copy(), 50),
    "flipped and half": lambda image: resize(turn(image, 4).copy(), 0.5),
    "half and jpeg 50": lambda image: encode_jpeg(resize(image, 0.5), 50),
    "brighter and double": lambda image: resize(scale(image, 1.2), 2),
}
CHANGES |= {f"symmetry {k}": lambda image, k=k: turn(image, k) for k in range(1, 8)}


def find_among(images):
    return find_duplicates([take_fingerprint(image) for image in images])


def make_table(*rows):
    """Rows of path, label, patient and split, all of one data set."""
    table = pd.DataFrame(rows, columns=["path", "label", "patient_id", "split"])
    return table.assign(source="data", dataset="data")


def audit_pictures(table, images=None, **options):
    """The report on a table whose paths are keys of `images`; others are drawn, all different."""
    images = images or {}
    seeds = {path: seed for seed, path in enumerate(sorted(set(table["path"])))}

    def read(path, source):
        image = images.get(path)
        if isinstance(image, Exception):
            raise image
        return draw_picture(seeds[path]) if image is None else image

    return audit(table, read=read, **options)


def find_kind(report, kind):
    return [finding for finding in report["findings"] if finding["kind"] == kind]


def one_of_kind(report, kind):
    (finding,) = find_kind(report, kind)
    return finding


CLEAN = make_table(("a", 0, "1", "train"), ("b", 1, "2", "train"), ("c", 0, "3", "test"))
CLEAN = pd.concat([CLEAN, make_table(("d", 1, "4", "test"))], ignore_index=True)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shape", [(64, 64), (60, 90)])
def test_find_duplicates_finds_a_changed_copy(change, shape):
    images = [draw_picture(seed, shape) for seed in range(12)]
    assert find_among([*images, CHANGES[change](images[5])]) == [[5, 12]]


def test_find_duplicates_finds_hard_copies_in_every_place():
    images = [add_noise(draw_picture(seed, (50, 50)), seed, 100) for seed in range(60)]
    copies = [encode_jpeg(resize(image, 0.5), 75) for image in images]
    assert find_among([*images, *copies]) == [[place, place + 60] for place in range(60)]


def test_find_duplicates_keeps_different_pictures_apart():
    assert find_among([draw_picture(seed) for seed in range(400)]) == []


def test_find_duplicates_is_not_deceived_by_a_strong_common_edge():
    images = [scale(draw_picture(seed), 0.45, around=220) for seed in range(12)]
    for image in images:
        image[56:] = 40  # the edge of the slide
    assert find_among(images) == []


def test_find_duplicates_joins_all_copies_in_one_group():
    image = draw_picture(0)
    copies = [change(image) for change in CHANGES.values()]
    assert find_among([image, draw_picture(1), *copies]) == [[0, *range(2, len(copies) + 2)]]


def test_find_duplicates_ignores_pictures_of_one_colour():
    assert find_among([WHITE, WHITE.copy()]) == []


def test_find_duplicates_compares_nearly_blank_pictures_by_equal_pixels_only():
    glass = add_noise(WHITE, 0, 3)
    assert find_among([glass, glass[::-1], glass.copy()]) == [[0, 2]]


def test_find_duplicates_tells_equal_bytes_of_other_shape_apart():
    glass = add_noise(WHITE, 0, 3)
    assert find_among([glass, glass.reshape(32, 128, 3)]) == []


def test_find_duplicates_accepts_no_pictures():
    assert find_duplicates([]) == []


def test_find_duplicates_does_not_compare_all_pairs_of_a_crowd(monkeypatch):
    compared = []
    correlate = duplicates._correlate

    def count(first, second):
        compared.append(len(first))
        return correlate(first, second)

    monkeypatch.setattr(duplicates, "_correlate", count)
    image = draw_picture(0)
    totals = []
    for size in (200, 800):
        compared.clear()
        fingerprints = [take_fingerprint(add_noise(image, seed, 4)) for seed in range(size)]
        assert find_duplicates(fingerprints) == [list(range(size))]
        totals.append(sum(compared))
    assert totals[1] < 5 * totals[0]  # four times as many pictures; all pairs would be 16 times


def test_take_fingerprint_measures_contrast_in_grey_levels():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 100  # half 0, half 100: standard deviation 50
    assert take_fingerprint(image).contrast == pytest.approx(50)


@pytest.mark.parametrize("image", [WHITE[..., 0], WHITE.astype(float), WHITE[:0]])
def test_take_fingerprint_refuses_other_arrays(image):
    with pytest.raises(ValueError, match="`image` must be uint8"):
        take_fingerprint(image)


def test_audit_passes_clean_data():
    report = audit_pictures(CLEAN)
    assert report["verdict"] == "pass"
    assert [finding["kind"] for finding in report["findings"]] == ["class_balance"]


def test_audit_counts_pictures_and_patients():
    table = make_table(("a", 0, "1", None), ("b", 1, "1", None), ("c", 1, None, None))
    report = audit_pictures(table)
    assert (report["n_images"], report["n_patients"]) == (3, 1)


def test_audit_finds_a_patient_in_two_splits():
    rows = [("a", 0, "7", "test"), ("b", 1, "7", "train"), ("c", 1, "8", "train")]
    report = audit_pictures(make_table(*rows))
    assert report["verdict"] == "fail"
    assert one_of_kind(report, "patient_in_two_splits") == {
        "kind": "patient_in_two_splits",
        "severity": "error",
        "splits": ["train", "test"],
        "labels": ["benign", "malignant"],
        "message": "Patient 7 of data stands in train and test.",
        "images": ["a", "b"],
    }


def test_audit_leaves_pictures_in_no_split_out_of_a_patient_in_two():
    rows = [("a", 0, "7", "test"), ("b", 1, "7", "train"), ("c", 1, "7", None)]
    report = audit_pictures(make_table(*rows))
    assert one_of_kind(report, "patient_in_two_splits")["images"] == ["a", "b"]


def test_audit_puts_errors_first():
    rows = [(name, 0, name, "train") for name in "abc"] + [("d", 1, "d", "test")]
    images = {"b": draw_picture(0), "d": draw_picture(2)}  # a and b only repeat, c and d leak
    severities = [x["severity"] for x in audit_pictures(make_table(*rows), images)["findings"]]
    assert severities == sorted(severities)  # "error" stands before "note"


def test_audit_tells_patients_of_two_data_sets_apart():
    table = make_table(("a", 0, "7", "train"), ("b", 1, "7", "test"))
    table["dataset"] = ["here", "there"]
    assert audit_pictures(table)["n_patients"] == 2
    assert not find_kind(audit_pictures(table), "patient_in_two_splits")


def test_audit_finds_the_same_picture_in_two_splits():
    images = {"d": encode_jpeg(turn(draw_picture(1), 5).copy(), 75)}  # "b" is drawn from seed 1
    finding = one_of_kind(audit_pictures(CLEAN, images), "duplicate_across_splits")
    assert finding["images"] == ["b", "d"]
    assert finding["splits"] == ["train", "test"]
    assert finding["message"] == "2 nearly equal pictures stand in train and test."


def test_audit_finds_the_same_picture_in_both_classes():
    report = audit_pictures(CLEAN, {"b": draw_picture(0)})
    finding = one_of_kind(report, "duplicate_across_labels")
    assert finding["images"] == ["a", "b"]
    assert finding["message"] == "2 equal pictures are labelled benign and malignant."
    assert report["verdict"] == "fail"


def test_audit_reports_a_group_under_each_error():
    report = audit_pictures(CLEAN, {"d": draw_picture(0)})  # a: train benign, d: test malignant
    kinds = [x["kind"] for x in report["findings"] if x["images"] == ["a", "d"]]
    assert kinds == ["duplicate_across_splits", "duplicate_across_labels"]


def test_audit_only_notes_a_duplicate_of_one_split_and_class():
    table = make_table(("a", 0, "1", "train"), ("b", 0, "2", "train"), ("c", 1, "3", "train"))
    report = audit_pictures(table, {"b": draw_picture(0)})
    assert report["verdict"] == "pass"
    assert one_of_kind(report, "duplicate")["images"] == ["a", "b"]


def test_audit_takes_no_split_for_no_leak():
    table = make_table(("a", 0, "1", "train"), ("b", 0, "1", None), ("c", 1, "3", "train"))
    assert audit_pictures(table, {"b": draw_picture(0)})["verdict"] == "pass"


def test_audit_finds_no_leak_in_white_glass():
    report = audit_pictures(CLEAN, {"a": WHITE, "d": WHITE})
    assert report["verdict"] == "pass"
    finding = one_of_kind(report, "nearly_blank")
    assert finding["images"] == ["a", "d"]
    assert finding["message"] == "2 pictures nearly blank, 2 of one colour."


def test_audit_tells_the_class_balance_of_each_split():
    rows = [(str(k), int(k < 1), str(k), "train" if k < 4 else None) for k in range(5)]
    message = one_of_kind(audit_pictures(make_table(*rows)), "class_balance")["message"]
    assert message == (
        "The data: 4 benign and 1 malignant (20% malignant); "
        "train: 3 benign and 1 malignant (25% malignant)."
    )


def test_audit_finds_one_class_in_a_split():
    table = make_table(("a", 0, "1", "train"), ("b", 1, "2", "train"), ("c", 1, "3", "test"))
    finding = one_of_kind(audit_pictures(table), "one_class")
    assert finding["message"] == "test holds malignant pictures only."
    assert (finding["splits"], finding["labels"]) == (["test"], ["malignant"])


def test_audit_says_once_that_all_is_one_class():
    table = make_table(("a", 0, "1", "train"), ("b", 0, "2", "test"))
    report = audit_pictures(table)
    assert one_of_kind(report, "one_class")["message"] == "The data holds benign pictures only."
    assert not find_kind(report, "class_balance")


def test_audit_finds_unknown_patients():
    table = make_table(("a", 0, None, None), ("b", 1, None, None))
    report = audit_pictures(table)
    assert report["n_patients"] is None
    assert one_of_kind(report, "patients_unknown")["images"] == ["a", "b"]


@pytest.mark.parametrize(
    ("shape", "odd"),
    [((64, 64), []), ((32, 128), []), ((31, 64), ["d"]), ((64, 129), ["d"]), ((129, 64), ["d"])],
)
def test_audit_finds_resolution_outliers_beyond_a_factor_of_two(shape, odd):
    report = audit_pictures(CLEAN, {"d": draw_picture(9, shape)})
    images = [x for finding in find_kind(report, "resolution_outlier") for x in finding["images"]]
    assert images == odd


def test_audit_takes_a_picture_on_its_side_for_no_outlier():
    images = {path: draw_picture(seed, (40, 100)) for seed, path in enumerate("abc")}
    report = audit_pictures(CLEAN, images | {"d": draw_picture(9, (100, 40))})
    assert not find_kind(report, "resolution_outlier")


def test_audit_groups_unreadable_pictures_by_reason():
    failures = {"b": UnreadableImageError("b", "truncated"), "d": OSError(13, "Permission denied")}
    failures["c"] = UnreadableImageError("c", "truncated")
    report = audit_pictures(CLEAN, failures)
    found = [(x["message"], x["images"]) for x in find_kind(report, "unreadable")]
    assert found == [
        ("1 picture cannot be read: Permission denied.", ["d"]),
        ("2 pictures cannot be read: truncated.", ["b", "c"]),
    ]
    assert (report["verdict"], report["n_images"]) == ("pass", 4)


def test_audit_survives_when_no_picture_reads():
    failures = {path: UnreadableImageError(path, "empty file") for path in "abcd"}
    assert len(one_of_kind(audit_pictures(CLEAN, failures), "unreadable")["images"]) == 4


def test_audit_reports_files_the_manifest_skipped():
    skipped = [("x/.DS_Store", "hidden file"), ("y.txt", "no picture")]
    found = find_kind(audit_pictures(CLEAN, skipped=skipped), "left_out")
    assert [(x["message"], x["images"]) for x in found] == [
        ("1 file left out: hidden file.", ["x/.DS_Store"]),
        ("1 file left out: no picture.", ["y.txt"]),
    ]


def test_audit_names_the_source_where_paths_repeat():
    table = make_table(("train[0]", 0, None, "train"), ("train[0]", 1, None, "train"))
    table["source"] = ["a.npz", "b.npz"]
    report = audit_pictures(table)  # both rows are drawn from the same seed
    images = one_of_kind(report, "duplicate_across_labels")["images"]
    assert images == ["a.npz: train[0]", "b.npz: train[0]"]


def test_audit_gives_plain_json():
    report = audit_pictures(CLEAN, {"d": draw_picture(0), "c": WHITE}, skipped=[("x", "hidden")])
    assert json.loads(json.dumps(report)) == report


def test_audit_counts_progress():
    steps = []
    audit_pictures(CLEAN, progress=steps.append)
    assert sum(steps) == 4


def test_audit_leaves_the_table_alone():
    before = CLEAN.copy()
    audit_pictures(CLEAN)
    pd.testing.assert_frame_equal(CLEAN, before)


@pytest.mark.parametrize(
    ("table", "message"),
    [(CLEAN.drop(columns="split"), "column split"), (CLEAN[:0], "at least one picture")],
)
def test_audit_refuses_a_table_without_pictures_or_columns(table, message):
    with pytest.raises(ValueError, match=message):
        audit_pictures(table)


def test_format_audit_tells_verdict_counts_errors_and_notes():
    report = audit_pictures(CLEAN, {"d": draw_picture(1), "c": WHITE})
    assert format_audit(report).splitlines() == [
        "FAIL: 1 error found",
        "4 pictures of 4 patients",
        "",
        "Errors",
        "  duplicate_across_splits: 2 equal pictures stand in train and test. (b, d)",
        "",
        "Notes",
        "  class_balance: The data: 2 benign and 2 malignant (50% malignant); "
        "train: 1 benign and 1 malignant (50% malignant); "
        "test: 1 benign and 1 malignant (50% malignant).",
        "  nearly_blank: 1 picture nearly blank, 1 of one colour. (c)",
    ]


def test_format_audit_summarises_many_groups():
    rows = [
        (f"{patient}{split}", patient % 2, str(patient), split)
        for patient in range(40)
        for split in ("train", "test")
    ]
    lines = format_audit(audit_pictures(make_table(*rows))).splitlines()
    assert "  patient_in_two_splits: 38 more, with 76 pictures" in lines
    assert len(lines) < 24


@pytest.mark.skipif("BCNET_TEST_DATA" not in os.environ, reason="BCNET_TEST_DATA is not set")
def test_audit_does_not_cry_wolf_on_real_patches():
    manifest = read_manifest(Path(os.environ["BCNET_TEST_DATA"]) / "idc")
    report = audit(manifest.table, skipped=manifest.skipped)
    alike = sum(len(x["images"]) for x in report["findings"] if x["kind"].startswith("duplicate"))
    assert report["verdict"] == "pass"
    assert alike < 0.01 * report["n_images"]
