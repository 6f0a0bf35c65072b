"""No score on images that the weights have seen, in silence: of the run itself, and of all that it started from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vit_lightning.cli import main
from vit_lightning.commands.seen import lineage
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.demo import draw_demo
from vit_lightning.runs import read_status, write_status

TINY = [
    *("--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"),
    *("--data.augment=none", "--data.num_workers=0", "--data.batch_size=16", "--trainer.accelerator=cpu"),
    *("--trainer.max_epochs=1", "--data.split=random", "--data.val_fraction=0.25", "--data.test_fraction=0.25"),
]
LOGS = Path("lightning_logs")


@pytest.fixture(scope="module")
def home(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a tested run, `first`, and `second`, which started from it, that the tests read only."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(frames, "data")
        assert main(["fit", "--run=first", "--data.root=data", *TINY]) == 0
        assert main(["test", "--run=first"]) == 0
        assert main(["fit", "--run=second", "--data.root=data", *TINY, "--model.init_from=first"]) == 0
    return folder


@pytest.fixture
def work(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs in a working folder of the test's own; what they say of where they were is of here."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    for path in (*tmp_path.rglob("status.json"), *tmp_path.rglob("config.yaml")):
        path.write_text(path.read_text().replace(str(home), str(tmp_path)))
    for path in tmp_path.rglob("*.ckpt"):
        checkpoint = torch.load(path)
        checkpoint["datamodule_hyper_parameters"]["root"] = str(tmp_path / "data")
        if start := checkpoint["hyper_parameters"]["init_from"]:
            checkpoint["hyper_parameters"]["init_from"] = start.replace(str(home), str(tmp_path))
        torch.save(checkpoint, path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def metrics(folder: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((LOGS / folder / "metrics.json").read_text())
    return content


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(command) == 0
    return capsys.readouterr().out


def part_of(run: str) -> dict[str, str]:
    lines = (LOGS / run / "split.csv").read_text().splitlines()[1:]
    return {path: part for path, _, part in (line.split(",")[:3] for line in lines)}


def new_split(seed: int) -> dict[str, str]:
    """The parts that another seed gives."""
    data = ImageDataModule(root="data", split="random", val_fraction=0.25, test_fraction=0.25, seed=seed)
    data.arrange("fit")
    return {sample.path: sample.split for sample in data.used_split.samples}


# The run's own split


def test_the_run_s_own_test_part_was_not_seen_and_that_is_said_and_saved(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "of 23 test images 0 were seen by these weights or a run they started from"
    for run in ("first", "second"):
        out = said(capsys, "test", f"--run={run}")
        assert sentence in out.splitlines()
        assert "chose a checkpoint" not in out
        told = metrics(f"{run}/report")["seen"]
        assert told == {"part": "test", "images": 23, "seen": 0, "chose": 0, "unknown": [], "sentence": sentence}
        page = (LOGS / run / "report/report.html").read_text()
        assert "23 images that it was not trained on" in page
        assert "These may be no unseen images" not in page


def test_validate_says_it_of_its_images(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "validate", "--run=first")
    assert "of 23 val images 0 were seen by these weights or a run they started from" in out


# Another split of the same images


@pytest.mark.parametrize("run", ["first", "second"])
@pytest.mark.parametrize("command", ["test", "validate"])
def test_images_that_the_weights_were_trained_on_are_not_scored(
    work: Path, capsys: pytest.CaptureFixture[str], command: str, run: str
) -> None:
    parts, other = part_of("first"), new_split(7)
    scored = [path for path, part in other.items() if part == ("val" if command == "validate" else "test")]
    seen = [path for path in scored if parts[path] == "train"]
    before = (LOGS / "first/report/metrics.json").read_bytes()
    line = refused(capsys, command, f"--run={run}", "--data.split=random", "--data.seed=7")
    assert f"{len(seen)} of the 23 " in line
    assert "--allow_seen true" in line
    assert "trained on by first" in line or "trained on by second and first" in line
    out = said(capsys, command, f"--run={run}", "--data.split=random", "--data.seed=7", "--allow_seen=true")
    assert f"images {len(seen)} were seen by these weights" in out
    assert (LOGS / "first/report/metrics.json").read_bytes() == before


def test_a_test_on_another_split_has_a_report_of_its_own(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = (LOGS / "first/report/predictions.csv").read_bytes()
    parts, other = part_of("first"), new_split(7)
    out = said(capsys, "test", "--run=first", "--data.split=random", "--data.seed=7", "--allow_seen=true")
    (folder,) = LOGS.glob("first/report-*")
    told = metrics(folder.relative_to(LOGS))
    assert folder.name == f"report-random-{told['split']['id'][:6]}"
    assert str(folder) in out
    assert (LOGS / "first/report/predictions.csv").read_bytes() == own
    scored = [parts[path] for path, part in other.items() if part == "test"]
    assert (told["seen"]["seen"], told["seen"]["chose"]) == (scored.count("train"), scored.count("val"))
    assert f"{scored.count('val')} of these images chose a checkpoint that the weights come from" in out
    page = (folder / "report.html").read_text()
    assert "that it was not trained on" not in page
    assert "These may be no unseen images" in page


def test_weights_of_another_run_may_not_have_been_trained_on_what_validates(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor on what is tested later; the first ancestor counts as the nearest does, and --ckpt_path as init_from."""
    parts, other = part_of("first"), new_split(7)
    seen = [parts[path] for path, part in other.items() if part == "val"].count("train")
    fit = ["fit", "--data.root=data", *TINY, "--data.seed=7", "--trainer.max_epochs=3"]
    for start in (
        "--model.init_from=first",
        "--model.init_from=second",
        "--ckpt_path=lightning_logs/second/checkpoints/last.ckpt",
    ):
        line = refused(capsys, *fit, start, "--run=third")
        assert f"{seen} of the 23 val images" in line
        assert "split.csv" in line
        assert not (LOGS / "third").exists()
    assert f"of 23 val images {seen} were seen" in said(capsys, *fit, start, "--run=third", "--allow_seen=true")
    status = read_status(LOGS / "third/status.json")
    assert status["seen"]["seen"] == seen
    assert [each["run"] for each in status["ancestors"]] == ["second", "first"]
    assert "allow_seen" not in (LOGS / "third/config.yaml").read_text()
    assert f"of 23 val images {seen} were seen" in (LOGS / "third/run.log").read_text()


