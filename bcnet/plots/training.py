"""How a training run, or a search over many of them, went.

How good the result is on other patients is drawn by `answers`.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from bcnet.plots.style import GREY, INK, MODEL_COLOUR, PALE, POSITIVE, head_axes, tidy_axes


def plot_history(history, *, best_epoch=None, axes=None, note=None):
    """Plot loss and accuracy of training and validation by epoch.

    Args:
        history: Lists by name, one number per epoch: `loss`, `val_loss`, `accuracy`,
            `val_accuracy`, as in `keras.callbacks.History.history`; other entries are ignored.
        best_epoch: The epoch whose weights were kept, counted from 1; None marks the one of
            lowest validation loss.
        axes: Two axes to draw on; None makes a figure.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The two axes: loss, accuracy.

    Raises:
        ValueError: A curve is missing or empty.

    Example:
        >>> curves = {"loss": [0.7, 0.5], "val_loss": [0.6, 0.7]}
        >>> curves |= {"accuracy": [0.5, 0.7], "val_accuracy": [0.6, 0.6]}
        >>> plot_history(curves)[0].texts[-1].get_text()  # where validation loss is lowest
        'best: epoch 1'
    """
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        if not len(history.get(name, ())):
            raise ValueError(f"`history` must hold `{name}`. Received: {sorted(history)}")
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    if best_epoch is None:
        best_epoch = int(np.argmin(history["val_loss"])) + 1
    for ax, name in zip(axes, ("loss", "accuracy"), strict=True):
        _draw_epochs(ax, history[name], history[f"val_{name}"], best_epoch)
        ax.set(xlabel="Epoch", ylabel=name.capitalize())
        head_axes(ax, f"{name.capitalize()} by epoch", note)
    axes[1].legend(frameon=False, loc="lower right")
    return axes


def plot_tuning(scores, pruned, importance, *, axes=None, note=None):
    """Plot the scores of a search for hyper-parameters, and how much each of them mattered.

    Args:
        scores: Validation AUC of each trial, in order, shape `(n_trials,)`; the last one reached
            where the trial was pruned, NaN where it failed.
        pruned: Whether each trial was broken off as hopeless, shape `(n_trials,)`.
        importance: Share of the scores' spread that each parameter explains, 0–1, by its name;
            empty where that cannot be told.
        axes: Two axes to draw on; None makes a figure.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The two axes: scores by trial, importance by parameter.

    Raises:
        ValueError: No trial has finished.

    Example:
        >>> axes = plot_tuning([0.7, 0.9, 0.6], [False, False, True], {"learning_rate": 1.0})
        >>> axes[0].get_legend_handles_labels()[1]
        ['best so far', '2 finished', '1 pruned', 'best: trial 1, 0.900']
    """
    scores, pruned = np.asarray(scores, float), np.asarray(pruned, bool)
    finished = np.isfinite(scores) & ~pruned
    if not finished.any():
        raise ValueError("`scores` must hold a finished trial. Received: none")
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    failed = len(scores) - finished.sum() - pruned.sum()
    _draw_trials(axes[0], scores, finished, pruned)
    facts = f"{len(scores)} trials", f"{failed} failed" if failed else None, POSITIVE, note
    head_axes(axes[0], "Validation AUC by trial", *facts)
    _draw_importance(axes[1], importance)
    rough = f"rough: estimated from {finished.sum()} finished trials"
    head_axes(axes[1], "Importance by parameter", rough, note)
    return axes


def _draw_epochs(ax, train, validation, best_epoch):
    epochs = np.arange(1, len(train) + 1)
    ax.plot(epochs, train, "o-", color=GREY, markersize=3, label="training")
    ax.plot(epochs, validation, "o-", color=MODEL_COLOUR, markersize=3, label="validation")
    best = validation[best_epoch - 1]
    ax.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":")
    ax.plot(best_epoch, best, "o", color=INK, markersize=6)
    late = best_epoch > (len(train) + 1) / 2
    ax.annotate(
        f"best: epoch {best_epoch}",
        (best_epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if late else 5, -2),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
    )
    ax.margins(y=0.15)
    ax.set_xlim(0.5, len(train) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    tidy_axes(ax)


def _draw_trials(ax, scores, finished, pruned):
    numbers = np.arange(len(scores))
    best_so_far = np.maximum.accumulate(np.where(finished, scores, -np.inf))
    best = int(np.argmax(best_so_far))
    begun = np.isfinite(best_so_far)
    style = {"drawstyle": "steps-post", "color": PALE, "linewidth": 2, "label": "best so far"}
    ax.plot(numbers[begun], best_so_far[begun], **style)
    for which, marker, colour, word in (
        (finished, "o", MODEL_COLOUR, "finished"),
        (pruned, "x", GREY, "pruned"),
    ):
        label = f"{which.sum()} {word}"
        ax.plot(numbers[which], scores[which], marker, color=colour, markersize=5, label=label)
    ax.plot(best, scores[best], "o", color=INK, label=f"best: trial {best}, {scores[best]:.3f}")
    ax.set(xlabel="Trial", ylabel="Validation AUC", xlim=(-0.5, len(scores) - 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    tidy_axes(ax)
    ax.legend(frameon=False, fontsize=9)


def _draw_importance(ax, importance):
    names = sorted(importance, key=importance.get)
    ax.barh(names, [importance[name] for name in names], color=MODEL_COLOUR, height=0.6)
    ax.set(xlim=(0, 1), xlabel="Share of the spread explained", ylabel="Parameter")
    tidy_axes(ax)
    if not importance:
        ax.set_yticks(())
        ax.text(0.5, 0.5, "cannot be told from these trials", ha="center", transform=ax.transAxes)
