"""From a file to upright RGB: formats, modes, orientations, and what is said of files that are no pictures."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vit_lightning.data.images import check_picture, load_image, typical_size

# What Pillow says of broken files, which the last test keeps from the terminal; pytest resets the filters.
pytestmark = pytest.mark.filterwarnings("ignore:.*(EXIF|Truncated File)")

LEFT, RIGHT = (200, 30, 60), (20, 180, 90)


def halves(left: Any = LEFT, right: Any = RIGHT, mode: str = "RGB") -> Image.Image:
    """A picture of 32 x 16 pixels with a left and a right half."""
    image = Image.new(mode, (32, 16), left)
    image.paste(right, (16, 0, 32, 16))
    return image


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    """What `load_image` makes of a file: (H, W, 3)."""
    image = load_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def assert_halves(
    path: Path, left: tuple[int, int, int] = LEFT, right: tuple[int, int, int] = RIGHT, tolerance: int = 0
) -> None:
    """Where the format is lossy, the columns beside the edge are left out: colours of half resolution mix there."""
    found = pixels(path).astype(int)
    assert found.shape == (16, 32, 3)
    difference = np.abs(found - np.array([left] * 16 + [right] * 16))
    if tolerance > 1:
        difference[:, 14:18] = 0
    assert difference.max() <= tolerance, found[0]


def png(bits: int, colour_type: int, rows: list[bytes], width: int, more: bytes = b"") -> bytes:
    """A PNG by the book: signature, header, further chunks, unfiltered rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(more[:4], more[4:]) if more else b"")
        + chunk(b"IDAT", content)
        + chunk(b"IEND", b"")
    )


# Formats


@pytest.mark.parametrize(
    ("name", "content", "settings", "tolerance"),
    [
        ("photo.JPG", "JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("photo.Jpeg", "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 6),
        ("drawing.PNG", "PNG", {}, 0),
        ("drawing.bmp", "BMP", {}, 0),
        ("drawing.GIF", "GIF", {}, 0),
        ("scan.TIF", "TIFF", {}, 0),
        ("scan.tiff", "TIFF", {"compression": "tiff_lzw"}, 0),
        ("scan.tif", "TIFF", {"compression": "jpeg", "quality": 95}, 6),
        ("web.WEBP", "WEBP", {"lossless": True}, 0),
        ("web.webp", "WEBP", {"quality": 95}, 6),
    ],
)
def test_every_format_keeps_its_colours(
    tmp_path: Path, name: str, content: str, settings: dict[str, Any], tolerance: int
) -> None:
    halves().save(tmp_path / name, **settings)
    assert_halves(tmp_path / name, tolerance=tolerance)
    assert check_picture(tmp_path / name) == content


def test_content_counts_more_than_the_name(tmp_path: Path) -> None:
    halves().save(tmp_path / "photo.jpg", "PNG")
    assert_halves(tmp_path / "photo.jpg")
    assert check_picture(tmp_path / "photo.jpg") == "PNG"


@pytest.mark.parametrize(
    ("name", "settings"), [("moving.gif", {}), ("pages.tif", {}), ("moving.webp", {"lossless": True})]
)
def test_of_several_pictures_the_first_is_taken(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    others = [halves("black", "white"), halves("white", "black")]
    halves().save(tmp_path / name, save_all=True, append_images=others, **settings)
    with Image.open(tmp_path / name) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert_halves(tmp_path / name)


def test_a_camera_s_double_picture_is_a_jpeg(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"quality": 95, "subsampling": 0}
    halves().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[halves("black", "white")], **settings)
    with Image.open(tmp_path / "phone.jpg") as image:
        assert image.format == "MPO"
    assert_halves(tmp_path / "phone.jpg", tolerance=6)
    assert check_picture(tmp_path / "phone.jpg") == "JPEG"


# Modes


@pytest.mark.parametrize(
    ("mode", "left", "right", "rgb_left", "rgb_right"),
    [
        ("RGB", LEFT, RIGHT, LEFT, RIGHT),
        ("L", 77, 200, (77, 77, 77), (200, 200, 200)),
        ("1", 0, 1, (0, 0, 0), (255, 255, 255)),
        # over white: 255 - share * (255 - colour), the share being 0, 1 or 51 / 255 = 0.2
        ("RGBA", (10, 200, 30, 0), (10, 200, 30, 255), (255, 255, 255), (10, 200, 30)),
        ("RGBA", (0, 0, 0, 51), (55, 255, 155, 51), (204, 204, 204), (215, 255, 235)),
        ("LA", (0, 0), (77, 255), (255, 255, 255), (77, 77, 77)),
        ("LA", (0, 51), (155, 51), (204, 204, 204), (235, 235, 235)),
    ],
)
@pytest.mark.parametrize("name", ["picture.png", "picture.tif"])
def test_every_mode_becomes_rgb_over_white(
    tmp_path: Path, name: str, mode: str, left: Any, right: Any, rgb_left: Any, rgb_right: Any
) -> None:
    halves(left, right, mode).save(tmp_path / name)
    assert_halves(tmp_path / name, rgb_left, rgb_right, tolerance=int(mode in ("RGBA", "LA")))


