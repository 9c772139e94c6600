"""The history's pages: found, completed, exported, deleted, and each user's own."""

import csv
import io
import re

import pytest

from bcnet.web.application import create_app
from bcnet.web.records import guard_cell
from bcnet.web.serving import expire

PASSWORD = "correct horse battery"


@pytest.fixture
def history(app):
    return app.extensions["bcnet"].history


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


def keep(history, owner=None, **values):
    """Keep an answer as the page does."""
    answer = {
        "kind": "picture",
        "model": "quick",
        "model_hash": "00",
        "input_hash": "11",
        "probability": 0.75,
        "threshold": 0.5,
        "label": "malignant",
        "status": "ok",
        "verdicts": {"heatmap": "ok", "method": "grad_cam", "class": "malignant"},
        "owner": owner,
    }
    return history.add([answer | values])[0]


def list_ids(client, query=""):
    return re.findall(r'<th scope="row"><a href="/history/([0-9a-f-]+)"', client.get(query).text)


def test_history_shows_the_newest_first(client, history):
    first, second = keep(history), keep(history)
    assert list_ids(client, "/history") == [second, first]


def test_history_filters(client, history):
    keep(history)
    benign = keep(history, label="benign", probability=0.1)
    assert list_ids(client, "/history?label=benign&model=quick&outcome=") == [benign]


def test_history_pages(client, history):
    for _ in range(51):
        keep(history)
    assert [len(list_ids(client, f"/history?page={page}")) for page in (1, 2, 3)] == [50, 1, 0]


def test_history_finds_a_whole_day(client, history):
    id = keep(history)
    day = history.get(id)["time"].astimezone().date().isoformat()
    assert list_ids(client, f"/history?since={day}&until={day}") == [id]


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=x",
        "page=-1",
        "page=99999999999",
        "label=x",
        "kind=x",
        "outcome=x",
        "since=yesterday",
        "until=9999-12-31",
        "text=%00",
        f"text={'x' * 201}",
    ],
)
def test_history_refuses_malformed_filters(client, query):
    assert client.get(f"/history?{query}").status_code == 422


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%", "_", '"><script>', "\\"])
def test_history_takes_hostile_texts_for_texts(client, history, text):
    keep(history)
    response = client.get("/history", query_string={"text": text})
    assert response.status_code == 200
    assert "0 cases" in response.text
    assert "<script>" not in response.text


@pytest.mark.parametrize("name", ["endpoint", "_scheme", "_external", "_anchor", "values"])
def test_history_passes_nothing_unknown_on_to_its_links(client, name):
    response = client.get("/history", query_string={name: "evil"})
    assert response.status_code == 200
    assert "evil" not in response.text


def test_case_shows_its_answer(client, history):
    page = client.get(f"/history/{keep(history, probability=0.8125)}").text
    assert "0.812" in page
    assert "No fault was found in this map" in page


@pytest.mark.parametrize("id", ["0", "00000000-0000-4000-8000-000000000000", "../etc/passwd"])
def test_case_that_there_is_not_is_not_found(client, id):
    assert client.get(f"/history/{id}").status_code == 404


def test_outcome_is_entered_and_its_change_told(client, history, send_form):
    id = keep(history)
    path = f"/history/{id}"
    send_form(client, f"{path}/outcome", {"outcome": "benign"}, form=path)
    assert history.get(id)["outcome"] == "benign"
    assert "from unknown to benign" in client.get(path).text


def test_outcome_must_be_a_class(client, history, send_form):
    path = f"/history/{keep(history)}"
    response = send_form(client, f"{path}/outcome", {"outcome": "x"}, form=path)
    assert response.status_code == 422


def test_note_is_kept_and_shown_as_text(client, history, send_form):
    path = f"/history/{keep(history)}"
    send_form(client, f"{path}/note", {"note": "<b>seen</b>"}, form=path)
    assert "&lt;b&gt;seen&lt;/b&gt;" in client.get(path).text


def test_note_has_an_end(client, history, send_form):
    path = f"/history/{keep(history)}"
    assert send_form(client, f"{path}/note", {"note": "x" * 2001}, form=path).status_code == 422


def test_live_figures_say_too_few(client, history):
    history.set_outcome(keep(history), "malignant")
    assert "too few to tell" in client.get("/history").text


def test_live_figures_come_with_their_interval(client, history):
    for i in range(20):
        id = keep(history, input_hash=str(i), probability=0.25 + 0.5 * (i > 3))
        history.set_outcome(id, ("benign", "malignant")[i % 2])
    assert re.search(r"<td>0\.800 \[0\.\d{3}, 1\.000\]</td>", client.get("/history").text)


