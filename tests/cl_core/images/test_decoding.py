"""Image files as pixels: modes, depths, formats."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_core.images.decoding import FORMATS, LEFT_OUT, SUFFIXES, decode
from cl_core.model.pictures import batches


def decoded(path: Path, size: int = 32) -> np.ndarray:
    return decode(path.read_bytes(), size)[0]


@pytest.mark.parametrize(
    ("mode", "fill", "rgb"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("I;16", 257 * 77, (77, 77, 77)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, fill: int | tuple[int, ...], rgb: tuple[int, int, int]
) -> None:
    path = tmp_path / "image.png"
    Image.new(mode, (40, 50), fill).save(path)
    out = decoded(path)
    assert out.shape == (32, 32, 3)
    assert out.dtype == np.uint8
    assert out[16, 16].tolist() == list(rgb)


def test_a_palette_with_transparent_colours_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "solid.png")
    image.save(tmp_path / "clear.png", transparency=bytes([255, 0]))
    image.save(tmp_path / "key.gif", transparency=1)
    assert decoded(tmp_path / "solid.png")[5, 5].tolist() == [200, 100, 50]
    assert decoded(tmp_path / "clear.png")[5, 5].tolist() == [255, 255, 255]
    assert decoded(tmp_path / "key.gif")[5, 5].tolist() == [255, 255, 255]


def test_cmyk_is_read(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 0, 0, 255)).save(tmp_path / "print.jpg")
    assert decoded(tmp_path / "print.jpg").max() < 10


def test_an_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise: bright on the right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    out = decoded(tmp_path / "turned.png")
    assert out[:, :16].max() == 0
    assert out[:, 16:].min() == 255


def test_the_shorter_side_is_resized_and_the_centre_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 256, (64, 200, 3), dtype=np.uint8))
    wide.save(tmp_path / "wide.png")
    whole = np.asarray(wide.resize((100, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(decoded(tmp_path / "wide.png"), whole[:, 34:66])
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    inner = decoded(tmp_path / "checks.png")[2:-2, 2:-2]
    assert abs(inner.astype(int) - 127).max() <= 2  # antialiased: neither black nor white
    Image.fromarray(checks[:3, :3]).save(tmp_path / "small.png")
    assert decoded(tmp_path / "small.png").shape == (32, 32, 3)
    exact = rng.integers(0, 256, (32, 33, 3), dtype=np.uint8)
    Image.fromarray(exact).save(tmp_path / "exact.png")
    assert np.array_equal(decoded(tmp_path / "exact.png"), exact[:, :32])


def test_a_large_jpeg_is_close_to_the_same_picture_read_in_full(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (1600, 1600))).save(tmp_path / "large.jpg", quality=95)
    expected = ramp.reshape(32, 50).mean(axis=1)
    assert abs(decoded(tmp_path / "large.jpg")[16, :, 0] - expected).max() < 3


def write_png(path: Path, values: np.ndarray) -> None:
    """[H, W, 3] uint16 as a PNG of 16 bits a channel, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_16_bits_of_grey_are_scaled_by_their_range(tmp_path: Path) -> None:
    steps = np.repeat(np.array([0, 257, 257 * 128 + 256, 65535], np.uint16), 8)
    wide = np.broadcast_to(steps, (32, 32)).copy()
    for name in ("grey.png", "grey.tif", "grey.jp2"):
        Image.fromarray(wide).save(tmp_path / name)
        assert decoded(tmp_path / name)[0, ::8, 0].tolist() == [0, 1, 128, 255], name
    thousand = " ".join(str(v) for v in [0, 500, 1000, 1000])
    (tmp_path / "grey.pgm").write_text(f"P2\n4 1\n1000\n{thousand}\n")
    assert decode((tmp_path / "grey.pgm").read_bytes(), 1)[0].shape == (1, 1, 3)
    (tmp_path / "half.pgm").write_text("P2\n1 1\n1000\n500\n")
    assert decoded(tmp_path / "half.pgm", 1)[0, 0].tolist() == [127] * 3


def test_12_bits_of_grey_are_scaled_by_their_range(tmp_path: Path) -> None:
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x80, 0x10])  # 0, 4095, 2056, 16
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 6)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 14)
    (tmp_path / "a.tif").write_bytes(head + packed + struct.pack("<H", len(tags)) + entries + bytes(4))
    with Image.open(tmp_path / "a.tif") as image:
        assert np.asarray(image).tolist() == [[0, 4095, 2056, 16]]
    wide, _ = decode((tmp_path / "a.tif").read_bytes(), 1)
    assert wide[0, 0].tolist() == [255] * 3


