"""The workflows together: what one says of a picture, every other says too."""

import json
import logging
import os
import resource
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bcnet import Classifier, workflows
from bcnet.config import SPLITS, Config
from bcnet.data.manifest import patient_keys, read_manifest
from bcnet.readers import read_image
from bcnet.train import SMALL_PACE, USUAL_PACE
from bcnet.workflows import cross_validation, fitting, preparation
from bcnet.workflows.ancestry import SeenInTraining
from bcnet.workflows.cross_validation import align
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.samples import Pictures, choose_image_size, decode_table
from bcnet.workflows.training import make_classifier, require_both_classes, settle_config


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture(scope="module")
def divided(simulated, quick_config):
    """The table of `simulated` with the parts that `model_file` was trained by."""
    return workflows.divide(simulated.table, quick_config)


@pytest.fixture(scope="module")
def settled_config(simulated, quick_config):
    return settle_config(simulated, quick_config)


@pytest.fixture(scope="module")
def pictures(divided):
    return decode_table(divided, (48, 48))


REAL_PICTURES = os.environ.get("BCNET_TEST_DATA")


def change_table(manifest, **columns):
    return replace(manifest, table=manifest.table.assign(**columns))


def copy_pictures(table, folder, *, change=lambda image: image):
    """Re-save pictures under names that tell nothing, below class folders."""
    for i, row in enumerate(table.itertuples()):
        target = folder / ("malignant" if row.label else "benign") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(read_image(row.path))).save(target)


def interrupt(monkeypatch, *, epoch):
    """Let Ctrl-C come as an epoch begins; the first is 0."""
    begin = fitting.TrainingBar.on_epoch_begin

    def on_epoch_begin(bar, now, logs=None):
        if now == epoch:
            raise KeyboardInterrupt
        begin(bar, now, logs)

    monkeypatch.setattr(fitting.TrainingBar, "on_epoch_begin", on_epoch_begin)


