"""Maps made ready for the eye: enlarged to their pictures, and scaled to 0–1.

What belongs here is arrays in, arrays out. Figures are drawn elsewhere.
"""

import cv2
import numpy as np


def enlarge(maps, size):
    """Resize maps bilinearly to the size of their pictures.

    Cell centres are kept in place (half-pixel centres), as in the pipeline's own resize, so a
    map lies where its evidence lay.

    Args:
        maps: float32 `(n, h, w)`.
        size: `(height, width)` in pixels.

    Returns:
        float32 `(n, height, width)`.

    Example:
        >>> enlarge(np.array([[[0.0, 1.0]]], dtype="float32"), (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    height, width = size
    return np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in maps])


def divide_by_maximum(maps):
    """Scale each map to a maximum of 1, and leave a map of zeros as it is.

    Args:
        maps: `(n, h, w)`, at least 0.

    Returns:
        float32 `(n, h, w)` in 0–1.

    Example:
        >>> divide_by_maximum(np.array([[[1.0, 4.0]], [[0.0, 0.0]]]))
        array([[[0.25, 1.  ]], [[0.  , 0.  ]]], dtype=float32)
    """
    maps = np.asarray(maps, dtype="float32")
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)
