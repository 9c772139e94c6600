"""Whether maps follow their network: they must stay when nothing changed, and go when it did.

What belongs here asks a method for maps again, of pictures or networks made for the question, and
compares. Which answers make a map unworthy of belief is said in `faithfulness`.
"""

import numpy as np

from bcnet.config import CLASS_NAMES
from bcnet.explain.measures import correlate_maps, correlate_ranks
from bcnet.explain.randomise import has_kernel, list_layers, randomise_layers

# Noise that nobody sees, as a share of each picture's own range: 5 grey levels of 256.
NOISE = 0.02

# Networks that a cascade asks, from a random head to all random: each costs a compilation.
CASCADE_STEPS = 4


def measure_stability(explain, images, heatmaps):
    """Measure how much of each map stays when the picture changes as good as nothing.

    Args:
        explain: Function of pictures giving their maps.
        images: `(n, height, width, channels)`.
        heatmaps: `(n, height, width)`, the maps of the pictures.

    Returns:
        float64 `(n,)`, −1 to 1: the correlation with the map of the picture under noise of 2 % of
        its range, or with that of the mirrored picture, mirrored back, whichever is smaller.

    Example:
        Where `explain` gives the red channel, it is about 1.
    """
    if not len(images):
        return np.empty(0)
    under_noise = correlate_maps(heatmaps, explain(_add_noise(images)))
    mirrored = correlate_maps(heatmaps, explain(images[:, :, ::-1])[:, :, ::-1])
    return np.minimum(under_noise, mirrored)


def measure_similarity(explain, images, heatmaps, *, enough=-1.0):
    """Measure how much of each map a network with random weights gives too.

    Random weights have no class: what speaks for malignant under some speaks for benign under
    their negatives. A map that knows its network resembles at most one of the two.

    Args:
        explain: Function of pictures and `class_name` giving the random network's maps.
        images: `(n, height, width, channels)`.
        heatmaps: `(n, height, width)`, the maps of the trained network.
        enough: Where one class gives no more than this, the other is not asked, which saves time.

    Returns:
        float64 `(n,)`, −1 to 1: the smaller of the correlations with the maps of both classes.

    Example:
        A map that shows the edges of the picture, whatever the network, has 1.
    """
    similarity = np.ones(len(images))
    for class_name in CLASS_NAMES:
        rows = np.flatnonzero(similarity > enough)
        if len(rows):
            maps = explain(images[rows], class_name=class_name)
            found = correlate_maps(heatmaps[rows], maps)
            similarity[rows] = np.minimum(similarity[rows], found)
    return similarity


def trace_cascade(explain, model, images, heatmaps, *, steps=CASCADE_STEPS):
    """Follow the maps while a network forgets its weights, from the answer down to the pixels.

    Adebayo et al. 2018 (see `randomise`), who compare ranks. The sooner a map is lost, the more it
    owes to what the network has learnt.

    Args:
        explain: Function of a model and pictures giving maps.
        model: As for `heatmaps.grad_cam`.
        images: `(n, height, width, channels)`.
        heatmaps: `(n, height, width)`, the maps of the model.
        steps: Number of networks, each with more random layers than the one before, in equal
            numbers; the last is all random.

    Returns:
        float64 `(n, steps)`: the rank correlation of the map with that of each network.

    Example:
        A map that shows the edges of the picture, whatever the network, has 1 in each.
    """
    found = [layer for layer in reversed(list_layers(model)) if has_kernel(layer)]
    counts = np.ceil(np.arange(1, steps + 1) * len(found) / steps).astype(int)
    networks = (randomise_layers(model, found[:count]) for count in counts)
    lost = [correlate_ranks(heatmaps, explain(network, images)) for network in networks]
    return np.stack(lost, axis=1)


def _add_noise(images):
    """Pictures under a little noise, within the range and of the type they had."""
    low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    # One draw for all pictures: a verdict does not depend on which others are judged with it.
    noise = np.random.default_rng(0).standard_normal(images.shape[1:], dtype=np.float32)
    noisy = np.clip(images + NOISE * (high.astype(np.float32) - low) * noise, low, high)
    is_whole = np.issubdtype(images.dtype, np.integer)
    return (np.round(noisy) if is_whole else noisy).astype(images.dtype)