@pytest.fixture(scope="module")
def interrupted(simulated, quick_config, tmp_path_factory):
    """A folder in which the training of `run.keras` was cut off, and what was there then."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt(monkeypatch, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            workflows.train(simulated, folder / "run.keras", quick_config)
    return folder, sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def resumed(interrupted, simulated, quick_config):
    """The same folder after the run was resumed and has ended, and the epochs that this took."""
    folder, _ = interrupted
    (folder / ".run-0123abcd.partial.keras").write_text("left by a kill")
    (folder / "..run-0123abcd-0123abcd.partial.state").write_text("left by a kill")
    (folder / ".run-2-0123abcd.state").write_text("of run-2.keras")
    epochs = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        begin = fitting.TrainingBar.on_epoch_begin
        monkeypatch.setattr(
            fitting.TrainingBar,
            "on_epoch_begin",
            lambda bar, epoch, logs=None: epochs.append(epoch) or begin(bar, epoch, logs),
        )
        workflows.train(simulated, folder / "run.keras", quick_config, resume=True)
    return folder, epochs


def test_train_and_evaluate_give_the_same_test_metrics(classifier, simulated):
    result = workflows.evaluate(classifier, simulated)
    card = classifier.card["metrics"]["test"]
    assert result["part"] == "test"
    assert result["confusion_matrix"] == card["confusion_matrix"]
    for unit in ("image", "patient"):
        for name, estimate in card[unit].items():
            assert result[unit][name] == pytest.approx(estimate, abs=1e-6), (unit, name)


def test_predict_gives_the_auc_of_the_card(classifier, divided):
    test = divided[divided["split"] == "test"]
    table = workflows.predict(classifier, list(test["path"]))
    auc = roc_auc_score(test["label"], table["probability"])
    assert auc == pytest.approx(classifier.card["metrics"]["test"]["image"]["auc"]["value"])


def test_train_divides_no_patient(classifier):
    parts = [classifier.card["samples"][part]["patients"] for part in SPLITS]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == 40


def test_train_records_what_is_needed_to_repeat_it(classifier, settled_config):
    recorded = {**classifier.card["training"]["config"]}
    recorded["image_size"] = tuple(recorded["image_size"])  # JSON knows lists only
    assert Config(**recorded) == settled_config


def test_train_takes_the_threshold_from_validation_alone(classifier, pictures, simulated):
    def choose(part):
        flipped = pictures.table["label"].where(
            pictures.table["split"] != part, 1 - pictures.labels
        )
        changed = pictures._replace(table=pictures.table.assign(label=flipped))
        return make_classifier(classifier.model, changed, simulated, Config()).threshold

    assert choose("test") == choose("train") == classifier.threshold
    assert choose("validation") != classifier.threshold


def test_train_interrupted_keeps_its_state_and_no_model(interrupted):
    _, names = interrupted
    assert len(names) == 1
    assert names[0].startswith(".run-")
    assert names[0].endswith(".state")


def test_train_resumed_repeats_no_finished_epoch(resumed):
    assert resumed[1] == [1]


def test_train_resumed_equals_an_uninterrupted_run(resumed, classifier):
    again = Classifier.load(resumed[0] / "run.keras")
    pairs = zip(again.model.get_weights(), classifier.model.get_weights(), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)
    assert again.threshold == classifier.threshold


def test_train_removes_its_own_leftovers_and_no_one_elses(resumed):
    names = {path.name for path in resumed[0].iterdir()}
    assert names == {"run.keras", "run.cases.npz", ".run-2-0123abcd.state"}


@pytest.mark.parametrize(
    ("output", "message"),
    [("model.h5", "must end in .keras"), ("folder.keras", "must be a file")],
)
def test_train_checks_the_output_before_any_work(simulated, tmp_path, output, message):
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ValueError, match=message):
        workflows.train(simulated, tmp_path / output)


def test_train_closes_its_bar_when_it_is_cut_off(pictures, settled_config, monkeypatch):
    closed = []
    interrupt(monkeypatch, epoch=0)
    monkeypatch.setattr(fitting.TrainingBar, "close", lambda bar: closed.append(bar))
    with pytest.raises(KeyboardInterrupt):
        fit_network(pictures, settled_config)
    assert len(closed) == 1


def test_save_on_a_full_disk_keeps_the_old_file(classifier, tmp_path):
    path = tmp_path / "old.keras"
    path.write_text("the only copy")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r".+"):
            classifier.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "the only copy"
    assert list(tmp_path.iterdir()) == [path]


def test_fit_network_gives_back_in_float32_what_was_trained_in_bfloat16(
    pictures, settled_config, monkeypatch
):
    trained = []
    rebuild = fitting.with_precision
    monkeypatch.setattr(
        fitting, "with_precision", lambda model, name: trained.append(model) or rebuild(model, name)
    )
    config = replace(settled_config, epochs=1, precision="bfloat16")
    network, _ = fit_network(pictures, config)
    assert trained[0].get_layer("conv1").compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    for ours, theirs in zip(network.get_weights(), trained[0].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fit_network_without_tensorboard_says_what_to_install(
    pictures, settled_config, monkeypatch, tmp_path
):
    monkeypatch.setattr(fitting, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        fit_network(pictures, settled_config, log_folder=tmp_path)


def test_settle_config_refuses_weights_for_the_cnn(simulated):
    with pytest.raises(ValueError, match="`weights` is for vgg16"):
        settle_config(simulated, Config(weights="imagenet"))


def test_settle_config_follows_the_user_before_the_data(simulated):
    config = settle_config(simulated, Config(modality="radiology", image_size=(32, 40)))
    assert (config.modality, config.image_size) == ("radiology", (32, 40))


def test_settle_config_chooses_the_pace_by_the_number_of_pictures(simulated):
    few = settle_config(simulated, Config())
    many = settle_config(
        replace(simulated, table=pd.concat([simulated.table] * 13, ignore_index=True)), Config()
    )
    assert (few.epochs, few.batch_size, few.patience) == SMALL_PACE
    assert (many.epochs, many.batch_size, many.patience) == USUAL_PACE


def test_divide_keeps_the_split_that_the_data_brings(simulated, tmp_path):
    given = workflows.split(simulated, tmp_path / "split.csv", seed=7)
    kept = workflows.divide(read_manifest(tmp_path / "split.csv").table, Config(seed=0))
    assert kept["split"].value_counts().to_dict() == given["split"].value_counts().to_dict()
    names = [frame["path"].map(lambda path: path.split("/")[-1]) for frame in (given, kept)]
    assert dict(zip(names[0], given["split"], strict=True)) == dict(
        zip(names[1], kept["split"], strict=True)
    )


def test_divide_carves_validation_out_of_training_patients(divided):
    lacking = divided.assign(split=divided["split"].replace("validation", "train"))
    carved = workflows.divide(lacking, Config())
    assert (carved["split"] == "validation").any()
    assert set(carved.loc[carved["split"] == "test", "path"]) == set(
        divided.loc[divided["split"] == "test", "path"]
    )


def test_divide_refuses_a_divided_patient(divided):
    parts = divided["split"].copy()
    parts.iloc[0] = "test" if parts.iloc[0] != "test" else "train"
    with pytest.raises(ValueError, match="No patient may stand in two parts"):
        workflows.divide(divided.assign(split=parts), Config())


def test_divide_refuses_a_split_without_training(divided):
    with pytest.raises(ValueError, match="no training pictures"):
        workflows.divide(divided.assign(split="test"), Config())


def test_divide_refuses_folds_for_a_split(simulated, tmp_path):
    workflows.split(simulated, tmp_path / "folds.csv", folds=4)
    with pytest.raises(ValueError, match="must have a column `split`"):
        workflows.divide(simulated.table, Config(), tmp_path / "folds.csv")


def test_require_both_classes_names_part_and_class(pictures):
    table = pictures.table
    lacking = table[(table["split"] != "validation") | (table["label"] == 0)]
    with pytest.raises(ValueError, match=r"the validation part .* Found: benign only"):
        require_both_classes(pictures._replace(table=lacking))


def test_evaluate_finds_the_test_pictures_among_copies(classifier, divided, tmp_path):
    copy_pictures(divided, tmp_path)
    result = workflows.evaluate(classifier, read_manifest(tmp_path))
    assert (result["part"], result["n_images"]) == ("test", (divided["split"] == "test").sum())
    auc = classifier.card["metrics"]["test"]["image"]["auc"]["value"]
    assert result["image"]["auc"]["value"] == pytest.approx(auc)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_evaluate_refuses_to_call_seen_pictures_a_test(classifier, divided, tmp_path, part):
    copy_pictures(divided[divided["split"] == part], tmp_path / "test")
    with pytest.raises(SeenInTraining, match=f"this is no test.* in {part}"):
        workflows.evaluate(classifier, read_manifest(tmp_path))


def test_evaluate_judges_seen_pictures_as_all(classifier, divided, tmp_path):
    copy_pictures(divided, tmp_path / "test")
    result = workflows.evaluate(classifier, read_manifest(tmp_path), part="all")
    assert (result["part"], result["n_images"]) == ("all", 80)


def test_evaluate_calls_unknown_pictures_external(classifier, divided, tmp_path):
    copy_pictures(divided.iloc[::4], tmp_path, change=lambda image: 255 - image)
    result = workflows.evaluate(classifier, read_manifest(tmp_path))
    assert (result["part"], result["n_images"]) == ("external", 20)
    assert (result["n_patients"], result["patient"]) == (None, None)
    assert result["patient_reason"] == "image-level: patients unknown"


def test_evaluate_takes_the_part_from_a_csv(classifier, simulated, divided, tmp_path):
    split = workflows.split(simulated, tmp_path / "split.csv")
    assert split["split"].tolist() == list(divided["split"])  # the same shares and seed
    result = workflows.evaluate(
        classifier, simulated, split=tmp_path / "split.csv", part="validation"
    )
    assert result["n_images"] == (divided["split"] == "validation").sum()


def test_evaluate_has_no_patient_metrics_where_a_patient_has_both_labels(classifier, simulated):
    labels = simulated.table["label"].copy()
    labels.iloc[0] = 1 - labels.iloc[0]
    result = workflows.evaluate(classifier, change_table(simulated, label=labels), part="all")
    assert (result["n_patients"], result["patient"]) == (40, None)
    assert result["patient_reason"] == "1 of 40 patients have pictures of both classes"


def test_evaluate_without_patients_counts_none(classifier, simulated):
    result = workflows.evaluate(classifier, change_table(simulated, patient_id=None), part="all")
    assert (result["n_patients"], result["n_images"]) == (None, 80)


def test_evaluate_counts_and_names_unreadable_pictures(classifier, divided, tmp_path, caplog):
    copy_pictures(divided.iloc[::8], tmp_path)
    (tmp_path / "benign" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with caplog.at_level(logging.INFO, "bcnet"):
        result = workflows.evaluate(classifier, read_manifest(tmp_path), part="all")
    assert (result["n_images"], result["unreadable"]) == (10, 1)
    assert "bad.png" in caplog.text
    assert "1 of 11 pictures could not be read" in caplog.text


def test_evaluate_writes_only_the_figures_that_one_class_allows(classifier, simulated, tmp_path):
    benign = replace(simulated, table=simulated.table[simulated.table["label"] == 0])
    workflows.evaluate(classifier, benign, part="all", plots_folder=tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {
        "confusion_matrix",
        "scores",
        "cases",
        "training",
    }


def test_evaluate_writes_its_figures(classifier, simulated, tmp_path):
    workflows.evaluate(classifier, simulated, plots_folder=tmp_path)
    curves = {"roc", "precision_recall", "reliability", "decision_curve"}
    expected = {"confusion_matrix", "scores", "cases", "training"} | curves
    assert {path.stem for path in tmp_path.iterdir()} == expected


def test_evaluate_records_the_precision_that_was_used(classifier, simulated, monkeypatch):
    monkeypatch.setattr("bcnet.classifier.choose_precision", lambda name: "mixed_bfloat16")
    result = workflows.evaluate(classifier, simulated, precision="auto")
    assert result["precision"] == "bfloat16"


@pytest.mark.skipif(not REAL_PICTURES, reason="BCNET_TEST_DATA names no folder of real pictures")
@pytest.mark.parametrize(
    ("name", "has_patients"),
    [
        ("idc", True),
        ("breakhis", True),
        ("bus_uclm", True),
        ("pcam", False),
        ("breastmnist/breastmnist.npz", False),
    ],
)
def test_evaluate_takes_real_pictures_as_they_come(classifier, name, has_patients):
    manifest = read_manifest(os.path.join(REAL_PICTURES, name))
    some = manifest.table.groupby("label").head(6).reset_index(drop=True)
    result = workflows.evaluate(classifier, replace(manifest, table=some), part="all")
    assert (result["n_images"], result["unreadable"]) == (12, 0)
    assert (result["n_patients"] is not None) == has_patients


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "tests"}, "`part` must be one of"),
        ({"threshold": 1.4}, r"Received: threshold=1\.4"),
    ],
)
def test_evaluate_names_a_wrong_argument(classifier, simulated, settings, message):
    with pytest.raises(ValueError, match=message):
        workflows.evaluate(classifier, simulated, **settings)


def test_evaluate_says_which_parts_there_are(classifier, divided, simulated):
    train = replace(simulated, table=divided[divided["split"] == "train"])
    with pytest.raises(ValueError, match="no pictures in the part 'test'; it has: train"):
        workflows.evaluate(classifier, train)


def test_cross_validate_judges_every_patient_once_by_a_network_that_has_not_seen_him(
    simulated, classifier, monkeypatch
):
    judged = []

    def fit(pictures, config, **_):
        keys = patient_keys(pictures.table)
        held_out = pictures.table["split"] == "test"
        assert not set(keys[held_out]) & set(keys[~held_out])
        judged.extend(keys[held_out].unique())
        return classifier.model, None

    monkeypatch.setattr(cross_validation, "fit_network", fit)
    result = workflows.cross_validate(simulated, folds=4)
    assert sorted(judged) == sorted(patient_keys(simulated.table).unique())
    assert sum(fold["n_images"] for fold in result["folds"]) == result["n_images"] == 80
    told = cross_validation.format_cross_validation(result).splitlines()[-1]
    within = result["auc_within_folds"]
    assert all(f"{within[unit]['value']:.3f} [" in told for unit in ("image", "patient"))
    json.dumps(result, allow_nan=False)


def test_cross_validate_compares_only_what_one_network_has_judged(simulated, monkeypatch):
    scales = iter([0.1, 0.5])

    def judge(pictures, config, **_):
        rows = pictures.table[pictures.table["split"] == "test"]
        return rows.assign(probability=next(scales) + 0.3 * rows["label"], threshold=0.7)

    monkeypatch.setattr(cross_validation, "judge_held_out", judge)
    result = workflows.cross_validate(simulated, folds=2)
    assert result["patient"]["auc"]["value"] < 0.9  # thresholds that tell nothing of the scales
    assert [result["auc_within_folds"][unit]["value"] for unit in ("image", "patient")] == [1, 1]


def test_cross_validate_leaves_the_test_patients_alone(simulated, divided, classifier, monkeypatch):
    monkeypatch.setattr(cross_validation, "fit_network", lambda *_, **__: (classifier.model, None))
    result = workflows.cross_validate(replace(simulated, table=divided), folds=2)
    assert result["n_images"] == (divided["split"] != "test").sum()


def test_judge_folds_keeps_the_order_of_the_data(simulated, classifier):
    def fit(*_, **__):
        return classifier.model, None

    judged = workflows.judge_folds(simulated, folds=4, fit=fit)
    assert judged["path"].tolist() == simulated.table["path"].tolist()
    assert judged["fold"].nunique() == 4


def test_align_moves_the_threshold_to_one_half():
    # odds 1/4, 1 and 4 over odds 1/4 at the threshold: 1, 4 and 16
    moved = align(np.array([0.2, 0.5, 0.8]), 0.2)
    np.testing.assert_allclose(moved, [0.5, 0.8, 16 / 17])


def test_align_stays_finite_at_the_ends():
    moved = align(np.array([0.0, 1.0]), 0.3)
    assert 0 < moved[0] < 0.5 < moved[1] < 1


def test_decode_table_leaves_out_what_cannot_be_read_and_keeps_the_rows_right(divided, tmp_path):
    table = divided.iloc[:4].reset_index(drop=True)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    table.loc[1, "path"] = str(bad)
    decoded = decode_table(table, (48, 48))
    assert decoded.table["path"].tolist() == table["path"].drop(1).tolist()
    np.testing.assert_array_equal(decoded.images[1], read_image(table["path"][2]))


def test_decode_table_of_nothing_readable_gives_the_reason(divided, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    table = divided.iloc[:1].assign(path=str(bad))
    with pytest.raises(ValueError, match=r"none of the 1 pictures can be read; .*empty"):
        decode_table(table, (48, 48))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(40, 60), (40, 60)], (40, 60)),
        ([(40, 60), (60, 40)], (128, 128)),
        ([(40, 300), (40, 300)], (128, 128)),
        ([(3, 3), (3, 3)], (128, 128)),
    ],
)
def test_choose_image_size_takes_the_pictures_own_where_it_can(tmp_path, sizes, expected):
    for i, size in enumerate(sizes):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{i}.png")
    paths = [str(tmp_path / f"{i}.png") for i in range(len(sizes))]
    table = pd.DataFrame({"path": paths, "source": str(tmp_path)})
    assert choose_image_size(table, 128, smallest=8) == expected


def test_pictures_without_a_known_patient_have_no_keys():
    table = pd.DataFrame({"path": ["a", "b"], "patient_id": ["1", None], "dataset": "d"})
    pictures = Pictures(np.zeros((2, 8, 8, 3), np.uint8), table)
    assert pictures.patients(np.array([0])).tolist() == ["d/1"]
    assert pictures.patients(np.array([0, 1])) is None


def test_predict_writes_the_table_it_returns(classifier, simulated_folder, tmp_path):
    table = workflows.predict(
        classifier, simulated_folder / "malignant", output=tmp_path / "new" / "p.csv"
    )
    written = pd.read_csv(tmp_path / "new" / "p.csv")
    assert list(written.columns) == ["path", "probability", "label", "status"]
    np.testing.assert_allclose(written["probability"], table["probability"], rtol=1e-6)


def test_audit_writes_the_report_it_returns(simulated, tmp_path):
    report = workflows.audit(simulated, json_path=tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text()) == report
    assert (report["verdict"], report["n_images"]) == ("pass", 80)


def test_find_data_prefers_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "simulate", lambda folder: folder)
    assert workflows.find_data("mine", folder=tmp_path).name == "mine"
    assert workflows.find_data(folder=tmp_path) == tmp_path / "simulated"
    (tmp_path / "simulated" / "benign").mkdir(parents=True)
    assert workflows.find_data(folder=tmp_path) == tmp_path / "simulated"
    (tmp_path / "train" / "Malignant").mkdir(parents=True)
    assert workflows.find_data(folder=tmp_path) == tmp_path
