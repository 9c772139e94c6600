"""Measurements as they come: every layout that is known, and one clear line for all else."""

import logging
import re

import numpy as np
import pandas as pd
import pytest

from bcnet.data.measurement_cells import read_ids, read_labels, read_values
from bcnet.data.measurement_checks import check_measurements, format_findings
from bcnet.data.measurement_files import read_layout
from bcnet.data.measurements import (
    FEATURES,
    MEASUREMENTS,
    read_measurements,
    read_rows,
    stream_rows,
)
from bcnet.data.quantities import match_columns
from bcnet.data.wisconsin import load_wisconsin


@pytest.fixture(scope="module")
def wisconsin():
    return load_wisconsin()


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def kaggle(wisconsin):
    """The first patients as Kaggle's file has them: id, diagnosis, trailing empty column."""
    table = wisconsin.head(5)
    letters = table["label"].map({1: "M", 0: "B"})
    return (
        table[list(FEATURES)]
        .rename(columns=write_as_kaggle)
        .assign(id=range(842302, 842307), diagnosis=letters, blank=np.nan)
        .rename(columns={"blank": ""})
    )


def write_as_kaggle(name):
    if name.endswith(" error"):
        return name.replace(" error", "_se")
    statistic, quantity = name.split(" ", 1)
    return f"{quantity}_{statistic}"


def edit_line(text, number, change):
    lines = text.split("\n")
    lines[number - 1] = change(lines[number - 1])
    return "\n".join(lines)


def assert_same_numbers(table, wisconsin):
    expected = wisconsin.loc[: len(table) - 1, list(FEATURES)]
    pd.testing.assert_frame_equal(table[list(FEATURES)], expected)


def test_features_are_scikit_learns_in_its_order(wisconsin):
    assert list(FEATURES) == list(wisconsin.columns[:30])


def test_measurements_hold_all_patients_well_inside_their_ranges(wisconsin):
    for name, each in MEASUREMENTS.items():
        values = wisconsin[name]
        assert each.low == 0 or each.low < values.min() / 3, name
        assert values.max() * 3 < each.high or each.high in (1, 127.5), name


@pytest.mark.parametrize("slip", [1000, 0.001])
def test_measurements_range_tells_a_slip_of_units(wisconsin, slip):
    for name, each in MEASUREMENTS.items():
        if each.low > 0:
            values = wisconsin[name] * slip
            assert ((values < each.low) | (values > each.high)).all(), name


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda name: name.replace(" ", "_"),
        lambda name: name.replace(" ", "-"),
        lambda name: f" {name} (px)",
        lambda name: name.replace(" error", " SE"),
        lambda name: name.replace("mean ", "") + "_mean" if "mean" in name else name,
        lambda name: name.replace("worst ", "") + "_worst" if "worst" in name else name,
        lambda name: name.replace("worst ", "").replace(" ", "_") + "3" * ("worst" in name),
    ],
)
def test_match_columns_finds_every_spelling(change):
    names = [change(name) for name in FEATURES]
    assert list(match_columns(names, "mine").values()) == list(range(30))


def test_match_columns_names_a_missing_measurement():
    with pytest.raises(ValueError, match=r"mine must have a column.*Missing: worst area\."):
        match_columns([name for name in FEATURES if name != "worst area"], "mine")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("radius_mean", "for mean radius. Received: 'mean radius' and 'radius_mean'"),
        ("id", "for patient_id. Received: 'ID' and 'id'"),
        ("Label", "for label. Received: 'diagnosis' and 'Label'"),
    ],
)
def test_match_columns_refuses_two_that_mean_the_same(extra, said):
    with pytest.raises(ValueError, match=said):
        match_columns([*FEATURES, "ID", "diagnosis", extra], "mine")


def test_match_columns_prefers_the_patient_to_a_samples_id():
    assert match_columns([*FEATURES, "id", "patient_id"], "mine")["patient_id"] == 31


def test_read_measurements_reads_the_wisconsin_data_by_default(wisconsin):
    pd.testing.assert_frame_equal(read_measurements(), wisconsin)


def test_read_measurements_reads_its_own_csv(wisconsin, write):
    path = write(wisconsin.to_csv(index=False))
    pd.testing.assert_frame_equal(read_measurements(path), wisconsin)


def test_read_measurements_reads_the_kaggle_file(kaggle, wisconsin, write, caplog):
    caplog.set_level(logging.INFO, "bcnet")
    table = read_measurements(write(kaggle.to_csv(index=False)))
    assert_same_numbers(table, wisconsin)
    assert table["patient_id"].tolist()[0] == "842302"
    assert table["label"].tolist() == [1] * 5
    assert "not used" not in caplog.text


