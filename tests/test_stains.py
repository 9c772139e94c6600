"""Stain normalisation: right where there are two stains, absent where it would do harm."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from bcnet import stains
from bcnet.explain.heatmaps import grad_cam
from bcnet.models import build_cnn, with_precision
from bcnet.readers import read_image
from bcnet.stains import check_normalised, normalise_stain

METHODS = ("macenko", "reinhard")
REAL = os.environ.get("BCNET_TEST_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="BCNET_TEST_DATA names no folder of pictures")

# Ruifrok & Johnston's haematoxylin, and an eosin redder than the reference: another laboratory.
OTHER_STAINS = np.array([[0.650, 0.704, 0.286], [0.12, 0.90, 0.42]])
OTHER_STAINS /= np.linalg.norm(OTHER_STAINS, axis=1, keepdims=True)

# A third, whose eosin absorbs more light in all than its haematoxylin.
THIRD_STAINS = np.array([[0.750, 0.620, 0.220], [0.35, 0.75, 0.56]])
THIRD_STAINS /= np.linalg.norm(THIRD_STAINS, axis=1, keepdims=True)

# Two shades of one stain, six degrees apart.
SHADES = np.array([[0.5626, 0.7201, 0.4062], [0.48, 0.75, 0.45]])
SHADES /= np.linalg.norm(SHADES, axis=1, keepdims=True)


def draw_amounts(seed=0, size=40):
    """Amounts of two stains, `(size * size, 2)`: some glass, some of each alone, most mixed."""
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(0.1, 1.0, (size * size, 2))
    kind = np.repeat(np.arange(16), size * size // 16)  # of structure, not of noise
    amounts[kind == 0] = 0
    amounts[np.isin(kind, (1, 2)), 1] = 0
    amounts[np.isin(kind, (3, 4)), 0] = 0
    return amounts


def stain(amounts, vectors):
    """Render amounts as float RGB in 0–255, `(1, size, size, 3)`."""
    size = int(len(amounts) ** 0.5)
    light = stains.GLASS * np.exp(-amounts @ vectors) - 1
    return np.clip(light, 0, 255).reshape(1, size, size, 3).astype("float32")


@pytest.fixture(scope="module")
def tissue():
    """Four pictures of another laboratory, uint8."""
    pictures = [stain(draw_amounts(seed) * [1.2, 0.9], OTHER_STAINS) for seed in range(4)]
    return np.concatenate(pictures).round().astype(np.uint8)


def normalise(pictures, method):
    return keras.ops.convert_to_numpy(normalise_stain(pictures, method))


def find_reference_picture(amounts):
    most = np.percentile(amounts, 99, axis=0)
    return stain(amounts * stains.REFERENCE_AMOUNTS / most, stains.REFERENCE_STAINS)


@pytest.mark.parametrize("laboratory", [OTHER_STAINS, THIRD_STAINS], ids=["other", "third"])
def test_macenko_brings_another_laboratory_to_the_reference(laboratory):
    amounts = draw_amounts() * [1.2, 0.9]
    normalised = normalise(stain(amounts, laboratory), "macenko")
    assert np.abs(normalised - find_reference_picture(amounts)).max() < 2


def test_macenko_leaves_the_reference_itself_where_it_is():
    reference = find_reference_picture(draw_amounts())
    assert np.abs(normalise(reference, "macenko") - reference).max() < 2


def test_macenko_does_not_depend_on_the_sign_of_eigenvectors(tissue, monkeypatch):
    expected = normalise(tissue, "macenko")
    eigh = keras.ops.linalg.eigh

    def negated(matrices):
        values, vectors = eigh(matrices)
        return values, -vectors

    monkeypatch.setattr(stains.ops.linalg, "eigh", negated)
    np.testing.assert_allclose(normalise(tissue, "macenko"), expected, atol=0.01)


def macenko_by_hand(picture):
    """Macenko 2009 for one picture, step by step, with NumPy's own routines."""
    density = -np.log((picture.reshape(-1, 3) + 1.0) / 240)
    tissue = density[density.mean(axis=1) > 0.15]
    _, axes = np.linalg.eigh(np.cov(tissue.T))
    plane = axes[:, [2, 1]] * np.sign(axes[:, [2, 1]].sum(axis=0))
    projected = tissue @ plane
    angles = np.percentile(np.arctan2(projected[:, 1], projected[:, 0]), [1, 99])
    found = plane @ [np.cos(angles), np.sin(angles)]
    found = found[:, np.argsort(-found[0])]
    amounts = np.linalg.lstsq(found, density.T)[0]
    scale = [1.9705, 1.0308] / np.percentile(amounts, 99, axis=1)
    reference = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
    light = 240 * np.exp(-reference @ (amounts * scale[:, None])) - 1
    return np.clip(light.T, 0, 255).reshape(picture.shape)


