"""What names say: classes, splits and patients."""

import pytest

from bcnet.data.naming import match_patients, read_class, read_names, read_split


@pytest.mark.parametrize(
    ("folders", "label"),
    [
        (["Benign"], 0),
        (["MALIGNANT"], 1),
        (["0"], 0),
        (["1"], 1),
        (["b"], 0),
        (["M"], 1),
        (["negative"], 0),
        (["Positive"], 1),
        (["normal"], "normal"),
        (["8863", "1"], 1),
        (["1", "0"], 0),
        (["benign", "SOB", "adenosis", "SOB_B_A_14-22549AB", "40X"], 0),
        (["malignant", "benign"], 0),
        (["other"], None),
        ([], None),
    ],
)
def test_read_class_takes_the_deepest_class_folder_in_any_case(folders, label):
    assert read_class(folders) == label


def test_read_class_takes_a_word_before_a_patients_number():
    assert read_class(["benign", "1"]) == 0


@pytest.mark.parametrize(
    ("folder", "split"),
    [("train", "train"), ("Valid", "validation"), ("val", "validation"), ("TEST", "test")],
)
def test_read_split_knows_the_usual_words(folder, split):
    assert read_split(["x", folder, "benign"]) == split


def test_read_split_of_class_folders_alone_is_none():
    assert read_split(["benign"]) is None


@pytest.mark.parametrize(
    ("name", "scheme", "patient"),
    [
        ("SOB_B_A-14-22549AB-40-001.png", "BreaKHis", "14-22549"),
        ("malignant/SOB_M_MC-14-19979C-200-016.png", "BreaKHis", "14-19979"),
        ("10253/0/10253_idx5_x1001_y1001_class0.png", "IDC", "10253"),
        ("benign/CAWI_003.png", "BUS-UCLM", "CAWI"),
        ("sim-0042-lab3-1.png", "bcnet simulate", "0042"),
        ("mdb001.pgm", "mini-MIAS", "mdb001"),
        ("mdb002.pgm", "mini-MIAS", "mdb001"),
        ("mdb003.pgm", "mini-MIAS", "mdb003"),
    ],
)
def test_read_names_tells_scheme_and_patient(name, scheme, patient):
    told = read_names([name]).loc[0]
    assert (told["scheme"], told["patient_id"]) == (scheme, patient)


@pytest.mark.parametrize("name", ["x.png", "patch0004172.jpg", "10253.png", "CAWI_0031.png"])
def test_read_names_tells_nothing_of_an_unknown_name(name):
    assert read_names([name]).loc[0].isna().all()


def test_read_names_tells_tumour_type_and_magnification():
    told = read_names(["SOB_M_PC-14-9146-400-001.png"]).loc[0]
    assert (told["tumour_type"], told["magnification"]) == ("PC", 400)


def test_read_names_tells_the_simulated_laboratory():
    assert read_names(["sim-0042-lab3-1.png"])["laboratory"].tolist() == ["lab3"]


def test_read_names_tells_right_from_left():
    told = read_names(["mdb001.pgm", "mdb002.pgm"])["laterality"]
    assert told.tolist() == ["right", "left"]


@pytest.mark.parametrize(
    ("pattern", "patient"),
    [(r"(x)(?P<patient>\d+)", "12"), (r"x(\d+)", "12"), (r"x\d+", "x12"), (r"y", None)],
)
def test_match_patients_takes_named_group_first_group_or_all(pattern, patient):
    assert match_patients(["benign/x12.png"], pattern) == [patient]


def test_match_patients_names_a_bad_pattern():
    with pytest.raises(ValueError, match=r"regular expression.*patient_pattern='\('"):
        match_patients(["x"], "(")
