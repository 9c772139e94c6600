"""Similar cases and their index: distances worked by hand, files that may be hostile."""

import pickle
import time
from dataclasses import fields, replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from bcnet.explain import cases
from bcnet.explain.cases import (
    CaseIndex,
    check_fingerprint,
    fingerprint_weights,
    locate_index,
    read_index,
    write_index,
)
from bcnet.explain.similar import similar_cases
from bcnet.models import build_cnn


def make_index(vectors, labels=None, patients=None):
    vectors = np.asarray(vectors, np.float32)
    count = len(vectors)
    return CaseIndex(
        vectors,
        np.arange(count) % 2 if labels is None else np.asarray(labels),
        np.array([f"p{i}" for i in range(count)] if patients is None else patients),
        np.array([f"{i}.png" for i in range(count)]),
        "0123456789abcdef",
    )


@pytest.fixture
def square():
    """Right, up, and halfway between: labels 0, 1, 0."""
    return make_index([[2, 0], [0, 1], [1, 1]], patients=["7", "", "9"])


@pytest.fixture
def crowd():
    rng = np.random.default_rng(0)
    return make_index(rng.random((500, 16)))


def test_similar_cases_worked_by_hand(square):
    table = similar_cases(np.array([3.0, 0.0]), square, 3)
    assert table["path"].tolist() == ["0.png", "2.png", "1.png"]
    np.testing.assert_allclose(table["distance"], [0, 1 - np.sqrt(0.5), 1], atol=1e-6)


def test_similar_cases_names_label_and_patient(square):
    table = similar_cases(np.array([0.0, 1.0]), square, 2)
    assert table["label"].tolist() == ["malignant", "benign"]
    assert table["patient_id"].tolist() == [None, "9"]


def test_similar_cases_equal_those_of_scikit_learn(crowd):
    query = np.random.default_rng(1).random(16).astype(np.float32)
    exact = NearestNeighbors(algorithm="brute", metric="cosine").fit(crowd.vectors)
    distances, rows = exact.kneighbors(query[None], 7)
    table = similar_cases(query, crowd, 7)
    assert table["path"].tolist() == crowd.paths[rows[0]].tolist()
    np.testing.assert_allclose(table["distance"], distances[0], atol=1e-6)


def test_similar_cases_puts_a_known_picture_first_at_distance_0(crowd):
    first = similar_cases(crowd.vectors[123], crowd).iloc[0]
    assert (first["path"], first["distance"]) == ("123.png", 0)


def test_similar_cases_of_several_pictures_counts_them(crowd):
    table = similar_cases(crowd.vectors[[8, 5]], crowd, 3)
    assert table["query"].tolist() == [0, 0, 0, 1, 1, 1]
    alone = similar_cases(crowd.vectors[5], crowd, 3)
    assert table["path"][3:].tolist() == alone["path"].tolist()


def test_similar_cases_gives_all_where_k_is_larger(square):
    assert len(similar_cases(np.ones(2), square, 10)) == 3


def test_similar_cases_takes_features_of_zeros(square):
    assert np.isfinite(similar_cases(np.zeros(2), square)["distance"]).all()


@pytest.mark.parametrize(
    ("features", "k", "message"),
    [
        ([1.0, 0.0], 0, "`k` must be a whole number of at least 1. Received: k=0"),
        ([1.0, 0.0], 1.5, "Received: k=1.5"),
        ([np.nan, 0.0], 5, "`features` must be finite. Received: 1 that are not"),
        ([1.0, 0.0, 0.0], 5, r"`features` must be \(2,\) or \(n, 2\).* Received: \(3,\)"),
        (1.0, 5, r"Received: \(\)"),
        (np.zeros((0, 2)), 5, r"Received: \(0, 2\)"),
    ],
)
def test_similar_cases_names_what_it_cannot_take(square, features, k, message):
    with pytest.raises(ValueError, match=message):
        similar_cases(np.asarray(features), square, k)


