"""What watches over a server: whether it is alive, and what it counts."""

from flask import Blueprint, Response, jsonify

from bcnet import __version__
from bcnet.web.counting import measure_memory
from bcnet.web.services import get_services

views = Blueprint("monitoring", __name__)


@views.get("/healthz")
def show_health():
    """Say that the server answers, and with which models."""
    models = get_services().models
    return jsonify(status="ok", version=__version__, models=sorted(models.hashes))


@views.get("/metrics")
def show_metrics():
    """Give the counts in the text format of Prometheus."""
    services = get_services()
    gauges = {"bcnet_pictures_waiting": services.queue.count_waiting(), **measure_memory()}
    return Response(services.counts.format(gauges), mimetype="text/plain")
