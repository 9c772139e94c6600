"""The benchmarks run, and say what they claim to say; how fast anything is, is not tested."""

import contextlib
import io
import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bcnet.models import build_cnn

ROOT = Path(__file__).parent.parent

CASES = {
    "training_auto",
    "training_equal_auto",
    "input_vs_training",
    "scoring_float32",
    "scoring_bfloat16",
    "scoring_equal_float32",
}
# Where "auto" means float32, there is no second case of training; PyTorch may not be installed.
POSSIBLE_CASES = {
    "training_float32",
    "training_equal_float32",
    "training_vs_torch_bfloat16",
    "training_vs_torch_float32",
}


@pytest.fixture(scope="module")
def rounds(load):
    return load("rounds")


@pytest.fixture(scope="module")
def pictures(load):
    return load("pictures")


@pytest.fixture(scope="module")
def training(load):
    return load("training")


@pytest.fixture(scope="module")
def scoring(load):
    return load("scoring")


@pytest.fixture(scope="module")
def inference(load):
    return load("inference")


@pytest.fixture(scope="module")
def heatmaps(load):
    return load("heatmaps")


@pytest.fixture(scope="module")
def precision(load):
    return load("precision")


def run(script, folder, *words):
    """Run a script; give what it prints and the figures it writes."""
    file, printed = folder / f"{script.__name__}.json", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert script.main([*map(str, words), "--json", str(file)]) == 0
    return printed.getvalue(), json.loads(file.read_text())


@pytest.fixture(scope="module")
def report(training, tmp_path_factory):
    """What a tiny run prints, and the figures it writes."""
    words = ["--limit", "40", "--rounds", "1", "--image-size", "16"]
    return run(training, tmp_path_factory.mktemp("benchmark"), *words)


@pytest.fixture(scope="module")
def table(report):
    """The lines that the run prints, parted into words."""
    return [line.split() for line in report[0].splitlines() if line]


@pytest.fixture(scope="module")
def results(report):
    """What the run writes: a dictionary for each case."""
    return report[1]


def test_main_compares_training_and_scoring(results):
    assert CASES <= set(results) <= CASES | POSSIBLE_CASES


def test_main_writes_four_figures_of_each_case(results):
    assert all(set(result) == {"ours", "peer", "ratio", "precision"} for result in results.values())


def test_main_writes_positive_numbers(results):
    assert all(result[key] > 0 for result in results.values() for key in ("ours", "peer", "ratio"))


def test_main_prints_machine_and_versions(table):
    assert [words[0] for words in table[:3]] == ["machine", "software", "pictures"]
    assert f"{keras.__version__}," in table[1]


def test_main_prints_the_figures_it_writes(table, results):
    rows = {words[0]: words for words in table}
    shown = {name: rows[name][1:5] for name in results}
    assert shown == {
        name: [r["precision"], f"{r['ours']:,.0f}", f"{r['peer']:,.0f}", f"{r['ratio']:.2f}"]
        for name, r in results.items()
    }


def test_main_refuses_a_folder_that_is_not_there(training, tmp_path, capsys):
    assert training.main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--limit", "some"], ["--image-size", "-1"]])
