"""Measures of maps, worked by hand on a few pixels; and what a score of known pixels must give."""

import numpy as np
import pytest

from bcnet.explain.measures import (
    correlate_maps,
    correlate_ranks,
    draw_centre_blobs,
    draw_random_maps,
    find_best_overlap,
    measure_border,
    measure_contrast,
    measure_mass,
    point_at_mask,
)
from bcnet.explain.perturbation import (
    blur_pictures,
    measure_area,
    measure_drop,
    trace_deletion,
    trace_insertion,
)

ZEROS = np.zeros((1, 2, 3))
MASK = np.array([[[True, False, False], [False, False, True]]])  # a third of the picture


# --- how alike --------------------------------------------------------------------------------


def test_correlate_maps_by_hand():
    # deviations (−1, 0, 1) and (−1, 2, −1): products sum to 0; with (0, −1, 1): 1 / √(2 · 2)
    maps = np.array([[[1, 2, 3]], [[1, 2, 3]]])
    others = np.array([[[1, 4, 1]], [[2, 1, 3]]])
    np.testing.assert_allclose(correlate_maps(maps, others), [0, 0.5], atol=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3])  # whose mean is rounded to another number
def test_correlate_maps_of_an_even_map_is_zero(level):
    maps = np.full((1, 7, 11), level)
    others = np.random.default_rng(0).random((1, 7, 11))
    assert correlate_maps(maps, others) == correlate_maps(others, maps) == [0]


@pytest.mark.parametrize("unit", [3, -3])
def test_correlate_maps_knows_no_unit(unit):
    maps = np.random.default_rng(0).random((2, 5, 5))
    np.testing.assert_allclose(correlate_maps(maps, unit * maps + 7), np.sign([unit, unit]))


def test_correlate_ranks_sees_the_order_only():
    maps = np.array([[[1, 2, 3, 4]]])
    np.testing.assert_allclose(correlate_ranks(maps, maps**9), [1])


def test_correlate_ranks_gives_equals_their_mean_rank():
    # ranks (1, 2, 3) and (1.5, 1.5, 3): deviations give 1.5 / √(2 · 1.5)
    found = correlate_ranks(np.array([[[1, 2, 3]]]), np.array([[[5, 5, 9]]]))
    np.testing.assert_allclose(found, [1.5 / np.sqrt(3)])


# --- how concentrated -------------------------------------------------------------------------


def test_measure_contrast_is_the_heat_in_the_wrong_place():
    # shares 0.5, 0.3, 0.2, 0: above a quarter lie 0.25 and 0.05
    np.testing.assert_allclose(measure_contrast(np.array([[[5, 3], [2, 0]]])), [0.3])


def test_measure_contrast_of_an_even_map_or_of_none_is_zero():
    np.testing.assert_allclose(measure_contrast(np.stack([ZEROS[0], ZEROS[0] + 1])), [0, 0])


def test_measure_border_takes_an_eighth_on_each_side():
    maps = np.zeros((3, 16, 16))
    maps[0, 2:14, 2:14] = maps[1, :2] = 1  # all but the frame; its upper side
    maps[2, 1, 8] = maps[2, 2, 8] = 1  # the last row of the frame and the first inside
    np.testing.assert_allclose(measure_border(maps), [0, 1, 0.5])


# --- against masks ----------------------------------------------------------------------------


def test_measure_mass_is_the_share_of_heat_inside():
    np.testing.assert_allclose(measure_mass(np.array([[[2, 1, 0], [0, 1, 4]]]), MASK), [6 / 8])


def test_point_at_mask_shares_the_point_between_equals():
    maps = np.array([[[9, 1, 1], [1, 1, 1]], [[1, 9, 1], [1, 1, 1]], [[5, 5, 1], [1, 1, 1]]])
    np.testing.assert_allclose(point_at_mask(maps, np.repeat(MASK, 3, axis=0)), [1, 0, 0.5])


def test_find_best_overlap_by_hand():
    # taking the 3 hottest: 2 hits, 2 + 3 − 2 = 3 in the union
    maps = np.array([[[5, 4, 1], [1, 1, 3]]])
    np.testing.assert_allclose(find_best_overlap(maps, MASK), [2 / 3])


def test_find_best_overlap_takes_equals_together():
    maps = np.array([[[5, 5, 5], [0, 0, 0]]])  # 1 of 3, in a union of 4; or all 6, of which 2
    np.testing.assert_allclose(find_best_overlap(maps, MASK), [1 / 3])


def test_find_best_overlap_refuses_an_empty_mask():
    with pytest.raises(ValueError, match=r"`masks` must not be empty\. Received: 1 that are"):
        find_best_overlap(ZEROS, np.zeros((1, 2, 3), bool))


