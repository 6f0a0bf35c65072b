"""Mistakes of a tested run, and the labels that are put right beside them."""

from pathlib import Path

import pytest

from vit_lightning.runs import Run, read_status
from vit_lightning.studio.labels import Mistake, classes_of, doubts, mistakes, picture_of, read_labels, write_labels
from vit_lightning.studio.roots import Place, Roots
from vit_lightning.studio.views.mistakes import again

TABLE = """path,group,label,predicted,confidence,a,b
a/1.jpg,,a,b,0.6,0.4,0.6
./=cmd.jpg,,a,'=b,0.9,0.1,0.9
a/3.jpg,,a,a,0.99,0.99,0.01
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "lightning_logs/one"
    (folder / "report").mkdir(parents=True)
    (folder / "status.json").write_text('{"state": "finished", "data": {"root": "%s"}}' % (tmp_path / "set"))
    (folder / "report/predictions.csv").write_text(TABLE)
    (tmp_path / "set/a").mkdir(parents=True)
    return Run(folder, read_status(folder / "status.json"))


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(Roots((tmp_path.resolve(),)), tmp_path / "lightning_logs")


def test_the_surest_mistakes_come_first_and_names_are_read_back(run: Run, here: Place) -> None:
    assert mistakes(run, here) == [Mistake("=cmd.jpg", "a", "=b", 0.9), Mistake("a/1.jpg", "a", "b", 0.6)]


def test_labels_are_kept_changed_and_taken_back(run: Run, here: Place) -> None:
    path = write_labels(run, here, {"a/1.jpg": "b", "=cmd.jpg": "=b", "a/3.jpg": ""})
    assert path == run.folder / "corrections/labels.csv"
    assert path.read_text() == "path,label\n./=cmd.jpg,'=b\na/1.jpg,b\n"  # no spreadsheet computes anything
    assert read_labels(run, here) == {"=cmd.jpg": "=b", "a/1.jpg": "b"}
    write_labels(run, here, {"a/1.jpg": "", "x.jpg": "a"})
    assert read_labels(run, here) == {"=cmd.jpg": "=b", "x.jpg": "a"}


def test_labels_that_a_run_was_trained_with_stay_and_go_on_to_the_next(run: Run, here: Place) -> None:
    """`labels.csv` in the run's folder is what `test` scores it by: corrections are for the next run alone."""
    (run.folder / "labels.csv").write_text("path,label\na/1.jpg,b\na/2.jpg,b\n")
    path = write_labels(run, here, {"a/1.jpg": "c", "a/3.jpg": "b"})
    assert (run.folder / "labels.csv").read_text() == "path,label\na/1.jpg,b\na/2.jpg,b\n"
    assert path.read_text() == "path,label\na/1.jpg,c\na/2.jpg,b\na/3.jpg,b\n"
    write_labels(run, here, {"a/1.jpg": "", "a/3.jpg": ""})
    assert read_labels(run, here) == {"a/1.jpg": "b", "a/2.jpg": "b"}


def test_a_folder_of_corrections_that_is_a_link_is_refused(run: Run, here: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run.folder / "corrections").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        write_labels(run, here, {"a/1.jpg": "b"})
    assert not any((tmp_path / "elsewhere").iterdir())


def test_labels_do_not_go_through_a_link(run: Run, here: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("mine")
    (run.folder / "corrections").mkdir()
    (run.folder / "corrections/labels.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(ValueError, match="is a link"):
        write_labels(run, here, {"a/1.jpg": "b"})
    assert (tmp_path / "elsewhere.csv").read_text() == "mine"


def test_a_file_of_another_kind_is_not_written_over(run: Run, here: Place) -> None:
    (run.folder / "corrections").mkdir()
    (run.folder / "corrections/labels.csv").write_text("something,else\n1,2\n")
    with pytest.raises(ValueError, match="no table of path,label"):
        write_labels(run, here, {"a/1.jpg": "b"})
    assert (run.folder / "corrections/labels.csv").read_text() == "something,else\n1,2\n"


def test_a_table_that_is_none_is_told(run: Run, here: Place) -> None:
    (run.folder / "report/predictions.csv").write_text("path,label,predicted,confidence\na,b,c,much\n")
    with pytest.raises(ValueError, match="no table of predictions"):
        mistakes(run, here)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "a/link.png"])
def test_a_picture_outside_the_roots_is_not_read(run: Run, here: Place, tmp_path: Path, path: str) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-secret.png"
    outside.write_bytes(b"x")
    (tmp_path / "set/a/link.png").symlink_to(outside)
    inside = Roots(((tmp_path / "set").resolve(),))
    with pytest.raises(ValueError, match="lies outside"):
        picture_of(Mistake(path, "a", "b", 0.5), run, inside)
    with pytest.raises(ValueError, match="lies outside"):
        picture_of(Mistake("a/1.jpg", "a", "b", 0.5), run, Roots((tmp_path / "lightning_logs",)))


def test_the_doubtful_labels_of_folds_are_shown_and_put_right_with_what_its_members_were_given(
    run: Run, here: Place, tmp_path: Path
) -> None:
    table = "path,given,likely,score,flagged\n./=cmd.jpg,a,'=b,0.9,1\na/1.jpg,a,b,0.8,0\na/3.jpg,b,a,0.7,1\n"
    (run.folder / "report/doubtful_labels.csv").write_text(table)
    member = tmp_path / "lightning_logs/one-f1-s0"
    member.mkdir()
    (member / "class_mapping.json").write_text('{"0": "a", "1": "b"}')
    (member / "labels.csv").write_text("path,label\na/2.jpg,b\n")
    folds = Run(run.folder, run.status | {"kind": "folds", "members": ["one-f1-s0"], "folds": 2, "seeds": 1})
    assert doubts(folds, here) == [Mistake("=cmd.jpg", "a", "=b", 0.9), Mistake("a/3.jpg", "b", "a", 0.7)]
    assert classes_of(folds, here) == ["a", "b"]
    path = write_labels(folds, here, {"a/3.jpg": "a"})
    assert path.read_text() == "path,label\na/2.jpg,b\na/3.jpg,a\n"
    status = folds.status | {
        "options": ["--config=c.yaml", "--data.labels", "x.csv", "--data.labels=y.csv", "--model.lr=1"]
    }
    assert again(status) == ["folds", "--config=c.yaml", "--model.lr=1", "--folds=2", "--seeds=1"]
    (run.folder / "report/doubtful_labels.csv").write_text("path,given\n1,2\n")
    with pytest.raises(ValueError, match="no table of doubtful labels"):
        doubts(folds, here)
