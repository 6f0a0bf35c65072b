"""A trial: one `fit` after another, each a process of its own, watched through its run's folder."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from vit_lightning.evaluation.intervals import t_quantile
from vit_lightning.runs import DIVERGED, read_numbers, read_status
from vit_lightning.sweep.space import words
from vit_lightning.sweep.storage import machine
from vit_lightning.sweep.study import Claim, Study, is_locked

log = logging.getLogger(__name__)

#: How often a training that is killed without having come further is begun again.
ATTEMPTS = 3

#: What `fit` says of a run that another process trains.
BUSY = "is being trained by another process"


@dataclass(frozen=True)
class Setup:
    """What all trials of a sweep have in common.

    Args:
        name: Of the sweep; its trials are NAME-001 and so on.
        logs: The log folder.
        options: Of `fit`, for every trial.
        place: The option of `fit` that says where the log folder is, if it was given.
        folds: How many folds a trial is trained on; 0 without.
        seeds: With how many seeds; 0 without.
        epochs: Of a training, at most; None where it ends otherwise.
        jobs: Trainings at once on this machine.
        gpus: That `fit` finds here, if each training takes one.
        program: What understands `fit`.
    """

    name: str
    logs: Path
    options: tuple[str, ...]
    place: tuple[str, ...] = ()
    folds: int = 0
    seeds: int = 0
    epochs: int | None = None
    jobs: int = 1
    gpus: int = 0
    program: tuple[str, ...] = (sys.executable, "-m", "vit_lightning.cli")

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.logs / self.name

    def run_name(self, number: int) -> str:
        """The name of a trial."""
        return f"{self.name}-{number + 1:03}"

    def members(self, number: int) -> list[tuple[str, list[str]]]:
        """Name and own options of each training of a trial; all folds of a seed before the next seed."""
        run = self.run_name(number)
        found = []
        for seed in range(max(1, self.seeds)):
            for fold in range(1, max(1, self.folds) + 1):
                member, own = run, []
                if self.folds:
                    member, own = f"{member}-f{fold}", [f"--data.fold={fold}/{self.folds}"]
                if self.folds or self.seeds:
                    member, own = f"{member}-s{seed}", [*own, *([f"--seed_everything={seed}"] if self.seeds else [])]
                found.append((member, own))
        return found

    def environment(self, slot: int) -> dict[str, str]:
        """What a training beside others is given of the machine: its own GPU, or its share of the processor's cores."""
        changed = {}
        if self.jobs > 1 and self.gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
            devices = visible.split(",")
            changed["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
        elif self.jobs > 1 and not self.gpus and "OMP_NUM_THREADS" not in os.environ:
            changed["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.jobs))
        return {**os.environ, **changed}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; without a state it did not, and is somebody else's to go on with, or pauses at a rung."""

    state: TrialState | None
    value: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    paused: bool = False


class Job:
    """A trial that this process has.

    Args:
        claim: The trial.
        study: Its study.
        setup: Of all trials.
        slot: Which of the trainings at once it is.
    """

    def __init__(self, claim: Claim, study: Study, setup: Setup, slot: int) -> None:
        self.claim, self.study, self.setup, self.slot = claim, study, setup, slot
        self.members = setup.members(claim.number)
        self.scores: list[float] = []  # of the members that are through
        self.epochs_before = 0  # of those members
        self.reported = set(claim.reported)
        self.former = study.process(claim) if claim.begun else {}
        names = [name for name, _ in self.members]
        # Its runs that were begun; a run of such a name that is none of them is somebody else's.
        self.begun = set(names[: names.index(self.former["run"]) + 1]) if self.former else set()
        self.process: subprocess.Popen[bytes] | None = None
        self.rows: list[dict[str, float]] = []  # of the member's history
        self.attempts, self.furthest = 0, -1
        self.told_to_pause = False
        self.stopping = False

    @property
    def run(self) -> str:
        """The run of the member that is being trained."""
        return self.members[min(len(self.scores), len(self.members) - 1)][0]

    @property
    def folder(self) -> Path:
        """That run's folder."""
        return self.setup.logs / self.run

    @property
    def output(self) -> Path:
        """Where its process writes what it would say on a terminal; run.log begins later."""
        return self.setup.folder / f"{self.run}.out"

    @property
    def epoch(self) -> int:
        """How many epochs of the member are through."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def best(self) -> float | None:
        """The best validation accuracy so far of the member that is being trained."""
        return max((row["val/acc"] for row in self.rows if "val/acc" in row), default=None)

    def step(self) -> Outcome | None:
        """Looks how it goes, reports its score and begins what is to be done next; gives its end when it has come."""
        trained = self.is_trained()  # before a look at the rows: of one that ended just now all are seen
        self.rows = read_numbers(self.folder / "history.csv") if self.run in self.begun else []
        if len(self.members) == 1:
            self.report_epochs()
        return None if trained else self.conclude()

    def is_trained(self) -> bool:
        """Whether a process trains the member: this one's own, or one that outlived the process that started it."""
        if self.process is not None:
            return self.process.poll() is None
        if self.run not in self.begun:
            return False
        lock = self.folder / ".lock"
        return (lock.is_file() and is_locked(lock)) or self.former_lives

    @property
    def former_lives(self) -> bool:
        """Whether the training that another process of this machine began is there; it takes its lock late."""
        known = self.former
        here = known.get("machine") == machine() and known.get("run") == self.run
        return here and is_fit(known["pid"], self.run)

    def report_epochs(self) -> None:
        """Tells the study the best score up to each new epoch, and stops where the trial is to pause."""
        best = 0.0
        for row in self.rows:
            best, epoch = max(best, row.get("val/acc", 0.0)), int(row["epoch"])
            if "val/acc" in row and epoch not in self.reported:
                self.report(best, epoch)
        if self.at_rung and not self.told_to_pause:
            self.told_to_pause = True
            self.terminate()

    @property
    def at_rung(self) -> bool:
        """Whether it has come to the epoch at which it pauses."""
        return self.claim.limit is not None and any(step >= self.claim.limit for step in self.reported)

    def report(self, value: float, step: int) -> None:
        """Tells the study a score."""
        with suppress(UpdateFinishedTrialError):  # by the process that has it now
            self.claim.trial.report(value, step)
            self.reported.add(step)

    def is_hopeless(self) -> bool:
        """Whether the pruner sees no hope for it."""
        with suppress(UpdateFinishedTrialError):
            return self.claim.trial.should_prune()
        return False

    def conclude(self) -> Outcome | None:
        """What follows now that nothing trains the member."""
        status = None if self.process is None else self.process.returncode
        self.process = None
        mine = self.run in self.begun
        through = mine and read_status(self.folder / "status.json").get("state") == "finished"
        whole = self.setup.epochs is not None and self.epoch >= self.setup.epochs
        if self.best is not None and (through or (whole and status == 2)):  # killed behind its last checkpoint
            return self.next_member(self.best)
        if self.at_rung:
            return Outcome(None, self.best, self.facts(), paused=True)
        if self.stopping:
            return Outcome(None)
        if status is None:
            self.start()
            return None
        if status < 0 or status in (128 + signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGINT):
            self.attempts = self.attempts + 1 if self.epoch <= self.furthest else 1
            self.furthest = max(self.furthest, self.epoch)
            if self.attempts < ATTEMPTS:
                log.warning("%s was killed (status %d) and goes on", self.run, status)
                self.start()
                return None
            return Outcome(TrialState.FAIL, None, self.facts(f"killed {ATTEMPTS} times without getting any further"))
        line = last_line(self.output)
        if BUSY in line:  # by a process that outlived its own on another machine: is_trained has not seen its lock
            return None
        if DIVERGED in line:
            return Outcome(TrialState.PRUNED, self.best, self.facts(line))
        return Outcome(TrialState.FAIL, None, self.facts(line or f"fit ended with status {status}"))

    def next_member(self, score: float) -> Outcome | None:
        """Goes on to the next training, if any is left and worth it."""
        self.output.unlink(missing_ok=True)
        self.scores.append(score)
        self.epochs_before, self.attempts, self.furthest = self.epochs_before + self.epoch, 0, -1
        self.rows = []
        mean = float(np.mean(self.scores))
        if len(self.members) == 1:
            return Outcome(TrialState.COMPLETE, mean, self.facts())
        if len(self.scores) - 1 not in self.reported:
            self.report(score, len(self.scores) - 1)
        if len(self.scores) == len(self.members):
            return Outcome(TrialState.COMPLETE, mean, self.facts())
        if self.is_hopeless():
            return Outcome(TrialState.PRUNED, mean, self.facts())
        return None  # the next step begins it

    def facts(self, note: str | None = None) -> dict[str, Any]:
        """What is kept of the trial beside its score."""
        found: dict[str, Any] = {"runs": [name for name, _ in self.members[: max(1, len(self.scores))]]}
        found["epochs"] = self.epochs_before + self.epoch
        if len(self.members) > 1:
            found |= {"scores": self.scores, "interval": mean_interval(self.scores)}
        return found | ({"note": note} if note else {})

    def start(self) -> None:
        """Starts the member's training, or goes on with it where there is a checkpoint."""
        mine = self.run in self.begun
        if mine and any(self.folder.glob("**/*.ckpt")):
            options = [f"--resume={self.run}", *self.setup.place]
        else:
            if mine and self.folder.exists():  # of an attempt that was killed before there was anything to lose
                shutil.rmtree(self.folder)
            own = self.members[len(self.scores)][1]
            options = [*self.setup.options, *words(self.claim.point), *own, f"--run={self.run}"]
        self.begun.add(self.run)
        self.study.note_process(self.claim, {"pid": 0, "machine": machine(), "run": self.run})  # if it is killed here
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.setup.program, "fit", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.setup.environment(self.slot),
            )
        self.study.note_process(self.claim, {"pid": self.process.pid, "machine": machine(), "run": self.run})

    def stop(self) -> None:
        """Has the training end after its batch, and the trial be given back."""
        self.stopping = True
        self.terminate()

    def terminate(self) -> None:
        """SIGTERM to the training, whoever started it."""
        if self.process is not None:
            self.process.terminate()
            return
        if self.former_lives:
            os.kill(self.former["pid"], signal.SIGTERM)


def is_fit(pid: int, run: str) -> bool:
    """Whether a process number is still that of a run's training; where the system does not tell, it is not."""
    with suppress(OSError):
        return pid > 0 and run.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def last_line(path: Path) -> str:
    """The error that a process has told, or else the last line that it has said; '' where it said none."""
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def mean_interval(scores: Sequence[float]) -> list[float] | None:
    """The 95 % interval of the mean over folds and seeds, by Student's t; None for a single one.

    Trainings of one data set are not independent, so it is rather too narrow: it says how far they are apart.
    """
    if len(scores) < 2:
        return None
    values = np.array(scores)
    half = float(t_quantile(len(values))) * float(values.std(ddof=1)) / len(values) ** 0.5
    return [float(values.mean()) - half, float(values.mean()) + half]
