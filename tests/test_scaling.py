"""Maps made ready for the eye: size and scale."""

import numpy as np

from bcnet.explain.scaling import divide_by_maximum, enlarge


def test_enlarge_keeps_cell_centres():
    cells = np.array([[[0, 1]]], dtype="float32")
    np.testing.assert_allclose(enlarge(cells, (1, 4)), [[[0, 0.25, 0.75, 1]]])


def test_divide_by_maximum_scales_each_map():
    maps = np.array([[[1.0, 4.0]], [[0.0, 0.5]]])
    np.testing.assert_array_equal(divide_by_maximum(maps), [[[0.25, 1]], [[0, 1]]])


def test_divide_by_maximum_leaves_zeros():
    np.testing.assert_array_equal(divide_by_maximum(np.zeros((1, 2, 2))), np.zeros((1, 2, 2)))
