"""The model file in use: one answer, whoever asks."""

import json
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from bcnet import Classifier, load
from bcnet.cardfile import ModelFileError, read_card
from bcnet.classifier import CALLS_AT_ONCE
from bcnet.data.pipeline import resize_image
from bcnet.explain.faithfulness import find_background, judge_heatmaps
from bcnet.inputs import list_inputs
from bcnet.modelfile import read_model, write_model
from bcnet.models import build_cnn
from bcnet.readers import UnreadableImageError, read_image
from bcnet.train import TrainingDiverged


@pytest.fixture(scope="module")
def classifier(model_file):
    return Classifier.load(model_file)


@pytest.fixture
def pictures(simulated_folder):
    return sorted((simulated_folder / "benign").glob("*.png"))[:3]


def test_predict_gives_the_same_answer_for_paths_bytes_and_arrays(classifier, pictures):
    from_paths = classifier.predict(pictures)["probability"]
    from_bytes = classifier.predict([path.read_bytes() for path in pictures])["probability"]
    arrays = np.stack([read_image(path) for path in pictures])
    from_array = classifier.predict(arrays)["probability"]
    np.testing.assert_array_equal(from_paths, from_bytes)
    np.testing.assert_array_equal(from_paths, from_array)


def test_predict_of_a_long_folder_equals_picture_by_picture(classifier, simulated_folder):
    table = classifier.predict(simulated_folder)
    assert len(table) == 80  # two for each of forty patients; masks are no pictures
    for row in table.iloc[::16].itertuples():
        alone = classifier.predict(simulated_folder / row.path)["probability"][0]
        assert row.probability == pytest.approx(alone, abs=1e-6)


def test_predict_equals_plain_keras(classifier, model_file, pictures):
    model = keras.models.load_model(model_file)
    batch = np.stack([read_image(path) for path in pictures]).astype("float32")
    expected = model.predict(batch, verbose=0)[:, 0]
    np.testing.assert_allclose(classifier.predict(pictures)["probability"], expected, atol=1e-5)


def test_predict_resizes_as_the_pipeline_does(classifier, pictures):
    large = np.kron(read_image(pictures[0]), np.ones((3, 2, 1), np.uint8))
    small = resize_image(large, classifier.image_size)
    np.testing.assert_array_equal(
        classifier.predict(large)["probability"], classifier.predict(small)["probability"]
    )


def test_predict_names_pictures_as_given_or_below_the_folder(classifier, simulated_folder):
    one = str(
        simulated_folder
        / "benign"
        / sorted(p.name for p in (simulated_folder / "benign").iterdir())[0]
    )
    table = classifier.predict([one, str(simulated_folder / "malignant")])
    assert table["path"][0] == one
    assert table["path"][1] == sorted(p.name for p in (simulated_folder / "malignant").iterdir())[0]


def test_predict_goes_on_after_an_unreadable_picture(classifier, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(pictures[0].read_bytes()[:100])
    table = classifier.predict([pictures[0], bad, pictures[1]])
    assert table["status"].str.startswith("unreadable: ").tolist() == [False, True, False]
    assert table.loc[1, ["probability", "label"]].isna().all()
    alone = classifier.predict(pictures[1])["probability"][0]
    assert table["probability"][2] == pytest.approx(alone, abs=1e-6)


def test_predict_labels_by_the_threshold(classifier, pictures):
    probability = float(classifier.predict(pictures[0])["probability"][0])
    assert classifier.predict(pictures[0], threshold=probability)["label"][0] == "malignant"
    above = min(1.0, probability + 1e-6)
    assert classifier.predict(pictures[0], threshold=above)["label"][0] == "benign"


@pytest.mark.parametrize(("image_size", "expected"), [((50, 50), 256), ((224, 224), 20)])
def test_batch_size_shrinks_as_pictures_grow(image_size, expected):
    assert Classifier(build_cnn(image_size), {}).batch_size == expected


def test_predict_calls_the_network_only_so_often_at_once(classifier, pictures, monkeypatch):
    running, most = [], []

    def compile_judging(_):
        def judge(images):
            running.append(1)
            most.append(len(running))
            time.sleep(0.01)
            running.pop()
            return np.zeros(len(images), np.float32), np.ones(len(images), bool)

        return judge

    monkeypatch.setattr(classifier, "_compile_judging", compile_judging)
    monkeypatch.setattr(Classifier, "batch_size", 1)
    assert len(classifier.predict([pictures[0]] * 20)) == 20
    assert max(most) == CALLS_AT_ONCE


def test_predict_in_bfloat16_stays_near(classifier, pictures):
    exact = classifier.predict(pictures)["probability"]
    coarse = classifier.predict(pictures, precision="bfloat16")["probability"]
    np.testing.assert_allclose(coarse, exact, atol=0.05)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((4, 4, 3)), "must be uint8 RGB"),
        (np.zeros((4, 4), np.uint8), "must be uint8 RGB"),
        ([3.5], "Received: float at position 0"),
    ],
)
def test_list_inputs_names_what_it_cannot_take(inputs, message):
    with pytest.raises(ValueError, match=message):
        list_inputs(inputs)


