"""What keeps strangers out of a running server, row by row."""

import io
import logging
import os
import re
import stat

import pytest

from bcnet.web import errors, safety
from bcnet.web.errors import Refusal
from bcnet.web.safety import check_host, read_secret_key
from bcnet.web.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def guarded(make_app):
    """An application with the user anna, who must log in."""
    app = make_app()
    app.extensions["bcnet"].history.users.add("anna", PASSWORD)
    return app


def test_headers_forbid_inline_code_sniffing_framing_and_keeping(client):
    headers = client.get("/").headers
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert "img-src 'self' data:" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"


def test_static_files_may_be_kept(client):
    assert "max-age" in client.get("/static/style.css").headers["Cache-Control"]


@pytest.mark.parametrize(
    "path", ["/", "/history", "/models", "/models/quick", "/api", "/login", "/nowhere"]
)
def test_every_page_says_what_it_is_not_and_holds_no_inline_code(client, path):
    page = client.get(path).text
    assert "Not a diagnostic device" in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("localhost:5000", Settings()),
        ("127.0.0.1", Settings()),
        ("[::1]:5000", Settings()),
        ("page.clinic.org", Settings(names=("page.clinic.org",))),
        ("192.168.0.7:5000", Settings(host="0.0.0.0")),
    ],
)
def test_check_host_takes_the_servers_own_names(host, settings):
    check_host(host, settings)


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("evil.example", Settings()),
        ("127.0.0.1.evil.example", Settings()),
        ("192.168.0.7", Settings()),
        ("evil.example", Settings(host="0.0.0.0")),
        ("", Settings()),
    ],
)
def test_check_host_refuses_other_names(host, settings):
    with pytest.raises(Refusal):
        check_host(host, settings)


@pytest.mark.parametrize("path", ["/", "/api/v1/history", "/healthz"])
def test_a_rebound_name_is_refused(client, path):
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8888"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_posts_from_other_sites_are_refused(client, headers):
    response = client.post("/api/v1/predict", json={"measurements": {}}, headers=headers)
    assert response.status_code == 403


def test_posts_from_the_own_page_are_taken(client):
    response = client.post("/api/v1/predict", json={}, headers={"Origin": "http://localhost"})
    assert response.status_code != 403


@pytest.mark.parametrize("path", ["/", "/login", "/history/delete-all"])
def test_forms_without_token_are_refused(client, path):
    response = client.post(path, data={"confirm": "delete"})
    assert response.status_code == 400
    assert "expired" in response.text


def test_cookies_are_for_http_and_this_site_only(client):
    cookie = client.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_cookies_are_secure_under_tls(make_app):
    response = make_app(tls=True).test_client().get("/")
    assert "Secure" in response.headers["Set-Cookie"]
    assert "max-age" in response.headers["Strict-Transport-Security"]


