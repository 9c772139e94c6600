"""Each format, each refusal and the scaling of deep grey, on pictures made here."""

import doctest
import hashlib
import os
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bcnet.readers import UnreadableImageError, image, read_image

ROWS, COLUMNS = np.mgrid[0:13, 0:17]
RGB = np.stack([COLUMNS * 15, ROWS * 20, COLUMNS * ROWS], axis=-1).astype(np.uint8)
GREY = RGB[..., 0]
BITS = ((COLUMNS + ROWS) % 2).astype(bool)

# SHA-256, first 16 digits, of the RGB pixels that every lossless format must give.
GOLDEN = {
    "RGB": "90daedf2f541900f",
    "L": "c291e85e0bfb1243",
    "1": "4a132188f0fb033a",
    "P": "a2150e24cbacd227",
    "RGBA": "abb98fc0374f2c7e",
    "CMYK": "267efc1f6c1b96ed",
    "I;16": "c291e85e0bfb1243",  # 257 times the 8-bit grey, so the same
}


def encode(picture, form, **options):
    buffer = BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(
        buffer, form, **options
    )
    return buffer.getvalue()


def make_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def make_png(size, samples, *, depth=16, colour=0, extra=b""):
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    chunks = [make_chunk(b"IHDR", header), extra, make_chunk(b"IDAT", zlib.compress(samples))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + make_chunk(b"IEND", b"")


def make_grey_png(values, extra=b""):
    """One row of 16-bit grey."""
    return make_png((len(values), 1), b"\0" + struct.pack(f">{len(values)}H", *values), extra=extra)


def make_grey_tiff(size, samples, *, bits, order="<", photometric=1):
    """An uncompressed grey TIFF of one strip, its samples right behind the 8-byte header."""
    tags = {256: size[0], 257: size[1], 258: bits, 259: 1, 262: photometric, 273: 8}
    tags |= {277: 1, 278: size[1], 279: len(samples)}
    directory = b"".join(struct.pack(order + "HHII", tag, 4, 1, n) for tag, n in tags.items())
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8 + len(samples))
    return start + samples + struct.pack(order + "H", len(tags)) + directory + b"\0\0\0\0"


def digest(pixels):
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def read_grey(data):
    """The pixels of a picture that must be grey, flattened to a list."""
    pixels = read_image(data)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].ravel().tolist()


def refuse(path_or_bytes):
    with pytest.raises(UnreadableImageError) as caught:
        read_image(path_or_bytes)
    return caught.value.reason


