"""Pictures through the web: the same answers as everywhere, and what is no picture."""

import io
import re
import struct
import zlib
from base64 import b64decode
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bcnet.classifier import Classifier, Explanation
from bcnet.explain.faithfulness import Verdict
from bcnet.history import HistoryError
from bcnet.web import answering
from bcnet.web.answering import AnswerQueue, BusyError, Question
from bcnet.web.uploads import clean_name, embed, paint_map


def encode(image, kind="PNG", **settings):
    Image.fromarray(image).save(file := io.BytesIO(), kind, **settings)
    return file.getvalue()


def ask(client, *contents, **fields):
    files = [(io.BytesIO(content), f"{i}.png") for i, content in enumerate(contents)]
    return client.post("/api/v1/predict", data={"file": files, **fields})


def test_answers_equal_those_of_predict(client, model_file, simulated):
    paths = list(simulated.table["path"][:25])
    contents = [Path(path).read_bytes() for path in paths]
    sent = [
        *ask(client, *contents[:20]).json["results"],
        *ask(client, *contents[20:]).json["results"],
    ]
    table = Classifier.load(model_file).predict(paths)
    found = pd.DataFrame(sent)
    np.testing.assert_allclose(found["probability"], table["probability"], atol=1e-6)
    assert found["label"].tolist() == table["label"].tolist()
    assert found["status"].tolist() == table["status"].tolist()


def test_page_shows_the_same_answer_with_its_evidence(client, png, send_form):
    page = send_form(client, "/", {"file": (io.BytesIO(png), "a b.png")})
    probability = ask(client, png).json["results"][0]["probability"]
    assert page.status_code == 200
    assert f"{probability:.3f}" in page.text
    assert page.text.count('src="data:image/') == 3
    assert "a b.png" in page.text


def test_page_shows_similar_cases_without_naming_anybody(client, png, send_form, simulated):
    text = send_form(client, "/", {"file": (io.BytesIO(png), "a.png")}).text
    assert len(re.findall(r"distance \d", text)) == answering.SIMILAR_CASES
    assert not any(Path(path).stem in text for path in simulated.table["path"])


def test_page_escapes_the_names_of_files(client, png, send_form):
    page = send_form(client, "/", {"file": (io.BytesIO(png), "<script>alert(1)<.png")})
    assert "<script>alert" not in page.text


def test_page_draws_probability_threshold_on_one_scale(client, png, send_form, model_file):
    page = send_form(client, "/", {"file": (io.BytesIO(png), "a.png")}).text
    threshold = Classifier.load(model_file).threshold
    cut = float(re.search(r'class="scale-cut" x1="([\d.]+)"', page)[1])
    assert cut == pytest.approx(20 + 360 * threshold)


@pytest.mark.parametrize("method", ["occlusion", "layer_cam"])
def test_page_takes_other_methods_for_either_class(client, png, send_form, method):
    fields = {"file": (io.BytesIO(png), "a.png"), "method": method, "class": "benign"}
    assert "Evidence for benign" in send_form(client, "/", fields).text


@pytest.mark.parametrize("field", ["model", "method", "class"])
def test_a_choice_that_is_not_offered_is_refused(client, png, field):
    response = ask(client, png, **{field: "other"})
    assert response.status_code == 422
    assert f"`{field}` must be one of" in response.json["error"]


