"""What would have turned an answer: the smallest changes of one patient's measurements.

Belongs here: searching within what training patients measured. Does not: what a change means. It
is a statement about the model, not about the disease or what could be done about it: radius,
perimeter and area of a nucleus change together, and a model that weighs them apart can be turned
by one of them alone.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.data.measurements import FEATURES

COLUMNS = ("change", "measurement", "unit", "from", "to", "deviations", "size", "label")

# How many measurements change together, and the values that each is tried at: some 10,000 answers.
STEPS = {1: 201, 2: 21, 3: 9}
# Only those that move the answer the most alone are tried together.
STRONGEST = 8
# Points on the way from the patient to a change, to stop at the first that suffices.
REFINED = 101
# Changes that are told; more would be read by nobody.
TOLD = 5


def find_changes(
    compute_logits: Callable, row: pd.DataFrame, features: Sequence[dict], *, cut: float
) -> pd.DataFrame:
    """Find the smallest changes that take a patient across the threshold.

    First of one measurement, each tried alone over its whole measured range; only if none
    suffices, of two, then of three, among the eight that move the answer the most. The size of a
    change is the sum of its parts in standard deviations of the training patients. A change stays
    in the measured range, and no "worst" falls below its mean. The search is over steps, then
    refined on the straight way there: of changes of several, a smaller one may exist.

    Args:
        compute_logits: as `MeasurementModel.compute_logits`.
        row: `(1, 30)`, one patient; a missing value is not changed.
        features: as in the card.
        cut: the logit of the threshold.

    Returns:
        A row for each part of each change, the smallest change first, five at most: `change` (its
        number), `measurement`, `unit`, `from`, `to`, `deviations` (of this part, signed), `size`
        (of the whole change) and the `label` that it leads to. No rows where none was found.
    """
    search = _Search(compute_logits, row.to_numpy()[0], features, cut)
    for count in STEPS:
        found = sorted(search.try_together(count), key=lambda change: change[0])
        if found:
            return _tabulate(found[:TOLD], row, features, search.target)
    return pd.DataFrame(columns=list(COLUMNS))


class _Search:
    """One patient, and the ranges within which a change is looked for."""

    def __init__(self, compute_logits, row, features, cut):
        self.score, self.row, self.cut = compute_logits, row, cut
        self.lowest, self.highest, self.deviation = (
            np.array([each[name] for each in features])
            for name in ("lowest", "highest", "deviation")
        )
        self.is_malignant = self._ask(row[None])[0]
        self.target = CLASS_NAMES[int(not self.is_malignant)]
        movable = np.flatnonzero(np.isfinite(row) & (self.highest > self.lowest))
        self.strongest = sorted(movable, key=self._measure_reach, reverse=True)

    def try_together(self, count):
        """Give the size and the new values of each change of so many measurements."""
        chosen = self.strongest if count == 1 else self.strongest[:STRONGEST]
        changes = (
            self._try_places(list(places), STEPS[count]) for places in combinations(chosen, count)
        )
        return [change for change in changes if change is not None]

    def _try_places(self, places, steps):
        grids = [np.linspace(self.lowest[place], self.highest[place], steps) for place in places]
        values = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(places))
        return self._take_smallest(places, values, refined=False)

    def _take_smallest(self, places, values, *, refined):
        rows = np.repeat(self.row[None], len(values), axis=0)
        rows[:, places] = values
        is_allowed = self._is_within(values, places) & self._is_consistent(rows)
        turned = is_allowed & (self._ask(rows) != self.is_malignant)
        if not turned.any():
            return None
        sizes = np.abs((values - self.row[places]) / self.deviation[places]).sum(axis=1)
        best = np.where(turned, sizes, np.inf).argmin()
        if refined:
            return sizes[best], rows[best]
        shares = np.linspace(0, 1, REFINED)[:, None]
        on_the_way = self.row[places] + shares * (values[best] - self.row[places])
        return self._take_smallest(places, on_the_way, refined=True)

    def _ask(self, rows):
        return self.score(pd.DataFrame(rows, columns=list(FEATURES))) >= self.cut

    def _measure_reach(self, place):
        rows = np.repeat(self.row[None], 2, axis=0)
        rows[:, place] = self.lowest[place], self.highest[place]
        return np.ptp(self.score(pd.DataFrame(rows, columns=list(FEATURES))))

    def _is_within(self, values, places):
        """Within the measured range, where the patient himself may not be."""
        return ((values >= self.lowest[places]) & (values <= self.highest[places])).all(axis=1)

    def _is_consistent(self, rows):
        """No worst below its mean, unless the patient's own is: then it must not get worse."""
        mean, _, worst = np.split(rows, 3, axis=1)
        own_mean, _, own_worst = np.split(self.row, 3)
        slack = np.minimum(np.nan_to_num(own_worst - own_mean), 0)
        return ~(worst - mean < slack).any(axis=1)


def _tabulate(found, row, features, label):
    parts = []
    for number, (size, values) in enumerate(found, 1):
        for place in np.flatnonzero(values != row.to_numpy()[0]):
            each, before = features[place], row.iloc[0, place]
            if np.isnan(before):
                continue
            deviations = (values[place] - before) / each["deviation"]
            parts.append(
                (number, each["name"], each["unit"], before, values[place], deviations, size, label)
            )
    return pd.DataFrame(parts, columns=list(COLUMNS))
