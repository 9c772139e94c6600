"""Where cells lie: by hand, and by where a network's gradients come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bcnet.explain.geometry import (
    Axis,
    flip_axis,
    follow_layer,
    follow_window,
    spread_evenly,
    weigh_cells,
)
from bcnet.explain.graph import find_explained_layers, locate_cells
from bcnet.explain.heatmaps import grad_cam
from bcnet.models import average_members, build_cnn, build_mobilenet, build_resnet50, list_turns

PIXELS = Axis(0, 1)


@pytest.mark.parametrize(
    ("length", "size", "stride", "padding", "expected"),
    [
        (8, 1, 1, "valid", (0, 1)),
        (8, 3, 1, "same", (0, 1)),
        (8, 3, 1, "valid", (1, 1)),  # the first window covers 0, 1, 2
        (8, 2, 2, "valid", (0.5, 2)),  # pairs
        (8, 3, 2, "same", (1, 2)),  # one is missing, and is padded behind
        (7, 3, 2, "same", (0, 2)),  # two are missing, one on each side
        (8, 5, 2, "same", (1, 2)),  # three: one before, two behind
    ],
)
def test_follow_window_by_hand(length, size, stride, padding, expected):
    found = follow_window(PIXELS, length, size=size, stride=stride, padding=padding)
    assert found == expected


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.ZeroPadding2D(((2, 0), (0, 3))), [(-2, 1), (0, 1)]),
        (layers.Cropping2D(((1, 0), (0, 2))), [(1, 1), (0, 1)]),
        (layers.Conv2D(1, 3, dilation_rate=2), [(2, 1), (2, 1)]),
        (layers.UpSampling2D(2), [(-0.25, 0.5), (-0.25, 0.5)]),  # evenly spread
        (layers.ReLU(), [(0, 1), (0, 1)]),
    ],
)
def test_follow_layer_by_hand(layer, expected):
    after = layer(keras.KerasTensor((1, 8, 8, 1))).shape[1:3]
    assert follow_layer(layer, [PIXELS, PIXELS], (8, 8), after) == expected


def test_flip_axis_twice_gives_it_back():
    assert flip_axis(flip_axis(Axis(3, 2), 5), 5) == (3, 2)


def test_spread_evenly_centres_each_cell_in_its_share():
    assert spread_evenly(9, 3) == (1, 3)


def test_weigh_cells_by_hand():
    weights = weigh_cells(Axis(1, 2), 2, 5)  # centres at pixels 1 and 3
    np.testing.assert_array_equal(weights[:, 1], [0, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(weights.sum(axis=1), 1)


@pytest.mark.parametrize("build", [build_cnn, build_mobilenet, build_resnet50])
def test_locate_cells_is_where_the_gradients_come_from(build):
    keras.utils.set_random_seed(0)
    model = build((128, 128)) if build is build_cnn else build((128, 128), weights=None)
    layer = find_explained_layers(model)[0]
    if build is build_mobilenet:  # one cell of the last layer sees nearly the whole picture
        layer = model.get_layer("conv_pw_5_relu")
    cell = layer.output.shape[1] // 2 - 1
    images = tf.random.uniform((8, 128, 128, 3), maxval=255, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(images)
        seen = keras.Model(model.input, layer.output)(images, training=False)
        gradient = tape.gradient(tf.reduce_sum(seen[:, cell, cell]), images)
    energy = np.square(gradient).sum(axis=(0, 3))
    centre = energy.sum(axis=1) @ np.arange(128) / energy.sum()
    axis = locate_cells(model, [layer])[0]
    assert axis.start + axis.step * cell == pytest.approx(centre, abs=0.1 * axis.step)


def test_locate_cells_centres_what_is_turned_every_way():
    model = build_mobilenet((64, 64), alpha=0.25, weights=None)
    turned = average_members([model], list_turns((64, 64), "tissue"))
    layer = find_explained_layers(turned)
    expected = [spread_evenly(64, 2)] * 2
    np.testing.assert_allclose(locate_cells(turned, layer), expected)


def test_locate_cells_centres_columns_of_what_is_mirrored():
    model = build_mobilenet((64, 64), alpha=0.25, weights=None)
    mirrored = average_members([model], list_turns((64, 64), "radiology"))
    rows, columns = locate_cells(mirrored, find_explained_layers(mirrored))
    assert rows == locate_cells(model, find_explained_layers(model))[0]
    assert columns == spread_evenly(64, 2)


def test_locate_cells_goes_past_lists_of_pixels():
    image = keras.Input((8, 8, 3))
    x = layers.Reshape((8, 8, 3))(layers.Reshape((64, 3))(image))
    x = layers.Conv2D(2, 2, 2, name="conv")(x)
    model = keras.Model(image, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
    assert locate_cells(model, [model.get_layer("conv")]) == [(0.5, 2), (0.5, 2)]


def test_grad_cam_points_at_what_a_padded_network_saw():
    # One convolution that sees red, with MobileNet's padding: right and below only.
    image = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(image)
    x = layers.DepthwiseConv2D(3, 2, padding="valid", use_bias=False)(x)
    x = layers.Conv2D(1, 1, use_bias=False, activation="relu")(x)
    x = layers.Dense(1, use_bias=False)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.layers[2].set_weights([np.ones((3, 3, 3, 1))])
    model.layers[3].set_weights([np.array([1.0, 0, 0]).reshape(1, 1, 3, 1)])
    model.layers[5].set_weights([np.ones((1, 1))])
    picture = np.zeros((1, 16, 16, 3), "float32")
    picture[0, 7, 9, 0] = 1  # the middle of one window
    assert np.unravel_index(grad_cam(model, picture)[0].argmax(), (16, 16)) == (7, 9)
