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
from bcnet.plots.bridge import plot_bridge
from bcnet.plots.contributions import plot_beeswarm, plot_dependence, plot_waterfall
from bcnet.plots.explanations import Panel, plot_methods, plot_overlay, plot_sheet
from bcnet.plots.judgement import plot_decision_curve, plot_reliability
from bcnet.plots.measurements import (
    plot_correlation,
    plot_distributions,
    plot_outliers,
    plot_projection,
    plot_separation,
)
from bcnet.plots.mistakes import plot_mistakes
from bcnet.plots.models import plot_luck, plot_models
from bcnet.plots.pictures import plot_cases, plot_images
from bcnet.plots.robustness import plot_stress
from bcnet.plots.style import save_figure
from bcnet.plots.training import plot_history, plot_tuning

__all__ = [
    "Panel",
    "plot_beeswarm",
    "plot_bridge",
    "plot_cases",
    "plot_confusion_matrix",
    "plot_correlation",
    "plot_decision_curve",
    "plot_dependence",
    "plot_distributions",
    "plot_history",
    "plot_images",
    "plot_luck",
    "plot_methods",
    "plot_mistakes",
    "plot_models",
    "plot_outliers",
    "plot_overlay",
    "plot_precision_recall",
    "plot_projection",
    "plot_reliability",
    "plot_roc",
    "plot_score_histogram",
    "plot_separation",
    "plot_sheet",
    "plot_stress",
    "plot_tuning",
    "plot_waterfall",
    "save_figure",
]
