"""The benchmarks of accuracy divide fairly and count rightly; their figures are not tested."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bcnet.config import Config
from bcnet.evaluate.metrics import evaluate

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def ledger(load):
    return load("ledger")


@pytest.fixture(scope="module")
def judging(load):
    return load("judging")


@pytest.fixture(scope="module")
def pairs(load):
    return load("pairs")


@pytest.fixture(scope="module")
def accuracy(load):
    return load("accuracy")


@pytest.fixture(scope="module")
def ablation(load):
    return load("ablation")


@pytest.fixture
def stay(ledger, monkeypatch):
    """Run in this process, which has TensorFlow already."""
    monkeypatch.setattr(ledger, "run_apart", lambda function, *given: function(*given))


@pytest.fixture
def without_recipes(accuracy, monkeypatch):
    """Leave out what would need a download."""
    monkeypatch.setattr(accuracy, "RECIPES", {})


@pytest.fixture(scope="module")
def root(simulated_folder, tmp_path_factory):
    """A root whose `pcam` has an official split: every third patient is for validation."""
    root = tmp_path_factory.mktemp("root")
    for path in simulated_folder.glob("*/sim-*.png"):
        if path.parent.name != "masks":
            part = "valid" if int(path.name.split("-")[1]) % 3 == 0 else "train"
            target = root / "pcam" / part / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return root


def list_cells(printed):
    """Part the rows of a table, without its header."""
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[:1] == "|"]
    return rows[2:]


# --- ledger -----------------------------------------------------------------------------------


@pytest.fixture
def calls(ledger, monkeypatch):
    """The settings that were really measured."""
    calls = []
    monkeypatch.setattr(ledger, "run_apart", lambda function, given: calls.append(given) or given)
    return calls


def test_measure_does_not_repeat_what_the_file_holds(ledger, calls, tmp_path):
    path = tmp_path / "runs.json"
    for _ in range(2):
        result = ledger.Ledger(path).measure("run", dict, {"image_size": (8, 8)})
        assert result == {"image_size": [8, 8]}
    assert len(calls) == 1


def test_measure_repeats_a_run_of_other_settings(ledger, calls, tmp_path):
    path = tmp_path / "runs.json"
    for epochs in (1, 2):
        assert ledger.Ledger(path).measure("run", dict, {"epochs": epochs})["epochs"] == epochs
    assert len(calls) == 2


def test_measure_keeps_nothing_of_a_run_that_failed(ledger, tmp_path):
    path = tmp_path / "runs.json"
    with pytest.raises(ledger.RunFailed):
        ledger.Ledger(path).measure("run", int, {})
    assert not path.exists()


@pytest.mark.parametrize("text", ["no json", "[1]", '{"scoring": {"ours": 1}}'])
def test_ledger_refuses_a_file_of_another_kind(ledger, tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"`--json` must .* Received: .*other\.json"):
        ledger.Ledger(path)


def test_run_apart_leaves_this_process(ledger):
    assert ledger.run_apart(os.getpid) != os.getpid()


def test_run_apart_tells_what_went_wrong(ledger):
    with pytest.raises(ledger.RunFailed, match=r"^ValueError: invalid literal"):
        ledger.run_apart(int, "one")


def test_run_apart_survives_a_process_that_is_killed(ledger):
    with pytest.raises(ledger.RunFailed, match="killed"):
        ledger.run_apart(os._exit, 9)


# --- judging ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "expected", "name"),
    [
        (["train", "validation"], ["train", "test"], "validation"),
        (["train", "validation", "test"], ["train", "validation", "test"], "test"),
    ],
)
def test_hold_out_official_judges_the_last_part(judging, parts, expected, name):
    table, part = judging.hold_out_official(pd.DataFrame({"split": parts}))
    assert (table["split"].tolist(), part) == (expected, name)


@pytest.fixture
def settings(simulated_folder):
    """A run of the tutorial; the image size is one that costs little."""
    config = {"epochs": 1, "image_size": (16, 16), "precision": "float32"}
    return {
        "data": str(simulated_folder),
        "images": None,
        "tutorial": True,
        "folds": 2,
        "config": config,
    }


@pytest.fixture
def fitted(judging, monkeypatch):
    """The pictures that the tutorial was given; it is not really trained."""
    given = []

    def fit(pictures, config, **_):
        given.append(pictures)
        return judging.build_tutorial_network(config.image_size), None

    monkeypatch.setattr(judging, "fit_tutorial", fit)
    return given


def test_judge_keeps_the_official_part_from_choosing(judging, settings, root, fitted, tmp_path):
    result = judging.judge(settings | {"data": str(root / "pcam")}, str(tmp_path))
    table = fitted[0].table
    is_official = table["path"].str.contains("/valid/")
    assert set(table["split"][~is_official]) == {"train", "validation"}
    assert set(table["split"][is_official]) == {"test"}
    assert (result["judged"], result["n_images"]) == ("official validation", is_official.sum())


def test_judge_judges_all_patients_where_there_is_no_official_part(
    judging, settings, fitted, tmp_path
):
    result = judging.judge(settings, str(tmp_path))
    assert (result["judged"], result["n_images"], len(fitted)) == ("2 folds", 80, 2)


def test_judge_gives_the_tutorial_its_threshold(judging, settings, fitted, tmp_path):
    result = judging.judge(settings, str(tmp_path))
    assert result["confusion_matrix"] == result["at_half"]["confusion_matrix"]


def test_judge_takes_no_more_pictures_than_asked(judging, settings, fitted, tmp_path):
    result = judging.judge(settings | {"images": 40}, str(tmp_path))
    assert result["n_images"] == pytest.approx(40, abs=2)


def test_open_data_draws_the_built_in_pictures_once(judging, tmp_path):
    manifest = judging.open_data(None, 16, str(tmp_path))
    before = os.stat(tmp_path / "simulated").st_mtime_ns
    again = judging.open_data(None, 16, str(tmp_path))
    assert len(manifest.table) == len(again.table) == 16
    assert os.stat(tmp_path / "simulated").st_mtime_ns == before


def test_fit_tutorial_learns_from_the_training_part(judging, simulated, monkeypatch):
    class Network:
        def fit(self, images, labels, *, validation_data, **_):
            self.seen = images, labels, *validation_data

    monkeypatch.setattr(judging, "build_tutorial_network", lambda image_size: Network())
    parts = np.resize(["train", "train", "validation", "test"], len(simulated.table))
    images = np.arange(len(parts), dtype=np.uint8)[:, None, None, None]
    pictures = judging.Pictures(images, simulated.table.assign(split=parts))
    network, _ = judging.fit_tutorial(pictures, Config(), label="", progress=False)
    labels = simulated.table["label"].to_numpy()
    expected = [
        values[parts == part] for part in ("train", "validation") for values in (images, labels)
    ]
    for seen, wanted in zip(network.seen, expected, strict=True):
        np.testing.assert_array_equal(seen, wanted)


def test_measure_peak_counts_bytes(judging):
    assert 50e6 < judging.measure_peak() < 1e12  # TensorFlow alone takes more than 50 MB


# --- pairs ------------------------------------------------------------------------------------


@pytest.fixture
def drawn():
    """Sixty pictures of 20 patients, with ties, and how often each is counted."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)
    scores = np.round(np.clip(0.3 * labels + rng.uniform(0, 0.7, size=60), 0, 1), 1)
    return labels, scores, np.repeat(rng.integers(3, size=20), 3)


