"""Heatmaps: each method by hand, agreement with tf-keras-vis, and models of every make."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam

from bcnet.config import HEATMAP_METHODS
from bcnet.explain import heatmaps, probing
from bcnet.explain.cam import combine_grad_cam
from bcnet.explain.heatmaps import METHODS, class_activation, explain_batch, grad_cam
from bcnet.explain.scaling import divide_by_maximum
from bcnet.models import average_members, build_cnn, build_vgg16, list_turns, with_precision

CAMS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam")
PIXEL_METHODS = ("integrated_gradients", "smooth_grad", "occlusion")
THEIRS = {"grad_cam": Gradcam, "grad_cam_plus_plus": GradcamPlusPlus, "layer_cam": Layercam}


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(0)  # some weights see no evidence anywhere
    return build_cnn((24, 32), widths=(4, 5, 6), dense=8)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def vgg16():
    keras.utils.set_random_seed(0)
    return build_vgg16((64, 64), weights=None)


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


def ask_tf_keras_vis(model, images, sign, *, method="grad_cam"):
    logit_model = keras.Model(model.input, model.get_layer("logit").output)
    maps = THEIRS[method](logit_model)(
        lambda output: sign * output[:, 0],
        images.astype("float32"),
        expand_cam=False,
        normalize_cam=False,
    )
    return maps.numpy()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # Of 2·mean red − mean green: each gradient is 2/4 and −1/4.
        ("grad_cam", [[2, 0], [3, 0]]),  # 4/2, −4/4 -> 0, 8/2 − 4/4, 0
        ("hires_cam", [[2, 0], [3, 0]]),  # the same where a gradient is the same everywhere
        ("layer_cam", [[2, 0], [4, 0]]),  # what speaks against is left out
        ("grad_cam_plus_plus", [[2, 0], [4, 0]]),
        # Through red 4.375 and 2.25 remain on average, 6.5, which is 2.5 above the bare 2·3 − 2;
        # through green 3.5 and 3, which is nothing above it.
        ("score_cam", [[10, 0], [20, 0]]),
        # Each pixel less the mean (3, 2), times its gradient: covering it takes away the same.
        ("integrated_gradients", [[1, 0], [2, 0]]),
        ("occlusion", [[1, 0], [2, 0]]),
        ("smooth_grad", [[0.5, 0.5], [0.5, 0.5]]),
    ],
)
def test_class_activation_by_hand(one_pixel_model, one_picture, method, expected):
    raw = class_activation(one_pixel_model, one_picture, method=method)
    np.testing.assert_allclose(raw, [expected], rtol=1e-5)


def test_class_activation_of_benign_turns_the_sign(one_pixel_model, one_picture):
    raw = class_activation(one_pixel_model, one_picture, class_name="benign")
    np.testing.assert_allclose(raw, [[[0, 1], [0, 0]]], rtol=1e-6)


def test_class_activation_of_benign_is_smooth_grad_of_malignant(one_pixel_model, one_picture):
    maps = [
        class_activation(one_pixel_model, one_picture, method="smooth_grad", class_name=name)
        for name in ("benign", "malignant")
    ]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("method", THEIRS)
def test_class_activation_equals_tf_keras_vis_on_the_cnn(cnn, images, method, sign):
    name = "malignant" if sign == 1 else "benign"
    ours = class_activation(cnn, images, method=method, class_name=name)
    theirs = ask_tf_keras_vis(cnn, images, sign, method=method)
    assert theirs.max() > 0
    compare_maps(ours, theirs, method)


@pytest.mark.parametrize("method", THEIRS)
def test_class_activation_equals_tf_keras_vis_on_vgg16(vgg16, method):
    batch = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    ours = class_activation(vgg16, batch, method=method)
    theirs = ask_tf_keras_vis(vgg16, batch, 1, method=method)
    assert theirs.max() > 0
    compare_maps(ours, theirs, method)


def compare_maps(ours, theirs, method):
    """Compare as computed; Grad-CAM++ is free in a factor for each picture."""
    if method == "grad_cam_plus_plus":
        ours, theirs = divide_by_maximum(ours), divide_by_maximum(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.max())


def test_class_activation_has_the_resolution_of_the_layer(cnn, images):
    assert class_activation(cnn, images, layer="conv2").shape == (3, 12, 16)


@pytest.mark.parametrize("method", METHODS)
def test_class_activation_does_not_depend_on_the_batch(cnn, images, method, monkeypatch):
    together = class_activation(cnn, images, method=method)
    monkeypatch.setattr(heatmaps, "BATCH_SIZE", 2)
    apart = class_activation(cnn, images, method=method)
    np.testing.assert_allclose(apart, together, rtol=1e-3, atol=1e-4 * together.max())


def test_methods_are_those_of_the_config():
    assert tuple(METHODS) == HEATMAP_METHODS
    assert [method.__name__ for method in METHODS.values()] == list(HEATMAP_METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_methods_give_maps_of_the_size_of_the_pictures(cnn, images, method):
    maps = METHODS[method](cnn, images)
    assert (maps.shape, maps.dtype) == ((3, 24, 32), np.float32)
    assert maps.min() >= 0
    assert set(maps.max(axis=(1, 2))) <= {0, 1}


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_an_even_picture_are_finite(cnn, method):
    for value in (0, 255):
        maps = METHODS[method](cnn, np.full((1, 24, 32, 3), value, "uint8"))
        assert np.isfinite(maps).all()


@pytest.mark.parametrize(
    "method", sorted(set(METHODS) - {"grad_cam_plus_plus"})
)  # not linear in the logit
def test_methods_explain_a_saturated_probability(cnn, images, method):
    saturated = keras.models.clone_model(cnn)
    saturated.set_weights(cnn.get_weights())
    kernel, bias = saturated.get_layer("logit").get_weights()
    saturated.get_layer("logit").set_weights([1000 * kernel, bias + 1000])
    assert set(saturated.predict(images, verbose=0)[:, 0]) <= {0, 1}
    expected = METHODS[method](cnn, images)
    np.testing.assert_allclose(METHODS[method](saturated, images), expected, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_for_nested_and_flat(cnn, images, method):
    nested = keras.Sequential([keras.Input((24, 32, 3)), cnn])
    expected = METHODS[method](cnn, images)
    np.testing.assert_allclose(METHODS[method](nested, images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_methods_that_ask_the_whole_network_refuse_a_layer(cnn, images, method):
    with pytest.raises(ValueError, match=f"`layer` must be None, as {method} asks the whole"):
        METHODS[method](cnn, images, layer="conv3")


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_methods_that_ask_the_whole_network_need_no_convolution(images, method):
    image = keras.Input((24, 32, 3))
    x = layers.Dense(4, activation="relu")(layers.Flatten()(image))
    dense = keras.Model(image, layers.Dense(1, activation="sigmoid")(x))
    assert METHODS[method](dense, images).max() == 1


def test_integrated_gradients_sum_to_the_difference_of_the_logits(cnn, images):
    # What speaks for and what speaks against are two maps; their difference is the whole.
    score = keras.Model(cnn.input, cnn.get_layer("logit").output)
    ground = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    expected = (score(images.astype("float32")) - score(ground.astype("float32")))[:, 0]
    pro, contra = (
        class_activation(cnn, images, method="integrated_gradients", class_name=name)
        for name in ("malignant", "benign")
    )
    np.testing.assert_allclose((pro - contra).sum(axis=(1, 2)), expected, rtol=0.05, atol=0.01)


def test_score_cam_tries_the_channels_that_vary_most(cnn, images, monkeypatch):
    monkeypatch.setattr(probing, "SCORE_CAM_CHANNELS", 1)
    activations = keras.Model(cnn.input, cnn.get_layer("conv3").output)(images.astype("float32"))
    first = activations.numpy()[0]
    most = first[..., first.std(axis=(0, 1)).argmax()]
    pro, contra = (
        class_activation(cnn, images[:1], method="score_cam", class_name=name)[0]
        for name in ("malignant", "benign")
    )
    np.testing.assert_allclose((pro + contra) / (pro + contra).max(), most / most.max(), rtol=1e-4)


def test_occlusion_covers_every_pixel_as_often_as_its_like():
    patches = probing._list_patches((13, 20))
    times = np.zeros((13, 20))
    for patch in patches:
        times[patch] += 1
    assert times.min() >= 1
    assert {times[patch].shape for patch in patches} == {(2, 2)}


def test_grad_cam_of_members_is_that_of_their_channels_side_by_side(images):
    keras.utils.set_random_seed(1)
    members = [build_cnn((24, 32), widths=(4, 5, 6), dense=8) for _ in range(2)]
    seen = [read_last_layer(member, images) for member in members]
    gradients, activations = zip(*seen, strict=True)
    expected = combine_grad_cam(np.concatenate(activations, -1), np.concatenate(gradients, -1))
    ensemble = average_members(members)
    raw = class_activation(ensemble, images)
    assert raw.max() > 0
    np.testing.assert_allclose(raw, expected / 2, rtol=1e-4, atol=1e-6)


def read_last_layer(model, images):
    probe = keras.Model(model.input, [model.get_layer(name).output for name in ("conv3", "logit")])
    with tf.GradientTape() as tape:
        activations, logit = probe(images.astype("float32"), training=False)
        gradient = tape.gradient(logit, activations)
    return gradient, activations


@pytest.mark.parametrize(
    "method", sorted(set(METHODS) - {"smooth_grad"})
)  # its noise does not turn
def test_methods_turn_with_the_picture_where_the_model_does(images, method):
    keras.utils.set_random_seed(0)
    model = build_cnn((24, 24), widths=(4, 5, 6), dense=8)
    turned = average_members([model], list_turns((24, 24), "tissue"))
    square = images[:, :, :24]
    maps = METHODS[method](turned, square, class_name="benign")
    assert maps.max() == 1
    transposed = METHODS[method](turned, square.transpose(0, 2, 1, 3), class_name="benign")
    np.testing.assert_allclose(transposed.transpose(0, 2, 1), maps, atol=2e-3)
    mirrored = METHODS[method](turned, square[:, ::-1], class_name="benign")
    np.testing.assert_allclose(mirrored[:, ::-1], maps, atol=2e-3)


def test_grad_cam_of_mirrored_views_by_hand(one_pixel_model, one_picture):
    # Averaged over a picture and its mirror image, both as computed and turned back are the same.
    image = keras.Input((2, 2, 2))
    views = [image, keras.ops.flip(image, [2])]
    logit = keras.Model(one_pixel_model.input, one_pixel_model.get_layer("logit").output)
    model = keras.Model(image, layers.Average()([logit(view) for view in views]))
    raw = class_activation(model, one_picture)
    np.testing.assert_allclose(raw, [[[2, 0], [3, 0]]], rtol=1e-6)


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
