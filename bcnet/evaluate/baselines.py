"""What any model has to beat: to look at nothing, and to look at colours only.

Belongs here: the two baselines. Does not: judging them, which is done as for any model.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Steps of a colour channel: fine enough for a stain, and few beside some hundred pictures.
BINS = 16


def count_colours(image):
    """Count the colours of a picture, which says nothing of their places.

    Args:
        image: uint8 `(height, width, 3)`.

    Returns:
        float64 `(48,)`: the shares of the pixels in 16 equal steps of red, then green, then blue.

    Example:
        >>> count_colours(np.zeros((2, 2, 3), np.uint8))[[0, 1, 16]].tolist()
        [1.0, 0.0, 1.0]
    """
    steps = np.asarray(image).reshape(-1, 3).astype(int) * BINS // 256
    counts = [np.bincount(channel, minlength=BINS) for channel in steps.T]
    return np.concatenate(counts) / len(steps)


def fit_colours(colours, y_true):
    """Fit a logistic regression on the colours of pictures.

    Both classes weigh the same, so that 0.5 is a sensible threshold.

    Args:
        colours: `(n_images, 48)` of training pictures, by `count_colours`.
        y_true: Their labels, `(n_images,)`; both must occur.

    Returns:
        A function from colours `(n, 48)` to probabilities of malignant, float64 `(n,)`.

    Raises:
        ValueError: Only one class occurs.

    Example:
        >>> predict = fit_colours(np.eye(48)[[0, 0, 9, 9]], [0, 0, 1, 1])
        >>> (predict(np.eye(48)[[0, 9]]) > 0.5).tolist()
        [False, True]
    """
    regression = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    regression.fit(colours, y_true)
    return lambda colours: regression.predict_proba(colours)[:, 1]