def test_macenko_equals_an_independent_implementation(tissue):
    expected = [macenko_by_hand(picture) for picture in tissue]
    assert np.abs(normalise(tissue, "macenko") - expected).max() < 1


def to_opponents(pictures):
    """Ruderman's l, alpha, beta, `(n, p, 3)`, as Reinhard 2001 writes them out."""
    red, green, blue = np.moveaxis(pictures.reshape(len(pictures), -1, 3) + 1.0, -1, 0)
    long = np.log(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    medium = np.log(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    alpha, beta = long + medium - 2 * short, long - medium
    luminance = long + medium + short
    return np.stack([luminance / 3**0.5, alpha / 6**0.5, beta / 2**0.5], axis=-1)


def reinhard_by_hand(picture):
    """Reinhard 2001 for one picture, with equations solved instead of inverted."""
    colours = to_opponents(picture[None])[0]
    standard = (colours - colours.mean(axis=0)) / colours.std(axis=0)
    changed = standard * [0.6135447, 0.10989545, 0.0286032] + [8.74108109, -0.12440419, 0.0444982]
    sums = changed * np.sqrt([3, 6, 2])
    cones = np.exp(np.linalg.solve([[1, 1, 1], [1, 1, -2], [1, -1, 0]], sums.T))
    to_cones = [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
    light = np.linalg.solve(to_cones, cones) - 1
    return np.clip(light.T, 0, 255).reshape(picture.shape)


def test_reinhard_equals_an_independent_implementation(tissue):
    expected = [reinhard_by_hand(picture) for picture in tissue]
    assert np.abs(normalise(tissue, "reinhard") - expected).max() < 0.1


def test_reinhard_gives_mean_and_deviation_of_the_reference():
    pale = stain(draw_amounts() * [0.6, 0.3], OTHER_STAINS)  # only its glass is clipped at white
    colours = to_opponents(normalise(pale, "reinhard"))[0]
    np.testing.assert_allclose(colours.mean(axis=0), stains.REFERENCE_MEAN, atol=0.05)
    np.testing.assert_allclose(colours.std(axis=0), stains.REFERENCE_DEVIATION, rtol=0.15)


HARMED = [
    *("white", "black", "flat purple", "grey", "primaries"),
    *("noise", "inverted", "one stain", "mostly glass"),
]


def plant_harm(kind, tissue):
    """Pictures that normalisation must not touch."""
    rng = np.random.default_rng(0)
    return {
        "white": np.full((1, 40, 40, 3), 255.0),
        "black": np.zeros((1, 40, 40, 3)),
        "flat purple": np.tile([150.0, 90.0, 160.0], (1, 40, 40, 1)),
        "grey": np.repeat(rng.uniform(0, 200, (1, 40, 40, 1)), 3, axis=-1),
        "primaries": 255.0 * rng.choice(np.eye(3), (1, 40, 40), p=[0.2, 0.79, 0.01]),
        "noise": rng.uniform(0, 255, (1, 40, 40, 3)),
        "inverted": 255.0 - tissue[:1],
        "one stain": stain(draw_amounts() * [1, 0], OTHER_STAINS).round(),
        "mostly glass": np.where(np.arange(40)[:, None, None] < 38, 245.0, tissue[:1]),
    }[kind]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", HARMED)
def test_normalise_stain_passes_unchanged_what_it_would_harm(kind, method, tissue):
    picture = plant_harm(kind, tissue).astype("float32")
    np.testing.assert_array_equal(normalise(picture, method), picture)


def test_macenko_passes_unchanged_two_shades_of_one_stain():
    picture = stain(draw_amounts() * [1.9, 1.9], SHADES)
    np.testing.assert_array_equal(normalise(picture, "macenko"), picture)


@pytest.mark.parametrize("limit", ["LEAST_SIMILARITY", "LEAST_CONTRAST"])
def test_normalise_stain_passes_unchanged_what_would_lose_structure(limit, tissue, monkeypatch):
    monkeypatch.setattr(stains, limit, 10.0)  # more than any picture keeps
    np.testing.assert_array_equal(normalise(tissue, "macenko"), tissue)


def test_normalise_stain_passes_unchanged_what_would_be_clipped(tissue, monkeypatch):
    monkeypatch.setattr(stains, "REFERENCE_MEAN", np.float32([9.2, -0.12, 0.04]))  # more light
    np.testing.assert_array_equal(normalise(tissue, "reinhard"), tissue)


@pytest.mark.parametrize("method", METHODS)
def test_normalise_stain_treats_a_picture_alone_as_in_a_batch(method, tissue):
    together = normalise(np.concatenate([tissue, np.zeros_like(tissue)]), method)
    alone = [normalise(tissue[i : i + 1], method)[0] for i in range(4)]
    np.testing.assert_allclose(together[:4], alone, atol=0.01)


@pytest.fixture(scope="module", params=METHODS)
def network(request):
    image = keras.Input((40, 40, 3), name="stained")
    cnn = build_cnn((40, 40))
    return keras.Model(image, cnn.call(normalise_stain(image, request.param)), name=request.param)


def test_normalise_stain_is_saved_inside_the_network(network, tissue, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras", safe_mode=True, compile=False)
    np.testing.assert_allclose(loaded(tissue), network(tissue), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_normalise_stain_in_a_graph_equals_it_on_an_array(method, tissue):
    image = keras.Input((40, 40, 3))
    graph = keras.Model(image, normalise_stain(image, method))
    np.testing.assert_allclose(graph(tissue), normalise(tissue, method), atol=0.01)


def test_normalise_stain_stays_float32_in_a_network_of_another_precision(network, tissue):
    mixed = with_precision(network, "mixed_bfloat16")
    before = keras.Model(mixed.input, mixed.get_layer("normalise").input)
    np.testing.assert_allclose(before(tissue), normalise(tissue, network.name), atol=0.01)


def test_normalise_stain_leaves_heatmaps_possible(network, tissue):
    maps = grad_cam(network, tissue)
    assert maps.shape == (4, 40, 40)
    assert np.isfinite(maps).all()


def test_normalise_stain_has_finite_gradients_everywhere(network, tissue):
    pictures = [plant_harm(kind, tissue) for kind in HARMED]
    batch = tf.constant(np.concatenate([tissue, *pictures]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(batch)
        answers = network(batch)
    assert np.isfinite(tape.gradient(answers, batch)).all()


def test_macenko_has_finite_gradients_however_far_it_stretches(tissue, monkeypatch):
    monkeypatch.setattr(stains, "MOST_STRETCH", 1e4)
    pictures = tf.constant(
        np.concatenate([plant_harm(kind, tissue) for kind in HARMED]), tf.float32
    )
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        normalised = normalise_stain(pictures, "macenko")
    assert np.isfinite(tape.gradient(normalised, pictures)).all()


def test_normalise_stain_refuses_an_unknown_method(tissue):
    with pytest.raises(ValueError, match="Received: method='vahadane'"):
        normalise_stain(tissue, "vahadane")


@pytest.mark.parametrize("shape", [(40, 40, 3), (1, 40, 40, 1)])
def test_normalise_stain_refuses_what_is_no_batch_of_rgb(shape):
    with pytest.raises(ValueError, match="must be \\(n, height, width, 3\\)"):
        normalise_stain(np.zeros(shape), "macenko")


def test_check_normalised_by_hand():
    before = np.float32([[100, 150], [150, 100]])[None, :, :, None].repeat(3, axis=-1)
    darker = before.copy()
    darker[0, 0] = [[50], [0]]  # instead of 100 and 150
    check = check_normalised(np.concatenate([before, before]), np.concatenate([before, darker]))
    assert check.changed.tolist() == [False, True]
    similarity = np.corrcoef([100, 150, 150, 100], [50, 0, 150, 100])[0, 1]
    np.testing.assert_allclose(check.similarity, [1, similarity], atol=1e-5)
    np.testing.assert_allclose(check.contrast, [1, np.std([50, 0, 150, 100]) / 25], atol=1e-5)
    np.testing.assert_allclose(check.clipped, [0, 0.25])


def test_check_normalised_refuses_two_shapes(tissue):
    with pytest.raises(ValueError, match="of one shape"):
        check_normalised(tissue, tissue[:2])


def read_real(pattern, size, count=60):
    paths = sorted(Path(REAL).glob(pattern))
    pictures = [read_image(path) for path in paths[:: max(1, len(paths) // count)]]
    return np.stack([picture for picture in pictures if picture.shape[:2] == (size, size)])


@needs_real
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("pattern", "size"), [("idc/**/*.png", 50), ("pcam/valid/**/*.jp*g", 96)])
def test_normalised_laboratories_are_nearer_to_one_another_than_before(method, pattern, size):
    pictures = read_real(pattern, size)
    after = normalise(pictures, method)
    changed = check_normalised(pictures, after).changed
    assert changed.mean() > 0.4
    spreads = [
        to_opponents(images[changed]).mean(axis=1).std(axis=0)[0] for images in (pictures, after)
    ]
    assert spreads[1] < spreads[0]


@needs_real
@pytest.mark.parametrize("method", METHODS)
def test_normalise_stain_never_touches_real_ultrasound(method):
    paths = sorted(Path(REAL).glob("bus_uclm/*/*.png"))[::12]
    for picture in map(read_image, paths):
        assert not check_normalised(picture[None], normalise(picture[None], method)).changed.any()
