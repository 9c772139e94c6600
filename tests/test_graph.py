"""Looking into Keras models of every make: nested, sequential, one unit or two."""

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bcnet.explain.graph import (
    compile_features,
    compile_pass,
    find_explained_layers,
    find_last_convolution,
    find_last_convolutions,
    find_layer,
)
from bcnet.explain.heatmaps import METHODS, explain_batch
from bcnet.models import (
    average_members,
    build_cnn,
    build_densenet121,
    build_mobilenet,
    build_resnet50,
    build_vgg16,
    list_turns,
    with_precision,
)

SIZE = (8, 8, 3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 1, (3, *SIZE)).astype("float32")


def build_backbone(name="backbone"):
    image = keras.Input(SIZE)
    x = layers.Conv2D(3, 3, activation="relu", name="first")(image)
    x = layers.BatchNormalization()(x)
    return keras.Model(image, layers.Conv2D(4, 3, name="last")(x), name=name)


def build_model(backbone, *, units=1, activation="sigmoid"):
    image = keras.Input(SIZE, name="image")
    x = layers.GlobalAveragePooling2D()(backbone(image))
    return keras.Model(image, layers.Dense(units, activation=activation, name="head")(x))


def show_score(score, activations, _):
    """A map that shows the score in every cell."""
    return tf.zeros_like(activations[0][..., 0]) + score[:, None, None]


def read_scores(model, images, *, positive_unit=1, sign=1.0):
    run = compile_pass(model, show_score, layers=[find_layer(model)], positive_unit=positive_unit)
    return run(images, sign)[1][:, 0, 0].numpy()


def test_find_last_convolution_looks_into_nested_models():
    model = keras.Sequential([keras.Input(SIZE), build_model(build_backbone())])
    assert find_last_convolution(model).name == "last"


def test_find_last_convolution_passes_over_single_cells():
    image = keras.Input(SIZE)
    x = layers.Conv2D(2, 3, name="places")(image)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Flatten()(layers.Conv2D(1, 1, name="no_places")(x))
    assert find_last_convolution(keras.Model(image, x)).name == "places"


def test_find_last_convolution_refuses_a_model_without():
    image = keras.Input(SIZE)
    model = keras.Model(image, layers.Dense(1)(layers.Flatten()(image)))
    with pytest.raises(ValueError, match="`model` must have a convolution"):
        find_last_convolution(model)


def test_find_layer_takes_a_name_inside_a_nested_model():
    backbone = build_backbone()
    assert find_layer(build_model(backbone), "first") is backbone.get_layer("first")


@pytest.mark.parametrize("layer", ["frist", "head"])
def test_find_layer_lists_the_layers_with_maps(layer):
    with pytest.raises(ValueError, match=f"convolutions first, last. Received: '{layer}'"):
        find_layer(build_model(build_backbone()), layer)


def test_find_layer_refuses_a_subclassed_model():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"functional, or sequential and built.*Subclassed"):
        find_layer(Subclassed())


def test_find_layer_refuses_two_inputs():
    inputs = [keras.Input(SIZE), keras.Input(SIZE)]
    with pytest.raises(ValueError, match=r"one input and one output\. Received: 2 and 1"):
        find_layer(keras.Model(inputs, layers.Add()(inputs)))


def test_compile_pass_predicts_what_the_nested_model_predicts(images):
    model = build_model(build_backbone())
    predictions, _ = compile_pass(model, show_score, layers=[find_layer(model)])(images, 1.0)
    np.testing.assert_allclose(predictions, model.predict(images, verbose=0), rtol=1e-6)


