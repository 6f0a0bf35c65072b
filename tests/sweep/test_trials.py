"""Trials and the process that runs them, with a quick `fit`: what is killed goes on, what is behind is stopped."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.trial import TrialState

from vit_lightning.sweep import worker as worker_module
from vit_lightning.sweep.halving import Halving, rungs_of
from vit_lightning.sweep.report import ranked, write_trials
from vit_lightning.sweep.space import parse_grid
from vit_lightning.sweep.storage import open_storage
from vit_lightning.sweep.study import Plan, Study
from vit_lightning.sweep.table import Table
from vit_lightning.sweep.trial import Setup, mean_interval
from vit_lightning.sweep.worker import Worker

FAKE = (sys.executable, str(Path(__file__).parent / "fake_fit.py"))

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs lie in the test's own folder, and nobody waits long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker_module, "LOOK", 0.02)
    monkeypatch.setattr(worker_module, "ASK", 0.1)


def setup(*options: str, **more: Any) -> Setup:
    return Setup("s", Path("lightning_logs"), options, program=FAKE, **{"epochs": 4} | more)


def study(plan: Plan, pruner: BasePruner | None = None) -> Study:
    folder = Path("lightning_logs/s")
    folder.mkdir(parents=True, exist_ok=True)
    opened = Study("s", folder, open_storage(folder, None, "s"), plan)
    opened.optuna.pruner = pruner or NopPruner()
    return opened


def work(plan: Plan, of_all: Setup, pruner: BasePruner | None = None) -> Study:
    """Runs a sweep to its end."""
    opened = study(plan, pruner)
    assert Worker(opened, of_all, Table(of_all, 0)).work() == 0
    opened.close()
    return opened


def started() -> list[dict[str, str]]:
    return [json.loads(line) for line in Path("lightning_logs/started").read_text().splitlines()]


def epochs(run: str) -> list[str]:
    with (Path("lightning_logs") / run / "history.csv").open() as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def rows(run: str) -> list[str]:
    path = Path("lightning_logs") / run / "history.csv"
    return path.read_text().splitlines() if path.is_file() else []


def grid(*texts: str) -> Plan:
    return Plan(parse_grid(texts), None)


def test_each_point_is_a_run(told: list[tuple[str, str]]) -> None:
    done = work(grid("score=0.5,0.9", "b=x,y"), setup("--c=1"))
    assert [trial.value for trial in done.trials()] == [0.4, 0.4, 0.72, 0.72]
    assert started() == [
        {"c": "1", "score": score, "b": b, "run": f"s-{number:03}"}
        for number, (score, b) in enumerate([("0.5", "x"), ("0.5", "y"), ("0.9", "x"), ("0.9", "y")], start=1)
    ]
    assert [trial.number for trial in ranked(done)] == [2, 3, 0, 1]
    assert ("INFO", "s-003  done  val/acc 0.7200  score 0.9  b x") in told
    with write_trials(done, setup()).open() as file:
        rows = list(csv.DictReader(file))
    assert rows[2] == {
        **{"trial": "2", "run": "s-003", "state": "done", "epochs": "4", "val/acc": "0.72"},
        **{"score": "0.9", "b": "x"},
    }
    assert not list(Path("lightning_logs/s").glob("*.out"))


def test_several_at_once_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert setup(jobs=4).environment(1)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in setup(jobs=1).environment(0)
    cards = [setup(jobs=3, gpus=2).environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert cards == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert setup(jobs=2, gpus=2).environment(1)["CUDA_VISIBLE_DEVICES"] == "7"
    began = time.monotonic()
    done = work(grid("score=0.5,0.6,0.7,0.8"), setup("--pause=0.5", jobs=4))
    assert len(ranked(done)) == 4
    starts = [trial.datetime_start.timestamp() for trial in done.trials() if trial.datetime_start]
    ends = [trial.datetime_complete.timestamp() for trial in done.trials() if trial.datetime_complete]
    assert max(starts) < min(ends)
    assert time.monotonic() - began < 60


def test_a_training_that_is_killed_goes_on(told: list[tuple[str, str]]) -> None:
    done = work(grid("score=0.5,0.9"), setup("--die=2"))
    assert [trial.value for trial in done.trials()] == [0.4, 0.72]
    assert epochs("s-001") == epochs("s-002") == ["1", "2", "3", "4"]
    assert [told.get("resume") for told in started()] == [None, "s-001", None, "s-002"]
    assert ("WARNING", "s-001 was killed (status -9) and goes on") in told


def test_one_that_is_killed_again_and_again_fails(told: list[tuple[str, str]]) -> None:
    done = work(grid("score=0.5"), setup("--die-always=true"))
    assert done.trials()[0].state == TrialState.FAIL
    assert "killed 3 times without getting any further" in told[-1][1]
    assert len(started()) == 3


def test_a_mistake_is_told_and_the_others_go_on(told: list[tuple[str, str]]) -> None:
    done = work(grid("wrong=no,the disk is full", "score=0.5,0.9"), setup())
    states = [trial.state for trial in done.trials()]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] * 2
    assert done.trials()[2].user_attrs["note"] == "the disk is full"
    assert [text for level, text in told if level == "WARNING"] == [
        f"s-00{number}  failed  wrong the disk is full  score {score}: the disk is full"
        for number, score in ((3, "0.5"), (4, "0.9"))
    ]


def test_it_does_not_go_on_failing() -> None:
    with pytest.raises(ValueError, match="3 trials failed one after another, the last one so: the disk is full"):
        work(grid("score=1,2,3,4,5,6"), setup("--wrong=the disk is full"))
    assert len(started()) == 3


def test_one_without_numbers_is_a_bad_one_and_no_mistake() -> None:
    done = work(grid("diverge=1,3,9"), setup())
    assert [(trial.state, trial.value) for trial in done.trials()] == [
        (TrialState.PRUNED, None),
        (TrialState.PRUNED, pytest.approx(2 / 3, abs=1e-6)),
        (TrialState.COMPLETE, 0.8),
    ]
    assert "training has failed" in done.trials()[0].user_attrs["note"]


def halved(plan: Plan, of_all: Setup, total: int) -> Study:
    """A sweep in which trials pause at rungs."""
    opened = study(plan)
    opened.halving = Halving(rungs_of(12), total)
    assert Worker(opened, of_all, Table(of_all, 0)).work() == 0
    opened.close()
    return opened


def test_what_is_behind_is_stopped_in_time(told: list[tuple[str, str]]) -> None:
    scores = "0.1,0.2,0.3,0.9,0.4,0.8,0.7,0.6,0.5"
    done = halved(grid(f"score={scores}"), setup("--pause=0.2", "--epochs=12", epochs=12), 9)
    assert {trial.params["score"]: trial.user_attrs["epochs"] // 2 for trial in done.trials()} == pytest.approx(
        {0.9: 6, 0.8: 6, 0.7: 3, 0.1: 1, 0.2: 1, 0.3: 1, 0.4: 1, 0.5: 1, 0.6: 1}, abs=1
    )
    assert [trial.params["score"] for trial in ranked(done)] == [0.9, 0.8]
    stopped = [trial for trial in done.trials() if trial.state == TrialState.PRUNED]
    assert len(stopped) == 7
    for trial in stopped:
        assert trial.value == max(trial.intermediate_values.values())
        run = Path("lightning_logs") / f"s-{trial.number + 1:03}"
        assert json.loads((run / "status.json").read_text())["state"] == "interrupted"  # by SIGTERM
    assert Counter(told["resume"] for told in started() if "resume" in told) == {"s-004": 2, "s-006": 2, "s-007": 1}
    assert epochs("s-004") == [str(epoch) for epoch in range(1, 13)]
    assert sum("waits" in text for _, text in told) == 9 + 3
    assert sum("pruned" in text for _, text in told) == 7
    assert not list(Path("lightning_logs/s").glob("*.out"))


@pytest.mark.parametrize("stage", [1, 2])
def test_a_kill_while_trials_pause_changes_nothing(stage: int) -> None:
    plan, of_all = grid("score=0.1,0.9,0.4,0.8"), setup("--pause=0.2", "--epochs=12", epochs=12)
    left = study(plan)
    left.halving = Halving(rungs_of(12), 4)
    runner = Worker(left, of_all, Table(of_all, 4))
    while not any(job.claim.limit == (2, 6)[stage - 1] and job.at_rung for job in runner.jobs.values()):
        runner.look()
        runner.take()
        time.sleep(0.02)
    (job,) = runner.jobs.values()
    assert job.process is not None
    job.process.wait()
    left.lock.release()  # killed when the training had paused, and nobody had written it
    done = halved(plan, of_all, 4)
    assert [trial.params["score"] for trial in ranked(done)] == [0.9, 0.8]
    assert sum(trial.user_attrs["epochs"] for trial in done.trials()) <= 2 * 12 + 2 * 3
    assert all(len(told) <= 12 for told in map(epochs, ("s-001", "s-002", "s-003", "s-004")))


def test_of_folds_and_seeds_a_trial_is_the_mean() -> None:
    done = work(grid("score=0.5,0.9"), setup(folds=2, seeds=2))
    first = done.trials()[0]
    assert first.value == pytest.approx(0.4)
    assert first.user_attrs["scores"] == [0.4] * 4
    assert first.user_attrs["interval"] == pytest.approx([0.4, 0.4])
    names = ["s-001-f1-s0", "s-001-f2-s0", "s-001-f1-s1", "s-001-f2-s1"]
    assert first.user_attrs["runs"] == names
    assert [(told["run"], told["data.fold"], told["seed_everything"]) for told in started()[:4]] == [
        (name, f"{name[7]}/2", name[-1]) for name in names
    ]
    assert first.user_attrs["epochs"] == 16
    assert mean_interval([0.4, 0.6]) == pytest.approx([0.5 - 1.2706, 0.5 + 1.2706], abs=1e-4)  # t of one degree
    assert mean_interval([0.4]) is None


def test_seeds_alone_have_a_run_each() -> None:
    work(grid("score=0.5"), setup(seeds=2))
    assert [(told["run"], told["seed_everything"], "data.fold" in told) for told in started()] == [
        ("s-001-s0", "0", False),
        ("s-001-s1", "1", False),
    ]


def test_folds_of_a_worse_point_are_left_out() -> None:
    done = work(grid("score=0.9,0.5,0.95"), setup(folds=6), WilcoxonPruner())
    assert [trial.state for trial in done.trials()] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    worse = done.trials()[1]
    assert len(worse.user_attrs["scores"]) == 4  # as many as the test needs
    assert worse.value == pytest.approx(0.4)


def test_a_trial_left_between_two_folds_repeats_none() -> None:
    plan, of_all = grid("score=0.5"), setup(folds=3)
    left = study(plan)
    runner = Worker(left, of_all, Table(of_all, 1))
    runner.take()
    while len(runner.jobs[0].scores) < 2:
        runner.look()
    job = runner.jobs[0]
    if job.process is not None:  # of the third
        job.process.kill()
        job.process.wait()
    left.lock.release()  # killed
    done = work(plan, of_all)
    assert [trial.value for trial in done.trials()] == [pytest.approx(0.4)]
    finished = Counter(told["run"] for told in started() if "run" in told and told["run"] != "s-001-f3-s0")
    assert finished == {"s-001-f1-s0": 1, "s-001-f2-s0": 1}


def test_a_stopped_sweep_gives_its_trials_back(told: list[tuple[str, str]]) -> None:
    plan, of_all = grid("score=0.5,0.9,0.7"), setup("--pause=0.3", "--epochs=8", jobs=2, epochs=8)
    opened = study(plan)

    def stop() -> None:
        while not all(len(rows(run)) > 1 for run in ("s-001", "s-002")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    before = signal.getsignal(signal.SIGTERM)
    assert Worker(opened, of_all, Table(of_all, 3)).work() == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert [trial.state for trial in opened.trials()] == [TrialState.WAITING] * 3
    opened.close()
    cut = [int(epochs(run)[-1]) for run in ("s-001", "s-002")]
    assert all(0 < epoch < 8 for epoch in cut)
    done = work(plan, of_all)
    assert [trial.state for trial in done.trials()] == [TrialState.COMPLETE] * 3
    assert all(epochs(f"s-00{number}") == [str(epoch) for epoch in range(1, 9)] for number in (1, 2, 3))
    assert {told["resume"] for told in started() if "resume" in told} == {"s-001", "s-002"}


SWEEP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_trials as t
t.worker_module.LOOK, t.worker_module.ASK = 0.02, 0.1
of_all = t.setup(f"--pause={sys.argv[2]}", "--epochs=8", epochs=8)
opened = t.study(t.grid("score=0.5,0.9"))
t.Worker(opened, of_all, t.Table(of_all, 2)).work()
"""


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "with its training"])
def test_a_killed_sweep_is_taken_up(whole: bool) -> None:
    command = [sys.executable, "-c", SWEEP, str(Path(__file__).parent), "0.3"]
    process = subprocess.Popen(command, start_new_session=True)
    while not len(rows("s-001")) > 2:
        time.sleep(0.02)
        assert process.poll() is None
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    began = time.monotonic()
    done = work(grid("score=0.5,0.9"), setup("--pause=0.3", "--epochs=8", epochs=8))
    assert [trial.state for trial in done.trials()] == [TrialState.COMPLETE] * 2
    assert len(done.trials()) == 2
    assert epochs("s-001") == epochs("s-002") == [str(epoch) for epoch in range(1, 9)]
    assert [told["resume"] for told in started() if "resume" in told] == (["s-001"] if whole else [])
    assert time.monotonic() - began < 60  # nobody waited for a sign of life


