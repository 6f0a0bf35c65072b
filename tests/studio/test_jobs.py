"""Commands as processes of their own: the queue, stopping, and what is left after a kill."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from vit_lightning.runs import read_json
from vit_lightning.studio import jobs
from vit_lightning.studio.jobs import Job


def wait_for(logs: Path, job: Job, states: tuple[str, ...], seconds: float = 60.0) -> Job:
    """The job once it is in one of these states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = next(each for each in jobs.jobs_in(logs) if each.id == job.id)
        if now.state in states:
            return now
        time.sleep(0.1)
    raise AssertionError(f"still {now.state}: {now.record}, {now.tail()}")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "lightning_logs"


@pytest.fixture
def put(logs: Path) -> Callable[..., Job]:
    """Writes a record as an earlier process would have left it."""

    def write(number: int, words: list[str], **facts: object) -> Job:
        path = logs / jobs.FOLDER / f"{number:020}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"words": words, "device": "cpu", "state": "running"} | facts))
        return Job(path, read_json(path))

    return write


def test_a_job_says_what_its_command_said_and_how_it_ended(logs: Path) -> None:
    job = jobs.start(logs, ["runs"])
    assert job.active
    done = wait_for(logs, job, ("done", "failed"))
    assert done.state == "done"
    assert done.tail() == ["no run in lightning_logs yet; start one: python cli.py fit --config configs/demo.yaml"]
    assert done.line == "python cli.py runs"
    assert jobs.jobs_in(logs)[0].record["status"] == 0


def test_a_failed_job_gives_its_one_line(logs: Path) -> None:
    failed = wait_for(logs, jobs.start(logs, ["sweep", "--grid=model.depth=1", "--run=a b"]), ("done", "failed"))
    assert failed.state == "failed"
    assert failed.reason().startswith("error: --run 'a b' cannot be a sweep's name")


def test_trainings_on_one_device_wait_for_each_other_and_others_do_not(logs: Path, put: Callable[..., Job]) -> None:
    before = put(1, ["fit", "--run=before"])
    with FileLock(before.lock):  # as its process holds it
        second = jobs.start(logs, ["sweep", "--nonsense"], "cpu")
        third = jobs.start(logs, ["sweep", "--nonsense"], "cpu")
        elsewhere = jobs.start(logs, ["sweep", "--nonsense"], "cuda")
        wait_for(logs, elsewhere, ("failed",))
        assert [each.state for each in jobs.jobs_in(logs)] == ["running", "waiting", "waiting", "failed"]
        jobs.stop(second)
        wait_for(logs, second, ("stopped",))
        assert jobs.jobs_in(logs)[2].state == "waiting"
    wait_for(logs, third, ("failed",))  # its turn came


def test_a_job_whose_process_was_killed_is_lost_and_holds_nobody_up(logs: Path, put: Callable[..., Job]) -> None:
    before = put(1, ["fit", "--run=before"])
    with FileLock(before.lock):
        waiting = jobs.start(logs, ["fit", "--run=waiting"], "cpu")
        wait_for(logs, waiting, ("waiting",))
        while "watcher" not in (told := read_json(waiting.path)):
            time.sleep(0.1)
        os.kill(told["watcher"], signal.SIGKILL)
        wait_for(logs, waiting, ("lost",))
    put(1, ["fit", "--run=before"], state="done")
    last = jobs.start(logs, ["sweep", "--nonsense"], "cpu")
    wait_for(logs, last, ("failed",))
    assert jobs.jobs_in(logs)[1].state == "lost"


def test_a_job_that_was_just_made_is_not_lost_before_its_process_appears(logs: Path, put: Callable[..., Job]) -> None:
    assert put(1, ["fit"], state="starting", made=time.time()).state == "waiting"
    assert put(2, ["fit"], state="starting", made=time.time() - 100).state == "lost"
    assert put(3, ["fit"], state="starting", made="soon").state == "lost"


def test_records_that_somebody_else_has_written_do_no_harm(logs: Path, put: Callable[..., Job]) -> None:
    path = put(1, [], state=["?"]).path
    path.write_text('{"words": "rm", "state": ["?"]}')
    job = Job(path, read_json(path))
    assert (job.words, job.command, job.run, job.state) == ([], "", None, "lost")
    job.path.write_text("[1")
    assert jobs.jobs_in(logs) == []


def test_the_oldest_jobs_are_forgotten_once_they_have_ended(
    logs: Path, put: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "REMEMBERED", 2)
    for number in range(1, 5):
        put(number, ["fit"], state="done").log.write_text("x")
    jobs.forget(logs / jobs.FOLDER)
    assert [int(job.id) for job in jobs.jobs_in(logs)] == [3, 4]
    assert sorted(path.suffix for path in (logs / jobs.FOLDER).iterdir()) == [".json", ".json", ".log", ".log"]


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("\n".join(f"line {number}" for number in range(100_000)))
    assert jobs.last_lines(path, 2) == ["line 99998", "line 99999"]
    assert jobs.last_lines(tmp_path / "none", 2) == []


def test_a_command_is_quoted_to_be_copied() -> None:
    assert jobs.command_line(["fit", "--data.root=/a b"]) == "python cli.py fit '--data.root=/a b'"
