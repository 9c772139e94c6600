"""A search: whom it looks at, how it goes on, what it refuses, and what it tells.

Networks are stood in for by a curve of scores, but where the whole way to `train` is walked.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from unittest.mock import MagicMock

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import pytest

from bcnet import workflows
from bcnet.cli import main
from bcnet.config import Config
from bcnet.data.manifest import patient_keys, read_manifest
from bcnet.train import History, TrainingDiverged
from bcnet.workflows import samples, tuning
from bcnet.workflows.config_file import read_config
from bcnet.workflows.search import SEARCHABLE, USUAL, Search, make_space
from bcnet.workflows.study import (
    STUDY_NAME,
    estimate_importance,
    open_study,
    read_parameters,
)
from bcnet.workflows.tuning import tune

ONE_FIELD = ("learning_rate",)
CONFIG = Config(epochs=3, batch_size=16, precision="float32")


class Trainings:
    """Stands in for `fit_network`: keeps what it was given, and reports a curve of scores."""

    def __init__(self):
        self.given, self.curves = [], {}

    def set_curve(self, call, curve):
        """Let the training of this number go so, or raise."""
        self.curves[call] = curve

    def __call__(self, pictures, config, *, callbacks, features):
        curve = self.curves.get(len(self.given), [0.5, 0.5 + config.learning_rate])
        self.given.append((pictures, config, features))
        if isinstance(curve, BaseException):
            raise curve
        for callback in callbacks:
            callback.on_train_begin()
            for epoch, score in enumerate(curve):
                callback.on_epoch_end(epoch, {"val_score": score})
        return None, History({"val_score": curve}, best_epoch=int(np.argmax(curve)))

    @property
    def rates(self):
        return [config.learning_rate for _, config, _ in self.given]


@pytest.fixture(autouse=True)
def _headless():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def trainings(monkeypatch):
    stand_in = Trainings()
    monkeypatch.setattr(tuning, "fit_network", stand_in)
    monkeypatch.setattr(tuning, "plots", MagicMock())  # the slowest part by far
    return stand_in


@pytest.fixture
def run(simulated, tmp_path):
    """Search a little, with everything in a fresh folder."""

    def run_tune(trials=2, *, config=CONFIG, manifest=simulated, output="best.json", **search):
        search = Search(trials=trials, **{"fields": ONE_FIELD, **search})
        return tune(manifest, tmp_path / output, config, search=search)

    return run_tune


def load_study(path):
    return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")


def list_patients_of(pictures, part):
    return set(patient_keys(pictures.table)[pictures.rows_in(part)])


# Whom it looks at


def test_tune_reads_no_picture_of_a_test_patient(run, trainings, simulated, monkeypatch):
    read = set()
    decode, look = samples.decode_samples, samples.read_sample

    def decode_samples(rows, *arguments, **more):
        read.update(path for path, _ in rows)
        return decode(rows, *arguments, **more)

    monkeypatch.setattr(samples, "decode_samples", decode_samples)
    monkeypatch.setattr(samples, "read_sample", lambda *row: read.add(row[0]) or look(*row))
    run()
    table = workflows.divide(simulated.table, CONFIG)
    assert read == set(table["path"][table["split"] != "test"])


@pytest.mark.parametrize("part", ["train", "validation"])
def test_tune_divides_the_patients_as_train_does(run, trainings, simulated, part):
    run()
    table = workflows.divide(simulated.table, CONFIG)
    pictures = trainings.given[0][0]
    assert list_patients_of(pictures, part) == set(patient_keys(table[table["split"] == part]))


def test_folds_hold_out_each_patient_but_the_tests_once(run, trainings, simulated):
    run(1, folds=3)
    table = workflows.divide(simulated.table, CONFIG)
    held_out = [list_patients_of(pictures, "validation") for pictures, *_ in trainings.given]
    assert len(held_out) == 3
    assert sorted(name for fold in held_out for name in fold) == sorted(
        patient_keys(table[table["split"] != "test"]).unique()
    )


def test_folds_are_judged_by_their_mean(run, trainings):
    for call, curve in enumerate(([0.6, 0.5], [0.7, 0.9], [0.6, 0.6])):
        trainings.set_curve(call, curve)
    assert run(1, folds=3).score == pytest.approx((0.6 + 0.9 + 0.6) / 3)


def test_features_are_kept_from_trial_to_trial(run, trainings):
    run(2)
    first, second = (features for *_, features in trainings.given)
    assert first is second


def test_trials_train_one_member_and_the_winner_all(run, trainings):
    result = run(1, config=replace(CONFIG, members=3, tta=True))
    assert [(config.members, config.tta) for _, config, _ in trainings.given] == [(1, False)]
    assert (result.config.members, result.config.tta) == (3, True)


# What it finds


def test_tune_chooses_the_best_score(run, trainings):
    result = run(6)
    assert result.config.learning_rate == max(trainings.rates)
    assert result.score == 0.5 + max(trainings.rates)


def test_tune_writes_the_winner_for_train_to_read(run, trainings):
    result = run()
    assert read_config(result.files[0]) == result.config
    assert (result.config.image_size, result.config.modality) == ((48, 48), "tissue")


def test_tune_writes_a_row_for_each_trial(run, trainings):
    table = pd.read_csv(run(3).files[1])
    assert list(table) == ["number", "state", "score", "seconds", "reason", "learning_rate"]
    assert table["learning_rate"].tolist() == pytest.approx(trainings.rates)


def test_the_seed_alone_decides_what_is_tried_first(run, trainings):
    run(output="first.json")
    run(output="second.json")
    run(output="third.json", config=replace(CONFIG, seed=1))
    rates = trainings.rates
    assert rates[:2] == rates[2:4]
    assert rates[4] not in rates[:2]


def test_a_hopeless_trial_is_pruned(run, trainings):
    for call in range(5):
        trainings.set_curve(call, [0.7, 0.8])
    trainings.set_curve(5, [0.6, 0.9])
    table = run(6).trials
    assert table["state"].tolist() == ["complete"] * 5 + ["pruned"]
    assert table["score"][5] == 0.6


def test_epochs_are_compared_with_the_same_epoch_of_the_same_fold(run, trainings, tmp_path):
    trainings.set_curve(0, [0.7])  # of at most three epochs: it has ended early
    run(1, folds=2)
    steps = load_study(tmp_path / "best.db").trials[0].intermediate_values
    assert list(steps) == [0, 3, 4]


def test_importance_finds_what_the_score_depends_on():
    study = optuna.create_study(direction="maximize")
    space = {name: SEARCHABLE[name] for name in ("mixup", "label_smoothing")}
    for _ in range(20):
        trial = study.ask(space)
        study.tell(trial, trial.params["mixup"])
    assert estimate_importance(study)["mixup"] > 0.9


def test_importance_of_equal_scores_is_not_told():
    study = optuna.create_study(direction="maximize")
    for _ in range(3):
        study.tell(study.ask({"mixup": SEARCHABLE["mixup"]}), 0.5)
    assert estimate_importance(study) == {}


# How it goes on


def test_a_second_call_goes_on_until_all_trials_are_there(run, trainings):
    run(2)
    assert len(run(5).trials) == 5
    assert len(trainings.given) == 5


def test_a_second_call_tries_something_new(run, trainings):
    run(2)
    run(4)
    assert len(set(trainings.rates)) == 4


def test_an_interrupted_trial_fails_and_is_not_counted(run, trainings):
    trainings.set_curve(1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(2)
    assert run(2).trials["state"].tolist() == ["complete", "fail", "complete"]


def test_a_trial_that_a_kill_left_running_fails_and_is_not_counted(run, trainings, tmp_path):
    run(1)
    load_study(tmp_path / "best.db").ask()
    assert run(2).trials["state"].tolist() == ["complete", "fail", "complete"]


def test_a_diverged_trial_fails_with_its_reason_and_the_search_goes_on(run, trainings):
    trainings.set_curve(0, TrainingDiverged("the loss is no longer finite"))
    table = run(2).trials
    assert table["state"].tolist() == ["fail", "complete"]
    assert table["reason"][0] == "the loss is no longer finite"


def test_tune_without_a_finished_trial_says_why(run, trainings):
    trainings.set_curve(0, TrainingDiverged("the loss is no longer finite"))
    with pytest.raises(ValueError, match=r"no trial has finished.* the loss is no longer finite"):
        run(1)


# What it refuses


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"config": replace(CONFIG, epochs=2)}, "epochs"),
        ({"config": replace(CONFIG, seed=1)}, "pictures, seed"),
        ({"fields": ("learning_rate", "mixup")}, "mixup, searched fields"),
        ({"folds": 2}, "folds, pictures"),
    ],
)
def test_a_study_of_another_search_is_refused(run, trainings, change, told):
    run(1)
    with pytest.raises(ValueError, match=rf"best.db belongs to another .* Different: {told}\."):
        run(2, **change)


def test_a_study_of_other_pictures_is_refused(run, trainings, simulated_folder, tmp_path):
    run(1)
    shutil.copytree(simulated_folder, tmp_path / "fewer")
    table = workflows.divide(read_manifest(tmp_path / "fewer").table, CONFIG)
    (tmp_path / "fewer" / table["path"][table["split"] == "train"].iloc[0]).unlink()
    with pytest.raises(ValueError, match=r"Different: pictures\."):
        run(2, manifest=read_manifest(tmp_path / "fewer"))


def test_a_study_in_use_is_refused(run, trainings, tmp_path):
    with (
        open_study(tmp_path / "best.db", {}),
        pytest.raises(ValueError, match=r"best\.db is in use by another search"),
    ):
        run(1)


def test_an_interrupted_search_leaves_nothing_but_the_study(run, trainings, tmp_path):
    trainings.set_curve(0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["best.db"]


def make_foreign_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE patients (name)")


@pytest.mark.parametrize(
    "make",
    [make_foreign_database, lambda path: path.write_text("no database"), lambda p: p.mkdir()],
)
def test_what_is_no_study_is_refused(tmp_path, make):
    make(tmp_path / "mine.db")
    with (
        pytest.raises(ValueError, match=r"mine\.db is not a study"),
        open_study(tmp_path / "mine.db", {}),
    ):
        pass


def test_a_foreign_database_stays_as_it_was(tmp_path):
    make_foreign_database(tmp_path / "mine.db")
    before = (tmp_path / "mine.db").read_bytes()
    with pytest.raises(ValueError, match="is not a study"), open_study(tmp_path / "mine.db", {}):
        pass
    assert (tmp_path / "mine.db").read_bytes() == before


def test_a_path_that_optuna_would_misread_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be without"), open_study(tmp_path / "{a}.db", {}):
        pass


def test_tune_refuses_another_ending(run, trainings):
    with pytest.raises(ValueError, match=r"`output` must end in \.json"):
        run(output="best.keras")


@pytest.mark.parametrize("name", ["trials", "folds"])
def test_search_refuses_none_at_all(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1. Received: {name}=0"):
        Search(**{name: 0})


# Where it searches


@pytest.mark.parametrize("name", SEARCHABLE)
def test_config_takes_whatever_is_searched(name):
    where = SEARCHABLE[name]
    ends = where.choices if hasattr(where, "choices") else (where.low, where.high)
    assert name in {field.name for field in fields(Config)}
    assert [getattr(Config(**{name: value}), name) for value in ends] == list(ends)


def test_steps_are_read_as_a_person_writes_them():
    trial = optuna.trial.FixedTrial({"mixup": 0.30000000000000004, "batch_size": 32})
    trial.suggest_float("mixup", 0, 0.4, step=0.1)
    trial.suggest_categorical("batch_size", [32, 64])
    assert read_parameters(trial) == {"mixup": 0.3, "batch_size": 32}


@pytest.mark.parametrize(
    ("config", "searched"),
    [
        (Config(modality="tissue"), {"stain_jitter"}),
        (Config(modality="radiology"), set()),
        (Config(modality="radiology", model="vgg16", weights="imagenet"), {"fine_tune_rate"}),
    ],
)
def test_make_space_searches_what_makes_a_difference(config, searched):
    assert set(make_space(config)) == searched | set(USUAL)


@pytest.mark.parametrize(
    ("name", "told"),
    [("seed", "must name some of .* Received: seed"), ("stain_jitter", "changes nothing here")],
)
def test_make_space_refuses(name, told):
    with pytest.raises(ValueError, match=told):
        make_space(Config(modality="radiology"), (name,))


# The command line, and the whole way


def test_the_command_prints_the_winner_and_where_it_is(
    trainings, simulated_folder, tmp_path, capsys
):
    command = (
        f"tune {simulated_folder} --trials 2 --search learning_rate --output {tmp_path}/a.json"
    )
    assert main(command.split()) == 0
    out = capsys.readouterr().out
    assert "best of 2 trials: validation AUC 0.5" in out
    assert f"learning_rate {max(trainings.rates)}\n" in out
    assert f"{tmp_path}/a.json\n{tmp_path}/a.csv\n{tmp_path}/a.png\n" in out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", {"epochs": 3, "learning_rate": 0.25, "test": 0.3, "modality": "tissue"}),
        ("--epochs 25", {"epochs": 25, "learning_rate": 0.25}),  # the default, but typed
        ("--test 0.2 --modality radiology", {"test": 0.2, "modality": "radiology"}),
        ("--model vgg16", {"weights": "imagenet"}),
        ("--model vgg16 --weights none", {"weights": None}),
        ("--no-tta --stain-normalisation none", {"tta": False, "stain_normalisation": None}),
    ],
)
def test_what_is_typed_overrides_the_file(simulated_folder, tmp_path, monkeypatch, typed, expected):
    values = {"epochs": 3, "learning_rate": 0.25, "test": 0.3, "modality": "tissue"}
    values |= {"tta": True, "stain_normalisation": "macenko"}
    (tmp_path / "mine.json").write_text(json.dumps(values))
    taken = []

    def train(manifest, output, config, **_):
        taken.append(config)
        raise ValueError("enough")

    monkeypatch.setattr("bcnet.workflows.training.train", train)
    main(f"train {simulated_folder} --output a.keras --config {tmp_path}/mine.json {typed}".split())
    assert {name: getattr(taken[0], name) for name in expected} == expected


@pytest.fixture(scope="module")
def found(simulated, tmp_path_factory):
    """A search with real networks, of one epoch."""
    output = tmp_path_factory.mktemp("search") / "best.json"
    search = Search(trials=1, fields=("learning_rate", "batch_size"))
    return tune(simulated, output, replace(CONFIG, epochs=1), search=search)


def test_train_reaches_the_score_of_the_winner(found, simulated, tmp_path):
    winner = read_config(found.files[0])
    card = workflows.train(simulated, tmp_path / "best.keras", winner).card
    assert max(card["training"]["history"]["val_score"]) == found.score


def test_tune_draws_the_search(found):
    assert found.files[2].read_bytes().startswith(b"\x89PNG")