def make_run(labels, scores, patients=None):
    patients = np.arange(len(labels)) // 3 if patients is None else patients
    return {
        "labels": list(labels),
        "patients": list(patients),
        "scores": list(scores),
        "seconds": 1,
    }


def test_measure_counts_a_picture_as_often_as_it_was_drawn(pairs, drawn):
    labels, scores, weights = drawn
    expected = evaluate(np.repeat(labels, weights), np.repeat(scores, weights), draws=1)["image"]
    found = pairs.measure(labels, scores, weights)
    wanted = [expected[name]["value"] for name in ("auc", "balanced_accuracy")]
    np.testing.assert_allclose(found, wanted)


def test_draw_patients_takes_all_pictures_of_a_patient_or_none(pairs):
    patients = np.array([0, 0, 1, 2, 2, 2])
    for weights in pairs.draw_patients(patients, draws=20):
        firsts = weights[[0, 2, 3]]
        np.testing.assert_array_equal(weights, firsts[patients])
        assert firsts.sum() == 3


def test_compare_finds_no_difference_between_equals(pairs, drawn):
    labels, scores, _ = drawn
    runs = [make_run(labels, scores)] * 2
    assert pairs.compare(runs, runs, draws=20) == (pairs.Difference(0, 0, 0, [0, 0]),) * 2


