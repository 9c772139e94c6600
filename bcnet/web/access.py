"""Who asks: logging in for people, tokens for programs, and nobody in particular on loopback.

Belongs here: turning a session or a token into a user name. Passwords are kept and compared by
`bcnet.history`.
"""

from flask import (
    Blueprint,
    Flask,
    flash,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)

from bcnet.web.errors import SENTENCES, Refusal
from bcnet.web.services import get_services

views = Blueprint("access", __name__)

# What anybody may see: how to log in, what it looks like, and that the server is alive.
OPEN_VIEWS = frozenset(
    {"access.show_login", "access.log_in", "static", "monitoring.show_health", "api.show_document"}
)


def add_access(app: Flask) -> None:
    """Have every request's user known, or refused, before its view runs."""
    app.before_request(_identify)
    app.context_processor(lambda: {"user": g.get("user"), "requires_login": requires_login()})


def requires_login() -> bool:
    """Return whether this server answers users only.

    It does as soon as there is a user, and always where a network can reach it.
    """
    services = get_services()
    return not services.settings.is_loopback or bool(services.history.users.list())


def _identify():
    g.user = None
    if not requires_login():
        return None
    is_program = request.blueprint == "api" or request.endpoint == "monitoring.show_metrics"
    g.user = _check_token() if is_program else _check_session()
    if g.user is not None or request.endpoint in OPEN_VIEWS:
        return None
    if is_program or request.method != "GET":
        raise Refusal(401, SENTENCES[401])
    return redirect(url_for("access.show_login"))


def _check_token():
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return get_services().history.users.check_token(token.strip()) if scheme == "Bearer" else None


def _check_session():
    """Name the session's user, unless he was removed or has another password since."""
    name, stamp = session.get("user"), session.get("stamp")
    return name if stamp and get_services().history.users.stamp(name) == stamp else None


@views.get("/login")
def show_login():
    """Show the form to log in with."""
    return render_template("login.html")


@views.post("/login")
def log_in():
    """Begin a session, if name and password belong together."""
    users, name = get_services().history.users, request.form.get("name", "")
    if not users.check(name, request.form.get("password", "")):
        flash("Name and password do not belong together.")
        return render_template("login.html"), 401
    session.clear()  # nothing that was there before the login is trusted after it
    session["user"], session["stamp"] = name, users.stamp(name)
    return redirect(url_for("pictures.show_form"))


@views.post("/logout")
def log_out():
    """End the session."""
    session.clear()
    return redirect(url_for("access.show_login"))
