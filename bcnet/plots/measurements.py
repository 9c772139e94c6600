"""Measurements before any model: their distributions, likeness, outliers, and what each can do.

The numbers come from `bcnet.evaluate.exploration`; nothing is computed here but bins.
"""

import matplotlib.pyplot as plt
import numpy as np

from bcnet.config import CLASS_NAMES
from bcnet.data.quantities import MEASUREMENTS, QUANTITIES, STATISTICS, name_measurement
from bcnet.evaluate.exploration import FAR, SAME
from bcnet.plots.style import (
    CLASS_COLOURS,
    GREY,
    INK,
    MODEL_COLOUR,
    PALE,
    POSITIVE,
    head_axes,
    head_figure,
    make_axes,
    tidy_axes,
)

COLUMNS = 4  # of small panels; of twelve, the ten quantities leave room for the legend
WIDTH = 9.2  # inches: letters stay legible where a page shows the figure about 740 pixels wide
BINS = 24
CLASS_MARKERS = ("o", "^")  # with the colours, so that neither is needed alone
NAMED_OUTLIERS = 8  # the farthest; more names would cover the points

# Where both ends say the same, blue as benign and vermilion as malignant would mislead.
LIKENESS_COLOURS = "PuOr"


def plot_distributions(table, *, statistic="mean", note=None):
    """Plot how each of the ten quantities is distributed in either class.

    Args:
        table: As from `read_measurements`, labelled.
        statistic: Which of its three measurements: "mean", "error" or "worst".
        note: What a reader must know of the data.

    Returns:
        The ten axes; the first two patches of each are the benign and the malignant histogram.

    Raises:
        ValueError: The statistic is unknown.

    Example:
        `plot_distributions(table, statistic="worst")[0].get_title(loc="left")` is "worst radius".
    """
    if statistic not in STATISTICS:
        raise ValueError(f"`statistic` must be one of {STATISTICS}. Received: {statistic!r}")
    figure, grid = plt.subplots(3, COLUMNS, figsize=(WIDTH, 7.4), layout="constrained")
    axes, rest = np.split(grid.ravel(), [len(QUANTITIES)])
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        _draw_distribution(ax, table, MEASUREMENTS[name_measurement(quantity.name, statistic)])
    for ax in grid[:, 0]:
        ax.set_ylabel("% of the class")
    for ax in rest:
        ax.set_axis_off()
    rest[0].legend(*axes[0].get_legend_handles_labels(), loc="center", frameon=False)
    words = {"mean": "mean", "error": "standard error", "worst": "mean of the three largest"}
    title = f"Nuclei of a patient: {words[statistic]} of each quantity"
    head_figure(figure, title, *_describe_table(table), note)
    return axes


def plot_correlation(clustered, *, n_rows=None, note=None):
    """Plot which measurements tell nearly the same, alike ones beside each other.

    Args:
        clustered: As from `cluster_measurements`.
        n_rows: How many patients it was found in.
        note: What a reader must know of the data.

    Returns:
        The axes; its image is the matrix, its texts the names of clusters of two and more.

    Example:
        `plot_correlation(clustered).images[0].get_array().shape` is `(30, 30)`.
    """
    names = clustered["order"]
    ax = make_axes(None, (WIDTH, 8.2))
    matrix = np.array(clustered["correlation"])
    image = ax.imshow(matrix, cmap=LIKENESS_COLOURS, vmin=-1, vmax=1)
    ticks = range(len(names))
    ax.set_xticks(ticks, names, rotation=90, fontsize=8)
    ax.set_yticks(ticks, names, fontsize=8)
    ax.spines[:].set_visible(False)
    start = 0
    for cluster in clustered["clusters"]:
        size = len(cluster["members"])
        corner = (start - 0.5, start - 0.5)
        ax.add_patch(plt.Rectangle(corner, size, size, fill=False, edgecolor=INK, linewidth=1.6))
        if size > 1:
            _name_cluster(ax, cluster["name"], start, size, len(names))
        start += size
    label = "Spearman's rank correlation"
    ax.figure.colorbar(image, ax=ax, shrink=0.5, pad=0.02, label=label)
    told = f"{n_rows:,} patients" if n_rows else None
    boxed = f"boxes: any two correlate by ≥ {SAME:g}"
    head_axes(ax, "Measurements that tell nearly the same", told, boxed, note)
    return ax


