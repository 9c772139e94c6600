"""A folder in, a folder of overlays and their table out; and the masks they are measured by."""

import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bcnet import Classifier, workflows
from bcnet.classifier import Explanation
from bcnet.explain.faithfulness import Verdict
from bcnet.readers import UnreadableImageError, read_image
from bcnet.workflows import ExplainOptions, overlays
from bcnet.workflows.explaining import count_verdicts
from bcnet.workflows.masks import find_masks, read_mask
from bcnet.workflows.overlays import OverlayWriter

IMAGE = np.full((40, 60, 3), 128, np.uint8)
HEATMAP = np.zeros((40, 60), np.float32)
HEATMAP[:20, :30] = 1  # a quarter of the picture …
HEATMAP[20:, :30] = 0.4  # … and what is not hot enough
SOUND = Explanation(IMAGE, 0.75, HEATMAP, Verdict("ok", 0.9))
FAULTY = SOUND._replace(verdict=Verdict("unstable", 0.12))


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture
def folder(simulated_folder, tmp_path):
    """Two folders with a picture of the same name, and one that cannot be read."""
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        one = sorted((simulated_folder / "benign").iterdir())[0]
        shutil.copy(one, tmp_path / "in" / name / "x.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    return tmp_path / "in"


def write_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(mask) * 255).save(path)
    return path


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_explain_writes_one_overlay_per_readable_picture(classifier, folder, tmp_path):
    inputs = [str(folder / name) for name in ("a", "b", "bad.png")]
    table = workflows.explain(classifier, inputs, tmp_path / "out")
    assert table["overlay"].tolist()[:2] == ["x.png.png", "x.png-2.png"]
    assert table["overlay"].isna().tolist() == [False, False, True]
    assert list_names(tmp_path / "out") == ["explanations.csv", "x.png-2.png", "x.png.png"]


def test_explain_writes_the_table_it_returns(classifier, folder, tmp_path):
    table = workflows.explain(classifier, folder, tmp_path / "out")
    written = pd.read_csv(tmp_path / "out" / "explanations.csv")
    names = ["path", "probability", "label", "status", "method", "class"]
    assert list(written) == [*names, "verdict", "verdict_value", "hot_area", "overlay"]
    pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-6)


def test_explain_answers_as_predict_does(classifier, folder, tmp_path):
    table = workflows.explain(classifier, folder, tmp_path / "out")
    expected = classifier.predict(folder)
    pd.testing.assert_frame_equal(table[list(expected)], expected, atol=1e-6)


def test_explain_of_names_that_differ_in_case_only_keeps_both(classifier, folder, tmp_path):
    (folder / "b" / "x.png").rename(folder / "b" / "X.PNG")
    inputs = [str(folder / name) for name in ("a", "b")]
    table = workflows.explain(classifier, inputs, tmp_path / "out")
    assert table["overlay"].str.casefold().nunique() == 2


def test_explain_keeps_its_hands_off_names_of_sheets(classifier, folder, tmp_path):
    (folder / "a" / "x.png").rename(folder / "a" / "sheet-1")
    options = ExplainOptions(sheet=True)
    table = workflows.explain(classifier, folder / "a", tmp_path / "out", options)
    assert table["overlay"].tolist() == ["sheet-1-2.png"]
    assert "sheet-1.png" in list_names(tmp_path / "out")


def test_explain_takes_a_name_as_long_as_the_disk_allows(classifier, folder, tmp_path):
    (folder / "a" / "x.png").rename(folder / "a" / f"{'n' * 251}.png")
    table = workflows.explain(classifier, folder / "a", tmp_path / "out")
    assert table["overlay"][0] in list_names(tmp_path / "out")


@pytest.mark.parametrize("output", ["in", "in/maps", "link/maps"])
def test_explain_refuses_to_write_among_the_pictures(classifier, folder, tmp_path, output):
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ValueError, match="must lie outside the pictures' folder"):
        workflows.explain(classifier, str(folder), tmp_path / output)


