"""The arithmetic of class activation maps, worked by hand on two by two places."""

import numpy as np
import pytest
import tensorflow as tf

from bcnet.explain.cam import (
    average_gradient,
    combine_grad_cam,
    combine_grad_cam_plus_plus,
    combine_hires_cam,
    combine_layer_cam,
    take_gradient,
    weigh_activations,
)

CHANNEL = [[1.0, 2.0], [0.0, 4.0]]
COMBINE = [combine_grad_cam, combine_grad_cam_plus_plus, combine_hires_cam, combine_layer_cam]


def stack(*channels):
    """One picture `(1, 2, 2, channels)` from its channels."""
    return np.stack(channels, axis=-1)[None].astype("float32")


def test_take_gradient_of_a_weighted_sum_is_its_weights():
    weights = np.array([[[[1.0], [2.0]], [[3.0], [4.0]]]], dtype="float32")

    @tf.function
    def differentiate(activations):
        return take_gradient(tf.reduce_sum(weights * activations, axis=(1, 2, 3)), activations)

    np.testing.assert_array_equal(differentiate(tf.ones((1, 2, 2, 1))), weights)


def test_take_gradient_refuses_a_layer_beside_the_way():
    @tf.function
    def differentiate(activations):
        return take_gradient(tf.zeros(1), activations)

    with pytest.raises(ValueError, match="`layer` must lead to the model's output"):
        differentiate(tf.ones((1, 2, 2, 1)))


def test_average_gradient_averages_each_channel():
    gradients = np.array([[[[1.0, 0.0], [2.0, 0.0]], [[3.0, 4.0], [6.0, 0.0]]]])
    np.testing.assert_array_equal(average_gradient(gradients), [[3, 1]])


def test_weigh_activations_keeps_positive_sums():
    activations = np.array([[[[1.0, 2.0], [3.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]]])
    weighed = weigh_activations(activations, np.array([[2.0, -3.0]]))
    np.testing.assert_array_equal(weighed, [[[0, 3], [0, 2]]])  # 2−6, 6−3, 0, 2


def test_combine_grad_cam_by_hand():
    # The channels' mean gradients are 2 and −1.
    gradients = stack([[8, 0], [0, 0]], [[-1, -1], [-1, -1]])
    maps = combine_grad_cam(stack(CHANNEL, np.ones((2, 2))), gradients)
    np.testing.assert_allclose(maps, [[[1, 3], [0, 7]]])


def test_combine_layer_cam_by_hand():
    gradients = stack([[8, 1], [5, -1]], [[-1, -1], [2, -1]])
    maps = combine_layer_cam(stack(CHANNEL, np.ones((2, 2))), gradients)
    np.testing.assert_allclose(maps, [[[8, 2], [2, 0]]])  # 1·8, 2·1, 0·5 + 1·2, nothing


def test_combine_hires_cam_by_hand():
    gradients = stack([[8, 1], [5, -1]], [[-1, -3], [2, -1]])
    maps = combine_hires_cam(stack(CHANNEL, np.ones((2, 2))), gradients)
    np.testing.assert_allclose(maps, [[[7, 0], [2, 0]]])  # 8−1, 2−3, 0+2, −4−1


def test_combine_grad_cam_plus_plus_by_hand():
    # Σ activations = 7: gradients 2 and 1 share 1/16 : 1/9, that is 9/25 and 16/25.
    maps = combine_grad_cam_plus_plus(stack(CHANNEL), stack([[2, 0], [1, 0]]))
    weight = (9 * 2 + 16 * 1) / 25
    np.testing.assert_allclose(maps[0], weight * np.array(CHANNEL), rtol=1e-6)


def test_combine_grad_cam_plus_plus_leaves_negative_gradients_out():
    maps = combine_grad_cam_plus_plus(stack(CHANNEL), stack([[-1, -1], [-1, -1]]))
    np.testing.assert_array_equal(maps, np.zeros((1, 2, 2)))


def test_combine_grad_cam_plus_plus_of_a_vanishing_denominator_is_finite():
    # 2 + g · Σ activations = 2 − 2/7 · 7 = 0.
    maps = combine_grad_cam_plus_plus(stack(CHANNEL), stack([[-2 / 7, 1], [0, 0]]))
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("combine", COMBINE)
def test_combine_of_no_gradient_is_zeros(combine):
    maps = combine(stack(CHANNEL), stack(np.zeros((2, 2))))
    np.testing.assert_array_equal(maps, np.zeros((1, 2, 2)))


@pytest.mark.parametrize("combine", COMBINE)
def test_combine_of_no_activation_is_zeros(combine):
    maps = combine(stack(np.zeros((2, 2))), stack(CHANNEL))
    np.testing.assert_array_equal(maps, np.zeros((1, 2, 2)))