def plot_separation(judged, *, n_rows=None, note=None):
    """Plot how well each measurement alone tells the classes apart.

    Args:
        judged: As from `judge_alone`.
        n_rows: How many patients there are.
        note: What a reader must know of the data.

    Returns:
        The axes; its lines are the points of either class, benign-higher ones first.

    Example:
        `plot_separation(judged).lines[1].get_xdata()[0]` is the best AUC.
    """
    known = [each for each in judged if each["auc"]["value"] is not None]
    ax = make_axes(None, (WIDTH, 8.6))
    tidy_axes(ax)
    places = np.arange(len(known))
    for place, each in zip(places, known, strict=True):
        low, high = each["auc"]["low"], each["auc"]["high"]
        if low is not None:
            ax.plot([low, high], [place, place], color=GREY, linewidth=1.5, gid="interval")
    for label, class_name in enumerate(CLASS_NAMES):
        chosen = [place for place in places if known[place]["higher"] == class_name]
        values = [known[place]["auc"]["value"] for place in chosen]
        style = {"color": CLASS_COLOURS[label], "marker": CLASS_MARKERS[label]}
        ax.plot(values, chosen, linestyle="", label=f"higher in {class_name}", **style)
    ax.axvline(0.5, color=INK, linewidth=1, linestyle="--")
    ax.set_yticks(places, [each["name"] for each in known], fontsize=9)
    ax.set(xlim=(None, 1.005), ylim=(len(known) - 0.4, -0.6))
    ax.set_xlabel("AUC of the measurement alone, with 95 % interval (dashed: chance)")
    ax.set_ylabel("Measurement")
    ax.legend(frameon=False, loc="lower right")
    told = f"{n_rows:,} patients" if n_rows else None
    head_axes(ax, "What each measurement can do alone", told, POSITIVE, note)
    return ax


def plot_projection(projected, labels, *, note=None):
    """Plot patients on the first two principal components, and what each component holds.

    Args:
        projected: As from `project`.
        labels: int, shape `(n_rows,)`; 0 = benign, 1 = malignant.
        note: What a reader must know of the data.

    Returns:
        The two axes: the patients, and the explained variance.

    Example:
        `len(plot_projection(project(table), table["label"])[0].lines)` is 2, a line per class.
    """
    shape = {"figsize": (WIDTH, 5), "width_ratios": (3, 2)}
    figure, axes = plt.subplots(1, 2, **shape, layout="constrained")
    labels, scores = np.asarray(labels), np.array(projected["scores"])
    for label, class_name in enumerate(CLASS_NAMES):
        x, y = scores[labels == label].T
        style = {"color": CLASS_COLOURS[label], "marker": CLASS_MARKERS[label], "alpha": 0.6}
        told = f"{class_name} ({len(x):,})"
        axes[0].plot(x, y, linestyle="", markersize=4.5, label=told, **style)
    shares = 100 * np.array(projected["explained"])
    for number, set_label in enumerate((axes[0].set_xlabel, axes[0].set_ylabel)):
        set_label(f"Component {number + 1} ({shares[number]:.0f} % of the variance)")
    axes[0].legend(frameon=False, loc="lower left")
    axes[0].set_title("Patients", loc="left", fontsize=10, color=INK)
    _draw_explained(axes[1], shares[:10])
    for ax in axes:
        tidy_axes(ax)
    told = (f"{len(labels):,} patients", "standardised measurements", POSITIVE)
    head_figure(figure, "Principal components: the directions of most variance", *told, note)
    return axes


