import inspect
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from bcnet.config import CLASS_NAMES
from bcnet.data import simulate as module
from bcnet.data.simulate import (
    LABORATORIES,
    assign_laboratories,
    choose_patients,
    draw_field,
    draw_outlines,
    place_nuclei,
    sample_nuclei,
    simulate,
    spread_values,
)
from bcnet.data.wisconsin import load_wisconsin

SMALL = {"patients": 6, "images_per_patient": 2, "image_size": 32}


def list_pictures(folder):
    return [path for name in CLASS_NAMES for path in sorted((folder / name).iterdir())]


def read_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def draw(measurements, *, image_size=64, seed=0):
    rng = np.random.default_rng(seed)
    return draw_field(measurements, LABORATORIES[0], image_size=image_size, rng=rng)


@pytest.fixture(scope="module")
def table():
    return load_wisconsin()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulate") / "set", **SMALL)


def outline_of(**values):
    shapes = ("smoothness", "symmetry", "concavity", "concave points", "compactness")
    nucleus = dict.fromkeys(shapes, 0.0) | {"radius": 10.0, "fractal dimension": 0.06} | values
    nuclei = {name: np.full(5, value) for name, value in nucleus.items()}
    return draw_outlines(nuclei, np.random.default_rng(0))


# the numbers of a field


def test_spread_values_matches_the_example_worked_by_hand():
    # top three 14 ± 1; the others centre on (80 - 42) / 5 = 7.6 and reach half of that
    values = spread_values(10.0, 1.0, 14.0, 8)
    np.testing.assert_allclose(values, [3.8, 5.7, 7.6, 9.5, 11.4, 13, 14, 15])


def test_spread_values_is_as_wide_as_the_standard_error_says():
    values = spread_values(10.0, 0.1, 10.6, 12)
    # standard deviation √12 × 0.1, so the others reach √3 times as far: 0.6 to either side
    assert values[8] - values[0] == pytest.approx(1.2)


def test_spread_values_keeps_mean_and_worst_of_nearly_all_patients(table):
    error = []
    for row in table.to_dict("records"):
        values = spread_values(row["mean radius"], row["radius error"], row["worst radius"], 15)
        error.append((values.mean() - row["mean radius"], values[-3:].mean() - row["worst radius"]))
    np.testing.assert_allclose(error, 0, atol=1e-9)


def test_spread_values_stays_positive_where_extremes_exceed_the_mean():
    values = spread_values(0.1, 0.05, 1.0, 8)  # three of 1.0 alone would make the mean 0.375
    assert values.min() > 0
    assert values[-3:].mean() == pytest.approx(1.0)


def test_spread_values_of_a_constant_is_constant():
    np.testing.assert_array_equal(spread_values(0.0, 0.0, 0.0, 9), np.zeros(9))


def test_sample_nuclei_draws_8_to_25_for_every_patient(table):
    counts = [
        len(sample_nuclei(row, np.random.default_rng(number))["radius"])
        for number, row in enumerate(table.to_dict("records"))
    ]
    assert min(counts) >= 8
    assert max(counts) <= 25


def test_sample_nuclei_of_one_patient_keeps_its_statistics(table):
    row = table.loc[0]
    nuclei = sample_nuclei(row, np.random.default_rng(0))
    for name in ("radius", "texture", "concave points"):
        assert np.sort(nuclei[name])[-3:].mean() == pytest.approx(row[f"worst {name}"])


# outlines and places


def test_draw_outlines_has_the_radius_as_mean_radial_length():
    outlines = outline_of(concavity=0.3, **{"concave points": 0.1}, compactness=0.2)
    np.testing.assert_allclose(np.abs(outlines).mean(axis=1), 10.0)


def test_draw_outlines_without_irregularity_is_a_circle():
    np.testing.assert_allclose(np.abs(outline_of()), 10.0)


def test_draw_outlines_dents_once_per_concave_point():
    outlines = np.abs(outline_of(concavity=0.2, **{"concave points": 4 / 28}))
    lowest = (outlines < np.roll(outlines, 1, axis=1)) & (outlines <= np.roll(outlines, -1, axis=1))
    assert lowest.sum(axis=1).tolist() == [4] * 5