def test_similar_cases_are_quick_among_100_000():
    vectors = np.random.default_rng(0).random((100_000, 128), np.float32)
    index = make_index(vectors)
    similar_cases(vectors[0], index)  # prepares the search
    taken = []
    for vector in vectors[:20]:
        start = time.perf_counter()
        similar_cases(vector, index)
        taken.append(time.perf_counter() - start)
    assert min(taken) <= 0.02  # the least: others may be using the machine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": np.zeros((0, 2))}, "at least one picture"),
        ({"vectors": np.zeros(3)}, "`vectors` must be floats"),
        ({"vectors": np.zeros((3, 2), int)}, "Received: int64"),
        ({"vectors": np.full((3, 2), np.inf)}, "`vectors` must be finite. Received: 6"),
        ({"labels": np.array([0, 1])}, "`labels` must be one number for each of 3 pictures"),
        ({"labels": np.array([1, 1, 1])}, r"both classes, 0 and 1. Received: \[1\]"),
        ({"labels": np.array([0, 1, 2])}, r"Received: \[0, 1, 2\]"),
        ({"patients": np.array(["7", None, "9"])}, "`patients` must be one text for each"),
        ({"paths": np.array([1, 2, 3])}, "`paths` must be one text for each"),
    ],
)
def test_case_index_names_what_it_cannot_hold(square, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(square, **changes)


def test_read_index_gives_back_what_was_written(square, tmp_path):
    path = tmp_path / "new folder" / "mine.cases.npz"
    write_index(square, path)
    again = read_index(path)
    for field in fields(CaseIndex):
        written = getattr(square, field.name)
        np.testing.assert_array_equal(getattr(again, field.name), written)
    assert list(path.parent.iterdir()) == [path]


def test_write_index_that_fails_leaves_the_old_file(square, tmp_path, monkeypatch):
    path = tmp_path / "mine.cases.npz"
    write_index(square, path)
    before = path.read_bytes()

    def fill_disk(file, **_):
        file.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(cases.np, "savez_compressed", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        write_index(square, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def make_truncated(path, index):
    write_index(index, path)
    path.write_bytes(path.read_bytes()[:-100])


def make_pickled(path, index):
    objects = {field.name: getattr(index, field.name) for field in fields(index)}
    np.savez(path, **{**objects, "paths": index.paths.astype(object)})


def make_foreign(path, index):
    np.savez(path, train_images=index.vectors)


def make_bare_array(path, index):
    with path.open("wb") as file:
        np.save(file, index.vectors)


def make_pickle(path, index):
    path.write_bytes(pickle.dumps(index))


def make_text(path, _):
    path.write_text("no index")


def make_empty(path, _):
    path.write_bytes(b"")


HOSTILE = (
    make_truncated,
    make_pickled,
    make_foreign,
    make_bare_array,
    make_pickle,
    make_text,
    make_empty,
)


@pytest.mark.parametrize("make", HOSTILE)
def test_read_index_refuses_what_is_no_index_in_one_line(square, tmp_path, make):
    path = tmp_path / "mine.cases.npz"
    make(path, square)
    with pytest.raises(ValueError, match="must be an index of cases") as caught:
        read_index(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Burglar:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.write_text, ("broken in",)


def test_read_index_runs_no_pickled_code(tmp_path):
    np.savez(tmp_path / "mine.npz", vectors=np.array([Burglar(tmp_path / "trace")], object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_index(tmp_path / "mine.npz")
    assert not (tmp_path / "trace").exists()


def test_read_index_refuses_what_would_fill_the_memory(square, tmp_path, monkeypatch):
    write_index(square, tmp_path / "mine.cases.npz")
    monkeypatch.setattr(cases, "LARGEST_BYTES", 100)
    with pytest.raises(ValueError, match="would unpack to"):
        read_index(tmp_path / "mine.cases.npz")


def test_read_index_names_the_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no index of cases at .*mine"):
        read_index(tmp_path / "mine.cases.npz")


def test_index_holds_no_pixels(square, tmp_path):
    write_index(square, tmp_path / "mine.cases.npz")
    with np.load(tmp_path / "mine.cases.npz") as archive:
        assert set(archive) == {"vectors", "labels", "patients", "paths", "fingerprint"}


def test_locate_index_lies_beside_the_model():
    assert locate_index("models/my.v2.keras").as_posix() == "models/my.v2.cases.npz"


@pytest.fixture(scope="module")
def network():
    return build_cnn((16, 16))


def change(network, layer):
    changed = build_cnn((16, 16))
    changed.set_weights(network.get_weights())
    weights = changed.get_layer(layer).get_weights()
    changed.get_layer(layer).set_weights([weights[0] + 1e-6, *weights[1:]])
    return changed


@pytest.mark.parametrize("layer", ["conv1", "norm2", "logit"])
def test_fingerprint_weights_changes_with_a_weight(network, layer):
    assert fingerprint_weights(change(network, layer)) != fingerprint_weights(network)


def test_fingerprint_weights_passes_over_the_calibration(network):
    assert fingerprint_weights(change(network, "calibration")) == fingerprint_weights(network)


def test_check_fingerprint_refuses_an_index_of_other_weights(network, square):
    with pytest.raises(ValueError, match=r"belongs to other weights .*Received: 0123456789abcdef"):
        check_fingerprint(square, fingerprint_weights(network))


def test_check_fingerprint_takes_an_index_of_the_same_weights(network, square):
    fingerprint = fingerprint_weights(network)
    check_fingerprint(replace(square, fingerprint=fingerprint), fingerprint)