ALPHA = np.dstack([RGB, GREY])
PALETTE = Image.fromarray(GREY // 60).convert("P")
PALETTE.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7, 0, 0, 0])
LOSSLESS = {
    "RGB png": encode(RGB, "PNG"),
    "RGB bmp": encode(RGB, "BMP"),
    "RGB tiff": encode(RGB, "TIFF"),
    "RGB tiff lzw": encode(RGB, "TIFF", compression="tiff_lzw"),
    "RGB tiff deflate": encode(RGB, "TIFF", compression="tiff_adobe_deflate"),
    "RGB webp": encode(RGB, "WEBP", lossless=True),
    "RGB ppm": encode(RGB, "PPM"),
    "RGB plain ppm": b"P3 17 13 255 " + " ".join(map(str, RGB.ravel())).encode(),
    "RGB png16": make_png(
        (17, 13),
        b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB.astype(np.uint16) * 257),
        colour=2,
    ),
    "RGB tiff16": cv2.imencode(".tif", RGB[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
    "L png": encode(GREY, "PNG"),
    "L bmp": encode(GREY, "BMP"),
    "L tiff": encode(GREY, "TIFF"),
    "L webp": encode(GREY, "WEBP", lossless=True),
    "L pgm": encode(GREY, "PPM"),
    "L plain pgm": b"P2\n# grey\n17 13 255 " + " ".join(map(str, GREY.ravel())).encode(),
    "1 png": encode(BITS, "PNG"),
    "1 bmp": encode(BITS, "BMP"),
    "1 tiff": encode(BITS, "TIFF"),
    "1 tiff group4": encode(BITS, "TIFF", compression="group4"),
    "1 pbm": encode(BITS, "PPM"),
    "P png": encode(PALETTE, "PNG"),
    "P bmp": encode(PALETTE, "BMP"),
    "P tiff": encode(PALETTE, "TIFF"),
    "RGBA png": encode(ALPHA, "PNG"),
    "RGBA tiff": encode(ALPHA, "TIFF"),
    "RGBA webp": encode(ALPHA, "WEBP", lossless=True, exact=True),
    "CMYK tiff": encode(Image.frombytes("CMYK", (17, 13), ALPHA.tobytes()), "TIFF"),
    "I;16 png": encode(GREY.astype(np.uint16) * 257, "PNG"),
    "I;16 tiff": encode(GREY.astype(np.uint16) * 257, "TIFF"),
    "I;16 pgm": encode(GREY.astype(np.uint16) * 257, "PPM"),
}
LOSSY = {
    "jpeg": encode(RGB, "JPEG"),
    "jpeg progressive": encode(RGB, "JPEG", progressive=True, subsampling=0),
    "jpeg grey": encode(GREY, "JPEG"),
    "webp": encode(RGB, "WEBP"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_read_image_gives_the_golden_pixels(name):
    assert digest(read_image(LOSSLESS[name])) == GOLDEN[name.split()[0]]


@pytest.mark.parametrize("name", LOSSY)
def test_read_image_equals_opencv_on_lossy_formats(name):
    expected = cv2.imdecode(np.frombuffer(LOSSY[name], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_image(LOSSY[name]), expected)


def test_read_image_returns_a_writable_contiguous_array():
    pixels = read_image(LOSSLESS["RGB png"])
    assert (pixels.dtype, pixels.shape) == (np.uint8, (13, 17, 3))
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_read_image_gives_the_same_pixels_from_path_and_bytes(name, tmp_path):
    data = (LOSSLESS | LOSSY)[name]
    path = tmp_path / "picture.txt"  # an extension that says nothing
    path.write_bytes(data)
    expected = read_image(data)
    for given in (path, str(path), bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(read_image(given), expected)


def test_read_image_tells_the_format_by_content(tmp_path):
    path = tmp_path / "really_a_bitmap.jpg"
    path.write_bytes(LOSSLESS["RGB bmp"])
    np.testing.assert_array_equal(read_image(path), RGB)


def test_read_image_agrees_across_threads():
    data = [*LOSSLESS.values(), *LOSSY.values()] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read_image, data))
    assert [digest(pixels) for pixels in found] == [digest(read_image(one)) for one in data]


def test_read_image_example():
    assert doctest.testmod(image) == (0, 2)


# Transparency


def test_read_image_lays_half_transparent_black_over_white():
    assert read_grey(encode(np.uint8([[[0, 0, 0, 128]]]), "PNG")) == [127]  # 255 × 127 / 255


def test_read_image_lays_transparent_grey_over_white():
    assert read_grey(encode(np.uint8([[[40, 0], [40, 255]]]), "PNG")) == [255, 40]


def test_read_image_lays_palette_entries_over_white():
    picture = Image.frombytes("P", (3, 1), b"\0\1\2")
    picture.putpalette([0, 0, 0, 10, 10, 10, 20, 20, 20])
    assert read_grey(encode(picture, "PNG", transparency=b"\x00\xff\x80")) == [255, 10, 137]
    assert read_grey(encode(picture, "PNG", transparency=1)) == [0, 255, 20]


def test_read_image_lays_a_transparent_colour_over_white():
    png = encode(np.uint8([[[1, 2, 3], [3, 2, 1]]]), "PNG", transparency=(1, 2, 3))
    assert read_image(png).tolist() == [[[255, 255, 255], [3, 2, 1]]]


def test_read_image_lays_premultiplied_tiff_over_white():
    straight = encode(np.uint8([[[64, 128], [64, 255]]]), "TIFF")
    kinds = [struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1)]  # ExtraSamples
    assert read_grey(straight) == [159, 64]  # 64 × 128 / 255 + 127
    assert read_grey(straight.replace(*kinds)) == [191, 64]  # 64 + 127


@pytest.mark.parametrize(
    ("depth", "samples", "value", "expected"),
    [
        (1, b"\x40", 0, [255, 255]),  # 0 1
        (2, b"\x60", 1, [255, 170]),  # 1 2
        (4, b"\x35", 3, [255, 85]),  # 3 5
        (8, b"\x03\x05", 3, [255, 5]),
        (16, b"\x00\x03\xff\xff", 3, [255, 255]),
        (16, b"\x00\x03\xff\xff", 65535, [0, 255]),
    ],
)
def test_read_image_lays_a_transparent_grey_value_over_white(depth, samples, value, expected):
    key = make_chunk(b"tRNS", struct.pack(">H", value))
    assert read_grey(make_png((2, 1), b"\0" + samples, depth=depth, extra=key)) == expected


# Colour


def test_read_image_converts_cmyk_jpeg_of_adobe():
    cmyk = Image.frombytes("CMYK", (8, 8), bytes([0, 255, 255, 0]) * 64)
    np.testing.assert_allclose(read_image(encode(cmyk, "JPEG"))[0, 0], [255, 0, 0], atol=2)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("YCbCr", (76, 85, 255), [254, 0, 0]),  # JFIF's red
        ("LAB", (136, 128, 128), [127, 127, 127]),  # lightness 53.3 is sRGB's middle grey
    ],
)
def test_read_image_converts_other_colour_spaces(mode, colour, expected):
    tiff = encode(Image.new(mode, (2, 2), colour), "TIFF", compression="tiff_lzw")
    np.testing.assert_allclose(read_image(tiff)[0, 0], expected, atol=1)


