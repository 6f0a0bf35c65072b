"""Commands as processes of their own: queued, stopped, and found again. Neither torch nor Streamlit in here.

A job is a record in `lightning_logs/.studio/`, a log beside it, and a process (`job.py`) that waits for its turn, runs
the command and writes down how it ended. The process is nobody's child for long: pages and studio may end, also by a
kill, and jobs wait, start and end all the same. As with runs, a lock tells whether a job's process is still there.

The rule: one training at a time on a device, first come, first served. What is no training starts at once.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vit_lightning.files import write_text
from vit_lightning.runs import Run, now, read_json, read_status

#: Where jobs are kept, in the folder of runs; `runs` passes over what begins with a dot.
FOLDER = ".studio"

#: Commands that train, and so wait for one another.
TRAININGS = ("fit", "sweep", "folds")

#: Seconds that a job's process has to appear.
APPEARS = 30.0

#: Jobs that are remembered; the records and logs of older ones are removed once they have ended.
REMEMBERED = 200

#: Bytes of a log that are looked at, from its end.
TAIL = 64_000


@dataclass(frozen=True)
class Job:
    """One command that the studio started.

    Args:
        path: Its record.
        record: What that says.
    """

    path: Path
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """Jobs are in the order of their ids."""
        return self.path.stem

    @property
    def words(self) -> list[str]:
        """What follows `cli.py`."""
        words = self.record.get("words")
        return [str(word) for word in words] if isinstance(words, list) else []

    @property
    def command(self) -> str:
        """The command's name."""
        return self.words[0] if self.words else ""

    @property
    def line(self) -> str:
        """The command, ready to be copied."""
        return command_line(self.words)

    @property
    def run(self) -> str | None:
        """The name of the run that it trains or uses, as far as it says so."""
        for word in self.words:
            name, equals, value = word.partition("=")
            if equals and name in ("--run", "--resume"):
                return value
        return None

    @property
    def device(self) -> str:
        """What it computes on."""
        return str(self.record.get("device", ""))

    @property
    def log(self) -> Path:
        """What the command says."""
        return self.path.with_suffix(".log")

    @property
    def lock(self) -> Path:
        """Held by its process."""
        return self.path.with_suffix(".lock")

    @property
    def stop_file(self) -> Path:
        """Is there once it was asked to stop."""
        return self.path.with_suffix(".stop")

    @cached_property
    def state(self) -> str:
        """`waiting`, `running`, `done`, `stopped`, `failed`, or `lost`: its process was killed."""
        told = str(self.record.get("state"))
        if told in ("done", "stopped", "failed"):
            return told
        if held(self.lock):
            return "running" if told == "running" else "waiting"
        made = self.record.get("made")
        new = isinstance(made, int | float) and 0 <= time.time() - made < APPEARS
        return "waiting" if told == "starting" and new else "lost"

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")

    def tail(self, lines: int = 200) -> list[str]:
        """The last lines of its log."""
        return last_lines(self.log, lines)

    def reason(self) -> str:
        """The line that says why it failed, or its last one."""
        said = [line for line in self.tail() if line.strip()]
        errors = [line for line in said if "error" in line[:40].lower()]
        return (errors or said or [""])[-1].strip()


def start(logs: Path, words: Sequence[str], device: str = "cpu") -> Job:
    """Starts a command as a process of its own, which waits for its turn.

    Args:
        logs: The folder of runs.
        words: What follows `cli.py`.
        device: What it computes on, by any name; trainings on the same one wait for each other.

    Raises:
        OSError: The record cannot be written.
    """
    folder = logs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    forget(folder)
    path = folder / f"{time.time_ns():020}.json"
    record = {"words": list(words), "device": device, "state": "starting", "made": time.time(), "started": now()}
    write_text(path, json.dumps(record))
    subprocess.Popen(
        [sys.executable, "-m", "vit_lightning.studio.job", str(path.absolute())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # no Ctrl-C of the studio's terminal reaches it
    )
    return Job(path, record)


def stop(job: Job) -> None:
    """Asks a job to stop, as Ctrl-C does; one that waits does not begin.

    Raises:
        OSError: The disk is full.
    """
    job.stop_file.touch()


def stop_run(run: Run) -> bool:
    """Stops a run on this machine as Ctrl-C does, whoever started it; whether there was a process to tell."""
    pid = run.status.get("pid")
    if Run(run.folder, run.status).state != "running" or run.elsewhere or not isinstance(pid, int) or pid <= 1:
        return False
    with suppress(OSError):
        os.kill(pid, signal.SIGINT)
        return True
    return False


def jobs_in(logs: Path) -> list[Job]:
    """All jobs that are remembered, the earliest first."""
    paths = sorted((logs / FOLDER).glob("[0-9]*.json"))
    return [Job(path, record) for path in paths if (record := read_json(path))]


def job_of(logs: Path, run: str) -> Job | None:
    """The latest job that trains or trained a run."""
    found = [job for job in jobs_in(logs) if job.run == run and job.command in TRAININGS]
    return found[-1] if found else None


def has_its_turn(job: Job) -> bool:
    """Whether no earlier training on the same device waits or runs."""
    if job.command not in TRAININGS:
        return True
    logs = job.path.parent.parent
    for other in jobs_in(logs):
        if other.id >= job.id:
            return True
        if other.command in TRAININGS and other.device == job.device and (other.active or trains_on(other, logs)):
            return False
    return True


def trains_on(job: Job, logs: Path) -> bool:
    """Whether a job's training goes on although its own process was killed."""
    if job.state != "lost" or job.run is None:
        return False
    folder = logs / job.run
    return Run(folder, read_status(folder / "status.json")).state == "running"


def held(lock: Path) -> bool:
    """Whether a process holds a lock."""
    if not lock.is_file():
        return False
    tried = FileLock(lock)
    try:
        tried.acquire(blocking=False)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    tried.release()
    return False


def forget(folder: Path) -> None:
    """Removes what is left of all but the latest jobs that have ended."""
    for path in sorted(folder.glob("[0-9]*.json"))[:-REMEMBERED]:
        job = Job(path, read_json(path))
        if not job.active:
            for each in (job.log, job.lock, job.stop_file, path):
                with suppress(OSError):
                    each.unlink()


def command_line(words: Sequence[str]) -> str:
    """A command as one types it."""
    return shlex.join(["python", "cli.py", *words])


def last_lines(path: Path, lines: int) -> list[str]:
    """The last lines of a text file, however long it is; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def device_of_run(run: Run) -> str:
    """What a run computed on, by the name that its first job had: `cpu`, `cuda` or `mps`."""
    return str(run.status.get("device") or "cpu").partition(" ")[0]