def test_compare_subtracts_within_a_draw(pairs, drawn):
    # Told apart wholly, a run has AUC 1 in every draw, so the bounds are those of the other's.
    labels, scores, _ = drawn
    difference, _ = pairs.compare([make_run(labels, labels)], [make_run(labels, scores)], draws=500)
    alone = evaluate(labels, scores, patients=np.arange(60) // 3, draws=2000)["image"]["auc"]
    assert difference.value == pytest.approx(1 - alone["value"])
    found = (1 - difference.high, 1 - difference.low)
    assert found == pytest.approx((alone["low"], alone["high"]), abs=0.02)


def test_compare_averages_the_seeds(pairs, drawn):
    labels, scores, _ = drawn
    ours = [make_run(labels, labels), make_run(labels, scores)]
    difference, _ = pairs.compare(ours, [make_run(labels, scores)] * 2, draws=5)
    assert difference.value == pytest.approx(difference.seeds[0] / 2)
    assert difference.seeds[1] == 0


def test_compare_refuses_other_pictures(pairs, drawn):
    labels, scores, _ = drawn
    other = make_run(1 - labels, scores)
    with pytest.raises(ValueError, match="same pictures"):
        pairs.compare([make_run(labels, scores)], [other])


@pytest.mark.parametrize(
    ("low", "high", "seeds", "verdict"),
    [
        (0.01, 0.03, [0.02, 0.02], "helps"),
        (-0.03, -0.01, [-0.02, -0.02], "harms"),
        (-0.01, 0.03, [0.02, 0.02], "within noise"),
        (0.01, 0.03, [0.05, -0.01], "within noise"),
        (-0.03, -0.01, [-0.05, 0.01], "within noise"),
    ],
)
def test_judge_difference_wants_interval_and_seeds_to_agree(pairs, low, high, seeds, verdict):
    assert pairs.judge_difference(pairs.Difference(0.0, low, high, seeds)) == verdict


# --- accuracy ---------------------------------------------------------------------------------


def make_result(shift, *, patients):
    """What `judging.judge` returns: one of four pictures is called wrongly, or none."""
    labels, scores = [0, 0, 1, 1] * 5, [0.1, 0.6 - shift, 0.7, 0.9] * 5
    judged = evaluate(labels, scores, patients=patients, draws=50)
    half = evaluate(labels, scores, patients=patients, draws=50)
    cost = {"seconds": 60 + 10 * shift, "peak_bytes": 1.5e9 + shift, "precision": "float32"}
    return judged | cost | {"judged": "4 folds", "at_half": half, "machine": "two cores"}


def test_format_row_shows_seed_0_and_the_range_of_all(accuracy):
    results = [make_result(shift, patients=None) for shift in (0, 0.2)]
    (cells,) = list_cells("|\n|\n" + accuracy.format_row(("idc", "bcnet"), results))
    assert cells[2:4] == ["4 folds, by picture", "20 / unknown"]
    assert cells[5].startswith("0.750 [")
    assert cells[5].endswith("], seeds 0.750–1.000")
    assert cells[8:] == ["0.500", "61", "1.5 GB", "float32"]


def test_format_row_is_by_patient_where_each_has_one_label(accuracy):
    patients = [f"{i // 4}{'bm'[i % 4 // 2]}" for i in range(20)]
    row = accuracy.format_row(("simulated", "bcnet"), [make_result(0, patients=patients)])
    (cells,) = list_cells("|\n|\n" + row)
    assert cells[2:4] == ["4 folds, by patient", "20 / 10"]
    assert cells[5].startswith("1.000 [")  # the mean of 0.1 and 0.6 is below one half


def test_find_sets_says_what_is_not_there(accuracy, tmp_path, capsys):
    assert accuracy.find_sets(tmp_path, None) == {"simulated": None}
    assert "idc, pcam, breakhis" in capsys.readouterr().err


def test_find_sets_refuses_a_name_that_is_not_there(accuracy, tmp_path):
    with pytest.raises(FileNotFoundError, match="`--sets` names idc"):
        accuracy.find_sets(tmp_path, ["simulated", "idc"])


def test_make_config_is_the_default_for_bcnet(accuracy):
    assert accuracy.make_config("bcnet", "idc", accuracy.parse_arguments([])) == Config()


def test_make_config_accepts_every_recipe(accuracy):
    arguments = accuracy.parse_arguments([])
    for data, changes in accuracy.RECIPES.items():
        assert accuracy.make_config("recipe", data, arguments) == Config(**changes)


def test_make_config_takes_the_weights_given(accuracy, monkeypatch):
    monkeypatch.setitem(accuracy.RECIPES, "idc", {"model": "mobilenet", "weights": "imagenet"})
    arguments = accuracy.parse_arguments(["--weights", "mobilenet=/some/file.h5"])
    assert accuracy.make_config("recipe", "idc", arguments).weights == "/some/file.h5"


def test_make_config_shortens_a_quick_run(accuracy):
    config = accuracy.make_config("bcnet", "idc", accuracy.parse_arguments(["--quick"]))
    assert config.epochs == accuracy.QUICK_EPOCHS


@pytest.mark.usefixtures("without_recipes")
def test_main_prints_a_row_for_each_contestant(accuracy, root, stay, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "QUICK_EPOCHS", 1)
    assert accuracy.main(["--root", str(root), "--sets", "pcam", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("quick: not the figures of the README\n")
    assert [cells[:3] for cells in list_cells(printed)] == [
        ["pcam", "tutorial", "official validation, by patient"],
        ["pcam", "bcnet", "official validation, by patient"],
    ]


@pytest.mark.usefixtures("without_recipes")
def test_main_goes_on_after_a_row_that_failed(accuracy, ledger, root, monkeypatch, capsys):
    def fail_tutorial(function, settings):
        if settings["tutorial"]:
            raise ledger.RunFailed("ValueError: too few")
        return make_result(0, patients=None)

    monkeypatch.setattr(ledger, "run_apart", fail_tutorial)
    assert accuracy.main(["--root", str(root), "--sets", "pcam"]) == 1
    first, second = list_cells(capsys.readouterr().out)
    assert first == ["pcam", "tutorial", "skipped: ValueError: too few"]
    assert second[:2] == ["pcam", "bcnet"]


def test_main_ends_with_the_machine(accuracy, ledger, root, monkeypatch, capsys):
    monkeypatch.setattr(ledger, "run_apart", lambda *_: make_result(0, patients=None))
    assert accuracy.main(["--root", str(root), "--sets", "pcam"]) == 0
    assert capsys.readouterr().out.endswith("measured on\ntwo cores\n")


@pytest.mark.usefixtures("without_recipes")
def test_main_measures_every_seed(accuracy, ledger, root, monkeypatch, tmp_path):
    result = make_result(0, patients=None)
    monkeypatch.setattr(ledger, "run_apart", lambda *_: result)
    path = tmp_path / "accuracy.json"
    words = ["--root", str(root), "--sets", "pcam", "--seeds", "2", "--json", str(path)]
    assert accuracy.main(words) == 0
    seeds = [run["settings"]["config"]["seed"] for run in json.loads(path.read_text()).values()]
    assert seeds == [0, 1, 0, 1]


def test_main_of_accuracy_names_a_set_that_is_not_there(accuracy, tmp_path, capsys):
    assert accuracy.main(["--root", str(tmp_path), "--sets", "idc"]) == 2
    assert "names idc" in capsys.readouterr().err


# --- ablation ---------------------------------------------------------------------------------


def test_choose_switches_passes_over_the_default_and_says_so(ablation, capsys):
    chosen = ablation.choose_switches(Config(tta=True), ["tta", "ema=0.99"])
    assert chosen == {"ema=0.99": Config(tta=True, ema=0.99)}
    assert "the default already: tta" in capsys.readouterr().err


def test_choose_switches_knows_each_by_one_change(ablation):
    for name, config in ablation.choose_switches(Config(), None).items():
        changed = {key for key in vars(config) if getattr(config, key) != getattr(Config(), key)}
        assert changed == set(ablation.SWITCHES[name])


def test_main_compares_a_switch_with_the_default(ablation, simulated_folder, stay, capsys):
    words = "--folds 2 --seeds 1 --epochs 1 --limit-patients 12 --switch label_smoothing=0.1"
    assert ablation.main([str(simulated_folder), *words.split()]) == 0
    default, switch = list_cells(capsys.readouterr().out)
    assert (default[0], switch[0]) == ("default", "label_smoothing=0.1")
    assert switch[-1] in ("helps", "harms", "within noise")


def test_main_prints_what_a_switch_gains(ablation, ledger, drawn, monkeypatch, capsys):
    labels, scores, _ = drawn

    def run(function, settings):
        return make_run(labels, labels if settings["config"]["tta"] else scores)

    monkeypatch.setattr(ledger, "run_apart", run)
    assert ablation.main(["data", "--switch", "tta"]) == 0
    default, switch = list_cells(capsys.readouterr().out)
    assert switch[1] == "1.000"
    assert switch[3] == ", ".join([f"{1 - float(default[1]):+.3f}"] * 2)
    assert switch[-1] == "helps"


def test_main_goes_on_after_a_switch_that_failed(ablation, ledger, drawn, monkeypatch, capsys):
    def run(function, settings):
        if settings["config"]["tta"]:
            raise ledger.RunFailed("ValueError: no symmetries")
        return make_run(*drawn[:2])

    monkeypatch.setattr(ledger, "run_apart", run)
    assert ablation.main(["data", "--switch", "tta", "ema=0.99"]) == 1
    _, failed, other = list_cells(capsys.readouterr().out)
    assert failed == ["tta", "skipped: ValueError: no symmetries"]
    assert other[0] == "ema=0.99"


def test_main_of_ablation_says_why_the_default_failed(ablation, ledger, monkeypatch, capsys):
    def fail(*_):
        raise ledger.RunFailed("FileNotFoundError: nowhere")

    monkeypatch.setattr(ledger, "run_apart", fail)
    assert ablation.main(["nowhere"]) == 2
    assert "FileNotFoundError: nowhere" in capsys.readouterr().err


def test_score_folds_gives_the_pictures_in_the_order_of_the_data(
    judging, simulated, simulated_folder, monkeypatch
):
    def judge(manifest, config, **_):
        # As `judge_folds` returns them: a fold after the other put back into order.
        return manifest.table.assign(probability=np.linspace(0.1, 0.9, 80), threshold=0.5)

    monkeypatch.setattr(judging, "judge_folds", judge)
    settings = {"data": str(simulated_folder), "patients": None, "folds": 2, "config": {}}
    result = judging.score_folds(settings)
    assert result["labels"] == simulated.table["label"].tolist()
    assert len(set(result["patients"])) == 40
    np.testing.assert_allclose(result["scores"], np.linspace(0.1, 0.9, 80))
