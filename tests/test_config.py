"""A configuration that cannot work is refused at once, by name."""

import pytest

from bcnet.config import CLASS_NAMES, Config


def test_class_names_count_malignant_as_one():
    assert CLASS_NAMES.index("malignant") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("validation", 0.0),
        ("test", 1.0),
        ("seed", -1),
        ("precision", "float64"),
        ("modality", "photograph"),
        ("image_size", (3, 3)),
        ("model", "vgg19"),
        ("alpha", 0.3),
        ("fine_tune_rate", 0.0),
        ("schedule", "linear"),
        ("warmup_epochs", -1),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("mixup", -0.1),
        ("mixup", 11),
        ("sampling", "all"),
        ("stain_jitter", 1.0),
        ("stain_normalisation", "vahadane"),
        ("ema", 1.0),
        ("ema", float("nan")),
        ("members", 0),
        ("calibration", "isotonic"),
        ("threshold_rule", "f2"),
    ],
)
def test_config_names_the_value_that_is_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}="):
        Config(**{name: value})


def test_config_leaves_patients_for_training():
    with pytest.raises(ValueError, match="below 1, to leave patients"):
        Config(validation=0.5, test=0.5)