def encode_form(content):
    """Encode a form as browsers do; Werkzeug's client would put a large one on the disk."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = head + content + b"\r\n--x--\r\n"
    return {"data": body, "content_type": "multipart/form-data; boundary=x"}


def test_a_body_above_the_limit_is_too_large(client):
    response = client.post("/api/v1/predict", **encode_form(bytes(safety.MOST_BYTES)))
    assert response.status_code == 413


def test_uploads_stay_in_memory(make_app):
    app = make_app()
    seen = []
    app.add_url_rule(
        "/probe",
        "probe",
        lambda: seen.append(safety.request.files["file"].stream) or "",
        methods=["POST"],
    )
    app.config["WTF_CSRF_ENABLED"] = False
    app.test_client().post("/probe", **encode_form(bytes(2_000_000)))
    assert isinstance(seen[0], io.BytesIO)


def test_read_secret_key_makes_one_for_its_owner_only(tmp_path):
    key = read_secret_key(tmp_path / "new" / "secret.key")
    assert len(key) == 32
    assert read_secret_key(tmp_path / "new" / "secret.key") == key
    assert stat.S_IMODE(os.stat(tmp_path / "new" / "secret.key").st_mode) == 0o600
    assert os.listdir(tmp_path / "new") == ["secret.key"]


def test_read_secret_key_refuses_one_that_others_may_read(tmp_path):
    path = tmp_path / "secret.key"
    read_secret_key(path)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="others may read"):
        read_secret_key(path)


def test_read_secret_key_refuses_an_empty_file(tmp_path):
    (tmp_path / "secret.key").touch(mode=0o600)
    with pytest.raises(ValueError, match="no secret key"):
        read_secret_key(tmp_path / "secret.key")


def test_logins_are_limited(make_app, send_form, monkeypatch):
    monkeypatch.setattr(safety, "LOGINS_PER_MINUTE", 2)
    client = make_app().test_client()
    tries = [send_form(client, "/login", {"name": "anna", "password": "x"}) for _ in range(3)]
    assert [each.status_code for each in tries] == [401, 401, 429]


def test_uploads_are_limited(make_app):
    client = make_app(uploads_per_minute=2).test_client()
    statuses = [client.post("/api/v1/predict", json={}).status_code for _ in range(3)]
    assert statuses == [422, 422, 429]


@pytest.mark.parametrize("path", ["/", "/history", "/history.csv", "/models"])
def test_pages_lead_to_the_login_where_there_are_users(guarded, path):
    response = guarded.test_client().get(path)
    assert (response.status_code, response.location) == (302, "/login")


@pytest.mark.parametrize("path", ["/api/v1/history", "/metrics"])
def test_programs_need_a_token_where_there_are_users(guarded, path):
    client = guarded.test_client()
    token = guarded.extensions["bcnet"].history.users.create_token("anna")
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_session_does_not_open_the_api(guarded, send_form):
    client = guarded.test_client()
    send_form(client, "/login", {"name": "anna", "password": PASSWORD})
    assert client.get("/history").status_code == 200
    assert client.get("/api/v1/history").status_code == 401


def test_a_session_ends_with_the_log_out(guarded, send_form):
    client = guarded.test_client()
    send_form(client, "/login", {"name": "anna", "password": PASSWORD})
    send_form(client, "/logout", {}, form="/")
    assert client.get("/history").status_code == 302


def test_a_session_ends_with_another_password(guarded, send_form):
    client, users = guarded.test_client(), guarded.extensions["bcnet"].history.users
    users.add("bea", PASSWORD)
    send_form(client, "/login", {"name": "bea", "password": PASSWORD})
    assert client.get("/history").status_code == 200
    users.change_password("bea", "another horse battery")
    assert client.get("/history").status_code == 302


def test_a_network_needs_a_user(make_app):
    with pytest.raises(ValueError, match="bcnet users add"):
        make_app(host="0.0.0.0")


def test_a_fault_tells_a_reference_and_no_trace(make_app, caplog):
    app = make_app()
    app.add_url_rule("/fault", "fault", lambda: {}["patient Smith"])
    with caplog.at_level(logging.INFO, "bcnet"):
        response = app.test_client().get("/fault")
    reference = re.search(r"<code>(\w{8})</code>", response.text)[1]
    assert response.status_code == 500
    assert "KeyError" not in response.text
    assert f"KeyError, reference {reference}" in caplog.text
    assert "Smith" not in caplog.text


def test_logs_hold_no_names_values_or_ids(client, png, caplog):
    with caplog.at_level(logging.DEBUG):
        sent = client.post("/api/v1/predict", data={"file": (io.BytesIO(png), "smith.png")})
        client.post("/api/v1/predict", data={"file": (io.BytesIO(b"x"), "smith.png")})
        id = sent.json["results"][0]["id"]
        client.get(f"/history/{id}?text=smith")
    assert "POST /api/v1/predict 200" in caplog.text
    for secret in ("smith", id, str(sent.json["results"][0]["probability"])[:6]):
        assert secret not in caplog.text


def test_a_wrong_method_is_told_the_right_ones(client):
    response = client.delete("/api/v1/predict")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


def test_every_sentence_is_for_a_status_of_the_description(client):
    assert set(errors.SENTENCES) >= {400, 401, 403, 404, 413, 415, 422, 429, 500, 503}