def test_export_gives_all_that_is_found(client, history):
    ids = [keep(history, label=label) for label in ("benign", "malignant", "benign")]
    response = client.get("/history.csv?label=benign")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["id"] for row in rows] == [ids[2], ids[0]]
    assert float(rows[0]["probability"]) == 0.75
    assert response.headers["Content-Disposition"].startswith("attachment")


def test_export_holds_no_formula(client, history):
    history.set_note(keep(history), '=HYPERLINK("http://evil.example")')
    [row] = csv.DictReader(io.StringIO(client.get("/history.csv").text))
    assert row["note"] == '\'=HYPERLINK("http://evil.example")'


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "  =1", "＝1", "\n=1"])
def test_guard_cell_disarms_what_a_spreadsheet_computes(cell):
    assert guard_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["benign", "", None, -0.5, "a=1"])
def test_guard_cell_leaves_the_rest(cell):
    assert guard_cell(cell) == cell


def test_one_case_is_deleted(client, history, send_form):
    id, other = keep(history), keep(history)
    send_form(client, f"/history/{id}/delete", {}, form=f"/history/{id}")
    assert list_ids(client, "/history") == [other]


def test_all_cases_are_deleted_once_that_is_meant(client, history, send_form):
    keep(history)
    path = "/history/delete-all"
    assert send_form(client, path, {"confirm": ""}, form="/history").status_code == 422
    assert history.search().total == 1
    send_form(client, path, {"confirm": "delete"}, form="/history")
    assert history.search().total == 0


@pytest.fixture(scope="module")
def shared(make_app):
    """A server of anna and bea, and an answer of anna's."""
    app = make_app(keep_images=True)
    services = app.extensions["bcnet"]
    for name in ("anna", "bea"):
        services.history.users.add(name, PASSWORD)
    services.settings.image_folder.mkdir()
    (services.settings.image_folder / "a.png").write_bytes(b"png")
    return app, keep(services.history, "anna", image="a.png", name="anna.png")


@pytest.fixture(scope="module")
def bea(shared):
    """A browser in which bea has logged in."""
    client = shared[0].test_client()
    token = re.search(r'csrf_token" value="([^"]+)"', client.get("/login").text)[1]
    client.post("/login", data={"name": "bea", "password": PASSWORD, "csrf_token": token})
    return client


def test_a_user_sees_only_his_own_answers(shared, bea):
    _, id = shared
    assert "0 cases" in bea.get("/history").text
    assert id not in bea.get("/history.csv").text
    assert bea.get(f"/history/{id}").status_code == 404
    assert bea.get(f"/history/{id}/picture").status_code == 404


@pytest.mark.parametrize(
    ("action", "data"),
    [("outcome", {"outcome": "benign"}), ("note", {"note": "x"}), ("delete", {})],
)
def test_a_user_changes_only_his_own_answers(shared, bea, send_form, action, data):
    app, id = shared
    assert send_form(bea, f"/history/{id}/{action}", data, form="/").status_code == 404
    row = app.extensions["bcnet"].history.get(id, "anna")
    assert (row["outcome"], row["note"]) == (None, None)


def test_a_token_opens_only_its_users_answers(shared):
    app, id = shared
    client, users = app.test_client(), app.extensions["bcnet"].history.users
    for name, status in (("anna", 200), ("bea", 404)):
        headers = {"Authorization": f"Bearer {users.create_token(name)}"}
        assert client.get(f"/api/v1/history/{id}", headers=headers).status_code == status
        path, outcome = f"/api/v1/outcomes/{id}", {"outcome": None}
        assert client.put(path, json=outcome, headers=headers).status_code == status


def test_answers_outlive_the_server(make_app, png):
    app = make_app()
    settings = app.extensions["bcnet"].settings
    data = {"file": (io.BytesIO(png), "a.png")}
    id = app.test_client().post("/api/v1/predict", data=data).json["results"][0]["id"]
    again = create_app(settings)
    assert again.test_client().get(f"/history/{id}").status_code == 200
    again.extensions["bcnet"].close()


def test_expire_deletes_old_answers_with_their_pictures(make_app):
    from datetime import UTC, datetime, timedelta

    services = make_app(retention_days=7).extensions["bcnet"]
    services.settings.image_folder.mkdir()
    picture = services.settings.image_folder / "old.png"
    picture.write_bytes(b"png")
    long_ago = datetime.now(UTC) - timedelta(days=8)
    keep(services.history, time=long_ago, image="old.png")
    new = keep(services.history)
    assert expire(services) == 1
    assert not picture.exists()
    assert [row["id"] for row in services.history.search().rows] == [new]
