"""VGG16 and ResNet50 all the way: a weights file, two stages, a model file, an answer, a map."""

import logging
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from bcnet import Classifier, workflows
from bcnet.models import BACKBONES, MODELS
from bcnet.readers import read_image

SMALLEST = (32, 32)
# Let loose from near their ends: a few layers prove as much as half of the network, sooner.
NEAR_THE_END = {"vgg16": "block5_conv3", "resnet50": "conv5_block3_3_conv"}


@pytest.fixture(scope="module", params=NEAR_THE_END)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def weights_file(name, tmp_path_factory):
    """What Keras would download, with weights that nobody has trained."""
    path = tmp_path_factory.mktemp(name) / "notop.h5"
    keras.utils.set_random_seed(0)
    bare = getattr(keras.applications, BACKBONES[name].application)
    bare(include_top=False, weights=None, input_shape=(*SMALLEST, 3)).save(path)
    return path


@pytest.fixture(scope="module")
def trained(name, weights_file, simulated, quick_config, tmp_path_factory):
    """The file that one command writes."""
    path = tmp_path_factory.mktemp("models") / f"{name}.keras"
    config = replace(
        quick_config,
        model=name,
        weights=str(weights_file),
        image_size=SMALLEST,
        epochs=1,
        fine_tune_from=NEAR_THE_END[name],
        fine_tune_rate=1e-3,
        modality="radiology",  # one view of each picture instead of eight
    )
    workflows.train(simulated, path, config)
    return path


@pytest.fixture(scope="module")
def classifier(trained):
    return Classifier.load(trained)


@pytest.fixture(scope="module")
def untrained(name, weights_file):
    return MODELS[name](SMALLEST, weights=weights_file)


def test_training_has_two_stages(classifier):
    assert len(classifier.card["training"]["history"]["loss"]) == 2


def test_training_changes_what_is_let_loose_and_nothing_before(classifier, untrained, name):
    changed = {
        layer.name
        for layer in untrained.layers
        for ours in [classifier.model.get_layer(layer.name).get_weights()]
        if any(not np.array_equal(a, b) for a, b in zip(ours, layer.get_weights(), strict=True))
    }
    assert changed == {NEAR_THE_END[name], "logit"}


def test_training_leaves_batch_statistics_bit_equal(classifier, untrained):
    for layer in untrained.layers:
        if isinstance(layer, layers.BatchNormalization):
            trained = classifier.model.get_layer(layer.name)
            np.testing.assert_array_equal(trained.moving_mean, layer.moving_mean)
            np.testing.assert_array_equal(trained.moving_variance, layer.moving_variance)


def test_the_file_answers_and_explains(classifier, simulated):
    picture = simulated.table["path"][0]
    table = classifier.predict(picture)
    heatmap = classifier.explain(picture)
    assert table["status"].tolist() == ["ok"]
    assert heatmap.shape == read_image(picture).shape[:2]
    assert 0 <= heatmap.min() <= heatmap.max() <= 1


def test_the_file_is_where_another_training_starts(
    name, trained, simulated, quick_config, tmp_path, caplog
):
    config = replace(quick_config, model=name, initial_weights=str(trained), image_size=SMALLEST)
    with caplog.at_level(logging.INFO, logger="bcnet"):
        workflows.settle_config(simulated, config)
    layer_count = sum(bool(layer.weights) for layer in MODELS[name](SMALLEST, weights=None).layers)
    assert f"{trained}: weights taken over in {layer_count - 1} of" in caplog.text
