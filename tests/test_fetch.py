"""Public data sets, fetched from a server of our own that breaks, lies or knows no ranges."""

import gzip
import hashlib
import io
import logging
import re
import tarfile
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import cv2
import h5py
import numpy as np
import pytest

from bcnet.config import MODALITIES
from bcnet.data import catalogue, download, fetch, unpack
from bcnet.data.catalogue import SETS
from bcnet.data.download import RemoteFile
from bcnet.data.manifest import read_manifest
from bcnet.readers import read_image
from bcnet.workflows import fetch as run_fetch

CONTENT = np.random.default_rng(0).bytes(10_000)  # no part of it equals another


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; `server.breaks_after` bytes the line breaks, once."""

    def do_GET(self):
        name = self.path.strip("/")
        asked = self.headers.get("Range")
        self.server.requests.append((name, asked))
        if name in self.server.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere[name])
            self.end_headers()
        elif name not in self.server.files:
            self.send_error(404)
        else:
            self.send_content(self.server.files[name], asked)

    def send_content(self, content, asked):
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if not self.server.knows_ranges:
            start = 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content)
        self.send_response(206 if asked and self.server.knows_ranges else 200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end, self.server.breaks_after = self.server.breaks_after, None
        self.wfile.write(content[start:][:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.elsewhere, running.requests = {"a.bin": CONTENT}, {}, []
        running.knows_ranges, running.breaks_after = True, None
        running.address = f"http://127.0.0.1:{running.server_port}"
        Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def file(server):
    """The server's one file, with its right checksum."""
    return describe("a.bin", CONTENT, server)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1000)
    monkeypatch.setattr(unpack, "CHUNK", 1000)


def describe(name, content, server):
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return RemoteFile(
        name=name, url=f"{server.address}/{name}", size=len(content), checksum=checksum
    )


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_download_writes_the_file_and_nothing_else(file, server, tmp_path):
    path = download.download(file, tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert list_names(tmp_path / "new") == ["a.bin"]


def test_download_goes_on_where_the_line_broke(file, server, tmp_path):
    server.breaks_after = 4000
    assert download.download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("a.bin", None), ("a.bin", "bytes=4000-")]


def test_download_goes_on_after_ctrl_c(file, server, tmp_path):
    bar = InterruptingBar()
    with pytest.raises(KeyboardInterrupt):
        download.download(file, tmp_path, bar=bar)
    assert list_names(tmp_path) == [".a.bin.partial"]
    assert download.download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests[1] == ("a.bin", "bytes=1000-")


class InterruptingBar:
    total = 0

    def update(self, count):
        raise KeyboardInterrupt


def test_download_begins_again_where_the_server_knows_no_ranges(file, server, tmp_path):
    server.knows_ranges = False
    (tmp_path / ".a.bin.partial").write_bytes(CONTENT[:3000])
    assert download.download(file, tmp_path).read_bytes() == CONTENT


def test_download_ends_where_a_line_keeps_breaking(file, server, tmp_path):
    server.knows_ranges = False
    (tmp_path / ".a.bin.partial").write_bytes(CONTENT[:3000])
    server.breaks_after = 2000
    with pytest.raises(ConnectionError):
        download.download(file, tmp_path)
    assert len(server.requests) == 1


def test_download_takes_a_part_that_is_already_all(file, server, tmp_path):
    (tmp_path / ".a.bin.partial").write_bytes(CONTENT)
    assert download.download(file, tmp_path).read_bytes() == CONTENT


def test_download_asks_for_the_bytes_as_they_are(file, server, tmp_path):
    # This server packs what it sends wherever packing is accepted, and resuming would break.
    (tmp_path / ".a.bin.partial").write_bytes(CONTENT[:5000])
    assert download.download(file, tmp_path).read_bytes() == CONTENT


def test_download_throws_away_what_has_the_wrong_checksum(file, server, tmp_path):
    wrong = replace(file, checksum=f"md5:{'0' * 32}")
    found = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(ValueError, match=f"gave md5:{found} instead of md5:{'0' * 32}"):
        download.download(wrong, tmp_path)
    assert list_names(tmp_path) == []


