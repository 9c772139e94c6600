"""What a model does not answer: the entries of its card, and the status of each picture."""

import logging
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from bcnet import Classifier, workflows
from bcnet.cli import main
from bcnet.data.simulate import simulate
from bcnet.evaluate.abstention import TooFewCases
from bcnet.evaluate.gate import describe_colours, fit_gate, write_gate
from bcnet.explain.graph import compile_answers
from bcnet.modelfile import write_model
from bcnet.readers import read_image
from bcnet.workflows import promises
from bcnet.workflows.promises import describe_band, tell_promise
from bcnet.workflows.views import view_part


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture(scope="module")
def images(simulated):
    return np.stack([read_image(path) for path in simulated.table["path"]])


@pytest.fixture(scope="module")
def careful(classifier, images):
    """A classifier with a gate to the simulated pictures, and a band of half of them."""
    probability, features = compile_answers(classifier.model)(images)
    colours = describe_colours(images)
    gate = fit_gate(features.numpy(), colours, features.numpy(), colours)
    low, high = np.quantile(probability.numpy(), [0.25, 0.75])
    card = deepcopy(classifier.card) | {"gate": write_gate(gate)}
    card["abstention"] = {"low": float(low), "high": float(high)}
    card["threshold"] = card["threshold"] | {"value": float(high)}
    return Classifier(classifier.model, card)


def strip(classifier):
    """The classifier with the card of one made before there were bands and gates."""
    card = {name: entry for name, entry in classifier.card.items() if name != "abstention"}
    return Classifier(classifier.model, {k: v for k, v in card.items() if k != "gate"})


def test_predict_of_an_older_card_answers_everything(careful, images):
    assert set(strip(careful).predict(images)["status"]) == {"ok"}


def test_predict_gives_the_same_probabilities_with_and_without_a_gate(careful, images):
    found, expected = (each.predict(images)["probability"] for each in (careful, strip(careful)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_predict_refers_the_band_and_fills_in_its_probability(careful, images):
    table = careful.predict(images)
    low, high = careful.band
    within = table["probability"].ge(low) & table["probability"].lt(high)
    known = table["status"] != "unlike training data"
    assert (table["status"] == "refer").equals(within & known)
    assert 0.3 < (table["status"] == "refer").mean() < 0.6
    assert table[["probability", "label"]].notna().all(axis=None)


def test_predict_flags_strangers_before_it_refers(careful, images):
    table = careful.predict(255 - images)
    assert set(table["status"]) == {"unlike training data"}
    assert table["probability"].notna().all()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[..., ::-1],
        lambda image: image[..., [1, 2, 0]],
        lambda image: np.full_like(image, 255),
        lambda image: image[..., :1].repeat(3, axis=-1),
        lambda image: load_sample_image("flower.jpg"),
        lambda image: load_sample_image("china.jpg"),
    ],
    ids=["red and blue swapped", "channels turned", "blank", "grey", "a flower", "a house"],
)
def test_predict_flags_what_is_not_as_in_training(careful, images, change):
    changed = [change(image) for image in images[::4]]
    assert set(careful.predict(changed)["status"]) == {"unlike training data"}


def test_predict_flags_few_new_pictures_of_the_same_kind(promised, tmp_path):
    folder = simulate(tmp_path / "new", images_per_patient=3, image_size=48, patients=40, seed=5)
    status = promised[1].predict(folder / "benign")["status"]
    assert (status == "unlike training data").mean() <= 0.05


def test_predict_refers_up_to_a_higher_threshold(careful, images):
    table = careful.predict(images, threshold=1.0)
    answered = table[table["status"] == "ok"]
    assert (answered["probability"] < careful.band[0]).all()
    assert (table["status"] == "refer").mean() > 0.6


def test_predict_keeps_the_reason_of_an_unreadable_picture(careful, images):
    table = careful.predict([images[0], b"", 255 - images[0]])
    assert table["status"].tolist()[1:] == ["unreadable: the file is empty", "unlike training data"]
    assert table["probability"].isna().tolist() == [False, True, False]


def test_predict_flags_by_any_precision(careful, images):
    table = careful.predict(255 - images[:4], precision="bfloat16")
    assert set(table["status"]) == {"unlike training data"}


def test_explain_tells_the_status_that_predict_tells(careful, images, tmp_path):
    pictures = [images[0], images[1], 255 - images[0]]
    explained = workflows.explain(careful, pictures, tmp_path)
    assert explained["status"].tolist() == careful.predict(pictures)["status"].tolist()


def test_train_writes_what_it_promises_and_of_whom(classifier, simulated):
    data = f"{simulated.info.name}, validation"
    assert classifier.card["abstention"]["data"] == classifier.card["gate"]["data"] == data
    # Six validation patients with twelve pictures are too few for either.
    assert "called malignant allow a promise of" in classifier.card["abstention"]["reason"]
    assert "20 held-out pictures" in classifier.card["gate"]["reason"]


@pytest.fixture(scope="module")
def larger(simulated):
    """The manifest with enough held-out pictures: half of them stand in validation."""
    parts = np.where(simulated.table["patient_id"].factorize()[0] % 2, "validation", "train")
    return replace(simulated, table=simulated.table.assign(split=parts))


