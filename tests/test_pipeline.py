"""One pixel path: what is decoded, resized and batched, and in which order."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from bcnet.data import pipeline
from bcnet.readers import read_image


@pytest.fixture
def picture_files(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(5):
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    return [(str(tmp_path / f"{i}.png"), str(tmp_path)) for i in range(5)]


def test_resize_image_averages_areas_where_it_shrinks():
    stripes = np.zeros((4, 4, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (pipeline.resize_image(stripes, (2, 2)) == 100).all()


def test_resize_image_averages_one_axis_while_the_other_grows():
    stripes = np.zeros((2, 4, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (pipeline.resize_image(stripes, (6, 2)) == 100).all()


def test_resize_image_returns_the_same_pixels_at_the_same_size():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    assert pipeline.resize_image(image, (5, 7)) is image


def share_of_pixels(length, size):
    """Each new pixel's share of the old ones it covers, `(size, length)`."""
    edges = np.arange(size + 1) * length / size
    pixels = np.arange(length)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(covered, 0, None) * size / length


def test_resize_image_is_the_exact_average_of_the_area_covered():
    image = np.random.default_rng(0).integers(0, 256, (46, 70, 3)).astype(np.uint8)
    exact = np.einsum("ih,jw,hwc->ijc", share_of_pixels(46, 17), share_of_pixels(70, 13), image)
    assert np.abs(pipeline.resize_image(image, (17, 13)) - exact).max() <= 0.51


def test_hash_pixels_tells_shape_from_values():
    flat = np.zeros((2, 3, 3), np.uint8)
    assert pipeline.hash_pixels(flat) != pipeline.hash_pixels(flat.reshape(3, 2, 3))


def test_read_batch_names_pictures_by_their_pixels_only_when_asked(picture_files):
    assert all(pipeline.read_batch(picture_files[:2], (8, 8)).hashes)
    assert not any(pipeline.read_batch(picture_files[:2], (8, 8), hashed=False).hashes)


