"""Is a picture like the training pictures: distances worked by hand, limits, and strangers."""

import json
import os

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from bcnet.evaluate.gate import (
    DIRECTIONS,
    LARGEST_TABLE,
    MOST_FITTED,
    Gate,
    Space,
    describe_colours,
    draw_fitted,
    fit_gate,
    read_gate,
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


def test_space_measures_in_standard_deviations_of_the_limit():
    space = Space(np.array([1.0, 0.0]), np.array([[1 / 2, 0], [0, 1 / 4]]), limit=2.5)
    # 4 of 2 and 6 of 4: 2 and 1.5 standard deviations, 2.5 together.
    assert space.measure(np.array([[5.0, 6.0], [1.0, 0.0]])).tolist() == [1.0, 0.0]


def test_fit_gate_measures_the_distance_of_mahalanobis():
    features, held_out = draw_features(400, 1), draw_features(300, 2)
    colours = describe_colours(draw_pictures(400, 1))
    gate = fit_gate(features, colours, held_out, colours[:300])
    found = gate.features.measure(held_out)
    expected = np.sqrt(EmpiricalCovariance().fit(features).mahalanobis(held_out))
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=0.01)


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
    assert (gate.features.measure(held_out) > 1).mean() <= 0.01


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
    assert (gate.features.measure(features[50:]) <= 1).all()


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
    # Correlations: ∓0.25 over (0.5 + 0.01)²; neighbours differ by 1, 1 and 0.
    expected = [0.5, 0.5, 0, *np.log([0.51, 0.51, 0.01]), -0.25 / 0.51**2, 0, 0]
    expected.append(np.log(np.sqrt(2 / 3) + 0.01))
    np.testing.assert_allclose(describe_colours(picture)[0], expected, atol=1e-5)


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


def test_draw_fitted_bounds_the_training_pictures():
    rows = draw_fitted(MOST_FITTED + 500)
    assert len(set(rows)) == MOST_FITTED
    assert rows[-1] > MOST_FITTED


def test_gate_is_open_at_its_limit_only():
    wide = Space(np.zeros(1), np.ones((1, 1)), limit=2.0)
    colours = Space(np.zeros(10), np.zeros((1, 10)), limit=1.0)
    images = draw_pictures(3, 1)
    distances = Gate(wide, colours).measure(np.array([[1.0], [2.0], [3.0]]), images)
    assert distances.tolist() == [0.5, 1.0, 1.5]


@pytest.mark.skipif(not os.environ.get("BCNET_TEST_DATA"), reason="BCNET_TEST_DATA is not set")
def test_gate_tells_tissue_from_everything_else(tmp_path):
    from sklearn.datasets import load_sample_images

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
    assert flag(tissue) <= 0.05
    assert flag(255 - tissue) == 1
    assert flag(tissue[..., [1, 2, 0]]) > 0.9
    assert flag(tissue[..., ::-1]) > 0.6
    assert flag(load_sample_images().images) == 1
    assert flag([np.full((50, 50, 3), 255, np.uint8)]) == 1
    assert flag(rng.integers(0, 256, (20, 50, 50, 3)).astype(np.uint8)) == 1
    ultrasound = os.path.join(os.environ["BCNET_TEST_DATA"], "bus_uclm")
    assert flag(ultrasound) > 0.99
