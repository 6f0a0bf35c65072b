"""Nothing outside the roots: one way out after the other."""

import os
from pathlib import Path

import pytest

from vit_lightning.studio.roots import Place, Roots


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root beside a folder that is none of its."""
    for name in ("root/pets/cat", "root/pets/dog", "secret/cat"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secret/cat/1.png").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    "way",
    ["..", "pets/../..", "pets/../../secret", "{outside}", "/", "~", "pets\0", "", "pets/../../root2", "/etc/passwd"],
)
def test_no_path_leads_outside(tree: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "root2").mkdir()  # its name begins like the root's
    roots = Roots(((tree / "root").resolve(),))
    monkeypatch.chdir(tree / "root")
    with pytest.raises(ValueError, match=r"lies outside|is no path"):
        roots.inside(way.format(outside=tree / "secret"))


def test_a_path_inside_is_its_real_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = Roots(((tree / "root").resolve(),))
    monkeypatch.chdir(tree / "root")
    assert roots.inside("pets/../pets") == (tree / "root/pets").resolve()
    assert roots.subfolders(tree / "root/pets") == ["cat", "dog"]


def test_a_link_to_outside_is_neither_listed_nor_entered(tree: Path) -> None:
    roots = Roots(((tree / "root").resolve(),))
    (tree / "root/way").symlink_to(tree / "secret")
    (tree / "root/.hidden").mkdir()
    assert roots.subfolders(tree / "root") == ["pets"]
    with pytest.raises(ValueError, match="lies outside"):
        roots.subfolders(tree / "root/way")


@pytest.mark.parametrize("link", ["pets/cat/1.png", "pets/cow", "pets/deep/er/1.png"])
def test_a_link_to_outside_below_a_data_set_is_refused_by_its_name(tree: Path, link: str) -> None:
    roots = Roots(((tree / "root").resolve(),))
    path = tree / "root" / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tree / "secret" / ("cat" if link == "pets/cow" else "cat/1.png"))
    with pytest.raises(ValueError, match=f"{os.path.relpath(path, tree / 'root/pets')}.* leads outside"):
        roots.check_tree(tree / "root/pets")


def test_links_behind_links_are_followed_once(tree: Path) -> None:
    roots = Roots(((tree / "root").resolve(),))
    (tree / "root/other").mkdir()
    (tree / "root/pets/cow").symlink_to(tree / "root/other")
    (tree / "root/other/round").symlink_to(tree / "root/pets")  # a circle
    assert roots.check_tree(tree / "root/pets") == (tree / "root/pets").resolve()
    (tree / "root/other/out").symlink_to(tree / "secret")
    with pytest.raises(ValueError, match="leads outside"):
        roots.check_tree(tree / "root/pets")


def test_of_runs_and_their_files_links_to_outside_are_left_out(tree: Path) -> None:
    logs = tree / "root/lightning_logs"
    for folder in (logs / "mine", tree / "theirs"):
        folder.mkdir(parents=True)
        (folder / "status.json").write_text('{"state": "finished"}')
    (logs / "linked").symlink_to(tree / "theirs")
    (logs / "mine/run.log").symlink_to(tree / "secret/cat/1.png")
    (logs / "mine/val_images.png").write_bytes(b"x")
    where = Place(Roots(((tree / "root").resolve(),)), logs)
    assert [run.name for run in where.runs()] == ["mine"]
    asked = ["mine", "linked", "none", "../lightning_logs/mine", ".."]
    assert [run.state for run in where.runs_named(asked).values()] == ["finished"]
    (run,) = where.runs()
    assert where.file_of(run, "val_images.png") == logs / "mine/val_images.png"
    assert where.file_of(run, "run.log") is None
    assert where.file_of(run, "../../../secret/cat/1.png") is None
