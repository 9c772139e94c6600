"""Uploaded files: read in memory, made small, re-encoded for the page.

Belongs here: what becomes of a stranger's bytes before a network or a page sees them. The original
bytes are decoded once and dropped: what is shown or kept has been encoded anew, without EXIF.
"""

from base64 import b64encode
from threading import Semaphore
from typing import NamedTuple

import cv2
import numpy as np
from werkzeug.datastructures import FileStorage

from bcnet.data.pipeline import hash_pixels, resize_image
from bcnet.explain.scaling import enlarge
from bcnet.readers import UnreadableImageError, read_image
from bcnet.readers.image import FORMATS

# Longer side in pixels of a picture on the page, and of a map, which is smooth.
SHOWN_SIDE, MAP_SIDE = 640, 320

# A picture of 50 megapixels takes half a gigabyte while it is read.
DECODING = Semaphore(2)

# File names are shown to those who sent them; longer ones say nothing more.
NAME_LENGTH = 120

JPEG_QUALITY = 90


class Picture(NamedTuple):
    """One uploaded file, read as far as it could be.

    Attributes:
        name: of the file, without folders and control characters.
        reason: "" or why it could not be read; what follows is then None.
        is_picture: whether it begins as a picture format does.
        seen: uint8 `(h, w, 3)` at the size that the network sees.
        shown: uint8 `(h, w, 3)`, at most `SHOWN_SIDE` pixels a side.
        hash: of the full-size pixels.
        kept: PNG of the full-size pixels; None unless asked for.
    """

    name: str
    reason: str = ""
    is_picture: bool = True
    seen: np.ndarray | None = None
    shown: np.ndarray | None = None
    hash: str | None = None
    kept: bytes | None = None


def read_upload(file: FileStorage, image_size: tuple[int, int], *, keep: bool = False) -> Picture:
    """Read one uploaded file; one that is no picture is told from one that is damaged.

    Args:
        file: as Flask gives it.
        image_size: `(height, width)` that the network sees.
        keep: also encode the picture for keeping.
    """
    name, content = clean_name(file.filename), file.read()
    try:
        with DECODING:
            image = read_image(content)
    except UnreadableImageError as error:
        is_picture = any(magic.match(content) for magic, _ in FORMATS)
        return Picture(name, error.reason, is_picture)
    return Picture(
        name,
        seen=resize_image(image, image_size),
        shown=_fit(image, SHOWN_SIDE),
        hash=hash_pixels(image),
        kept=encode(image, ".png") if keep else None,
    )


def clean_name(name: str | None) -> str:
    """Make a file name fit for showing: no folders, no control characters, not endless.

    Example:
        >>> clean_name("../../etc/passwd"), clean_name(None)
        ('passwd', 'unnamed')
    """
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()
    return printable[-NAME_LENGTH:] or "unnamed"


def encode(image: np.ndarray, ending: str) -> bytes:
    """Encode pixels as a picture file, with nothing but the pixels in it.

    Args:
        image: uint8 `(h, w, 3)` RGB or `(h, w, 4)` RGBA.
        ending: ".png" or ".jpg".
    """
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if ending == ".jpg" else []
    return cv2.imencode(ending, cv2.cvtColor(image, order), settings)[1].tobytes()


def embed(image: np.ndarray) -> str:
    """Encode pixels as a `data:` address: JPEG of RGB, PNG where there is transparency."""
    ending, kind = (".png", "png") if image.shape[2] == 4 else (".jpg", "jpeg")
    return f"data:image/{kind};base64,{b64encode(encode(image, ending)).decode()}"


def paint_map(heatmap: np.ndarray, shape: tuple[int, int], *, bare: bool = False) -> np.ndarray:
    """Paint a heatmap in the colours of our figures, the clearer the less evidence there is.

    Args:
        heatmap: float32 `(h, w)`, 0–1.
        shape: `(height, width)` of the picture it lies over.
        bare: opaque, to be looked at by itself.

    Returns:
        uint8 `(h, w, 3)` if bare, else `(h, w, 4)`, in the proportions of the picture.
    """
    scale = min(1, MAP_SIDE / max(shape))
    size = tuple(max(1, round(side * scale)) for side in shape)
    values = np.rint(enlarge(heatmap[None], size)[0].clip(0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return colours if bare else np.dstack([colours, values])


def _fit(image, side):
    """Shrink a picture to `side`; a small one stays as it is."""
    scale = min(1, side / max(image.shape[:2]))
    return resize_image(image, tuple(max(1, round(each * scale)) for each in image.shape[:2]))