def test_read_measurements_reads_the_uci_file_without_a_header(kaggle, wisconsin, write):
    uci = kaggle[["id", "diagnosis", *map(write_as_kaggle, FEATURES)]]
    table = read_measurements(write("\ufeff" + uci.to_csv(index=False, header=False)))
    assert_same_numbers(table, wisconsin)
    assert table["patient_id"].tolist() == [str(number) for number in range(842302, 842307)]


def test_read_measurements_refuses_another_file_without_a_header(kaggle, write):
    text = kaggle.drop(columns=["id", ""]).to_csv(index=False, header=False)
    with pytest.raises(ValueError, match=r"must have a header.*Received: 31 columns"):
        read_measurements(write(text))


@pytest.mark.parametrize("order", [slice(None, None, -1), np.random.default_rng(0).permutation(33)])
def test_read_measurements_goes_by_name_not_by_position(kaggle, wisconsin, write, order):
    shuffled = kaggle[kaggle.columns[order]]
    assert_same_numbers(read_measurements(write(shuffled.to_csv(index=False))), wisconsin)


@pytest.mark.parametrize(
    "settings",
    [{"sep": ";"}, {"sep": ";", "decimal": ","}, {"sep": "\t"}, {"quoting": 2}],
    ids=["semicolon", "decimal comma", "tab", "quoted"],
)
def test_read_measurements_reads_what_spreadsheets_write(kaggle, wisconsin, write, settings):
    text = "\ufeff" + kaggle.to_csv(index=False, lineterminator="\r\n", **settings)
    assert_same_numbers(read_measurements(write(text)), wisconsin)


def test_read_measurements_bears_spaces_after_commas(kaggle, wisconsin, write):
    table = read_measurements(write(kaggle.to_csv(index=False, quoting=2).replace(",", ", ")))
    assert_same_numbers(table, wisconsin)
    assert table["label"].tolist() == [1] * 5


def test_read_measurements_names_columns_it_does_not_use(kaggle, write, caplog):
    caplog.set_level(logging.INFO, "bcnet")
    read_measurements(write(kaggle.assign(age=50, **{"": 7}).to_csv(index=False)))
    assert "not used: column 33 without a name, age" in caplog.text


def test_read_measurements_never_makes_the_id_a_feature(kaggle):
    assert list(read_measurements(kaggle)) == [*FEATURES, "label", "patient_id"]


@pytest.mark.parametrize("make", [dict, pd.Series, lambda row: [dict(row)]])
def test_read_measurements_reads_one_patient(wisconsin, make):
    table = read_measurements(make(wisconsin.loc[0]))
    pd.testing.assert_frame_equal(table, wisconsin.loc[[0]])


@pytest.mark.parametrize("cell", ["", "NA", "?", " nan ", "null", "N/A"])
def test_read_measurements_keeps_a_gap(wisconsin, write, cell):
    text = edit_line(wisconsin.to_csv(index=False), 3, lambda line: line.replace("20.57", cell, 1))
    values = read_measurements(write(text))["mean radius"]
    assert values.isna().to_numpy().nonzero()[0].tolist() == [1]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("abc", "line 3: `mean radius` must be a number or empty. Received: 'abc'"),
        ('"1,001.0"', "must be a number.*write 1001.5, without other commas"),
        ("0x1F", "must be a number or empty. Received: '0x1F'"),
        ("True", "must be a number or empty. Received: 'True'"),
        ("-20.57", r"must be between 2 and 100 px\. Received: -20.57$"),
        ("20570", r"Received: 20570 \(20.57 would fit: another unit\?\)"),
        ("0.02057", r"Received: 0.02057 \(20.57 would fit: another unit\?\)"),
        ("inf", "must be between 2 and 100 px. Received: inf"),
        ("1e400", "must be between 2 and 100 px. Received: inf"),
    ],
)
def test_read_measurements_names_the_impossible_value(wisconsin, write, cell, said):
    text = edit_line(wisconsin.to_csv(index=False), 3, lambda line: line.replace("20.57", cell, 1))
    with pytest.raises(ValueError, match=said):
        read_measurements(write(text))


