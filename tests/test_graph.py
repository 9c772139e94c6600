"""Looking into Keras models of every make: nested, sequential, one unit or two."""

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bcnet.explain.graph import compile_map, find_last_convolution, find_layer

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


def show_score(score, activations):
    """A map that shows the score in every cell."""
    return tf.zeros_like(activations[..., 0]) + score[:, None, None]


def read_scores(model, images, *, positive_unit=1, sign=1.0):
    run = compile_map(model, find_layer(model), show_score, positive_unit=positive_unit)
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


def test_compile_map_predicts_what_the_nested_model_predicts(images):
    model = build_model(build_backbone())
    predictions, _ = compile_map(model, find_layer(model), show_score)(images, 1.0)
    np.testing.assert_allclose(predictions, model.predict(images, verbose=0), rtol=1e-6)


def test_compile_map_gives_the_activations_of_the_layer(images):
    backbone = build_backbone()
    model = build_model(backbone)
    run = compile_map(model, backbone.get_layer("last"), lambda _, x: x[..., 1])
    np.testing.assert_allclose(run(images, 1.0)[1], backbone(images)[..., 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_compile_map_reads_the_logit_of_one_unit(images, activation):
    model = build_model(build_backbone(), activation=activation)
    outputs = model.predict(images, verbose=0)[:, 0].astype("float64")
    logits = outputs if activation is None else np.log(outputs / (1 - outputs))
    np.testing.assert_allclose(read_scores(model, images), logits, rtol=1e-3, atol=1e-5)


def test_compile_map_reads_a_saturated_sigmoid(images):
    model = build_model(build_backbone())
    model.get_layer("head").set_weights([np.zeros((4, 1)), np.array([200.0])])
    np.testing.assert_array_equal(read_scores(model, images), [200, 200, 200])


@pytest.mark.parametrize(("positive_unit", "expected"), [(1, 3.0), (0, -3.0)])
def test_compile_map_subtracts_the_logits_of_two_units(images, positive_unit, expected):
    model = build_model(build_backbone(), units=2, activation="softmax")
    model.get_layer("head").set_weights([np.zeros((4, 2)), np.array([2.0, 5.0])])
    scores = read_scores(model, images, positive_unit=positive_unit)
    np.testing.assert_array_equal(scores, [expected] * 3)


def test_compile_map_turns_one_unit_that_stands_for_benign(images):
    model = build_model(build_backbone())
    as_malignant = read_scores(model, images)
    np.testing.assert_array_equal(read_scores(model, images, positive_unit=0), -as_malignant)


def test_compile_map_turns_the_score_with_the_sign(images):
    model = build_model(build_backbone())
    np.testing.assert_array_equal(
        read_scores(model, images, sign=-1.0), -read_scores(model, images)
    )


def test_compile_map_reads_the_logit_before_its_calibration(images):
    image = keras.Input(SIZE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(image))
    x = layers.Dense(1, name="logit", kernel_initializer="zeros", bias_initializer="ones")(x)
    x = layers.Dense(1, name="calibration", bias_initializer="ones")(x)
    model = keras.Model(image, layers.Activation("sigmoid")(x))
    np.testing.assert_array_equal(read_scores(model, images), [1, 1, 1])


def test_compile_map_refuses_three_units():
    model = build_model(build_backbone(), units=3)
    with pytest.raises(ValueError, match=r"one unit or two\. Received"):
        compile_map(model, find_layer(model), show_score)


def test_compile_map_compiles_once(images):
    model = build_model(build_backbone())
    layer = find_layer(model)
    assert compile_map(model, layer, show_score) is compile_map(model, layer, show_score)


def test_compile_map_sees_later_training(images):
    model = build_model(build_backbone())
    read_scores(model, images)
    model.get_layer("head").set_weights([np.zeros((4, 1)), np.array([7.0])])
    np.testing.assert_array_equal(read_scores(model, images), [7, 7, 7])


def test_compile_map_leaves_the_model_as_it_was(images, tmp_path):
    model = build_model(build_backbone())
    before, config = model.predict(images, verbose=0), model.get_config()
    read_scores(model, images)
    assert model.get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), before)


def test_compile_map_lets_the_model_go(images):
    model = build_model(build_backbone())
    read_scores(model, images)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_compile_map_gives_two_threads_the_same_maps(images):
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
