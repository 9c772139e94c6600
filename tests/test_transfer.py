"""Weights from one network into another, a network cut in two, and several in one graph."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from bcnet.config import STAIN_NORMALISATIONS
from bcnet.explain.heatmaps import class_activation
from bcnet.models import (
    average_members,
    build_cnn,
    build_efficientnet_b0,
    build_vgg16,
    carry_weights,
    list_turns,
    split_head,
    with_precision,
)
from bcnet.stains import normalise_stain

TISSUE = list_turns((16, 16), "tissue")


def build_tiny_cnn(seed=0, image_size=(16, 16), dense=5):
    keras.utils.set_random_seed(seed)
    return build_cnn(image_size, widths=(2, 3, 4), dense=dense)


@pytest.fixture(scope="module")
def members():
    """Two networks, the first of them calibrated."""
    first, second = build_tiny_cnn(0), build_tiny_cnn(1)
    first.get_layer("calibration").set_weights([np.array([[3.0]]), np.array([1.0])])
    return first, second


@pytest.fixture(scope="module")
def ensemble(members):
    return average_members(members, TISSUE)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype("float32")


def predict(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def cut_at(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)


@pytest.mark.parametrize(
    ("image_size", "modality", "count"),
    [((28, 28), "tissue", 8), ((28, 30), "tissue", 4), ((28, 28), "radiology", 2)],
)
def test_list_turns_gives_each_symmetry_once_and_the_picture_itself_last(
    image_size, modality, count
):
    turns = list_turns(image_size, modality)
    assert len(set(turns)) == len(turns) == count
    assert turns[-1] == (False, False, False)


def test_average_members_averages_logits_worked_by_hand(images):
    members = [build_tiny_cnn(), build_tiny_cnn()]
    for member, bias in zip(members, (1.0, 5.0), strict=True):
        kernel, _ = member.get_layer("logit").get_weights()
        member.get_layer("logit").set_weights([0 * kernel, np.array([bias])])
    mean = average_members(members)
    np.testing.assert_allclose(predict(cut_at(mean, "logit"), images), 3.0)
    np.testing.assert_allclose(predict(mean, images), 1 / (1 + np.exp(-3)), rtol=1e-6)


def test_average_members_leaves_their_calibration_out(members, images):
    logits = [predict(cut_at(member, "logit"), images) for member in members]
    mean = average_members(members)
    expected = 1 / (1 + np.exp(-np.mean(logits, axis=0)))
    np.testing.assert_allclose(predict(mean, images), expected, atol=1e-6)


def test_average_members_answers_alike_in_every_symmetry(ensemble, images):
    expected = predict(ensemble, images)
    for turned in (images, images.transpose(0, 2, 1, 3)):
        for down, across in itertools.product((1, -1), repeat=2):
            view = turned[:, ::down, ::across]
            np.testing.assert_allclose(predict(ensemble, view), expected, atol=1e-6)


def test_average_members_tells_up_from_down_in_radiology(members, images):
    model = average_members(members[:1], list_turns((16, 16), "radiology"))
    expected = predict(model, images)
    np.testing.assert_allclose(predict(model, images[:, :, ::-1]), expected, atol=1e-6)
    assert np.abs(predict(model, images[:, ::-1]) - expected).max() > 1e-4


def test_average_members_survives_saving(ensemble, images, tmp_path):
    ensemble.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_array_equal(predict(loaded, images), predict(ensemble, images))


def test_average_members_survives_a_change_of_precision(ensemble, images):
    there = with_precision(ensemble, "mixed_bfloat16")
    assert there.get_layer("member2").get_layer("member2_conv1").compute_dtype == "bfloat16"
    assert {there.get_layer(name).compute_dtype for name in ("logit", "probability")} == {"float32"}
    back = with_precision(there, "float32")
    np.testing.assert_array_equal(predict(back, images), predict(ensemble, images))


def test_average_members_can_be_explained(ensemble, images):
    maps = class_activation(ensemble, images)
    assert maps.shape == (3, 4, 4)
    assert maps.max() > 0


def test_average_members_gives_one_member_back_as_it_is(members):
    assert average_members(members[:1]) is members[0]


def test_average_members_changes_none_of_them(members, images):
    before = predict(members[0], images)
    average_members(members, TISSUE)
    np.testing.assert_array_equal(predict(members[0], images), before)
    assert members[0].layers[1].name == "normalise"


def test_average_members_refuses_members_of_two_sizes(members):
    with pytest.raises(ValueError, match=r"one input shape\. Received: .*16, 16.*24, 24"):
        average_members([members[0], build_tiny_cnn(image_size=(24, 24))])


@pytest.mark.parametrize(
    ("build", "end"), [(build_vgg16, "block1_pool"), (build_efficientnet_b0, "block1a_bn")]
)
def test_average_members_carries_what_a_backbone_does_with_its_pixels(build, end):
    model = build((32, 32), weights=None, end=end)
    picture = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    mean = average_members([model, model])
    np.testing.assert_allclose(predict(mean, picture), predict(model, picture), atol=1e-6)


@pytest.mark.parametrize("method", STAIN_NORMALISATIONS)
def test_average_members_carries_stain_normalisation(method, images):
    inner = build_tiny_cnn()
    image = keras.Input((16, 16, 3), name="stained")
    stained = keras.Model(image, inner.call(normalise_stain(image, method)))
    model = with_precision(stained, "float32")
    mean = average_members([model, model])
    np.testing.assert_allclose(predict(mean, images), predict(model, images), atol=1e-6)


def test_carry_weights_takes_over_all_but_the_calibration(members):
    source, target = members[0], build_tiny_cnn(2, image_size=(24, 32))
    carried = carry_weights(source, target)
    names = ["conv1", "conv2", "norm2", "conv3", "norm3", "dense1", "logit"]
    assert (carried.taken, carried.left) == (names, [])
    for name in names:
        for ours, theirs in zip(
            target.get_layer(name).get_weights(), source.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    kernel, bias = target.get_layer("calibration").get_weights()
    assert (kernel.item(), bias.item()) == (1, 0)


def test_carry_weights_leaves_what_has_other_shapes(members):
    target = build_tiny_cnn(2, dense=7)
    own = target.get_layer("dense1").get_weights()[0]
    carried = carry_weights(members[0], target)
    assert carried.left == ["dense1", "logit"]
    assert str(carried) == "weights taken over in 5 of 7 layers, not in dense1, logit"
    np.testing.assert_array_equal(target.get_layer("dense1").get_weights()[0], own)


@pytest.mark.parametrize("turns", [TISSUE, [(False, False, False)]], ids=["turned", "plain"])
def test_carry_weights_takes_the_first_member_of_an_average(members, turns, images):
    target = build_tiny_cnn(2)
    carry_weights(average_members(members, turns), target)
    expected = predict(cut_at(members[0], "logit"), images)
    np.testing.assert_array_equal(predict(cut_at(target, "logit"), images), expected)


def test_carry_weights_refreshes_what_normalisation_computes_with():
    def build():
        return keras.Sequential([keras.Input((2, 2, 3)), layers.Normalization(name="standardise")])

    source, target = build(), build()
    source.layers[0].set_weights([np.full(3, 4.0), np.full(3, 9.0), np.array(1)])
    carry_weights(source, target)
    np.testing.assert_allclose(predict(target, np.full((1, 2, 2, 3), 10.0)), 2.0)  # (10 − 4) / √9


def test_carry_weights_refuses_a_network_of_which_nothing_fits(members):
    other = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 5)], name="other")
    with pytest.raises(ValueError, match="no layer of other fits cnn"):
        carry_weights(other, members[0])


def test_split_head_gives_in_two_steps_what_the_network_gives(members, images):
    body, head = split_head(members[0])
    assert (body.output_shape, head.input_shape) == ((None, 8), (None, 8))
    expected = predict(members[0], images)
    np.testing.assert_allclose(predict(head, predict(body, images)), expected, atol=1e-6)


def test_split_head_shares_its_weights_with_the_network():
    model = build_tiny_cnn()
    body, head = split_head(model)
    assert [id(weight) for weight in [*body.weights, *head.weights]] == list(map(id, model.weights))
