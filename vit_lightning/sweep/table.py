"""What the terminal shows of a sweep: a table that lives, or where nobody watches a line a finished trial."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich import get_console
from rich.live import Live
from rich.table import Table as RichTable

from vit_lightning.progress import is_terminal
from vit_lightning.sweep.study import ALIVE, FINISHED, OPEN, Study
from vit_lightning.sweep.trial import Job, Outcome, Setup

#: Seconds between two looks at the study.
REFRESH = 2.0

#: States in words, in the order of the table.
WORDS = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "done",
    TrialState.WAITING: "waits",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


class Table:
    """The live table.

    Args:
        setup: Of the sweep's trials.
        wanted: How many trials there are to be.
    """

    def __init__(self, setup: Setup, wanted: int) -> None:
        self.setup, self.wanted = setup, wanted
        self.live: Live | None = None
        self.updated = float("-inf")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """A block in which it is shown, if anybody watches."""
        if not is_terminal():
            yield
            return
        with Live(console=get_console(), auto_refresh=False, transient=True) as self.live:
            yield
        self.live = None

    def update(self, study: Study, jobs: Sequence[Job]) -> None:
        """Brings it up to date, from time to time."""
        if self.live is None or time.monotonic() - self.updated < REFRESH:
            return
        self.updated = time.monotonic()
        self.live.update(self.drawn(study.trials(), jobs), refresh=True)

    def drawn(self, trials: Sequence[FrozenTrial], jobs: Sequence[Job]) -> RichTable:
        """All that run, and the best of the others as far as there is room."""
        console = get_console()
        epochs = {job.claim.number: job.epochs_before + job.epoch for job in jobs}
        table = RichTable(title=self.title(trials), title_justify="left", box=None, pad_edge=False)
        for name, side in (("trial", "left"), ("state", "left"), ("epochs", "right"), ("val/acc", "right")):
            table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]  # one of rich's words
        table.add_column("point", overflow="fold")
        order = list(WORDS)
        shown = sorted(
            (trial for trial in trials if trial.state != TrialState.WAITING or trial.last_step is not None),
            key=lambda trial: (order.index(trial.state), -(score_of(trial) or 0.0)),
        )
        for trial in shown[: max(3, console.height - 6)]:
            score, done = score_of(trial), epochs.get(trial.number, trial.user_attrs.get("epochs", trial.last_step))
            table.add_row(
                self.setup.run_name(trial.number),
                WORDS[trial.state],
                "" if done is None else f"{int(done)}",
                "" if score is None else f"{score:.4f}",
                point_words(trial.params),
            )
        return table

    def title(self, trials: Sequence[FrozenTrial]) -> str:
        """How far it has come, and how long it will take."""
        count = {state: sum(trial.state == state for trial in trials) for state in TrialState}
        text = f"{self.setup.name}: {sum(count[state] for state in FINISHED)} of {self.wanted} done"
        for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
            text += f", {count[state]} {WORDS[state]}" if count[state] else ""
        left = seconds_left(trials, self.wanted)
        return text if left is None else f"{text}; {duration(left)} left"


def seconds_left(trials: Sequence[FrozenTrial], wanted: int) -> float | None:
    """How long the rest takes if trials take as long as those so far, as many at once; None before one ends."""
    took = [trial.duration.total_seconds() for trial in trials if trial.state in FINISHED and trial.duration]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING and trial.datetime_start]
    if not took or not running:
        return None
    mean = sum(took) / len(took)
    now = datetime.now()  # without a zone, as Optuna's
    spent = sum(min(mean, (now - trial.datetime_start).total_seconds()) for trial in running if trial.datetime_start)
    waiting = wanted - sum(trial.state in ALIVE for trial in trials) + sum(trial.state in OPEN for trial in trials)
    return max(0.0, mean * waiting - spent) / len(running)


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def score_of(trial: FrozenTrial) -> float | None:
    """A trial's score; of one that runs or was pruned, the last that it has told."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    return trial.intermediate_values[trial.last_step] if trial.last_step is not None else trial.value


def point_words(point: Mapping[str, Any]) -> str:
    """A point for people: options without their sections, numbers in few digits."""
    return "  ".join(
        f"{key.rpartition('.')[2]} {value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]} {value}"
        for key, value in point.items()
    )


def outcome_line(run: str, point: Mapping[str, Any], outcome: Outcome) -> str:
    """How a trial ended, in a line."""
    text = f"{run}  {WORDS[outcome.state] if outcome.state else WORDS[TrialState.WAITING]}"
    if outcome.value is not None:
        text += f"  val/acc {outcome.value:.4f}"
    interval = outcome.facts.get("interval")
    if interval:
        text += f" ({interval[0]:.4f} to {interval[1]:.4f})"
    text += f"  {point_words(point)}"
    return f"{text}: {outcome.facts['note']}" if "note" in outcome.facts else text