@pytest.mark.parametrize("name", ["picture.png", "picture.gif", "picture.bmp", "picture.tif"])
def test_a_palette_becomes_its_colours(tmp_path: Path, name: str) -> None:
    image = halves(1, 2, "P")
    image.putpalette([0, 0, 0, *LEFT, *RIGHT])
    image.save(tmp_path / name)
    assert_halves(tmp_path / name)


@pytest.mark.parametrize("name", ["picture.png", "picture.gif"])
def test_a_palette_s_transparent_colour_becomes_white(tmp_path: Path, name: str) -> None:
    image = halves(1, 2, "P")
    image.putpalette([0, 0, 0, *LEFT, *RIGHT])
    image.save(tmp_path / name, transparency=2)
    assert_halves(tmp_path / name, LEFT, (255, 255, 255))


def test_a_palette_s_half_transparent_colours_are_laid_over_white(tmp_path: Path) -> None:
    image = halves(0, 1, "P")
    image.putpalette([0, 0, 0, 55, 255, 155])
    image.save(tmp_path / "picture.png", transparency=bytes([255, 51]))
    assert_halves(tmp_path / "picture.png", (0, 0, 0), (215, 255, 235), tolerance=1)


def test_a_transparent_colour_without_an_alpha_channel_becomes_white(tmp_path: Path) -> None:
    halves().save(tmp_path / "picture.png", transparency=RIGHT)
    assert_halves(tmp_path / "picture.png", LEFT, (255, 255, 255))


@pytest.mark.parametrize(("name", "tolerance"), [("print.tif", 0), ("print.jpg", 3)])
def test_printing_colours_become_their_complements(tmp_path: Path, name: str, tolerance: int) -> None:
    """Full cyan is red's complement, and no ink at all is white."""
    halves((255, 0, 0, 0), (0, 0, 0, 0), "CMYK").save(tmp_path / name)
    assert_halves(tmp_path / name, (0, 255, 255), (255, 255, 255), tolerance)
    halves((0, 0, 0, 255), (0, 255, 255, 0), "CMYK").save(tmp_path / name)
    assert_halves(tmp_path / name, (0, 0, 0), (255, 0, 0), tolerance)


DEEP = [0, 255, 256, 257 * 100, 32768, 65535]
SHALLOW = [0, 0, 1, 100, 128, 255]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, name: str, order: str) -> None:
    content = np.array([DEEP], dtype=f"{order}u2").tobytes()
    mode = "I;16" if order == "<" else "I;16B"
    Image.frombytes(mode, (6, 1), content).save(tmp_path / name)
    assert pixels(tmp_path / name)[0].tolist() == [[value] * 3 for value in SHALLOW]


def test_sixteen_bit_colours_are_scaled(tmp_path: Path) -> None:
    row = struct.pack(">6H", *DEEP)
    (tmp_path / "rgb.png").write_bytes(png(16, 2, [row], 2))
    assert pixels(tmp_path / "rgb.png")[0].tolist() == [SHALLOW[:3], SHALLOW[3:]]
    row = struct.pack(">8H", 0, 65535, 256, 65535, 0, 0, 0, 0)
    (tmp_path / "rgba.png").write_bytes(png(16, 6, [row], 2))
    assert pixels(tmp_path / "rgba.png")[0].tolist() == [[0, 255, 1], [255, 255, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_few_bits_of_grey_reach_from_black_to_white(tmp_path: Path, bits: int) -> None:
    (tmp_path / "grey.png").write_bytes(png(bits, 0, [bytes([(1 << bits) - 1])], 8 // bits))
    found = pixels(tmp_path / "grey.png")[0, :, 0].tolist()
    assert found == [0] * (8 // bits - 1) + [255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.0, 254.6], [0, 51, 255]),
    ],
)
def test_floating_point_counts_to_1_or_255(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "measured.tif")
    assert pixels(tmp_path / "measured.tif")[0].tolist() == [[value] * 3 for value in expected]


def test_whole_numbers_of_32_bits_count_as_16(tmp_path: Path) -> None:
    Image.fromarray(np.array([DEEP], dtype=np.int32)).save(tmp_path / "measured.tif")
    assert pixels(tmp_path / "measured.tif")[0].tolist() == [[value] * 3 for value in SHALLOW]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[-0.5, 1.0]], dtype=np.float32), "its values go from -0.5 to 1; expected 0 to 1 or 0 to 255"),
        (np.array([[0.0, 300.0]], dtype=np.float32), "its values go from 0 to 300; expected 0 to 1 or 0 to 255"),
        (np.array([[0.0, np.nan]], dtype=np.float32), "its values go from nan to nan; expected"),
        (np.array([[0, 65536]], dtype=np.int32), "its values go from 0 to 65536; expected 0 to 65535"),
        (np.array([[-1, 7]], dtype=np.int32), "its values go from -1 to 7; expected 0 to 65535"),
    ],
)
def test_values_of_no_known_range_are_refused(tmp_path: Path, values: npt.NDArray[Any], message: str) -> None:
    Image.fromarray(values).save(tmp_path / "measured.tif")
    with pytest.raises(OSError, match=message):
        load_image(tmp_path / "measured.tif")


