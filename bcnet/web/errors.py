"""What a user is told when something fails, and what the log keeps of it.

A sentence and a reference for the user; status, place and reference for the log. Neither holds a
trace for strangers, and the log holds no file name, no value and nobody's id: requests are logged
by their route, errors by their type and lines of code.
"""

import logging
import secrets
import time
import traceback

from flask import Flask, g, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from bcnet.history import HistoryError
from bcnet.web.answering import BusyError
from bcnet.web.services import get_services

logger = logging.getLogger("bcnet")

SENTENCES = {
    400: "The request is malformed.",
    401: "Log in, or send a valid token (Authorization: Bearer TOKEN).",
    403: "This request comes from another site, or to another name than the server's own.",
    404: "There is nothing at this address, or nothing of yours.",
    405: "This address does not take that kind of request.",
    413: "The request is too large: at most 25 MB and 20 pictures at once.",
    415: "This is not a format that is understood here.",
    422: "The form or the data is malformed.",
    429: "Too many requests. Wait a minute and try again.",
    500: "Something went wrong on our side. Please report the reference.",
    503: "The server is busy. Try again in a moment.",
}

# Seconds after which a client may try again.
RETRY_AFTER = 10


class Refusal(HTTPException):
    """Refuse a request, telling the user why in a sentence of ours.

    Args:
        status: HTTP status from 400 on.
        sentence: for the user; must hold nothing that he does not know.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.code = status


def add_error_pages(app: Flask) -> None:
    """Answer every failure with a sentence and a reference, and count and log every request."""
    app.register_error_handler(HTTPException, _tell)
    app.register_error_handler(CSRFError, _tell_outdated)
    app.register_error_handler(BusyError, _tell_busy)
    app.register_error_handler(HistoryError, _tell_history)
    app.register_error_handler(Exception, _tell_fault)
    app.before_request(_start_clock)
    app.after_request(_log)


def is_for_program() -> bool:
    """Return whether the request at hand comes from a program, which is answered in JSON."""
    return request.path.startswith(("/api/v1/", "/healthz", "/metrics"))


def _tell(error):
    is_ours = isinstance(error, Refusal)
    sentence = error.description if is_ours else SENTENCES.get(error.code, error.name)
    response = _respond(error.code, sentence)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.code == 405:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response


def _tell_outdated(_):
    return _respond(400, "The form has expired. Reload the page and send it again.")


def _tell_busy(_):
    response = _respond(503, SENTENCES[503])
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _tell_history(error):
    response = _respond(503, "The history cannot be read or written now; nothing was changed.")
    logger.error("%s, reference %s", error, g.reference)  # names the database, and nobody in it
    return response


def _tell_fault(error):
    response = _respond(500, SENTENCES[500])
    frames = traceback.extract_tb(error.__traceback__)
    lines = "".join(f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    logger.error("%s, reference %s%s", type(error).__name__, g.reference, lines)
    return response


def _respond(status, sentence):
    g.reference = secrets.token_hex(4)
    told = {"error": sentence, "reference": g.reference}
    body = jsonify(told) if is_for_program() else render_template("error.html", **told)
    return make_response(body, status)


def _start_clock():
    g.started = time.perf_counter()


def _log(response):
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    route = request.url_rule.rule if request.url_rule else "(no route)"
    told = f", reference {g.reference}" if "reference" in g else ""
    method, status = request.method, response.status_code
    logger.info("%s %s %s %.0f ms%s", method, route, status, seconds * 1e3, told)
    counts = get_services().counts
    counts.add("bcnet_requests_total", status=str(status))
    counts.add("bcnet_request_seconds_total", seconds)
    return response
