import numpy as np
from sklearn.datasets import load_breast_cancer

from bcnet.data.wisconsin import load_wisconsin


def test_load_wisconsin_codes_malignant_as_one():
    labels = load_wisconsin()["label"]
    assert (labels == 1).sum() == 212
    assert (labels == 0).sum() == 357


def test_load_wisconsin_keeps_measurements_beside_their_labels():
    # malignant nuclei are larger: were the rows shuffled or the labels not turned, this fails
    mean = load_wisconsin().groupby("label")["worst radius"].mean()
    assert mean[1] > mean[0] + 5


def test_load_wisconsin_keeps_the_names_and_values_of_scikit_learn():
    bunch = load_breast_cancer(as_frame=True)
    table = load_wisconsin()
    assert list(table.columns) == [*bunch.feature_names, "label", "patient_id"]
    np.testing.assert_array_equal(table[list(bunch.feature_names)], bunch.data)


def test_load_wisconsin_numbers_the_patients_as_text():
    patient_ids = load_wisconsin()["patient_id"]
    assert patient_ids.iloc[0] == "001"
    assert patient_ids.iloc[-1] == "569"
    assert patient_ids.is_unique