# Orientation


UPRIGHT = [
    (1, [["red", "lime", "blue"], ["white", "black", "yellow"]]),
    (2, [["blue", "lime", "red"], ["yellow", "black", "white"]]),
    (3, [["yellow", "black", "white"], ["blue", "lime", "red"]]),
    (4, [["white", "black", "yellow"], ["red", "lime", "blue"]]),
    (5, [["red", "white"], ["lime", "black"], ["blue", "yellow"]]),
    (6, [["white", "red"], ["black", "lime"], ["yellow", "blue"]]),
    (7, [["yellow", "blue"], ["black", "lime"], ["white", "red"]]),
    (8, [["blue", "yellow"], ["lime", "black"], ["red", "white"]]),
]
COLOURS = {
    "red": (255, 0, 0),
    "lime": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "yellow": (255, 255, 0),
}


@pytest.mark.parametrize(("orientation", "upright"), UPRIGHT)
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.tif"])
def test_a_camera_s_orientation_is_undone(
    tmp_path: Path, name: str, orientation: int, upright: list[list[str]]
) -> None:
    """A picture of 3 x 2 squares of 16 pixels, looked at in their middles."""
    image = Image.new("RGB", (48, 32))
    for x, column in enumerate((("red", "white"), ("lime", "black"), ("blue", "yellow"))):
        for y, colour in enumerate(column):
            image.paste(COLOURS[colour], (16 * x, 16 * y, 16 * x + 16, 16 * y + 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / name, exif=exif, quality=95)
    found = pixels(tmp_path / name)
    assert found.shape == (16 * len(upright), 16 * len(upright[0]), 3)
    expected = [[COLOURS[colour] for colour in row] for row in upright]
    assert np.abs(found[8::16, 8::16].astype(int) - np.array(expected)).max() <= 6


def test_deep_grey_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 25700]], dtype=np.uint16)).save(tmp_path / "xray.png", exif=exif)
    assert pixels(tmp_path / "xray.png")[..., 0].tolist() == [[0], [100]]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"MM\0*\0\0\0\x08\0\x02\x01\x12", b"MM\0*\xff\xff\xff\xff"])
def test_a_broken_orientation_does_no_harm(tmp_path: Path, content: bytes) -> None:
    halves().save(tmp_path / "photo.jpg", exif=b"Exif\0\0" + content, quality=95, subsampling=0)
    assert_halves(tmp_path / "photo.jpg", tolerance=6)


# What is no readable picture


def test_the_file_is_closed_and_the_picture_still_there(tmp_path: Path) -> None:
    halves().save(tmp_path / "picture.png")
    image = load_image(tmp_path / "picture.png")
    (tmp_path / "picture.png").unlink()
    assert image.getpixel((0, 0)) == LEFT


NO_PICTURES = [
    (b"", "the file is empty"),
    (b"no picture at all", "its content is no BMP, GIF, JPEG, PNG, TIFF or WEBP picture"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a picture in HEIC, which is not read here; convert it to JPEG"),
    (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "it is a picture in AVIF, which is not read here; convert it to JPEG"),
    (b"\0\0\0\x20ftypisom\0\0\0\0isomiso2", "its content is no BMP"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "its content is no BMP"),
    (b"\xff\xd8\xff", "Truncated File Read|its content is no BMP"),
    (png(8, 2, [b"\1\2\3" * 30000] * 30000, 30000)[:200], r"Image size \(900000000 pixels\) exceeds limit"),
]


@pytest.mark.parametrize(("content", "reason"), NO_PICTURES)
def test_what_is_no_picture_is_said_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError, match=rf"^{path} cannot be read: ({reason})[^\n]*; mend it or take it away$"):
        load_image(path)
    with pytest.raises(OSError, match=rf"^({reason})") as caught:
        check_picture(path)
    assert caught.value.errno is None
    assert str(path) not in str(caught.value)


