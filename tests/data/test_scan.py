"""Every picture is opened once before training: what is found, what is remembered, and when it is looked at again."""

import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from vit_lightning.data import scan
from vit_lightning.data.images import check_picture
from vit_lightning.data.scan import Scan, first_few, memory_file, read_memory, scan_pictures, write_unreadable

GOOD = ["a/0.png", "a/1.png", "b/0.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three good pictures of two classes."""
    for path in GOOD:
        (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "red").save(tmp_path / "set" / path)
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    names: list[str] = []

    def check(path: Path) -> str:
        names.append(f"{path.parent.name}/{path.name}")
        return check_picture(path)

    monkeypatch.setattr(scan, "check_picture", check)
    return names


def scanned(root: Path, cache: Path, *more: str) -> Scan:
    return scan_pictures(root, [*GOOD, *more], cache)


# What is found


def test_good_pictures_are_nothing_to_tell_of(root: Path, cache: Path) -> None:
    assert scanned(root, cache) == Scan({}, {})


def test_all_kinds_of_bad_files_are_found_with_their_reason(root: Path, cache: Path) -> None:
    (root / "b/text.jpg").write_text("no picture")
    (root / "a/empty.png").touch()
    Image.effect_noise((64, 64), 50).save(root / "a/cut.jpg")
    (root / "a/cut.jpg").write_bytes((root / "a/cut.jpg").read_bytes()[:-200])
    found = scanned(root, cache, "b/text.jpg", "a/empty.png", "a/cut.jpg", "a/gone.png")
    assert list(found.unreadable) == ["b/text.jpg", "a/empty.png", "a/cut.jpg", "a/gone.png"]
    text, empty, cut, gone = found.unreadable.values()
    assert text.startswith("its content is no BMP, GIF, JPEG")
    assert empty == "the file is empty"
    assert cut.startswith("image file is truncated")
    assert gone == "No such file or directory"
    assert found.misnamed == {}


def test_pictures_under_a_wrong_name_are_told_apart(root: Path, cache: Path) -> None:
    Image.new("RGB", (8, 6)).save(root / "a/2.jpg", "PNG")
    Image.new("RGB", (8, 6)).save(root / "a/3.JPEG", "JPEG")
    Image.new("RGB", (8, 6)).save(root / "a/4.PNG", "WEBP")
    Image.new("RGB", (8, 6)).save(root / "a/5", "GIF")  # a name that promises nothing
    for _ in range(2):  # the second time from memory
        found = scanned(root, cache, "a/2.jpg", "a/3.JPEG", "a/4.PNG", "a/5")
        assert found == Scan({}, {"a/2.jpg": "PNG", "a/4.PNG": "WEBP"})


# What is remembered


def test_a_picture_is_opened_once(root: Path, cache: Path, opened: list[str]) -> None:
    (root / "b/text.jpg").write_text("no picture")
    first = scanned(root, cache, "b/text.jpg")
    assert sorted(opened) == [*GOOD, "b/text.jpg"]
    opened.clear()
    assert scanned(root, cache, "b/text.jpg") == first
    assert list(first.unreadable) == ["b/text.jpg"]
    assert opened == []


def test_only_what_is_new_or_changed_is_opened_again(root: Path, cache: Path, opened: list[str]) -> None:
    scanned(root, cache)
    opened.clear()
    Image.new("RGB", (8, 6)).save(root / "b/1.png")
    content = (root / "a/0.png").read_bytes()
    (root / "a/0.png").write_bytes(content[:-30] + bytes(30))  # of the same size
    os.utime(root / "a/0.png", ns=(0, (root / "a/1.png").stat().st_mtime_ns + 1))
    status = (root / "a/1.png").stat()
    (root / "a/1.png").write_bytes(b"")  # of the same time
    os.utime(root / "a/1.png", ns=(0, status.st_mtime_ns))
    found = scanned(root, cache, "b/1.png")
    assert sorted(opened) == ["a/0.png", "a/1.png", "b/1.png"]
    assert found.unreadable["a/1.png"] == "the file is empty"
    (root / "a/1.png").write_bytes(content)
    assert list(scanned(root, cache, "b/1.png").unreadable) == ["a/0.png"]


def test_another_root_has_a_memory_of_its_own(root: Path, cache: Path, opened: list[str], tmp_path: Path) -> None:
    scanned(root, cache)
    (tmp_path / "other").mkdir()
    other = root.rename(tmp_path / "other" / "set")
    opened.clear()
    scanned(other, cache)
    assert sorted(opened) == GOOD
    assert memory_file(cache, other) != memory_file(cache, root)
    assert {path.name.rpartition("-")[0] for path in (cache / "scans").iterdir()} == {"set"}


def test_one_root_has_one_memory_however_it_is_named(
    root: Path, cache: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(root, cache)
    opened.clear()
    monkeypatch.chdir(root.parent)
    scanned(Path("set"), cache)
    assert opened == []


def test_a_part_of_the_files_leaves_the_memory_of_the_others(root: Path, cache: Path, opened: list[str]) -> None:
    scanned(root, cache)
    Image.new("RGB", (8, 6)).save(root / "b/1.png")
    scan_pictures(root, ["b/1.png"], cache)
    opened.clear()
    scanned(root, cache, "b/1.png")
    assert opened == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe garbage",
        b"{",
        b"[]",
        b"null",
        b'{"files": {}}',
        b'{"reader": "READER", "files": []}',
        b'{"reader": "READER", "files": {"a/0.png": 7}}',
        b'{"reader": "READER", "files": {"a/0.png": [1, 2]}}',
        b'{"reader": "READER", "files": {"a/0.png": ["x", 2, "", ""]}}',
        b'{"reader": "0, Pillow 1.0", "files": SAME}',
    ],
)
def test_a_memory_that_is_of_no_use_is_built_anew(
    root: Path, cache: Path, opened: list[str], content: bytes, told: list[tuple[str, str]]
) -> None:
    scanned(root, cache)
    memory = memory_file(cache, root)
    same = json.dumps(json.loads(memory.read_text())["files"])
    memory.write_bytes(content.replace(b"READER", scan.READER.encode()).replace(b"SAME", same.encode()))
    opened.clear()
    assert scanned(root, cache) == Scan({}, {})
    assert sorted(opened) == GOOD
    opened.clear()
    scanned(root, cache)
    assert opened == []
    assert told == []


