"""Is a picture like the training pictures: distances worked by hand, limits, and strangers."""

import json
import os
from itertools import permutations

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from bcnet.evaluate import gate as gate_module
from bcnet.evaluate.gate import (
    DIRECTIONS,
    LARGEST_TABLE,
    ROUNDING_VARIANCE,
    Gate,
    Space,
    describe_colours,
    fit_gate,
    is_earlier_kind,
    read_gate,
    undo_faults,
    write_gate,
)

SIDE = 16


def draw_pictures(count, seed):
    """Pink pictures with texture, each of a slightly other stain."""
    rng = np.random.default_rng(seed)
    stain = np.array([190, 120, 160]) + rng.normal(0, 6, (count, 1, 1, 3))
    texture = rng.normal(0, 12, (count, SIDE, SIDE, 1)) + rng.normal(0, 6, (count, SIDE, SIDE, 3))
    return np.clip(stain + texture, 0, 255).astype(np.uint8)


def draw_features(count, seed, width=4):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.fixture(scope="module")
def gate():
    train, held_out = draw_pictures(400, 1), draw_pictures(300, 2)
    return fit_gate(
        draw_features(400, 1),
        describe_colours(train),
        draw_features(300, 2),
        describe_colours(held_out),
    )


def test_space_measures_in_standard_deviations():
    space = Space(np.array([1.0, 0.0]), np.array([[1 / 2, 0], [0, 1 / 4]]))
    # 4 of 2 and 6 of 4: 2 and 1.5 standard deviations, 2.5 together.
    assert space.measure(np.array([[5.0, 6.0], [1.0, 0.0]])).tolist() == [2.5, 0.0]


def test_fit_gate_measures_the_distance_of_mahalanobis():
    features, held_out = draw_features(400, 1), draw_features(300, 2)
    colours = describe_colours(draw_pictures(400, 1))
    gate = fit_gate(features, colours, held_out, colours[:300])
    expected = np.sqrt(EmpiricalCovariance().fit(features).mahalanobis(held_out))
    np.testing.assert_allclose(gate.features.measure(held_out), expected, rtol=0.01)


def test_fit_gate_looks_at_some_of_very_many_training_pictures(monkeypatch):
    monkeypatch.setattr(gate_module, "MOST_FITTED", 50)
    features, colours = draw_features(400, 1), describe_colours(draw_pictures(400, 1))
    rows = np.random.default_rng(0).permutation(400)[:50]
    gate = fit_gate(features, colours, features, colours)
    np.testing.assert_allclose(gate.features.mean, features[rows].mean(axis=0), atol=1e-6)


def test_fit_gate_flags_one_percent_of_the_held_out_pictures(gate):
    distances = gate.measure(draw_features(300, 2), draw_pictures(300, 2))
    assert 2 <= (distances > 1).sum() <= 3


def test_fit_gate_flags_few_new_pictures(gate):
    distances = gate.measure(draw_features(3000, 3), draw_pictures(3000, 3))
    assert 0 < (distances > 1).mean() < 0.03


@pytest.mark.parametrize(
    "change",
    [
        lambda images: 255 - images,
        lambda images: images[..., [1, 2, 0]],
        lambda images: np.full_like(images, 255),
        lambda images: np.random.default_rng(0).integers(0, 256, images.shape).astype(np.uint8),
    ],
    ids=["inverted", "channels swapped", "blank", "noise"],
)
def test_measure_flags_changed_colours_with_ordinary_features(gate, change):
    images = change(draw_pictures(50, 3))
    assert (gate.measure(np.zeros((50, 4)), images) > 1).all()


def test_measure_flags_strange_features_with_ordinary_colours(gate):
    assert (gate.measure(np.full((50, 4), 5.0), draw_pictures(50, 3)) > 1).all()


def test_fit_gate_takes_its_limits_from_held_out_pictures():
    colours = describe_colours(draw_pictures(400, 1))
    features, held_out = draw_features(400, 1), 3 * draw_features(300, 2)
    gate = fit_gate(features, colours, held_out, colours[:300])
    assert (gate.features.measure(held_out) > gate.limits[0]).mean() <= 0.01


