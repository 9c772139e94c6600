"""What is loaded late: the workflows, and with most of them TensorFlow, started quietly.

Commands that do not need TensorFlow say so, and answer without waiting for it.
"""

import logging
import os
import sys


def import_workflows(*, tensorflow: bool = True):
    """Import `bcnet.workflows`, whose functions are imported when first asked for.

    Args:
        tensorflow: start it first, without its chatter; False where it is not needed.

    Returns:
        The module.
    """
    if tensorflow:
        _start_tensorflow_quietly()
    from bcnet import workflows

    return workflows


def load_classifier(path: str):
    """Load a model file.

    Args:
        path: a `.keras` file.

    Returns:
        The `bcnet.classifier.Classifier`.

    Raises:
        ValueError: as `Classifier.load` does.
    """
    _start_tensorflow_quietly()
    from bcnet.classifier import Classifier

    return Classifier.load(path)


def _start_tensorflow_quietly():
    """Keep its start-up chatter, which its C++ writes past Python, out of the user's sight."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