def test_what_the_system_refused_is_tried_again(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    """A permission can be given without a change of size or time."""

    def refuse(path: Path) -> str:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return check_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(scan, "check_picture", refuse)
        assert scanned(root, cache).unreadable == {"a/1.png": "Permission denied"}
    opened.clear()
    assert scanned(root, cache) == Scan({}, {})
    assert opened == ["a/1.png"]


def test_a_scan_that_was_broken_off_goes_on_where_it_stopped(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    def stop(path: Path) -> str:
        if path.parent.name == "b":
            time.sleep(0.2)  # the others are done by then
            raise KeyboardInterrupt
        return check_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(scan, "check_picture", stop)
        with pytest.raises(KeyboardInterrupt):
            scanned(root, cache)
    opened.clear()
    scanned(root, cache)
    assert opened == ["b/0.png"]


@pytest.mark.parametrize("where", ["in a picture", "in between"])
def test_breaking_off_does_not_wait_for_the_rest(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    began: list[Path] = []

    def check(path: Path) -> str:
        began.append(path)
        time.sleep(0.05)
        if where == "in a picture":
            raise KeyboardInterrupt
        return "PNG"

    @contextmanager
    def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
        yield interrupt

    def interrupt(units: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, "check_picture", check)
    monkeypatch.setattr(scan, "track", track)
    monkeypatch.setattr(scan, "UNTOLD", 0)
    with pytest.raises(KeyboardInterrupt):
        scan_pictures(root, [f"a/{number}.png" for number in range(300)], cache)
    assert len(began) < 40


@pytest.mark.parametrize("obstacle", ["folder is a file", "disk is full"])
def test_a_cache_that_cannot_be_written_costs_time_only(
    root: Path, cache: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    (root / "b/text.jpg").write_text("no picture")
    if obstacle == "folder is a file":
        cache.touch()
    else:
        monkeypatch.setattr(Path, "replace", fail)
    for _ in range(2):
        assert list(scanned(root, cache, "b/text.jpg").unreadable) == ["b/text.jpg"]
    assert [level for level, _ in told] == ["WARNING"] * 2
    why = "No space left on device" if obstacle == "disk is full" else "Not a directory"
    assert told[0][1] == (
        f"what the look through the pictures gave cannot be kept for next time in {cache}/scans ({why}); choose "
        "another folder with --data.cache_dir"
    )
    assert cache.is_file() or list((cache / "scans").iterdir()) == []


def test_nobody_ever_reads_half_a_memory(root: Path, cache: Path) -> None:
    """Two processes write a memory of some 3,000 files again and again while it is read."""
    program = (
        "import sys, time; from pathlib import Path; from vit_lightning.data.scan import write_memory\n"
        "end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end:\n"
        "    found = {f'{sys.argv[2]}/{number}.png': (number, 7, 'PNG', '') for number in range(1500)}\n"
        "    write_memory(Path(sys.argv[1]), found)\n"
    )
    memory = memory_file(cache, root)
    command = [sys.executable, "-c", program, str(memory)]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "ab"]
    sizes = set()
    while any(writer.poll() is None for writer in writers):
        if memory.exists():
            sizes.add(len(json.loads(memory.read_text())["files"]))
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, "")
    assert sizes <= {1500, 3000}
    assert len(sizes) > 0
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]
    assert len(read_memory(memory)) in (1500, 3000)


# How it goes about


def test_pictures_are_opened_beside_one_another(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two waits for the other."""
    barrier = threading.Barrier(2)

    def wait(path: Path) -> str:
        barrier.wait(timeout=20)
        return "PNG"

    monkeypatch.setattr(scan, "check_picture", wait)
    assert scan_pictures(root, GOOD[:2], cache) == Scan({}, {})


def test_a_long_scan_says_how_far_it_is(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    @contextmanager
    def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
        seen.extend((description, total))
        yield seen.append

    monkeypatch.setattr(scan, "track", track)
    scanned(root, cache)
    assert seen == []
    monkeypatch.setattr(scan, "UNTOLD", 2)
    scanned(root, cache)
    assert seen == []  # nothing is left to open
    memory_file(cache, root).unlink()
    scanned(root, cache)
    assert seen == ["looking whether 3 pictures can be read (done once for every file)", 3, 1, 1, 1]


def test_nothing_of_torch_is_needed(tmp_path: Path) -> None:
    program = "import sys, vit_lightning.data.scan; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


# What is told


def test_the_list_is_a_csv_that_can_be_added_to(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "unreadable.csv"
    write_unreadable(path, {"a/1.jpg": "is empty, and so on"})
    write_unreadable(path, {"b/\u00fc.jpg": 'says "no"'}, append=True)
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"path": "a/1.jpg", "reason": "is empty, and so on"},
            {"path": "b/\u00fc.jpg", "reason": 'says "no"'},
        ]


def test_the_first_few_are_told_with_their_reason() -> None:
    reasons = {f"{number}.jpg": "empty" for number in range(4)}
    assert first_few(reasons, 4) == "0.jpg (empty), 1.jpg (empty), 2.jpg (empty), 3.jpg (empty)"
    assert first_few(reasons) == "0.jpg (empty), 1.jpg (empty), 2.jpg (empty), ..."
