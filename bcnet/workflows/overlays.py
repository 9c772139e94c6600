"""What is written of one explanation: its overlay, its raw map, its place on a contact sheet.

Which pictures there are, and the table of all, is the business of `explaining`.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from bcnet.atomic import replace_file
from bcnet.classifier import Explanation
from bcnet.config import CLASS_NAMES, HEATMAP_METHODS, PRECISIONS
from bcnet.data.pipeline import resize_image
from bcnet.explain.measures import find_best_overlap, measure_mass, point_at_mask
from bcnet.explain.scaling import enlarge
from bcnet.plots import Panel, plot_overlay, plot_sheet, save_figure
from bcnet.plots.explanations import HOTTEST, OPACITY
from bcnet.readers import UnreadableImageError
from bcnet.workflows.masks import read_mask

logger = logging.getLogger("bcnet")

# Longer side in pixels of a picture in an overlay, and in a sheet: what is printed of it. Masks
# are compared at the former, where sorting the pixels of a mammogram would take seconds.
OVERLAY_SIDE, TILE_SIDE = 640, 240

# Pictures on a sheet: eight in a row and six rows fill a screen.
SHEET_SIZE = 48

RAW_KINDS = ("npy", "tiff")


@dataclass(frozen=True)
class ExplainOptions:
    """What is to be explained, and what is written beside overlays and table.

    Attributes:
        method: one of `HEATMAP_METHODS`.
        class_name: the class whose evidence is shown.
        precision: one of `PRECISIONS`, as for `Classifier.predict`.
        opacity: of the hottest place in overlays, from 0 to 1.
        sheet: also write contact sheets, `sheet-1.png` …
        raw: also write each map at its picture's own size, 0–1: "npy" (float32) or "tiff" (16 bit,
            65535 = 1); None for neither.
        masks: folder of masks of the pictures' objects, to measure the maps by; None for none.

    Raises:
        ValueError: for a value that is not among these.
    """

    method: str = HEATMAP_METHODS[0]
    class_name: str = CLASS_NAMES[1]
    precision: str = "float32"
    opacity: float = OPACITY
    sheet: bool = False
    raw: str | None = None
    masks: str | os.PathLike | None = None

    def __post_init__(self):
        words = {
            "method": HEATMAP_METHODS,
            "class_name": CLASS_NAMES,
            "precision": PRECISIONS,
            "raw": (None, *RAW_KINDS),
        }
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. Received: {getattr(self, name)!r}"
                )
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"`opacity` must be between 0 and 1. Received: {self.opacity}")


class OverlayWriter:
    """Writes files, picture by picture, and holds what goes on the next contact sheet.

    Args:
        folder: where to write.
        options: what to write.
    """

    def __init__(self, folder: str | os.PathLike, options: ExplainOptions):
        self.folder, self.options = Path(folder), options
        self.note = f"{options.method} for {options.class_name}"
        self.tiles, self.sheets = [], 0

    def write(self, each: Explanation, name: str, stem: str, masks: Sequence[Path] = ()) -> dict:
        """Write one picture's files.

        Args:
            each: its explanation; of a picture that was not read, nothing is written.
            name: of the picture.
            stem: of its files.
            masks: its masks, if any.

        Returns:
            Its row of the table that `explain` describes; what does not apply is missing.
        """
        row = {"probability": each.probability, "reason": each.reason, "familiar": each.familiar}
        if each.image is None:
            return row
        panel = _make_panel(each, OVERLAY_SIDE)
        mask = _try_read_mask(masks, panel.image.shape[:2])
        note = f"{self.note} · {_shorten(name, 40)}"
        ax = plot_overlay(panel._replace(mask=mask), opacity=self.options.opacity, note=note)
        save_figure(ax, self.folder / f"{stem}.png", quick=True)
        row |= {"verdict": each.verdict.word, "verdict_value": each.verdict.value}
        row |= {"hot_area": _measure_hot_area(each.heatmap), "overlay": f"{stem}.png"}
        if self.options.raw:
            row["map"] = f"{stem}.{self.options.raw}"
            _write_raw(self.folder / row["map"], each.heatmap)
        if self.options.sheet:
            self._add_tile(each, name)
        return row | ({} if mask is None else _measure(panel.heatmap, mask))

    def _add_tile(self, each, name):
        tile = _make_panel(each, TILE_SIDE)
        words = {"title": f"{tile.title}\n{_shorten(name, 21)}", "warning": _word(each.verdict)}
        self.tiles.append(tile._replace(**words))
        if len(self.tiles) == SHEET_SIZE:
            self.write_sheet()

    def write_sheet(self) -> None:
        """Write a sheet of the pictures since the last one, if there are any and it is asked for.

        Called by itself when a sheet is full; call it once more at the end.
        """
        if self.tiles:
            self.sheets += 1
            is_warned = any(tile.warning for tile in self.tiles)
            figure = plot_sheet(
                self.tiles,
                opacity=self.options.opacity,
                title=f"Evidence by {self.note}, page {self.sheets}",
                note="white on black: not to be trusted" if is_warned else None,
            )
            save_figure(figure, self.folder / f"sheet-{self.sheets}.png")
            self.tiles = []


def _make_panel(each, side):
    """Shrink picture and map to what is printed of them."""
    longest = max(*each.image.shape[:2], side)
    height, width = (max(1, round(length * side / longest)) for length in each.image.shape[:2])
    image = resize_image(each.image, (height, width))
    heatmap = enlarge(each.heatmap[None], (height, width))[0]
    warning = _word(each.verdict)
    return Panel(
        image,
        heatmap,
        f"{CLASS_NAMES[1]} {each.probability:.2f}",
        f"map not to be trusted: {warning}" if warning else "",
    )


def _word(verdict):
    """What is wrong with a map, in a word and a number; "" for nothing."""
    return "" if verdict.word == "ok" else f"{verdict.word} ({verdict.value:.2f})"


def _shorten(name, length):
    """The end of a path, where names differ."""
    name = Path(name).name
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _measure_hot_area(heatmap):
    return float(np.mean(heatmap >= HOTTEST * heatmap.max())) if heatmap.any() else 0.0


def _try_read_mask(paths, size):
    try:
        mask = read_mask(paths, size)
    except UnreadableImageError as error:
        logger.warning("%s: its map is not measured", error)
        return None
    return mask if mask.any() else None


def _measure(heatmap, mask):
    heatmaps, masks = heatmap[None], mask[None]
    return {
        "mask_area": float(mask.mean()),
        "pointing_hit": float(point_at_mask(heatmaps, masks)[0]),
        "mass_inside": float(measure_mass(heatmaps, masks)[0]),
        "best_iou": float(find_best_overlap(heatmaps, masks)[0]),
    }


def _write_raw(path, heatmap):
    # In memory first: neither `np.save` nor `cv2.imwrite` would say that the disk is full.
    if path.suffix == ".npy":
        np.save(content := BytesIO(), heatmap)
        content = content.getbuffer()
    else:
        content = cv2.imencode(".tiff", np.rint(heatmap * 65535).astype(np.uint16))[1]
    with replace_file(path) as temporary:
        temporary.write_bytes(content)