def test_draw_outlines_dents_deeper_with_concavity():
    shallow, deep = (
        np.abs(outline_of(concavity=value, **{"concave points": 0.1})).min(axis=1).mean()
        for value in (0.05, 0.3)
    )
    assert deep < shallow - 1


def test_draw_outlines_ripples_with_smoothness():
    local = [
        np.abs(np.diff(np.abs(outline_of(smoothness=value)), axis=1)).mean()
        for value in (0.06, 0.12)
    ]
    assert local[1] == pytest.approx(2 * local[0], rel=0.05)


def test_draw_outlines_ripples_more_finely_with_fractal_dimension():
    def mean_wave(value):
        lengths = np.abs(outline_of(smoothness=0.1, **{"fractal dimension": value}))
        power = np.abs(np.fft.rfft(lengths - 10))[:, :25] ** 2
        return (power * np.arange(25)).sum() / power.sum()

    assert mean_wave(0.1) > mean_wave(0.05) + 1


def test_draw_outlines_stretches_with_compactness():
    lengths = np.abs(outline_of(compactness=0.5))
    # half axes in the ratio 1 + 1.2 × 0.5
    np.testing.assert_allclose(lengths.max(axis=1) / lengths.min(axis=1), 1.6)


def test_draw_outlines_skews_with_symmetry():
    lengths = np.abs(outline_of(symmetry=0.2))
    waves = np.abs(np.fft.rfft(lengths, axis=1))
    assert (waves[:, 1:].argmax(axis=1) + 1).tolist() == [3] * 5


def test_place_nuclei_leaves_gaps_where_there_is_room():
    centres = place_nuclei(np.full(8, 10.0), np.random.default_rng(0))
    distance = np.abs(centres[:, None] - centres)[np.triu_indices(8, 1)]
    assert distance.min() > 20


def test_place_nuclei_keeps_centres_in_the_field():
    centres = place_nuclei(np.full(20, 30.0), np.random.default_rng(0))
    parts = np.stack([centres.real, centres.imag])
    assert parts.min() >= 15
    assert parts.max() <= module.FIELD_WIDTH - 15


# one picture


@pytest.mark.parametrize("size", [128, 256, 512])
def test_fill_covers_the_area_inside_the_outline(size):
    # one round nucleus of radius 23 units: π 23² / 230² = 3.14 % of the field
    outline = 115 * (1 + 1j) + 23 * np.exp(1j * module.OUTLINE_ANGLES)
    inside = module._fill(outline[None], size) > 0
    assert inside.mean() == pytest.approx(np.pi / 100, rel=0.02)


def test_fill_centres_the_outline_on_its_centre():
    outline = 115 + 50j + 23 * np.exp(1j * module.OUTLINE_ANGLES)
    down, right = np.nonzero(module._fill(outline[None], 230))
    # pixel 0 reaches from 0 to 1, so that its own centre is at 0.5
    assert right.mean() + 0.5 == pytest.approx(115, abs=0.2)
    assert down.mean() + 0.5 == pytest.approx(50, abs=0.2)


def test_draw_field_is_darker_inside_the_mask(table):
    for laboratory in LABORATORIES:
        rng = np.random.default_rng(0)
        image, mask = draw_field(table.loc[30], laboratory, image_size=128, rng=rng)
        assert image[mask == 255].mean() < image[mask == 0].mean() - 40


def test_draw_field_grows_nuclei_with_the_measured_radius(table):
    ordered = table.sort_values("worst radius")
    small, large = (
        np.mean([(draw(row)[1] > 0).mean() for row in rows.to_dict("records")])
        for rows in (ordered.head(10), ordered.tail(10))
    )
    assert large > 2 * small


@pytest.mark.parametrize("texture", [12.0, 30.0])
def test_draw_field_varies_grey_values_in_nuclei_as_measured(table, texture):
    row = table.loc[100].to_dict()
    row |= {"mean texture": texture, "worst texture": texture, "texture error": 0.0}
    image, mask = draw(row, image_size=128)
    # shrunken, so that the blurred edges do not count
    count, nuclei = cv2.connectedComponents(cv2.erode(mask, np.ones((3, 3))))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    spread = [grey[nuclei == number].std() for number in range(1, count)]
    assert np.mean(spread) == pytest.approx(texture, rel=0.2)