def test_parse_arguments_refuses_what_is_no_count(training, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        training.parse_arguments(words)
    assert f"Received: {words[1]}" in capsys.readouterr().err


def test_measure_takes_turns_and_leaves_out_the_warm_up(rounds):
    calls = []

    def work(name):
        calls.append(name)
        return len(calls)

    case = rounds.Case("", "", ours=lambda: work("ours"), peer=lambda: work("peer"))
    assert rounds.measure(case, 2) == [(4, 3), (6, 5)]
    assert calls == ["peer", "ours"] * 3


def test_summarise_takes_ratios_within_a_round(rounds):
    # The machine was three times as slow in the last round: 12 / 6 s, but still 4 s against 2 s.
    pairs = [(2.0, 4.0), (2.0, 5.0), (6.0, 12.0)]
    expected = {"ours": 6.0, "peer": 12 / 5, "ratio": 2.0, "precision": "float32"}
    assert rounds.summarise(pairs, 12, "float32") == expected


def test_stopwatch_times_the_last_epoch_only(training, monkeypatch):
    seconds = iter([0.0, 10.0, 20.0, 21.0, 23.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(seconds))
    stopwatch = training.Stopwatch()
    for steps in (1, 2):
        stopwatch.on_epoch_begin(0)
        for step in range(steps):
            stopwatch.on_train_batch_end(step)
    assert stopwatch.seconds == 3.0  # from 20 to 23


def test_choose_rows_spreads_over_the_table(pictures):
    table = pd.DataFrame({"label": [0] * 6 + [1] * 3})
    assert pictures.choose_rows(table, 3).index.tolist() == [0, 4, 8]


def test_choose_rows_takes_all_when_there_are_fewer(pictures):
    table = pd.DataFrame({"label": [0, 1]})
    assert pictures.choose_rows(table, 3).index.tolist() == [0, 1]


def test_copy_pictures_keeps_bytes_and_class(pictures, tmp_path):
    tmp_path.joinpath("a.PNG").write_bytes(b"pixels")
    table = pd.DataFrame({"path": [str(tmp_path / "a.PNG")], "label": [1]})
    folder = pictures.copy_pictures(table, tmp_path / "copies")
    assert (folder / "malignant" / "000000.png").read_bytes() == b"pixels"


def test_copy_pictures_refuses_what_the_tutorial_would_pass_over(pictures, tmp_path):
    table = pd.DataFrame({"path": ["slide.tif"], "label": [0]})
    with pytest.raises(ValueError, match=r"Received: slide\.tif"):
        pictures.copy_pictures(table, tmp_path)


def test_build_tutorial_network_has_the_convolutions_of_ours(training):
    from bcnet.models import build_cnn

    def list_shapes(network):
        found = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
        return [(layer.kernel.shape, layer.output.shape) for layer in found]

    network = training.build_tutorial_network((16, 16))
    assert list_shapes(network) == list_shapes(build_cnn((16, 16), widths=training.WIDTHS))


def test_repeat_pictures_links_files_over_and_over(pictures, tmp_path):
    for name in ("benign", "malignant"):
        (tmp_path / "few" / name).mkdir(parents=True)
        (tmp_path / "few" / name / "a.png").write_text(name)
    folder = pictures.repeat_pictures(tmp_path / "few", tmp_path / "many", 5)
    assert {path.read_text() for path in (folder / "malignant").iterdir()} == {"malignant"}
    assert [len(list((folder / name).iterdir())) for name in ("benign", "malignant")] == [3, 2]


def test_describe_machine_names_the_peers_that_are_not_installed(rounds, monkeypatch):
    monkeypatch.setattr(rounds, "SOFTWARE", ("keras", "no-such-peer"))
    words = rounds.describe_machine()
    assert f"keras {keras.__version__}, no-such-peer not installed" in words


def test_scoring_compares_with_keras_and_the_limit(scoring, tmp_path):
    words = ["--limit", 12, "--pictures", 12, "--rounds", 1, "--image-size", 16, "--many", 0]
    printed, results = run(scoring, tmp_path, *words)
    expected = {"float32_limit", "bfloat16_limit", "one_picture"}
    expected |= {"float32_vs_keras_float32", "bfloat16_vs_keras_float32"}
    assert expected <= set(results)
    assert all(set(result) == {"ours", "peer", "ratio", "precision"} for result in results.values())
    assert all(name in printed for name in results)


def test_pair_seconds_adds_up_reading_and_network(scoring):
    seconds = {
        "reading_bcnet": [2.0],
        "reading_opencv": [1.0],
        "network_float32": [3.0],
        "bcnet_float32": [5.0],
        "network_bfloat16": [1.5],
        "bcnet_bfloat16": [4.0],
        "torch_bfloat16": [8.0],
    }
    assert scoring.pair_seconds(seconds, ["torch_bfloat16"]) == {
        "float32_limit": [(5.0, 4.0)],
        "bfloat16_vs_torch_bfloat16": [(4.0, 8.0)],
        "bfloat16_limit": [(4.0, 2.5)],
    }


def test_score_with_loader_writes_names_and_probabilities_in_order(load, scoring, tmp_path):
    (tmp_path / "benign").mkdir()
    for name in "cab":
        Image.new("L", (4, 4), ord(name)).save(tmp_path / "benign" / f"{name}.png")
    read = load("loaders").THREAD_LOADERS["Pillow in threads"]
    scoring.score_with_loader(
        tmp_path,
        tmp_path / "scores.csv",
        load=lambda paths: read(paths, image_size=(2, 2)),
        score=lambda batch: batch[:, 0, 0, 0],
    )
    table = pd.read_csv(tmp_path / "scores.csv")
    assert [Path(path).stem for path in table["path"]] == ["a", "b", "c"]
    assert table["probability"].tolist() == [ord(name) for name in "abc"]


def test_inference_compares_vgg16_with_the_machine(inference, tmp_path):
    printed, results = run(inference, tmp_path, "--vgg16-side", 32, "--rounds", 1)
    assert {"vgg16_float32_vs_matrix", "vgg16_bfloat16_vs_matrix"} <= set(results)
    assert "GFLOP/s" in printed


def test_count_operations_by_hand(inference):
    network = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(5, 3, padding="same")])
    assert inference.count_operations(network) == 2 * 16 * 27 * 5