# Orientation


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda pixels: pixels),
        (2, lambda pixels: pixels[:, ::-1]),
        (3, lambda pixels: pixels[::-1, ::-1]),
        (4, lambda pixels: pixels[::-1]),
        (5, lambda pixels: pixels.swapaxes(0, 1)),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (7, lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1)),
        (8, lambda pixels: np.rot90(pixels)),
    ],
)
def test_read_image_applies_the_exif_orientation(form, orientation, upright):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    turned, plain = (encode(RGB, form, **options, **tag) for tag in ({"exif": exif}, {}))
    np.testing.assert_array_equal(read_image(turned), upright(read_image(plain)))


def test_read_image_turns_deep_grey_upright():
    exif = Image.Exif()
    exif[274] = 6
    png = encode(np.uint16([[0, 4095, 65535]]), "PNG", exif=exif)
    assert read_image(png)[..., 0].tolist() == [[0], [16], [255]]


def test_read_image_finds_the_orientation_behind_the_pixels_of_a_png():
    png, end = encode(np.uint8([[1, 2]]), "PNG"), make_chunk(b"IEND", b"")
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHxx", 274, 3, 1, 3)
    assert read_grey(png.removesuffix(end) + make_chunk(b"eXIf", exif) + end) == [2, 1]


@pytest.mark.parametrize("name", [b"exif", b"xmp"])
def test_read_image_ignores_text_chunks_with_names_of_metadata(name):
    text = make_chunk(b"zTXt", name + b"\0\0" + zlib.compress(b"text"))
    assert read_grey(make_png((1, 1), b"\0\x07", depth=8, extra=text)) == [7]


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0rubbish rubbish rubbish",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x1a\0\x05\0\0\0\x01\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",  # 99
    ],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_read_image_ignores_corrupt_exif_without_a_warning(form, exif):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = (read_image(encode(RGB, form, **tag)) for tag in ({"exif": exif}, {}))
    np.testing.assert_array_equal(found, expected)


# Deep grey


