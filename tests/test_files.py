"""A reader sees the old file or the new one."""

import errno
import os
from pathlib import Path

import pytest

from vit_lightning.files import kept_in, replacing, write_text


def test_the_name_stands_for_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path  # another disk could not be renamed from in one step
        assert path.read_text() == "old"
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_what_broke_off(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_text(path, "Grüße")

    def break_off() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text(encoding="utf-8") == "Grüße"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"


def test_a_missing_folder_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "status.json", "text")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".tmp1", None, "tmp2"), "No space left on device"),
        (OSError("a library's own words"), "a library's own words"),
        (NotImplementedError("no locks"), "no locks"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_without_temporary_names(error: Exception, why: str) -> None:
    message = f"^frames cannot be kept in cache [(]{why}[)]; choose another$"
    with pytest.raises(ValueError, match=message), kept_in(Path("cache"), "frames", "choose another"):
        raise error