def test_stream_samples_keeps_the_order(picture_files, monkeypatch):
    monkeypatch.setattr(pipeline, "BATCHES_AHEAD", 1)
    batches = list(pipeline.stream_samples(picture_files, (8, 8), batch_size=2))
    assert [len(batch.images) for batch in batches] == [2, 2, 1]
    whole = pipeline.read_batch(picture_files, (8, 8))
    for part, expected in zip(zip(*batches, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(part), expected)


def test_stream_samples_reads_only_so_far_ahead():
    seen = []

    def read(i):
        seen.append(i)
        return np.zeros((8, 8, 3), np.uint8)

    stream = pipeline.stream_samples([(i,) for i in range(1000)], (8, 8), batch_size=1, read=read)
    next(stream)
    stream.close()
    assert len(seen) <= pipeline.BATCHES_AHEAD + 1


def test_stream_samples_gives_what_finish_makes_of_each_batch_in_order():
    def finish(batch):
        first = int(batch.images[0, 0, 0, 0])
        time.sleep(0.02 * (4 - first))  # the first takes longest
        return first, threading.current_thread() is threading.main_thread()

    def read(i):
        return np.full((8, 8, 3), i, np.uint8)

    samples = [(i,) for i in range(5)]
    told = list(pipeline.stream_samples(samples, (8, 8), batch_size=1, read=read, finish=finish))
    assert told == [(i, False) for i in range(5)]


def test_stream_samples_that_is_stopped_drops_what_was_to_come(monkeypatch):
    monkeypatch.setattr(pipeline, "STREAMERS", 1)
    monkeypatch.setattr(pipeline, "BATCHES_AHEAD", 50)
    finished = []

    def finish(batch):
        time.sleep(0.05)
        finished.append(batch)

    samples = [(i,) for i in range(100)]
    stream = pipeline.stream_samples(
        samples, (8, 8), batch_size=1, read=lambda _: np.zeros((8, 8, 3), np.uint8), finish=finish
    )
    next(stream)
    stream.close()
    assert len(finished) <= 3


def test_stream_samples_passes_on_a_fault_of_finish(picture_files):
    with pytest.raises(ZeroDivisionError):
        list(pipeline.stream_samples(picture_files, (8, 8), finish=lambda batch: 1 / 0))


def test_stream_samples_passes_on_a_fault_of_the_reader():
    def read(_):
        raise KeyError("a fault, not a picture")

    with pytest.raises(KeyError):
        list(pipeline.stream_samples([(0,)], (8, 8), read=read))


def test_decode_samples_names_the_unreadable_and_keeps_the_order(picture_files):
    decoded = pipeline.decode_samples(picture_files, (8, 8))
    assert decoded.readable.tolist() == [True, True, True, False, True]
    np.testing.assert_array_equal(decoded.images[4], read_image(picture_files[4][0]))


def test_decode_samples_on_disk_equals_in_memory(picture_files, tmp_path, monkeypatch):
    monkeypatch.setenv("BCNET_CACHE", str(tmp_path / "cache"))
    memory = pipeline.decode_samples(picture_files, (6, 6))
    disk = pipeline.decode_samples(picture_files, (6, 6), memory_limit=0)
    again = pipeline.decode_samples(picture_files, (6, 6), memory_limit=0)
    for found in (disk, again):
        np.testing.assert_array_equal(found.images, memory.images)
        assert found.hashes.tolist() == memory.hashes.tolist()
        assert found.reasons.tolist() == memory.reasons.tolist()
    assert isinstance(again.images, np.memmap)


def test_decode_samples_on_disk_sees_that_a_file_has_changed(picture_files, tmp_path, monkeypatch):
    monkeypatch.setenv("BCNET_CACHE", str(tmp_path / "cache"))
    pipeline.decode_samples(picture_files, (8, 8), memory_limit=0)
    Image.new("RGB", (8, 8), "red").save(picture_files[0][0])
    decoded = pipeline.decode_samples(picture_files, (8, 8), memory_limit=0)
    assert decoded.images[0, 0, 0].tolist() == [255, 0, 0]


def numbered_images(n):
    images = np.zeros((n, 4, 4, 3), np.uint8)
    images[:] = np.arange(n)[:, None, None, None]
    return images, np.arange(n) % 2


def test_make_training_ds_shows_every_picture_once_with_its_label():
    images, labels = numbered_images(10)
    ds = pipeline.make_training_ds(images, labels, batch_size=4, modality="radiology")
    seen = [
        (int(image[0, 0, 0]), int(label[0]))
        for batch in ds.as_numpy_iterator()
        for image, label in zip(*batch[:2], strict=True)
    ]
    assert sorted(seen) == [(i, i % 2) for i in range(10)]


def test_make_training_ds_repeats_itself_only_with_the_same_seed():
    images, labels = numbered_images(20)

    def list_epochs(seed):
        ds = pipeline.make_training_ds(images, labels, batch_size=8, modality="tissue", seed=seed)
        return [np.concatenate([batch[0] for batch in ds.as_numpy_iterator()]) for _ in range(2)]

    first, again, other = list_epochs(1), list_epochs(1), list_epochs(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_make_training_ds_weighs_both_classes_the_same():
    images, _ = numbered_images(8)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    ds = pipeline.make_training_ds(images, labels, batch_size=8, modality="tissue")
    _, y, weights = next(ds.as_numpy_iterator())
    assert weights[y[:, 0] == 1].sum() == pytest.approx(weights[y[:, 0] == 0].sum())


def test_make_training_ds_uses_only_the_rows_asked_for():
    images, labels = numbered_images(10)
    ds = pipeline.make_training_ds(
        images, labels, batch_size=2, modality="radiology", rows=np.array([2, 5, 7])
    )
    shown = sorted(int(image[0, 0, 0]) for batch in ds.as_numpy_iterator() for image in batch[0])
    assert shown == [2, 5, 7]


def stream_recipe(recipe, n=30, *, modality="radiology", seed=1):
    images, _ = numbered_images(n)
    labels = (np.arange(n) >= n - 5).astype(int)  # five malignant
    return pipeline.make_training_ds(
        images, labels, batch_size=8, modality=modality, seed=seed, recipe=recipe
    )


def join_batches(ds):
    return [np.concatenate(part) for part in zip(*ds.as_numpy_iterator(), strict=True)]


BALANCED = pipeline.Recipe(sampling="balanced")


def test_make_training_ds_balanced_draws_both_classes_equally_often():
    images, labels, weights = join_batches(stream_recipe(BALANCED))
    assert labels.sum() == 15
    assert (weights == 1).all()
    np.testing.assert_array_equal(labels[:, 0] == 1, images[:, 0, 0, 0] >= 25)


def test_make_training_ds_balanced_keeps_the_length_of_an_epoch():
    ds = stream_recipe(BALANCED)
    assert int(ds.cardinality()) == len(list(ds)) == 4


def test_make_training_ds_balanced_shows_each_of_the_smaller_class_as_often():
    images, _, _ = join_batches(stream_recipe(BALANCED))
    numbers = images[:, 0, 0, 0].astype(int)
    assert np.bincount(numbers, minlength=30)[25:].tolist() == [3] * 5
    assert np.bincount(numbers)[:25].max() == 1


def test_make_training_ds_balanced_shuffles_the_classes():
    _, labels, _ = join_batches(stream_recipe(BALANCED, n=200))
    changes = (labels[1:] != labels[:-1]).mean()
    assert 0.3 < changes < 0.7  # 0.005 where one follows the other, 1 where they alternate


def test_make_training_ds_balanced_refuses_a_single_class():
    images, _ = numbered_images(4)
    with pytest.raises(ValueError, match="Received: 4 benign and 0 malignant"):
        pipeline.make_training_ds(
            images, np.zeros(4), batch_size=2, modality="tissue", recipe=BALANCED
        )


def test_make_training_ds_mixes_labels_only_when_asked():
    _, plain, _ = join_batches(stream_recipe(pipeline.Recipe()))
    _, mixed, _ = join_batches(stream_recipe(pipeline.Recipe(mixup=1.0)))
    assert np.isin(plain, [0, 1]).all()
    assert ((mixed > 0) & (mixed < 1)).any()


def test_make_training_ds_passes_on_the_stain_jitter():
    recipes = [pipeline.Recipe(), pipeline.Recipe(stain_jitter=0.15), pipeline.Recipe(0.4)]
    default, same, other = (join_batches(stream_recipe(r, modality="tissue"))[0] for r in recipes)
    np.testing.assert_array_equal(default, same)
    assert not np.allclose(default, other)


def test_make_training_ds_with_every_recipe_repeats_itself_only_with_the_same_seed():
    recipe = pipeline.Recipe(stain_jitter=0.3, mixup=0.4, sampling="balanced")

    def list_passes(seed):
        ds = stream_recipe(recipe, modality="tissue", seed=seed)
        return [join_batches(ds)[0] for _ in range(3)]

    first, again, other = list_passes(1), list_passes(1), list_passes(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stain_jitter": 1.0}, "Received: stain_jitter=1.0"),
        ({"mixup": -0.1}, "Received: mixup=-0.1"),
        ({"sampling": "even"}, "Received: sampling='even'"),
    ],
)
def test_recipe_refuses_a_value_outside_its_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        pipeline.Recipe(**wrong)


def test_make_evaluation_ds_changes_nothing():
    images, labels = numbered_images(5)
    batches = list(pipeline.make_evaluation_ds(images, labels, batch_size=2).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches])[:, 0], labels)


def test_balance_classes_by_hand():
    assert pipeline.balance_classes([0, 0, 0, 1]) == (pytest.approx(2 / 3), 2.0)
    assert pipeline.balance_classes([1, 1]) == (1.0, 1.0)
