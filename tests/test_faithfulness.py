"""Each verdict on a map that has the fault, made by a network built to have it."""

import gc
import os
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from bcnet.explain.faithfulness import VERDICTS, find_background, judge_heatmaps
from bcnet.explain.graph import find_layer
from bcnet.explain.heatmaps import METHODS, grad_cam
from bcnet.explain.randomise import (
    find_block,
    find_head,
    list_layers,
    randomise_layers,
    randomise_weights,
)
from bcnet.explain.sanity import measure_similarity, measure_stability, trace_cascade
from bcnet.models import build_cnn
from bcnet.models.averaging import average_members, list_turns

SIDE = 32


def build_detector(kernel, bias=0.0, *, units=1):
    """A network of one convolution whose mean is its logit: the map is what the kernel sees."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(1, kernel.shape[:2], padding="same", activation="relu", name="see")(image)
    x = layers.GlobalAveragePooling2D()(x)
    answer = layers.Dense(units, activation="sigmoid" if units == 1 else "softmax", name="answer")
    model = keras.Model(image, answer(x))
    model.get_layer("see").set_weights([kernel, np.full(1, bias)])
    kernel = np.array([[1.0]] if units == 1 else [[-1.0, 1.0]])
    model.get_layer("answer").set_weights([kernel, np.zeros(units)])
    return model


def see_colours(red, green, blue):
    return np.array([red, green, blue], float).reshape(1, 1, 3, 1)


def draw_nucleus(ground=(255, 255, 255), nucleus=(80, 30, 120)):
    """A round nucleus, off the middle, on a ground of one colour."""
    image = np.full((1, SIDE, SIDE, 3), ground, "uint8")
    down, across = np.indices((SIDE, SIDE))
    image[0, (down - 12) ** 2 + (across - 20) ** 2 < 36] = nucleus
    return image


def judge(model, images, **arguments):
    return judge_heatmaps(model, images, grad_cam(model, images), **arguments)


@pytest.fixture(scope="module")
def nucleus_detector():
    return build_detector(see_colours(-1, -1, -1), bias=600)  # what is darker than 200


# --- verdicts ---------------------------------------------------------------------------------


def test_judge_heatmaps_finds_nothing_wrong_with_a_map_of_the_nucleus(nucleus_detector):
    image = draw_nucleus()
    (verdict,) = judge(nucleus_detector, image, background=find_background(image, "tissue"))
    assert verdict.word == "ok"
    assert verdict.value > 0.9  # its stability


def test_judge_heatmaps_calls_blank_what_shows_no_evidence():
    model = build_detector(see_colours(0, 0, 0), bias=-1)
    assert judge(model, draw_nucleus()) == [("blank", 0)]


def test_judge_heatmaps_calls_blank_the_map_of_a_head_that_ignores_the_picture(nucleus_detector):
    model = keras.models.clone_model(nucleus_detector)
    model.set_weights(nucleus_detector.get_weights())
    model.get_layer("answer").set_weights([np.zeros((1, 1)), np.ones(1)])
    assert judge(model, draw_nucleus())[0].word == "blank"


@pytest.mark.parametrize("noise", [0, 1e-5])
def test_judge_heatmaps_calls_constant_what_is_the_same_everywhere(noise):
    model = build_detector(see_colours(noise, 0, 0), bias=1)
    (verdict,) = judge(model, draw_nucleus())
    assert verdict.word == "constant"
    assert verdict.value < 0.01


def test_judge_heatmaps_calls_border_what_only_padding_makes():
    image = keras.Input((SIDE, SIDE, 3))
    even = layers.Conv2D(1, 1, name="even")(image)
    seen = layers.Conv2D(1, 3, padding="same", activation="relu", name="see")(even)
    logit = layers.Dense(1)(layers.GlobalAveragePooling2D()(seen))
    model = keras.Model(image, logit)
    # 1 everywhere; then 9 less the sum of 3 × 3, which only falls short where zeros are padded
    weights = [np.zeros((1, 1, 3, 1)), [1], -np.ones((3, 3, 1, 1)), [9], [[1]], [0]]
    model.set_weights([np.array(weight) for weight in weights])
    assert judge(model, draw_nucleus()) == [("border", pytest.approx(1))]


def test_judge_heatmaps_calls_off_tissue_what_lies_on_glass():
    model = build_detector(see_colours(1, 1, 1), bias=-700)
    image = draw_nucleus(ground=(170, 90, 140))  # tissue
    image[:, 8:24, 2:12] = 245  # a hole in it
    (verdict,) = judge(model, image, background=find_background(image, "tissue"))
    assert verdict.word == "off-tissue"
    assert verdict.value > 0.5


def test_judge_heatmaps_without_background_calls_nothing_off_tissue():
    model = build_detector(see_colours(1, 1, 1), bias=-700)
    image = draw_nucleus(ground=(170, 90, 140))
    image[:, 8:24, 2:12] = 245
    assert judge(model, image)[0].word != "off-tissue"


def test_judge_heatmaps_calls_unstable_what_a_mirror_changes():
    model = build_detector(np.array([[-1, 1, 0]]).reshape(1, 3, 1, 1) * np.ones((1, 3, 3, 1)))
    image = draw_nucleus(ground=(0, 0, 0), nucleus=(200, 200, 200))
    (verdict,) = judge(model, image)  # edges that rise from left to right only
    assert verdict.word == "unstable"
    assert verdict.value < 0.5


def test_judge_heatmaps_calls_unstable_what_noise_changes():
    model = build_detector(see_colours(1, 1, 1), bias=-764)  # 765 is white: sees the last level
    (verdict,) = judge(model, draw_nucleus())
    assert verdict.word == "unstable"


def test_judge_heatmaps_calls_insensitive_what_no_weights_change(nucleus_detector, monkeypatch):
    def show_darkness(model, images, **_):  # of the picture, whatever the network
        return (255 - images[..., 1].astype("float32")) / 255

    monkeypatch.setitem(METHODS, "darkness", show_darkness)
    image = draw_nucleus()
    heatmap = show_darkness(None, image)
    assert judge_heatmaps(nucleus_detector, image, heatmap, method="darkness") == [
        ("insensitive", pytest.approx(1))
    ]


def test_judge_heatmaps_calls_insensitive_what_forgets_the_head_only(nucleus_detector, monkeypatch):
    def show_kernel(model, images, **_):  # asks the convolution, but not the answer
        see = find_layer(model, "see").get_weights()[0][0, 0, :, 0]
        return np.maximum(255 + images.astype("float32") @ (see / 3), 0) / 255

    monkeypatch.setitem(METHODS, "kernel", show_kernel)
    image = draw_nucleus()
    heatmap = show_kernel(nucleus_detector, image)
    (verdict,) = judge_heatmaps(nucleus_detector, image, heatmap, method="kernel")
    assert verdict.word == "insensitive"


def test_judge_heatmaps_looks_for_faults_in_the_order_of_the_words():
    model = build_detector(see_colours(1, 1, 1), bias=-764)  # unstable, and on glass
    image = draw_nucleus()
    (verdict,) = judge(model, image, background=find_background(image, "tissue"))
    assert verdict.word == "off-tissue"
    assert VERDICTS.index("off-tissue") < VERDICTS.index("unstable")


def test_judge_heatmaps_does_not_depend_on_the_other_pictures():
    model = build_cnn((SIDE, SIDE))
    images = np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3)).astype("uint8")
    images[:10] = draw_nucleus()
    heatmaps = grad_cam(model, images)
    together = judge_heatmaps(model, images, heatmaps)
    alone = [judge_heatmaps(model, images[i : i + 1], heatmaps[i : i + 1])[0] for i in (0, 20, 39)]
    for verdict, other in zip(alone, [together[i] for i in (0, 20, 39)], strict=True):
        assert verdict == (other.word, pytest.approx(other.value, abs=1e-4))


def nest(model):
    backbone = keras.Model(model.input, model.get_layer("norm3").output)
    pooled = layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), backbone, pooled, layers.Dense(2)])


FOREIGN = {
    "flat": lambda: build_cnn((SIDE, SIDE)),
    "nested, two logits": lambda: nest(build_cnn((SIDE, SIDE))),
    "two-unit softmax": lambda: build_detector(see_colours(-1, -1, -1), 600, units=2),
    "ensemble with turns": lambda: average_members(
        [build_cnn((SIDE, SIDE)), build_cnn((SIDE, SIDE))], list_turns((SIDE, SIDE), "radiology")
    ),
    "all convolutions": lambda: keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(1, 3, name="see"),
            layers.GlobalAveragePooling2D(),
        ]
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_judge_heatmaps_judges_every_kind_of_model(kind):
    keras.utils.set_random_seed(3)
    model, images = FOREIGN[kind](), np.repeat(draw_nucleus(), 2, axis=0)
    before = model.get_weights()
    verdicts = judge(model, images)
    assert {verdict.word for verdict in verdicts} <= set(VERDICTS)
    assert np.isfinite([verdict.value for verdict in verdicts]).all()
    for weight, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_judge_heatmaps_judges_a_model_without_convolutions():
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, layers.Dense(1)(layers.Flatten()(image)))
    images = draw_nucleus()
    heatmaps = METHODS["occlusion"](model, images)
    (verdict,) = judge_heatmaps(model, images, heatmaps, method="occlusion")
    assert verdict.word in VERDICTS


def test_judge_heatmaps_refuses_an_unknown_method(nucleus_detector):
    with pytest.raises(ValueError, match="`method` must be one of grad_cam"):
        judge(nucleus_detector, draw_nucleus(), method="tea_leaves")


@pytest.mark.parametrize(
    ("heatmaps", "background", "message"),
    [
        (np.ones((1, 8, 8)), None, r"`heatmaps` must be \(n, height, width\) as `images`"),
        (np.full((1, SIDE, SIDE), np.nan), None, "`heatmaps` must be at least 0 and not NaN"),
        (np.ones((1, SIDE, SIDE)), np.ones((SIDE, SIDE)), "`background` must have the shape"),
    ],
)
def test_judge_heatmaps_refuses(nucleus_detector, heatmaps, background, message):
    with pytest.raises(ValueError, match=message):
        judge_heatmaps(nucleus_detector, draw_nucleus(), heatmaps, background=background)


def test_judge_heatmaps_finds_no_map_of_the_shipped_network_insensitive():
    data = os.environ.get("BCNET_TEST_DATA")
    if not data:
        pytest.skip("BCNET_TEST_DATA is not set")
    from bcnet.classifier import Classifier
    from bcnet.readers import read_image

    model = Classifier.load("idc").model
    paths = sorted(Path(data, "idc", "malignant").glob("*.png"))
    pictures = [read_image(path) for path in paths]
    images = np.stack([image for image in pictures if image.shape == (50, 50, 3)][:32])
    words = [verdict.word for verdict in judge(model, images)]
    assert "insensitive" not in words
    assert words.count("ok") > len(words) / 2


# --- stability, similarity, cascade -----------------------------------------------------------


def test_measure_stability_of_the_picture_itself_is_high():
    images = draw_nucleus()
    found = measure_stability(lambda x: x[..., 0], images, images[..., 0])
    assert 0.99 < found[0] < 1


def test_measure_stability_takes_the_smaller_of_noise_and_mirror():
    images = draw_nucleus()

    def see_left_edges(x):
        return np.maximum(np.diff(x[..., 0].astype(float), axis=2, append=255), 0)

    still = measure_stability(see_left_edges, images, see_left_edges(images))
    assert still[0] < 0.2


@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_measure_stability_makes_noise_by_the_range_of_the_pictures(scale):
    shown = []
    images = draw_nucleus().astype("float32") * scale
    measure_stability(lambda x: shown.append(x) or x[..., 0], images, images[..., 0])
    noise = (shown[0] - images)[(images > images.min()) & (images < images.max())]
    np.testing.assert_allclose(noise.std(), 0.02 * (255 - 30) * scale, rtol=0.2)
    assert images.min() <= shown[0].min() < shown[0].max() <= images.max()


def test_measure_stability_gives_every_picture_the_same_noise():
    shown = []
    images = np.repeat(draw_nucleus(), 2, axis=0)
    measure_stability(lambda x: shown.append(x) or x[..., 0], images, images[..., 0])
    np.testing.assert_array_equal(shown[0][0], shown[0][1])


def test_measure_stability_keeps_whole_numbers_whole():
    shown = []
    images = draw_nucleus()
    measure_stability(lambda x: shown.append(x) or x[..., 0], images, images[..., 0])
    assert [x.dtype for x in shown] == [np.uint8] * 2
    assert (shown[0] != images).any()


@pytest.mark.parametrize("blank", ["benign", "malignant"])
def test_measure_similarity_takes_the_class_that_differs_more(blank):
    maps = draw_nucleus()[..., 0].astype(float)
    found = measure_similarity(
        lambda _, class_name: 0 * maps if class_name == blank else maps, maps, maps
    )
    np.testing.assert_allclose(found, [0])


def test_measure_similarity_asks_the_other_class_only_where_one_is_not_enough():
    images = np.concatenate([draw_nucleus(), draw_nucleus()])
    maps, asked = images[..., 0].astype(float), []

    def explain(images, class_name):
        asked.append((class_name, len(images)))
        return maps[: len(images)] * np.array([1, -1])[: len(images), None, None]

    found = measure_similarity(explain, images, maps, enough=0.7)
    np.testing.assert_allclose(found, [1, -1])
    assert asked == [("benign", 2), ("malignant", 1)]


def test_trace_cascade_forgets_from_the_answer_down():
    model = build_cnn((SIDE, SIDE))
    asked = []

    def explain(network, images):
        own = [layer for layer in list_layers(network) if layer not in known and layer.weights]
        asked.append([layer.name for layer in own])
        return images[..., 0]

    known = list_layers(model)
    images = draw_nucleus()
    cascade = trace_cascade(explain, model, images, images[..., 0], steps=3)
    np.testing.assert_allclose(cascade, [[1, 1, 1]])
    assert asked == [
        ["logit", "calibration"],
        ["conv3", "dense1", "logit", "calibration"],
        ["conv1", "conv2", "conv3", "dense1", "logit", "calibration"],
    ]


# --- random networks --------------------------------------------------------------------------


def test_randomise_weights_keeps_sizes_and_the_members_of_vectors():
    rng = np.random.default_rng(0)
    kernel, bias, scalar = randomise_weights([np.full((300, 100), 3.0), np.arange(9), 5], rng)
    np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 3], atol=0.1)
    assert list(bias) != sorted(bias) == list(range(9))
    assert scalar == 5


def test_randomise_layers_is_seeded_and_made_once():
    model = build_cnn((SIDE, SIDE))
    first, again, other = (randomise_layers(model, find_head(model), seed=i) for i in (0, 0, 1))
    kernels = [network.get_layer("logit").get_weights()[0] for network in (first, other)]
    assert first is again
    assert (kernels[0] != kernels[1]).all()


def test_randomise_layers_sees_later_training():
    model = build_cnn((SIDE, SIDE))
    network = randomise_layers(model, find_head(model))
    model.get_layer("conv1").set_weights([np.ones((3, 3, 3, 16)), np.ones(16)])
    assert (network.get_layer("conv1").get_weights()[0] == 1).all()


def test_randomise_layers_is_dropped_with_its_model():
    model = build_cnn((SIDE, SIDE))
    network = weakref.ref(randomise_layers(model, find_head(model)))
    del model
    for _ in range(3):  # the model, what was kept for it, and the rings within that
        gc.collect()
    assert network() is None


def test_find_head_and_block_look_into_nested_members():
    members = [build_cnn((SIDE, SIDE)), build_cnn((SIDE, SIDE))]
    pair = average_members(members)
    names = [sorted(layer.name for layer in find(pair)) for find in (find_head, find_block)]
    assert names[0] == [
        "calibration",
        "member1_dense1",
        "member1_logit",
        "member2_dense1",
        "member2_logit",
    ]
    assert names[1] == ["member1_conv3", "member2_conv3"]


def test_find_block_of_an_activation_is_the_last_convolution():
    model = build_cnn((SIDE, SIDE))
    assert [layer.name for layer in find_block(model, "pool2")] == ["conv3"]
    assert [layer.name for layer in find_block(model, "conv1")] == ["conv1"]


# --- background -------------------------------------------------------------------------------


def test_find_background_of_tissue_is_glass_at_a_distance_from_it():
    image = np.full((1, 64, 64, 3), (235, 230, 238), "uint8")
    image[:, :, :32] = (200, 120, 170)
    found = find_background(image, "tissue")[0]
    assert not found[:, :34].any()
    assert found[:, 37:].all()


@pytest.mark.parametrize("colour", [(230, 190, 215), (150, 150, 150)])
def test_find_background_takes_pale_and_grey_tissue_for_tissue(colour):
    assert not find_background(np.full((1, 64, 64, 3), colour, "uint8"), "tissue").any()


def test_find_background_of_radiology_is_black_that_reaches_the_edge():
    image = np.full((1, 64, 64, 3), 90, "uint8")
    image[:, :16] = 2
    image[:, 30:50, 20:40] = 0  # a cyst
    found = find_background(image, "radiology")[0]
    assert found[:12].all()
    assert not found[16:].any()


def test_find_background_spares_the_nuclei_of_the_built_in_pictures():
    from bcnet.data.simulate import LABORATORIES, draw_field
    from bcnet.data.wisconsin import load_wisconsin

    row, rng = load_wisconsin().loc[0], np.random.default_rng(0)
    for laboratory in LABORATORIES:
        image, mask = draw_field(row, laboratory, image_size=128, rng=rng)
        found = find_background(image[None], "tissue")[0]
        assert not (found & (mask > 0)).any()
        assert found.any()


@pytest.mark.parametrize(
    ("images", "modality", "message"),
    [
        (np.zeros((1, 8, 8, 3), "uint8"), "slide", "`modality` must be one of"),
        (np.zeros((1, 8, 8, 3)), "tissue", "`images` must be uint8"),
        (np.zeros((8, 8, 3), "uint8"), "tissue", "`images` must be uint8"),
    ],
)
def test_find_background_refuses(images, modality, message):
    with pytest.raises(ValueError, match=message):
        find_background(images, modality)
