"""What is seen of pictures: the same in memory and streamed, in order, whatever the batches."""

import numpy as np
import pytest

from bcnet import Classifier
from bcnet.evaluate.gate import describe_colours
from bcnet.models import build_cnn
from bcnet.workflows import views as views_module
from bcnet.workflows.samples import decode_table
from bcnet.workflows.views import stream_views, view_part


@pytest.fixture(scope="module")
def classifier():
    return Classifier(build_cnn((48, 48)), {})


@pytest.fixture(scope="module")
def table(simulated):
    """Eighty pictures, every third of which stands in validation."""
    parts = np.where(np.arange(len(simulated.table)) % 3, "train", "validation")
    return simulated.table.assign(split=parts)


@pytest.fixture(scope="module")
def pictures(table):
    return decode_table(table, (48, 48))


def test_view_part_sees_the_pictures_of_the_part_in_their_order(classifier, pictures):
    views, rows = view_part(classifier, pictures, "validation"), pictures.rows_in("validation")
    expected = classifier.predict_images(pictures.images[rows])
    np.testing.assert_allclose(views.probability, expected, atol=1e-6)
    np.testing.assert_array_equal(views.colours, describe_colours(pictures.images[rows]))


def test_view_part_does_not_hang_on_the_batches(classifier, pictures, monkeypatch):
    expected = view_part(classifier, pictures, "train")
    monkeypatch.setattr(Classifier, "batch_size", 7)
    found = view_part(classifier, pictures, "train")
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-5)


def test_view_part_counts_every_picture_on_its_bar(classifier, pictures, monkeypatch):
    bars, make = [], views_module.make_bar
    monkeypatch.setattr(Classifier, "batch_size", 7)

    def keep(*args, **options):
        bars.append(make(*args, **options))
        return bars[-1]

    monkeypatch.setattr(views_module, "make_bar", keep)
    view_part(classifier, pictures, "train", progress=True)
    assert bars[0].n == bars[0].total == len(pictures.rows_in("train"))


def test_stream_views_sees_what_view_part_sees(classifier, table, pictures):
    rows, streamed = stream_views(classifier, table)
    found = streamed.take((rows["split"] == "train").to_numpy())
    for values, others in zip(found, view_part(classifier, pictures, "train"), strict=True):
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-5)


def test_stream_views_leaves_out_an_unreadable_picture(classifier, table, tmp_path, caplog):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    broken = table[:5].reset_index(drop=True)
    broken.loc[2, "path"] = str(tmp_path / "bad.png")
    rows, views = stream_views(classifier, broken)
    assert len(rows) == len(views.features) == 4
    assert "bad.png" in caplog.text
