"""`sweep`: what it refuses, what it leaves, and that its runs are runs."""

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.postgres import find_binaries, postgres
from benchmarks.sweeps import killed
from vit_lightning.cli import main
from vit_lightning.commands import sweep_check
from vit_lightning.commands.sweep import Sweep
from vit_lightning.sweep.space import Point, words
from vit_lightning.sweep.trial import Setup

FAKE = (sys.executable, str(Path(__file__).parents[1] / "sweep" / "fake_fit.py"))

TINY = ["--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=16", "--model.heads=2"]
TINY += ["--data.augment=none", "--data.num_workers=0", "--data.batch_size=16", "--data.split=blocks"]
TINY += ["--data.block_length=2", "--data.guard=0", "--data.val_fraction=0.25", "--trainer.accelerator=cpu"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[Point]]:
    """Sweeps with a `fit` that learns nothing; what would be tried out before."""
    tried: list[list[Point]] = []

    def try_out(self: Sweep, points: Sequence[Point]) -> dict[str, Any]:
        tried.append(list(points))
        return {"epochs": 4, "gpus": 0}

    whole = Sweep.setup
    monkeypatch.setattr(Sweep, "try_out", try_out)
    monkeypatch.setattr(Sweep, "setup", lambda *asked: replace(whole(*asked), program=FAKE))
    monkeypatch.setattr("vit_lightning.sweep.worker.LOOK", 0.02)
    monkeypatch.setattr("vit_lightning.sweep.report.validate", no_model)
    monkeypatch.chdir(tmp_path)
    return tried


def no_model(run: str, path: Path, setup: Setup) -> None:
    raise ValueError(f"the run {run} has no checkpoint")


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(["sweep", *command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def result(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path("lightning_logs") / name / "sweep.json").read_text())
    return content


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "there is nothing to vary; give --grid KEY=a,b,c"),
        (["--grid=a=1", "--search=b=1"], "--grid and --search are both given"),
        (["--grid=a=1", "--trials=3"], "--trials is for --search: a grid runs all its points"),
        (["--search=a=1,2", "--trials=0"], "--trials is '0'; expected a whole number from 1 up"),
        (["--grid=a=1", "--jobs=0"], "--jobs is '0'; expected a whole number from 1 up"),
        (["--grid=a=1", "--folds=1"], "--folds is '1'; expected a whole number from 2 up"),
        (["--grid=a=1", "--seeds=-1"], "--seeds is '-1'; expected a whole number from 1 up"),
        (["--grid=a=1", "--jobs=x"], "--jobs is 'x'; expected a whole number from 1 up; see `cli.py sweep --help`"),
        (["--search=a=1,2", "--pruner=median"], "argument --pruner: invalid choice: 'median'"),
        (["--search=a=1,2", "--pruner=halving", "--folds=3"], "with --folds or --seeds take wilcoxon"),
        (["--search=a=1,2", "--pruner=wilcoxon"], "--pruner wilcoxon compares folds or seeds"),
        (["--grid=a=1", "--resume=x"], "--resume is set by sweep for each trial"),
        (["--grid=a=1", "--data.fold=1/5", "--folds=5"], "--data.fold is set by sweep"),
        (["--grid=seed_everything=1,2", "--seeds=2"], "seed_everything cannot vary: sweep sets it"),
        (["--grid=run=a,b"], "run cannot vary: sweep sets it"),
        (["--grid=model.lr=1", "--model.lr=2"], "--model.lr is given, and varies, too"),
        (["--grid=a=1", "--run=../x"], "--run '../x' cannot be a sweep's name"),
        (["--grid=a=1", "--config=nowhere.yaml"], "nowhere.yaml does not exist"),
        (["--grid=a=1", "--storage=sqlite:///x.db"], "SQLite locks the whole file"),
        (["--grid=a"], "--grid 'a' is no KEY=VALUES"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    quick: list[list[Point]], capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    assert said in refused(capsys, *command)
    assert quick == []
    assert not Path("lightning_logs").exists()


def test_without_optuna_it_says_what_to_install(
    quick: list[list[Point]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "sweep needs optuna and plotly: pip install 'vit-lightning[sweep]'" in refused(capsys, "--grid=a=1")


def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, points: list[list[str]], **more: bool) -> dict[str, Any]:
    """What the process says that tries points out."""
    question = {"points": points, "data": False, "trainer": False} | more
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(question)))
    monkeypatch.setattr(sys, "argv", ["sweep_check", str(tmp_path / "answer.json")])
    monkeypatch.chdir(tmp_path)
    assert sweep_check.main() == 0
    assert not (tmp_path / "lightning_logs").exists()
    answer: dict[str, Any] = json.loads((tmp_path / "answer.json").read_text())
    return answer


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"model.depth": 2}, None),
        ({"model.depth": "x"}, "model.depth is x; expected a whole number"),
        ({"model.dept": 2}, "there is no option --model.dept; did you mean --model.depth?"),
        ({"model.dim": 15}, "15"),
        ({"model.lr": -1.0}, "lr"),
        ({"data.val_fraction": 0.0}, "the split holds no validation images"),
        ({"data.augment": "heavy"}, "data.augment is heavy; expected one of"),
        ({"trainer.max_epochs": 0}, "there is nothing to train"),
        ({"trainer.fast_dev_run": "true"}, "trainer.fast_dev_run leaves no run"),
    ],
)
def test_each_point_is_tried_out(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: Point, said: str | None
) -> None:
    good = [f"--data.root={frames}", *TINY, "--trainer.max_epochs=3"]
    answer = asked(monkeypatch, tmp_path, [good, [*good, *words(point)]], data=True, trainer=True)
    if said is None:
        assert (answer["epochs"], answer.get("error")) == (3, None)
    else:
        assert said in answer["error"]
        assert "\n" not in answer["error"]


