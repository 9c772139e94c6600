"""The application put together: services, safety, pages."""

from flask import Flask

from bcnet.history import History
from bcnet.web import (
    access,
    api,
    errors,
    guide,
    learn,
    measurements,
    models,
    monitoring,
    pictures,
    records,
    safety,
)
from bcnet.web.loading import load_models
from bcnet.web.services import Services
from bcnet.web.settings import Settings

PAGES = (access, pictures, measurements, records, models, learn, guide, monitoring, api)

# The navigation, in its order.
MENU = {
    "pictures.show_form": "Picture",
    "measurements.show_form": "Measurements",
    "records.show_history": "History",
    "models.show_models": "Models",
    "learn.show_contents": "Learn",
    "guide.show_guide": "API",
}


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application, with its models loaded and its database open.

    Args:
        settings: the operator's decisions; by default those of a single user on this machine.

    Returns:
        A WSGI application; `extensions["bcnet"]` are its `Services`, to be closed at the end.

    Raises:
        ValueError: when settings, a model or the secret key cannot be used, or a network could
            reach a server without users.
        OSError: when the database cannot be opened.

    Example:
        `create_app(Settings(models=("idc",))).test_client().get("/healthz").json["status"]`
        is "ok".
    """
    settings = settings or Settings()
    settings.instance.mkdir(parents=True, exist_ok=True, mode=0o700)
    history = History.open(settings.database_url)
    require_users(settings, history)
    app = Flask(__package__)
    app.extensions["bcnet"] = Services(settings, load_models(settings.models), history)
    errors.add_error_pages(app)
    safety.protect(app, settings)
    access.add_access(app)
    for page in PAGES:
        app.register_blueprint(page.views)
    safety.add_limits(app, settings)
    app.context_processor(lambda: {"menu": MENU, "keeps_images": settings.keep_images})
    return app


def require_users(settings: Settings, history: History) -> None:
    """Refuse to open a server to a network before there is a user with a password.

    Args:
        settings: of the server.
        history: in which the users are.

    Raises:
        ValueError: naming the command that adds one.
    """
    if not settings.is_loopback and not history.users.list():
        raise ValueError(
            f"`host` {settings.host} is open to a network, which needs a user and a password: "
            "add one by `bcnet users add NAME` first, or listen at 127.0.0.1"
        )
