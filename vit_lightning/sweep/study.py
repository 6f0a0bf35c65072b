"""A study shared by many processes: what is to be run, who runs it, and whose process is gone."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from vit_lightning.sweep.halving import RUNG, Halving, is_paused, passed
from vit_lightning.sweep.space import Point, Space, draw_point
from vit_lightning.sweep.storage import Storage, machine

#: Seconds between two signs of life of a trial's process, and after which without one another machine takes it over.
STAMP, STALE = 20.0, 120.0

#: Seeds of one search's draws; a draw's own seed makes it the same whichever process draws.
SEEDS = 100_000

#: Of trials that will give a score, or did.
ALIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
OPEN = (TrialState.WAITING, TrialState.RUNNING)

#: Attributes of a trial: whose it is, and its process.
OWNER, PROCESS = "sweep:owner", "sweep:process"


@dataclass(frozen=True)
class Plan:
    """What a study is: the same for all processes that work on it.

    Args:
        space: What varies.
        trials: How many points a search draws; None for a grid, of which all points are run.
        seed: Of a search's draws.
        asked: All this and the rest of what was asked for, by which processes agree; JSON.
    """

    space: Space
    trials: int | None
    seed: int = 0
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def exhaustive(self) -> bool:
        """Whether all points there are will be run."""
        return self.trials is None or (self.space.finite and self.trials >= self.space.size)


@dataclass(frozen=True)
class Claim:
    """A trial that this process has, and nobody else."""

    number: int
    point: Point
    trial: Trial
    begun: bool  # whether anybody had it before
    reported: frozenset[int]  # steps of which there is a score
    limit: int | None = None  # epochs after which it pauses


class Study:
    """A study in a storage, as one process of many sees it. Whatever they agree on happens inside `storage.alone`.

    A trial's owner renews its sign of life while it runs. One whose process is gone is given to the next that asks:
    at once on the same machine, where a lock tells; elsewhere when its sign has not changed for `STALE` seconds of
    one's own clock, as the clocks of machines differ.

    Args:
        name: Of the study.
        folder: Of the study; the locks of this machine's processes are in it.
        storage: Where it is kept.
        plan: What it is.

    Raises:
        ValueError: The study was begun with another plan.
    """

    def __init__(self, name: str, folder: Path, storage: Storage, plan: Plan) -> None:
        self.name, self.storage, self.plan = name, storage, plan
        self.worker = uuid.uuid4().hex
        self.lock = FileLock(folder.absolute() / "workers" / f"{self.worker}.lock")
        Path(self.lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        self.lock.acquire()  # the system lets go of it however the process ends
        self.halving: Halving | None = None
        self.dropped: list[tuple[FrozenTrial, float]] = []
        self.seen: dict[int, tuple[Any, float]] = {}  # the last sign of a trial's owner, and since when it is known
        with storage.alone():
            self.optuna = optuna.create_study(
                storage=storage.optuna, study_name=name, direction="maximize", load_if_exists=True, pruner=NopPruner()
            )
            self.id = storage.optuna.get_study_id_from_name(name)
            self.agree()
            if plan.trials is None:
                self.enqueue()

    def close(self) -> None:
        """Leaves it; trials that this process still has are anybody's."""
        self.lock.release()
        Path(self.lock.lock_file).unlink(missing_ok=True)
        with suppress(OSError):
            Path(self.lock.lock_file).parent.rmdir()

    def agree(self) -> None:
        """Holds the plan against that of whoever began the study; more trials may be drawn than were asked for then."""
        before, asked = self.optuna.user_attrs.get("asked"), self.plan.asked
        if before is not None:
            check_plan(self.name, before, asked)
        if before != asked:
            self.optuna.set_user_attr("asked", asked)

    def agree_on(self, name: str, value: Any) -> Any:  # noqa: ANN401  # JSON
        """What whoever came first has said of something, which is told once for all."""
        with self.storage.alone():
            if name not in self.optuna.user_attrs:
                self.optuna.set_user_attr(name, value)
            return self.optuna.user_attrs[name]

    def begun(self) -> set[int]:
        """The numbers of the trials that somebody has had."""
        return {trial.number for trial in self.trials() if OWNER in trial.system_attrs}

    def enqueue(self) -> None:
        """Puts the points of a grid in line that are not there yet, those that failed among them."""
        there = [trial.user_attrs.get("point") for trial in self.trials(ALIVE)]
        for point in self.plan.space.points():
            if point not in there:
                self.put(point)

    def trials(self, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        """The trials, by number."""
        return self.optuna.get_trials(deepcopy=False, states=states)

    # Having a trial

    def claim(self) -> Claim | None:
        """The next trial for this process; None where there is nothing to do now.

        One left behind comes first, then one in line, then a new one; of those that pause at a rung the better ones, as
        soon as one can tell, or behind all others where all points are run anyhow.
        """
        with self.storage.alone():
            for frozen in self.trials(OPEN):
                if frozen.state == TrialState.RUNNING and not self.is_owned(frozen):
                    if not is_paused(frozen):
                        return self.take(frozen)
                    self.storage.optuna.set_trial_state_values(self.key(frozen.number), TrialState.WAITING)
            self.drop()
            trials = self.trials()
            waiting = [each for each in trials if each.state == TrialState.WAITING and not is_paused(each)]
            if waiting:
                return self.take(waiting[0])
            ahead = self.halving and not self.plan.exhaustive and self.halving.ahead(trials)
            if ahead:
                return self.take(ahead)
            if sum(trial.state in ALIVE for trial in trials) < (self.plan.trials or 0):
                self.put(draw_point(self.plan.space, trials, SEEDS * self.plan.seed + len(trials)))
                return self.take(self.trials()[-1])
            left = self.halving and self.halving.left(trials)
            return self.take(left) if left else None

    def drop(self) -> None:
        """Ends trials that pause and will never go on, and remembers them in `dropped`."""
        for frozen in self.halving.hopeless(self.trials()) if self.halving else ():
            value = max(frozen.intermediate_values.values(), default=0.0)
            self.storage.optuna.set_trial_state_values(self.key(frozen.number), TrialState.PRUNED, [value])
            self.dropped.append((frozen, value))

    def put(self, point: Point) -> None:
        """Puts a point in line."""
        self.optuna.enqueue_trial(point, user_attrs={"point": point})

    def take(self, frozen: FrozenTrial) -> Claim:
        """Makes a trial this process's own."""
        begun, key = OWNER in frozen.system_attrs, self.key(frozen.number)
        if frozen.state == TrialState.WAITING:
            self.storage.optuna.set_trial_state_values(key, TrialState.RUNNING)
        self.sign(frozen.number)
        if is_paused(frozen):
            self.storage.optuna.set_trial_system_attr(key, RUNG, {"passed": passed(frozen), "paused": False})
        trial = Trial(self.optuna, key)
        point = {parameter.key: parameter.suggest(trial) for parameter in self.plan.space.parameters}
        limit = self.halving.rungs[passed(frozen) :][:1] if self.halving else ()
        return Claim(frozen.number, point, trial, begun, frozenset(frozen.intermediate_values), *limit)

    def key(self, number: int) -> int:
        """The storage's own number of a trial."""
        return self.storage.optuna.get_trial_id_from_study_id_trial_number(self.id, number)

    def note_process(self, claim: Claim, process: dict[str, Any]) -> None:
        """Writes which process trains a trial, for whoever takes it over."""
        self.storage.optuna.set_trial_system_attr(self.key(claim.number), PROCESS, process)

    def process(self, claim: Claim) -> dict[str, Any]:
        """The process that trained a trial when it was last started; nothing where it never was."""
        found: dict[str, Any] = self.storage.optuna.get_trial(self.key(claim.number)).system_attrs.get(PROCESS, {})
        return found

    def sign(self, number: int) -> None:
        """Writes that this process has a trial, and is alive."""
        owner = {"worker": self.worker, "machine": machine(), "lock": self.lock.lock_file, "time": time.time()}
        self.storage.optuna.set_trial_system_attr(self.key(number), OWNER, dict[str, Any](owner))

    def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Gives a sign of life for trials.

        Returns:
            Those that another process took meanwhile, since this one gave none for too long.
        """
        lost = []
        for claim in claims:
            with self.having(claim) as own:
                if own:
                    self.sign(claim.number)
                else:
                    lost.append(claim)
        return lost

    @contextmanager
    def having(self, claim: Claim) -> Iterator[bool]:
        """A block in which it cannot change whether this process has a trial."""
        with self.storage.alone():
            frozen = self.storage.optuna.get_trial(self.key(claim.number))
            owner = frozen.system_attrs.get(OWNER) or {}
            yield frozen.state == TrialState.RUNNING and owner.get("worker") == self.worker

    def is_owned(self, frozen: FrozenTrial) -> bool:
        """Whether the process that has a running trial is there, as far as one can tell."""
        owner = frozen.system_attrs.get(OWNER)
        if not owner:
            return False  # whoever drew it was killed right then: it is drawn inside `alone`
        if owner["worker"] == self.worker:
            return True
        if owner["machine"] == machine() and Path(owner["lock"]).is_file():
            return is_locked(Path(owner["lock"]))
        sign, since = self.seen.get(frozen.number, (None, 0.0))
        if sign != (owner["worker"], owner["time"]):
            self.seen[frozen.number] = (owner["worker"], owner["time"]), time.monotonic()
            return True
        return time.monotonic() - since < STALE

    # The end of a trial

    def finish(
        self, claim: Claim, state: TrialState, value: float | None = None, facts: dict[str, Any] | None = None
    ) -> bool:
        """Writes how a trial ended, once for all.

        Args:
            claim: The trial.
            state: COMPLETE, PRUNED or FAIL.
            value: Its score.
            facts: User attributes.

        Returns:
            Whether this process still had it; otherwise nothing is written.
        """
        with self.having(claim) as own:
            if own:
                key, values = self.key(claim.number), None if value is None else [value]
                for name, fact in (facts or {}).items():
                    self.storage.optuna.set_trial_user_attr(key, name, fact)
                self.storage.optuna.set_trial_state_values(key, state, values)
        return own

    def pause(self, claim: Claim, facts: dict[str, Any]) -> None:
        """Has a trial wait at its rung."""
        with self.having(claim) as own:
            if own:
                key = self.key(claim.number)
                for name, fact in facts.items():
                    self.storage.optuna.set_trial_user_attr(key, name, fact)
                rung = {"passed": passed(self.storage.optuna.get_trial(key)) + 1, "paused": True}
                self.storage.optuna.set_trial_system_attr(key, RUNG, rung)
                self.storage.optuna.set_trial_state_values(key, TrialState.WAITING)

    def release(self, claim: Claim) -> None:
        """Gives a trial back that did not end; whoever takes it goes on with it."""
        with self.having(claim) as own:
            if own:
                self.storage.optuna.set_trial_state_values(self.key(claim.number), TrialState.WAITING)


def is_locked(path: Path) -> bool:
    """Whether a process of this machine holds a lock."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def check_plan(name: str, before: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuses to go on with a study in another way.

    Raises:
        ValueError: What was asked for differs; the message names it.
    """
    for key in dict.fromkeys((*before, *asked)):
        one, other = before.get(key), asked.get(key)
        if one == other or (key == "trials" and isinstance(one, int) and isinstance(other, int) and other > one):
            continue
        was, now = (
            " ".join(map(str, value)) if isinstance(value, list) else str(value if value is not None else "none")
            for value in (one, other)
        )
        if isinstance(one, list) and isinstance(other, list):
            gone, new = [word for word in one if word not in other], [word for word in other if word not in one]
            was, now = (" ".join(words) or "none" for words in (gone, new))
        raise ValueError(
            f"the sweep {name} was begun with other {key}: {was}, not {now}; repeat the command that began it to go "
            "on, or choose another --run"
        )
