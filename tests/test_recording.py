"""Trials kept in the card of a model file, and what the model card then shows."""

import shutil
import zipfile

import numpy as np
import pytest

from bcnet import Classifier, workflows
from bcnet.cardfile import CARD_MEMBER, read_card, write_card
from bcnet.cli import main
from bcnet.evaluate.perturbations import PERTURBATIONS
from bcnet.workflows.calibration import CalibrationOptions
from bcnet.workflows.card_text import describe_model
from bcnet.workflows.document import write_markdown
from bcnet.workflows.recording import record_robustness, record_subgroups


@pytest.fixture(scope="module")
def trials(model_file, simulated):
    """Results of `evaluate` by laboratory and of `stress` by two perturbations."""
    classifier = Classifier.load(model_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bcnet.workflows.robustness.choose_perturbations", lambda _: PERTURBATIONS[:2]
        )
        stressed = workflows.stress(classifier, simulated)
    return workflows.evaluate(classifier, simulated, by=["laboratory"]), stressed


@pytest.fixture
def classifier(model_file, tmp_path):
    return Classifier.load(shutil.copy(model_file, tmp_path / "model.keras"))


def read_members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != CARD_MEMBER}


def write_out(path):
    return write_markdown("Card", describe_model(read_card(path), "mine"))


def test_recording_changes_nothing_else_of_the_file(classifier, trials, model_file):
    record_subgroups(classifier, trials[0])
    record_robustness(classifier, trials[1])
    card = read_card(classifier.path)
    del card["subgroups"], card["robustness"]
    assert card == read_card(model_file)
    assert read_members(classifier.path) == read_members(model_file)


def test_recording_leaves_the_answers_as_they_are(classifier, trials, model_file):
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
    before = classifier.predict_images(images)
    record_robustness(classifier, trials[1])
    after = Classifier.load(classifier.path).predict_images(images)
    np.testing.assert_array_equal(before, after)


def test_recording_says_of_which_test(classifier, trials):
    record_subgroups(classifier, trials[0])
    entry = read_card(classifier.path)["subgroups"]["simulated by laboratory"]
    told = {name: entry[name] for name in ("data", "part", "n_images", "simulated")}
    assert told == {"data": "simulated", "part": "test", "n_images": 16, "simulated": True}
    assert entry["threshold"] == classifier.threshold


def test_recording_again_replaces_and_says_so(classifier, trials, caplog):
    caplog.set_level("INFO", "bcnet")
    record_subgroups(classifier, trials[0])
    record_subgroups(classifier, trials[0])
    assert list(read_card(classifier.path)["subgroups"]) == ["simulated by laboratory"]
    assert "replaced in the card: subgroups, simulated by laboratory" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "not a test"}, "only a test is recorded"),
        ({"part": "validation"}, "only a test is recorded"),
        ({"part": "all"}, "only a test is recorded"),
        ({"threshold": 0.123}, "at the model's own threshold"),
        ({"precision": "bfloat16"}, "only float32 is recorded"),
    ],
)
@pytest.mark.parametrize("kind", [0, 1], ids=["subgroups", "robustness"])
def test_recording_refuses_what_is_no_test(classifier, trials, model_file, change, message, kind):
    record = (record_subgroups, record_robustness)[kind]
    with pytest.raises(ValueError, match=message):
        record(classifier, trials[kind] | change)
    assert read_card(classifier.path) == read_card(model_file)


def test_recording_refuses_a_file_that_has_changed(classifier, trials):
    changed = read_card(classifier.path)
    changed["references"]["probability"][0] += 0.1
    write_card(classifier.path, changed)
    with pytest.raises(ValueError, match="must be the file that was judged"):
        record_robustness(classifier, trials[1])


def test_calibrate_drops_trials_of_the_old_threshold(classifier, trials, simulated, tmp_path):
    record_subgroups(classifier, trials[0])
    record_robustness(classifier, trials[1])
    options = CalibrationOptions(None)
    card = workflows.calibrate(classifier, simulated, tmp_path / "new.keras", options).card
    assert not {"subgroups", "robustness"} & set(card)


def test_write_card_is_all_or_nothing(classifier, model_file):
    with pytest.raises(ValueError, match="JSON"):
        write_card(classifier.path, {"value": float("nan")})
    assert read_card(classifier.path) == read_card(model_file)


def test_card_shows_what_was_recorded(classifier, trials):
    record_subgroups(classifier, trials[0])
    record_robustness(classifier, trials[1])
    told = write_out(classifier.path)
    subgroups, robustness = told.split("## Subgroups\n")[1].split("## Robustness\n")
    assert "| by laboratory | pictures |" in subgroups
    assert "| lab1 |" in subgroups
    assert f"| {PERTURBATIONS[0].name} |" in robustness
    assert "simulated, simulated, test (the part set aside for it)" in robustness


@pytest.mark.parametrize(
    ("title", "command"),
    [
        ("Subgroups", "bcnet evaluate mine.keras DATA --by COLUMN --record"),
        ("Robustness", "bcnet stress mine.keras DATA --record"),
    ],
)
def test_card_says_which_command_would_fill_it(classifier, title, command):
    section = write_out(classifier.path).split(f"## {title}\n")[1].split("\n## ")[0]
    assert section.strip().startswith("Not recorded.")
    assert command in section


def test_commands_record_and_the_card_draws(
    classifier, simulated_folder, tmp_path, capsys, monkeypatch
):
    path, data = str(classifier.path), str(simulated_folder)
    perturbations = "bcnet.workflows.robustness.choose_perturbations"
    monkeypatch.setattr(perturbations, lambda _: PERTURBATIONS[:2])
    assert main(["evaluate", path, data, "--by", "laboratory", "--record"]) == 0
    assert main(["stress", path, data, "--record"]) == 0
    assert capsys.readouterr().out.count(f"recorded in the card of {path}") == 2
    assert main(["card", path, "--output", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card_files" / "robustness_1.png").stat().st_size > 0
    assert "card_files/robustness_1.png" in (tmp_path / "card.md").read_text()


def test_command_says_what_a_record_of_subgroups_needs(model_file, simulated_folder, capsys):
    assert main(["evaluate", str(model_file), str(simulated_folder), "--record"]) == 2
    assert "name them by --by COLUMN" in capsys.readouterr().err
