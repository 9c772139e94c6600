"""Features of pictures, from a data set to a file and to the most similar cases."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bcnet import Classifier, workflows
from bcnet.cli import main, make_parser
from bcnet.data.manifest import read_manifest
from bcnet.explain.cases import fingerprint_weights, locate_index, read_index, write_index
from bcnet.explain.graph import compile_features
from bcnet.explain.similar import similar_cases
from bcnet.modelfile import read_model
from bcnet.readers import read_image
from bcnet.workflows import extract_features, training
from bcnet.workflows.cases import FEATURE_FORMAT

QUICK = ["--epochs", "1", "--batch-size", "16", "--precision", "float32"]


@pytest.fixture(scope="module")
def trained(simulated, quick_config, tmp_path_factory):
    """A model file with its index of cases beside it."""
    path = tmp_path_factory.mktemp("trained") / "mine.keras"
    workflows.train(simulated, path, quick_config)
    return path


@pytest.fixture(scope="module")
def classifier(trained):
    return Classifier.load(trained)


@pytest.fixture(scope="module")
def table(classifier, simulated):
    return extract_features(classifier, simulated)


def take_vectors(table):
    return table.filter(regex=r"^f\d+$").to_numpy()


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_extract_features_gives_what_the_last_layer_sees(classifier, table, simulated_folder):
    image = read_image(simulated_folder / table["path"][7])
    expected = compile_features(classifier.model)(image[None]).numpy()[0]
    np.testing.assert_allclose(take_vectors(table)[7], expected, atol=1e-5)


def test_extract_features_names_pictures_below_their_source(table, simulated):
    assert table["path"][0].startswith("benign/")
    assert table["label"].tolist() == simulated.table["label"].tolist()
    assert table["patient_id"].tolist() == simulated.table["patient_id"].tolist()


def test_extract_features_never_names_a_folder_of_the_machine(
    classifier, simulated_folder, tmp_path
):
    pictures = [sorted((simulated_folder / name).iterdir())[0] for name in ("benign", "malignant")]
    rows = {"path": pictures, "label": ["benign", "malignant"], "patient_id": ["1", "2"]}
    pd.DataFrame(rows).to_csv(tmp_path / "pictures.csv", index=False)
    table = extract_features(classifier, read_manifest(tmp_path / "pictures.csv"))
    assert table["path"].tolist() == [f"{path.parent.name}/{path.name}" for path in pictures]


def test_extract_features_tells_the_patients_of_two_data_sets_apart(classifier, tmp_path):
    for name in ("one", "two"):
        make_pictures(tmp_path / name, {"benign/7_idx5_x1_y1_class0.png": 0, "benign/odd.png": 1})
    table = extract_features(classifier, read_manifest([tmp_path / "one", tmp_path / "two"]))
    assert table["patient_id"].tolist() == ["one/7", None, "two/7", None]
    assert table["path"][3] == "two/benign/odd.png"


def make_pictures(folder, names):
    for name, seed in names.items():
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


def test_extract_features_leaves_out_and_names_an_unreadable_picture(classifier, tmp_path, caplog):
    make_pictures(tmp_path, {"benign/a.png": 0, "benign/c.png": 1})
    (tmp_path / "benign" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    table = extract_features(classifier, read_manifest(tmp_path))
    assert table["path"].tolist() == ["benign/a.png", "benign/c.png"]
    assert "b.png" in caplog.text
    assert "1 of 3 pictures could not be read" in caplog.text


def test_extract_features_of_a_part_are_those_the_card_knows(classifier, simulated, table):
    chosen = extract_features(classifier, simulated, part="train")
    assert len(chosen) == classifier.card["samples"]["train"]["n_images"] < len(table)


def test_extract_features_says_that_the_card_knows_none(classifier, tmp_path):
    make_pictures(tmp_path, {"benign/a.png": 0})
    with pytest.raises(ValueError, match="knows none of the 1 pictures as test"):
        extract_features(classifier, read_manifest(tmp_path), part="test")


def test_extract_features_refuses_an_ending_before_any_work(classifier, simulated, monkeypatch):
    monkeypatch.setattr("bcnet.workflows.cases.stream_views", None)
    with pytest.raises(ValueError, match=r"ending in \.csv, \.npy, \.npz\. Received: .*\.tsv"):
        extract_features(classifier, simulated, "features.tsv")


def test_csv_of_features_gives_every_number_back(classifier, simulated, table, tmp_path):
    extract_features(classifier, simulated, tmp_path / "new" / "features.csv")
    again = pd.read_csv(tmp_path / "new" / "features.csv", dtype={"patient_id": str})
    assert again.columns.tolist() == table.columns.tolist()
    np.testing.assert_array_equal(take_vectors(again).astype(np.float32), take_vectors(table))


def test_feature_format_gives_every_float32_back():
    values = np.random.default_rng(0).random(1000, np.float32)
    np.testing.assert_array_equal(np.float32([FEATURE_FORMAT % v for v in values]), values)


def test_npy_of_features_is_read_without_pickle(classifier, simulated, table, tmp_path):
    extract_features(classifier, simulated, tmp_path / "features.npy")
    records = np.load(tmp_path / "features.npy", allow_pickle=False)
    assert records.dtype.names == ("path", "label", "patient_id", "vector")
    assert records["path"].tolist() == table["path"].tolist()
    np.testing.assert_array_equal(records["vector"], take_vectors(table))


def test_npz_of_features_is_an_index(classifier, simulated, table, tmp_path):
    extract_features(classifier, simulated, tmp_path / "all.cases.npz")
    index = read_index(tmp_path / "all.cases.npz")
    assert index.paths.tolist() == table["path"].tolist()
    picture = Path(simulated.table["path"][11])
    assert classifier.similar_cases(picture, index=index)["path"][0] == table["path"][11]


def test_npz_of_unknown_patients_says_none(classifier, tmp_path):
    make_pictures(tmp_path / "set", {"benign/odd.png": 0, "malignant/odd.png": 1})
    extract_features(classifier, read_manifest(tmp_path / "set"), tmp_path / "x.npz")
    found = classifier.similar_cases(
        tmp_path / "set" / "benign" / "odd.png", index=read_index(tmp_path / "x.npz")
    )
    assert found["patient_id"].tolist() == [None, None]


def test_train_indexes_its_training_pictures(trained, simulated, classifier):
    index = read_index(locate_index(trained))
    expected = extract_features(classifier, simulated, part="train")
    assert sorted(index.paths) == sorted(expected["path"])
    order = np.argsort(index.paths)
    np.testing.assert_allclose(
        index.vectors[order], take_vectors(expected.sort_values("path")), atol=1e-5
    )


def test_train_writes_the_cases_beside_the_model(trained):
    assert sorted(path.name for path in trained.parent.iterdir()) == [
        "mine.cases.npz",
        "mine.keras",
    ]


def test_train_without_cases_writes_the_model_alone(simulated_folder, tmp_path):
    output = tmp_path / "quick.keras"
    assert run("train", simulated_folder, "--output", output, "--no-cases", *QUICK) == 0
    assert list(tmp_path.iterdir()) == [output]


def test_train_removes_what_a_kill_left_of_the_cases(tmp_path):
    (tmp_path / ".mine.cases-0123abcd.partial.npz").write_text("left by a kill")
    assert training._find_partials(tmp_path / "mine.keras") == list(tmp_path.iterdir())


def test_train_command_writes_the_cases_unless_told_otherwise():
    assert make_parser().parse_args(["train", "data", "--output", "mine.keras"]).cases


def test_similar_cases_of_a_training_picture_begin_with_itself(classifier, simulated_folder):
    index = read_index(locate_index(classifier.path))
    found = classifier.similar_cases(simulated_folder / index.paths[3], 2)
    assert len(found) == 2
    assert found["path"][0] == index.paths[3]
    assert found["distance"][0] == pytest.approx(0, abs=1e-6)


def test_similar_cases_are_the_same_for_path_bytes_and_array(classifier, simulated_folder):
    path = sorted((simulated_folder / "malignant").iterdir())[0]
    expected = classifier.similar_cases(path)
    for picture in (path.read_bytes(), read_image(path)):
        pd.testing.assert_frame_equal(classifier.similar_cases(picture), expected)


def test_similar_cases_of_several_pictures_are_refused(classifier, simulated_folder):
    with pytest.raises(ValueError, match=r"`picture` must be one picture\. Received: 50"):
        classifier.similar_cases(simulated_folder / "benign")


def test_similar_cases_without_an_index_name_the_command(trained, simulated_folder, tmp_path):
    shutil.copy(trained, tmp_path / "bare.keras")
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    with pytest.raises(FileNotFoundError, match=r"bcnet features .*bare\.keras DATA --part train"):
        Classifier.load(tmp_path / "bare.keras").similar_cases(picture)


def test_similar_cases_without_a_model_file_ask_for_an_index(trained, simulated_folder):
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    with pytest.raises(ValueError, match="`index` must be given"):
        Classifier(read_model(trained), {}).similar_cases(picture)


def test_similar_cases_refuse_the_index_of_other_weights(trained, simulated_folder):
    other = read_model(trained)
    other.get_layer("conv1").set_weights([w * 1.01 for w in other.get_layer("conv1").get_weights()])
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    with pytest.raises(ValueError, match="belongs to other weights"):
        Classifier(other, {}).similar_cases(picture, index=read_index(locate_index(trained)))


def test_similar_cases_name_the_weights_once(trained, simulated_folder, monkeypatch):
    classifier, named = Classifier.load(trained), []
    picture = next((simulated_folder / "benign").iterdir())

    def name(model):
        named.append(model)
        return fingerprint_weights(model)

    monkeypatch.setattr("bcnet.classifier.fingerprint_weights", name)
    classifier.similar_cases(picture)
    classifier.similar_cases(picture)
    assert len(named) == 1


def test_similar_cases_look_beside_the_file_last_saved(trained, simulated_folder, tmp_path):
    classifier = Classifier.load(trained)
    classifier.save(tmp_path / "again.keras")
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    with pytest.raises(FileNotFoundError, match=r"again\.cases\.npz"):
        classifier.similar_cases(picture)


def test_similar_cases_see_an_index_written_anew(trained, simulated_folder, tmp_path):
    shutil.copy(trained, tmp_path / "mine.keras")
    classifier, file = Classifier.load(tmp_path / "mine.keras"), tmp_path / "mine.cases.npz"
    index = read_index(locate_index(trained))
    picture = simulated_folder / index.paths[0]
    write_index(index, file)
    assert classifier.similar_cases(picture)["path"][0] == index.paths[0]
    index.paths[0] = "renamed.png"
    write_index(index, file)
    assert classifier.similar_cases(picture)["path"][0] == "renamed.png"


def test_features_command_counts_what_it_wrote(trained, simulated_folder, tmp_path, capsys):
    output = tmp_path / "features.csv"
    assert run("features", trained, simulated_folder, "--output", output) == 0
    assert capsys.readouterr().out == f"{output}: the features of 80 pictures\n"
    assert len(pd.read_csv(output)) == 80


@pytest.mark.parametrize(
    ("ending", "message"),
    [("csv.gz", "`output` must be a file ending in .csv, .npy, .npz"), ("npz", "both classes")],
)
def test_features_command_refuses_in_one_line(trained, tmp_path, capsys, ending, message):
    make_pictures(tmp_path / "set", {"benign/a.png": 0})
    assert run("features", trained, tmp_path / "set", "--output", tmp_path / f"x.{ending}") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(not os.environ.get("BCNET_TEST_DATA"), reason="BCNET_TEST_DATA is not set")
def test_neighbours_of_other_patients_share_the_label_more_often_than_chance(tmp_path):
    classifier = Classifier.load("idc")
    manifest = read_manifest(os.path.join(os.environ["BCNET_TEST_DATA"], "idc"))
    extract_features(classifier, manifest, tmp_path / "idc.cases.npz", part="train")
    index = read_index(tmp_path / "idc.cases.npz")
    test = extract_features(classifier, manifest, part="test")
    found = similar_cases(take_vectors(test), index)
    labels = np.repeat(test["label"].to_numpy(), 5)
    agreement = ((found["label"] == "malignant") == labels).mean()
    share = index.labels.mean()
    chance = np.where(labels == 1, share, 1 - share).mean()
    assert set(index.patients).isdisjoint(test["patient_id"])
    assert agreement >= chance + 0.15
