"""One process's share of a sweep: takes trials, watches them, and gives them back where it is stopped."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from optuna.trial import TrialState

from vit_lightning.sweep.study import OPEN, STAMP, Study
from vit_lightning.sweep.table import Table, outcome_line
from vit_lightning.sweep.trial import Job, Outcome, Setup

log = logging.getLogger(__name__)

#: Seconds between two looks at the trainings here, and between two at what there is to do where nothing was.
LOOK, ASK = 0.3, 3.0

#: So many failures of a process one after another, and it is the command or the machine that is wrong.
FAILURES = 3


class Worker:
    """Runs trials until the study is through.

    Args:
        study: The study.
        setup: Of its trials.
        table: Where it shows how it goes.
    """

    def __init__(self, study: Study, setup: Setup, table: Table) -> None:
        self.study, self.setup, self.table = study, setup, table
        self.jobs: dict[int, Job] = {}  # by slot
        self.received: int | None = None
        self.failures = 0
        self.asked = self.signed = float("-inf")

    def work(self) -> int:
        """Runs what is there to be run.

        Returns:
            0, or the exit status of a process that was stopped.

        Raises:
            ValueError: Trials fail one after another.
        """
        with self.signals(), self.table.shown():
            try:
                while self.received is None:
                    self.look()
                    if self.take() and not self.jobs and not self.study.trials(OPEN):
                        return 0
                    self.table.update(self.study, list(self.jobs.values()))
                    time.sleep(LOOK)
            finally:
                self.stop()
        return 128 + self.received

    def take(self) -> bool:
        """Fills the free places, asking from time to time; whether it asked, and there was nothing to take."""
        for slot in range(self.setup.jobs):
            if slot not in self.jobs:
                if time.monotonic() - self.asked < ASK:
                    return False
                claim = self.study.claim()
                for trial, value in self.study.dropped:
                    outcome = Outcome(TrialState.PRUNED, value)
                    log.info("%s", outcome_line(self.setup.run_name(trial.number), trial.params, outcome))
                self.study.dropped.clear()
                if claim is None:
                    self.asked = time.monotonic()
                    return True
                self.jobs[slot] = Job(claim, self.study, self.setup, slot)
        return False

    def look(self) -> None:
        """Looks at every trial here, and ends those that have ended."""
        if time.monotonic() - self.signed > STAMP:
            self.signed = time.monotonic()
            lost = self.study.renew([job.claim for job in self.jobs.values()])
            for slot, job in list(self.jobs.items()):
                if job.claim in lost:
                    log.warning("%s was taken over by another process, as this one slept", job.run)
                    self.jobs.pop(slot).stop()
        for slot, job in list(self.jobs.items()):
            outcome = job.step()
            if outcome is not None:
                del self.jobs[slot]
                self.end(job, outcome)

    def end(self, job: Job, outcome: Outcome) -> None:
        """Writes how a trial ended."""
        if outcome.state != TrialState.FAIL:
            job.output.unlink(missing_ok=True)
        if outcome.paused:
            self.study.pause(job.claim, outcome.facts)
            log.info("%s", outcome_line(self.setup.run_name(job.claim.number), job.claim.point, outcome))
            self.asked = float("-inf")
            return
        if outcome.state is None:
            self.study.release(job.claim)
            return
        if not self.study.finish(job.claim, outcome.state, outcome.value, outcome.facts):
            return
        self.asked = float("-inf")
        line = outcome_line(self.setup.run_name(job.claim.number), job.claim.point, outcome)
        log.log(logging.WARNING if outcome.state == TrialState.FAIL else logging.INFO, "%s", line)
        self.failures = self.failures + 1 if outcome.state == TrialState.FAIL else 0
        if self.failures == FAILURES:
            raise ValueError(
                f"{FAILURES} trials failed one after another, the last one so: {outcome.facts.get('note')}; mend it, "
                "and repeat the command"
            )

    def stop(self) -> None:
        """Ends what still runs here after its batch, and gives it back."""
        if self.jobs:
            log.info("%d trainings end after their batch; Ctrl-C again does not wait for them", len(self.jobs))
        for job in self.jobs.values():
            job.stop()
        while self.jobs:
            with suppress(ValueError):  # there is a reason to stop already
                self.look()
            time.sleep(LOOK)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end a block between two looks; a second Ctrl-C does at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self.note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remembers the first signal."""
        del frame
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
