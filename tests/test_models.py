"""The networks: names, pixels, precision, frozen layers and weights files."""

import keras
import numpy as np
import pytest

from bcnet.models import (
    IMAGENET_MEAN_BGR,
    MODELS,
    POLICIES,
    build_cnn,
    build_vgg16,
    unfreeze,
    with_precision,
)

TAIL = ("logit", "calibration", "probability")


def build_tiny_cnn(precision="float32"):
    return build_cnn((16, 24), widths=(2, 3, 4), dense=5, precision=precision)


@pytest.fixture(scope="module")
def cnn():
    return build_tiny_cnn()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3)).astype("uint8")


@pytest.fixture(scope="module")
def vgg16_source():
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def vgg16_file(vgg16_source, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg16_notop.h5"
    vgg16_source.save(path)  # the same kind of file as the one keras.applications downloads
    return path


@pytest.fixture(scope="module")
def vgg16(vgg16_file):
    return build_vgg16((32, 32), weights=vgg16_file)


@pytest.fixture(scope="module")
def large_images():
    return np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def predict(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def list_trainable(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def test_build_cnn_names_its_layers(cnn):
    blocks = ["conv1", "pool1", "conv2", "pool2", "norm2", "conv3", "pool3", "norm3"]
    head = ["mean", "maximum", "features", "dropout1", "dense1", "dropout2"]
    names = ["image", "normalise", *blocks, *head, *TAIL]
    assert [layer.name for layer in cnn.layers] == names


def test_build_cnn_normalises_0_255_to_plus_minus_one(cnn):
    pixels = np.full((1, 16, 24, 3), [0, 127.5, 255], dtype="float32")
    normalised = cnn.get_layer("normalise")(pixels)
    np.testing.assert_allclose(normalised[0, 0, 0], [-1, 0, 1], atol=1e-6)


def test_build_cnn_takes_uint8_and_float_alike(cnn, images):
    np.testing.assert_array_equal(predict(cnn, images), predict(cnn, images.astype("float32")))


def test_build_cnn_ignores_the_global_policy(cnn, images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_tiny_cnn()
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(cnn.get_weights())
    np.testing.assert_array_equal(predict(model, images), predict(cnn, images))


@pytest.mark.parametrize("size", [16, (16,), (16, 7), (16.5, 16), ("16", "16"), None])
def test_build_cnn_refuses_image_size(size):
    with pytest.raises(ValueError, match=r"`image_size` must be .* at least 8 pixels\. Received"):
        build_cnn(size)


def test_build_cnn_refuses_other_than_three_widths():
    with pytest.raises(ValueError, match="`widths` must be three"):
        build_cnn((16, 16), widths=(2, 3, 4, 5))


def test_models_are_found_by_name():
    assert {"cnn": build_cnn, "vgg16": build_vgg16} == MODELS


def test_tail_leaves_the_logit_alone_until_calibrated(cnn):
    kernel, bias = cnn.get_layer("calibration").get_weights()
    assert (kernel.item(), bias.item()) == (1, 0)


def test_tail_does_not_train_the_calibration(cnn):
    assert "calibration" not in list_trainable(cnn)


def test_tail_shows_a_calibration_set_after_the_first_call(images):
    model = build_tiny_cnn()
    model.predict(images, verbose=0)  # the graph is compiled with kernel 1 and bias 0
    model.get_layer("calibration").set_weights([np.array([[0.0]]), np.array([np.log(3)])])
    np.testing.assert_allclose(model.predict(images, verbose=0), 0.75, rtol=1e-6)


def test_build_vgg16_preprocesses_as_keras_does(vgg16, large_images):
    ours = predict(keras.Model(vgg16.input, vgg16.get_layer("normalise").output), large_images)
    keras_own = keras.applications.vgg16.preprocess_input(large_images.copy())
    np.testing.assert_allclose(ours, keras_own, atol=1e-5)


def test_build_vgg16_turns_a_pure_red_pixel_into_bgr(vgg16):
    pixels = np.tile(np.array([255, 0, 0], dtype="float32"), (1, 32, 32, 1))
    ours = predict(keras.Model(vgg16.input, vgg16.get_layer("normalise").output), pixels)
    blue, green, red = IMAGENET_MEAN_BGR
    np.testing.assert_allclose(ours[0, 0, 0], [-blue, -green, 255 - red], atol=1e-4)


def test_build_vgg16_loads_a_weights_file(vgg16, vgg16_source):
    for layer in [layer for layer in vgg16_source.layers if layer.weights]:
        for loaded, saved in zip(
            vgg16.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(loaded, saved)


def test_build_vgg16_loads_its_own_weights_file(vgg16, tmp_path):
    path = tmp_path / "own.weights.h5"
    vgg16.save_weights(path)
    loaded = build_vgg16((32, 32), weights=path).get_layer("block5_conv3").get_weights()
    np.testing.assert_array_equal(loaded[0], vgg16.get_layer("block5_conv3").get_weights()[0])


def test_build_vgg16_starts_frozen_with_pretrained_weights(vgg16):
    assert list_trainable(vgg16) == ["dense1", "logit"]


def test_build_vgg16_trains_all_layers_from_random_weights():
    model = build_vgg16((32, 32), weights=None)
    assert len(list_trainable(model)) == 13 + 2


def test_build_vgg16_refuses_weights_of_another_network(cnn, tmp_path, recwarn):
    path = tmp_path / "cnn.weights.h5"
    cnn.save_weights(path)
    with pytest.raises(ValueError, match=r"VGG16 without top\. Received: .*cnn\.weights\.h5"):
        build_vgg16((32, 32), weights=path)
    assert not [warning for warning in recwarn if warning.category is UserWarning]


def test_build_vgg16_refuses_a_file_that_lacks_a_block(vgg16_source, tmp_path):
    path = tmp_path / "shallow.weights.h5"
    shallow = keras.Model(vgg16_source.input, vgg16_source.get_layer("block2_pool").output)
    shallow.save_weights(path)
    with pytest.raises(ValueError, match=r"shallow\.weights\.h5"):
        build_vgg16((32, 32), weights=path)


def test_build_vgg16_refuses_a_corrupt_file_in_one_line(tmp_path):
    path = tmp_path / "corrupt.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"corrupt\.h5 \(.+\)") as caught:
        build_vgg16((32, 32), weights=path)
    assert "\n" not in str(caught.value)


def test_build_vgg16_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.h5"):
        build_vgg16((32, 32), weights=tmp_path / "missing.h5")


def test_build_vgg16_says_what_to_do_offline(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(ConnectionError, match=r"URL fetch failure.*`weights=None` works"):
        build_vgg16((32, 32))


def test_build_vgg16_refuses_less_than_32_pixels():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        build_vgg16((31, 32), weights=None)


@pytest.mark.parametrize("name", MODELS)
def test_models_survive_saving(name, cnn, vgg16, images, large_images, tmp_path):
    model, batch = {"cnn": (cnn, images), "vgg16": (vgg16, large_images)}[name]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_allclose(predict(loaded, batch), predict(model, batch), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_models_hold_no_code(name, cnn, vgg16):
    assert "Lambda" not in {"cnn": cnn, "vgg16": vgg16}[name].to_json()


def test_unfreeze_trains_from_the_block_on(vgg16):
    model = with_precision(vgg16, "float32")
    unfreeze(model, "block5")
    tuned = ["block5_conv1", "block5_conv2", "block5_conv3"]
    assert list_trainable(model) == [*tuned, "dense1", "logit"]


def test_unfreeze_leaves_batch_normalisation_frozen(cnn):
    model = with_precision(cnn, "float32")
    model.trainable = False
    unfreeze(model, "conv3")
    assert list_trainable(model) == ["conv3", "dense1", "logit"]


@pytest.mark.parametrize("block", ["block5", ""])
def test_unfreeze_lists_the_blocks(cnn, block):
    known = "conv1, conv2, norm2, conv3, norm3, dense1, logit. Received"
    with pytest.raises(ValueError, match=known):
        unfreeze(cnn, block)


@pytest.mark.parametrize("precision", POLICIES[1:])
def test_with_precision_keeps_both_ends_float32(precision):
    model = build_tiny_cnn(precision)
    float32 = [layer.name for layer in model.layers if layer.compute_dtype == "float32"]
    assert float32 == ["image", "normalise", *TAIL]


def test_with_precision_computes_the_middle_in_bfloat16(cnn):
    model = with_precision(cnn, "mixed_bfloat16")
    assert model.get_layer("conv3").output.dtype == "bfloat16"


def test_with_precision_returns_to_equal_predictions(cnn, images):
    there = with_precision(cnn, "mixed_bfloat16")
    back = with_precision(there, "float32")
    assert not np.array_equal(predict(there, images), predict(cnn, images))
    np.testing.assert_array_equal(predict(back, images), predict(cnn, images))


def test_with_precision_keeps_trainable_flags(cnn):
    model = with_precision(cnn, "float32")
    model.get_layer("conv2").trainable = False
    rebuilt = with_precision(model, "mixed_bfloat16")
    assert list_trainable(rebuilt) == list_trainable(model)


def test_with_precision_reaches_into_nested_models():
    base = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="inner")])
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Flatten()(base(image)))
    rebuilt = with_precision(model, "mixed_bfloat16")
    assert rebuilt.get_layer(base.name).get_layer("inner").compute_dtype == "bfloat16"


def test_with_precision_scales_the_loss_of_float16(cnn):
    model = with_precision(cnn, "mixed_float16")
    model.compile("adam", "binary_crossentropy")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_with_precision_refuses_other_names(cnn):
    with pytest.raises(ValueError, match="float32, mixed_bfloat16, mixed_float16"):
        with_precision(cnn, "bfloat16")
