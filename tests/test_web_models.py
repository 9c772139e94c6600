"""The pages of the models: side by side, and the whole card of each."""

import copy

import pytest

from bcnet.web.models import describe


def test_models_stand_side_by_side_with_a_link_to_each_card(measuring_app):
    page = measuring_app.test_client().get("/models").text
    for name in ("quick", "quick-rows"):
        assert f"<h2>{name}</h2>" in page
        assert f'href="/models/{name}"' in page


def test_describe_tells_nested_figures_where_there_is_no_test(measurement_model):
    card = measurement_model.card
    rows = describe("rows", card, "00")["rows"]
    nested = card["metrics"]["nested"]
    assert f"{nested['metrics']['auc']['value']:.3f}" in rows["Left out in turn, AUC"]
    found = nested["locked"]["sensitivity"]["value"]
    assert f"{found:.3f}" in rows["Left out in turn, sensitivity"]


def test_describe_says_unknown_of_what_a_card_lacks(measurement_model):
    card = copy.deepcopy(measurement_model.card)
    del card["calibration"], card["abstention"], card["metrics"]
    rows = describe("rows", card, "00")["rows"]
    assert (rows["Calibration"], rows["Promise"]) == ("unknown", "none")


@pytest.mark.parametrize("name", ["quick", "quick-rows"])
def test_the_whole_card_is_shown(measuring_app, name):
    page = measuring_app.test_client().get(f"/models/{name}").text
    assert f"Model card: {name}" in page
    assert "Intended use" in page
    assert "<table>" in page


def test_a_card_shows_a_strangers_words_as_words(measuring_app, monkeypatch, measurement_model):
    card = copy.deepcopy(measurement_model.card)
    card["data"]["source"] = card["data"]["name"] = "<script>alert(1)</script>"
    monkeypatch.setattr(measurement_model, "card", card)
    page = measuring_app.test_client().get("/models/quick-rows").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_card_that_there_is_not_is_not_found(measuring_app):
    assert measuring_app.test_client().get("/models/other").status_code == 404