def test_the_test_part_of_a_new_split_counts_too(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (LOGS / "first/split.csv").read_text().replace(",train", ",TRAIN").replace(",test", ",train")
    Path("swapped.csv").write_text(rows.replace(",TRAIN", ",test"))
    line = refused(capsys, "fit", "--data.root=data", *TINY, "--data.split=swapped.csv", "--model.init_from=first")
    assert "50 of the 50 test images were trained on by first" in line


def test_a_run_keeps_its_ancestors_and_one_from_nothing_has_none(work: Path) -> None:
    first, second = (read_status(LOGS / name / "status.json") for name in ("first", "second"))
    assert first["ancestors"] == []
    assert "seen" not in first
    folder = str(work / "lightning_logs/first")
    assert second["ancestors"] == [{"run": "first", "folder": folder, "started": first["started"]}]
    assert second["seen"]["sentence"] == "of 23 val images 0 were seen by these weights or a run they started from"
    assert main(["fit", "--resume=second", "--trainer.max_epochs=2"]) == 0
    assert read_status(LOGS / "second/status.json")["ancestors"] == second["ancestors"]


# Which images are the same


@pytest.mark.parametrize("change", ["copied", "more", "smaller", "gone", "part"])
def test_the_same_images_are_known_elsewhere(work: Path, capsys: pytest.CaptureFixture[str], change: str) -> None:
    """In a copy, with files added, smaller, below another root, or where the folder that they lay in is gone."""
    trained = [path for path, part in part_of("first").items() if part == "train"]
    rows = [
        f"{path},{Path(path).parent.name},{'test' if path in trained[:7] else 'train'}" for path in part_of("first")
    ]
    root = Path("copy")
    if change == "gone":
        Path("data").rename(root)
    elif change == "part":  # the class folders themselves, whatever lies around them
        root = next(path for path in work.rglob("jerry")).parent
        rows = [str(Path(row).relative_to(root.relative_to(work / "data"))) for row in rows]
    else:
        shutil.copytree("data", root)
    if change == "more":
        shutil.copy(root / trained[0], (root / trained[0]).with_name("new999.jpg"))
    if change == "smaller":
        from PIL import Image

        for path in root.rglob("*.jpg"):
            with Image.open(path) as picture:
                smaller = picture.resize((40, 24))
            smaller.save(path, quality=80)
    Path("mine.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    line = refused(capsys, "test", "--run=first", f"--data.root={root}", "--data.split=mine.csv")
    assert "7 of the 7 test images were trained on by first" in line


def test_where_it_cannot_be_said_it_is_not_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of the same names in a folder with another list of files, while the run's own images are gone."""
    Path("data").rename("copy")
    path = next(path for path, part in part_of("first").items() if part == "train")
    shutil.copy(Path("copy", path), Path("copy", path).with_name("new999.jpg"))
    Path("mine.csv").write_text(f"path,label,split\n{path},{Path(path).parent.name},test\n")
    out = said(capsys, "test", "--run=first", "--data.root=copy", "--data.split=mine.csv")
    assert "what first learned from is not known: maybe these very 1 test images" in out
    assert "0 were seen" not in out


# Ancestors that are gone, and those of before


@pytest.mark.parametrize("gone", ["deleted", "replaced", "no split"])
def test_an_ancestor_that_is_gone_is_unknown(work: Path, capsys: pytest.CaptureFixture[str], gone: str) -> None:
    if gone == "deleted":
        shutil.rmtree(LOGS / "first")
    elif gone == "replaced":  # another run took the name
        status = read_status(LOGS / "first/status.json")
        write_status(LOGS / "first", status | {"started": "2001-01-01T00:00:00+00:00"})
    else:
        (LOGS / "first/split.csv").unlink()
    out = said(capsys, "test", "--run=second")
    assert "what first learned from is not known" in out
    assert "0 were seen" not in out
    assert metrics("second/report")["seen"]["unknown"] == ["first"]
    page = (LOGS / "second/report/report.html").read_text()
    assert "that it was not trained on" not in page


def test_a_foreign_checkpoint_is_unknown_and_so_is_what_starts_from_it(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(LOGS / "first/checkpoints/best.ckpt", "found.ckpt")
    assert "what found.ckpt learned from is not known" in said(capsys, "test", "--run=found.ckpt")
    fit = ["fit", "--data.root=data", *TINY, "--model.init_from=found.ckpt", "--run=third"]
    assert "what found.ckpt learned from is not known" in said(capsys, *fit)
    status = read_status(LOGS / "third/status.json")
    assert status["ancestors"] == [{"run": "found.ckpt", "folder": None}]
    assert status["seen"]["unknown"] == ["found.ckpt"]


def test_runs_that_were_moved_together_are_found(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LOGS.rename("elsewhere")
    assert "0 were seen" in said(capsys, "test", "--run=elsewhere/second")


def test_a_run_of_before_tells_its_ancestors_by_its_config(work: Path) -> None:
    status = read_status(LOGS / "second/status.json")
    del status["ancestors"]
    write_status(LOGS / "second", status)
    second = LOGS / "second/checkpoints/best.ckpt"
    assert [each["run"] for each in lineage(second)] == ["second", "first"]
    config = yaml.safe_load((LOGS / "second/config.yaml").read_text())
    config["model"]["init_from"] = str(second.absolute())  # as after a run took the name of its own ancestor
    (LOGS / "second/config.yaml").write_text(yaml.safe_dump(config))
    assert [each["run"] for each in lineage(second)] == ["second"]
    config["model"]["init_from"] = None
    (LOGS / "second/config.yaml").write_text(yaml.safe_dump(config))
    assert [each["run"] for each in lineage(second)] == ["second"]
    history = (LOGS / "second/history.csv").read_text().replace("\n1,", "\n4,")  # it went on with a fourth epoch
    (LOGS / "second/history.csv").write_text(history)
    assert lineage(second)[1] == {"run": "the checkpoint that second went on from", "folder": None}


# Another set


@pytest.fixture
def other(work: Path) -> Path:
    """Drawn frames of other clips, of which some files are called like the run's."""
    draw_demo(Path("drawn"), clips=30, size=(36, 64), seed=5)
    return Path("drawn")


def test_another_set_is_scored_whole_and_reported_beside(other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = (LOGS / "first/report/metrics.json").read_bytes()
    images = len(list(other.rglob("*.jpg")))
    out = said(capsys, "test", "--run=first", f"--data.root={other}")
    assert "is another set than the run's: all of it is scored" in out
    assert f"of {images} test images 0 were seen by these weights" in out
    (folder,) = LOGS.glob("first/report-*")
    told = metrics(folder.relative_to(LOGS))
    assert folder.name == f"report-drawn-{told['data']['id'][:6]}"
    assert (told["images"], told["part"], told["data"]["name"]) == (images, "test", "drawn")
    assert told["split"]["kind"] == "external"
    assert told["split"]["test"] == images
    assert "another set than its own" in (folder / "report.html").read_text()
    assert (LOGS / "first/report/metrics.json").read_bytes() == own


def test_a_copy_of_the_run_s_images_is_no_other_set(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("data", "copy")
    out = said(capsys, "test", "--run=first", "--data.root=copy")
    assert "another set" not in out
    assert not list(LOGS.glob("first/report-*"))
    assert metrics("first/report")["images"] == 23
    shutil.move("data", "gone")  # nor is one whose original is gone, whatever came to it
    path = next(Path("copy").rglob("*.jpg"))
    shutil.copy(path, path.with_name("new999.jpg"))
    out = said(capsys, "test", "--run=first", "--data.root=copy")
    assert "another set" not in out
    assert "of 23 test images 0 were seen" in out
    assert not list(LOGS.glob("first/report-*"))


def test_of_another_set_with_ready_made_parts_the_test_folder_is_scored(
    other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders,) = {path.parent for path in other.rglob("jerry")}
    for part in ("train", "test"):
        shutil.copytree(folders, Path("parts", part))
    for path in Path("parts/test").rglob("*2.jpg"):
        path.unlink()
    said(capsys, "test", "--run=first", "--data.root=parts")
    (folder,) = LOGS.glob("first/report-*")
    told = metrics(folder.relative_to(LOGS))
    assert told["images"] == len(list(Path("parts/test").rglob("*.jpg"))) == told["split"]["test"]
    assert "train" not in told["split"]


def test_frames_of_another_set_are_grouped_as_the_run_s_were(other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = ["--data.split=blocks", "--data.block_length=8", "--data.guard=0"]
    assert main(["fit", "--run=blocks", "--data.root=data", *TINY, *blocks]) == 0
    said(capsys, "test", "--run=blocks", f"--data.root={other}")
    (folder,) = LOGS.glob("blocks/report-*")
    assert metrics(folder.relative_to(LOGS))["groups"]["count"] == 15  # 120 frames
    said(capsys, "test", "--run=blocks", f"--data.root={other}", r"--data.group_by=frame(\d)", "--output=mine")
    assert json.loads(Path("mine/metrics.json").read_text())["groups"]["count"] == 10