def test_explain_measures_by_masks_and_counts_them(classifier, folder, tmp_path, caplog):
    (folder / "b" / "x.png").rename(folder / "b" / "y.png")
    mask = np.arange(48) < 12
    write_mask(tmp_path / "masks" / "x.png", np.tile(mask, (48, 1)))
    options = ExplainOptions(masks=tmp_path / "masks")
    with caplog.at_level(logging.INFO, logger="bcnet"):
        table = workflows.explain(classifier, folder, tmp_path / "out", options)
    assert table["mask_area"].round(6).tolist()[0] == 0.25
    assert table["best_iou"].notna().tolist() == [True, False, False]
    assert f"1 of 3 pictures have a mask in {tmp_path / 'masks'}" in caplog.text


def test_count_verdicts_names_the_most_frequent_first():
    table = pd.DataFrame({"verdict": ["blank", "ok", None, "ok"]})
    assert count_verdicts(table) == "2 ok, 1 blank"


def test_write_gives_the_row_of_a_picture(tmp_path):
    row = OverlayWriter(tmp_path, ExplainOptions()).write(SOUND, "x.png", "x.png")
    assert row == {
        "probability": 0.75,
        "reason": "",
        "familiar": True,
        "verdict": "ok",
        "verdict_value": 0.9,
        "hot_area": 0.25,
        "overlay": "x.png.png",
    }


def test_write_of_a_picture_that_was_not_read_writes_nothing(tmp_path):
    lost = Explanation(None, np.nan, None, None, "the file is empty")
    row = OverlayWriter(tmp_path, ExplainOptions(sheet=True)).write(lost, "x.png", "x.png")
    assert row["reason"] == "the file is empty"
    assert list_names(tmp_path) == []


