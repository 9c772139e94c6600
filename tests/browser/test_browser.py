"""The pages in a real browser: what a person does, without scripts too, and who cannot see well.

Needs Chromium from the system's packages; skipped, saying so, where there is none. One module, so
that the browser is closed before other tests start event loops of their own.
"""

import os
import shutil
from threading import Thread

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
PASSWORD = "correct horse battery"

# Milliseconds; a loaded machine answers slowly, a broken page never.
PATIENCE = 20_000

# What is checked at both widths, in both lights, and kept as screenshots; `open_page` leads there.
PAGES = (
    "picture",
    "answer",
    "measurements",
    "measured",
    "history",
    "case",
    "models",
    "learn",
    "heatmap",
    "api",
    "login",
    "error",
)


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    playwright = pytest.importorskip("playwright.sync_api")
    # Chromium's own sandbox refuses to run as root, which test machines often are.
    arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def listen():
    """Serve applications on free ports of this machine, each by a thread."""
    from bcnet.web.serving import make_server
    from bcnet.web.settings import Settings

    servers = []

    def start(app):
        server = make_server(app, Settings(port=0))
        thread = Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.effective_port}"

    yield start
    for server, thread in servers:
        server.close()
        thread.join(timeout=5)


@pytest.fixture(scope="module")
def address(listen, measuring_app):
    return listen(measuring_app)


@pytest.fixture
def open_tab(browser, address):
    """Open a tab of its own, in which any complaint of the browser is a failure."""
    contexts, complaints = [], []

    def open_(base=address, **settings):
        contexts.append(browser.new_context(base_url=base, **settings))
        contexts[-1].set_default_timeout(PATIENCE)
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        return tab

    yield open_
    for context in contexts:
        context.close()
    # The browser reports 404 and 422 there as well, which some tests ask for.
    assert [each for each in complaints if "the server responded with a status" not in each] == []


@pytest.fixture(scope="module")
def picture(png):
    return {"name": "a.png", "mimeType": "image/png", "buffer": png}


def answer_picture(tab, picture):
    tab.goto("/")
    tab.set_input_files("#file", picture)
    tab.click("main button")
    tab.wait_for_selector("article.case")


def answer_example(tab, example="in between"):
    tab.goto("/measurements")
    tab.click(f"text={example}")
    tab.click("button:text-is('Answer')")
    tab.wait_for_selector("#answer .label")


def open_page(tab, name, picture):
    """Go where a person would, to one of `PAGES`."""
    paths = {"picture": "", "learn": "learn", "heatmap": "learn/heatmap", "error": "nowhere"}
    if name in ("answer", "case"):
        answer_picture(tab, picture)
    elif name == "measured":
        answer_example(tab)
    else:
        tab.goto(f"/{paths.get(name, name)}")
    if name == "case":
        tab.click("text=This case in the history")
    tab.wait_for_load_state()


def read_probability(tab):
    return float(tab.inner_text("#answer .probability").split()[0])


def test_a_picture_is_answered_faded_found_again_and_completed(open_tab, picture):
    tab = open_tab()
    answer_picture(tab, picture)
    overlay = tab.locator("img.overlay")
    tab.locator(".slider input").fill("0")
    assert overlay.evaluate("image => getComputedStyle(image).opacity") == "0"
    tab.click("text=This case in the history")
    tab.check("input[name=outcome][value=malignant]")
    tab.click("button:text-is('Enter')")
    assert "The outcome is entered." in tab.inner_text("#messages")
    tab.click("nav >> text=History")
    assert "malignant" in tab.locator("tbody tr").first.inner_text()


def test_the_browser_refuses_too_many_pictures_before_they_travel(open_tab, picture):
    tab = open_tab()
    tab.goto("/")
    tab.set_input_files("#file", [picture] * 21)
    assert not tab.evaluate("document.querySelector('form[data-upload]').checkValidity()")


def test_a_changed_measurement_moves_the_answer_at_once(open_tab):
    tab = open_tab(viewport=NARROW)
    answer_example(tab)
    before = read_probability(tab)
    tab.fill("#worst-radius", "36")
    tab.wait_for_selector("#told:has-text('probability')")
    assert read_probability(tab) > before
    assert "not kept" in tab.inner_text("#answer")


def test_the_answer_to_the_last_change_stays(open_tab):
    tab = open_tab()
    answer_example(tab)
    for value in ("3000", "800"):
        with tab.expect_request("**/measurements/try"):
            tab.fill("#worst-area", value)
    tab.wait_for_load_state("networkidle")
    tab.click("text=All thirty contributions")
    assert "800 px²" in tab.inner_text("tr:has-text('worst area')")


def test_an_impossible_measurement_is_not_asked_about(open_tab):
    tab = open_tab()
    answer_example(tab)
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.fill("#worst-radius", "3600")
    tab.wait_for_timeout(600)
    assert asked == []


@pytest.mark.parametrize("name", ["case", "answer", "measured"])
def test_a_case_prints_on_one_sheet_without_controls(open_tab, picture, name):
    tab = open_tab()
    open_page(tab, name, picture)
    assert tab.pdf(format="A4").count(b"/Type /Page\n") == 1
    tab.emulate_media(media="print")
    assert not tab.locator("main button").first.is_visible()
    assert tab.locator(".notice").is_visible()


def test_all_works_without_scripts(open_tab, picture):
    tab = open_tab(java_script_enabled=False)
    answer_picture(tab, picture)
    assert tab.locator("img.overlay").is_visible()
    assert not tab.locator(".slider").is_visible()
    answer_example(tab)
    before = read_probability(tab)
    tab.fill("#worst-radius", "36")
    tab.click("text=Try without keeping")
    assert read_probability(tab) > before
    tab.click("text=What would turn it?")
    assert tab.locator("text=What would turn the answer").is_visible()


def test_the_form_is_sent_by_keyboard_alone(open_tab):
    tab = open_tab()
    tab.goto("/measurements?example=typical malignant")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.keyboard.press("Enter")
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.matches('button')"):
            break
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#answer .label-malignant")


@pytest.fixture(scope="module")
def guarded(listen, make_app):
    app = make_app()
    app.extensions["bcnet"].history.users.add("anna", PASSWORD)
    return listen(app)


def test_a_user_logs_in_and_out(open_tab, guarded):
    tab = open_tab(guarded)
    tab.goto("/history")
    assert tab.url.endswith("/login")
    for password, told in (("wrong password", "do not belong together"), (PASSWORD, "anna")):
        tab.fill("#name", "anna")
        tab.fill("#password", password)
        tab.click("button:text-is('Log in')")
        assert told in tab.inner_text("body")
    tab.click("text=Log out")
    tab.goto("/history")
    assert tab.url.endswith("/login")


@pytest.mark.parametrize("name", PAGES)
def test_page_needs_no_scrolling_sideways_and_has_no_serious_fault(
    open_tab, guarded, picture, name
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    tab = open_tab(**({"base": guarded} if name == "login" else {}), viewport=WIDE)
    open_page(tab, name, picture)
    for width, light in ((WIDE, "light"), (NARROW, "dark")):
        tab.set_viewport_size(width)
        tab.emulate_media(color_scheme=light)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width["width"]
        found = axe.run(tab, options={"resultTypes": ["violations"]}).response["violations"]
        faults = {each["id"]: [node["html"][:120] for node in each["nodes"]]
                  for each in found if each["impact"] in ("serious", "critical")}  # fmt: skip
        assert faults == {}
