"""The server itself: over a real socket, from its command line, and what it loads."""

import http.client
import io
import json
import socket
import stat
import subprocess
import sys
import time
from threading import Thread

import pytest

from bcnet import cli
from bcnet.data.quantities import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.history import History
from bcnet.web import Settings
from bcnet.web.answering import warm_up
from bcnet.web.loading import load_models
from bcnet.web.safety import MOST_BYTES
from bcnet.web.serving import LARGEST_BODY, make_server

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def port(make_app):
    """The port of a server that listens on loopback."""
    server = make_server(make_app(), Settings(port=0))
    thread = Thread(target=server.run)
    thread.start()
    yield int(server.effective_port)
    server.close()
    server.task_dispatcher.shutdown()
    thread.join()


def send(port, data):
    """Send bytes and give the first line of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        return connection.makefile("rb").readline().decode()


def get_health(port):
    return send(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def test_server_listens_on_loopback_only(port):
    assert "200" in get_health(port)
    with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
        elsewhere.connect(("127.0.0.2", port))  # this machine as well


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET\r\n\r\n",
        b"POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ],
    ids=["tls", "no path", "no length", "no chunks", "long", "foreign"],
)
def test_server_outlives_malformed_requests(port, data):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(data + b"\r\n\r\n")
    connection.close()
    assert "200" in get_health(port)


def test_server_refuses_a_huge_body_by_its_length(port):
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGEST_BODY + 1}\r\n\r\n"
    assert "413" in send(port, head.encode())


def ask_until_the_end(port, body, acknowledged):
    """Ask one after the other, and note each answer that has come back as kept."""
    headers = {"Content-Type": "application/json"}
    try:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/api/v1/predict", body, headers)
            acknowledged.append(json.load(connection.getresponse())["results"][0]["id"])
    except (OSError, http.client.HTTPException, ValueError):
        return  # it was killed: what came until then was acknowledged


def test_a_killed_server_has_kept_every_acknowledged_answer(measurement_model, tmp_path):
    url = f"sqlite:///{tmp_path / 'history.db'}"
    words = ["--port", "0", "--models", measurement_model.path, "--database", url]
    command = [sys.executable, "-m", "bcnet", "serve", *words, "--instance", str(tmp_path)]
    patient = load_wisconsin()[list(FEATURES)].head(1).to_dict("records")
    acknowledged = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline().split("/")[2].split(":")[1])
        body = json.dumps({"measurements": patient})
        clients = [
            Thread(target=ask_until_the_end, args=(port, body, acknowledged)) for _ in range(3)
        ]
        for client in clients:
            client.start()
        while len(acknowledged) < 20 and any(client.is_alive() for client in clients):
            time.sleep(0.01)
        server.kill()
        for client in clients:
            client.join()
    assert len(acknowledged) >= 20
    with History.open(url) as history:
        assert all(history.get(id) for id in acknowledged)


def test_server_answers_sixteen_clients(port, png):
    body, kind = _encode_form(png)
    statuses = []

    def ask():
        connection = http.client.HTTPConnection("localhost", port, timeout=60)
        connection.request("POST", "/api/v1/predict", body, {"Content-Type": kind})
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 16


def _encode_form(content):
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def test_nothing_of_a_body_or_page_goes_to_the_disk(make_app):
    adjustments = make_server(make_app(), Settings(port=0)).adj
    assert adjustments.inbuf_overflow >= adjustments.max_request_body_size >= MOST_BYTES
    assert adjustments.outbuf_overflow > 20 * MOST_BYTES / 4


def test_load_models_takes_files_and_folders(model_file):
    by_file, by_folder = load_models([str(model_file)]), load_models([str(model_file.parent)])
    assert list(by_file.pictures) == list(by_folder.pictures) == ["quick"]
    assert len(by_file.hashes["quick"]) == 64


def test_load_models_refuses_two_of_a_name(model_file):
    with pytest.raises(ValueError, match="two models are named quick"):
        load_models([str(model_file), str(model_file)])


def test_load_models_refuses_a_folder_without_any(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model"):
        load_models([str(tmp_path)])


def test_warm_up_leaves_nothing_in_the_history(make_app):
    services = make_app().extensions["bcnet"]
    warm_up(services.queue, services.models.pictures)
    assert services.history.search().total == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("port", 70000), ("retention_days", 0), ("uploads_per_minute", 0)],
)
def test_settings_refuse_what_cannot_be(field, value):
    with pytest.raises(ValueError, match=f"`{field}` must be"):
        Settings(**{field: value})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("clinic.org", False),
    ],
)
def test_settings_know_loopback(host, is_loopback):
    assert Settings(host=host).is_loopback is is_loopback


@pytest.fixture
def type_line(monkeypatch, tmp_path, capsys):
    """Run a command in an instance of its own, with a line on standard input."""

    def run(*arguments, line=PASSWORD):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n"))
        status = cli.main([*arguments, "--instance", str(tmp_path)])
        return status, capsys.readouterr()

    return run


def test_users_are_added_listed_and_removed(type_line, tmp_path):
    assert type_line("users", "add", "anna")[0] == 0
    assert type_line("users", "list")[1].out == "anna\n"
    with History.open(Settings(instance=tmp_path).database_url) as history:
        assert history.users.check("anna", PASSWORD)
    assert stat.S_IMODE((tmp_path / "history.db").stat().st_mode) == 0o600
    assert type_line("users", "remove", "anna")[0] == 0
    assert type_line("users", "list")[1].out == "no users\n"


def test_token_is_printed_once_and_revoked(type_line, tmp_path):
    type_line("users", "add", "anna")
    token = type_line("users", "token", "anna")[1].out.strip()
    with History.open(Settings(instance=tmp_path).database_url) as history:
        assert history.users.check_token(token) == "anna"
        type_line("users", "revoke", "anna")
        assert history.users.check_token(token) is None


def test_password_is_changed(type_line, tmp_path):
    type_line("users", "add", "anna")
    type_line("users", "password", "anna", line="another horse battery")
    with History.open(Settings(instance=tmp_path).database_url) as history:
        assert history.users.check("anna", "another horse battery")


@pytest.mark.parametrize("action", ["remove", "token", "password", "revoke"])
def test_unknown_users_are_told_in_one_line(type_line, action):
    status, told = type_line("users", action, "nobody")
    assert status == 2
    assert told.err == "bcnet: there is no user 'nobody'\n"


def test_a_short_password_is_told_in_one_line(type_line):
    status, told = type_line("users", "add", "anna", line="short")
    assert status == 2
    assert "`password` must have" in told.err


def test_serve_refuses_a_network_without_users(type_line):
    status, told = type_line("serve", "--host", "0.0.0.0")
    assert status == 2
    assert "bcnet users add" in told.err