def test_compile_pass_gives_the_activations_of_the_layer(images):
    backbone = build_backbone()
    model = build_model(backbone)
    run = compile_pass(
        model, lambda _, x, join: join(x)[..., 1], layers=[backbone.get_layer("last")]
    )
    np.testing.assert_allclose(run(images, 1.0)[1], backbone(images)[..., 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_compile_pass_reads_the_logit_of_one_unit(images, activation):
    model = build_model(build_backbone(), activation=activation)
    outputs = model.predict(images, verbose=0)[:, 0].astype("float64")
    logits = outputs if activation is None else np.log(outputs / (1 - outputs))
    np.testing.assert_allclose(read_scores(model, images), logits, rtol=1e-3, atol=1e-5)


def test_compile_pass_reads_a_saturated_sigmoid(images):
    model = build_model(build_backbone())
    model.get_layer("head").set_weights([np.zeros((4, 1)), np.array([200.0])])
    np.testing.assert_array_equal(read_scores(model, images), [200, 200, 200])


@pytest.mark.parametrize(("positive_unit", "expected"), [(1, 3.0), (0, -3.0)])
def test_compile_pass_subtracts_the_logits_of_two_units(images, positive_unit, expected):
    model = build_model(build_backbone(), units=2, activation="softmax")
    model.get_layer("head").set_weights([np.zeros((4, 2)), np.array([2.0, 5.0])])
    scores = read_scores(model, images, positive_unit=positive_unit)
    np.testing.assert_array_equal(scores, [expected] * 3)


def test_compile_pass_turns_one_unit_that_stands_for_benign(images):
    model = build_model(build_backbone())
    as_malignant = read_scores(model, images)
    np.testing.assert_array_equal(read_scores(model, images, positive_unit=0), -as_malignant)


def test_compile_pass_turns_the_score_with_the_sign(images):
    model = build_model(build_backbone())
    np.testing.assert_array_equal(
        read_scores(model, images, sign=-1.0), -read_scores(model, images)
    )


def test_compile_pass_reads_the_logit_before_its_calibration(images):
    image = keras.Input(SIZE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(image))
    x = layers.Dense(1, name="logit", kernel_initializer="zeros", bias_initializer="ones")(x)
    x = layers.Dense(1, name="calibration", bias_initializer="ones")(x)
    model = keras.Model(image, layers.Activation("sigmoid", name="probability")(x))
    np.testing.assert_array_equal(read_scores(model, images), [1, 1, 1])


def test_compile_pass_reads_what_stands_above_nested_logits(images):
    members = [build_cnn((8, 8), widths=(2, 3, 4), dense=5) for _ in range(2)]
    members[1].name = "other"
    image = keras.Input(SIZE)
    mean = keras.Model(image, layers.Average()([member(image) for member in members]))
    outputs = mean.predict(images, verbose=0)[:, 0]  # taken for logits: averaged probabilities
    run = compile_pass(mean, lambda score, *_: score)
    np.testing.assert_allclose(run(images, 1.0)[1], outputs, rtol=1e-5)


def test_compile_pass_refuses_three_units():
    model = build_model(build_backbone(), units=3)
    with pytest.raises(ValueError, match=r"one unit or two\. Received"):
        compile_pass(model, show_score, layers=[find_layer(model)])


def test_compile_pass_compiles_once(images):
    model = build_model(build_backbone())
    layers = [find_layer(model)]
    first = compile_pass(model, show_score, layers=layers)
    assert compile_pass(model, show_score, layers=layers) is first


def test_compile_pass_sees_later_training(images):
    model = build_model(build_backbone())
    read_scores(model, images)
    model.get_layer("head").set_weights([np.zeros((4, 1)), np.array([7.0])])
    np.testing.assert_array_equal(read_scores(model, images), [7, 7, 7])


def test_compile_pass_leaves_the_model_as_it_was(images, tmp_path):
    model = build_model(build_backbone())
    before, config = model.predict(images, verbose=0), model.get_config()
    read_scores(model, images)
    assert model.get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), before)


def test_compile_pass_lets_the_model_go(images):
    model = build_model(build_backbone())
    read_scores(model, images)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_compile_pass_gives_two_threads_the_same_maps(images):
    model = build_model(build_backbone())
    scores = []
    threads = [
        threading.Thread(target=lambda: scores.append(read_scores(model, images))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = read_scores(model, images)
    np.testing.assert_array_equal(scores, [expected] * 4)


@pytest.mark.parametrize("nested", [False, True])
def test_compile_features_gives_what_the_head_sees(images, nested):
    model = build_model(build_backbone())
    expected = keras.Model(model.input, model.get_layer("head").input)(images)
    asked = keras.Sequential([keras.Input(SIZE), model]) if nested else model
    np.testing.assert_allclose(compile_features(asked)(images), expected, rtol=1e-5, atol=1e-6)


def test_compile_features_passes_over_the_calibration(images):
    model = build_cnn((8, 8), widths=(2, 3, 4), dense=5)
    assert compile_features(model)(images).shape == (3, 5)


def test_compile_features_lays_members_side_by_side(images):
    members = [build_cnn((8, 8), widths=(2, 3, 4), dense=width) for width in (5, 6)]
    features = compile_features(average_members(members))(images).numpy()
    expected = np.concatenate([compile_features(member)(images) for member in members], axis=-1)
    np.testing.assert_allclose(np.sort(features), np.sort(expected), rtol=1e-5, atol=1e-6)


def test_compile_features_averages_over_turns(images):
    model = build_cnn((8, 8), widths=(2, 3, 4), dense=5)
    features = compile_features(model)
    expected = (features(images) + features(images[:, :, ::-1])) / 2
    turned = average_members([model], list_turns((8, 8), "radiology"))
    np.testing.assert_allclose(compile_features(turned)(images), expected, rtol=1e-5, atol=1e-6)


def test_compile_features_refuses_a_model_without_a_dense_layer():
    image = keras.Input(SIZE)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(1, 3)(image)))
    with pytest.raises(ValueError, match="`model` must have a dense layer"):
        compile_features(model)