def test_precision_compares_itself_with_another_seed(
    precision, model_file, simulated_folder, tmp_path
):
    words = [simulated_folder, model_file, model_file]
    _, results = run(precision, tmp_path, *words)
    assert results["change_largest"]["ours"] > 0
    assert results["change_largest"]["peer"] == 0  # the same file is no other seed


def test_measure_change_by_hand(precision):
    one, other = np.array([0.2, 0.4, 0.9]), np.array([0.2, 0.6, 0.8])
    change = precision.measure_change(one, other, (0.5, 0.5))
    assert change["mean"] == pytest.approx(0.1)
    assert change["largest"] == pytest.approx(0.2)
    assert change["labels"] == pytest.approx(1 / 3)


def test_build_torch_network_gives_the_answers_of_keras(load):
    pytest.importorskip("torch")
    peers = load("peers")
    network = peers.build_network((16, 16))
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    expected = network.predict(images.astype("float32"), verbose=0)[:, 0]
    np.testing.assert_allclose(peers.run_torch(network, "float32")(images), expected, atol=1e-5)


def test_heatmaps_compares_with_other_tools_and_with_predicting(heatmaps, tmp_path, monkeypatch):
    monkeypatch.setattr(heatmaps, "list_networks", lambda side: {"cnn": make_network(side)})
    monkeypatch.setattr(heatmaps, "PEERS", ("tf-keras-vis",))  # others may not be installed
    monkeypatch.setattr(heatmaps, "PEER_BATCHES", (2,))
    printed, results = run(heatmaps, tmp_path, "--image-size", 16, "--pictures", 2, "--rounds", 1)
    assert set(results) == {
        f"cnn_{precision}_vs_{peer}"
        for precision in ("float32", "bfloat16")
        for peer in ("tf-keras-vis", "prediction")
    }
    assert "pictures/s" in printed


def make_network(side):
    return build_cnn((side, side), widths=(2, 3, 4), dense=4)


def test_choose_batch_keeps_the_faster(heatmaps, monkeypatch):
    monkeypatch.setattr(heatmaps, "PEER_BATCHES", (1, 4))
    asked = []
    monkeypatch.setattr(heatmaps, "time_call", lambda call: call() or float(asked[-1] == 1))
    explain_all = heatmaps.choose_batch(lambda images: asked.append(len(images)), np.zeros((4, 2)))
    asked.clear()
    explain_all()
    assert asked == [4]