def test_download_keeps_a_wrong_file_of_the_users(file, server, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.bin has sha256:\w+ instead of sha256:\w+; move it"):
        download.download(file, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


def test_download_takes_a_file_brought_by_hand(file, server, tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    download.download(file, tmp_path)
    assert server.requests == []


def test_download_records_a_checksum_where_none_is_published(file, server, tmp_path, caplog):
    download.download(replace(file, checksum=None), tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "a.bin.sha256").read_text() == f"{digest}  a.bin\n"
    assert f"this copy has sha256:{digest}" in caplog.text


def test_download_holds_later_copies_to_the_recorded_checksum(file, server, tmp_path):
    unpublished = replace(file, checksum=None)
    download.download(unpublished, tmp_path).unlink()
    server.files["a.bin"] = CONTENT[::-1]
    with pytest.raises(ValueError, match="thrown away"):
        download.download(unpublished, tmp_path)


def test_download_offline_says_in_one_line_what_to_do_by_hand(file, server, tmp_path):
    offline = replace(file, url="http://127.0.0.1:9/a.bin")  # the discard port: nobody listens
    with pytest.raises(ConnectionError) as caught:
        download.download(offline, tmp_path)
    assert str(caught.value) == (
        "127.0.0.1 cannot be reached (ConnectionError): download http://127.0.0.1:9/a.bin by hand "
        f"as {tmp_path / 'a.bin'} and run this again"
    )


def test_download_tells_what_the_server_answered(file, server, tmp_path):
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1 answered 404 Not Found"):
        download.download(replace(file, url=f"{server.address}/none"), tmp_path)


def test_download_refuses_an_address_that_is_not_https(file, tmp_path):
    with pytest.raises(ValueError, match=r"must be https\. Received: http://example\.org"):
        download.download(replace(file, url="http://example.org/a.bin"), tmp_path)


def test_download_refuses_to_be_led_away_from_https(file, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LOOPBACK", ("localhost",))
    server.elsewhere["moved"] = f"{server.address}/a.bin"
    moved = f"{server.address}/moved".replace("127.0.0.1", "localhost")
    with pytest.raises(ValueError, match="must be https"):
        download.download(replace(file, url=moved), tmp_path)


def pack(members):
    """Pack `{name: content}` as `.tar.gz`; a content may also be a ready member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_member(kind):
    member = tarfile.TarInfo("a/link")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def test_unpack_tar_writes_files_and_counts_them(tmp_path):
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    (tmp_path / "x.tar.gz").write_bytes(pack({"a": folder, "a/b.txt": b"b", "c.txt": b"c"}))
    counts = []
    unpack.unpack_tar([tmp_path / "x.tar.gz"], tmp_path / "out", counts.append)
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"b"
    assert sum(counts) == 2


@pytest.mark.parametrize(
    "members",
    [
        {"../out.txt": b""},
        {"a/../../out.txt": b""},
        {"/out.txt": b""},
        {"../outside/out.txt": b""},  # a sibling whose name begins like the target's
        {"a/link": make_member(tarfile.SYMTYPE)},
        {"a/link": make_member(tarfile.LNKTYPE)},
        {"a/link": make_member(tarfile.FIFOTYPE)},
    ],
    ids=["above", "around", "absolute", "sibling", "link", "hard link", "pipe"],
)
def test_unpack_tar_refuses_what_leads_out_of_its_folder(members, tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(pack(members))
    with pytest.raises(ValueError, match="must hold files below themselves"):
        unpack.unpack_tar([tmp_path / "x.tar.gz"], tmp_path / "out", print)
    assert [path for path in tmp_path.rglob("*") if path.name in ("out.txt", "link")] == []


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_unpack_tar_notices_damage(damage, tmp_path):
    noise = np.random.default_rng(0).bytes(50_000)  # does not shrink: stored as it is
    content = bytearray(pack({"a.png": noise}))
    if damage == "cut":
        content = content[:30_000]
    else:
        content[25_000] ^= 1
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises((EOFError, gzip.BadGzipFile, zlib.error)):
        unpack.unpack_tar([tmp_path / "x.tar.gz"], tmp_path / "out", lambda count: None)


def pack_hdf5(**arrays):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return gzip.compress(buffer.getvalue())


def write_pcam(folder, rng, *, labels=(0, 1, 1)):
    """Write six small files in PatchCamelyon's form; give their paths and the patches."""
    patches = rng.integers(0, 256, (3, 3, 8, 8, 3), np.uint8)
    y = np.array(labels, np.uint8).reshape(-1, 1, 1, 1)
    paths = []
    for part in range(3):
        for name, content in (("x", pack_hdf5(x=patches[part])), ("y", pack_hdf5(y=y))):
            paths.append(folder / f"{part}{name}.h5.gz")
            paths[-1].write_bytes(content)
    return paths, patches


def test_convert_pcam_puts_each_patch_into_its_part_and_class(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "PATCHES", 2)  # fewer than there are: two steps
    paths, patches = write_pcam(tmp_path, np.random.default_rng(0))
    counts = []
    unpack.convert_pcam(paths, tmp_path / "out", counts.append)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): read_image(path)
        for path in sorted((tmp_path / "out").rglob("*.png"))
    }
    for part, split in enumerate(("train", "validation", "test")):
        for index, label in enumerate(("benign", "malignant", "malignant")):
            image = found.pop(f"{split}/{label}/{index:06d}.png")
            np.testing.assert_array_equal(image, patches[part, index])
    assert (found, sum(counts)) == ({}, 9)


def test_convert_pcam_refuses_labels_of_other_patches(tmp_path):
    paths, _ = write_pcam(tmp_path, np.random.default_rng(0), labels=(0, 1))
    with pytest.raises(ValueError, match="with one label each"):
        unpack.convert_pcam(paths, tmp_path / "out", print)


@pytest.fixture
def breakhis(server, monkeypatch):
    """Three pictures in the folders of BreaKHis, offered under its name by the test's server."""
    _, png = cv2.imencode(".png", np.full((8, 8, 3), 200, np.uint8))
    top = "BreaKHis_v1/histology_slides/breast"
    places = (
        "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png",
        "benign/SOB/adenosis/SOB_B_A_14-22549CD/40X/SOB_B_A-14-22549CD-40-001.png",
        "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-13412/40X/SOB_M_LC-14-13412-40-001.png",
    )
    content = pack({f"{top}/{place}": png.tobytes() for place in places})
    return offer(monkeypatch, server, "breakhis", content)


@pytest.fixture
def breastmnist(server, monkeypatch):
    buffer = io.BytesIO()
    np.savez(buffer, train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.array([[0], [1]]))
    return offer(monkeypatch, server, "breastmnist", buffer.getvalue())


def offer(monkeypatch, server, name, content):
    real = SETS[name]
    server.files[real.files[0].name] = content
    file = describe(real.files[0].name, content, server)
    if real.files[0].checksum is None:
        file = replace(file, checksum=None)
    public = replace(real, files=(file,))
    monkeypatch.setitem(catalogue.SETS, name, public)
    return public


def test_fetch_unpacks_what_the_manifest_reads(breakhis, tmp_path):
    manifest = read_manifest(run_fetch("breakhis", tmp_path / "set"))
    assert manifest.table["label"].tolist() == [0, 0, 1]
    assert manifest.table["patient_id"].tolist() == ["14-22549", "14-22549", "14-13412"]
    assert manifest.info == breakhis.info


def test_fetch_of_an_npz_gives_the_file_itself(breastmnist, tmp_path):
    manifest = read_manifest(run_fetch("breastmnist", tmp_path))
    assert manifest.table["label"].tolist() == [1, 0]
    assert manifest.info == breastmnist.info


def test_fetch_tells_licence_and_citation(breastmnist, tmp_path, caplog):
    caplog.set_level(logging.INFO, "bcnet")
    run_fetch("breastmnist", tmp_path)
    assert "BreastMNIST (CC BY 4.0): Yang et al. 2023" in caplog.text


@pytest.mark.parametrize("name", ["breakhis", "breastmnist"])
def test_fetch_of_a_complete_set_does_nothing(name, request, server, tmp_path, caplog):
    request.getfixturevalue(name)
    first = run_fetch(name, tmp_path)
    server.requests.clear()
    caplog.set_level(logging.INFO, "bcnet")
    assert run_fetch(name, tmp_path) == first
    assert server.requests == []
    assert "is complete already; nothing was done" in caplog.text


def test_fetch_needs_no_download_once_the_pictures_are_there(breakhis, server, tmp_path):
    run_fetch("breakhis", tmp_path)
    (tmp_path / "BreaKHis_v1.tar.gz").unlink()
    server.requests.clear()
    run_fetch("breakhis", tmp_path)
    assert server.requests == []


def test_fetch_notices_an_npz_that_has_changed(breastmnist, tmp_path):
    run_fetch("breastmnist", tmp_path).write_bytes(b"changed")
    with pytest.raises(ValueError, match="move it away"):
        run_fetch("breastmnist", tmp_path)


def test_fetch_shows_nothing_of_an_interrupted_unpacking(breakhis, server, tmp_path, monkeypatch):
    def interrupt(count):
        raise KeyboardInterrupt

    run = unpack.unpack_tar
    broken = replace(breakhis, arrange=lambda archives, target, _: run(archives, target, interrupt))
    monkeypatch.setitem(catalogue.SETS, "breakhis", broken)
    with pytest.raises(KeyboardInterrupt):
        run_fetch("breakhis", tmp_path)
    assert list_names(tmp_path) == ["BreaKHis_v1.tar.gz", "BreaKHis_v1.tar.gz.sha256"]


def test_fetch_shows_pictures_after_their_words(breakhis, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_fetch("breakhis", tmp_path)
    assert not (tmp_path / "pictures").exists()


def test_fetch_clears_what_a_killed_run_left(breakhis, tmp_path):
    (tmp_path / fetch.SCRATCH / "pictures" / "benign").mkdir(parents=True)
    (tmp_path / fetch.SCRATCH / "pictures" / "benign" / "half.png").write_bytes(b"")
    assert len(read_manifest(run_fetch("breakhis", tmp_path)).table) == 3
    assert not (tmp_path / fetch.SCRATCH).exists()


def test_fetch_forgets_the_checksum_of_a_damaged_first_copy(breakhis, server, tmp_path):
    name = breakhis.files[0].name
    server.files[name] = server.files[name][:-20]
    with pytest.raises(ValueError, match="is damaged; move it away"):
        run_fetch("breakhis", tmp_path)
    assert list_names(tmp_path) == [name]


@pytest.mark.parametrize("there", ["benign/a.png", "pictures/benign/a.png", "dataset.json"])
def test_fetch_refuses_a_folder_that_holds_anything_else(there, breakhis, server, tmp_path):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("{}")
    with pytest.raises(FileExistsError, match="is in the way: name a folder that is empty"):
        run_fetch("breakhis", tmp_path)
    assert server.requests == []
    assert (tmp_path / there).read_text() == "{}"


@pytest.mark.parametrize("public", SETS.values(), ids=SETS)
def test_catalogue_is_of_https_addresses_and_whole_checksums(public):
    for file in public.files:
        assert file.url.startswith("https://")
        assert file.checksum is None or re.fullmatch(
            r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum
        )
    assert public.info.modality in MODALITIES


def test_catalogue_names_the_parts_of_pcam_in_the_order_they_are_unpacked():
    parts = [re.search(r"split_(\w+)\.h5", file.name)[1] for file in SETS["pcam"].files]
    assert parts == ["train_x", "train_y", "valid_x", "valid_y", "test_x", "test_y"]


def test_format_sets_names_size_and_licence_of_each():
    lines = catalogue.format_sets().splitlines()[::2]
    assert [line.split()[0] for line in lines] == list(SETS)
    assert lines[-1].split()[1:] == ["7,909", "pictures", "4.3", "GB", "CC", "BY", "4.0"]