def test_find_last_convolutions_finds_each_member():
    pair = average_members([build_cnn((8, 8), widths=(2, 3, 4)) for _ in range(2)])
    names = {layer.name for layer in find_last_convolutions(pair)}
    assert names == {"member1_conv3", "member2_conv3"}


def test_find_last_convolutions_passes_over_a_shortcut():
    image = keras.Input(SIZE)
    x = layers.Conv2D(3, 3, padding="same", name="first")(image)
    x = layers.Add()([x, layers.Conv2D(3, 3, padding="same", name="second")(x)])
    model = keras.Model(image, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
    assert [layer.name for layer in find_last_convolutions(model)] == ["second"]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (build_cnn, "conv3"),  # activated by itself; the normalisation behind it is another matter
        (build_vgg16, "block5_conv3"),
        (build_mobilenet, "conv_pw_13_relu"),
        (build_resnet50, "conv5_block3_out"),  # behind the shortcut
        (build_densenet121, "relu"),  # behind the concatenation with earlier features
    ],
)
def test_find_explained_layers_finds_the_activation(build, expected):
    model = build((64, 64)) if build is build_cnn else build((64, 64), weights=None)
    assert [layer.name for layer in find_explained_layers(model)] == [expected]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda x: x, "conv"),
        (lambda x: layers.ReLU(name="relu")(layers.MaxPooling2D()(x)), "conv"),  # other places
        (lambda x: layers.ReLU(name="relu")(layers.BatchNormalization()(x)), "relu"),
        (lambda x: layers.Add()([layers.ReLU(name="one")(x), layers.ReLU(name="two")(x)]), "conv"),
    ],
)
def test_find_explained_layers_stops_where_places_change_or_ways_part(end, expected):
    image = keras.Input(SIZE)
    x = end(layers.Conv2D(3, 3, name="conv")(image))
    model = keras.Model(image, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
    assert [layer.name for layer in find_explained_layers(model)] == [expected]


def test_find_last_convolutions_takes_one_of_unlike_branches():
    image = keras.Input(SIZE)
    wide, narrow = (layers.Conv2D(n, 3, name=f"of_{n}")(image) for n in (4, 2))
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()([wide, narrow]))
    model = keras.Model(image, layers.Dense(1)(x))
    assert [layer.name for layer in find_last_convolutions(model)] == ["of_2"]


def build_sequential(*, units=1, activation="sigmoid", dtype="float32"):
    backbone = build_backbone()
    return keras.Sequential(
        [
            keras.Input(SIZE, dtype=dtype),
            layers.RandomFlip(),
            layers.Rescaling(1 / 255),
            backbone,
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(units, activation=activation),
        ]
    )


def build_deeply_nested():
    inner = keras.Sequential([keras.Input(SIZE), build_backbone("inner")], name="middle")
    return build_model(inner)


def build_open_sized():
    image = keras.Input((None, None, 3))
    x = layers.GlobalMaxPooling2D()(layers.SeparableConv2D(4, 3)(image))
    return keras.Model(image, layers.Dense(1)(x))


FOREIGN = {
    "sequential": build_sequential,
    "sequential_softmax": lambda: build_sequential(units=2, activation="softmax"),
    "sequential_logits": lambda: build_sequential(activation=None),
    "sequential_uint8": lambda: build_sequential(dtype="uint8"),
    "deeply_nested": build_deeply_nested,
    "open_sized": build_open_sized,
    "activation_layer": lambda: keras.Sequential(
        [build_sequential(activation=None), layers.Activation("sigmoid")]
    ),
    "mixed": lambda: with_precision(build_model(build_backbone()), "mixed_bfloat16"),
}


@pytest.fixture(scope="module", params=FOREIGN)
def foreign(request, tmp_path_factory):
    """A model of somebody else's making, as it comes out of his file."""
    path = tmp_path_factory.mktemp("foreign") / f"{request.param}.keras"
    keras.utils.set_random_seed(3)
    FOREIGN[request.param]().save(path)
    return keras.models.load_model(path, compile=False)


@pytest.fixture
def whole_numbers():
    return np.random.default_rng(1).integers(0, 256, (3, *SIZE)).astype("uint8")


@pytest.mark.parametrize("method", METHODS)
def test_methods_explain_foreign_models(foreign, whole_numbers, method):
    predictions, maps = explain_batch(foreign, whole_numbers, method=method)
    expected = foreign.predict(whole_numbers, verbose=0)
    tolerance = 1e-2 if "bfloat16" in str(foreign.dtype_policy) else 1e-5
    np.testing.assert_allclose(predictions, expected, rtol=tolerance, atol=tolerance)
    assert maps.shape == (3, 8, 8)
    assert np.isfinite(maps).all()
    assert maps.max() == 1
