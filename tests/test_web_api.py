"""The API: as its description says, whatever is sent."""

import io
import json

import jsonschema
import numpy as np
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks

from bcnet.web.openapi import describe_api


def test_outcome_is_entered_and_taken_back(client, png):
    data = {"file": (io.BytesIO(png), "a.png")}
    id = client.post("/api/v1/predict", data=data).json["results"][0]["id"]
    for outcome in ("malignant", None):
        response = client.put(f"/api/v1/outcomes/{id}", json={"outcome": outcome})
        assert response.json["outcome"] == outcome
        assert client.get(f"/api/v1/history/{id}").json["outcome"] == outcome


@pytest.mark.parametrize("body", [{}, {"outcome": "x"}, {"outcome": 1}, {"outcome": ""}, [], "x"])
def test_outcome_must_be_a_class_or_null(client, body):
    path = "/api/v1/outcomes/00000000-0000-4000-8000-000000000000"
    assert client.put(path, json=body).status_code == 422


def test_history_is_filtered_and_counted(client, png):
    client.post("/api/v1/predict", data={"file": (io.BytesIO(png), "a.png")})
    found = client.get("/api/v1/history?kind=picture&page=1").json
    assert found["total"] >= 1
    assert {row["kind"] for row in found["results"]} == {"picture"}
    assert client.get("/api/v1/history?kind=measurements").json["total"] == 0


def test_no_cookie_is_needed_or_given(client, png):
    response = client.post("/api/v1/predict", data={"file": (io.BytesIO(png), "a.png")})
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"a": ' * 100_000, "application/json", 422),
        (b'{"measurements": %s}' % (b"1" * 5000), "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"", "multipart/form-data", 422),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 422),
    ],
)
def test_malformed_bodies_have_their_status_and_a_sentence(client, body, kind, status):
    response = client.post("/api/v1/predict", data=body, content_type=kind)
    assert response.status_code == status
    assert response.json["error"]
    assert response.json["reference"]


@pytest.fixture
def measuring(measuring_app, measurement_model):
    """A browser of an application with a model of measurements as well, and that model."""
    return measuring_app.test_client(), measurement_model


@pytest.fixture(scope="module")
def patients():
    from bcnet.data.measurements import FEATURES, read_measurements

    return read_measurements()[list(FEATURES)].head(3).to_dict("records")


def test_measurements_equal_those_of_predict(measuring, patients):
    client, model = measuring
    results = client.post("/api/v1/predict", json={"measurements": patients}).json["results"]
    table = model.predict(patients)
    found = [each["probability"] for each in results]
    np.testing.assert_allclose(found, table["probability"], atol=1e-9)
    assert [each["label"] for each in results] == table["label"].tolist()


def test_a_row_that_cannot_be_read_leaves_valid_json_for_the_others(measuring, patients):
    client, _ = measuring
    rows = [patients[0], patients[1] | {"mean radius": 1e6}]
    response = client.post("/api/v1/predict", json={"measurements": rows})
    good, bad = json.loads(response.text, parse_constant=pytest.fail)["results"]
    assert good["label"] in ("benign", "malignant")
    assert bad["status"].startswith("unreadable: ")
    assert [bad[name] for name in ("id", "probability", "label")] == [None] * 3


def test_the_same_measurements_spelled_otherwise_are_the_same_input(measuring, patients):
    client, _ = measuring
    history = client.application.extensions["bcnet"].history
    spelled = {name.replace(" ", "_").upper(): str(x) for name, x in patients[0].items()}
    hashes = []
    for rows in (patients[0], spelled):
        sent = client.post("/api/v1/predict", json={"measurements": rows}).json
        hashes.append(history.get(sent["results"][0]["id"])["input_hash"])
    assert hashes[0] == hashes[1]


def test_one_patient_needs_no_list(measuring, patients):
    client, _ = measuring
    assert (
        len(client.post("/api/v1/predict", json={"measurements": patients[0]}).json["results"]) == 1
    )


@pytest.mark.parametrize("rows", [{}, [], "/etc/passwd", ["/etc/passwd"], None, [{"x": 1}], 1])
def test_what_is_no_measurement_is_refused(measuring, rows):
    client, _ = measuring
    response = client.post("/api/v1/predict", json={"measurements": rows})
    assert response.status_code == 422


