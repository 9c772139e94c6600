"""Maps made ready for the eye: enlarged to their pictures, and scaled to 0–1.

What belongs here is arrays in, arrays out. Figures are drawn elsewhere.
"""

import numpy as np
import tensorflow as tf

from bcnet.explain.geometry import spread_evenly, weigh_cells


def enlarge(maps, size, axes=None):
    """Enlarge maps to the size of their pictures, linearly between the centres of their cells.

    Args:
        maps: float32 `(n, h, w)`.
        size: `(height, width)` in pixels.
        axes: Where the cells of rows and of columns lie, as `graph.locate_cells` gives them; None
            spreads them evenly, as the pipeline's own resize does.

    Returns:
        float32 `(n, height, width)`.

    Example:
        >>> enlarge(np.array([[[0.0, 1.0]]], dtype="float32"), (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    maps = np.asarray(maps, dtype="float32")
    axes = axes or map(spread_evenly, size, maps.shape[1:])
    rows, columns = map(weigh_cells, axes, maps.shape[1:], size)
    # NumPy's own threads would wait for TensorFlow's, which still spin after a pass.
    return tf.matmul(tf.matmul(rows, maps), columns, transpose_b=True).numpy()


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
