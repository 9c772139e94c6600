"""Measurements through the web, typed, pasted or uploaded; and the pages that explain the words."""

import io
import re

import numpy as np
import pandas as pd
import pytest

from bcnet.config import CLASS_NAMES
from bcnet.data.measurements import FEATURES, MEASUREMENTS, read_measurements
from bcnet.web import learn, safety
from bcnet.web.errors import Refusal
from bcnet.web.measurements import EXAMPLES, make_examples, tell_changes
from bcnet.web.pasted import decode, read_cell, read_lines
from bcnet.web.waterfall import MARGIN, SHOWN, WIDTH, Part, draw_waterfall

PAGE, TRY, TABLE = "/measurements", "/measurements/try", "/measurements/table"


@pytest.fixture
def client(measuring_app):
    return measuring_app.test_client()


@pytest.fixture
def history(measuring_app):
    return measuring_app.extensions["bcnet"].history


@pytest.fixture(scope="module")
def patients():
    return read_measurements()[list(FEATURES)].head(3)


@pytest.fixture
def patient(patients):
    return {name: str(value) for name, value in patients.iloc[0].items()}


@pytest.fixture
def send(client, send_form):
    def send(path, data):
        return send_form(client, path, data, form=PAGE)

    return send


def read_probability(page):
    return float(re.search(r'class="probability">([\d.]+)', page.text)[1])


def read_values(page):
    found = re.findall(
        r'<input id="[\w-]+" name="([^"]+)" type="number"[^>]*?value="([^"]*)"', page
    )
    return dict(found)


def test_answer_equals_that_of_predict(send, patient, measurement_model):
    told = measurement_model.predict(patient).iloc[0]
    page = send(PAGE, patient)
    assert page.status_code == 200
    assert read_probability(page) == pytest.approx(told["probability"], abs=6e-4)
    assert f'label-{told["label"]}"' in page.text


def test_answer_is_kept(send, patient, history):
    before = history.search(kind="measurements").total
    page = send(PAGE, patient)
    newest = history.search(kind="measurements")
    assert newest.total == before + 1
    assert f"/history/{newest.rows[0]['id']}" in page.text


def test_trying_out_is_not_kept(send, patient, history):
    before = history.search().total
    assert "not kept" in send(TRY, patient).text
    assert history.search().total == before


def test_the_answer_moves_with_a_field(send, patient):
    moved = patient | {"worst radius": "9", "worst area": "250", "mean radius": "8.5"}
    assert read_probability(send(TRY, moved)) < read_probability(send(TRY, patient))


def test_an_empty_field_is_missing_and_not_zero(send, patient, measurement_model):
    page = send(TRY, patient | {"worst area": " "})
    told = measurement_model.predict(patient | {"worst area": None}).iloc[0]
    assert read_probability(page) == pytest.approx(told["probability"], abs=6e-4)
    assert re.search(r'worst area</th><td class="number">missing', page.text)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("mean radius", "17990", "between 2 and 100 px"),
        ("worst symmetry", "-1", "between 0.03 and 3.3"),
        ("area error", "many", "must be a number"),
        ("mean texture", "inf", "between 2 and 127.5"),
        ("mean area", "<script>", "must be a number"),
    ],
)
def test_a_wrong_value_is_told_beside_its_field(send, patient, name, value, told):
    page = send(PAGE, patient | {name: value})
    assert page.status_code == 422
    assert told in page.text
    assert re.findall(r'name="([^"]+)" type="number"[^>]*aria-invalid', page.text) == [name]
    assert "<script>" not in page.text


def test_a_wrong_value_leaves_the_others_in_their_fields(send, patient):
    values = read_values(send(PAGE, patient | {"mean radius": "-1"}).text)
    assert float(values["worst area"]) == float(patient["worst area"])


def test_an_empty_form_is_refused(send):
    page = send(PAGE, {})
    assert page.status_code == 422
    assert "at least one of the 30 measurements" in page.text


def test_an_endless_value_is_refused(send, patient):
    assert send(PAGE, patient | {"mean area": "1" * 41}).status_code == 422