def test_16_bits_of_colour_keep_their_upper_8(tmp_path: Path) -> None:
    colour = np.broadcast_to(np.array([0x1234, 0x8000, 0xFFFF], np.uint16), (32, 32, 3))
    write_png(tmp_path / "colour.png", colour)
    assert decoded(tmp_path / "colour.png")[5, 5].tolist() == [0x12, 0x80, 0xFF]


@pytest.mark.parametrize("largest", [1, 255, 4095])
def test_numbers_of_8_or_12_bits_in_16_are_refused_rather_than_black(tmp_path: Path, largest: int) -> None:
    Image.fromarray(np.full((32, 32), largest, np.uint16)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=f"up to {largest} of 65535, which is black; scale them"):
        decoded(tmp_path / "grey.png")
    write_png(tmp_path / "colour.png", np.full((32, 32, 3), largest, np.uint16))
    with pytest.raises(ValueError, match="of 65535, which is black; scale them"):
        decoded(tmp_path / "colour.png")


def test_a_black_image_of_16_bits_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(tmp_path / "black.png")
    assert decoded(tmp_path / "black.png").max() == 0


def test_16_bits_a_pixel_are_colours_of_a_known_range(tmp_path: Path) -> None:
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    head = struct.pack("<IiiHHIIiiII", 40, 32, 32, 1, 16, 3, 2048, 0, 0, 0, 0) + masks
    for colour, rgb in ((0, [0, 0, 0]), (0xF800, [255, 0, 0])):
        file = struct.pack("<2sIHHI", b"BM", 66 + 2048, 0, 0, 66) + head + struct.pack("<H", colour) * 1024
        (tmp_path / "a.bmp").write_bytes(file)
        assert decoded(tmp_path / "a.bmp")[5, 5].tolist() == rgb


@pytest.mark.parametrize(
    ("dtype", "said"), [(np.int32, "integers of 32 bits"), (np.float32, "floating-point pixels")]
)
def test_32_bits_are_refused_for_they_have_no_range(tmp_path: Path, dtype: type, said: str) -> None:
    Image.fromarray(np.full((32, 32), 200, dtype)).save(tmp_path / "wide.tif")
    with pytest.raises(ValueError, match=f"{said} have no known range; store 8 or 16 bits"):
        decoded(tmp_path / "wide.tif")


def test_predictions_see_the_pixels_that_training_sees(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 65536, (40, 50), dtype=np.uint16)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)).save(tmp_path / "clear.webp")
    write_png(tmp_path / "colour.png", rng.integers(0, 65536, (40, 50, 3), dtype=np.uint16))
    files = sorted(tmp_path.iterdir())
    (seen,) = batches(files, (3, 32, 32))
    for image, file in zip(seen, files, strict=True):
        assert np.array_equal(image, decoded(file)), file.name


def test_every_ending_that_pillow_opens_is_read_or_left_out_for_a_reason() -> None:
    Image.init()
    opened = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    left = {suffix for suffix, name in Image.registered_extensions().items() if name in LEFT_OUT}
    assert opened - left <= set(SUFFIXES)
    assert left.isdisjoint(SUFFIXES)
    assert set(FORMATS).isdisjoint(LEFT_OUT)
    assert len(set(SUFFIXES)) == len(SUFFIXES)


def test_a_picture_of_every_ending_that_pillow_writes_is_read(tmp_path: Path) -> None:
    Image.init()
    ramp = Image.fromarray(np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (64, 64)).copy())
    read = set()
    for suffix in SUFFIXES:
        for mode in ("RGB", "L", "1", "P"):  # the first that the format can hold
            path = tmp_path / f"image{suffix}"
            try:
                ramp.convert(mode).save(path)
            except (OSError, KeyError, ValueError):
                continue
            out = decoded(path)
            assert out.shape == (32, 32, 3)
            assert out[:, 16:].mean() > out[:, :16].mean() + 50, suffix
            read.add(suffix)
            break
    assert {".jpg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".tif", ".bmp", ".tga", ".jp2", ".pcx"} <= read


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    for name in ("a.gif", "a.webp", "a.apng", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        red, _, blue = decoded(tmp_path / name)[9, 9].tolist()
        assert red > 200 > 60 > blue, name


def test_no_program_is_run_on_a_postscript_file_with_an_images_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ValueError, match="unknown format"):
        decoded(tmp_path / "a.png")


def test_the_size_that_an_image_had_is_given_beside_its_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (500, 375)).save(tmp_path / "large.jpg")
    assert decode((tmp_path / "large.jpg").read_bytes(), 32)[1] == (500, 375)
