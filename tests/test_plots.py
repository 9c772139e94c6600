"""Figures, tested by their data and their words, not by pixels."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bcnet import plots
from bcnet.evaluate.metrics import evaluate, format_estimate

Y_TRUE = np.array([0, 0, 0, 1, 1, 1])
Y_PROB = np.array([0.1, 0.3, 0.6, 0.6, 0.8, 0.9])
PATIENTS = list("abcdef")
HISTORY = {
    "loss": [0.7, 0.5, 0.3],
    "val_loss": [0.8, 0.6, 0.9],
    "accuracy": [0.5, 0.7, 0.9],
    "val_accuracy": [0.4, 0.6, 0.7],
}
PICTURE = np.full((4, 6, 3), 200, np.uint8)


@pytest.fixture(autouse=True)
def _headless(monkeypatch):
    """Draw without a window, and close what a test leaves open."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


def read(ax):
    """Collect the words of an axes."""
    words = [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()]
    return " | ".join([*words, *(text.get_text() for text in ax.texts)])


def read_legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


ON_AXES = {
    "history": lambda **more: plots.plot_history(HISTORY, **more)[1],
    "roc": lambda **more: plots.plot_roc(Y_TRUE, Y_PROB, **more),
    "precision_recall": lambda **more: plots.plot_precision_recall(Y_TRUE, Y_PROB, **more),
    "confusion_matrix": lambda **more: plots.plot_confusion_matrix([[2, 1], [0, 3]], **more),
    "histogram": lambda **more: plots.plot_score_histogram(Y_TRUE, Y_PROB, threshold=0.5, **more),
    "overlay": lambda **more: plots.plot_overlay(plots.Panel(PICTURE, np.eye(2)), **more),
}


@pytest.mark.parametrize("name", ON_AXES)
def test_every_plot_shows_the_note(name):
    assert "simulated" in read(ON_AXES[name](note="simulated"))


def test_a_long_note_is_broken_into_lines():
    note = "what a negative means here takes rather more words than one line of a figure can hold"
    text = ON_AXES["roc"](note=note).texts[-1].get_text()
    assert note in text.replace("\n", " ")
    assert max(map(len, text.split("\n"))) < 60


@pytest.mark.parametrize("name", [name for name in ON_AXES if name != "history"])
def test_every_plot_draws_on_the_axes_given(name):
    _, ax = plt.subplots()
    assert ON_AXES[name](ax=ax) is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", ["roc", "precision_recall", "confusion_matrix", "histogram"])
def test_plots_of_answers_name_the_positive_class(name):
    assert "malignant = positive" in read(ON_AXES[name]())


@pytest.mark.parametrize("plot", [plots.plot_roc, plots.plot_precision_recall])
def test_curves_count_patients_or_say_they_are_unknown(plot):
    assert "6 pictures of 6 patients" in read(plot(Y_TRUE, Y_PROB, patients=PATIENTS))
    assert "6 pictures · image-level: patients unknown" in read(plot(Y_TRUE, Y_PROB))


@pytest.mark.parametrize("plot", [plots.plot_roc, plots.plot_precision_recall])
def test_curves_refuse_one_class(plot):
    with pytest.raises(ValueError, match=r"both classes. Received: \[1\]"):
        plot([1, 1], [0.2, 0.8])


def test_plot_history_draws_training_and_validation():
    for ax, name in zip(plots.plot_history(HISTORY), ("loss", "accuracy"), strict=True):
        assert ax.lines[0].get_xydata().tolist() == list(
            map(list, enumerate(HISTORY[name], start=1))
        )
        assert ax.lines[1].get_ydata().tolist() == HISTORY[f"val_{name}"]


def test_plot_history_marks_the_lowest_validation_loss_on_both():
    loss, accuracy = plots.plot_history(HISTORY)
    assert loss.lines[3].get_xydata().tolist() == [[2, 0.6]]
    assert accuracy.lines[3].get_xydata().tolist() == [[2, 0.6]]


def test_plot_history_marks_the_epoch_given():
    assert "best: epoch 3" in read(plots.plot_history(HISTORY, best_epoch=3)[0])