def test_what_the_system_refuses_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        load_image(tmp_path / "missing.jpg")
    with pytest.raises(IsADirectoryError):
        check_picture(tmp_path)


def test_an_avif_picture_is_refused_wherever_pillow_could_read_it(tmp_path: Path) -> None:
    halves().save(tmp_path / "new.jpg", "AVIF")
    with pytest.raises(OSError, match="in AVIF, which is not read here"):
        load_image(tmp_path / "new.jpg")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.gif", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {}),
    ],
)
def test_a_missing_end_is_found(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    """In every format; 25 bytes are more than a PNG's last chunks, without which all pixels are there."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name, **settings)
    whole = (tmp_path / name).read_bytes()
    check_picture(tmp_path / name)
    for missing in (25, 26, 100, len(whole) // 2, len(whole) - 60):
        (tmp_path / name).write_bytes(whole[:-missing])
        for read in (check_picture, load_image):
            with pytest.raises(OSError, match=r"[a-z]") as caught:
                read(tmp_path / name)
            assert caught.value.errno is None


@pytest.mark.parametrize("missing", [1, 2, 3, 10])
def test_a_jpeg_s_last_bytes_are_missed_at_an_eighth_too(tmp_path: Path, missing: int) -> None:
    """On a smooth picture as well, whose lower half takes few bytes."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((800, 600)).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[:-missing])
    with pytest.raises(OSError, match="truncated"):
        check_picture(tmp_path / "a.jpg")


def test_nothing_is_said_beside_the_error(tmp_path: Path) -> None:
    """Neither Pillow's warnings nor its log reach the terminal, whatever the warnings are set to. No torch either."""
    halves().save(tmp_path / "exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12")
    halves().save(tmp_path / "large.png")
    buffer = io.BytesIO()
    halves().save(buffer, "TIFF", compression="tiff_lzw")
    (tmp_path / "cut.tif").write_bytes(buffer.getvalue()[:-40])
    halves().save(tmp_path / "odd.tif")
    samples = struct.pack("<HHIHH", 277, 3, 1, 3, 0)  # the tag of samples in a pixel: one short number, 3
    content = (tmp_path / "odd.tif").read_bytes()
    assert samples in content
    (tmp_path / "odd.tif").write_bytes(content.replace(samples, struct.pack("<HHIHH", 277, 3, 1, 99, 0)))
    program = (
        "import sys\n"
        "from PIL import Image\n"
        "from vit_lightning.data.images import load_image\n"
        "Image.MAX_IMAGE_PIXELS = 300\n"  # large.png has 512: more than that, and less than twice as many
        "for path in sys.argv[1:]:\n"
        "    try: load_image(path); print('read')\n"
        "    except OSError: print('refused')\n"
        "print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-W", "always", "-c", program]
    paths = [str(tmp_path / name) for name in ("exif.jpg", "large.png", "cut.tif", "odd.tif")]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["read", "read", "refused", "refused", "False"]
    assert done.stderr == ""


def save_sizes(folder: Path, *sizes: tuple[int, int], **settings: Any) -> list[Path]:
    """Pictures of these heights and widths."""
    paths = [folder / f"{number}.jpg" for number in range(len(sizes))]
    for path, (height, width) in zip(paths, sizes, strict=True):
        Image.new("RGB", (width, height)).save(path, **settings)
    return paths


@pytest.mark.parametrize(
    ("sizes", "typical"),
    [
        ([(20, 30), (24, 36), (200, 300)], (24, 36)),  # of one shape: the medians
        ([(20, 30)] * 6 + [(30, 20)] * 4, (24, 24)),  # upright and lying ones: a square of the area, 24.5 x 24.5
        ([(20, 30)] * 39 + [(30, 20)], (20, 30)),  # one of forty does not count
    ],
)
def test_the_typical_size_is_the_medians(
    tmp_path: Path, sizes: list[tuple[int, int]], typical: tuple[int, int]
) -> None:
    assert typical_size(save_sizes(tmp_path, *sizes)) == typical


def test_the_typical_size_is_that_of_upright_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert typical_size(save_sizes(tmp_path, (20, 30), exif=exif)) == (30, 20)


def test_the_typical_size_is_of_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert typical_size([tmp_path / "broken.jpg", tmp_path / "missing.jpg"]) is None
    assert typical_size([tmp_path / "broken.jpg", *save_sizes(tmp_path, (20, 30))]) == (20, 30)


def test_the_typical_size_is_seen_from_end_to_end(tmp_path: Path) -> None:
    paths = save_sizes(tmp_path, *[(20, 30)] * 3, *[(40, 60)] * 7)
    assert typical_size(paths, most=3) == (40, 60)