@pytest.mark.parametrize("measure", [measure_mass, point_at_mask, find_best_overlap])
@pytest.mark.parametrize("level", [0, 0.7])
def test_an_even_map_meets_a_mask_by_chance(measure, level):
    np.testing.assert_allclose(measure(ZEROS + level, MASK), [1 / 3])


def test_draw_random_maps_are_seeded_and_point_by_chance():
    maps = draw_random_maps(400, (32, 32))
    np.testing.assert_array_equal(maps, draw_random_maps(400, (32, 32)))
    left = np.zeros(maps.shape, bool)
    left[..., :8] = True
    assert abs(measure_mass(maps, left).mean() - 0.25) < 0.01
    assert maps.shape == (400, 32, 32)
    assert 0 <= maps.min() < maps.max() <= 1


def test_draw_centre_blobs_fall_from_the_middle():
    blobs = draw_centre_blobs(2, (33, 65))
    assert blobs.shape == (2, 33, 65)
    assert blobs[1, 16, 32] == blobs.max() == 1
    # two standard deviations down at the middle of each side: e^−2
    np.testing.assert_allclose(blobs[0, 16, 0], np.exp(-2), atol=0.01)


# --- what a network says ----------------------------------------------------------------------


def see_middle(images):
    """A score that sees one pixel of the four by four."""
    return images[:, 1, 1, 0] / 255


@pytest.fixture
def one_bright_pixel():
    image = np.zeros((1, 4, 4, 3), "uint8")
    image[0, 1, 1] = 255
    return image


@pytest.fixture
def true_map():
    heatmap = np.full((1, 4, 4), 0.1)
    heatmap[0, 1, 1] = 1
    return heatmap


def test_trace_deletion_takes_the_hottest_pixel_first(one_bright_pixel, true_map):
    curve = trace_deletion(see_middle, one_bright_pixel, true_map, steps=16)
    ground = blur_pictures(one_bright_pixel)[0, 1, 1, 0] / 255
    np.testing.assert_allclose(curve, [[1, *[ground] * 16]], rtol=1e-6)
    assert 0 < ground < 1


def test_trace_deletion_of_the_opposite_map_keeps_the_score_to_the_end(one_bright_pixel, true_map):
    curve = trace_deletion(see_middle, one_bright_pixel, 1 - true_map, steps=16)
    np.testing.assert_allclose(curve[0, :16], 1)


def test_trace_insertion_brings_the_hottest_pixel_first(one_bright_pixel, true_map):
    curve = trace_insertion(see_middle, one_bright_pixel, true_map, steps=16)
    np.testing.assert_allclose(curve[0, 1:], 1)
    assert curve[0, 0] < 1


def test_trace_deletion_parts_equals_by_seeded_chance(one_bright_pixel):
    even = np.zeros((1, 4, 4))
    curves = [
        trace_deletion(see_middle, one_bright_pixel, even, steps=16, seed=seed)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0] != curves[2]).any()
    assert np.count_nonzero(np.diff(curves[0])) == 1  # gone once, not pixel row by pixel row


def test_a_picture_has_its_curve_whatever_stands_beside_it(one_bright_pixel, true_map):
    many = [np.repeat(each, 40, axis=0) for each in (one_bright_pixel, true_map)]
    alone = trace_deletion(see_middle, one_bright_pixel, true_map)
    np.testing.assert_array_equal(trace_deletion(see_middle, *many), np.repeat(alone, 40, axis=0))


def test_measure_area_by_trapezoids():
    np.testing.assert_allclose(measure_area([[1, 0.5, 0], [1, 0, 0]]), [0.5, 0.25])


def test_measure_drop_of_a_map_that_keeps_or_hides_what_is_seen(one_bright_pixel, true_map):
    images = np.repeat(one_bright_pixel, 2, axis=0)
    drop, increase = measure_drop(see_middle, images, np.concatenate([true_map, 0 * true_map]))
    ground = blur_pictures(one_bright_pixel)[0, 1, 1, 0] / 255
    np.testing.assert_allclose(drop, [0, 1 - ground], rtol=1e-6)
    assert not increase.any()


def test_measure_drop_counts_a_rise_as_increase(one_bright_pixel, true_map):
    drop, increase = measure_drop(lambda x: 1 - see_middle(x), one_bright_pixel, 0 * true_map)
    assert (drop[0], increase[0]) == (0, True)


def test_measure_drop_from_nothing_is_zero(one_bright_pixel, true_map):
    drop, _ = measure_drop(lambda x: np.zeros(len(x)), one_bright_pixel, true_map)
    assert drop == [0]


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_pictures_keeps_shape_and_mean_colour(channels):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, channels)).astype("uint8")
    blurred = blur_pictures(images)
    assert blurred.shape == images.shape
    assert blurred.std() < 0.1 * images.std()
    np.testing.assert_allclose(blurred.mean(), images.mean(), rtol=0.02)
