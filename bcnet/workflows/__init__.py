"""One function per verb: what the notebook, the command line and every later face call.

A workflow puts the lower floors together and returns what it found; it tells the user what he
should know through the logger "bcnet". The functions are imported when first asked for, so that
auditing or splitting a data set does not wait for TensorFlow.
"""

from importlib import import_module

_HOMES = {
    "audit": "preparation",
    "split": "preparation",
    "simulate": "preparation",
    "fetch": "fetching",
    "find_data": "preparation",
    "explore": "exploration",
    "settle_config": "training",
    "divide": "training",
    "train": "training",
    "cross_validate": "cross_validation",
    "judge_folds": "cross_validation",
    "judge_held_out": "cross_validation",
    "evaluate": "evaluation",
    "describe_data": "evaluation",
    "stress": "robustness",
    "record_subgroups": "recording",
    "record_robustness": "recording",
    "compare": "comparison",
    "leak_demo": "leakage",
    "bridge": "bridging",
    "calibrate": "calibration",
    "CalibrationOptions": "calibration",
    "promise": "promises",
    "predict": "scoring",
    "explain": "explaining",
    "write_model_card": "card",
    "check_model": "checking",
    "ExplainOptions": "overlays",
    "extract_features": "cases",
    "Search": "search",
    "tune": "tuning",
    "read_config": "config_file",
    "train_measurements": "measurement_training",
    "evaluate_measurements": "measurements",
    "predict_measurements": "measurements",
    "explain_measurements": "measurements",
    "run_notebook": "notebook",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return __all__