def test_list_inputs_lists_nothing_twice(pictures):
    listed = list_inputs(pictures)
    assert list_inputs(listed) is listed


def test_list_inputs_of_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no picture or folder at .*nowhere"):
        list_inputs(tmp_path / "nowhere")


def test_list_inputs_of_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pictures below"):
        list_inputs(tmp_path)


def test_predict_refuses_a_threshold_outside_0_1(classifier, pictures):
    with pytest.raises(ValueError, match=r"Received: threshold=1\.4"):
        classifier.predict(pictures, threshold=1.4)


def test_explain_gives_a_map_of_the_pictures_own_size(classifier, pictures):
    image = read_image(pictures[0])[:30]
    heatmap = classifier.explain(image)
    assert heatmap.shape == (30, 48)
    assert heatmap.dtype == np.float32
    assert heatmap.min() >= 0
    assert heatmap.max() == pytest.approx(1) or not heatmap.any()
    assert len(classifier.explain(pictures)) == 3


def test_explain_each_gives_the_answers_of_predict_and_explain(classifier, pictures):
    each = next(classifier.explain_each(pictures[0], class_name="benign", method="layer_cam"))
    expected = classifier.predict(pictures[0])["probability"][0]
    assert each.probability == pytest.approx(expected, abs=1e-6)
    heatmap = classifier.explain(pictures[0], class_name="benign", method="layer_cam")
    np.testing.assert_array_equal(each.heatmap, heatmap)
    np.testing.assert_array_equal(each.image, read_image(pictures[0]))


def test_explain_each_judges_the_map_it_gives(classifier, pictures):
    given = list(classifier.explain_each(pictures, method="occlusion"))
    images = np.stack([read_image(path) for path in pictures])
    expected = judge_heatmaps(
        classifier.model,
        images,
        np.stack([each.heatmap for each in given]),
        method="occlusion",
        background=find_background(images, "tissue"),
    )
    assert [each.verdict for each in given] == expected


def test_explain_each_tells_the_judge_where_glass_is(classifier, monkeypatch):
    told = []

    def judge(model, images, heatmaps, *, background, **_):
        told.append(background)
        return [None] * len(images)

    monkeypatch.setattr("bcnet.classifier.judge_heatmaps", judge)
    next(classifier.explain_each(np.full((48, 48, 3), 240, np.uint8)))
    assert told[0].all()


def test_explain_each_judges_only_when_asked(classifier, pictures):
    assert next(classifier.explain_each(pictures[0], judged=False)).verdict is None


def test_explain_each_of_many_equals_one_by_one_past_unreadable_ones(classifier, simulated_folder):
    known = sorted((simulated_folder / "benign").glob("*.png"))[:35]  # more than one batch
    inputs = [*known[:1], b"", *known[1:], b""]
    given = list(classifier.explain_each(inputs, judged=False))
    assert [bool(each.reason) for each in given] == [False, True, *[False] * 34, True]
    for place, path in ((0, known[0]), (2, known[1]), (33, known[32]), (35, known[34])):
        np.testing.assert_allclose(given[place].heatmap, classifier.explain(path), atol=1e-5)


def test_explain_each_of_a_picture_lost_between_two_readings(classifier, pictures, monkeypatch):
    given = classifier.explain_each(pictures[:2], judged=False)
    readings = iter([*[(read_image(path), "") for path in pictures[:2]], (None, "gone")])
    monkeypatch.setattr("bcnet.data.pipeline.try_read", lambda *_: next(readings))
    monkeypatch.setattr("bcnet.classifier.try_read", lambda *_: next(readings))
    assert next(given).reason == "gone"