def test_read_image_scales_a_full_16_bit_ramp():
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.floor(ramp / 257 + 0.5)  # 65535 = 257 × 255
    for form in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(read_image(encode(ramp, form))[..., 1], expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 8, 9, 4095], [0, 0, 1, 255]),  # 8 × 255 / 4095 = 0.498, 9 × … = 0.56
        ([0, 1000], [0, 62]),  # 62.3: by 4095, never by its own 1000
        ([0, 4096], [0, 16]),  # 15.94: one value above 4095, so by 65535
        ([1000, 1000], [62, 62]),
    ],
)
def test_read_image_chooses_the_maximum_of_undeclared_grey(values, expected):
    samples = struct.pack(f"<{len(values)}H", *values)
    assert read_grey(make_grey_png(values)) == expected
    assert read_grey(make_grey_tiff((len(values), 1), samples, bits=16)) == expected


@pytest.mark.parametrize(
    ("bits", "values", "expected"),
    [
        (10, [0, 511, 1023], [0, 127, 255]),
        (12, [0, 1000, 2000], [0, 62, 125]),
        (14, [0, 4095, 16383], [0, 64, 255]),
        (16, [0, 4095], [0, 16]),
        (12, [0, 4095 * 16, 65535], [0, 255, 255]),  # stretched, as the standard asks
        (0, [0, 4095], [0, 255]),  # invalid, so undeclared
        (200, [0, 4095], [0, 255]),
    ],
)
def test_read_image_divides_png_by_its_significant_bits(bits, values, expected):
    assert read_grey(make_grey_png(values, make_chunk(b"sBIT", bytes([bits])))) == expected


def test_read_image_divides_tiff_by_its_12_bits():
    samples = bytes.fromhex("000 7ff fff 001".replace(" ", ""))  # packed: 0, 2047, 4095, 1
    assert read_grey(make_grey_tiff((4, 1), samples, bits=12)) == [0, 127, 255, 0]
    dark = bytes.fromhex("0003e8")  # 0, 1000
    assert read_grey(make_grey_tiff((2, 1), dark, bits=12)) == [0, 62]


def test_read_image_reads_big_endian_tiff():
    samples = struct.pack(">3H", 0, 256, 65535)
    assert read_grey(make_grey_tiff((3, 1), samples, bits=16, order=">")) == [0, 1, 255]


def test_read_image_reads_bigtiff():
    assert read_grey(encode(np.uint8([[1, 2, 3]]), "TIFF", big_tiff=True)) == [1, 2, 3]


def test_read_image_inverts_white_is_zero_tiff():
    samples = struct.pack("<3H", 0, 4369, 65535)
    assert read_grey(make_grey_tiff((3, 1), samples, bits=16, photometric=0)) == [255, 238, 0]
    assert read_grey(make_grey_tiff((2, 1), b"\0\x11", bits=8, photometric=0)) == [255, 238]