def test_draw_field_stains_larger_nuclei_darker(table):
    row = table.loc[100].to_dict()
    grey = []
    for radius in (8.0, 24.0):
        row |= {"mean radius": radius, "worst radius": radius, "radius error": 0.0}
        image, mask = draw(row, image_size=128)
        grey.append(image[cv2.erode(mask, np.ones((3, 3))) > 0].mean())
    assert grey[1] < grey[0] - 20


def test_draw_field_keeps_the_share_of_nuclei_at_any_size(table):
    shares = [(draw(table.loc[5], image_size=size)[1] > 0).mean() for size in (128, 256)]
    assert shares[0] == pytest.approx(shares[1], rel=0.05)


def test_draw_field_knows_no_label(table):
    assert "label" not in inspect.signature(draw_field).parameters
    row = table.loc[0]
    with_label, without = draw(row), draw(row.drop(["label", "patient_id"]))
    np.testing.assert_array_equal(with_label[0], without[0])


# the choice of patients and laboratories


def test_choose_patients_keeps_the_classes_in_proportion(table):
    chosen = choose_patients(table, 40, seed=3)
    assert chosen["label"].value_counts().to_dict() == {0: 25, 1: 15}  # 357 : 212


def test_choose_patients_takes_the_smaller_choice_from_the_larger(table):
    few, many = (choose_patients(table, number, seed=0)["patient_id"] for number in (10, 50))
    assert few.tolist() == many.tolist()[:10]


def test_choose_patients_depends_on_the_seed(table):
    one, other = (choose_patients(table, 10, seed=seed)["patient_id"] for seed in (0, 1))
    assert set(one) != set(other)


def test_assign_laboratories_is_independent_of_the_label(table):
    counts = pd.crosstab(assign_laboratories(len(table), seed=0), table["label"])
    assert counts.shape == (4, 2)
    assert chi2_contingency(counts).pvalue > 0.05


# the data set


def test_simulate_writes_pictures_masks_and_description(folder):
    pictures = {path.name for path in list_pictures(folder)}
    assert len(pictures) == 12
    assert {path.name for path in folder.glob("masks/*")} == pictures
    assert sorted(path.name for path in folder.iterdir()) == [
        "benign",
        "dataset.json",
        "malignant",
        "masks",
    ]


def test_simulate_puts_each_patient_into_the_folder_of_his_label(folder, table):
    labels = table.set_index("patient_id")["label"]
    for path in list_pictures(folder):
        assert path.parent.name == CLASS_NAMES[labels[path.name.split("-")[1]]]


def test_simulate_names_the_patients_one_laboratory(folder, table):
    laboratory = assign_laboratories(len(table), seed=0)
    for path in folder.glob("masks/*.png"):
        _, patient, name, field = path.stem.split("-")
        assert name == f"lab{laboratory[int(patient) - 1] + 1}"
        assert field in ("1", "2")


def test_simulate_writes_pictures_in_rgb_and_masks_in_black_and_white(folder):
    for path in list_pictures(folder):
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (32, 32, 3)
        mask = cv2.imread(str(folder / "masks" / path.name), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (32, 32)
        assert set(np.unique(mask)) == {0, 255}


def test_simulate_writes_the_pixels_that_were_drawn(folder, table):
    path = list_pictures(folder)[0]
    _, patient, laboratory, field = path.stem.split("-")
    image, mask = draw_field(
        table.set_index("patient_id").loc[patient],
        LABORATORIES[int(laboratory[3:]) - 1],
        image_size=32,
        rng=np.random.default_rng([0, int(patient), int(field)]),
    )
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)  # OpenCV gives BGR
    written = cv2.imread(str(folder / "masks" / path.name), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, mask)


def test_simulate_says_that_it_is_simulated(folder):
    description = json.loads((folder / "dataset.json").read_text())
    assert description["simulated"] is True
    assert description["name"] == "simulated"
    assert description["modality"] == "tissue"
    assert description["negative"] == "benign lesion"
    assert description["licence"].startswith("CC BY 4.0")
    assert description["seed"] == 0
    assert description["image_size"] == 32


