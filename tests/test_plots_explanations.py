"""Figures of evidence, tested by their data and their words, not by pixels."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from bcnet import plots
from bcnet.plots import Panel

PICTURE = np.full((4, 6, 3), 200, np.uint8)
PANEL = Panel(PICTURE, np.eye(2))
WARNING = "map not to be trusted: unstable (0.12)"


@pytest.fixture(autouse=True)
def _headless():
    """Draw without a window, and close what a test leaves open."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


def read(ax):
    """Collect the words of an axes."""
    return " | ".join([ax.get_title(loc="left"), *(text.get_text() for text in ax.texts)])


def find_outline(ax):
    """Find the corners, left upper and right lower, of an axes' only outline."""
    (lines,) = ax.collections
    corners = lines.get_paths()[0].vertices
    return corners.min(0), corners.max(0)


def test_plot_overlay_hides_the_picture_only_where_there_is_evidence():
    ax = plots.plot_overlay(Panel(PICTURE, np.array([[0.0, 1.0]])), opacity=0.75)
    assert ax.images[1].get_alpha().tolist() == [[0, 0.75]]


def test_plot_overlay_outlines_where_the_map_is_at_least_half_of_its_maximum():
    heatmap = np.zeros((4, 6))
    heatmap[1, 1:5] = 0.8, 0.8, 0.2, 0
    low, high = find_outline(plots.plot_overlay(Panel(PICTURE, heatmap)))
    # Halfway from 0 to 0.8 on three sides, and two thirds of the way from 0.8 to 0.2.
    np.testing.assert_allclose([low, high], [[0.5, 0.5], [2 + 2 / 3, 1.5]])


def test_plot_overlay_of_zeros_says_so_and_outlines_nothing():
    ax = plots.plot_overlay(Panel(PICTURE, np.zeros((2, 2))))
    assert "no evidence: the map is zero everywhere" in read(ax)
    assert len(ax.collections) == 0


def test_plot_overlay_outlines_the_mask_around_its_pixels():
    mask = np.zeros((8, 12))  # twice the picture's resolution
    mask[2:4, 4:8] = 1  # the picture's row 1, columns 2 and 3
    ax = plots.plot_overlay(Panel(PICTURE, np.zeros((2, 2)), mask=mask))
    np.testing.assert_allclose(find_outline(ax), [[1.5, 0.5], [3.5, 1.5]])
    assert "dashed: mask" in read(ax)


def test_plot_overlay_closes_the_outline_at_the_edge_and_keeps_the_frame():
    ax = plots.plot_overlay(Panel(PICTURE, np.zeros((2, 2)), mask=np.ones((4, 6))))
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[0].tolist() == corners[-1].tolist()
    assert ax.get_xlim() == (-0.5, 5.5)


def test_plot_overlay_frames_and_names_only_what_is_not_to_be_trusted():
    warned, sound = (plots.plot_overlay(PANEL._replace(warning=word)) for word in (WARNING, ""))
    assert WARNING in read(warned)
    assert warned.spines["left"].get_visible()
    assert "trusted" not in read(sound)
    assert not sound.spines["left"].get_visible()


@pytest.mark.parametrize("shape", [(4, 6), (60, 20), (10, 300)])
def test_plot_overlay_keeps_the_picture_within_its_paper(shape):
    ax = plots.plot_overlay(Panel(np.zeros(shape), np.eye(2), "title", WARNING), note="n " * 60)
    ax.figure.canvas.draw()
    inside = ax.figure.bbox.padded(1)
    for part in (*filter(Text.get_text, ax.findobj(Text)), ax.patch):
        box = part.get_window_extent()
        assert inside.x0 <= box.x0
        assert box.y1 <= inside.y1


def test_plot_overlay_shows_a_bare_picture_without_a_bar():
    ax = plots.plot_overlay(Panel(PICTURE, None))
    assert len(ax.images) == 1
    assert ax.child_axes == []


@pytest.mark.parametrize("heatmap", [np.ones((2, 2, 1)), np.array([[1.1]]), np.array([[np.nan]])])
def test_plot_overlay_refuses_a_map(heatmap):
    with pytest.raises(ValueError, match="`heatmap` must be"):
        plots.plot_overlay(Panel(PICTURE, heatmap))


@pytest.mark.parametrize(
    "plot", [plots.plot_overlay, lambda p, **more: plots.plot_sheet([p], **more)]
)
def test_plots_refuse_an_opacity(plot):
    with pytest.raises(ValueError, match=r"Received: opacity=1\.4"):
        plot(PANEL, opacity=1.4)


def test_plot_sheet_shows_each_panel_under_its_own_words():
    panels = [PANEL._replace(title="a"), Panel(PICTURE, np.ones((1, 1)), "b", "blank (0.00)")]
    first, second, _ = plots.plot_sheet(panels).axes
    assert (read(first), read(second)) == ("a", "b | blank (0.00)")
    assert second.images[1].get_array().tolist() == [[1]]


def test_plot_sheet_breaks_rows_from_the_left():
    axes = plots.plot_sheet([PANEL] * 3, columns=2).axes
    places = [ax.get_position() for ax in axes[:3]]
    assert places[0].x0 == pytest.approx(places[2].x0)
    assert places[0].x1 < places[1].x0
    assert places[0].y0 == places[1].y0 > places[2].y1


def test_plot_sheet_says_what_colours_and_lines_are():
    words = plots.plot_sheet([PANEL], title="Page 1", note="simulated")
    assert words.get_suptitle() == "Page 1"
    assert "each map's own maximum" in words.get_supxlabel()
    assert words.get_supxlabel().endswith("line: 50% of the maximum · simulated")


def test_plot_sheet_refuses_an_empty_list():
    with pytest.raises(ValueError, match="`panels` must hold at least one"):
        plots.plot_sheet([])


def test_plot_methods_shows_the_bare_picture_and_then_each_method():
    maps = {"grad_cam": np.eye(2), "occlusion": np.ones((1, 1))}
    axes = plots.plot_methods(PICTURE, maps, warnings={"occlusion": "constant (0.00)"}).axes[:3]
    assert [read(ax) for ax in axes] == ["the picture", "grad_cam", "occlusion | constant (0.00)"]
    assert [len(ax.images) for ax in axes] == [1, 2, 2]


def test_plot_methods_outlines_the_mask_on_each():
    maps = {"grad_cam": np.zeros((2, 2))}
    axes = plots.plot_methods(PICTURE, maps, mask=np.ones((2, 2))).axes[:2]
    assert [len(ax.collections) for ax in axes] == [1, 1]