@pytest.mark.parametrize("maximum", [1, 6, 100, 255, 256, 1000, 4095, 65534, 65535])
def test_read_image_divides_pgm_by_its_maxval(maximum):
    values = np.unique(np.linspace(0, maximum, 60).astype(int))
    header = f"P5\n# a comment\n{len(values)} 1\n{maximum}\n".encode()
    raster = values.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    expected = [(510 * int(value) + maximum) // (2 * maximum) for value in values]
    assert read_grey(header + raster) == expected
    if maximum > 255:  # Pillow scales these to 65535 on the way
        plain = f"P2 {len(values)} 1 {maximum} " + " ".join(map(str, values))
        assert read_grey(plain.encode()) == expected


def test_read_image_limits_pgm_to_its_maxval():
    assert read_grey(b"P5 3 1 100\n" + bytes([50, 100, 200])) == [128, 255, 255]


def test_read_image_divides_deep_ppm_by_its_maxval():
    data = b"P6 1 1 1023\n" + struct.pack(">3H", 0, 511, 1023)
    assert read_image(data).tolist() == [[[0, 127, 255]]]


def test_read_image_scales_float_from_0_to_1():
    assert read_grey(encode(np.float32([[0, 0.25, 0.5, 1]]), "TIFF")) == [0, 64, 128, 255]


@pytest.mark.parametrize("value", [1.5, 255, -0.1, np.nan, np.inf])
def test_read_image_refuses_float_outside_0_to_1(value):
    assert "within 0–1" in refuse(encode(np.float32([[0, value]]), "TIFF"))


@pytest.mark.parametrize("values", [[0, 65536], [-1, 5]])
def test_read_image_refuses_integers_outside_16_bits(values):
    assert "within 0–65535" in refuse(encode(np.int32([values]), "TIFF"))


def test_read_image_reads_32_bit_integers_within_16_bits():
    assert read_grey(encode(np.int32([[0, 257, 65535]]), "TIFF")) == [0, 1, 255]


# Refusals


def test_read_image_names_a_missing_file(tmp_path):
    path = tmp_path / "absent.png"
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_image(path)


def test_read_image_refuses_a_folder(tmp_path):
    assert refuse(tmp_path) == "it is a folder, not a picture"


def test_read_image_refuses_an_empty_file(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    assert refuse(path) == "the file is empty"


def test_read_image_refuses_what_the_system_does_not_open(tmp_path, monkeypatch):
    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    assert refuse(tmp_path / "a.png") == "the file cannot be opened (Permission denied)"


def test_read_image_refuses_a_path_with_nul():
    assert "cannot be opened" in refuse("a\0b")


def test_read_image_refuses_a_huge_file_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(image, "MAX_BYTES", 10)
    path = tmp_path / "slide.tif"
    path.write_bytes(LOSSLESS["RGB tiff"])
    assert "bytes are more than 10" in refuse(path)


@pytest.mark.parametrize("data", [b"hello", b"GIF89a", b"P7\n", b"\x89PN", b"%PDF-1.7"])
def test_read_image_refuses_other_content(data):
    assert refuse(data).startswith("not a PNG, JPEG")


def test_read_image_takes_no_number_for_a_path():
    with pytest.raises(TypeError):
        read_image(0)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "MPO"])
def test_read_image_refuses_several_pictures(form):
    pages = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
    assert refuse(encode(RGB, form, **pages)).startswith("more than one picture")


def test_read_image_reads_ultra_hdr_as_one_picture():
    pages = {"save_all": True, "append_images": [Image.fromarray(GREY)]}
    gain = b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'
    segment = b"\xff\xe1" + struct.pack(">H", len(gain) + 2) + gain
    mpo = encode(RGB, "MPO", **pages)
    expected = read_image(encode(RGB, "JPEG"))
    np.testing.assert_array_equal(read_image(mpo[:2] + segment + mpo[2:]), expected)


def test_read_image_refuses_a_second_pgm_behind_the_first():
    assert refuse(LOSSLESS["L pgm"] + b"\n" + LOSSLESS["L pgm"]).startswith("more than one")


OVERSIZED = {
    "png": make_png((20000, 20000), b"", depth=8, colour=2),
    "bmp": LOSSLESS["RGB bmp"].replace(struct.pack("<2i", 17, 13), struct.pack("<2i", 9000, 9000)),
    "tiff": make_grey_tiff((9000, 9000), b"", bits=8),
    "jpeg": LOSSY["jpeg"].replace(struct.pack(">2H", 13, 17), struct.pack(">2H", 9000, 9000), 1),
    "webp": b"RIFF\0\0\0\0WEBPVP8X\x0a" + bytes(7) + b"\x27\x23\0" * 2,
    "webp lossy": b"RIFF\0\0\0\0WEBPVP8 " + bytes(7) + b"\x9d\x01\x2a\x28\x23\x28\x23",
    "webp lossless": b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"/" + b"\x27\xe3\xc9\x08",
    "pgm": b"P5 9000 9000 255 ",
    "ppm plain": b"P3 9000 9000 255 ",
}


@pytest.mark.parametrize("name", OVERSIZED)
def test_read_image_refuses_oversized_pictures_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "pixels are more than 50,000,000" in refuse(OVERSIZED[name])


@pytest.mark.parametrize("name", [name for name in LOSSLESS | LOSSY if "plain" not in name])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's, about cut TIFF directories
def test_read_image_refuses_truncated_files(name):
    data = (LOSSLESS | LOSSY)[name]
    whole = digest(read_image(data))
    for length in range(0, len(data), 3):
        try:
            found = digest(read_image(data[:length]))
        except UnreadableImageError:
            continue
        assert found == whole  # only padding or an end mark was missing
        assert length > len(data) - 8


