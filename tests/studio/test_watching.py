"""What a run's files say while it trains."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from vit_lightning.runs import Run, read_status
from vit_lightning.studio import jobs
from vit_lightning.studio.watching import POINTS, Steps, last_points, see, steps_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of 4 epochs of 3 steps, in the middle of its second."""
    (tmp_path / ".lock").touch()
    status = {"state": "finished", "epochs": 1, "max_epochs": 4, "seconds": 6.0}
    status |= {
        "split": {"train": 40},
        "baselines": {"majority": 0.4, "thumbnail_neighbour": 0.5, "near_duplicates": 0.0},
    }
    (tmp_path / "status.json").write_text(json.dumps(status))
    (tmp_path / "config.yaml").write_text("trainer:\n  accumulate_grad_batches: 1\ndata:\n  batch_size: 16\n")
    (tmp_path / "history.csv").write_text("epoch,train/loss,val/acc\n1,1.5,0.25\n2,1.")  # torn by a kill
    rows = [("step", "lr"), *((step, 0.1 * step) for step in range(5))]
    with (tmp_path / "learning_rate.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return tmp_path


def run_in(folder: Path, **changed: object) -> Run:
    return Run(folder, read_status(folder / "status.json") | changed)


def test_how_far_a_run_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "state", "running")
    sight = see(run_in(folder))
    assert (sight.step, sight.steps_an_epoch, sight.max_epochs) == (5, 3, 4)
    assert sight.share_of_epoch == pytest.approx(2 / 3)
    assert sight.share == pytest.approx((1 + 2 / 3) / 4)
    assert sight.seconds_left == pytest.approx(6.0 * (3 - 2 / 3))
    assert sight.epochs == [{"epoch": 1.0, "train/loss": 1.5, "val/acc": 0.25}]
    assert sight.baselines == {"majority": 0.4, "nearest thumbnail": 0.5}


def test_a_finished_run_is_through_and_has_no_time_left(folder: Path) -> None:
    sight = see(run_in(folder))
    assert sight.share == 1.0
    assert sight.seconds_left is None


def test_of_a_run_that_has_written_nothing_yet_nothing_is_known(tmp_path: Path) -> None:
    sight = see(Run(tmp_path, {}))
    assert (sight.step, sight.share, sight.epochs, sight.losses) == (0, 0.0, [], [])


@pytest.mark.parametrize(("limit", "steps"), [("2", 2), ("0.5", 1), ("9", 3), ("null", 3), ("x", 3)])
def test_limits_and_accumulation_count(folder: Path, limit: str, steps: int) -> None:
    config = f"trainer:\n  limit_train_batches: {limit}\n  accumulate_grad_batches: 1\ndata:\n  batch_size: 16\n"
    (folder / "config.yaml").write_text(config)
    assert steps_of(run_in(folder)) == steps


def test_losses_of_batches_come_as_they_are_written_and_stay_bounded(tmp_path: Path) -> None:
    writer, steps = SummaryWriter(tmp_path), Steps(tmp_path)
    assert steps.losses() == []
    writer.add_scalar("train/loss_step", 1.5, 10)
    writer.flush()
    assert steps.losses() == [(10, 1.5)]
    for step in range(3 * POINTS):
        writer.add_scalar("train/loss_step", float("nan") if step == 5 else 1.0, step)
    writer.close()
    assert len(steps.losses()) <= POINTS


def test_learning_rates_are_read_on_thinned_out_and_begun_anew(folder: Path) -> None:
    path, steps = folder / "learning_rate.csv", Steps(folder)
    assert see(run_in(folder), steps).rates == [{"step": step, "lr": pytest.approx(0.1 * step)} for step in range(5)]
    with path.open("a") as file:
        file.write("5,0.75\n6,0.")  # torn
    assert see(run_in(folder), steps).rates[-1] == {"step": 5.0, "lr": 0.75}
    with path.open("a") as file:
        file.write("5\n" + "".join(f"{step},1e-3\n" for step in range(7, 5 * POINTS)))
    sight = see(run_in(folder), steps)
    assert sight.step == 5 * POINTS
    assert [row["step"] for row in sight.rates] == [8.0 * number for number in range(len(sight.rates))]
    assert POINTS / 2 < len(sight.rates) <= POINTS
    path.write_text("step,lr\n0,0.25\n")
    sight = see(run_in(folder), steps)
    assert (sight.step, sight.rates) == (1, [{"step": 0.0, "lr": 0.25}])


def test_a_step_that_came_twice_counts_as_it_came_last() -> None:
    assert last_points([(1, 0.5), (2, 0.4), (1, 0.6)]) == [(1, 0.6), (2, 0.4)]


def test_steps_are_on_the_disk_before_the_epoch_is_over(
    tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a curve begins within seconds, however long an epoch is."""
    from vit_lightning import cli
    from vit_lightning.callbacks import history

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(history, "SHOWN_EVERY", 0.0)
    seen = list[int]()
    before = history.History.on_train_epoch_end

    def look(self: history.History, trainer: object, pl_module: object) -> None:
        seen.append(see(Run(self.folder, {}), Steps(self.folder)).step)
        before(self, trainer, pl_module)  # type: ignore[arg-type]  # as Lightning calls it

    monkeypatch.setattr(history.History, "on_train_epoch_end", look)
    words = [
        "--model.image_size=[36,60]",
        "--model.patch_size=12",
        "--model.dim=16",
        "--model.depth=1",
        "--model.heads=2",
    ]
    words += ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.num_workers=0", "--data.batch_size=16"]
    assert cli.main(["fit", f"--data.root={frames}", *words, "--run=one"]) == 0
    assert seen[0] > 1
    assert jobs.device_of_run(run_in(tmp_path / "lightning_logs/one")) == "cpu"


def test_a_long_run_s_curves_are_drawn_anew_every_few_seconds_and_with_every_epoch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit

    from vit_lightning.studio.views import watch

    state: dict[str, object] = {}
    monkeypatch.setattr(streamlit, "session_state", state)
    begun = see(run_in(folder))
    assert watch.settled([begun]) == [begun]
    later = replace(begun, step=begun.step + 1)
    assert watch.settled([later]) == [later]  # the first points come at once
    long, longer = replace(begun, step=watch.FEW), replace(begun, step=watch.FEW + 9)
    state.clear()
    assert watch.settled([long]) == [long]
    assert watch.settled([longer]) == [long]
    another = replace(longer, epochs=[*longer.epochs, {"epoch": 2.0}])
    assert watch.settled([another]) == [another]
    monkeypatch.setattr(watch, "PACE", -1.0)
    assert watch.settled([longer]) == [longer]
