"""Films below the roots, and their time line."""

from pathlib import Path

import pytest

from vit_lightning.data.video import VIDEOS
from vit_lightning.studio.films import DRAWN, ENDINGS, films_in, time_line
from vit_lightning.studio.roots import Roots


def test_the_endings_are_those_that_predict_takes() -> None:
    assert set(ENDINGS) == set(VIDEOS)


def test_films_are_listed_but_for_links_to_elsewhere(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "deeper.mp4", outside):
        folder.mkdir(parents=True)
    for path in (inside / "b.MP4", inside / "a.mkv", inside / "a.txt", inside / ".hidden.mp4", outside / "secret.mp4"):
        path.touch()
    (inside / "link.mp4").symlink_to(outside / "secret.mp4")
    (inside / "own.mp4").symlink_to(inside / "a.mkv")
    roots = Roots((inside.resolve(),))
    assert films_in(inside, roots) == ["a.mkv", "b.MP4", "own.mp4"]
    with pytest.raises(ValueError, match="lies outside the root"):
        films_in(outside, roots)


def test_a_time_line_has_a_row_a_class(tmp_path: Path) -> None:
    table = tmp_path / "0001.csv"
    table.write_text(
        "path,label,index,confidence,label_2,confidence_2,time\nf.mp4,'=a,0,0.75,b,0.25,0.000000\n"
        "f.mp4,b,1,0.6,'=a,0.4,1.500000\npicture.png,b,1,0.9,'=a,0.1,\n"
    )
    assert time_line(table) == [
        {"time": 0.0, "class": "=a", "share": 0.75},
        {"time": 0.0, "class": "b", "share": 0.25},
        {"time": 1.5, "class": "b", "share": 0.6},
        {"time": 1.5, "class": "=a", "share": 0.4},
    ]


def test_pictures_have_none_and_long_films_are_thinned_out(tmp_path: Path) -> None:
    table = tmp_path / "0001.csv"
    table.write_text("path,label,index,confidence\na.png,a,0,0.9\n")
    assert time_line(table) == []
    rows = "".join(f"f.mp4,a,0,0.9,{second}\n" for second in range(3 * DRAWN))
    table.write_text(f"path,label,index,confidence,time\n{rows}")
    assert [row["time"] for row in time_line(table)] == list(range(0, 3 * DRAWN, 3))


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001.csv").write_text("time,label,confidence\n1,a,much\n")
    with pytest.raises(ValueError, match="no table of predictions"):
        time_line(tmp_path / "0001.csv")
