"""Whether a map deserves belief: a word and a number for each.

What belongs here judges maps that others made, by looking at them and by asking the same method
again: of the picture changed so little that the map must stay, and of the network changed so much
that it must not. How good a map is, beyond that, is measured in `measures` and `perturbation`.

"ok" says that no fault was found, not that the map is right: a network that looks at the wrong
places, or knows nothing, has maps that are sound in every respect asked for here.

The thresholds were read off `benchmarks/explanations.py --thresholds`: Grad-CAM maps of the small
network, three seeds, for 1,356 pictures of the built-in data set whose patients it had not seen;
93 % have their hottest place on a nucleus. Each threshold stands beyond 99 % of these and short of
maps that have the fault: all but 11, which are called "border", are "ok". Maps of 6 × 6 cells, as
those of a MobileNet, come nearer: half have a stability below 0.65, and 5 % have over 0.41 of their
heat on glass.
"""

from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from bcnet.config import HEATMAP_METHODS, MODALITIES
from bcnet.explain.heatmaps import METHODS
from bcnet.explain.measures import measure_border, measure_contrast, measure_mass
from bcnet.explain.randomise import find_block, find_head, randomise_layers
from bcnet.explain.sanity import measure_similarity, measure_stability

VERDICTS = ("ok", "blank", "constant", "border", "off-tissue", "unstable", "insensitive")
"""Every word there is; the faults in the order in which they are looked for."""

# Of the sound maps, 99 % have …; with the fault, …
LEAST_CONTRAST = 0.05  # above 0.42; an even map 0
# Of a map of 6 × 6 cells, padding that only the edges show has 0.76, and passes unseen.
MOST_BORDER = 0.85  # below 0.81; of a network that sees only padding 1
MOST_OFF_TISSUE = 0.5  # below 0.01; of a network that sees glass 0.7
LEAST_STABILITY = 0.5  # above 0.77; of a network that sees noise 0.15
MOST_SIMILARITY = 0.7  # below 0.17; a map of the picture's edges, whatever the network, 1

# Glass lets all light through, whatever its colour: bright in red, green and blue, and hardly
# coloured. Lamps fall off towards the corners, hence not brighter than this.
GLASS_LEVEL, GLASS_COLOUR = 190, 30

# A radiograph's surround is black but for the traces that compression leaves.
BLACK_LEVEL = 8

# Maps are coarse and spill: background begins this far from tissue, as a share of the shorter side.
MARGIN = 1 / 32


class Verdict(NamedTuple):
    """What is to be thought of a map.

    Attributes:
        word: One of `VERDICTS`.
        value: The number that decided. "blank": 0; "constant": `measure_contrast`; "border":
            `measure_border`; "off-tissue": the share of the heat on background; "unstable":
            `measure_stability`; "insensitive": `measure_similarity`. "ok": `measure_stability`.
    """

    word: str
    value: float


def judge_heatmaps(
    model,
    images,
    heatmaps,
    *,
    method=HEATMAP_METHODS[0],
    class_name="malignant",
    layer=None,
    positive_unit=1,
    background=None,
):
    """Say of each map whether it deserves belief, and if not, why.

    A map gets the first of these words that fits: "blank" (no evidence), "constant" (the same
    nearly everywhere), "border" (nearly all along the frame, as padding makes it), "off-tissue"
    (most on background), "unstable" (`measure_stability` is low), "insensitive" (it stays the same
    when the head or the explained convolutions have random weights), else "ok". The costlier
    questions are asked only of maps that have passed the others.

    Args:
        model: What was explained; as for `heatmaps.grad_cam`.
        images: The pictures, as the model takes them; some dozens at a time, for an even memory.
        heatmaps: float `(n, height, width)` of the same size, as the method gave them.
        method: One of `heatmaps.METHODS`.
        class_name: As for `heatmaps.grad_cam`.
        layer: As for `heatmaps.grad_cam`.
        positive_unit: As for `heatmaps.grad_cam`.
        background: bool `(n, height, width)`, as `find_background` gives it; None looks for no
            "off-tissue".

    Returns:
        A `Verdict` for each map. It does not depend on which others are judged along with it.

    Raises:
        ValueError: If the shapes differ, a map has NaN or values below 0, there is no such method,
            or as the method does.

    Example:
        >>> images = np.zeros((1, 64, 64, 3))
        >>> judge_heatmaps(build_cnn((64, 64)), images, np.zeros((1, 64, 64)))
        [Verdict(word='blank', value=0.0)]
    """
    images, heatmaps = np.asarray(images), np.asarray(heatmaps)
    _check_arguments(images, heatmaps, method, background)
    name = getattr(layer, "name", layer)  # a random network has other layers of the same names
    explain = partial(METHODS[method], layer=name, positive_unit=positive_unit)
    words, values = _judge_looks(heatmaps, background)

    rows = np.flatnonzero(words == "ok")
    if len(rows):
        ask = partial(explain, model, class_name=class_name)
        values[rows] = measure_stability(ask, images[rows], heatmaps[rows])
        words[rows[values[rows] < LEAST_STABILITY]] = "unstable"

    rows = np.flatnonzero(words == "ok")
    if len(rows):
        parts = [find_head(model), find_block(model, layer)]
        similarity = _find_similarity(explain, model, parts, images[rows], heatmaps[rows])
        is_same = similarity > MOST_SIMILARITY
        words[rows[is_same]], values[rows[is_same]] = "insensitive", similarity[is_same]
    return [Verdict(str(word), float(value)) for word, value in zip(words, values, strict=True)]


