"""`folds`: its members are ordinary runs, its result has every image once a seed, and it goes on where it stopped."""

import csv
import gzip
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from vit_lightning.cli import main
from vit_lightning.commands.folds import FoldsResult
from vit_lightning.evaluation.unknown import read_unknown

TINY = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
TINY += ["--data.augment=none", "--data.num_workers=0", "--data.batch_size=16", "--data.split=blocks"]
TINY += ["--data.block_length=2", "--data.guard=0", "--data.val_fraction=0.1", "--trainer.accelerator=cpu"]
TINY += ["--trainer.max_epochs=1"]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands of the members, which are run in this process: starting one takes longer than all they do."""
    seen: list[list[str]] = []

    def call(self: FoldsResult, command: str, words: Sequence[str], member: str) -> None:
        seen.append([command, member])
        assert main([command, *words]) == 0

    monkeypatch.setattr(FoldsResult, "call", call)
    monkeypatch.chdir(tmp_path)
    return seen


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_every_image_is_tested_once_a_seed(frames: Path, called: list[list[str]]) -> None:
    command = ["folds", f"--data.root={frames}", *TINY, "--folds=2", "--seeds=2", "--run=all"]
    assert main(command) == 0
    result = Path("lightning_logs/all")
    names = ["all-f1-s0", "all-f2-s0", "all-f1-s1", "all-f2-s1"]
    assert called == [[command, name] for name in names for command in ("fit", "test")]
    table = rows(result / "report/predictions.csv")
    every = {path.relative_to(frames).as_posix() for path in frames.rglob("*.jpg")}
    for seed in ("0", "1"):
        own = [row for row in table if row["seed"] == seed]
        assert len(own) == len(every) == 96
        assert {row["path"] for row in own} == every
    metrics = read(result / "report/metrics.json")
    labels, said = ([row[column] for row in table] for column in ("label", "predicted"))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, said))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert (metrics["images"], metrics["predictions"], metrics["groups"]["count"]) == (96, 192, 48)
    by_seed = [np.mean([r["label"] == r["predicted"] for r in table if r["seed"] == seed]) for seed in ("0", "1")]
    assert list(metrics["spread"]["seeds"].values()) == pytest.approx(by_seed)
    assert metrics["spread"]["deviation"] == pytest.approx(np.std(by_seed, ddof=1))
    status = read(result / "status.json")
    assert (status["state"], status["kind"], status["members"]) == ("finished", "folds", names)
    majority = [read(Path("lightning_logs") / name / "report/metrics.json")["baselines"]["majority"] for name in names]
    assert metrics["baselines"]["majority"] == pytest.approx(np.mean(majority))
    page = (result / "report/report.html").read_text(encoding="utf-8")
    assert f"{100 * metrics['accuracy']:.1f}\N{NO-BREAK SPACE}%</strong>" in page
    # 18 mistakes and hits, of the members' data, and at most 24 doubtful labels.
    assert page.count("<img") == 18 + min(24, metrics["doubtful_labels"]["flagged"])
    assert all(name.replace("-", "-<wbr>") in page for name in names)
    # This split leaks, so that no member is told of sets that its pictures would not keep to.
    assert metrics["near_duplicates"]["flagged"]
    assert f"{metrics['sets']['levels'][0]['mean_size']:.1f} of 4, to be right for 90" in page
    assert "sets" not in read(Path("lightning_logs/all-f1-s0/report/unknown.json"))


def test_every_member_that_is_there_is_told_of_the_sets(tmp_path: Path) -> None:
    made = FoldsResult("all", tmp_path, 2, 1, (), None)
    (tmp_path / "all-f1-s0/checkpoints").mkdir(parents=True)
    checkpoint = tmp_path / "all-f1-s0/checkpoints/best.ckpt"
    checkpoint.write_bytes(b"weights")
    made.keep_sets({"threshold": 0.5, "models": 2})
    assert read_unknown(tmp_path / "all-f1-s0", checkpoint)["sets"] == {"threshold": 0.5, "models": 2}
    assert not (tmp_path / "all-f2-s0").exists()


def test_it_goes_on_where_it_stopped_and_repeats_nothing(
    frames: Path, called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["folds", f"--data.root={frames}", *TINY, "--folds=2", "--run=all"]
    whole = FoldsResult.call

    def stop(self: FoldsResult, command: str, words: Sequence[str], member: str) -> None:
        if [command, member] == ["test", "all-f2-s0"]:
            raise KeyboardInterrupt
        whole(self, command, words, member)

    with monkeypatch.context() as patch:
        patch.setattr(FoldsResult, "call", stop)
        assert main(command) == 130
    assert read(Path("lightning_logs/all/status.json"))["state"] == "interrupted"
    del called[:]
    assert main(command) == 0
    assert called == [["test", "all-f2-s0"]]
    del called[:]
    assert main(command) == 0
    assert called == []
    line = refused(capsys, *command, "--model.depth=2")
    assert "was begun with --folds 2" in line
    assert main([*command[:-2], "--folds=2", "--seeds=2", "--run=all"]) == 0  # more seeds of the same
    assert called == [[each, name] for name in ("all-f1-s1", "all-f2-s1") for each in ("fit", "test")]


def test_what_was_kept_stands_for_the_run(frames: Path, called: list[list[str]]) -> None:
    shutil.copytree(frames, "images")
    command = ["folds", "--data.root=images", *TINY, "--folds=2", "--run=all", "--keep=studies/one"]
    assert main(command) == 0
    kept = Path("studies/one/all-f1-s0")
    assert {path.name for path in kept.iterdir()} == {"config.yaml", "metrics.json", "predictions.csv.gz"}
    report = Path("lightning_logs/all-f1-s0/report/predictions.csv").read_bytes()
    assert gzip.decompress((kept / "predictions.csv.gz").read_bytes()) == report
    for path in ("config.yaml", "metrics.json"):  # which may be committed
        assert str(Path.cwd()) not in (kept / path).read_text()
    assert "lr: 0.001" in (kept / "config.yaml").read_text()
    before = read(Path("lightning_logs/all/report/metrics.json"))
    del called[:]
    for there in (True, False):
        shutil.rmtree("lightning_logs")
        assert main(command) == 0
        assert called == []
        page = Path("lightning_logs/all/report/report.html").read_text(encoding="utf-8")
        assert ("<img" in page) is there
        assert ("the pictures were not at hand" in page) is not there
        shutil.rmtree("images", ignore_errors=True)
    after = read(Path("lightning_logs/all/report/metrics.json"))
    assert {**before, "created": ""} == {**after, "created": ""}


def test_the_result_is_a_run_for_showing_and_comparing_but_no_model(
    frames: Path, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["folds", f"--data.root={frames}", *TINY, "--folds=2"]
    assert main([*command, "--run=one"]) == 0
    assert main([*command, "--run=two", "--model.lr=0.01"]) == 0
    capsys.readouterr()
    assert main(["runs", "compare", "one", "two"]) == 0
    assert "96 images in 48 groups, scored by both" in capsys.readouterr().out
    assert main(["runs"]) == 0
    listing = capsys.readouterr().out
    assert listing.count(": several folds") == listing.count(f"{frames.name}, ") == 1  # one section for all six
    assert sum(listing.count(f"\n{name}") for name in ("one", "two")) == 6
    assert re.search(r"\none +0\.\d{4}( \.\d{3}-\S{4})?\n", listing)
    assert main(["runs", "show", "one"]) == 0
    assert re.search(r"\n  kind +folds\n", capsys.readouterr().out)
    line = refused(capsys, "predict", "--run=one", "--images", str(frames))
    assert "one is the result of several models; give one of them: one-f1-s0, one-f2-s0" in line
    picture = str(next(frames.rglob("*.jpg")))
    assert main(["predict", "--images", picture]) == 0  # the latest finished run is a model
    assert "two-f2-s0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds=1"], "--folds is '1'; expected a whole number from 2 up"),
        (["--seeds=0"], "--seeds is '0'; expected a whole number from 1 up"),
        (["--folds=x"], "--folds is 'x'; expected a whole number from 2 up; see `cli.py folds --help`"),
        (["--data.fold=1/5"], "--data.fold is set by folds"),
        (["--run=../elsewhere"], "--run '../elsewhere' cannot be a run's name"),
        (["--resume=x"], "--resume is set by folds"),
        (["--config=nowhere.yaml"], "nowhere.yaml does not exist"),
    ],
)
def test_mistakes_are_one_line(
    called: list[list[str]], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in refused(capsys, "folds", *words)
    assert called == []


@pytest.mark.slow  # four processes
def test_members_are_processes_of_their_own(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["folds", f"--data.root={frames}", *TINY, "--folds=2", "--run=all"]) == 0
    assert len(rows(Path("lightning_logs/all/report/predictions.csv"))) == 96
    capfd.readouterr()
    assert main(["folds", "--model.depth=x", "--run=bad"]) == 2
    said = capfd.readouterr()
    assert [line for line in said.err.splitlines() if line.startswith("error")] == [
        line for line in said.err.splitlines() if "model.depth" in line
    ]  # one, the member's own
    assert "that was fit of bad-f1-s0: mend what it says, and repeat the command" in said.out
    assert not Path("lightning_logs/bad").exists()  # the name is free for the command as it was meant