def test_fit_gate_bears_statistics_that_do_not_vary():
    grey = np.repeat(draw_pictures(100, 1)[..., :1], 3, axis=-1)
    colours, features = describe_colours(grey), draw_features(100, 1)
    gate = fit_gate(features[:50], colours[:50], features[50:], colours[50:])
    distances = gate.measure(np.zeros((50, 4)), draw_pictures(50, 2))
    assert np.isfinite(distances).all()
    assert (distances > 1).all()  # colour, where there was none


def test_fit_gate_bears_features_that_are_always_zero():
    features, colours = draw_features(100, 1), describe_colours(draw_pictures(100, 1))
    features[:, 2:] = 0  # as those of units that never fire
    gate = fit_gate(features[:50], colours[:50], features[50:], colours[50:])
    assert (gate.features.measure(features[50:]) <= gate.limits[0]).all()


@pytest.mark.parametrize(("n_train", "n_held_out"), [(1, 40), (40, 19)])
def test_fit_gate_refuses_too_few_pictures(n_train, n_held_out):
    colours = describe_colours(draw_pictures(40, 1))
    features = draw_features(40, 1)
    with pytest.raises(ValueError, match=f"Received: {n_train} and {n_held_out}"):
        fit_gate(features[:n_train], colours[:n_train], features[:n_held_out], colours[:n_held_out])


def test_fit_gate_refuses_features_that_are_not_finite():
    features, colours = draw_features(40, 1), describe_colours(draw_pictures(40, 1))
    features[3, 2] = np.nan
    with pytest.raises(ValueError, match="`features` must be finite"):
        fit_gate(features, colours, features, colours)


def test_describe_colours_of_a_picture_worked_by_hand():
    # Red 0 and 255 side by side, green the other way round, blue even.
    picture = np.zeros((1, 1, 2, 3), np.uint8)
    picture[0, 0, 1, 0] = picture[0, 0, 0, 1] = 255
    # Red and green vary against each other by 0.5 along (1, −1, 0) / √2, and no other way.
    wide, none = np.log([0.5 + ROUNDING_VARIANCE, ROUNDING_VARIANCE])
    same, across = (wide + none) / 2, (none - wide) / 2
    expected = [0.5, 0.5, 0, same, across, 0, same, 0, none]
    expected.append(np.log(2 / 3 + ROUNDING_VARIANCE))  # neighbours differ by 1, 1 and 0
    np.testing.assert_allclose(describe_colours(picture)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("place", "order"), list(enumerate(list(permutations(range(3)))[1:])))
def test_undo_faults_describes_pictures_with_the_channels_in_another_order(place, order):
    pictures = draw_pictures(5, 1)
    expected = describe_colours(pictures[..., order])
    found = undo_faults(describe_colours(pictures))[place]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_undo_faults_describes_the_negative_last():
    pictures = draw_pictures(5, 1)
    found = undo_faults(describe_colours(pictures))[-1]
    np.testing.assert_allclose(found, describe_colours(255 - pictures), rtol=1e-3, atol=1e-3)


def test_describe_colours_looks_at_some_pixels_of_large_pictures():
    small = draw_pictures(4, 1)
    large = small.repeat(8, axis=1).repeat(8, axis=2)
    np.testing.assert_allclose(describe_colours(large)[:, :9], describe_colours(small)[:, :9], 1e-3)


def test_read_gate_gives_what_write_gate_wrote(gate):
    entry = json.loads(json.dumps(write_gate(gate)))
    images, features = draw_pictures(50, 4), draw_features(50, 4)
    found = read_gate(entry | {"data": "idc, validation"}).measure(features, images)
    np.testing.assert_allclose(found, gate.measure(features, images), rtol=1e-3)


def test_write_gate_stays_below_a_megabyte_for_the_widest_features():
    width = 6144
    features, colours = draw_features(40, 1, width), describe_colours(draw_pictures(40, 1))
    gate = fit_gate(features, colours, features, colours)
    assert len(gate.features.axes) == LARGEST_TABLE // width < DIRECTIONS
    assert len(json.dumps(write_gate(gate), indent=1)) < 1e6


