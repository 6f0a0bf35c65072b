"""The process of one job: waits for its turn, runs the command, and writes down how it ended.

python -m vit_lightning.studio.job RECORD
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vit_lightning.files import write_text
from vit_lightning.runs import now, read_json
from vit_lightning.studio.jobs import Job, has_its_turn

#: Seconds between two looks.
PAUSE = 0.3


def main(record: Path) -> int:
    """Runs a job; gives the command's exit status."""
    job = Job(record, read_json(record))
    if not job.words:
        return 2
    # Whoever started the studio in the background of a shell had it ignore Ctrl-C; the command has to take it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lock = FileLock(job.lock)
    try:
        lock.acquire(timeout=10)
    except Timeout:
        return 2  # it was started twice
    try:
        return carry_out(job)
    finally:
        lock.release()


def carry_out(job: Job) -> int:
    """Waits, runs and tells."""
    tell(job, state="waiting", watcher=os.getpid())
    while not has_its_turn(job):
        if job.stop_file.exists():
            tell(job, state="stopped", ended=now())
            return 130
        time.sleep(PAUSE)
    if job.stop_file.exists():
        tell(job, state="stopped", ended=now())
        return 130
    with job.log.open("ab") as log:
        command = [sys.executable, "-m", "vit_lightning.cli", *job.words]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        tell(job, state="running", begun=now(), pid=child.pid)
        stopped = False
        while child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(PAUSE)
            if not stopped and child.poll() is None and job.stop_file.exists():
                child.send_signal(signal.SIGINT)
                stopped = True
    state = "done" if child.returncode == 0 else "stopped" if stopped else "failed"
    tell(job, state=state, ended=now(), status=child.returncode)
    return child.returncode


def tell(job: Job, **facts: object) -> None:
    """Writes into the record; a full disk costs the record, never the run."""
    job.record.update(facts)
    with suppress(OSError):
        write_text(job.path, json.dumps(job.record))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