def test_a_training_that_outlived_its_sweep_can_be_stopped() -> None:
    pause = "3"  # seconds an epoch: it must outlive its sweep by all that the next one takes to start
    command = [sys.executable, "-c", SWEEP, str(Path(__file__).parent), pause]
    process = subprocess.Popen(command, start_new_session=True)
    while not len(rows("s-001")) > 1:
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.wait()
    opened, of_all = study(grid("score=0.5,0.9")), setup(f"--pause={pause}", "--epochs=8", epochs=8)
    runner = Worker(opened, of_all, Table(of_all, 2))
    runner.take()
    runner.look()
    assert runner.jobs[0].process is None  # it is somebody else's
    runner.stop()
    assert json.loads(Path("lightning_logs/s-001/status.json").read_text())["state"] == "interrupted"
    assert opened.trials()[0].state == TrialState.WAITING
    opened.close()


def test_a_run_of_the_same_name_that_came_from_elsewhere_stays(told: list[tuple[str, str]]) -> None:
    opened, of_all = study(grid("score=0.5,0.9")), setup()
    for number, files in (("1", ("history.csv",)), ("2", ("checkpoints/last.ckpt", "status.json"))):
        for file in files:
            path = Path(f"lightning_logs/s-00{number}") / file
            path.parent.mkdir(parents=True)
            path.write_text('{"state": "finished"}' if file == "status.json" else "epoch,val/acc\n4,0.9\n")
            break
    before = sorted(path for path in Path("lightning_logs").rglob("*-00*/**/*") if path.is_file())
    assert Worker(opened, of_all, Table(of_all, 0)).work() == 0
    assert [trial.state for trial in opened.trials()] == [TrialState.FAIL] * 2
    assert sorted(path for path in Path("lightning_logs").rglob("*-00*/**/*") if path.is_file()) == before
    opened.close()