def test_explain_gives_the_hottest_place_of_each_size_a_one(classifier, pictures):
    small, large = (read_image(pictures[0])[:side, :side] for side in (17, 48))
    assert [heatmap.max() for heatmap in classifier.explain([small, large])] == [1, 1]


def test_explain_of_an_unreadable_picture_names_it(classifier, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"bad\.png"):
        classifier.explain(bad)


def test_save_then_load_gives_the_same_answers(classifier, pictures, tmp_path):
    classifier.save(tmp_path / "again.keras")
    again = load(tmp_path / "again.keras")
    np.testing.assert_array_equal(
        again.predict(pictures)["probability"], classifier.predict(pictures)["probability"]
    )
    assert again.card == classifier.card


def test_load_refuses_weights_that_are_not_the_saved_ones(model_file, tmp_path):
    model = read_model(model_file)
    kernel, bias = model.get_layer("logit").get_weights()
    model.get_layer("logit").set_weights([kernel, bias + 0.1])
    write_model(tmp_path / "other.keras", model, read_card(model_file))
    with pytest.raises(ModelFileError, match="no longer answers as when it was saved"):
        Classifier.load(tmp_path / "other.keras")


def test_load_refuses_changed_weights_that_answer_the_references_alike(model_file, tmp_path):
    network, card = read_model(model_file), read_card(model_file)
    kernel, bias = network.get_layer("logit").get_weights()
    network.get_layer("logit").set_weights([kernel * 1.0001, bias])
    write_model(tmp_path / "changed.keras", network, card)
    with pytest.raises(ModelFileError, match="its weights are not those it was saved with"):
        Classifier.load(tmp_path / "changed.keras")


def test_load_refuses_weights_that_are_not_finite(model_file, tmp_path):
    model = read_model(model_file)
    kernel, bias = model.get_layer("dense1").get_weights()
    model.get_layer("dense1").set_weights([kernel, bias * np.nan])
    write_model(tmp_path / "nan.keras", model, read_card(model_file))
    with pytest.raises(ModelFileError, match="not finite"):
        Classifier.load(tmp_path / "nan.keras")


def test_save_refuses_weights_that_are_not_finite_and_keeps_the_old_file(model_file, tmp_path):
    path = tmp_path / "a.keras"
    shutil.copy(model_file, path)
    broken = Classifier.load(path)
    kernel, bias = broken.model.get_layer("dense1").get_weights()
    broken.model.get_layer("dense1").set_weights([kernel * np.inf, bias])
    with pytest.raises(TrainingDiverged):
        broken.save(path)
    assert path.read_bytes() == model_file.read_bytes()


def test_load_takes_a_lost_card_from_the_original(model_file, pictures, tmp_path):
    path = tmp_path / "resaved.keras"
    keras.models.load_model(model_file).save(path)
    with pytest.raises(ModelFileError, match="the card was lost"):
        Classifier.load(path)
    assert Classifier.load(path, card=model_file).predict(pictures[0])["status"][0] == "ok"


def test_card_holds_no_patient_and_no_path(model_file, simulated_folder):
    text = json.dumps(read_card(model_file))
    assert "sim-" not in text
    assert str(simulated_folder) not in text


def test_model_file_answers_in_a_script_without_bcnet(model_file, classifier, pictures):
    script = (
        "import sys, keras, numpy as np\n"
        "from PIL import Image\n"
        "image = np.asarray(Image.open(sys.argv[2]).convert('RGB'), 'float32')\n"
        "print(float(keras.models.load_model(sys.argv[1]).predict(image[None], verbose=0)[0, 0]))\n"
        "assert not any(name.startswith('bcnet') for name in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, model_file, pictures[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = classifier.predict(pictures[0])["probability"][0]
    assert float(run.stdout) == pytest.approx(expected, abs=1e-5)


def test_predict_sees_jpeg_and_png_of_equal_pixels_alike(classifier, pictures, tmp_path):
    Image.open(pictures[0]).save(tmp_path / "a.jpg", quality=90)
    Image.fromarray(read_image(tmp_path / "a.jpg")).save(tmp_path / "a.bmp")
    jpeg, bmp = (classifier.predict(tmp_path / name) for name in ("a.jpg", "a.bmp"))
    assert jpeg["probability"][0] == bmp["probability"][0]