def test_read_image_refuses_a_cut_pgm():
    assert refuse(LOSSLESS["L pgm"][:-1]) == "the PGM or PPM is truncated"


def test_read_image_refuses_a_cut_tiff_without_a_warning():
    tiff = make_grey_tiff((2, 3), bytes(6), bits=8)  # its directory is last
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refuse(tiff[:20]).startswith("the TIFF is truncated")


def test_read_image_refuses_a_tiff_with_missing_strips():
    whole = make_grey_tiff((2, 3), bytes(6), bits=8)
    strip_of_one_row = [struct.pack("<HHII", 278, 4, 1, rows) for rows in (3, 1)]
    assert read_grey(whole) == [0] * 6
    assert refuse(whole.replace(*strip_of_one_row)) == "parts of its 2×3 pixels are missing"


@pytest.mark.parametrize("colour", [0, 2], ids=["grey", "RGB"])
def test_read_image_gives_the_pixels_that_pillow_gives_of_a_plain_png(colour):
    rng = np.random.default_rng(3)
    rows = [bytes([i % 5]) + rng.bytes(31 * (1 + colour)) for i in range(20)]  # every row filter
    png = make_png((31, 20), b"".join(rows), depth=8, colour=colour)
    with Image.open(BytesIO(png)) as picture:
        np.testing.assert_array_equal(read_image(png), np.asarray(picture.convert("RGB")))


def test_read_image_refuses_a_large_png_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(image.cv2, "imdecode", pytest.fail)
    assert "20000×20000" in refuse(make_png((20000, 20000), b"", depth=8, colour=2))


def test_read_image_refuses_a_plain_png_whose_pixels_end_early():
    assert "truncated" in refuse(make_png((31, 20), b"\0" * 100, depth=8, colour=2))


def test_read_image_refuses_a_damaged_png():
    data = bytearray(LOSSLESS["RGB png"])
    data[len(data) // 2] ^= 1
    assert refuse(data) == "the PNG is damaged (checksum of chunk b'IDAT')"


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's, about damaged TIFF tags
def test_read_image_raises_nothing_else_on_damaged_bytes(name):
    data = (LOSSLESS | LOSSY)[name]
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        reach = min(64, len(data)) if rng.random() < 0.5 else len(data)  # half of it in the header
        damaged[rng.integers(reach, size=rng.integers(1, 6))] = rng.integers(256)
        try:
            pixels = read_image(damaged.tobytes())
        except UnreadableImageError:
            continue
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)


def test_read_image_reports_a_lack_of_memory(monkeypatch):
    def exhaust(*_):
        raise MemoryError

    monkeypatch.setattr(image, "_flatten", exhaust)
    assert "MemoryError" in refuse(LOSSLESS["RGB bmp"])


def test_unreadable_image_error_names_path_and_reason(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(ValueError, match=f"{path}: not a PNG") as caught:
        read_image(path)
    assert caught.value.path == str(path)
    with pytest.raises(UnreadableImageError, match="<bytes>"):
        read_image(b"")


def test_unreadable_image_error_survives_pickling():
    error = pickle.loads(pickle.dumps(UnreadableImageError("a.png", "the file is empty")))
    assert (error.path, error.reason) == ("a.png", "the file is empty")
    assert str(error) == "Cannot read a.png: the file is empty"


@pytest.mark.skipif("BCNET_TEST_DATA" not in os.environ, reason="BCNET_TEST_DATA is not set")
def test_read_image_equals_pillow_on_real_pictures():
    kinds = {".png", ".jpg", ".jpeg"}
    folder = Path(os.environ["BCNET_TEST_DATA"])
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in kinds][::20]
    assert paths
    for path in paths:
        with Image.open(path) as picture:
            np.testing.assert_array_equal(read_image(path), np.asarray(picture.convert("RGB")))