def test_measurements_are_not_kept_unless_the_operator_says_so(measuring, patients):
    client, _ = measuring
    sent = client.post("/api/v1/predict", json={"measurements": patients[0]}).json
    history = client.application.extensions["bcnet"].history
    assert history.get(sent["results"][0]["id"])["measurements"] is None


def test_metrics_count_without_naming_anybody(client, png):
    client.post("/api/v1/predict", data={"file": (io.BytesIO(png), "a.png")})
    text = client.get("/metrics").text
    assert 'bcnet_requests_total{status="200"}' in text
    assert 'bcnet_pictures_total{model="quick"}' in text


def test_description_is_served(client):
    assert client.get("/api/v1/openapi.json").json == describe_api()


@pytest.mark.parametrize("contents", [["png"], ["png", "noise"], ["noise"]])
def test_answers_have_the_described_shape(client, png, contents):
    bytes_of = {"png": png, "noise": b"noise"}
    files = [(io.BytesIO(bytes_of[each]), f"{each}.png") for each in contents]
    answer = client.post("/api/v1/predict", data={"file": files}).json
    jsonschema.validate(answer, describe_api()["components"]["schemas"]["Answers"])


def test_every_path_of_the_api_is_described(open_app):
    rules = {
        rule.rule for rule in open_app.url_map.iter_rules() if rule.endpoint.startswith("api.")
    }
    described = {path.replace("{id}", "<uuid:id>") for path in describe_api()["paths"]}
    assert rules == described | {"/api/v1/openapi.json"}


# What is not asked: that whatever the description allows is answered (no schema tells a picture
# from noise), and that a request without a token is refused (a server without users takes all).
load_all_checks()
NOT_ASKED = schemathesis.checks.CHECKS.get_by_names(
    ["positive_data_acceptance", "ignored_auth", "missing_required_header"]
)
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, item in describe_api()["paths"].items()
    for method in item.keys() - {"parameters"}
]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("mode", GenerationMode)
def test_answers_are_those_of_the_description(open_app, name, mode):
    method, path = name.split()
    described = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", open_app)
    cases = described[path][method].as_strategy(generation_mode=mode)

    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(cases)
    def ask(case):
        case.call_and_validate(excluded_checks=NOT_ASKED)

    ask()


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
PATHS = [
    "/",
    "/login",
    "/logout",
    "/history",
    "/history.csv",
    "/history/delete-all",
    "/history/00000000-0000-4000-8000-000000000000",
    "/models",
    "/metrics",
    "/static/../secret.key",
    "/static/%2e%2e/%2e%2e/settings.py",
    "/api/v1/predict",
    "/api/v1/history",
    "/api/v1/outcomes/00000000-0000-4000-8000-000000000000",
    "/%00",
    "/../../etc/passwd",
]
KINDS = [
    "application/json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "text/plain; charset=nonsense",
    "",
]
PIECES = [
    b"\x00",
    b"\xff\xfe",
    b'{"measurements": [',
    b"{}" * 50,
    b"[" * 5000,
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../a.png"\r\n\r\n',
    b"\x89PNG\r\n\x1a\n",
    b"\r\n--x--\r\n",
    b"file=%ff&model=\xf0\x28",
    b"P5 99999 99999 255\n",
    b'{"outcome": "\\ud800"}',
    b"NaN",
]


def test_five_hundred_random_requests_leave_the_server_alive(open_app):
    rng = np.random.default_rng(7)
    client = open_app.test_client()
    statuses = set()
    for _ in range(500):
        body = b"".join(PIECES[i] for i in rng.integers(len(PIECES), size=rng.integers(4)))
        response = client.open(
            str(rng.choice(PATHS)),
            method=str(rng.choice(METHODS)),
            data=body + rng.bytes(rng.integers(50)),
            content_type=str(rng.choice(KINDS)),
            query_string=rng.bytes(rng.integers(10)).hex() + "=%00&page=-1" * rng.integers(2),
            headers={"Authorization": "Bearer \xff"} if rng.integers(2) else {},
        )
        statuses.add(response.status_code)
        response.close()
    assert max(statuses) < 500
    assert len(statuses) > 5
    assert client.get("/healthz").json["status"] == "ok"
