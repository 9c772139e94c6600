"""Read ordinary picture files: PNG, JPEG, BMP, TIFF, WebP, PPM, PGM and PBM.

Belongs here: all that stands between a file's bytes and its RGB pixels – recognising the format,
refusing what is no single, whole picture of sensible size, transparency, orientation, and the
one scaling of deep grey to 8 bits. Does not: resizing, normalising, DICOM, whole slides.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

# A mammogram of 4096×5120 has 21 million pixels; above 50 million, decoding and resizing take
# gigabytes, and a 400 kB file can ask for that.
MAX_PIXELS = 50_000_000

# Room for 50 million pixels of four 16-bit channels and their metadata; what is larger is a
# whole slide and would only be read to be refused.
MAX_BYTES = 512 * 2**20

# EXIF orientation (TIFF 6.0, tag 274) -> what sets the picture upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

WIDTH_TAG = 256
PHOTOMETRIC_TAG = 262
ORIENTATION_TAG = 274
NUMBER_OF_IMAGES_TAG = 0xB001  # of the multi-picture format, CIPA DC-007


class UnreadableImageError(ValueError):
    """Say which picture cannot be read, and why.

    A `ValueError`, so that one bad file among thousands can be caught, named and counted.

    Args:
        path: the file as it was given, or `"<bytes>"`.
        reason: a phrase in plain English, without the path.

    Attributes:
        path: as above, str.
        reason: as above, str.

    Example:
        >>> str(UnreadableImageError("a.png", "the file is empty"))
        'Cannot read a.png: the file is empty'
    """

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)  # both, so that the error survives pickling
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"Cannot read {self.path}: {self.reason}"


class _Refusal(Exception):
    """A reason in plain English, on its way to the function that knows the path."""


class _JpegImageFile(JpegImageFile):
    """Pillow's JPEG without its look for a resolution in EXIF, which warns when that is corrupt."""

    def _read_dpi_from_exif(self) -> None:
        pass


PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# What a file begins with -> who reads it. Pillow's own `Image.open` would look at the extension,
# know fifty formats more, and warn about large pictures instead of refusing them.
FORMATS = (
    (re.compile(re.escape(PNG_MAGIC)), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), _JpegImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"P[1-6]\s"), PpmImageFile),
)

