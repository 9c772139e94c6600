"""What frozen layers see: computed once per symmetry, kept, and drawn alike in every run."""

import itertools
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bcnet.config import Config
from bcnet.workflows import features
from bcnet.workflows.features import Features, make_feature_ds, take_features
from bcnet.workflows.samples import Pictures

CONFIG = Config(
    model="mobilenet", weights="imagenet", image_size=(8, 8), modality="tissue", batch_size=4
)


class Body:
    """Stands for a frozen backbone: its features are the pixels, and it counts its calls."""

    output_shape = (None, 192)

    def __init__(self):
        self.seen = []

    def predict(self, ds, verbose):
        images = np.concatenate(list(ds.as_numpy_iterator()))
        self.seen.append(images.astype(np.uint8))
        return images.reshape(len(images), -1)


@pytest.fixture
def body():
    return Body()


@pytest.fixture(scope="module")
def pictures():
    """Twelve pictures of noise: eight train (two of them malignant), four validate."""
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    labels = [1, 0, 0, 0] * 3
    split = ["train"] * 8 + ["validation"] * 4
    hashes = [f"{i:016x}" for i in range(12)]
    return Pictures(images, pd.DataFrame({"label": labels, "split": split, "hash": hashes}))


def turn(images):
    """The eight symmetries of square pictures, by NumPy."""
    for image in (images, images.transpose(0, 2, 1, 3)):
        for step in itertools.product((1, -1), repeat=2):
            yield image[:, :: step[0], :: step[1]]


def test_take_features_shows_tissue_in_each_symmetry_once(body, pictures):
    take_features(body, pictures, CONFIG, {})
    *seen, _ = body.seen
    assert {views.tobytes() for views in seen} == {
        np.ascontiguousarray(views).tobytes() for views in turn(pictures.images[:8])
    }
    assert len(seen) == 8


def test_take_features_shows_radiology_unaugmented(body, pictures):
    take_features(body, pictures, replace(CONFIG, modality="radiology"), {})
    assert len(body.seen) == 2
    np.testing.assert_array_equal(body.seen[0], pictures.images[:8])


def test_take_features_shows_validation_as_it_is(body, pictures):
    found = take_features(body, pictures, CONFIG, {})
    np.testing.assert_array_equal(body.seen[-1], pictures.images[8:])
    assert (found.train.shape, found.validation.shape) == ((8, 8, 192), (4, 192))


def test_take_features_keeps_the_labels_of_both_parts(body, pictures):
    found = take_features(body, pictures, CONFIG, {})
    assert found.train_labels.tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert found.validation_labels.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "changes", [{}, {"seed": 3}, {"learning_rate": 0.5}, {"batch_size": 8}, {"ema": 0.9}]
)
def test_take_features_reuses_what_is_kept(body, pictures, changes):
    kept = {}
    first = take_features(body, pictures, CONFIG, kept)
    calls = len(body.seen)
    second = take_features(body, pictures, replace(CONFIG, **changes), kept)
    assert len(body.seen) == calls
    assert second.train is first.train


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "other.h5"},
        {"initial_weights": "other.keras"},
        {"model": "vgg16"},
        {"alpha": 0.25},
        {"stain_normalisation": "reinhard"},
        {"modality": "radiology"},
        {"precision": "bfloat16"},
    ],
)
def test_take_features_computes_anew_for_another_backbone(body, pictures, changes):
    kept = {}
    take_features(body, pictures, CONFIG, kept)
    calls = len(body.seen)
    take_features(body, pictures, replace(CONFIG, **changes), kept)
    assert len(body.seen) > calls


@pytest.mark.parametrize("column", ["hash", "split"])
def test_take_features_computes_anew_for_other_pictures_or_another_split(body, pictures, column):
    kept = {}
    take_features(body, pictures, CONFIG, kept)
    calls = len(body.seen)
    others = pictures.table.assign(**{column: pictures.table[column].to_numpy()[::-1]})
    take_features(body, pictures._replace(table=others), CONFIG, kept)
    assert len(body.seen) > calls


@pytest.mark.parametrize(
    ("room", "turns", "told"), [(3, 3, "3 symmetries"), (0, 1, "the unaugmented view")]
)
def test_take_features_keeps_what_memory_allows_and_says_so(
    body, pictures, monkeypatch, caplog, room, turns, told
):
    monkeypatch.setattr(features, "MEMORY_LIMIT", room * 8 * 192 * 4)  # pictures, features, bytes
    with caplog.at_level(logging.INFO, logger="bcnet"):
        found = take_features(body, pictures, CONFIG, {})
    assert len(found.train) == turns
    assert told in caplog.text
    np.testing.assert_array_equal(body.seen[-2], pictures.images[:8])  # always as it is


@pytest.fixture(scope="module")
def found():
    """Ten pictures in three turns; a feature vector is (turn, picture)."""
    train = np.stack(np.meshgrid(range(3), range(10), indexing="ij"), axis=-1).astype(np.float32)
    return Features(train, np.arange(10) % 5 // 4, train[0, :2], np.array([0, 1]))


def list_epoch(ds):
    return [np.concatenate(column) for column in zip(*ds.as_numpy_iterator(), strict=True)]


def test_make_feature_ds_shows_every_picture_once_an_epoch(found):
    seen, labels, _ = list_epoch(make_feature_ds(found, CONFIG)[0])
    assert sorted(seen[:, 1]) == list(range(10))
    np.testing.assert_array_equal(labels[:, 0], seen[:, 1] % 5 // 4)


def test_make_feature_ds_draws_one_of_the_turns(found):
    train_ds = make_feature_ds(found, CONFIG)[0]
    drawn = np.concatenate([list_epoch(train_ds)[0][:, 0] for _ in range(5)])
    assert set(drawn) == {0, 1, 2}


def test_make_feature_ds_gives_the_same_passes_in_every_run(found):
    first, second = (make_feature_ds(found, CONFIG)[0] for _ in range(2))
    for _ in range(2):
        np.testing.assert_array_equal(list_epoch(first)[0], list_epoch(second)[0])


@pytest.mark.parametrize("column", [0, 1], ids=["turns", "order"])
def test_make_feature_ds_draws_anew_with_each_pass_and_seed(found, column):
    first = make_feature_ds(found, CONFIG)[0]
    other = make_feature_ds(found, replace(CONFIG, seed=1))[0]
    passes = [list_epoch(ds)[0] for ds in (first, first, other)]
    drawn = {tuple(seen[:, column]) for seen in passes}
    assert len(drawn) == 3


def test_make_feature_ds_lets_both_classes_count_the_same(found):
    _, labels, weights = list_epoch(make_feature_ds(found, CONFIG)[0])
    malignant = labels[:, 0] == 1
    assert weights[malignant].sum() == pytest.approx(weights[~malignant].sum())


def test_make_feature_ds_keeps_the_order_of_validation(found):
    seen, labels = list_epoch(make_feature_ds(found, CONFIG)[1])
    np.testing.assert_array_equal(seen, found.validation)
    assert labels.tolist() == [[0], [1]]