def test_read_measurements_counts_lines_as_an_editor_does(wisconsin, write):
    text = edit_line(wisconsin.to_csv(index=False), 3, lambda line: line.replace("20.57", "abc", 1))
    with pytest.raises(ValueError, match="line 5: `mean radius`"):
        read_measurements(write(edit_line(text, 1, lambda line: line + "\n\n")))


def test_read_measurements_counts_further_faults(wisconsin):
    table = wisconsin.assign(**{"mean area": wisconsin["mean area"] * 1000})
    with pytest.raises(ValueError, match=r"1001 would fit.*568 more rows have faults"):
        read_measurements(table)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must begin with a header"),
        (",".join(FEATURES) + "\n", "at least one row below its header"),
        (",".join(FEATURES) + "\n\n\n", "at least one row below its header"),
        (b"PK\x03\x04\0\0\0,a,b\n\0\1\n", "CSV in UTF-8"),
        ("mean radius,Größe\n1,2\n".encode("latin-1"), "CSV in UTF-8"),
        ("mean radius\n1\n".encode("utf-16"), "CSV in UTF-8"),
        ("a,b\n1,2\n", "Missing: mean radius"),
    ],
)
def test_read_measurements_refuses_what_is_no_such_csv(write, content, said):
    with pytest.raises(ValueError, match=said):
        read_measurements(write(content))


@pytest.mark.parametrize(("number", "said"), [(2, "33 in the first row"), (4, "line 4, saw 33")])
def test_read_measurements_refuses_a_line_with_too_many_values(wisconsin, write, number, said):
    text = edit_line(wisconsin.to_csv(index=False), number, lambda line: line + ",7")
    with pytest.raises(ValueError, match=said):
        read_measurements(write(text))


