"""The benchmark of explanations judges the right pictures and adds up rightly; not its figures."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from bcnet.config import HEATMAP_METHODS
from bcnet.data.manifest import patient_keys


@pytest.fixture(scope="module")
def mapping(load):
    return load("mapping")


@pytest.fixture(scope="module")
def explanations(load):
    return load("explanations")


@pytest.fixture(scope="module")
def settings(simulated_folder, model_file, tmp_path_factory):
    """Those of a run on the small simulated set, with a network that is there."""
    models = tmp_path_factory.mktemp("kept") / "simulated-cnn"
    shutil.copyfile(model_file, f"{models}-0.keras")
    return {
        "data": str(simulated_folder),
        "masks": None,
        "folds": 1,
        "patients": None,
        "config": {},
        "models": str(models),
        "methods": HEATMAP_METHODS[:1],
        "pictures": 3,
    }


# --- mapping ----------------------------------------------------------------------------------


def test_choose_malignant_spreads_the_number_over_the_parts(mapping):
    labels = [np.array([0, 1, 1, 1]), np.array([1, 0, 1, 1])]
    chosen = mapping.choose_malignant(labels, 4)
    assert sum(len(rows) for rows in chosen) == 4
    assert all((part[rows] == 1).all() for part, rows in zip(labels, chosen, strict=True))
    assert all(len(set(rows)) == len(rows) for rows in chosen)


def test_hold_out_parts_the_patients_between_the_folds(mapping, simulated):
    tables = [mapping.hold_out(simulated, fold, 2).table for fold in (0, 1)]
    tested = [set(patient_keys(table[table["split"] == "test"])) for table in tables]
    assert tested[0].isdisjoint(tested[1])
    assert tested[0] | tested[1] == set(patient_keys(simulated.table))


def test_list_judged_takes_only_the_test_patients_of_a_network(mapping, settings, tmp_path):
    (judged,) = mapping.list_judged(settings, tmp_path)
    told = judged.classifier.card["samples"]["test"]
    assert len(judged.images) == told["n_images"]
    assert len(set(judged.patients)) == told["n_patients"]
    assert judged.labels.sum() == told["n_malignant"]


def test_list_judged_gives_each_picture_its_own_mask(mapping, settings, tmp_path):
    (judged,) = mapping.list_judged(settings, tmp_path)
    darkness = 255.0 - judged.images.mean(axis=-1)
    for picture, mask in zip(darkness, judged.masks, strict=True):
        assert picture[mask].mean() > picture[~mask].mean() + 30  # nuclei are dark


def test_open_judged_refuses_pictures_of_others(mapping, settings, simulated_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(simulated_folder / "benign", other / "benign")
    shutil.copytree(simulated_folder / "malignant", other / "malignant")
    for path in other.glob("*/*.png"):
        image = np.asarray(Image.open(path))
        Image.fromarray(255 - image).save(path.with_stem(f"other{path.stem}"))
        path.unlink()
    with pytest.raises(ValueError, match="has no test patients among the pictures"):
        list(mapping.list_judged({**settings, "data": str(other)}, tmp_path))


def test_read_mask_stretches_as_the_pipeline_does(mapping, tmp_path):
    mask = np.zeros((20, 40), "uint8")
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = mapping.read_mask(tmp_path / "mask.png", (8, 8))
    assert found[:, :4].all()
    assert not found[:, 4:].any()


def test_summarise_pools_the_networks(mapping):
    parts = [
        {"mass": np.array([1.0, 0.5]), "words": ["ok", "blank"], "seconds": 0.1},
        {"mass": np.array([0.0]), "words": ["ok"], "seconds": 0.3},
    ]
    row = mapping.summarise(parts, [np.array(["anna", "anna"]), np.array(["bea"])])
    assert row["mass"] == {"value": 0.5, "low": 0.0, "high": 0.75}
    assert row["verdicts"]["ok"] == pytest.approx(2 / 3)
    assert row["seconds"] == pytest.approx(0.2)


def test_measure_methods_measures_methods_and_baselines(mapping, settings, tmp_path):
    result = json.loads(json.dumps(mapping.measure_methods(settings, tmp_path)))
    assert list(result["rows"]) == [HEATMAP_METHODS[0], "random", "centre_blob"]
    assert result["n_images"] == 3
    row = result["rows"][HEATMAP_METHODS[0]]
    assert sum(row["verdicts"].values()) == pytest.approx(1)
    assert row["seconds"] > 0
    assert "stability" not in result["rows"]["random"]
    # chance: what the masks cover, hence what random maps get
    assert abs(result["rows"]["random"]["mass"]["value"] - result["chance"]["value"]) < 0.1


def test_describe_sound_maps_gives_every_question_its_quantiles(mapping, settings, tmp_path):
    result = mapping.describe_sound_maps(settings, tmp_path)
    assert list(result) == [
        "blank",
        "contrast",
        "border",
        "off-tissue",
        "stability",
        "similarity, head",
        "similarity, block",
    ]
    assert all(sorted(values) == values for name, values in result.items() if name != "blank")


# --- explanations -----------------------------------------------------------------------------


def test_list_runs_leaves_out_data_that_are_not_there(explanations, tmp_path, capsys):
    arguments = explanations.parse_arguments(["--root", str(tmp_path)])
    assert list(explanations.list_runs(arguments)) == ["simulated, cnn", "simulated, mobilenet"]
    assert "not found" in capsys.readouterr().err


def test_list_runs_finds_masks_beside_the_data(explanations, tmp_path):
    (tmp_path / "bus_uclm").mkdir()
    arguments = explanations.parse_arguments(["--root", str(tmp_path)])
    run = explanations.list_runs(arguments)["bus_uclm, cnn"]
    assert run["masks"] == str(tmp_path / "bus_uclm_masks")
    assert run["folds"] == 2


def make_result(low):
    estimate = {"value": 0.25, "low": 0.2, "high": 0.3}
    row = dict.fromkeys(("deletion", "insertion", "drop", "increase"), estimate)
    row |= dict.fromkeys(("pointing", "mass", "overlap"), estimate)
    full = {
        **row,
        "stability": estimate,
        "cascade": estimate,
        "verdicts": {"ok": 0.75, "blank": 0.0, "border": 0.25},
        "seconds": 0.002,
        "verdict_seconds": 0.010,
    }
    return {
        "rows": {"grad_cam": full, "random": row},
        "chance": estimate,
        "n_images": 4,
        "n_patients": 2,
        "auc": [{"value": 0.8, "low": low, "high": 0.9}],
    }


def test_format_table_has_a_full_row_for_methods_and_gaps_for_baselines(explanations):
    lines = [
        line.strip("| ").split(" | ")
        for line in explanations.format_table("run", make_result(0.7)).splitlines()
        if line.startswith("| ")
    ]
    header, _, method, _ = lines
    assert len(method) == len(header)
    assert method[-3:] == ["ok 75%, border 25%", "2.0", "12.0"]


@pytest.mark.parametrize(("low", "is_warned"), [(0.7, False), (0.45, True)])
def test_format_table_says_when_the_network_may_know_nothing(explanations, low, is_warned):
    text = explanations.format_table("run", make_result(low))
    assert ("cannot be right" in text) == is_warned


def test_main_goes_on_after_a_run_that_failed(explanations, load, monkeypatch, tmp_path, capsys):
    ledger = load("ledger")
    answers = iter([ledger.RunFailed("out of memory"), make_result(0.7)])

    def answer(*_):
        result = next(answers)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(ledger, "run_apart", answer)
    assert explanations.main(["--root", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "**simulated, cnn** skipped: out of memory" in printed
    assert "**simulated, mobilenet** (4 malignant pictures of 2 patients" in printed


def test_main_thresholds_asks_three_seeds_and_another_network(
    explanations, load, monkeypatch, capsys
):
    quantiles = {"blank": 0.0, "contrast": [0.1] * 7}
    monkeypatch.setattr(load("ledger"), "run_apart", lambda *_: quantiles)
    assert explanations.main(["--thresholds"]) == 0
    assert capsys.readouterr().out.count("| contrast | 0.100 |") == 4