def make_bomb():
    """Make a small PNG that says it has 20,000 × 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GREY = np.full((40, 40, 3), 128, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
FRAMES = {"save_all": True, "append_images": [Image.fromarray(NOISE)]}

MALFORMED = {
    "text": (b"not a picture", 415),
    "html": (b"<html><script>alert(1)</script>", 415),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "pdf": (b"%PDF-1.7", 415),
    "gif": (encode(GREY, "GIF"), 415),
    "empty": (b"", 415),
    "zip": (b"PK\x03\x04" + bytes(60), 415),
    "truncated png": (encode(NOISE)[:-200], 422),
    "truncated jpeg": (encode(NOISE, "JPEG")[:-200], 422),
    "header only": (b"\x89PNG\r\n\x1a\n", 422),
    "zero size": (b"P6 0 0 255\n", 422),
    "bomb": (make_bomb(), 422),
    "animated": (encode(GREY, **FRAMES), 422),
    "pages": (encode(GREY, "TIFF", **FRAMES), 422),
}


@pytest.mark.parametrize(("content", "status"), MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_read_has_its_status_and_the_server_lives(client, content, status):
    response = ask(client, content)
    assert response.status_code == status
    assert response.json["results"][0]["status"].startswith("unreadable: ")
    assert response.json["results"][0]["id"] is None
    assert client.get("/healthz").status_code == 200


READABLE = {
    "cmyk": lambda: _convert("CMYK", "JPEG"),
    "palette": lambda: _convert("P", "PNG"),
    "one bit": lambda: _convert("1", "PNG"),
    "alpha": lambda: _convert("RGBA", "PNG"),
    "deep grey": lambda: encode(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40),
    "polyglot": lambda: encode(NOISE) + b"<script>alert(1)</script>",
    "one pixel": lambda: encode(GREY[:1, :1]),
}


def _convert(mode, kind):
    Image.fromarray(NOISE).convert(mode).save(file := io.BytesIO(), kind)
    return file.getvalue()


@pytest.mark.parametrize("make", READABLE.values(), ids=READABLE)
def test_unusual_pictures_are_answered(client, make):
    response = ask(client, make())
    assert response.status_code == 200
    assert 0 <= response.json["results"][0]["probability"] <= 1


def test_one_bad_picture_does_not_stop_the_others(client, png):
    response = ask(client, b"x", png)
    assert response.status_code == 200
    assert [each["probability"] is None for each in response.json["results"]] == [True, False]


def test_no_file_is_a_malformed_form(client):
    empty = (io.BytesIO(b""), "")  # as a browser sends a field in which nothing was chosen
    response = client.post("/api/v1/predict", data={"file": empty, "model": "quick"})
    assert response.status_code == 422
    assert "at least one picture" in response.json["error"]


def test_too_many_files_are_too_large(client, png):
    assert ask(client, *[png] * 21).status_code == 413


def test_original_bytes_are_never_served(client, send_form):
    content = encode(NOISE, "JPEG", exif=_make_exif())
    page = send_form(client, "/", {"file": (io.BytesIO(content), "a.jpg")}).text
    for found in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page):
        assert b"Smith" not in b64decode(found)


def _make_exif():
    exif = Image.Exif()
    exif[270] = "Smith"
    return exif


def test_nothing_is_kept_unless_the_operator_says_so(make_app, png):
    app = make_app()
    id = ask(app.test_client(), png).json["results"][0]["id"]
    services = app.extensions["bcnet"]
    row = services.history.get(id)
    assert (row["name"], row["image"]) == (None, None)
    assert not services.settings.image_folder.exists()


def test_kept_pictures_are_encoded_anew_and_deleted_with_their_case(make_app, send_form):
    app = make_app(keep_images=True)
    client, services = app.test_client(), app.extensions["bcnet"]
    content = encode(NOISE, pnginfo=_make_text())
    id = ask(client, content).json["results"][0]["id"]
    kept = client.get(f"/history/{id}/picture").data
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(kept))), NOISE)
    assert b"Smith" not in kept
    assert services.history.get(id)["name"] == "0.png"
    send_form(client, f"/history/{id}/delete", {}, form=f"/history/{id}")
    assert list(services.settings.image_folder.iterdir()) == []


def test_a_history_that_cannot_be_written_keeps_no_picture(make_app, png, monkeypatch):
    app = make_app(keep_images=True)
    services = app.extensions["bcnet"]

    def fail(_):
        raise HistoryError("disk full")

    monkeypatch.setattr(services.history, "add", fail)
    response = ask(app.test_client(), png)
    assert response.status_code == 503
    assert "nothing was changed" in response.json["error"]
    assert list(services.settings.image_folder.iterdir()) == []


def _make_text():
    info = PngInfo()
    info.add_text("Patient", "Smith")
    return info


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a.png", "a.png"),
        ("a\nb\x00.png", "ab.png"),
        ("", "unnamed"),
        ("x" * 500, "x" * 120),
    ],
)
def test_clean_name_leaves_what_may_be_shown(name, clean):
    assert clean_name(name) == clean


def test_paint_map_is_clear_where_there_is_no_evidence():
    painted = paint_map(np.array([[0.0, 1.0]], np.float32), (10, 1000))
    assert painted.shape == (3, 320, 4)
    assert (painted[0, 0, 3], painted[0, -1, 3]) == (0, 255)


def test_embed_writes_what_browsers_read():
    assert embed(GREY).startswith("data:image/jpeg;base64,/9j/")
    assert embed(np.zeros((2, 2, 4), np.uint8)).startswith("data:image/png;base64,iVBOR")


class SlowClassifier:
    """Answers when it is let go, and remembers how many pictures it was shown at once."""

    path = "none.keras"

    def __init__(self):
        self.batches, self.started, self.go = [], Event(), Event()

    def predict(self, images):
        self.started.set()
        self.go.wait(10)
        self.batches.append(len(images))
        probability = [float(image[0, 0, 0]) / 255 for image in images]
        columns = {"probability": probability, "label": "benign", "status": "ok"}
        return pd.DataFrame(columns)

    def explain_each(self, images, **_):
        return [Explanation(image, 0.5, image[..., 0], Verdict("ok", 1.0)) for image in images]


@pytest.fixture
def queue():
    queue = AnswerQueue()
    yield queue
    queue.close()


def make_image(value):
    return np.full((2, 2, 3), value, np.uint8)


def test_queue_answers_what_waits_in_one_call_and_gives_each_his_own(queue):
    slow, found = SlowClassifier(), {}

    def ask_one(value):
        found[value] = queue.ask(Question("slow", slow), [make_image(value)])[0].probability

    threads = [Thread(target=ask_one, args=(value,)) for value in range(6)]
    threads[0].start()
    slow.started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while queue.count_waiting() < 5:
        pass
    slow.go.set()
    for thread in threads:
        thread.join()
    assert slow.batches == [1, 5]
    assert found == {value: value / 255 for value in range(6)}


def test_queue_refuses_more_than_it_can_hold(queue):
    images = [make_image(0)] * (answering.MOST_WAITING + 1)
    with pytest.raises(BusyError):
        queue.ask(Question("slow", SlowClassifier()), images)


def test_queue_gives_the_error_to_its_asker_and_goes_on(queue):
    with pytest.raises(AttributeError):
        queue.ask(Question("broken", SimpleNamespace()), [make_image(0)])
    slow = SlowClassifier()
    slow.go.set()
    assert len(queue.ask(Question("slow", slow), [make_image(1)])) == 1


def test_queue_gives_up_after_a_while(queue, monkeypatch):
    monkeypatch.setattr(answering, "PATIENCE", 0.05)
    slow = SlowClassifier()
    with pytest.raises(BusyError):
        queue.ask(Question("slow", slow), [make_image(0)])
    slow.go.set()


def test_a_busy_server_says_when_to_come_again(client, png, monkeypatch):
    monkeypatch.setattr(answering, "MOST_WAITING", 0)
    response = ask(client, png)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "10"