def test_plot_history_refuses_a_missing_curve():
    with pytest.raises(ValueError, match=r"`val_loss`. Received: \['loss'\]"):
        plots.plot_history({"loss": [1.0]})


def test_plot_roc_draws_the_curve_and_chance():
    y_true, y_prob = [*Y_TRUE, 0], [*Y_PROB, 0.2]
    curve, chance = plots.plot_roc(y_true, y_prob, patients=list("abcdefg")).lines
    # Down the scores: two hits, a hit and an alarm at 0.6, three alarms.
    np.testing.assert_allclose(curve.get_xdata(), [0, 0, 0, 1 / 4, 2 / 4, 3 / 4, 1])
    np.testing.assert_allclose(curve.get_ydata(), [0, 1 / 3, 2 / 3, 1, 1, 1, 1])
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("plot", "metric", "place"),
    [
        (plots.plot_roc, "auc", -2),
        (plots.plot_precision_recall, "average_precision", 0),
    ],
)
def test_curves_state_the_number_of_evaluate(plot, metric, place):
    y_true, y_prob, patients = np.tile(Y_TRUE, 5), np.tile(Y_PROB, 5), np.arange(30)
    estimate = evaluate(y_true, y_prob, patients=patients)["image"][metric]
    words = read_legend(plot(y_true, y_prob, patients=patients))[place]
    assert words.endswith(format_estimate(estimate))


def test_plot_precision_recall_draws_the_steps_and_the_prevalence():
    curve, prevalence = plots.plot_precision_recall(Y_TRUE, Y_PROB, patients=PATIENTS).lines
    np.testing.assert_allclose(curve.get_xdata(), [0, 1 / 3, 2 / 3, 1, 1, 1])
    np.testing.assert_allclose(curve.get_ydata(), [1, 1, 1, 3 / 4, 3 / 5, 3 / 6])
    assert prevalence.get_ydata()[0] == 0.5


def test_plot_confusion_matrix_writes_counts_and_row_shares():
    cells = [text.get_text() for text in plots.plot_confusion_matrix([[2, 1], [0, 4]]).texts[:4]]
    assert cells == ["2\n66.7 %", "1\n33.3 %", "0\n0.0 %", "4\n100.0 %"]


def test_plot_confusion_matrix_of_one_class_has_no_share():
    assert plots.plot_confusion_matrix([[2, 1], [0, 0]]).texts[2].get_text() == "0\n–"


def test_plot_confusion_matrix_refuses_another_shape():
    with pytest.raises(ValueError, match=r"Received: \[1, 2\]"):
        plots.plot_confusion_matrix([1, 2])


def test_plot_score_histogram_gives_each_class_its_whole():
    ax = plots.plot_score_histogram([0, 0, 0, 1], [0.1, 0.1, 0.9, 0.9], threshold=0.5)
    benign, malignant = (patch.get_data().values for patch in ax.patches)
    assert (benign[2], benign[22], malignant[22]) == pytest.approx((2 / 3, 1 / 3, 1))


def test_plot_score_histogram_draws_the_threshold():
    ax = plots.plot_score_histogram(Y_TRUE, Y_PROB, threshold=0.37)
    assert ax.lines[0].get_xdata()[0] == 0.37


def test_plot_cases_sorts_answers_into_rows_most_certain_first():
    y_true, y_prob = [1, 1, 1, 0, 0, 0], [0.6, 0.9, 0.2, 0.1, 0.05, 0.5]
    figure = plots.plot_cases([PICTURE] * 6, y_true, y_prob, threshold=0.5, columns=2)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["0.90", "0.60", "0.20", "", "0.05", "0.10", "0.50", ""]


def test_plot_cases_shows_the_picture_of_its_score():
    images = [np.full((2, 2), value) for value in (10, 20)]
    figure = plots.plot_cases(images, [1, 1], [0.6, 0.9], threshold=0.5, columns=2)
    assert [int(ax.images[0].get_array()[0, 0]) for ax in figure.axes[:2]] == [20, 10]


