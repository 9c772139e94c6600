"""What several test files need: a small simulated data set and a network trained on it."""

import os
import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from bcnet.config import Config
from bcnet.data.manifest import read_manifest

pytest_plugins = ["databases"]

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


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


@pytest.fixture(scope="session")
def make_app(model_file, tmp_path_factory):
    """Make web applications that share one loaded model, each with its own database."""
    from bcnet.web import Settings, application

    models, apps = application.load_models([model_file]), []

    def make(**settings):
        folder = tmp_path_factory.mktemp("instance")
        apps.append(application.create_app(Settings(instance=folder, **settings)))
        return apps[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "load_models", lambda _: models)
        yield make
    for app in apps:
        app.extensions["bcnet"].close()


@pytest.fixture(scope="session")
def open_app(make_app):
    """An application without users, without limits in a test's reach."""
    return make_app(uploads_per_minute=10**6)


@pytest.fixture(scope="session")
def measurement_model(tmp_path_factory):
    """A model of the Wisconsin measurements, made in seconds."""
    from bcnet import workflows

    path = tmp_path_factory.mktemp("models") / "quick-rows.skops"
    return workflows.train_measurements(None, path, names=["logistic"], quick=True)[0]


@pytest.fixture(scope="session")
def measuring_app(make_app, measurement_model):
    """An application that answers measurements too; those of other tests do not."""
    app = make_app(uploads_per_minute=10**6)
    services, name = app.extensions["bcnet"], "quick-rows"
    models = replace(
        services.models,
        measurements={name: measurement_model},
        hashes=services.models.hashes | {name: "00"},
    )
    app.extensions["bcnet"] = replace(services, models=models)
    return app


@pytest.fixture
def client(open_app):
    """A browser without cookies yet."""
    return open_app.test_client()


@pytest.fixture(scope="session")
def png(simulated):
    """The content of one picture's file."""
    return Path(simulated.table["path"][0]).read_bytes()


@pytest.fixture
def send_form():
    """Send a form with the token that its page holds."""

    def send(client, path, data, *, form=None):
        found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(form or path).text)
        return client.post(path, data={**data, "csrf_token": found[1]})

    return send
