"""Short pages for whoever reads an answer the first time: what its words mean, with drawings.

Belongs here: which pages there are. Their words and drawings, made by hand and of no real patient,
are in `templates/learn/`.
"""

from flask import Blueprint, abort, render_template

views = Blueprint("learn", __name__, url_prefix="/learn")

# In the order of reading.
PAGES = {
    "result": "How to read a result",
    "probability": "What a probability is",
    "threshold": "What a threshold is",
    "heatmap": "What a heatmap is",
    "leak": "What a leak is",
}


@views.get("")
def show_contents():
    """Show which pages there are."""
    return render_template("learn/contents.html", pages=PAGES)


@views.get("/<name>")
def show_page(name):
    """Show one page, and the way to the next."""
    if name not in PAGES:
        abort(404)
    names = list(PAGES)
    following = names[names.index(name) + 1 :][:1]
    return render_template(
        f"learn/{name}.html", title=PAGES[name], following=following, pages=PAGES
    )