def test_read_measurements_refuses_a_folder(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        read_measurements(tmp_path)


@pytest.mark.parametrize("source", [5, [1.0] * 30, pd.DataFrame(columns=list(FEATURES)), {}])
def test_read_measurements_refuses_what_holds_no_patient(source):
    with pytest.raises(ValueError, match=r"must have|must be"):
        read_measurements(source)


def test_read_measurements_refuses_a_row_without_any_measurement(wisconsin):
    table = wisconsin.head(3).copy()
    table.loc[1, list(FEATURES)] = np.nan
    with pytest.raises(ValueError, match="row 1: at least one of the 30"):
        read_measurements(table)


def test_read_measurements_requires_a_label_only_when_asked(wisconsin):
    bare = wisconsin.drop(columns="label")
    assert "label" not in read_measurements(bare)
    with pytest.raises(ValueError, match="must have a column `label`"):
        read_measurements(bare, labelled=True)


def test_read_measurements_refuses_the_digits_of_target(wisconsin):
    turned = wisconsin.rename(columns={"label": "target"})
    with pytest.raises(ValueError, match="malignant is 0 in scikit-learn"):
        read_measurements(turned)
    assert "label" not in read_measurements(turned, labelled=False)


def test_read_measurements_refuses_an_empty_id_among_others(kaggle):
    table = kaggle.assign(id=[1, 2, None, 4, 5])
    with pytest.raises(ValueError, match="row 2: `patient_id` must not be empty"):
        read_measurements(table)


def test_read_measurements_numbers_patients_without_ids(wisconsin):
    table = read_measurements(wisconsin.drop(columns="patient_id").iloc[[7, 3]])
    assert table["patient_id"].tolist() == ["1", "2"]
    assert table.index.tolist() == [0, 1]


@pytest.mark.parametrize("words", [("M", "B"), ("malignant", " Benign "), (1, 0), (1.0, 0.0)])
def test_read_labels_codes_malignant_as_one(words):
    labels, faults = read_labels(pd.Series(list(words)), "diagnosis")
    assert (labels.tolist(), faults) == ([1, 0], {})


@pytest.mark.parametrize("word", ["2", "normal", None, 0.5])
def test_read_labels_tells_another_word(word):
    assert "must be M or B" in read_labels(pd.Series([word, "M"], dtype=object), "label")[1][0]


def test_read_ids_keeps_leading_zeros_and_whole_numbers():
    assert read_ids(pd.Series(["007", " 7 "])) == ["007", "7"]
    assert read_ids(pd.Series([7.0, np.nan])) == ["7", ""]


def test_read_values_reads_numbers_written_as_text(wisconsin):
    values, faults = read_values(wisconsin[list(FEATURES)].astype(str))
    np.testing.assert_array_equal(values, wisconsin[list(FEATURES)])
    assert faults == {}


def test_read_layout_of_a_huge_line_reads_no_further(write):
    with pytest.raises(ValueError, match="Missing: mean radius"):
        read_layout(write("a" * 1_000_000))


def test_read_rows_keeps_good_rows_beside_bad(wisconsin):
    table = wisconsin.head(3).assign(**{"mean radius": [17990.0, np.nan, 19.69]})
    rows, reasons = read_rows(table)
    assert rows.loc[0, list(FEATURES)].isna().all()
    assert rows.loc[1, list(FEATURES)].isna().sum() == 1
    np.testing.assert_array_equal(rows.loc[2, list(FEATURES)], wisconsin.loc[2, list(FEATURES)])
    assert [bool(reason) for reason in reasons] == [True, False, False]
    assert "label" not in rows


def test_read_rows_refuses_rows_that_are_all_bad(wisconsin):
    table = wisconsin.assign(**{"mean radius": -1.0})
    with pytest.raises(ValueError, match=r"row 0: `mean radius`.*no row can be used"):
        read_rows(table)


def test_stream_rows_gives_the_rows_of_read_rows(wisconsin, write):
    text = edit_line(wisconsin.to_csv(index=False), 3, lambda line: line.replace("20.57", "abc", 1))
    path = write(text)
    parts = list(stream_rows(path, rows=100))
    table, reasons = read_rows(path)
    assert [len(part) for part, _ in parts] == [100] * 5 + [69]
    pd.testing.assert_frame_equal(pd.concat([part for part, _ in parts], ignore_index=True), table)
    assert [reason for _, part in parts for reason in part] == reasons


def test_stream_rows_numbers_patients_through_the_file(wisconsin, write):
    path = write(wisconsin.drop(columns="patient_id").to_csv(index=False))
    last = list(stream_rows(path, rows=300))[-1][0]
    assert last["patient_id"].tolist()[-1] == "569"


def test_stream_rows_refuses_an_empty_file(write):
    with pytest.raises(ValueError, match="at least one row"):
        list(stream_rows(write(",".join(FEATURES) + "\n")))


def test_check_measurements_finds_nothing_in_the_wisconsin_data(wisconsin):
    assert check_measurements(wisconsin) == []


@pytest.mark.parametrize(
    ("row", "changes", "kind", "said"),
    [
        (5, {"worst area": 100.0}, "impossible", r"row 6 \(patient 006\) \(mean area 477.1, worst"),
        (5, {"radius error": 13.0}, "impossible", "radius error > mean radius in row 6"),
        (5, {"mean area": 48000.0}, "out_of_range", "mean area outside 10–35000 in row 6"),
        (5, {"mean perimeter": 20.0}, "units_disagree", "mean perimeter / mean radius outside"),
        (5, {"mean area": 47.7}, "units_disagree", "mean area / mean radius² outside 2–4.5"),
        (5, {"mean texture": np.nan}, "missing", "mean texture is missing in 0.2% of rows: row 6"),
        (slice(None), {"mean texture": 9.0}, "constant", "mean texture is 9 in every row"),
        (slice(None), {"label": 1}, "one_class", "every row is malignant"),
        (5, {"patient_id": "001"}, "repeated_id", r"rows 1 \(patient 001\), 6 \(patient 001\)"),
    ],
)
def test_check_measurements_finds(wisconsin, row, changes, kind, said):
    table = wisconsin.copy()
    table.loc[row, list(changes)] = list(changes.values())
    messages = [each["message"] for each in check_measurements(table) if each["kind"] == kind]
    assert len(messages) == 1
    assert re.search(said, messages[0])


@pytest.mark.parametrize(("label", "kind"), [(1, "duplicate"), (0, "duplicate_across_labels")])
def test_check_measurements_finds_the_same_numbers_twice(wisconsin, label, kind):
    table = wisconsin.copy()
    table.loc[9, list(FEATURES)] = table.loc[2, list(FEATURES)]
    table.loc[9, "label"] = label
    assert [(each["kind"], each["rows"]) for each in check_measurements(table)] == [(kind, [3, 10])]


def test_check_measurements_puts_errors_first(wisconsin):
    table = wisconsin.assign(**{"mean texture": 9.0, "worst area": 10.0})
    severities = [each["severity"] for each in check_measurements(table)]
    assert severities == sorted(severities)
    assert set(severities) == {"error", "note"}


def test_format_findings_writes_a_line_each(wisconsin):
    findings = check_measurements(wisconsin.assign(**{"mean texture": 9.0}))
    assert format_findings(findings) == "note: mean texture is 9 in every row: it tells nothing."
