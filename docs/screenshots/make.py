"""Make the screenshots of this folder: every page at 360 and 1440 pixels, small enough to keep.

    python docs/screenshots/make.py MODEL.keras MODEL.skops PICTURE

The picture must be a simulated one (`bcnet simulate`): no patient's belongs into a repository.
Needs Chromium and the packages for tests. A minute.
"""

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from threading import Thread

from PIL import Image
from playwright.sync_api import sync_playwright

from bcnet.web import Settings, create_app
from bcnet.web.learn import PAGES as LESSONS
from bcnet.web.serving import make_server

FOLDER = Path(__file__).parent

# The narrow ones in the dark, so that both are seen.
WIDTHS = {360: "dark", 1440: "light"}

# Of a palette: enough for maps of evidence, which are smooth.
COLOURS = 160


def answer_picture(tab, picture):
    """Go to the page of an answered picture."""
    tab.goto("/")
    tab.set_input_files("#file", picture)
    tab.click("main button")
    tab.wait_for_selector("article.case")


def answer_example(tab, picture):
    """Go to the page of answered measurements."""
    tab.goto("/measurements?example=in between")
    tab.click("button:text-is('Answer')")


def show_case(tab, picture):
    """Go to the page of a case whose outcome is known."""
    answer_picture(tab, picture)
    tab.click("text=This case in the history")
    tab.check("input[name=outcome][value=malignant]")
    tab.click("button:text-is('Enter')")


PAGES = {
    "picture": "/",
    "answer": answer_picture,
    "measurements": "/measurements",
    "measured": answer_example,
    "case": show_case,
    "history": "/history",
    "models": "/models",
    "learn": "/learn",
    **{f"learn-{name}": f"/learn/{name}" for name in LESSONS},
    "api": "/api",
    "login": "/login",
}


def shoot(tab, path):
    """Write what a tab shows, from top to bottom."""
    image = Image.open(BytesIO(tab.screenshot(full_page=True))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def shoot_all(browser, address, picture):
    """Write all pages at all widths."""
    for width, light in WIDTHS.items():
        size = {"width": width, "height": 800}
        tab = browser.new_page(base_url=address, viewport=size, color_scheme=light)
        for name, way in PAGES.items():
            way(tab, picture) if callable(way) else tab.goto(way)
            tab.wait_for_load_state("networkidle")
            shoot(tab, FOLDER / f"{name}-{width}.png")


def main(*models, picture):
    """Serve the models to a browser of their own, and photograph it."""
    settings = Settings(models=models, instance=Path(tempfile.mkdtemp()), port=0)
    app = create_app(settings)
    server = make_server(app, settings)
    Thread(target=server.run, daemon=True).start()
    with sync_playwright() as started:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shoot_all(browser, f"http://127.0.0.1:{server.effective_port}", picture)
        browser.close()
    server.close()
    app.extensions["bcnet"].close()
    shutil.rmtree(settings.instance)


if __name__ == "__main__":
    main(*sys.argv[1:-1], picture=sys.argv[-1])
