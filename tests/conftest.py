"""What several test files need: a small simulated data set and a network trained on it."""

import os
import sys
from importlib import import_module
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from bcnet.config import Config
from bcnet.data.manifest import read_manifest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

pytest_plugins = ["databases"]


@pytest.fixture(scope="module")
def load():
    """Import a module of the benchmarks, which is done from their own folder only."""
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="session")
def simulated_folder(tmp_path_factory):
    """Forty simulated patients with two pictures each, 48 × 48."""
    from bcnet.data.simulate import simulate

    return simulate(
        tmp_path_factory.mktemp("data") / "simulated",
        images_per_patient=2,
        image_size=48,
        patients=40,
    )


@pytest.fixture(scope="session")
def simulated(simulated_folder):
    """The manifest of `simulated_folder`."""
    return read_manifest(simulated_folder)


@pytest.fixture(scope="session")
def quick_config():
    """A run of seconds: enough to train, not enough to be good."""
    return Config(epochs=2, batch_size=16, precision="float32")


@pytest.fixture(scope="session")
def model_file(simulated, quick_config, tmp_path_factory):
    """A model file trained on `simulated`; tests that change it take a copy."""
    from bcnet import workflows

    path = tmp_path_factory.mktemp("models") / "quick.keras"
    workflows.train(simulated, path, quick_config)
    return path