# IHDR from its bit depth on (PNG, section 11.2.1): 8 bits of grey or RGB, not interlaced.
PLAIN_PNG = (b"\x08\0\0\0\0", b"\x08\x02\0\0\0")
# Chunks that leave the pixels as they are; transparency, palette or EXIF would need more care.
PLAIN_CHUNKS = frozenset([b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tEXt", b"tIME"])

# netpbm's PGM and PPM: magic, then width, height and maximum, parted by space and # comments.
NETPBM_HEADER = re.compile(rb"P[2356]" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" + rb"\s")
NETPBM_NEXT = re.compile(rb"\s*P[1-6]\s")


def read_image(path_or_bytes: str | os.PathLike | bytes) -> np.ndarray:
    """Read one picture as RGB, the same pixels from its path as from its bytes.

    The format is told by the content, never by the extension. Grey becomes three equal channels,
    transparency is laid over white, CMYK, YCbCr, LAB, palettes and 1-bit are converted, and the
    EXIF orientation is applied (corrupt EXIF is ignored).

    Deep grey (more than 8 bits) becomes `value × 255 / maximum`, rounded to the nearest, halves
    up. The maximum is what the file declares: maxval of a PGM, 12 BitsPerSample of a TIFF (16 or
    32 are the width of its container and declare nothing), sBIT of a PNG (unless its samples
    exceed that, having been stretched to 65535 as the PNG standard asks). Else it is 4095 when
    nothing exceeds that, else 65535; never the picture's own. Float grey must lie within 0–1.
    Colour of 16 bits per channel keeps the higher byte, except in PPM, which is scaled like grey.

    Args:
        path_or_bytes: a file's path, or the content of one. Files above 512 MiB, and pictures
            above 50 million pixels, are refused before anything is allocated for them.

    Returns:
        A new, writable, contiguous array, uint8 `(height, width, 3)`, 0–255.

    Raises:
        FileNotFoundError: nothing is at the path.
        UnreadableImageError: a folder, an unreadable, empty, truncated or damaged file, no
            picture, several pictures in one file, or too large a one.

    Example:
        >>> read_image(b"P5 2 1 4095 " + bytes([0x0F, 0xFF, 0x00, 0x00])).tolist()
        [[[255, 255, 255], [0, 0, 0]]]
    """
    is_content = isinstance(path_or_bytes, bytes | bytearray | memoryview)
    path = "<bytes>" if is_content else os.fspath(path_or_bytes)
    try:
        return _decode(bytes(path_or_bytes) if is_content else _read_file(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no picture at {path}") from None
    except _Refusal as refusal:
        raise UnreadableImageError(path, str(refusal)) from None
    except Exception as error:  # hostile bytes make Pillow raise almost anything
        detail = str(error) or type(error).__name__
        reason = f"damaged, truncated or of a kind not supported ({detail})"
        raise UnreadableImageError(path, reason) from error


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise _Refusal(f"{size:,} bytes are more than {MAX_BYTES:,}")
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        if os.path.isdir(path):
            raise _Refusal("it is a folder, not a picture") from None
        reason = getattr(error, "strerror", None) or error
        raise _Refusal(f"the file cannot be opened ({reason})") from None


def _decode(data: bytes) -> np.ndarray:
    if (pixels := _decode_plain_png(data)) is not None:
        return pixels
    if data[:2] in (b"P5", b"P6"):
        picture = _decode_netpbm(data)
    else:
        image = _open(data)
        image.load()  # before the orientation is asked for: a PNG may have it behind its pixels
        picture = _flatten(image, data)
        turn = UPRIGHT.get(_read_orientation(image))
        picture = picture if turn is None else picture.transpose(turn)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _open(data: bytes) -> ImageFile:
    """Read the header and refuse all that it gives reason to refuse, before allocating."""
    if not data:
        raise _Refusal("the file is empty")
    plugin = next((plugin for start, plugin in FORMATS if start.match(data)), None)
    if plugin is None:
        raise _Refusal("not a PNG, JPEG, BMP, TIFF, WebP, PPM, PGM or PBM picture")
    if plugin is PngImageFile:
        _check_png(data)
    if plugin is TiffImageFile:
        _check_tiff(data)
    if plugin is WebPImageFile:  # whose decoder allocates when it is made
        _check_size(*_read_webp_size(data))
    image = plugin(BytesIO(data))
    _check_size(*image.size)
    if getattr(image, "is_animated", False) or _is_multi_picture_jpeg(image):
        raise _Refusal("more than one picture in the file (pages or an animation)")
    _check_coverage(image)
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _Refusal(f"{width}×{height} pixels are more than {MAX_PIXELS:,}")


def _check_coverage(image: ImageFile) -> None:
    # Where strips of a TIFF are missing, Pillow leaves black. (WebP lists no tiles.)
    boxes = [tile[1] for tile in image.tile]
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in boxes)
    if boxes and covered < image.width * image.height:
        raise _Refusal(f"parts of its {image.width}×{image.height} pixels are missing")


def _is_multi_picture_jpeg(image: ImageFile) -> bool:
    # The second picture of an Ultra HDR photograph is the gain map of the first, no other view.
    if not isinstance(image, JpegImageFile) or b"hdrgm:Version" in image.info.get("xmp", b""):
        return False
    return (_read_tag(image.info.get("mp", b""), NUMBER_OF_IMAGES_TAG) or 1) > 1


def _read_webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]  # RFC 9649, sections 2.5 to 2.7
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _read_orientation(image: ImageFile) -> int | None:
    exif = image.info.get("exif")  # TIFF has none here: Pillow turns it upright by itself
    if not isinstance(exif, bytes):  # a text chunk of a PNG may have taken the name
        return None
    return _read_tag(exif.removeprefix(b"Exif\0\0"), ORIENTATION_TAG)


def _read_tag(tiff: bytes, tag: int) -> int | None:
    """Read one whole number of the first directory, or None where it is absent or corrupt.

    Pillow's `getexif` would do, but warns about corrupt EXIF and is slower.
    """
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            found, kind = struct.unpack_from(order + "HH", tiff, entry)
            if found == tag:
                return struct.unpack_from(order + {3: "H", 4: "I"}[kind], tiff, entry + 8)[0]
    except (KeyError, struct.error):
        pass
    return None


def _read_png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the chunks of a PNG as (kind, body), each with its checksum verified."""
    end, kind = 8, b""
    while kind != b"IEND":
        start, end = end, end + 12 + int.from_bytes(data[end : end + 4], "big")
        if end > len(data):
            raise _Refusal("the PNG is truncated")
        kind, body = data[start + 4 : start + 8], data[start + 8 : end - 4]
        if zlib.crc32(data[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise _Refusal(f"the PNG is damaged (checksum of chunk {kind!r})")
        yield kind, body


def _check_png(data: bytes) -> None:
    # Pillow verifies no checksum of the pixels and takes a file whose end is missing.
    if b"acTL" in [kind for kind, _ in _read_png_chunks(data)]:
        raise _Refusal("more than one picture in the file (an animated PNG)")


def _decode_plain_png(data: bytes) -> np.ndarray | None:
    """Decode what most PNGs are in two thirds of Pillow's time, and outside Python's lock.

    Returns None for any other file, and for pixels that OpenCV refuses: Pillow says why.
    """
    if data[24:29] not in PLAIN_PNG or not data.startswith(PNG_MAGIC):
        return None
    if not {kind for kind, _ in _read_png_chunks(data)} <= PLAIN_CHUNKS:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    _check_size(width, height)
    if not width * height:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _check_tiff(data: bytes) -> None:
    # Most writers put the directory last; where it is cut off, Pillow warns before it fails.
    is_classic = b"*" in data[2:4]
    if is_classic and _read_tag(data, WIDTH_TAG) is None:
        raise _Refusal("the TIFF is truncated or damaged (no directory in it)")


def _flatten(image: ImageFile, data: bytes) -> Image.Image:
    """Decode to a picture of 8 bits without transparency."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_decode_deep_grey(image, data))
    if not image.has_transparency_data:
        return image
    if image.mode == "L" and isinstance(image, PngImageFile):
        # Pillow widens grey of 2 and 4 bits to 8, but leaves the transparent value as it was.
        image.info["transparency"] *= {2: 85, 4: 17}.get(data[24], 1)
    image = image.convert("LA") if image.mode == "La" else image  # La has no other conversion
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _decode_deep_grey(image: ImageFile, data: bytes) -> np.ndarray:
    samples = np.asarray(image)
    if image.mode == "F":
        grey = _scale_float(samples)
    elif isinstance(image, PpmImageFile):
        maximum = int(NETPBM_HEADER.match(data)[3])
        grey = _scale(np.rint(samples * (maximum / 65535)), maximum)  # undoes Pillow's scaling
    else:
        # TIFF of 12 bits needs no word: it cannot exceed 4095.
        declared = _read_png_maximum(data) if isinstance(image, PngImageFile) else None
        grey = _scale(samples, _find_maximum(samples, declared))
    if "transparency" in image.info:
        grey[samples == image.info["transparency"]] = 255
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_TAG) == 0:
        grey = 255 - grey  # WhiteIsZero, which Pillow heeds for 8 bits only
    return grey


def _read_png_maximum(data: bytes) -> int | None:
    bits = next((body[0] for kind, body in _read_png_chunks(data) if kind == b"sBIT"), 0)
    return 2**bits - 1 if 0 < bits <= 16 else None


def _find_maximum(samples: np.ndarray, declared: int | None) -> int:
    lowest, highest = samples.min(), samples.max()
    for maximum in (declared or 4095, 65535):
        if lowest >= 0 and highest <= maximum:
            return maximum
    raise _Refusal(f"grey values from {lowest} to {highest} do not lie within 0–65535")


def _scale(samples: np.ndarray, maximum: int) -> np.ndarray:
    """Map 0..maximum to 0..255 in whole numbers, exactly: to the nearest, halves up."""
    return ((samples.astype(np.uint32) * 510 + maximum) // (2 * maximum)).astype(np.uint8)


def _scale_float(samples: np.ndarray) -> np.ndarray:
    if not (samples.min() >= 0 and samples.max() <= 1):  # so that NaN is refused as well
        found = f"{samples.min():g} to {samples.max():g}"
        raise _Refusal(f"floating-point grey must lie within 0–1, not {found}")
    return np.floor(samples * 255 + 0.5).astype(np.uint8)


def _decode_netpbm(data: bytes) -> Image.Image:
    """Decode binary PGM and PPM; Pillow would walk a deep one pixel by pixel in Python."""
    header = NETPBM_HEADER.match(data)
    if header is None:
        raise _Refusal("the header of the PGM or PPM is damaged")
    width, height, maximum = map(int, header.groups())
    if not (width and height and 0 < maximum < 65536):
        raise _Refusal(f"a PGM or PPM cannot have {width}×{height} pixels up to {maximum}")
    _check_size(width, height)
    shape = (height, width, 3) if data.startswith(b"P6") else (height, width)
    dtype = np.dtype(">u2" if maximum > 255 else np.uint8)
    end = header.end() + int(np.prod(shape)) * dtype.itemsize
    if len(data) < end:
        raise _Refusal("the PGM or PPM is truncated")
    if NETPBM_NEXT.match(data, end):
        raise _Refusal("more than one picture in the file")
    samples = np.frombuffer(data[header.end() : end], dtype).reshape(shape)
    return Image.fromarray(_scale(np.minimum(samples, maximum), maximum))
