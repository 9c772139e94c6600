"""Heatmaps: arithmetic by hand, agreement with tf-keras-vis, and what must never be NaN."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tf_keras_vis.gradcam import Gradcam

from bcnet.explain import heatmaps
from bcnet.explain.heatmaps import (
    average_gradient,
    class_activation,
    divide_by_maximum,
    enlarge,
    explain_batch,
    grad_cam,
    overlay,
    take_gradient,
    weigh_activations,
)
from bcnet.models import build_cnn, build_vgg16, with_precision


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(0)  # some weights see no evidence anywhere
    return build_cnn((24, 32), widths=(4, 5, 6), dense=8)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def one_pixel_model():
    """Its logit is 2·red − 1·green of the mean pixel; the convolution passes both on."""
    image = keras.Input((2, 2, 2))
    x = layers.Conv2D(2, 1, use_bias=False, name="pass_on")(image)
    x = layers.Dense(1, name="logit")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Activation("sigmoid")(x))
    model.get_layer("pass_on").set_weights([np.eye(2).reshape(1, 1, 2, 2)])
    model.get_layer("logit").set_weights([np.array([[2.0], [-1.0]]), np.zeros(1)])
    return model


@pytest.fixture(scope="module")
def one_picture():
    red, green = [[4, 0], [8, 0]], [[0, 4], [4, 0]]
    return np.stack([red, green], axis=-1)[None].astype("float32")


def ask_tf_keras_vis(model, images, sign):
    logit_model = keras.Model(model.input, model.get_layer("logit").output)
    maps = Gradcam(logit_model)(
        lambda output: sign * output[:, 0],
        images.astype("float32"),
        expand_cam=False,
        normalize_cam=False,
    )
    return maps.numpy()


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


def test_class_activation_by_hand(one_pixel_model, one_picture):
    # Each gradient is 2/4 and −1/4: 4/2 = 2, −4/4 -> 0, 8/2 − 4/4 = 3, 0.
    raw = class_activation(one_pixel_model, one_picture)
    np.testing.assert_allclose(raw, [[[2, 0], [3, 0]]], rtol=1e-6)


def test_class_activation_of_benign_turns_the_sign(one_pixel_model, one_picture):
    raw = class_activation(one_pixel_model, one_picture, class_name="benign")
    np.testing.assert_allclose(raw, [[[0, 1], [0, 0]]], rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_class_activation_equals_tf_keras_vis_on_the_cnn(cnn, images, sign):
    ours = class_activation(cnn, images, class_name="malignant" if sign == 1 else "benign")
    theirs = ask_tf_keras_vis(cnn, images, sign)
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.max())


def test_class_activation_equals_tf_keras_vis_on_vgg16():
    keras.utils.set_random_seed(0)
    model = build_vgg16((64, 64), weights=None)
    batch = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    ours = class_activation(model, batch)
    theirs = ask_tf_keras_vis(model, batch, 1)
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.max())


def test_class_activation_has_the_resolution_of_the_layer(cnn, images):
    assert class_activation(cnn, images, layer="conv2").shape == (3, 12, 16)


def test_class_activation_does_not_depend_on_the_batch(cnn, images, monkeypatch):
    together = class_activation(cnn, images)
    monkeypatch.setattr(heatmaps, "BATCH_SIZE", 2)
    np.testing.assert_allclose(class_activation(cnn, images), together, rtol=1e-5, atol=1e-9)


def test_grad_cam_has_the_size_of_the_pictures(cnn, images):
    maps = grad_cam(cnn, images)
    assert (maps.shape, maps.dtype) == ((3, 24, 32), np.float32)


def test_grad_cam_lies_between_0_and_1(one_pixel_model, one_picture):
    np.testing.assert_allclose(grad_cam(one_pixel_model, one_picture), [[[2 / 3, 0], [1, 0]]])


def test_grad_cam_of_no_evidence_is_zeros(one_pixel_model):
    nothing = np.zeros((1, 2, 2, 2), dtype="float32")
    np.testing.assert_array_equal(grad_cam(one_pixel_model, nothing), [[[0, 0], [0, 0]]])


def test_grad_cam_explains_a_saturated_probability(one_pixel_model, one_picture):
    predictions, maps = explain_batch(one_pixel_model, 100 * one_picture)
    assert predictions[0, 0] == 1
    np.testing.assert_allclose(maps, [[[2 / 3, 0], [1, 0]]], rtol=1e-6)


def test_grad_cam_of_mixed_precision_is_float32(cnn, images):
    assert grad_cam(with_precision(cnn, "mixed_bfloat16"), images).dtype == np.float32


def test_grad_cam_takes_uint8_and_float_alike(cnn, images):
    np.testing.assert_array_equal(grad_cam(cnn, images), grad_cam(cnn, images.astype("float32")))


def test_grad_cam_refuses_an_unknown_class(cnn, images):
    with pytest.raises(ValueError, match=r"`class_name` must be one of .*Received: 'normal'"):
        grad_cam(cnn, images, class_name="normal")


def test_grad_cam_refuses_an_unknown_unit(cnn, images):
    with pytest.raises(ValueError, match=r"`positive_unit` must be 0 or 1\. Received: 2"):
        grad_cam(cnn, images, positive_unit=2)


@pytest.mark.parametrize("shape", [(24, 32, 3), (0, 24, 32, 3), (1, 32, 24, 3), (1, 24, 32, 1)])
def test_grad_cam_refuses_pictures_the_model_does_not_take(cnn, shape):
    with pytest.raises(ValueError, match=r"shape \(24, 32, 3\)\. Received: shape"):
        grad_cam(cnn, np.zeros(shape))


def test_grad_cam_refuses_broken_weights(one_pixel_model, one_picture):
    broken = keras.models.clone_model(one_pixel_model)
    broken.get_layer("logit").set_weights([np.array([[np.nan], [1.0]]), np.zeros(1)])
    with pytest.raises(ValueError, match="1 of 1 pictures, first for number 0"):
        grad_cam(broken, one_picture)


def test_explain_batch_predicts_what_keras_predicts(cnn, images):
    predictions, _ = explain_batch(cnn, images)
    np.testing.assert_allclose(predictions, cnn.predict(images, verbose=0), rtol=1e-6)


def test_explain_batch_gives_the_maps_of_grad_cam(cnn, images):
    np.testing.assert_array_equal(explain_batch(cnn, images)[1], grad_cam(cnn, images))


def test_enlarge_keeps_cell_centres():
    cells = np.array([[[0, 1]]], dtype="float32")
    np.testing.assert_allclose(enlarge(cells, (1, 4)), [[[0, 0.25, 0.75, 1]]])


def test_divide_by_maximum_scales_each_map():
    maps = np.array([[[1.0, 4.0]], [[0.0, 0.5]]])
    np.testing.assert_array_equal(divide_by_maximum(maps), [[[0.25, 1]], [[0, 1]]])


def test_divide_by_maximum_leaves_zeros():
    np.testing.assert_array_equal(divide_by_maximum(np.zeros((1, 2, 2))), np.zeros((1, 2, 2)))


def test_overlay_shows_the_bare_picture_where_cold():
    image = np.random.default_rng(2).integers(0, 256, (4, 4, 3)).astype("uint8")
    np.testing.assert_array_equal(overlay(image, np.zeros((4, 4))), image)


def test_overlay_mixes_the_hottest_colour_by_opacity():
    image = np.full((1, 1, 3), 100, dtype="uint8")
    painted = overlay(image, np.ones((1, 1)), opacity=0.5)
    np.testing.assert_allclose(painted[0, 0], [(100 + 253) / 2, (100 + 231) / 2, 68], atol=1)


@pytest.mark.parametrize(
    ("image", "heatmap", "opacity", "message"),
    [
        (np.zeros((2, 2, 3)), np.zeros((2, 2)), 0.5, "`image` must be uint8"),
        (np.zeros((2, 2), "uint8"), np.zeros((2, 2)), 0.5, "`image` must be uint8"),
        (np.zeros((2, 2, 3), "uint8"), np.zeros((3, 2)), 0.5, "`heatmap` must have the picture"),
        (np.zeros((2, 2, 3), "uint8"), np.full((2, 2), 1.4), 0.5, "`heatmap` must be between"),
        (np.zeros((2, 2, 3), "uint8"), np.full((2, 2), np.nan), 0.5, "`heatmap` must be between"),
        (np.zeros((2, 2, 3), "uint8"), np.zeros((2, 2)), 1.4, "`opacity` must be between"),
    ],
)
def test_overlay_refuses(image, heatmap, opacity, message):
    with pytest.raises(ValueError, match=message):
        overlay(image, heatmap, opacity=opacity)