@pytest.mark.parametrize("path", [PAGE, TRY, TABLE])
def test_forms_need_their_token(client, patient, path):
    assert client.post(path, data=patient).status_code == 400


def test_the_script_gets_the_answer_alone(send, patient):
    page = send(TRY, patient | {"part": "answer"})
    assert page.text.lstrip().startswith('<p class="label')
    assert "<form" not in page.text


def test_what_would_turn_the_answer_is_told_when_asked_for(send, measurement_model):
    patient = make_examples()["in between"]
    told = tell_changes(measurement_model.what_if({k: float(v) for k, v in patient.items()}))
    assert told
    assert told[0] in send(TRY, patient | {"changes": "yes"}).text
    assert told[0] not in send(TRY, patient).text


def test_tell_changes_joins_the_parts_of_a_change():
    part = {"change": 1, "unit": "", "from": 2.0, "to": 1.0, "size": 1.5, "label": "benign"}
    changes = pd.DataFrame([part | {"measurement": "a"}, part | {"measurement": "b"}])
    told = "Benign, if a were 1 instead of 2 and b were 1 instead of 2 (1.5 standard deviations)."
    assert tell_changes(changes) == [told]


def test_contributions_lead_from_the_base_to_the_answer(send, patient, measurement_model):
    page = send(TRY, patient).text
    steps = re.findall(r'<td class="number">([+-][\d.]+)</td>', page)
    found = measurement_model.explain(patient)
    assert len(steps) == len(FEATURES)
    assert sum(map(float, steps)) == pytest.approx(found.logit[0] - found.base, abs=0.02)


def test_waterfall_stays_within_its_frame_and_ends_at_the_answer():
    steps = [2.0, -5.0, 1.5]
    drawn = draw_waterfall([Part("a", "", step) for step in steps], base=0.5, cut=-4.0)
    assert all(MARGIN <= bar.left <= bar.left + bar.width <= WIDTH - MARGIN for bar in drawn.bars)
    assert drawn.cut == MARGIN  # the lowest of all
    scale = (WIDTH - 2 * MARGIN) / 6.5
    assert drawn.bars[-1].end == pytest.approx(MARGIN + scale * (0.5 + sum(steps) + 4), abs=0.01)


def test_waterfall_sums_up_the_small_steps():
    bars = draw_waterfall([Part("a", "", 0.1)] * 30, base=0, cut=1).bars
    assert len(bars) == SHOWN + 1
    assert bars[-1].part.step == pytest.approx(0.1 * (30 - SHOWN))


def test_waterfall_of_no_step_at_all_divides_by_nothing():
    assert draw_waterfall([Part("a", "", 0.0)], base=0, cut=0).bars[0].width == 0


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_fill_every_field_with_a_possible_value(client, example):
    values = read_values(client.get(PAGE, query_string={"example": example}).text)
    assert list(values) == list(FEATURES)
    assert all(MEASUREMENTS[name].low <= float(values[name]) <= MEASUREMENTS[name].high
               for name in FEATURES)  # fmt: skip


def test_examples_are_called_what_they_are_named(send):
    examples = make_examples()
    for label in CLASS_NAMES:
        assert f'label label-{label}"' in send(TRY, examples[f"typical {label}"]).text


def test_an_unknown_example_is_refused(client):
    assert client.get(f"{PAGE}?example=mine").status_code == 422


def test_every_field_tells_unit_and_range(client):
    page = client.get(PAGE).text
    assert "2 to 100 px" in page
    assert "10 to 75000 px²" in page


def test_a_server_without_a_model_says_so(open_app, send_form):
    page = open_app.test_client().get(PAGE).text
    assert "No model of measurements is loaded" in page
    assert "<form" not in page


# Text into rows.

NAMES = [*FEATURES]
NUMBERS = [str(value) for value in np.linspace(0.1, 3.0, 30).round(2)]