def test_gate_is_open_at_its_limit_only():
    wide, nowhere = Space(np.zeros(1), np.ones((1, 1))), Space(np.zeros(10), np.zeros((1, 10)))
    gate = Gate(wide, nowhere, np.array([2.0, 1.0, 9.0]))
    distances = gate.measure(np.array([[1.0], [2.0], [3.0]]), draw_pictures(3, 1))
    assert distances.tolist() == [0.5, 1.0, 1.5]


def test_gate_tests_how_much_nearer_the_colours_come_with_a_fault_undone():
    colours = describe_colours(draw_pictures(2, 1))
    swapped = undo_faults(colours)[-2]
    gate = Gate(Space(np.zeros(1), np.ones((1, 1))), Space(colours[0], np.eye(10)), np.ones(3))
    _, off, nearer = gate.test(np.zeros((2, 1)), swapped)
    assert nearer[0] == pytest.approx(off[0], abs=1e-3)  # all the way


def test_measure_flags_swapped_channels_that_lie_within_both_distances():
    near, colours = np.zeros((50, 4)), draw_pictures(50, 3)
    train = describe_colours(draw_pictures(400, 1))
    gate = fit_gate(draw_features(400, 1), train, draw_features(400, 2), train)
    wide = gate._replace(limits=gate.limits * [1e9, 1e9, 1])
    assert (wide.measure(near, colours[..., ::-1]) > 1).all()
    assert (wide.measure(near, colours) <= 1).all()


def test_fit_gate_lets_equally_many_pictures_pass_each_limit(gate):
    tests = gate.test(draw_features(300, 2), describe_colours(draw_pictures(300, 2)))
    passing = (tests > gate.limits[:, None]).sum(axis=1)
    assert passing[0] == passing[1] > 0
    assert passing[2] == 0  # no stain comes nearer by a swap


def test_measure_lets_grey_pictures_pass_that_no_swap_changes():
    grey = np.repeat(draw_pictures(300, 1)[..., :1], 3, axis=-1)
    features, colours = draw_features(300, 1), describe_colours(grey)
    gate = fit_gate(features[:100], colours[:100], features[100:200], colours[100:200])
    assert (gate.measure(features[200:], grey[200:]) > 1).mean() < 0.05


def test_is_earlier_kind_knows_todays_gate(gate):
    assert not is_earlier_kind(write_gate(gate))


@pytest.mark.skipif(not os.environ.get("BCNET_TEST_DATA"), reason="BCNET_TEST_DATA is not set")
def test_gate_tells_tissue_from_everything_else(tmp_path):
    from sklearn.datasets import load_sample_images
    from sklearn.feature_extraction.image import extract_patches_2d

    import bcnet
    from bcnet import workflows
    from bcnet.workflows.ancestry import find_parts
    from bcnet.workflows.samples import decode_table

    manifest = bcnet.read_manifest([os.path.join(os.environ["BCNET_TEST_DATA"], "idc")])
    model = workflows.promise(bcnet.load("idc"), manifest, tmp_path / "idc.keras")

    def flag(images):
        return (model.predict(images)["status"] == "unlike training data").mean()

    pictures = decode_table(manifest.table, model.image_size)
    tissue = pictures.images[(find_parts(model.card, pictures.table) == "test").to_numpy()]
    rng = np.random.default_rng(0)
    photographs = [
        patch
        for image in load_sample_images().images
        for patch in extract_patches_2d(image, (120, 120), max_patches=100, random_state=0)
    ]
    assert flag(tissue) <= 0.05
    assert flag(255 - tissue) == 1
    assert min(flag(tissue[..., order]) for order in list(permutations(range(3)))[1:]) > 0.98
    assert flag(load_sample_images().images) == 1
    assert flag(photographs) > 0.97
    assert flag([np.full((50, 50, 3), 255, np.uint8)]) == 1
    assert flag(rng.integers(0, 256, (20, 50, 50, 3)).astype(np.uint8)) == 1
    assert flag(np.repeat(tissue[..., :1], 3, axis=-1)) > 0.98  # without its colours
    ultrasound = os.path.join(os.environ["BCNET_TEST_DATA"], "bus_uclm")
    assert flag(ultrasound) > 0.99
