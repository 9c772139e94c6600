"""The benchmarks run, and say what they claim to say; how fast anything is, is not tested."""

import contextlib
import io
import json
import runpy
from pathlib import Path

import keras
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent

CASES = {
    "training_auto",
    "training_equal_auto",
    "scoring_float32",
    "scoring_bfloat16",
    "scoring_equal_float32",
}


@pytest.fixture(scope="module")
def training():
    """What `benchmarks/training.py` defines."""
    return runpy.run_path(str(ROOT / "benchmarks" / "training.py"))


@pytest.fixture(scope="module")
def report(training, tmp_path_factory):
    """What a tiny run prints, and the figures it writes."""
    file = tmp_path_factory.mktemp("benchmark") / "training.json"
    words = ["--limit", "40", "--rounds", "1", "--image-size", "16", "--json", str(file)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert training["main"](words) == 0
    return printed.getvalue(), json.loads(file.read_text())


@pytest.fixture(scope="module")
def table(report):
    """The lines that the run prints, parted into words."""
    return [line.split() for line in report[0].splitlines() if line]


@pytest.fixture(scope="module")
def results(report):
    """What the run writes: a dictionary for each case."""
    return report[1]


def test_main_compares_training_and_scoring(results):
    # Where "auto" means float32, there is no second case of training.
    assert CASES <= set(results) <= CASES | {"training_float32", "training_equal_float32"}


def test_main_writes_four_figures_of_each_case(results):
    assert all(set(result) == {"ours", "peer", "ratio", "precision"} for result in results.values())


def test_main_writes_positive_numbers(results):
    assert all(result[key] > 0 for result in results.values() for key in ("ours", "peer", "ratio"))


def test_main_prints_machine_and_versions(table):
    assert [words[0] for words in table[:3]] == ["machine", "software", "pictures"]
    assert keras.__version__ in table[1]


def test_main_prints_the_figures_it_writes(table, results):
    rows = {words[0]: words for words in table}
    shown = {name: rows[name][1:5] for name in results}
    assert shown == {
        name: [r["precision"], f"{r['ours']:,.0f}/s", f"{r['peer']:,.0f}/s", f"{r['ratio']:.2f}"]
        for name, r in results.items()
    }


def test_main_refuses_a_folder_that_is_not_there(training, tmp_path, capsys):
    assert training["main"]([str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--limit", "some"], ["--image-size", "-1"]])
def test_parse_arguments_refuses_what_is_no_count(training, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        training["parse_arguments"](words)
    assert f"Received: {words[1]}" in capsys.readouterr().err


def test_measure_takes_turns_and_leaves_out_the_warm_up(training):
    calls = []

    def work(name):
        calls.append(name)
        return len(calls)

    case = training["Case"]("", "", ours=lambda: work("ours"), peer=lambda: work("peer"))
    assert training["measure"](case, 2) == [(4, 3), (6, 5)]
    assert calls == ["peer", "ours"] * 3


def test_summarise_takes_ratios_within_a_round(training):
    # The machine was three times as slow in the last round: 12 / 6 s, but still 4 s against 2 s.
    pairs = [(2.0, 4.0), (2.0, 5.0), (6.0, 12.0)]
    expected = {"ours": 6.0, "peer": 12 / 5, "ratio": 2.0, "precision": "float32"}
    assert training["summarise"](pairs, 12, "float32") == expected


def test_stopwatch_times_the_last_epoch_only(training, monkeypatch):
    seconds = iter([0.0, 10.0, 20.0, 21.0, 23.0])
    monkeypatch.setattr(training["time"], "perf_counter", lambda: next(seconds))
    stopwatch = training["Stopwatch"]()
    for steps in (1, 2):
        stopwatch.on_epoch_begin(0)
        for step in range(steps):
            stopwatch.on_train_batch_end(step)
    assert stopwatch.seconds == 3.0  # from 20 to 23


def test_choose_rows_spreads_over_the_table(training):
    table = pd.DataFrame({"label": [0] * 6 + [1] * 3})
    assert training["choose_rows"](table, 3).index.tolist() == [0, 4, 8]


def test_choose_rows_takes_all_when_there_are_fewer(training):
    table = pd.DataFrame({"label": [0, 1]})
    assert training["choose_rows"](table, 3).index.tolist() == [0, 1]


def test_copy_pictures_keeps_bytes_and_class(training, tmp_path):
    tmp_path.joinpath("a.PNG").write_bytes(b"pixels")
    table = pd.DataFrame({"path": [str(tmp_path / "a.PNG")], "label": [1]})
    folder = training["copy_pictures"](table, tmp_path / "copies")
    assert (folder / "malignant" / "000000.png").read_bytes() == b"pixels"


def test_copy_pictures_refuses_what_the_tutorial_would_pass_over(training, tmp_path):
    table = pd.DataFrame({"path": ["slide.tif"], "label": [0]})
    with pytest.raises(ValueError, match=r"Received: slide\.tif"):
        training["copy_pictures"](table, tmp_path)


def test_build_tutorial_network_has_the_convolutions_of_ours(training):
    from bcnet.models import build_cnn

    def list_shapes(network):
        found = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
        return [(layer.kernel.shape, layer.output.shape) for layer in found]

    network = training["build_tutorial_network"]((16, 16))
    assert list_shapes(network) == list_shapes(build_cnn((16, 16), widths=training["WIDTHS"]))
