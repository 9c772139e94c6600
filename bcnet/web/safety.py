"""What keeps a stranger out of a running server: names, origins, cookies, headers, limits.

Each function here answers one way of attacking. Who a user is, is the business of `access`.
"""

import ipaddress
import os
import secrets
import socket
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Request, g, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_wtf import CSRFProtect

from bcnet.web.errors import SENTENCES, Refusal
from bcnet.web.settings import LOOPBACK_NAMES, Settings

MOST_BYTES = 25 * 2**20

KEY_BYTES = 32

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# Everything comes from this server; pictures also from the page itself (`data:`), nothing inline.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

# A minute's tries at a password: enough for a human, hopeless for a list of a million.
LOGINS_PER_MINUTE = 10


class InMemoryRequest(Request):
    """A request whose uploads stay in memory; Werkzeug would put large ones on the disk."""

    def _get_file_stream(self, *arguments, **named):
        return BytesIO()


def protect(app: Flask, settings: Settings) -> None:
    """Set up all that is not particular to a page.

    Args:
        app: without views yet.
        settings: the operator's decisions.
    """
    app.request_class = InMemoryRequest
    app.config.update(
        SECRET_KEY=read_secret_key(settings.instance / "secret.key"),
        MAX_CONTENT_LENGTH=MOST_BYTES,
        MAX_FORM_MEMORY_SIZE=2**20,
        SESSION_COOKIE_NAME="bcnet",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.tls,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a page may stay open over lunch
    )
    app.before_request(lambda: check_host(request.host, settings))
    app.before_request(_check_origin)
    app.after_request(lambda response: _add_headers(response, settings))


def check_host(host: str, settings: Settings) -> None:
    """Refuse a request to a name that is not the server's own (DNS rebinding).

    A foreign name can be pointed at this machine, an address cannot: on a network every address
    is taken, on loopback only its own names.

    Args:
        host: the header Host, with or without port.
        settings: of the server.

    Raises:
        Refusal: 403.
    """
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    own = LOOPBACK_NAMES | {each.lower() for each in settings.names}
    if not settings.is_loopback:
        own |= {settings.host.lower(), socket.gethostname().lower()}
        own |= {name} if _is_address(name) else set()
    if name not in own:
        raise Refusal(403, SENTENCES[403])


def read_secret_key(path: str | os.PathLike) -> bytes:
    """Read the key that signs sessions; the first time, make it.

    Args:
        path: the key's file, readable by its owner only.

    Returns:
        32 random bytes, the same for as long as the file is there.

    Raises:
        ValueError: when others may read the file, or it does not hold a key.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make_key(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ValueError(f"others may read the secret key {path}: delete it, a new one is made")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} holds no secret key: delete it, a new one is made")
    return key


def add_limits(app: Flask, settings: Settings) -> None:
    """Limit how often one user may log in or ask, and demand tokens in forms.

    Args:
        app: with all its views.
        settings: of the server.
    """
    csrf = CSRFProtect(app)
    csrf.exempt(app.blueprints["api"])  # takes no cookies: nothing that another site could misuse
    limiter = Limiter(_name_asker, app=app, storage_uri="memory://")
    uploads = f"{settings.uploads_per_minute} per minute"
    limits = {"access.log_in": f"{LOGINS_PER_MINUTE} per minute"}
    limits |= dict.fromkeys(LIMITED_VIEWS, uploads)
    for endpoint in limits.keys() & app.view_functions.keys():
        limit = limiter.limit(limits[endpoint], methods=["POST"])
        app.view_functions[endpoint] = limit(app.view_functions[endpoint])


# The views that let a network compute.
LIMITED_VIEWS = (
    "pictures.show_answers",
    "measurements.show_answer",
    "measurements.show_answers",
    "measurements.try_out",
    "api.predict",
)


def _check_origin():
    """Refuse what another site's page makes a browser send."""
    if request.method in SAFE_METHODS:
        return
    origin = request.headers.get("Origin")
    is_own = origin is None or urlsplit(origin).netloc == request.host
    if not is_own or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Refusal(403, SENTENCES[403])


def _add_headers(response, settings):
    response.headers.update(HEADERS)
    if settings.tls:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    is_static = request.endpoint == "static"
    response.headers["Cache-Control"] = "public, max-age=3600" if is_static else "no-store"
    return response


def _is_address(name):
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _make_key(path):
    """Write a key whole, and never over one that another process has just made."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _name_asker():
    return g.get("user") or get_remote_address()
