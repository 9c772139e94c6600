"""The page that tells programmers how to ask: one command for each thing the API does."""

from flask import Blueprint, render_template

views = Blueprint("guide", __name__)


@views.get("/api")
def show_guide():
    """Show how the API is used."""
    return render_template("guide.html")
