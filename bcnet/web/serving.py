"""The application behind waitress: threads, one process, no fork after TensorFlow has started."""

import logging
from collections.abc import Callable
from threading import Event, Thread

from flask import Flask
from waitress.server import create_server

from bcnet.history import HistoryError
from bcnet.web.answering import warm_up
from bcnet.web.application import create_app
from bcnet.web.keeping import remove_pictures
from bcnet.web.safety import MOST_BYTES
from bcnet.web.services import Services
from bcnet.web.settings import Settings

logger = logging.getLogger("bcnet")

# Requests that are decoded, asked and written at a time; the network itself has one thread.
THREADS = 16

# Each may send a body that is held in memory.
CONNECTIONS = 100

# Waitress puts what is larger on the disk, where no picture may lie: neither what is sent …
LARGEST_BODY = MOST_BYTES + 2**20
# … nor a page of twenty pictures.
LARGEST_PAGE = 2**28

# Seconds between two looks for answers that have grown too old.
HOUR = 3600


def serve(settings: Settings, *, tell: Callable[[str], None] = logger.info) -> None:
    """Serve until interrupted.

    Args:
        settings: the operator's decisions.
        tell: called with the address once the server listens.

    Raises:
        ValueError: as `create_app` does.
        OSError: when the port is taken or the database cannot be opened.
    """
    app = create_app(settings)
    services, stopped = app.extensions["bcnet"], Event()
    server = make_server(app, settings)
    threads = [
        Thread(target=warm_up, args=(services.queue, services.models.pictures), daemon=True),
        Thread(target=_expire, args=(services, stopped), daemon=True),
    ]
    for thread in threads:
        thread.start()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that some wait is no warning
    tell(f"http://{_format_address(settings.host, server)}/")
    try:
        server.run()
    finally:
        stopped.set()
        server.close()
        services.close()


def make_server(app: Flask, settings: Settings):
    """Make the server, listening but not yet answering.

    Args:
        app: of `create_app`.
        settings: of the server.

    Returns:
        A waitress server; `effective_port` is its port, `run()` answers until interrupted.
    """
    proxy = {
        "trusted_proxy": "127.0.0.1",
        "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"},
        "clear_untrusted_proxy_headers": True,
    }
    return create_server(
        app,
        host=settings.host,
        port=settings.port,
        threads=THREADS,
        connection_limit=CONNECTIONS,
        max_request_body_size=LARGEST_BODY,
        inbuf_overflow=LARGEST_BODY,
        outbuf_overflow=LARGEST_PAGE,
        ident=None,  # nobody needs to know the server's name
        **(proxy if settings.tls else {}),
    )


def expire(services: Services) -> int:
    """Delete answers, and their pictures, that are older than the operator keeps them.

    Args:
        services: of the server.

    Returns:
        How many were deleted.
    """
    days = services.settings.retention_days
    if days is None:
        return 0
    deleted = services.history.expire(days)
    remove_pictures(services.settings.image_folder, deleted.images)
    return deleted.count


def _expire(services, stopped):
    while True:
        try:
            count = expire(services)
            if count:
                logger.info("%s answers were older than their retention and are deleted", count)
        except HistoryError as error:  # a full disk, say: to be tried again
            logger.warning("answers that are too old could not be deleted: %s", error)
        if stopped.wait(HOUR):
            return


def _format_address(host, server):
    return f"[{host}]:{server.effective_port}" if ":" in host else f"{host}:{server.effective_port}"
