"""Figures: arrays in, a Matplotlib axes or figure out.

The only importer of matplotlib. Belongs here: how a result looks. Does not: how it is computed
(`bcnet.evaluate`), which pictures are shown, where files go. Nothing is shown, no backend or
style is set for others, and what is drawn on is closed by `save_figure`.

Every figure has a title, names for both axes, n, the positive class, and a `note` for what a
reader must know of the data: "simulated", "image-level: patients unknown".
"""

from bcnet.plots.answers import (
    plot_confusion_matrix,
    plot_precision_recall,
    plot_roc,
    plot_score_histogram,
)
from bcnet.plots.explanations import Panel, plot_methods, plot_overlay, plot_sheet
from bcnet.plots.judgement import plot_decision_curve, plot_reliability
from bcnet.plots.pictures import plot_cases, plot_images
from bcnet.plots.robustness import plot_stress
from bcnet.plots.style import save_figure
from bcnet.plots.training import plot_history, plot_tuning

__all__ = [
    "Panel",
    "plot_cases",
    "plot_confusion_matrix",
    "plot_decision_curve",
    "plot_history",
    "plot_images",
    "plot_methods",
    "plot_overlay",
    "plot_precision_recall",
    "plot_reliability",
    "plot_roc",
    "plot_score_histogram",
    "plot_sheet",
    "plot_stress",
    "plot_tuning",
    "save_figure",
]