def test_plot_cases_counts_each_row():
    figure = plots.plot_cases([PICTURE] * 6, Y_TRUE, Y_PROB, threshold=0.5, columns=1)
    rows = [ax.get_ylabel().split("\n")[2] for ax in figure.axes]
    assert rows == ["right: 3 of 3", "wrong: 0 of 3", "right: 2 of 3", "wrong: 1 of 3"]


def test_plot_cases_takes_only_the_pictures_shown():
    taken = set()

    class Pictures(list):
        def __getitem__(self, i):
            taken.add(int(i))
            return PICTURE

    images = Pictures(range(100))
    plots.plot_cases(images, [1] * 100, np.linspace(0.6, 0.9, 100), threshold=0.5, columns=2)
    assert taken == {0, 98, 99}  # the first gives the proportions of the grid


def test_plot_images_shows_grey_pictures_as_they_are():
    ax = plots.plot_images([np.array([[0.0, 127.9, 255.0]])], ["grey"]).axes[0]
    assert ax.images[0].get_array().tolist() == [[0, 127, 255]]
    assert ax.images[0].get_clim() == (0, 255)


def test_plot_images_shows_note_and_title():
    figure = plots.plot_images([PICTURE], title="Pictures of lab 1", note="simulated")
    assert figure.get_suptitle() == "Pictures of lab 1"
    assert figure.get_supxlabel() == "simulated"


def test_plot_images_refuses_an_empty_list():
    with pytest.raises(ValueError, match="Received: 0 images"):
        plots.plot_images([])


@pytest.mark.parametrize("pick", [lambda ax: ax, lambda ax: ax.figure])
def test_save_figure_writes_and_closes(tmp_path, pick):
    ax = plots.plot_confusion_matrix([[2, 1], [0, 3]])
    path = plots.save_figure(pick(ax), tmp_path / "new" / "matrix.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_save_figure_failing_leaves_the_old_file_and_closes(tmp_path, monkeypatch):
    path = tmp_path / "matrix.png"
    path.write_text("old")
    ax = plots.plot_confusion_matrix([[2, 1], [0, 3]])

    def fail(part, **_):
        part.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(ax.figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        plots.save_figure(ax, path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
    assert plt.get_fignums() == []


def test_save_figure_in_a_hurry_writes_the_same_kind(tmp_path):
    path = plots.save_figure(plots.plot_images([PICTURE]), tmp_path / "a.png", quick=True)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_file_names_are_no_formulas_and_no_unknown_glyphs(tmp_path, recwarn):
    name = "café $x_$ 乳.png"
    figure = plots.plot_images([PICTURE], note=name)
    assert figure.get_supxlabel() == "café $x_$ □.png"
    plots.save_figure(figure, tmp_path / "a.png")
    assert len(recwarn) == 0


def test_plot_tuning_draws_the_best_so_far_of_finished_trials():
    scores, pruned = [0.6, 0.9, 0.7, np.nan, 0.8], [False, True, False, False, False]
    best = plots.plot_tuning(scores, pruned, {})[0].lines[0]
    assert best.get_ydata().tolist() == [0.6, 0.6, 0.7, 0.7, 0.8]


def test_plot_tuning_counts_how_trials_ended():
    ax = plots.plot_tuning([0.6, 0.9, np.nan], [False, True, False], {}, note="simulated")[0]
    assert read_legend(ax)[1:] == ["1 finished", "1 pruned", "best: trial 0, 0.600"]
    assert "3 trials · 1 failed · malignant = positive · simulated" in read(ax)


def test_plot_tuning_draws_importance_and_calls_it_rough():
    ax = plots.plot_tuning([0.6, 0.7], [False, False], {"mixup": 0.3, "ema": 0.7})[1]
    assert [bar.get_width() for bar in ax.patches] == [0.3, 0.7]
    assert "rough: estimated from 2 finished trials" in read(ax)


def test_plot_tuning_says_where_importance_cannot_be_told():
    assert "cannot be told" in read(plots.plot_tuning([0.6], [False], {})[1])


def test_plot_tuning_refuses_a_search_without_an_end():
    with pytest.raises(ValueError, match="must hold a finished trial"):
        plots.plot_tuning([0.6, np.nan], [True, False], {})