def find_background(images, modality):
    """Find where pictures show nothing of the patient: glass, or the black around a radiograph.

    Args:
        images: uint8 `(n, height, width, 3)`, RGB.
        modality: "tissue" (bright and hardly coloured, anywhere) or "radiology" (black, and
            joined with the edge of the picture: a cyst is black too).

    Returns:
        bool `(n, height, width)`, without what lies within a thirty-second of the picture's side
        from anything else.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> find_background(np.full((1, 64, 64, 3), 240, "uint8"), "tissue").all()
        True
    """
    images = np.asarray(images)
    if modality not in MODALITIES:
        raise ValueError(f"`modality` must be one of {MODALITIES}. Received: {modality!r}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"`images` must be uint8 (n, height, width, 3). Received: {images.dtype} {images.shape}"
        )
    find = _find_glass if modality == "tissue" else _find_surround
    side = min(images.shape[1:3])
    reach = 2 * max(1, round(MARGIN * side)) + 1
    blurred = (cv2.GaussianBlur(image, (0, 0), MARGIN / 2 * side) for image in images)
    found = [cv2.erode(find(each).astype("uint8"), np.ones((reach, reach))) for each in blurred]
    return np.stack(found).astype(bool)


def _judge_looks(heatmaps, background):
    """Words and values by what can be seen in the maps alone."""
    words = np.full(len(heatmaps), "ok", dtype=object)
    values = np.zeros(len(heatmaps))
    contrast, border = measure_contrast(heatmaps), measure_border(heatmaps)
    none = np.zeros(heatmaps.shape, bool)
    outside = measure_mass(heatmaps, none if background is None else background)
    faults = {
        "blank": (heatmaps.max(axis=(1, 2)) == 0, values),
        "constant": (contrast < LEAST_CONTRAST, contrast),
        "border": (border > MOST_BORDER, border),
        "off-tissue": (outside > MOST_OFF_TISSUE, outside),
    }
    for word, (is_found, value) in reversed(faults.items()):  # the first that fits is written last
        words[is_found] = word
        values = np.where(is_found, value, values)
    return words, values


def _find_similarity(explain, model, parts, images, heatmaps):
    """The largest similarity under random weights in one of several parts of a network.

    It is exact above `MOST_SIMILARITY`; what is below has changed, whatever the other class says.
    """
    networks = [randomise_layers(model, layers) for layers in parts if layers]
    asked = [
        measure_similarity(partial(explain, each), images, heatmaps, enough=MOST_SIMILARITY)
        for each in networks
    ]
    return np.max([np.full(len(images), -1.0), *asked], axis=0)


def _find_glass(image):
    darkest, brightest = image.min(axis=-1), image.max(axis=-1)
    return (darkest >= GLASS_LEVEL) & (brightest - darkest <= GLASS_COLOUR)


def _find_surround(image):
    is_black = image.max(axis=-1) <= BLACK_LEVEL
    _, regions = cv2.connectedComponents(is_black.astype("uint8"))
    edges = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    return is_black & np.isin(regions, edges)


def _check_arguments(images, heatmaps, method, background):
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}")
    if heatmaps.ndim != 3 or heatmaps.shape != images.shape[:3]:
        raise ValueError(
            "`heatmaps` must be (n, height, width) as `images`. "
            f"Received: {heatmaps.shape} for {images.shape}"
        )
    if background is not None and np.shape(background) != heatmaps.shape:
        raise ValueError(
            f"`background` must have the shape {heatmaps.shape} of the maps. "
            f"Received: {np.shape(background)}"
        )
    if not (heatmaps >= 0).all():
        raise ValueError("`heatmaps` must be at least 0 and not NaN. Received: some that are not")