@pytest.mark.parametrize(("each", "warning"), [(SOUND, ""), (FAULTY, "unstable (0.12)")])
def test_write_warns_of_maps_that_are_not_to_be_trusted(each, warning, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(overlays, "save_figure", lambda *_, **__: None)
    monkeypatch.setattr(overlays, "plot_overlay", lambda panel, **_: drawn.append(panel))
    OverlayWriter(tmp_path, ExplainOptions()).write(each, "x.png", "x.png")
    assert drawn[0].title == "malignant 0.75"
    assert drawn[0].warning == (warning and f"map not to be trusted: {warning}")


def test_write_draws_large_pictures_at_the_size_of_print(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(overlays, "save_figure", lambda *_, **__: None)
    monkeypatch.setattr(overlays, "plot_overlay", lambda panel, **_: drawn.append(panel))
    large = SOUND._replace(
        image=np.zeros((1280, 2560, 3), np.uint8), heatmap=np.ones((1280, 2560), np.float32)
    )
    OverlayWriter(tmp_path, ExplainOptions()).write(large, "x.png", "x.png")
    assert drawn[0].image.shape == (320, 640, 3)
    assert drawn[0].heatmap.shape == (320, 640)


@pytest.mark.parametrize(
    ("raw", "scale", "dtype"), [("npy", 1, "float32"), ("tiff", 65535, "uint16")]
)
def test_write_of_a_raw_map_keeps_size_and_values(raw, scale, dtype, tmp_path):
    OverlayWriter(tmp_path, ExplainOptions(raw=raw)).write(SOUND, "x.png", "x.png")
    path = tmp_path / f"x.png.{raw}"
    values = np.load(path) if raw == "npy" else np.asarray(Image.open(path))
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, (HEATMAP * scale).astype(dtype))


def test_write_measures_a_map_by_its_mask(tmp_path):
    mask = write_mask(tmp_path / "x.png", HEATMAP > 0)  # the left half
    writer = OverlayWriter(tmp_path, ExplainOptions(masks=tmp_path))
    row = writer.write(SOUND, "x.png", "x.png", [mask])
    measures = ("mask_area", "pointing_hit", "mass_inside", "best_iou")
    assert [row[name] for name in measures] == pytest.approx([0.5, 1, 1, 1])


def test_write_says_which_mask_cannot_be_used_and_goes_on(tmp_path, caplog):
    mask = write_mask(tmp_path / "x.png", np.ones((60, 40)))
    row = OverlayWriter(tmp_path, ExplainOptions()).write(SOUND, "x.png", "x.png", [mask])
    assert "x.png: (60, 40) pixels do not have the proportions of its picture" in caplog.text
    assert "best_iou" not in row
    assert (tmp_path / row["overlay"]).exists()


def test_write_of_an_empty_mask_measures_nothing(tmp_path):
    mask = write_mask(tmp_path / "x.png", np.zeros((40, 60)))
    row = OverlayWriter(tmp_path, ExplainOptions()).write(SOUND, "x.png", "x.png", [mask])
    assert "best_iou" not in row


def test_sheets_break_into_pages_and_hold_no_more_than_one(tmp_path, monkeypatch):
    monkeypatch.setattr(overlays, "SHEET_SIZE", 2)
    pages = []
    monkeypatch.setattr(overlays, "save_figure", lambda *_, **__: None)
    monkeypatch.setattr(overlays, "plot_sheet", lambda tiles, **_: pages.append(len(tiles)))
    writer = OverlayWriter(tmp_path, ExplainOptions(sheet=True))
    for _ in range(5):
        writer.write(SOUND, "x.png", "x.png")
    assert len(writer.tiles) == 1
    writer.write_sheet()
    assert pages == [2, 2, 1]


def test_tiles_are_named_by_the_end_of_their_path(tmp_path):
    writer = OverlayWriter(tmp_path, ExplainOptions(sheet=True))
    writer.write(FAULTY, "folder/of_a_long_name_0123456789.png", "x.png")
    (tile,) = writer.tiles
    assert tile.title == "malignant 0.75\n…_name_0123456789.png"
    assert tile.warning == "unstable (0.12)"
    assert tile.image.shape == IMAGE.shape


@pytest.mark.parametrize(
    "wrong", [{"method": "cam"}, {"class_name": "normal"}, {"raw": "png"}, {"opacity": 1.4}]
)
def test_options_refuse_what_is_unknown(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        ExplainOptions(**wrong)


def test_find_masks_finds_files_of_the_same_stem_in_any_format(tmp_path):
    write_mask(tmp_path / "masks" / "x.bmp", [[1]])
    assert find_masks(tmp_path / "masks", ["a/x.png", "a/y.png"]) == {
        "a/x.png": [tmp_path / "masks" / "x.bmp"]
    }


def test_find_masks_takes_all_parts_of_one_picture(tmp_path):
    parts = [write_mask(tmp_path / f"x{part}.png", [[1]]) for part in ("_mask", "_mask_1")]
    assert find_masks(tmp_path, ["x.png"]) == {"x.png": parts}


def test_find_masks_takes_the_pictures_own_folder_where_there_are_several(tmp_path):
    for name in ("benign", "malignant"):
        write_mask(tmp_path / name / "x.png", [[1]])
    found = find_masks(tmp_path, ["data/malignant/x.png", "x.png"])
    assert found == {"data/malignant/x.png": [tmp_path / "malignant" / "x.png"]}


def test_find_masks_refuses_a_folder_without_a_match(tmp_path):
    write_mask(tmp_path / "y.png", [[1]])
    with pytest.raises(ValueError, match=r"1 files in .*, none of them a mask of x\.png$"):
        find_masks(tmp_path, ["x.png"])


def test_find_masks_of_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of masks at"):
        find_masks(tmp_path / "nowhere", ["x.png"])


def test_read_mask_joins_parts_at_the_size_of_the_picture(tmp_path):
    left = write_mask(tmp_path / "l.png", np.kron([[1, 0, 0]], np.ones((2, 2))))
    right = write_mask(tmp_path / "r.png", [[0, 0, 1]])
    assert read_mask([left, right], (1, 3)).tolist() == [[True, False, True]]


def test_read_mask_refuses_other_proportions(tmp_path):
    path = write_mask(tmp_path / "x.png", np.ones((2, 3)))
    with pytest.raises(UnreadableImageError, match=r"\(2, 3\) pixels do not have the proportions"):
        read_mask([path], (3, 2))


def test_read_mask_takes_any_value_above_zero_for_an_object(tmp_path):
    Image.fromarray(np.uint8([[0, 1]])).save(tmp_path / "x.png")
    assert read_mask([tmp_path / "x.png"], (1, 2)).tolist() == [[False, True]]


def test_overlays_are_pictures(tmp_path):
    OverlayWriter(tmp_path, ExplainOptions()).write(FAULTY, "x.png", "x.png")
    height, width, _ = read_image(tmp_path / "x.png.png").shape
    assert height > 400
    assert width > 700
