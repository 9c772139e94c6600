"""Decision trees from a file, before they are walked.

scikit-learn walks a tree in compiled code that takes every number at its word: a child that points
back runs for ever, one beyond the end reads foreign memory. Belongs here: refusing such trees.
"""

from collections.abc import Iterator

import numpy as np


def find_tree_fault(model) -> str:
    """Find out whether a tree anywhere in a model could not be walked safely.

    In a tree as scikit-learn grows it, both children of a node stand after it.

    Args:
        model: a fitted scikit-learn model of any kind, or what a file gave for one.

    Returns:
        The first fault in one sentence, "" where there is none.
    """
    for part in _walk_parts(model):
        for left, right, feature, n_features in _list_trees(part):
            own = np.arange(len(left))
            is_leaf = (left < 0) & (right < 0)
            children = np.stack([left, right])[:, ~is_leaf]
            if (children <= own[~is_leaf]).any() or (children >= len(left)).any():
                return "a tree in it has a child where none can be"
            if ((feature < 0) | (feature >= n_features))[~is_leaf].any():
                return f"a tree in it asks for another measurement than its {n_features}"
    return ""


def _walk_parts(item) -> Iterator:
    """Give everything a model is made of, each part once."""
    pending, seen = [item], {}
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item  # kept, so that no other object gets its id
        yield item
        if isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, np.ndarray):
            pending.extend(item.flat if item.dtype == object else ())
        else:
            held = item if isinstance(item, dict) else getattr(item, "__dict__", {})
            pending.extend(held.values())


def _list_trees(part):
    """Give left and right children (negative at leaves), questions and how many there can be."""
    if type(part).__name__ == "Tree":
        yield part.children_left, part.children_right, part.feature, part.n_features
    for predictor in np.ravel(np.array(getattr(part, "_predictors", ()), dtype=object)):
        nodes = predictor.nodes
        left, right = (
            np.where(nodes["is_leaf"], -1, nodes[end].astype(np.int64)) for end in ("left", "right")
        )
        yield left, right, nodes["feature_idx"], part.n_features_in_
