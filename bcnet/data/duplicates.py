"""The same picture twice: found by content, whatever was done to it on the way.

A picture is reduced to a fingerprint; alike fingerprints are found without comparing all pairs.
Here belongs what makes two pictures "the same". What that means for a data set (leaks, labels,
patients) does not: see `bcnet.data.audit`.

The way: shrink to 32×32 grey values; make contrast even across them, so that one strong edge is
not the whole picture; keep the lowest frequencies of their cosine transform at length one. There
a flip is a change of signs, and a turn a transposition besides: the eight symmetries cost no
pixels. Candidates are proposed by hashing, and each is checked by correlation.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

THUMBNAIL = 32
"""Side of the thumbnail in pixels: a 50-pixel patch halved still fills it without gaps."""

FREQUENCIES = 10
"""Cosine frequencies per axis: up to five waves, which JPEG at quality 50 and halving leave."""

NEIGHBOURHOOD = 5
"""Standard deviation, in thumbnail pixels, of the surroundings against which contrast is made
even: wider lets the edge of a slide outweigh the rest, narrower lets noise."""

FAINT = 0.6
"""Local contrast, as a share of the whole picture's, below which it is no longer raised."""

ALIKE = 0.86
"""Least correlation of two fingerprints of one picture. On tissue patches 99 % of the copies
halved, brightened or re-encoded are above 0.9; 999 in 1,000 patches find no stranger above 0.8."""

BLANK_CONTRAST = 4.0
"""Standard deviation of the thumbnail, in grey levels, below which noise decides likeness."""

TABLES = 12
"""Hash tables: each proposes most true pairs; together they missed 28 of 14,303 planted ones."""

DIRECTIONS = 96
"""Random directions in each of a table's two choices: more of them propose fewer strangers."""

WINDOW = 8
"""Neighbours looked at on each side within a bucket: work stays linear if all pictures agree."""

CHUNK = 1000
"""Patterns hashed at a time: their products with all directions take some 10 MB."""


@dataclass(frozen=True)
class Fingerprint:
    """What remains of a picture for comparing it.

    Attributes:
        digest: Hash of size and pixels; equal for equal pixels only.
        pattern: float32 (10, 10), cosine coefficients weighted by frequency, of length one (zero
            for a picture of one colour), the mean left out.
        contrast: Standard deviation of the thumbnail, in grey levels.
        one_colour: Whether all pixels are equal.
        size: Height and width in pixels.
    """

    digest: bytes
    pattern: np.ndarray
    contrast: float
    one_colour: bool
    size: tuple[int, int]

    @property
    def nearly_blank(self) -> bool:
        """Whether there is too little contrast to tell the picture from another by likeness."""
        return self.contrast < BLANK_CONTRAST


