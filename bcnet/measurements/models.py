"""The kinds of model that may learn from the measurements, and where each is searched.

Belongs here: each family as a scikit-learn pipeline, with the grid of its parameters. Does not:
fitting them (`fitting`) and judging them (`nested`). The grids were written down before any of
them was judged.
"""

from typing import NamedTuple

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from bcnet.measurements.features import Engineer


class Family(NamedTuple):
    """One kind of model.

    Attributes:
        words: What tables and figures call it.
        pipeline: Unfitted; its parameters are those of a quick run, which searches nothing.
        grid: What a full run searches, as scikit-learn's `ParameterGrid` takes it.
    """

    words: str
    pipeline: Pipeline
    grid: dict | list


def _chain(model, features="plain"):
    """Chain what every family shares; trees lose nothing by the scaling."""
    return Pipeline(
        [
            ("features", Engineer(features)),
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("select", SelectKBest(k="all")),
            ("model", model),
        ]
    )


_BOTH = {"features__kind": ["plain", "log"]}
_TREES = {"features__kind": ["plain", "rich"]}

_LOGISTIC = _chain(LogisticRegression(C=0.3, tol=1e-3, max_iter=5000), "log")
_SVM_RBF = _chain(SVC(C=3, gamma=0.01), "log")
_EXTRA_TREES = _chain(ExtraTreesClassifier(), "rich")

# One of each way of thinking: a plane, a kernel, trees. A voter must state a probability, which a
# support vector machine does only when calibrated.
_MEMBERS = [
    ("logistic", _LOGISTIC),
    ("svm_rbf", CalibratedClassifierCV(_SVM_RBF, ensemble=False)),
    ("extra_trees", _EXTRA_TREES),
]

FAMILIES = {
    "logistic": Family(
        "logistic regression",
        _LOGISTIC,
        [
            # L2 has the fastest solver to itself; L1 and the elastic net need the other.
            {**_BOTH, "model__C": [0.03, 0.1, 0.3, 1, 3]},
            {
                **_BOTH,
                "model__C": [0.1, 0.3, 1, 3],
                "model__l1_ratio": [0.5, 1.0],
                "model__solver": ["saga"],
            },
        ],
    ),
    "svm_linear": Family(
        "linear SVM",
        _chain(SVC(kernel="linear", C=0.1), "log"),
        {**_BOTH, "model__C": [0.01, 0.03, 0.1, 0.3, 1]},
    ),
    "svm_rbf": Family(
        "SVM with RBF kernel",
        _SVM_RBF,
        {**_BOTH, "model__C": [0.3, 1, 3, 10, 30], "model__gamma": [0.003, 0.01, 0.03]},
    ),
    "knn": Family(
        "k nearest neighbours",
        _chain(KNeighborsClassifier(9, weights="distance"), "log"),
        {
            **_BOTH,
            "select__k": [10, 20, "all"],
            "model__n_neighbors": [5, 9, 15, 25],
        },
    ),
    "naive_bayes": Family(
        "naive Bayes",
        _chain(GaussianNB(), "log"),
        {**_BOTH, "select__k": [5, 10, 20, "all"]},
    ),
    "tree": Family(
        "decision tree",
        _chain(DecisionTreeClassifier(min_samples_leaf=5), "rich"),
        {
            **_TREES,
            "select__k": [10, "all"],
            "model__max_depth": [2, 4, None],
            "model__min_samples_leaf": [5, 15],
        },
    ),
    "forest": Family(
        "random forest",
        _chain(RandomForestClassifier(), "rich"),
        {**_TREES, "model__max_features": ["sqrt", 0.3]},
    ),
    "extra_trees": Family(
        "extra trees",
        _EXTRA_TREES,
        {**_TREES, "model__max_features": ["sqrt", 0.3]},
    ),
    "boosting": Family(
        "gradient boosting",
        _chain(HistGradientBoostingClassifier(max_leaf_nodes=8), "rich"),
        {**_TREES, "model__learning_rate": [0.05, 0.15]},
    ),
    "mlp": Family(
        "multilayer perceptron",
        _chain(MLPClassifier((16,), alpha=1.0, max_iter=1000), "log"),
        {**_BOTH, "model__alpha": [0.3, 3.0]},
    ),
    "voting": Family(
        "vote of three",
        Pipeline([("model", VotingClassifier(_MEMBERS, voting="soft"))]),
        # A weight of 0 leaves a member out: the search finds the best of them in each fold.
        {"model__weights": [[1, 1, 1], [1, 1, 0], [2, 2, 1]]},
    ),
    "stacking": Family(
        "stack of three",
        Pipeline([("model", StackingClassifier(_MEMBERS, LogisticRegression(), cv=3))]),
        {},
    ),
}
"""The families by the name a user types, plain ones first."""


def build_pipeline(name, *, seed=0):
    """Build the unfitted pipeline of a family, as a quick run takes it.

    Everything that learns from patients is inside it – medians for missing values, scaling,
    selection, model – so that fitting it to the patients of a fold touches no others.

    Args:
        name: One of `FAMILIES`.
        seed: Of every step that draws numbers.

    Returns:
        A scikit-learn `Pipeline`; `fit` takes a DataFrame with the columns
        `bcnet.data.measurements.FEATURES` and labels (0 = benign, 1 = malignant).

    Raises:
        ValueError: There is no such family.

    Example:
        >>> build_pipeline("knn")["model"].n_neighbors
        9
    """
    pipeline = clone(find_family(name).pipeline)
    states = [key for key in pipeline.get_params() if key.endswith("random_state")]
    return pipeline.set_params(**dict.fromkeys(states, seed))


def find_family(name):
    """Find a family by its name; raise `ValueError` naming all when there is none.

    Example:
        >>> find_family("knn").words
        'k nearest neighbours'
    """
    if name not in FAMILIES:
        allowed = ", ".join(FAMILIES)
        raise ValueError(f"`name` must be one of {allowed}. Received: name={name!r}")
    return FAMILIES[name]