@pytest.mark.parametrize("processors", [1, 5])
def test_simulate_same_seed_same_bytes_on_any_number_of_processors(
    folder, tmp_path, monkeypatch, processors
):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert read_bytes(simulate(tmp_path / "again", **SMALL)) == read_bytes(folder)


def test_simulate_other_seed_other_bytes(folder, tmp_path):
    other = simulate(tmp_path / "other", **SMALL, seed=1)
    assert not set(read_bytes(other).values()) & set(read_bytes(folder).values())


def test_simulate_draws_a_picture_alike_among_fewer_and_more(folder, tmp_path):
    fewer = simulate(tmp_path / "fewer", patients=3, images_per_patient=1, image_size=32)
    assert read_bytes(fewer).items() <= read_bytes(folder).items()


def test_simulate_draws_the_same_bytes_when_labels_are_flipped(folder, tmp_path, monkeypatch):
    flipped = load_wisconsin().iloc[:8].assign(label=lambda table: 1 - table["label"])
    paths = []
    for name, table in (("true", load_wisconsin().iloc[:8]), ("flipped", flipped)):
        monkeypatch.setattr(module, "load_wisconsin", table.copy)
        paths.append(simulate(tmp_path / name, images_per_patient=1, image_size=32))
    true, flipped = paths
    for kind in ("benign", "malignant"):
        other = "malignant" if kind == "benign" else "benign"
        assert read_bytes(true / kind) == read_bytes(flipped / other)


def test_simulate_reports_each_picture_once(tmp_path):
    done = []
    simulate(tmp_path / "set", **SMALL, progress=done.append)
    assert done == [1] * 12


def test_simulate_leaves_an_equal_set_as_it_is(folder):
    before = (folder / "dataset.json").stat().st_mtime_ns
    assert simulate(folder, **SMALL) == folder
    assert (folder / "dataset.json").stat().st_mtime_ns == before


def test_simulate_fills_an_empty_working_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert simulate(".", **SMALL) == Path()
    assert read_bytes(tmp_path) == read_bytes(folder)
    assert sorted(os.listdir()) == sorted(os.listdir(folder))


def test_simulate_makes_the_folders_above(folder, tmp_path):
    assert read_bytes(simulate(tmp_path / "a" / "b", **SMALL)) == read_bytes(folder)


@pytest.mark.parametrize("change", [{"seed": 5}, {"image_size": 64}, {"patients": 5}])
def test_simulate_refuses_a_set_made_otherwise(folder, change):
    with pytest.raises(FileExistsError, match="not empty"):
        simulate(folder, **SMALL | change)


def test_simulate_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(FileExistsError, match="not empty"):
        simulate(tmp_path, **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


def test_simulate_refuses_a_set_that_has_lost_a_picture(tmp_path):
    simulate(tmp_path / "set", **SMALL)
    next((tmp_path / "set" / "benign").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="not empty"):
        simulate(tmp_path / "set", **SMALL)


def test_simulate_refuses_a_file_as_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        simulate(tmp_path / "file", **SMALL)


@pytest.mark.parametrize("name", ["new", "."])
def test_simulate_interrupted_leaves_nothing(tmp_path, name):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / name, **SMALL, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_simulate_interrupted_stops_soon(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(module, "_write_png", lambda path, _: drawn.append(path))

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "set", patients=100, image_size=32, progress=interrupt)
    assert len(drawn) < 100  # of 800 files


def test_simulate_passes_on_a_full_disk_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        simulate(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images_per_patient": 0}, "`images_per_patient` must be at least 1. Received"),
        ({"image_size": 16}, "`image_size` must be at least 32. Received: image_size=16"),
        ({"seed": -1}, "`seed` must be at least 0. Received: seed=-1"),
        ({"patients": 0}, "`patients` must be at least 1. Received: patients=0"),
        ({"patients": 570}, "`patients` must be at most 569. Received: patients=570"),
    ],
)
def test_simulate_refuses_arguments_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path / "set", **arguments)
