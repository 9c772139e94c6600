"""The command line: each command once, each fault in one line with the right exit status."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import pandas as pd
import pytest

from bcnet.cardfile import read_card
from bcnet.cli import main
from bcnet.config import Config
from bcnet.data.split import write_split
from bcnet.evaluate.metrics import METRICS
from bcnet.modelfile import read_model, write_model
from bcnet.models import build_mobilenet
from bcnet.workflows.ancestry import SeenInTraining
from bcnet.workflows.explaining import count_verdicts

ARGUMENTS_OF_A_SHORT_RUN = ["--epochs", "1", "--batch-size", "16", "--precision", "float32"]


@pytest.fixture
def run(capsys):
    """Run one command; give its exit status, what it printed, and its last line on stderr."""

    def run_command(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # how argparse ends
            status = end.code
        out, err = capsys.readouterr()
        lines = err.replace("\r", "\n").splitlines()
        return status, out, lines[-1] if lines else ""

    return run_command


@pytest.fixture(scope="module")
def faults(model_file, simulated_folder, tmp_path_factory):
    """A folder of everything that may be wrong with what a user names."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "empty").mkdir()
    shutil.copytree(simulated_folder / "benign", folder / "one_class" / "benign")
    (folder / "all_bad" / "benign").mkdir(parents=True)
    (folder / "all_bad" / "benign" / "a.png").write_text("no picture")
    content = model_file.read_bytes()
    (folder / "cut.keras").write_bytes(content[: len(content) // 2])
    (folder / "text.keras").write_text("no model")
    (folder / "pickle.h5").write_bytes(content)
    with zipfile.ZipFile(folder / "foreign.keras", "w") as archive:
        archive.writestr("malware.py", "")
    card = read_card(model_file)
    numbers = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    write_model(folder / "numbers.keras", numbers, card)
    del card["threshold"]
    write_model(folder / "no_threshold.keras", read_model(model_file), card)
    build_mobilenet((32, 32), weights=None, alpha=0.25).save_weights(folder / "mobile.weights.h5")
    (folder / "divided.csv").write_text(divide_a_patient(simulated_folder))
    return folder


def divide_a_patient(simulated_folder):
    first, second = sorted((simulated_folder / "benign").iterdir())[:2]
    return f"path,label,split\n{first},0,train\n{second},0,test\n"


def test_simulate_then_audit(run, tmp_path):
    size = ("--patients", "4", "--images-per-patient", "1", "--image-size", "32")
    status, out, _ = run("simulate", "--output", tmp_path / "set", *size)
    assert (status, out.strip()) == (0, f"simulated pictures are in {tmp_path / 'set'}")
    status, out, _ = run("audit", tmp_path / "set", "--json", tmp_path / "audit.json")
    assert (status, out.splitlines()[0]) == (0, "PASS: no error found")
    report = json.loads((tmp_path / "audit.json").read_text())
    assert (report["verdict"], report["n_images"]) == ("pass", 4)


def test_fetch_without_a_name_lists_what_there_is(run):
    status, out, _ = run("fetch")
    assert status == 0
    assert re.search(r"^pcam +327,680 pictures +8\.0 GB +CC0 1\.0$", out, re.MULTILINE)
    assert "doi:10.1109/TBME.2015.2496264" in out


def test_fetch_says_where_the_pictures_are(run, monkeypatch, tmp_path):
    monkeypatch.setattr("bcnet.workflows.fetching.fetch", lambda name, output, **_: output)
    status, out, _ = run("fetch", "pcam", "--output", tmp_path)
    assert (status, out) == (0, f"the pictures are in {tmp_path}\n")


def test_audit_of_one_picture_in_both_classes_exits_with_1(run, simulated_folder, tmp_path):
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    for name in ("benign", "malignant"):
        (tmp_path / name).mkdir()
        shutil.copy(picture, tmp_path / name)
    status, out, _ = run("audit", tmp_path)
    assert status == 1
    assert out.startswith("FAIL")


def test_split_counts_what_it_wrote(run, simulated_folder, tmp_path):
    status, out, _ = run("split", simulated_folder, "--output", tmp_path / "split.csv")
    counts = pd.read_csv(tmp_path / "split.csv")["split"].value_counts()
    assert status == 0
    assert f"test: {counts['test']}, train: {counts['train']}, validation: " in out


def test_split_in_folds(run, simulated_folder, tmp_path):
    arguments = ("--folds", "4", "--output", tmp_path / "folds.csv")
    assert run("split", simulated_folder, *arguments)[0] == 0
    assert set(pd.read_csv(tmp_path / "folds.csv")["fold"]) == {0, 1, 2, 3}


def test_train_writes_a_model_and_prints_its_test(run, simulated_folder, tmp_path):
    output = tmp_path / "new" / "model.keras"
    status, out, _ = run("train", simulated_folder, "--output", output, *ARGUMENTS_OF_A_SHORT_RUN)
    assert status == 0
    assert out.startswith("test (simulated)\n")
    assert re.search(r"model\.keras: \d+ s in float32$", out.strip())
    names = sorted(path.name for path in output.parent.iterdir())
    assert names == ["model.cases.npz", "model.keras"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", {"model": "cnn", "weights": None, "members": 1, "tta": False, "progressive": False}),
        ("--tta --members 3 --progressive", {"tta": True, "members": 3, "progressive": True}),
        ("--model resnet50", {"weights": "imagenet"}),
        ("--model resnet50 --weights none", {"weights": None}),
        ("--model resnet50 --initial-weights a.keras", {"weights": None}),
        ("--model vgg16 --initial-weights a.keras --weights b.h5", {"weights": "b.h5"}),
        ("--schedule constant --ema 0.9 --alpha 0.5", {"schedule": "constant", "ema": 0.9}),
    ],
)
def test_train_takes_its_configuration_from_what_was_typed(
    run, simulated_folder, monkeypatch, typed, expected
):
    taken = []

    def train(manifest, output, config, **_):
        taken.append(config)
        raise ValueError("enough")

    monkeypatch.setattr("bcnet.workflows.training.train", train)
    run("train", simulated_folder, "--output", "a.keras", *typed.split())
    assert {name: getattr(taken[0], name) for name in expected} == expected


def test_cross_validate_prints_and_writes_its_result(run, simulated_folder, tmp_path):
    arguments = ("--folds", "2", "--json", tmp_path / "folds.json", *ARGUMENTS_OF_A_SHORT_RUN)
    status, out, _ = run("cross-validate", simulated_folder, *arguments)
    result = json.loads((tmp_path / "folds.json").read_text())
    assert status == 0
    assert out.startswith("2 folds by patient (simulated)\n")
    assert (result["n_images"], len(result["folds"])) == (80, 2)


def test_evaluate_writes_the_promised_json(run, model_file, simulated_folder, tmp_path):
    status, out, _ = run("evaluate", model_file, simulated_folder, "--json", tmp_path / "e.json")
    result = json.loads((tmp_path / "e.json").read_text())
    assert status == 0
    assert out.startswith("test (simulated)\n")
    assert (result["n_images"], result["n_patients"], result["part"]) == (16, 8, "test")
    assert result["threshold_rule"] == "maximum balanced accuracy on validation patients"
    assert (result["precision"], result["patient_reason"]) == ("float32", None)
    assert 0.5 <= result["majority_accuracy"] <= 1
    for unit in ("image", "patient"):
        assert set(result[unit]) == set(METRICS)
        assert set(result[unit]["auc"]) == {"value", "low", "high"}


def test_evaluate_with_another_threshold_says_whose_it_is(
    run, model_file, simulated_folder, tmp_path
):
    arguments = ("--threshold", "0.5", "--part", "all", "--json", tmp_path / "e.json")
    assert run("evaluate", model_file, simulated_folder, *arguments)[0] == 0
    result = json.loads((tmp_path / "e.json").read_text())
    assert (result["threshold"], result["threshold_rule"]) == (0.5, "given by the user")
    assert (result["part"], result["n_images"]) == ("all", 80)


def test_evaluate_of_seen_pictures_exits_with_1(run, model_file, simulated, tmp_path):
    write_split(simulated.table.assign(split="test"), tmp_path / "split.csv")
    status, out, line = run("evaluate", model_file, tmp_path / "split.csv")
    assert (status, out) == (1, "")
    assert line.startswith("bcnet: this is no test: of 80 pictures the model has seen 64")


def test_predict_prints_csv(run, model_file, simulated_folder):
    status, out, _ = run("predict", model_file, simulated_folder / "benign")
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == "path,probability,label,status"
    assert re.fullmatch(r"sim-\d{3}-lab\d-1\.png,0\.\d+,(benign|malignant),ok", lines[1])


def test_predict_counts_what_it_cannot_read(run, model_file, simulated_folder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    shutil.copy(sorted((simulated_folder / "benign").iterdir())[0], tmp_path / "b.png")
    arguments = ("--output", tmp_path / "p.csv")
    status, out, line = run("predict", model_file, tmp_path, *arguments)
    rows = pd.read_csv(tmp_path / "p.csv")
    assert (status, out) == (0, f"{tmp_path / 'p.csv'}: 2 pictures\n")
    assert line == "1 of 2 pictures could not be read"
    assert rows["status"].tolist() == ["unreadable: the file is empty", "ok"]
    assert rows["probability"].isna().tolist() == [True, False]


def test_predict_names_a_precision_that_is_not_float32(run, model_file, simulated_folder):
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    _, out, _ = run("predict", model_file, picture, "--precision", "bfloat16")
    assert out.splitlines()[0] == "path,probability,label,status,precision"
    assert out.splitlines()[1].endswith(",ok,bfloat16")


def test_explain_writes_what_was_asked_for_and_counts_verdicts(
    run, model_file, simulated_folder, tmp_path
):
    pictures = sorted((simulated_folder / "malignant").iterdir())[:2]
    beside = ("--sheet", "--raw", "tiff", "--masks", simulated_folder / "masks")
    how = ("--method", "layer_cam", "--class", "benign", "--opacity", "0.5")
    status, out, _ = run("explain", model_file, *pictures, "--output", tmp_path, *beside, *how)
    table = pd.read_csv(tmp_path / "explanations.csv")
    assert status == 0
    assert out == f"{tmp_path}: 2 overlays ({count_verdicts(table)})\n"
    assert (table["method"] + table["class"]).tolist() == ["layer_cambenign"] * 2
    written = sorted(path.suffix for path in tmp_path.iterdir())
    assert written == [".csv", ".png", ".png", ".png", ".tiff", ".tiff"]


def test_explain_of_nothing_readable_says_so(run, model_file, faults, tmp_path):
    status, out, line = run("explain", model_file, faults / "all_bad", "--output", tmp_path)
    assert (status, out) == (0, f"{tmp_path}: 0 overlays (no verdict)\n")
    assert line == "1 of 1 pictures could not be read"


def test_notebook_passes_on_what_was_given(run, monkeypatch, tmp_path):
    asked = []

    def run_notebook(output, parameters, *, progress):
        asked.append((output, parameters))
        return f"{output}/report.html"

    monkeypatch.setattr("bcnet.workflows.notebook.run_notebook", run_notebook)
    status, out, _ = run("notebook", "--output", tmp_path, "--epochs", "3", "--seed", "0")
    assert (status, out) == (0, f"the report is {tmp_path}/report.html\n")
    assert asked == [(str(tmp_path), {"EPOCHS": 3, "SEED": 0})]


TRAIN = "train {data} --output {new}/x.keras"
PREDICT = "predict {model} {picture}"
NARROW = f"{TRAIN} --model mobilenet --alpha 0.25"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "required: COMMAND"),
        ("train {data}", "required: --output"),
        ("fetch pcan --output {new}", "`name` must be one of breastmnist,"),
        ("fetch pcam", "--output is required, such as --output dataset/pcam"),
        ("fetch pcam --output {data}", "is in the way: name a folder that is empty"),
        ("audit {faults}/empty", "No picture in a class folder below"),
        ("audit {faults}/nowhere", "No folder, .csv or .npz at"),
        ("audit {data} {data}", "must hold each picture once"),
        ("audit {data} --patient-pattern (", "must be a regular expression"),
        ("split {faults}/one_class --output {new}/s.csv", "0 malignant patients cannot fill"),
        ("split {data} --output {faults}/empty", "--output: must be a file. Received the folder"),
        ("split {data} --output {new}/s.csv --folds 41", "at most the number of patients, 40"),
        ("cross-validate {data} --folds 41", "at most the number of patients, 40"),
        ("cross-validate {data} --json {faults}", "--json: must be a file"),
        ("simulate --output {new}/s --patients 570", "`patients` must be at most 569"),
        ("train {faults}/one_class --output {new}/x.keras", "0 malignant patients cannot fill"),
        ("train {faults}/divided.csv --output {new}/x.keras", "No patient may stand in two parts"),
        ("train {data} --output {new}/x.h5", "`output` must end in .keras"),
        (f"{TRAIN} --split {{faults}}/none.csv", "No such file or directory: "),
        (f"{TRAIN} --split {{faults}}/divided.csv", "No patient may stand in two parts"),
        (f"{TRAIN} --weights imagenet", "`weights` is for vgg16"),
        (f"{TRAIN} --model vgg16 --weights {{faults}}/none.h5", "No weights file of VGG16 at"),
        (f"{TRAIN} --model vgg16 --weights {{model}}", "must be a file of VGG16 without top"),
        (f"{TRAIN} --model vgg19", "--model: invalid choice: 'vgg19'"),
        (f"{TRAIN} --epochs 0", "`epochs` must be at least 1. Received: epochs=0"),
        (f"{TRAIN} --image-size 4", "`image_size` must be from 8 to 1024"),
        (f"{TRAIN} --image-size big", "must be N or HEIGHTxWIDTH. Received: big"),
        (f"{TRAIN} --validation 0.9", "`validation + test` must be below 1"),
        (f"{TRAIN} --learning-rate nan", "`learning_rate` must be above 0"),
        (f"{TRAIN} --members 0", "`members` must be at least 1. Received: members=0"),
        (f"{TRAIN} --ema 1", "`ema` must be 0 or more and below 1"),
        (f"{TRAIN} --label-smoothing 1", "`label_smoothing` must be 0 or more and below 1"),
        (f"{TRAIN} --schedule linear", "--schedule: invalid choice: 'linear'"),
        (f"{TRAIN} --alpha 0.5", "`alpha` is for mobilenet. Received: alpha=0.5"),
        (f"{TRAIN} --model mobilenet --alpha 0.3", "`alpha` must be one of (1.0, 0.75, 0.5, 0.25)"),
        (f"{TRAIN} --fine-tune-from conv3", "`fine_tune_from` is for backbones with pretrained"),
        (f"{TRAIN} --fine-tune-rate 0.1", "`fine_tune_rate` is for backbones with pretrained"),
        (f"{TRAIN} --progressive --image-size 8", "at least 16 pixels a side for cnn trained at"),
        (f"{TRAIN} --end conv1", "`end` is for vgg16"),
        (f"{NARROW} --weights none --end x", "`end` must be a layer of mobilenet"),
        (f"{TRAIN} --progressive --epochs 1", "`epochs` must be at least 2 with `progressive`"),
        (f"{TRAIN} --model vgg16 --image-size 16", "at least 32 pixels a side for vgg16."),
        (f"{NARROW} --progressive --image-size 48", "at least 64 pixels a side for mobilenet tr"),
        (
            f"{NARROW} --weights {{faults}}/mobile.weights.h5 --fine-tune-from x",
            "one of conv1, conv",
        ),
        (f"{NARROW} --initial-weights {{model}}", "no layer of cnn fits mobilenet: "),
        (f"{TRAIN} --initial-weights {{faults}}/none.keras", "no model file at"),
        (f"{TRAIN} --initial-weights {{faults}}/cut.keras", "not a Keras model file, or a truncat"),
        (f"{TRAIN} --initial-weights {{faults}}/numbers.keras", "no layer of "),
        ("evaluate {model} {faults}/all_bad", "none of the 1 pictures can be read"),
        ("evaluate {model} {data} --threshold 1.4", "between 0 and 1. Received: threshold=1.4"),
        ("evaluate {model} {data} --part tests", "--part: invalid choice: 'tests'"),
        ("evaluate {model} {data} --split {faults}/divided.csv", "No patient may stand in two"),
        ("predict {model} {faults}/nowhere.png", "no picture or folder at"),
        ("predict {model} {faults}/empty", "no pictures below"),
        (f"{PREDICT} --threshold 1.4", "between 0 and 1. Received: threshold=1.4"),
        (f"{PREDICT} --precision float8", "--precision: invalid choice: 'float8'"),
        ("predict {faults}/none.keras {picture}", "no model file at"),
        ("predict {faults}/cut.keras {picture}", "not a Keras model file, or a truncated one"),
        ("predict {faults}/text.keras {picture}", "not a Keras model file, or a truncated one"),
        ("predict {faults}/pickle.h5 {picture}", "only .keras files are loaded"),
        ("predict {faults}/foreign.keras {picture}", "which no Keras model file does"),
        ("predict {faults}/no_threshold.keras {picture}", "its card has no threshold"),
        ("predict {faults}/numbers.keras {picture}", "must turn RGB pictures into one probability"),
        ("explain {model} {faults}/nowhere --output {new}", "no picture or folder at"),
        ("explain {model} {data} --output {data}/maps", "must lie outside the pictures' folder"),
        ("explain {model} {picture} --output {picture}", "File exists: "),
        (
            "explain {model} {picture} --output {new} --method cam",
            "--method: invalid choice: 'cam'",
        ),
        ("explain {model} {picture} --output {new} --opacity 2", "between 0 and 1. Received: 2.0"),
        ("explain {model} {picture} --output {new} --masks {new}", "no folder of masks at"),
        ("explain {model} {picture} --output {new} --masks {faults}/all_bad", "none of them a m"),
        ("notebook --data {faults}/nowhere --epochs x", "--epochs: invalid int value: 'x'"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    run, line, message, faults, model_file, simulated_folder, tmp_path
):
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    new = tmp_path / "new"
    places = {"data": simulated_folder, "model": model_file, "picture": picture, "new": new}
    arguments = [part.format(faults=faults, **places) for part in line.split()]
    status, out, told = run(*arguments)
    assert status == 2
    assert out == ""
    assert told.startswith("bcnet")
    assert message in told
    assert not new.exists(), "something was written"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.csv"), 2, "No space left on device: a.csv"),
        (OSError(21, "Is a directory", ".a.partial", None, "a"), 2, "bcnet: Is a directory: a"),
        (MemoryError(), 2, "not enough memory"),
        (FloatingPointError("the loss\nis no longer finite"), 2, "the loss is no longer finite"),
        (SeenInTraining("this is no test"), 1, "bcnet: this is no test"),
    ],
)
def test_failures_have_their_exit_status(
    run, simulated_folder, monkeypatch, error, status, message
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("bcnet.workflows.preparation.audit", fail)
    found, _, line = run("audit", simulated_folder)
    assert found == status
    assert message in line


def test_a_fault_of_ours_keeps_its_traceback(run, simulated_folder, monkeypatch):
    def fail(*_, **__):
        raise KeyError("ours")

    monkeypatch.setattr("bcnet.workflows.preparation.audit", fail)
    with pytest.raises(KeyError):
        run("audit", simulated_folder)


COMMANDS = [
    *("simulate", "fetch", "audit", "split", "train", "cross-validate"),
    *("tune", "evaluate", "predict", "explain", "notebook"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"Example: bcnet {command} " in " ".join(out.split())


def test_help_lists_every_command_and_what_this_is_not(run):
    _, out, _ = run("--help")
    assert all(re.search(rf"^    {command}\b", out, re.MULTILINE) for command in COMMANDS)
    assert "Not a diagnostic device" in " ".join(out.split())


def test_defaults_are_those_of_the_config(run):
    _, out, _ = run("train", "--help")
    assert f"of tissue ({Config.stain_jitter})" in " ".join(out.split())


def start(*arguments):
    """Start a command of its own, its output buffered as in a pipe."""
    command = [sys.executable, "-m", "bcnet", *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_audit_does_not_load_tensorflow(simulated_folder):
    script = (
        "import sys; from bcnet.cli import main; main(['audit', sys.argv[1]]); "
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    command = [sys.executable, "-c", script, simulated_folder]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "False False"


def test_a_reader_that_has_had_enough_is_no_fault(simulated_folder):
    process = start("audit", simulated_folder)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0
    assert "Error" not in errors
    process.stderr.close()


def test_predict_keeps_tensorflows_chatter_from_the_user(model_file, simulated_folder):
    picture = sorted((simulated_folder / "benign").iterdir())[0]
    out, errors = start("predict", model_file, picture).communicate()
    bar = r"scoring +\d+% \|.*\| \d/1 \[.*\]"
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line]
    assert len(out.splitlines()) == 2
    assert [line for line in lines if not re.fullmatch(bar, line)] == []
