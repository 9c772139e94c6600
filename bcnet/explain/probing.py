"""Maps made by asking a network many times: what it says of the picture changed in places.

What belongs here takes a way to open passes of a model (`graph.compile_pass` of that model) and a
batch, and gives what one CAM pass gives: predictions and raw maps. What each method is called and
where it comes from is said in `heatmaps`.

Where a method needs a picture without some place, that place gets the picture's own mean colour: it
makes no edge as black would, and needs no knowledge of the model's units.
"""

import numpy as np

from bcnet.explain.cam import take_gradient
from bcnet.explain.scaling import divide_by_maximum, enlarge

# Of the channels that Score-CAM tries, one network pass each, those that vary the most: what tells
# no place from another adds nothing, and VGG16 has 512.
SCORE_CAM_CHANNELS = 64

# Steps from the bare colour to the picture: what the pixels get then sums to the difference of the
# logits within a few per cent.
INTEGRATION_STEPS = 32

# Noisy copies, and their noise as a share of the picture's range (Smilkov et al. 2017: 10–20 %).
SMOOTHING_COPIES, SMOOTHING_NOISE = 24, 0.1

# Patches along the shorter side, and places of each patch within its own width.
OCCLUSION_PATCHES, OCCLUSION_STEPS = 6, 2


def _take_score(score, *_):
    return score


def _take_activations(_, activations, join):
    return join(activations)


def _take_pixel_gradients(score, images, join):
    return join([take_gradient(score, *images)])


def probe_score_cam(open_pass, layers, axes, images, sign):
    """Weigh each channel by what it adds to the logit when only it is let through.

    Args:
        open_pass: `graph.compile_pass` of a model and its positive unit.
        layers: Layers of the model, whose channels are tried.
        axes: Where their cells lie, from `graph.locate_cells`.
        images: `(n, height, width, channels)`, as the model takes them.
        sign: 1.0 for malignant, −1.0 for benign.

    Returns:
        `(predictions, maps)`: `(n, units)`, and float32 `(n, h, w)`, at least 0.

    Example:
        A channel that is even lets nothing through: its weight is 0.
    """
    score = open_pass(_take_score)
    predictions, activations = open_pass(_take_activations, layers=layers)(images, sign)
    channels = _take_most_varied(activations.numpy(), SCORE_CAM_CHANNELS)
    images, ground = _part_from_ground(images)
    bare = score(ground + 0 * images, sign)[1].numpy()
    maps = np.zeros(channels.shape[:3], "float32")
    for channel in np.moveaxis(channels, -1, 0):  # (n, h, w)
        mask = enlarge(_stretch(channel), images.shape[1:3], axes)[..., None]
        gained = score(ground + (images - ground) * mask, sign)[1].numpy() - bare
        maps += gained[:, None, None] * channel
    return predictions, np.maximum(maps, 0)


def probe_integrated_gradients(open_pass, images, sign):
    """Multiply each pixel by its mean gradient on the way from bare colour to picture.

    Args:
        open_pass: `graph.compile_pass` of a model and its positive unit.
        images: `(n, height, width, channels)`, as the model takes them.
        sign: 1.0 for malignant, −1.0 for benign.

    Returns:
        `(predictions, maps)`: `(n, units)`, and float32 `(n, height, width)`, at least 0.

    Example:
        Of a logit `3 x`, pixels of 1 and 3 (mean 2) get −3, shown as 0, and 3.
    """
    predictions, _ = open_pass(_take_score)(images, sign)
    differentiate = open_pass(_take_pixel_gradients)
    images, ground = _part_from_ground(images)
    total = np.zeros_like(images)
    for share in (np.arange(INTEGRATION_STEPS, dtype="float32") + 0.5) / INTEGRATION_STEPS:
        total += differentiate(ground + share * (images - ground), sign)[1].numpy()
    evidence = (images - ground) * total / INTEGRATION_STEPS
    return predictions, np.maximum(evidence.sum(axis=-1), 0)


def probe_smooth_grad(open_pass, images, sign):
    """Average the gradients of noisy copies, and take the largest size over the colours.

    Args:
        open_pass: `graph.compile_pass` of a model and its positive unit.
        images: `(n, height, width, channels)`, as the model takes them.
        sign: 1.0 for malignant, −1.0 for benign.

    Returns:
        `(predictions, maps)`: `(n, units)`, and float32 `(n, height, width)`, at least 0.

    Example:
        Of a logit `3 x` each pixel gets 3, whatever the noise.
    """
    predictions, _ = open_pass(_take_score)(images, sign)
    differentiate = open_pass(_take_pixel_gradients)
    images, _ = _part_from_ground(images)
    noise = SMOOTHING_NOISE * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    rng = np.random.default_rng(0)
    total = np.zeros_like(images)
    for _ in range(SMOOTHING_COPIES):
        # One draw for all pictures: a map does not depend on which others are in its batch.
        drawn = rng.standard_normal(images.shape[1:], dtype="float32")
        total += differentiate(images + noise * drawn, sign)[1].numpy()
    return predictions, np.abs(total / SMOOTHING_COPIES).max(axis=-1)


def probe_occlusion(open_pass, images, sign):
    """Cover the picture patch by patch, and give each pixel the mean fall of the logit.

    Args:
        open_pass: `graph.compile_pass` of a model and its positive unit.
        images: `(n, height, width, channels)`, as the model takes them.
        sign: 1.0 for malignant, −1.0 for benign.

    Returns:
        `(predictions, maps)`: `(n, units)`, and float32 `(n, height, width)`, at least 0.

    Example:
        Where the pixels sum to the logit, covering one of 5 by the mean 2 lets it fall by 3.
    """
    score = open_pass(_take_score)
    predictions, whole = score(images, sign)
    images, ground = _part_from_ground(images)
    fall, times = np.zeros((2, *images.shape[:3]), "float32")
    for patch in _list_patches(images.shape[1:3]):
        covered = images.copy()
        covered[:, *patch] = ground
        fall[:, *patch] += (whole - score(covered, sign)[1]).numpy()[:, None, None]
        times[:, *patch] += 1
    return predictions, np.maximum(fall / times, 0)


def _part_from_ground(images):
    """Pictures as float32, and the mean colour of each, `(n, 1, 1, channels)`."""
    images = np.asarray(images, dtype="float32")
    return images, images.mean(axis=(1, 2), keepdims=True)


def _take_most_varied(activations, count):
    """Of `(n, h, w, channels)` the channels of largest spread, in each picture its own."""
    order = np.argsort(-activations.std(axis=(1, 2)), axis=-1, kind="stable")[:, :count]
    return np.take_along_axis(activations, order[:, None, None], axis=-1)


def _stretch(maps):
    """Bring each map `(n, h, w)` to 0–1; an even one to 0."""
    low = maps.min(axis=(1, 2), keepdims=True)
    return divide_by_maximum(maps - low)


def _list_patches(size):
    """Slices (down, across) of squares that overlap and together cover a picture."""
    side = max(1, min(size) // OCCLUSION_PATCHES)
    step = max(1, side // OCCLUSION_STEPS)
    down, across = (
        [slice(start, start + side) for start in (*range(0, length - side, step), length - side)]
        for length in size
    )
    return [(rows, columns) for rows in down for columns in across]