def take_fingerprint(image: np.ndarray) -> Fingerprint:
    """Reduce a picture to what identifies it, some 500 bytes.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        The fingerprint.

    Raises:
        ValueError: If `image` has another type or shape, or no pixels.

    Example:
        >>> take_fingerprint(np.full((50, 40, 3), 255, np.uint8)).one_colour
        True
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"`image` must be uint8 (H, W, 3). Received: {image.dtype} {image.shape}")
    image = np.ascontiguousarray(image)
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return Fingerprint(
        digest=hashlib.blake2b(image, digest_size=16, salt=_as_salt(image)).digest(),
        pattern=_take_pattern(grey),
        contrast=float(grey.std()),
        one_colour=bool((image == image[0, 0]).all()),
        size=image.shape[:2],
    )


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> list[list[int]]:
    """Group the pictures that are the same: equal pixels, or alike.

    Alike means re-encoded, resized, made brighter or of other contrast, flipped or turned, and
    two of these at once. Nearly blank pictures are compared by equal pixels only, as any two of
    them look alike; pictures of one colour are not compared at all, as white glass on two slides
    is no copy. The time grows linearly with the number of pictures, even if all are the same.

    Args:
        fingerprints: One per picture.

    Returns:
        Positions in `fingerprints`: groups of two or more, ascending, by their first.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        >>> find_duplicates([take_fingerprint(x) for x in (image, 255 - image, image[:, ::-1])])
        [[0, 2]]
    """
    firsts: dict[bytes, int] = {}
    group = _Groups(len(fingerprints))
    for position, fingerprint in enumerate(fingerprints):
        if not fingerprint.one_colour:
            group.join(firsts.setdefault(fingerprint.digest, position), position)
    # Equal pictures are compared with the rest once.
    distinct = np.array([x for x in firsts.values() if not fingerprints[x].nearly_blank], int)
    patterns = np.array([fingerprints[x].pattern for x in distinct], np.float32)
    for first, second in distinct[_match(patterns)]:
        group.join(first, second)
    return group.list_groups()


class _Groups:
    """Union-find: pictures joined directly or through others are one group."""

    def __init__(self, count: int):
        self.parents = list(range(count))

    def find(self, position: int) -> int:
        while self.parents[position] != position:
            self.parents[position] = self.parents[self.parents[position]]
            position = self.parents[position]
        return position

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.find(first), self.find(second)))
        self.parents[high] = low

    def list_groups(self) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        for position in range(len(self.parents)):
            groups.setdefault(self.find(position), []).append(position)
        return [members for members in groups.values() if len(members) > 1]


def _as_salt(image: np.ndarray) -> bytes:
    # A 2×8 and a 4×4 picture can have the same bytes.
    return np.array(image.shape[:2], "<u8").tobytes()


def _take_pattern(grey: np.ndarray) -> np.ndarray:
    # Natural pictures fade with frequency; the weight makes fine structure count as much. It
    # also takes out the mean.
    steps = np.arange(FREQUENCIES, dtype=np.float32)
    cosines = cv2.dct(_even_contrast(grey))[:FREQUENCIES, :FREQUENCIES]
    weighted = cosines * np.hypot(steps[:, None], steps)
    length = np.linalg.norm(weighted)
    return weighted / length if length > 0 else weighted


def _even_contrast(grey: np.ndarray) -> np.ndarray:
    rest = grey - _blur(grey)
    floor = FAINT * max(float(grey.std()), 1e-3)
    return rest / np.sqrt(_blur(rest * rest) + floor**2)


def _blur(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), NEIGHBOURHOOD, borderType=cv2.BORDER_REFLECT)


def _match(patterns: np.ndarray) -> np.ndarray:
    """Pairs (n_pairs, 2) of alike patterns, found among those that share a bucket of any table."""
    count = len(patterns)
    if count < 2:
        return np.empty((0, 2), int)
    directions = _draw_directions()
    tables = _hash(patterns, directions)
    orders = np.argsort(tables, axis=1)
    found = []
    for turned in _turn(patterns):
        for keys, table, order in zip(_hash(turned, directions), tables, orders, strict=True):
            for first, second in _meet(keys, table[order], order):
                alike = _correlate(turned[first], patterns[second]) >= ALIKE
                low, high = np.sort([first[alike], second[alike]], axis=0)
                found.append(np.unique(low * count + high))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), count), axis=1)


def _turn(patterns: np.ndarray) -> Iterator[np.ndarray]:
    """Patterns of the eight flips and turns: odd cosines change sign when a picture is flipped."""
    signs = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)
    for turned in (patterns, patterns.transpose(0, 2, 1)):
        for vertical in (np.ones_like(signs), signs):
            for horizontal in (np.ones_like(signs), signs):
                yield turned * vertical[:, None] * horizontal


def _draw_directions() -> np.ndarray:
    """Random directions of length one, the same in every run: float32 (100, all directions)."""
    shape = (FREQUENCIES**2, TABLES * 2 * DIRECTIONS)
    directions = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return directions / np.linalg.norm(directions, axis=0)


def _hash(patterns: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Bucket number plus a place within the bucket between 0 and 1, float64 (TABLES, n).

    The bucket is the direction, with its sign, along which a pattern lies farthest, chosen twice:
    cross-polytope hashing, Andoni et al. 2015, https://arxiv.org/abs/1509.02897.
    """
    flat = patterns.reshape(len(patterns), FREQUENCIES**2)
    keys = np.empty((TABLES, len(flat)))
    for start in range(0, len(flat), CHUNK):
        along = flat[start : start + CHUNK] @ directions
        along = along.reshape(-1, TABLES, 2, DIRECTIONS)
        best = np.abs(along).argmax(axis=-1, keepdims=True)
        choices = 2 * best + (np.take_along_axis(along, best, axis=-1) < 0)
        buckets = choices[:, :, 0, 0] * 2 * DIRECTIONS + choices[:, :, 1, 0]
        # Both vectors have length one, so the place stays within (0, 1).
        keys[:, start : start + CHUNK] = (buckets + 0.5 + 0.499 * along[:, :, 0, 0]).T
    return keys


def _meet(
    keys: np.ndarray, index: np.ndarray, order: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of pictures and of their neighbours in the same bucket, one distance at a time."""
    places = np.searchsorted(index, keys)
    for offset in range(-WINDOW, WINDOW):
        neighbours = places + offset
        first = np.flatnonzero((neighbours >= 0) & (neighbours < len(index)))
        first = first[np.floor(index[neighbours[first]]) == np.floor(keys[first])]
        second = order[neighbours[first]]
        yield first[first != second], second[first != second]


def _correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # The patterns have no mean and length one: their correlation is their product.
    return np.einsum("nij,nij->n", first, second)
