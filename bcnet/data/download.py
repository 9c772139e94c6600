"""One file from a public address to the disk: resumed, verified, and whole or not there.

Which files there are, and what becomes of them, is not known here.
"""

import logging
import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from bcnet.atomic import replace_file, write_text

logger = logging.getLogger("bcnet")

CHUNK = 2**20
"""Bytes received at a time: few system calls, little lost when a connection breaks."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""What is sent to oneself cannot be changed on the way; all else needs https."""

BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
"""Faults of the line, after which it is worth to go on from where it broke."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """Say where a file is to be had and how it is known to be the right one.

    Attributes:
        name: What it is called on the disk.
        url: Its https address.
        size: Bytes, about: for people.
        checksum: `"md5:…"` or `"sha256:…"`, as its publisher states it; None where he does not.
            The first copy's SHA-256 is then kept beside it, and every later copy must have it.
    """

    name: str
    url: str
    size: int
    checksum: str | None = None


def download(file: RemoteFile, folder: str | os.PathLike, *, bar: object = False) -> Path:
    """Put a file into a folder, unless the right one is there already.

    What has come when the line breaks, or Ctrl-C is pressed, waits under a hidden name; the next
    call goes on from there where the server allows it. Nothing but the verified whole gets the
    file's own name, and a file that has it already is never touched.

    Args:
        file: What to download.
        folder: Where to; made when missing.
        bar: A progress bar such as tqdm's, in bytes; False for none.

    Returns:
        The file's path.

    Raises:
        ConnectionError: If it cannot be had; the message says what to do by hand.
        ValueError: If its checksum is wrong, or its address is not https.

    Example:
        A second call of `download(file, "data")` verifies `data/NAME` and sends no request.
    """
    path = Path(folder, file.name)
    if path.exists():
        found = find_checksum(path, file)
        if not _is_right(found, path, file):
            raise ValueError(
                f"{path} has {found} instead of {_expect(path, file)}; move it away to download it"
            )
        if bar:
            bar.total = path.stat().st_size
            bar.update(bar.total)
        logger.info("%s is there already: %s", path, found)
    else:
        _require_https(file.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _download_new(file, path, bar)
    if _expect(path, file) is None:
        logger.warning("no published checksum of %s is known; this copy has %s", file.name, found)
        write_text(find_record(path), f"{found.partition(':')[2]}  {file.name}\n")
    return path


def find_record(path: Path) -> Path:
    """Find where the checksum of a file without a published one is kept, as sha256sum reads it.

    Example:
        >>> find_record(Path("data/a.zip")).name
        'a.zip.sha256'
    """
    return path.with_name(f"{path.name}.sha256")


def find_checksum(path: Path, file: RemoteFile) -> str:
    """Compute the checksum of a file in the way in which it is to be compared.

    Args:
        path: The copy on the disk.
        file: What it should be.

    Returns:
        `"md5:…"` where the published one is, else `"sha256:…"`.

    Example:
        An empty file whose published checksum is an MD5 gives
        `"md5:d41d8cd98f00b204e9800998ecf8427e"`.
    """
    algorithm = (file.checksum or "sha256").partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), algorithm)}"


def _expect(path: Path, file: RemoteFile) -> str | None:
    record = find_record(path)
    if file.checksum or not record.exists():
        return file.checksum
    return f"sha256:{record.read_text(encoding='utf-8').split(maxsplit=1)[0]}"


def _is_right(found: str, path: Path, file: RemoteFile) -> bool:
    return _expect(path, file) in (None, found)


def _download_new(file: RemoteFile, path: Path, bar: object) -> str:
    partial = path.with_name(f".{path.name}.partial")
    _receive_whole(file, partial, bar)
    found = find_checksum(partial, file)
    if not _is_right(found, path, file):
        partial.unlink()
        raise ValueError(
            f"{file.url} gave {found} instead of {_expect(path, file)}; it was thrown away"
        )
    with replace_file(path) as temporary:
        os.replace(partial, temporary)
    return found


def _receive_whole(file: RemoteFile, partial: Path, bar: object) -> None:
    """Go on as long as every attempt brings more."""
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            return _receive(file.url, partial, bar)
        except requests.RequestException as error:
            if _has_all(error.response, before):
                return None
            after = partial.stat().st_size
            if not isinstance(error, BROKEN) or after <= before:
                raise ConnectionError(_describe(error, file, partial.parent)) from error


def _receive(url: str, partial: Path, bar: object) -> None:
    with open(partial, "ab") as output:

        def begin(response, **_):
            _require_https(response.url)
            if response.status_code == HTTPStatus.OK:  # all of it, not the rest that was asked for
                output.truncate(0)

        # A server that packs what it sends would have it unpacked on arrival: other bytes.
        headers = {"Accept-Encoding": "identity"}
        if start := output.tell():
            headers["Range"] = f"bytes={start}-"
        receive = pooch.HTTPDownloader(
            progressbar=bar, chunk_size=CHUNK, headers=headers, hooks={"response": begin}
        )
        receive(url, output, None)


def _has_all(response: requests.Response | None, size: int) -> bool:
    """Tell whether nothing was left to send: the last run was stopped just before the end."""
    if response is None or response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return False
    return response.headers.get("Content-Range") == f"bytes */{size}"


def _describe(error: requests.RequestException, file: RemoteFile, folder: Path) -> str:
    host = urlsplit(file.url).hostname
    if error.response is None:
        reason = f"{host} cannot be reached ({type(error).__name__})"
    else:
        reason = f"{host} answered {error.response.status_code} {error.response.reason}"
    return f"{reason}: download {file.url} by hand as {folder / file.name} and run this again"


def _require_https(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ValueError(f"Addresses must be https. Received: {url}")
