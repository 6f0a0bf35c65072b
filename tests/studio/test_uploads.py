"""What a browser sends: bounded in bytes, pixels and number before anything is decoded."""

import io
import struct
import zlib
from dataclasses import dataclass

import pytest
from PIL import Image

from vit_lightning.commands import studio
from vit_lightning.studio import uploads


@dataclass
class File:
    """What Streamlit gives of a file."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def getvalue(self) -> bytes:
        return self.content


def picture(width: int = 8, height: int = 8, form: str = "PNG") -> bytes:
    sent = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(sent, form)
    return sent.getvalue()


def announced(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose head announces so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_picture_is_kept_under_a_name_of_our_own_and_goes_away() -> None:
    with uploads.kept([File("../../etc/passwd", picture()), File("b.jpg", picture(form="JPEG"))]) as (taken, refused):
        assert refused == []
        assert [name for name, _ in taken] == ["../../etc/passwd", "b.jpg"]
        assert [path.name for _, path in taken] == ["0000", "0001"]
        assert all(path.is_file() for _, path in taken)
    assert not any(path.exists() for _, path in taken)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (announced(60_000, 60_000), "announces more pixels"),
        (announced(8_000, 8_000), "64 million pixels; 40 million are the most"),
        (b"%PDF-1.4", "no picture"),
        (b"", "no picture"),
        (b"\x80\x04\x95", "no picture"),  # a pickle's beginning
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),  # Pillow would start Ghostscript
    ],
)
def test_what_is_no_picture_or_a_bomb_is_refused_by_its_head(content: bytes, why: str) -> None:
    with uploads.kept([File("x.png", content), File("fine.png", picture())]) as (taken, refused):
        assert [name for name, _ in taken] == ["fine.png"]
        assert len(refused) == 1
        assert refused[0].startswith("x.png: ")
        assert why in refused[0]


def test_bytes_and_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_MB", 0)
    assert "0 MB are the most" in str(uploads.why_not(File("x.png", picture())))
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "PICTURES", 2)
    with uploads.kept([File(f"{number}.png", picture()) for number in range(3)]) as (taken, refused):
        assert len(taken) == 2
        assert refused == ["2.png: 2 pictures of 200 MB together are the most at once"]
    monkeypatch.setattr(uploads, "TOGETHER", 100)
    with uploads.kept([File(f"{number}.png", picture()) for number in range(3)]) as (taken, _):
        assert len(taken) == 100 // len(picture())


def test_the_server_is_told_the_bounds_and_to_keep_its_protection() -> None:
    asked = studio.STREAMLIT
    assert asked["server.maxUploadSize"] == "20"
    assert asked["server.enableXsrfProtection"] == asked["server.enableCORS"] == "true"
    assert asked["server.enableStaticServing"] == asked["browser.gatherUsageStats"] == "false"
    assert asked["client.showErrorDetails"] == "none"