def test_a_training_that_has_not_come_to_its_lock_is_waited_for() -> None:
    plan, of_all = grid("score=0.5"), setup("--late=1.5")
    left = study(plan)
    runner = Worker(left, of_all, Table(of_all, 1))
    runner.take()
    runner.look()
    assert runner.jobs[0].process is not None
    assert not Path("lightning_logs/s-001").exists()
    left.lock.release()  # killed
    done = work(plan, of_all)
    runner.jobs[0].process.wait()
    assert [trial.value for trial in done.trials()] == [0.4]
    assert len(started()) == 1


def test_a_run_that_was_killed_behind_its_last_epoch_is_through() -> None:
    plan, of_all = grid("score=0.5"), setup()
    left = study(plan)
    runner = Worker(left, of_all, Table(of_all, 1))
    runner.take()
    runner.look()
    process = runner.jobs[0].process
    assert process is not None
    process.wait()
    left.lock.release()
    Path("lightning_logs/s-001/status.json").write_text('{"state": "running"}')
    refusing = Setup("s", of_all.logs, (), program=(*FAKE[:1], "-c", "import sys; sys.exit(2)"), epochs=4)
    done = work(plan, refusing)  # `fit --resume` says that nothing is left to do
    assert [trial.value for trial in done.trials()] == [0.4]