def plot_outliers(outliers, table, *, note=None):
    """Plot the values that stand apart from all patients'.

    Args:
        outliers: As from `find_outliers`, not empty.
        table: The table they were found in, labelled.
        note: What a reader must know of the data.

    Returns:
        The axes; its lines are the points of either class, benign first.

    Example:
        `plot_outliers(find_outliers(table), table)` names the farthest patients.
    """
    names = list(dict.fromkeys(each["name"] for each in outliers))
    labels = table["label"].to_numpy()
    ax = make_axes(None, (WIDTH, 2.6 + 0.26 * len(names)))
    tidy_axes(ax)
    for label, class_name in enumerate(CLASS_NAMES):
        chosen = [each for each in outliers if labels[each["row"]] == label]
        x = [each["distance"] for each in chosen]
        y = [names.index(each["name"]) for each in chosen]
        style = {"color": CLASS_COLOURS[label], "marker": CLASS_MARKERS[label], "alpha": 0.8}
        ax.plot(x, y, linestyle="", label=class_name, **style)
    for each in outliers[:NAMED_OUTLIERS]:
        place = (each["distance"], names.index(each["name"]))
        offset = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
        ax.annotate(each["patient_id"], place, **offset, fontsize=8, color=INK, parse_math=False)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.5, -0.7)
    ax.set_xlabel("Distance from the median in robust standard deviations")
    ax.set_ylabel("Measurement")
    ax.legend(frameon=False, loc="lower right")
    n_patients = len({each["row"] for each in outliers})
    title = f"{len(outliers)} values of {n_patients} patients stand apart (beyond {FAR:g})"
    head_axes(ax, title, *_describe_table(table), note)
    return ax


def _draw_distribution(ax, table, measurement):
    values = table[measurement.name].to_numpy(float)
    known = values[~np.isnan(values)]
    edges = np.histogram_bin_edges(known, BINS)
    for label, class_name in enumerate(CLASS_NAMES):
        chosen = values[(table["label"] == label) & ~np.isnan(values)]
        counts = np.histogram(chosen, edges)[0]
        shares = 100 * counts / max(1, len(chosen))
        style = {"color": CLASS_COLOURS[label], "linewidth": 1.4}
        ax.stairs(shares, edges, label=class_name, fill=True, alpha=0.35, **style)
        ax.stairs(shares, edges, **style)
    ax.set_title(measurement.name, loc="left", color=INK, fontsize=10)
    ax.set_xlabel(measurement.unit or "ratio", fontsize=9)
    ax.locator_params(nbins=4)
    tidy_axes(ax)


def _name_cluster(ax, name, start, size, total):
    """Write the name beside its box, on the side with more room, or in it where neither has."""
    before, after = start, total - start - size
    x, side = (start - 0.8, "right") if before > after else (start + size - 0.2, "left")
    if max(before, after) < total / 4:
        x, side = start + size / 2 - 0.5, "center"
    style = {"fontsize": 9, "fontweight": "bold", "color": INK, "ha": side, "va": "center"}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    ax.text(x, start + size / 2 - 0.5, name, **style, bbox=box)


def _draw_explained(ax, shares):
    numbers = np.arange(1, len(shares) + 1)
    ax.bar(numbers, shares, color=PALE, edgecolor=GREY, label="of the component")
    ax.plot(numbers, np.cumsum(shares), "o-", color=MODEL_COLOUR, label="of all up to it")
    ax.set_xticks(numbers)
    ax.set_ylim(0, 102)
    ax.set_xlabel("Component")
    ax.set_ylabel("Share of the variance in %")
    ax.set_title("What they hold", loc="left", fontsize=10, color=INK)
    ax.legend(frameon=False, loc="center right")


def _describe_table(table):
    counts = [
        f"{int((table['label'] == label).sum()):,} {name}" for label, name in enumerate(CLASS_NAMES)
    ]
    return f"{len(table):,} patients: {', '.join(counts)}", POSITIVE
