"""The Wisconsin diagnostic measurements: 569 real patients, 30 numbers about cell nuclei each.

The only reader of scikit-learn's copy, so that its opposite coding of the classes is turned in
one place. Neither models of these numbers nor pictures drawn from them belong here.
"""

import pandas as pd
from sklearn.datasets import load_breast_cancer

SOURCE = "Breast Cancer Wisconsin (Diagnostic), UCI, doi:10.24432/C5DW2B, as in scikit-learn"
LICENCE = "CC BY 4.0"


def load_wisconsin() -> pd.DataFrame:
    """Load the measurements with malignant coded 1, as everywhere in bcnet.

    Ten quantities were measured on the nuclei of each fine-needle aspirate; every one appears as
    mean, standard error, and "worst": the mean of the three largest values (Street, Wolberg and
    Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993,
    doi:10.1117/12.148698).

    Returns:
        One row per patient (569) in scikit-learn's order: 30 float columns under scikit-learn's
        names (`"mean radius"`, `"radius error"`, `"worst radius"`, …), `label` (int; benign 0,
        malignant 1), and `patient_id` (`"001"` to `"569"`, the row's number).

    Example:
        >>> table = load_wisconsin()
        >>> int(table["label"].sum()), float(table.loc[0, "mean radius"])
        (212, 17.99)
    """
    bunch = load_breast_cancer(as_frame=True)
    patient_ids = [f"{number:03d}" for number in range(1, len(bunch.data) + 1)]
    # scikit-learn codes malignant 0: turned here and nowhere else
    return bunch.data.assign(label=1 - bunch.target, patient_id=patient_ids)