def test_a_grid_leaves_its_table_its_pictures_and_the_best(
    quick: list[list[Point]], told: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "--grid=score=0.5,0.9,0.7", "--grid=x=1,2", "--c=1", "--run=s"]
    assert main(command) == 0
    assert [len(points) for points in quick] == [6]
    found = result("s")
    assert found["best"] == {"run": "s-003", "val/acc": 0.72, "point": {"score": 0.9, "x": 1}}
    assert found["second"]["run"] == "s-004"
    assert found["command"] == "python cli.py fit --c=1 --score=0.9 --x=1"
    assert found["trials"] == {"done": 6, "waits": 0, "pruned": 0, "failed": 0, "running": 0, "epochs": 24}
    assert found["importances"]["score"] > 0.9
    folder = Path("lightning_logs/s")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('class="plotly-graph-div"') == 2
    for name in ("history", "importance"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "s: 6 done; 24 epochs in all" in said
    assert "best: s-003, val/acc 0.7200, score 0.9  x 1" in said
    assert "whether it is really better than s-004 cannot be said: the run s-003 has no checkpoint" in said
    before = (folder / "trials.csv").read_text()
    assert main(command) == 0  # through already: only told once more
    assert [len(points) for points in quick] == [6, 1]
    assert (folder / "trials.csv").read_text() == before
    assert len(Path("lightning_logs/started").read_text().splitlines()) == 6


def test_other_options_and_other_runs_are_refused(quick: list[list[Point]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--grid=score=0.5,0.9", "--c=1", "--run=s"]) == 0
    assert "other grid: score=0.5,0.9, not score=0.5,0.8" in refused(capsys, "--grid=score=0.5,0.8", "--c=1", "--run=s")
    line = refused(capsys, "--grid=score=0.5,0.9", "--c=2", "--run=s")
    assert line == (
        "error: the sweep s was begun with other options: --c=1, not --c=2; repeat the command that began it to go on, "
        "or choose another --run"
    )
    Path("lightning_logs/t-001").mkdir()
    assert "the run t-001 exists in lightning_logs and is of no such sweep" in refused(
        capsys, "--grid=score=1,2", "--run=t"
    )
    Path("lightning_logs/u").mkdir()
    Path("lightning_logs/u/status.json").write_text('{"state": "finished"}')
    assert "the run u exists in lightning_logs and is of no such" in refused(capsys, "--grid=score=1", "--run=u")
    Path("lightning_logs/s-003").mkdir()  # the number that the next point would have
    assert main(["sweep", "--grid=score=0.5,0.9", "--c=1", "--run=s"]) == 2
    assert not Path("lightning_logs/t").exists()


def test_a_database_that_is_lost_is_told_in_a_line(
    quick: list[list[Point]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = OperationalError("SELECT 1", {}, Exception("server closed the connection\nunexpectedly"))

    def lost(self: object) -> int:
        raise StorageInternalError("An exception is raised during the commit.") from cause

    for error in (cause, None):
        monkeypatch.setattr("vit_lightning.sweep.worker.Worker.work", lost if error is None else raising(cause))
        assert refused(capsys, "--grid=score=1,2", "--run=s") == (
            "error: the database was lost (server closed the connection); repeat the command to go on"
        )


def raising(error: Exception) -> Callable[[object], int]:
    def work(self: object) -> int:
        raise error

    return work


def test_of_lists_a_search_draws_no_more_than_there_are(quick: list[list[Point]]) -> None:
    assert main(["sweep", "--search=score=0.5,0.9,0.1", "--run=s", "--pruner=none"]) == 0
    assert result("s")["trials"]["done"] == 3
    assert main(["sweep", "--search=score=lin:0:1", "--trials=2", "--run=t", "--pruner=none"]) == 0
    assert main(["sweep", "--search=score=lin:0:1", "--trials=4", "--run=t", "--pruner=none"]) == 0  # two more
    assert result("t")["trials"]["done"] == 4


def test_a_trial_that_fails_is_told_by_the_exit_status(quick: list[list[Point]]) -> None:
    assert main(["sweep", "--grid=wrong=no,disk full", "--run=s"]) == 1
    assert result("s")["trials"]["failed"] == 1
    assert result("s")["second"] is None


def test_folds_are_repeated_as_folds(quick: list[list[Point]]) -> None:
    assert main(["sweep", "--grid=score=0.5,0.9", "--folds=2", "--seeds=2", "--run=s"]) == 0
    assert result("s")["command"] == "python cli.py folds --score=0.9 --folds=2 --seeds=2"
    assert result("s")["best"]["scores"] == [0.72] * 4


@pytest.mark.slow  # half a minute
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_search_that_prunes_finds_the_best_of_twelve_in_half_of_the_epochs(
    quick: list[list[Point]], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sweep, "try_out", lambda *_: {"epochs": 12, "gpus": 0})
    scores = "0.1,0.15,0.2,0.25,0.5,0.55,0.6,0.65,0.7,0.75,0.8,0.85"
    command = [f"--search=score={scores}", "--epochs=12", "--pause=0.15", f"--seed_everything={seed}", "--run=s"]
    assert main(["sweep", *command]) == 0
    assert result("s")["best"]["point"]["score"] >= 0.75
    assert result("s")["trials"]["epochs"] <= 0.5 * 12 * 12
    assert result("s")["trials"]["done"] + result("s")["trials"]["pruned"] == 12


@pytest.mark.slow  # a server
def test_a_server_keeps_a_sweep_and_what_was_begun_in_it(
    quick: list[list[Point]], capsys: pytest.CaptureFixture[str]
) -> None:
    if find_binaries() is None:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    with postgres() as url:
        command = ["--search=score=0.1,0.5,0.9,0.3", f"--storage={url}", "--run=s", "--jobs=2"]
        assert main(["sweep", *command]) == 0
        assert "sweep s of 4 trials, kept in postgresql://sweep@127.0.0.1" in capsys.readouterr().out
        assert result("s")["best"]["point"] == {"score": 0.9}
        assert not Path("lightning_logs/s/study.journal").exists()
        assert main(["sweep", *command]) == 0
        assert len({json.loads(line)["run"] for line in lines() if "run" in json.loads(line)}) == 4
        assert "was begun with other pruner" in refused(capsys, *command, "--pruner=none")
        # In a file it would be another sweep with the same runs.
        assert "the run s-001 exists in lightning_logs and is of no such sweep" in refused(
            capsys, "--search=score=0.1,0.5,0.9,0.3", "--run=s"
        )


def lines() -> list[str]:
    return Path("lightning_logs/started").read_text().splitlines()


@pytest.mark.slow  # seven processes
def test_a_sweep_of_real_runs(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [f"--data.root={frames}", *TINY, "--trainer.max_epochs=2", "--run=s"]
    assert "model.depth is x; expected a whole number" in refused(capsys, *command, "--grid=model.depth=1,x")
    assert not Path("lightning_logs").exists()
    assert main(["sweep", *command, "--grid=model.depth=1,2", "--jobs=2"]) == 0
    found = result("s")
    assert found["comparison"]["images"] == 24
    difference = found["best"]["val/acc"] - found["second"]["val/acc"]
    assert found["comparison"]["difference"] == pytest.approx(difference, abs=1e-4)
    assert "the difference may be chance" in capsys.readouterr().out
    scores = []
    for number in (1, 2):
        run = Path(f"lightning_logs/s-00{number}")
        assert f"depth: {number}" in (run / "config.yaml").read_text()
        events = EventAccumulator(str(run)).Reload()
        scores += [event.value for event in events.Scalars("hp/val_acc")]
    assert max(scores) == pytest.approx(found["best"]["val/acc"], abs=1e-6)
    assert dashboard("lightning_logs/s/study.journal") == ["s"]
    assert main(["runs"]) == 0
    assert main(["test"]) == 0  # the latest finished run is a run, and not the sweep


def dashboard(storage: str) -> list[str]:
    """The studies that optuna-dashboard finds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "optuna_dashboard._cli", storage, "--port=18734"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            time.sleep(0.3)
            with suppress(OSError), urllib.request.urlopen("http://127.0.0.1:18734/api/studies") as answer:
                return [study["study_name"] for study in json.load(answer)["study_summaries"]]
    finally:
        process.kill()
        process.wait()
    return []


@pytest.mark.slow  # fifteen processes
def test_a_grid_that_is_killed_twice_ends_whole(frames: Path, tmp_path: Path) -> None:
    found = killed(tmp_path, [f"--data.root={frames}", *TINY])
    assert [found[name] for name in ("trials", "finished", "runs", "whole", "kills")] == [6, 6, 6, 6, 2]


def test_of_a_setup_without_a_number_too_many_the_names_are_plain() -> None:
    assert [Setup("s", Path(), ()).run_name(number) for number in (0, 998, 999)] == ["s-001", "s-999", "s-1000"]