@pytest.mark.parametrize(
    "text",
    [
        ",".join(NUMBERS),
        "\n\n" + ";".join(NUMBERS).replace(".", ",") + "\r\n",
        ",".join(NAMES) + "\n" + ",".join(NUMBERS),
        "\t".join(NAMES[::-1]) + "\n" + "\t".join(NUMBERS[::-1]),
        ",".join(["id", *NAMES]).upper() + "\n" + ",".join(["7", *NUMBERS]),
        ",".join(["842302", "M", *NUMBERS]),
    ],
    ids=["bare", "european", "header", "other order", "more columns", "uci"],
)
def test_read_lines_finds_each_value_by_name(text):
    assert read_lines(text) == [dict(zip(NAMES, map(float, NUMBERS), strict=True))]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "at least one line"),
        (" \n ", "at least one line"),
        ("1,2,3", "must have 30 numbers"),
        ("a,b,c\n1,2,3", "Missing: mean radius"),
        (",".join(NUMBERS) + "\n1,2", "must have 30 values"),
        (",".join([*NAMES, NAMES[0]]) + "\n" + ",".join([*NUMBERS, "1"]), "one column for"),
        ("\0", "Missing: mean radius"),
        ('"' + "x" * 200_000, "field larger"),
    ],
)
def test_read_lines_refuses_what_is_no_table(text, told):
    with pytest.raises(Refusal, match=told) as caught:
        read_lines(text)
    assert caught.value.code == 422


@pytest.mark.parametrize(("text", "cell"), [("1e3", 1000.0), ("?", None), ("1,5", "1,5")])
def test_read_cell_keeps_what_is_no_number(text, cell):
    assert read_cell(text) == cell


def test_decode_refuses_another_encoding():
    with pytest.raises(Refusal, match="UTF-8"):
        decode("µ".encode("latin-1"))


def test_pasted_lines_are_answered_in_their_order(send, patients, measurement_model):
    page = send(TABLE, {"text": patients.to_csv(index=False)}).text
    found = re.findall(r'<td class="number">([\d.]+)</td>', page)
    told = measurement_model.predict(patients)["probability"]
    assert found == [f"{each:.3f}" for each in told]


def test_an_uploaded_file_is_answered(send, patients, history):
    before = history.search().total
    content = "\ufeff".encode() + patients.to_csv(index=False).encode()
    page = send(TABLE, {"file": (io.BytesIO(content), "p.csv")})
    assert "3 patients" in page.text
    assert history.search().total == before + 3


def test_a_line_that_cannot_be_read_is_told_among_the_others(send, patients):
    rows = patients.assign(**{"mean radius": [1e6, *patients["mean radius"][1:]]})
    page = send(TABLE, {"text": rows.to_csv(index=False)})
    assert page.status_code == 200
    assert "unreadable: `mean radius` must be between" in page.text
    assert page.text.count('href="/history/') == 2


def test_a_single_line_fills_the_fields(send, patients):
    page = send(TABLE, {"text": patients.head(1).to_csv(index=False)}).text
    assert float(read_values(page)["mean radius"]) == patients["mean radius"][0]
    assert 'class="waterfall"' in page


def test_too_many_lines_are_refused(send, patients):
    text = patients.head(1).to_csv(index=False, header=False) * 1001
    page = send(TABLE, {"text": text, "file": (io.BytesIO(text.encode()), "p.csv")})
    assert page.status_code == 413


def test_every_limited_view_exists(measuring_app):
    assert set(safety.LIMITED_VIEWS) <= set(measuring_app.view_functions)


@pytest.mark.parametrize("name", learn.PAGES)
def test_learn_explains_each_word_with_a_drawing(client, name):
    page = client.get(f"/learn/{name}").text
    assert f"<h1>{learn.PAGES[name]}</h1>" in page
    assert '<svg class="' in page


def test_learn_leads_through_its_pages(client):
    names, seen = list(learn.PAGES), ["result"]
    while found := re.search(
        r'Next: <a href="/learn/(\w+)"', client.get(f"/learn/{seen[-1]}").text
    ):
        seen.append(found[1])
    assert seen == names


def test_learn_knows_no_other_page(client):
    assert client.get("/learn/page").status_code == 404


@pytest.mark.parametrize("path", [PAGE, "/learn", *(f"/learn/{name}" for name in learn.PAGES)])
def test_pages_hold_no_inline_code(client, path):
    page = client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