@pytest.fixture(scope="module")
def promised(classifier, larger, tmp_path_factory):
    """The classifier as if it had been trained on half of the pictures, and its promise."""
    known = workflows.samples.decode_table(larger.table, classifier.image_size)
    card = deepcopy(classifier.card)
    for part in ("train", "validation", "test"):
        rows = known.table.iloc[known.rows_in(part)]
        card["samples"][part] = workflows.samples.describe_samples(rows)
    output = tmp_path_factory.mktemp("promised") / "careful.keras"
    asked = Classifier(classifier.model, card)
    workflows.promise(asked, replace(larger, table=larger.table.assign(split=None)), output)
    return asked, Classifier.load(output)


def test_promise_writes_a_gate_that_survives_the_file(promised, larger):
    _, loaded = promised
    gate = loaded.card["gate"]
    held_out = larger.table[larger.table["split"] == "validation"]
    assert (gate["n_images"], gate["flagged"]) == (len(held_out), 0.01)
    status = loaded.predict(list(held_out["path"]))["status"]
    assert (status == "unlike training data").mean() <= 0.01


def test_load_drops_a_gate_of_an_earlier_kind_and_says_so(promised, images, tmp_path, caplog):
    _, loaded = promised
    earlier = {k: v for k, v in loaded.card["gate"].items() if k != "limits"}
    card = deepcopy(loaded.card) | {"gate": earlier}
    write_model(tmp_path / "earlier.keras", loaded.model, card)
    with caplog.at_level(logging.WARNING, "bcnet"):
        found = Classifier.load(tmp_path / "earlier.keras")
    assert "`bcnet promise` makes a new one" in caplog.text
    assert "unlike training data" not in set(found.predict(255 - images)["status"])
    assert tell_promise(found.card).endswith(found.card["gate"]["reason"])


def test_promise_leaves_the_model_it_was_asked_of_as_it_is(promised):
    asked, loaded = promised
    assert "features" not in asked.card["gate"]
    assert "features" in loaded.card["gate"]


def test_promise_equals_what_a_training_would_have_written(promised, larger):
    asked, loaded = promised
    pictures = workflows.samples.decode_table(larger.table, asked.image_size)
    trained = Classifier(asked.model, deepcopy(asked.card))
    promises.promise_trained(
        trained, pictures, view_part(trained, pictures, "train"), larger.info.name
    )
    assert trained.card["abstention"] == loaded.card["abstention"]
    assert trained.card["gate"] == loaded.card["gate"]


def test_promise_refuses_more_than_the_patients_allow(promised, simulated, tmp_path):
    with pytest.raises(TooFewCases, match=r"Received: miss_rate=0\.001"):
        workflows.promise(promised[0], simulated, tmp_path / "x.keras", miss_rate=0.001)
    assert not (tmp_path / "x.keras").exists()


def test_promise_refuses_data_that_the_card_does_not_know(promised, simulated, tmp_path):
    card = deepcopy(promised[0].card)
    card["samples"] = {part: {"pictures": [], "patients": []} for part in card["samples"]}
    with pytest.raises(ValueError, match="knows none of the 80 pictures as held out"):
        workflows.promise(Classifier(promised[0].model, card), simulated, tmp_path / "x.keras")


def test_promise_command_tells_what_is_promised(promised, simulated_folder, tmp_path, capsys):
    asked, loaded = promised
    asked.save(tmp_path / "asked.keras")
    arguments = ["promise", tmp_path / "asked.keras", simulated_folder]
    arguments += ["--output", tmp_path / "careful.keras"]
    assert main([str(argument) for argument in arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{tmp_path / 'careful.keras'}:"
    assert told[1:] == tell_promise(loaded.card).splitlines()


def test_describe_band_says_why_there_is_none(caplog):
    with caplog.at_level(logging.WARNING, "bcnet"):
        entry = describe_band(
            np.array([0, 1]), np.array([0.1, 0.9]), threshold=0.5, patients=None, data="few"
        )
    assert entry["reason"].startswith("the 1 malignant pictures")
    assert entry["data"] == "few"
    assert "no picture is referred" in caplog.text


def test_tell_promise_names_the_rate_the_band_and_the_data():
    y_true, y_prob = np.repeat([0, 1], [60, 61]), np.repeat([0.1, 0.9, 0.3], [60, 60, 1])
    band = describe_band(y_true, y_prob, threshold=0.5, patients=None, data="mine, validation")
    told = tell_promise({"abstention": band, "gate": {"reason": "too few"}})
    assert "at most 5.0% are called benign (95% confidence)" in told
    assert "to 0.5 they are referred, 99% are answered (121 pictures: mine, validation)" in told


@pytest.mark.parametrize(("n_patients", "warned"), [(9, True), (10, False), (None, False)])
def test_tell_promise_warns_of_a_gate_set_on_few_patients(n_patients, warned):
    gate = {"features": {}, "flagged": 0.01, "n_images": 36, "n_patients": n_patients}
    told = tell_promise({"abstention": {"reason": "too few"}, "gate": gate | {"data": "mine"}})
    assert ("more than 5 % of new patients' pictures" in told) == warned


def test_calibrate_promises_anew_of_the_new_probabilities(promised, larger, tmp_path):
    options = workflows.CalibrationOptions(method=None, threshold_rule="f1")
    new = workflows.calibrate(promised[1], larger, tmp_path / "new.keras", options)
    entry = new.card["abstention"]
    assert entry.get("high", new.threshold) == new.threshold
    assert entry["data"] == f"{larger.info.name}, validation"
