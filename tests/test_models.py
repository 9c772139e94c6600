"""The small network, and what every network shares: precision, frozen layers, copied weights."""

import keras
import numpy as np
import pytest

from bcnet.models import POLICIES, build_cnn, copy_weights, find_block, unfreeze, with_precision

TAIL = ("logit", "calibration", "probability")


def build_tiny_cnn(precision="float32"):
    return build_cnn((16, 24), widths=(2, 3, 4), dense=5, precision=precision)


@pytest.fixture(scope="module")
def cnn():
    return build_tiny_cnn()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3)).astype("uint8")


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


def test_build_cnn_survives_saving(cnn, images, tmp_path):
    cnn.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(predict(loaded, images), predict(cnn, images))
    assert "Lambda" not in cnn.to_json()


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


def test_unfreeze_trains_from_the_block_on(cnn):
    model = with_precision(cnn, "float32")
    model.trainable = False
    unfreeze(model, "dense1")
    assert list_trainable(model) == ["dense1", "logit"]


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


def test_find_block_gives_the_first_layer_of_the_block(cnn):
    assert cnn.layers[find_block(cnn, "pool")].name == "pool1"


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("block5_conv1", "block5"),
        ("conv5_block1_1_conv", "conv5"),
        ("conv_pw_13_bn", "conv_pw_13"),
        ("block_13_expand", "block_13"),
        ("block6a_expand_conv", "block6a"),
        ("stem_conv", "stem_conv"),
    ],
)
def test_find_block_tells_the_blocks_of_every_backbone(name, block):
    layer = keras.layers.Conv2D(1, 1, name=name)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    with pytest.raises(ValueError, match=f"`block` must be one of {block}. Received"):
        find_block(model, "nonsense")


def test_copy_weights_refreshes_what_normalisation_computes_with():
    source, target = (
        keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Normalization()]) for _ in range(2)
    )
    source.layers[0].set_weights([np.full(3, 4.0), np.full(3, 9.0), np.array(1)])
    copy_weights(source, target)
    np.testing.assert_allclose(predict(target, np.full((1, 2, 2, 3), 10.0)), 2.0)  # (10 − 4) / √9


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
