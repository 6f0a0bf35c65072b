"""A study among processes: what is there is done once, and what is left behind is taken up."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from optuna.trial import TrialState

from benchmarks.postgres import find_binaries, postgres
from benchmarks.sweeps import workers
from vit_lightning.sweep import study as module
from vit_lightning.sweep.halving import Halving
from vit_lightning.sweep.space import parse_grid, parse_search
from vit_lightning.sweep.storage import JOURNAL, open_storage
from vit_lightning.sweep.study import Plan, Study

GRID = Plan(parse_grid(["a=1,2,3"]), None, asked={"grid": ["a=1,2,3"]})


@pytest.fixture(params=["journal", pytest.param("postgres", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None for a journal, or a server's URL."""
    if request.param == "journal":
        yield None
        return
    if find_binaries() is None:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    with postgres() as url:
        yield url


def opened(folder: Path, plan: Plan = GRID, url: str | None = None) -> Study:
    """The study as one more process sees it."""
    return Study("name", folder, open_storage(folder, url, "name"), plan)


def dies(study: Study) -> None:
    """As the system does when a process is killed: its lock opens, nothing else changes."""
    study.lock.release()


def test_a_grid_is_shared_out_and_ends(tmp_path: Path, storage: str | None) -> None:
    one, two = opened(tmp_path, url=storage), opened(tmp_path, url=storage)
    claims = [study.claim() for study in (one, two, one)]
    assert [claim and (claim.number, claim.point, claim.begun) for claim in claims] == [
        (0, {"a": 1}, False),
        (1, {"a": 2}, False),
        (2, {"a": 3}, False),
    ]
    assert one.claim() is two.claim() is None
    assert two.begun() == {0, 1, 2}
    for study, claim in zip((one, two, one), claims, strict=True):
        assert claim is not None
        assert study.finish(claim, TrialState.COMPLETE, claim.number / 10, {"epochs": 3})
        assert not study.finish(claim, TrialState.COMPLETE, 1.0)  # once for all
    assert [(trial.state, trial.value, trial.user_attrs["epochs"]) for trial in two.trials()] == [
        (TrialState.COMPLETE, 0.0, 3),
        (TrialState.COMPLETE, 0.1, 3),
        (TrialState.COMPLETE, 0.2, 3),
    ]
    one.close()
    two.close()


def test_what_a_dead_process_had_is_taken_up(tmp_path: Path, storage: str | None) -> None:
    dead, other = opened(tmp_path, url=storage), opened(tmp_path, url=storage)
    first = dead.claim()
    assert first is not None
    first.trial.report(0.5, 1)
    assert [other.claim().number for _ in range(2)] == [1, 2]  # type: ignore[union-attr]  # there are three
    assert other.claim() is None
    dies(dead)
    again = other.claim()
    assert again is not None
    assert (again.number, again.point, again.begun, set(again.reported)) == (0, {"a": 1}, True, {1})
    assert not dead.finish(first, TrialState.COMPLETE, 0.9)  # it was not dead, but asleep
    assert dead.renew([first]) == [first]
    dead.release(first)
    assert other.trials()[0].state == TrialState.RUNNING
    assert other.finish(again, TrialState.COMPLETE, 0.7)
    assert other.trials()[0].value == 0.7
    other.close()


def test_of_another_machine_the_sign_of_life_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("vit_lightning.sweep.study.time.monotonic", lambda: clock[0])
    far, here = opened(tmp_path), opened(tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(module, "machine", lambda: "far")
        claim = far.claim()
        assert claim is not None
    dies(far)  # of which nobody here knows
    here.claim()
    here.claim()
    for seconds in (0.0, module.STALE - 1):
        clock[0] += seconds
        assert here.claim() is None
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(module, "machine", lambda: "far")
        far.renew([claim])
    for seconds in (2.0, module.STALE - 1):
        clock[0] += seconds
        assert here.claim() is None
    clock[0] += 2.0
    again = here.claim()
    assert again is not None
    assert again.number == claim.number
    here.close()


def test_a_lock_that_cannot_be_seen_from_here_says_nothing(tmp_path: Path) -> None:
    other, here = opened(tmp_path / "its"), Study("name", tmp_path, open_storage(tmp_path / "its", None, "name"), GRID)
    assert other.claim() is not None
    Path(other.lock.lock_file).unlink()  # in another container of this machine
    assert [claim and claim.number for claim in (here.claim(), here.claim(), here.claim())] == [1, 2, None]


def test_what_is_given_back_is_next(tmp_path: Path, storage: str | None) -> None:
    one, two = opened(tmp_path, url=storage), opened(tmp_path, url=storage)
    first, second = one.claim(), one.claim()
    assert first is not None
    assert second is not None
    one.release(first)
    again = two.claim()
    assert again is not None
    assert (again.number, again.begun) == (0, True)
    assert not one.finish(first, TrialState.COMPLETE, 1.0)
    one.close()
    two.close()


def test_a_kill_while_points_are_put_in_line_loses_none(tmp_path: Path) -> None:
    opened(tmp_path).close()
    journal = tmp_path / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    for kept in range(len(lines) + 1):
        journal.write_text("".join(lines[:kept]))
        study = opened(tmp_path)
        points = [trial.user_attrs["point"]["a"] for trial in study.trials()]
        assert sorted(points) == [1, 2, 3], kept
        study.close()


def test_a_kill_while_a_point_is_drawn_loses_none(tmp_path: Path) -> None:
    plan = Plan(parse_search(["a=log:1e-3:1", "b=int:1:9", "c=x,y"]), 1)
    study = opened(tmp_path, plan)
    before = len((tmp_path / JOURNAL).read_text().splitlines())
    claim = study.claim()
    assert claim is not None
    dies(study)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    for kept in range(before, len(lines) + 1):
        (tmp_path / JOURNAL).write_text("".join(lines[:kept]))
        other = opened(tmp_path, plan)
        again = other.claim()
        assert again is not None
        assert again.point == claim.point, kept  # by the same seed, or as it was put in line
        assert other.claim() is None
        assert len(other.trials()) == 1
        other.close()


def test_a_kill_while_a_trial_is_put_to_wait_lets_none_go_on_that_has_not_earned_it(tmp_path: Path) -> None:
    def halving(study: Study) -> Study:
        study.halving = Halving((2, 6), 3)
        return study

    study = halving(opened(tmp_path))
    first = study.claim()
    assert first is not None
    assert first.limit == 2
    first.trial.report(0.5, 2)
    before = len((tmp_path / JOURNAL).read_text().splitlines())
    study.pause(first, {"epochs": 2})
    dies(study)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    for kept in range(before, len(lines) + 1):
        (tmp_path / JOURNAL).write_text("".join(lines[:kept]))
        other = halving(opened(tmp_path))
        claims = [other.claim() for _ in range(3)]
        found = [claim and (claim.number, claim.limit) for claim in claims]
        # Before it is written it is taken up and has to be put to wait again; then it waits until the others have come.
        assert found in ([(0, 2), (1, 2), (2, 2)], [(1, 2), (2, 2), None]), kept
        if None in found:
            for claim in claims[:2]:
                assert claim is not None
                claim.trial.report(0.1 * claim.number, 2)
                other.pause(claim, {})
            again = other.claim()
            assert again is not None
            assert (again.number, again.limit) == (0, 6)
        other.close()


def test_a_search_draws_so_many_and_failures_once_more(tmp_path: Path) -> None:
    plan = Plan(parse_search(["a=log:1e-3:1"]), 3, seed=7)
    study = opened(tmp_path, plan)
    values = []
    for state in (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE):
        claim = study.claim()
        assert claim is not None
        values.append(claim.point["a"])
        assert study.finish(claim, state, None if state == TrialState.FAIL else 0.5)
    assert study.claim() is None
    assert len(set(values)) == 4
    more = opened(tmp_path, Plan(plan.space, 4, seed=7))
    assert more.claim() is not None
    study.close()
    more.close()


def test_a_point_that_failed_is_in_line_again_for_the_next_command(tmp_path: Path) -> None:
    study = opened(tmp_path)
    claim = study.claim()
    assert claim is not None
    study.finish(claim, TrialState.FAIL, None, {"note": "disk full"})
    study.close()
    again = opened(tmp_path)
    assert [trial.user_attrs["point"]["a"] for trial in again.trials()] == [1, 2, 3, 1]
    again.close()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"grid": ["a=1,2,4"]}, "was begun with other grid: a=1,2,3, not a=1,2,4"),
        ({"options": ["--x=1", "--y=3"]}, "was begun with other options: --y=2, not --y=3"),
        ({"folds": 5}, "was begun with other folds: none, not 5"),
        ({"trials": 5}, "was begun with other trials: 10, not 5"),
        ({"pruner": "none"}, "was begun with other pruner: halving, not none"),
    ],
)
def test_another_plan_is_refused(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    before = {"grid": ["a=1,2,3"], "options": ["--x=1", "--y=2"], "trials": 10, "pruner": "halving", "folds": None}
    opened(tmp_path, Plan(GRID.space, None, asked=before)).close()
    with pytest.raises(ValueError, match="repeat the command that began it") as error:
        opened(tmp_path, Plan(GRID.space, None, asked=before | asked))
    assert said in str(error.value)
    opened(tmp_path, Plan(GRID.space, None, asked=before)).close()
    more = opened(tmp_path, Plan(GRID.space, None, asked=before | {"trials": 20}))
    assert more.optuna.user_attrs["asked"]["trials"] == 20
    more.close()


def test_a_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    study = opened(tmp_path)
    assert len(list((tmp_path / "workers").iterdir())) == 1
    with pytest.raises(TimeoutError):
        FileLock(study.lock.lock_file).acquire(blocking=False)
    study.close()
    assert not (tmp_path / "workers").exists()


@pytest.mark.slow  # eight processes
def test_workers_that_are_killed_lose_nothing_and_do_nothing_twice(tmp_path: Path, storage: str | None) -> None:
    began = time.monotonic()
    found = workers(tmp_path, storage, count=8, points=60, seed=int(began))
    assert (found["finished"], found["lost"], found["twice"]) == (60, 0, 0)
    assert found["killed"] >= 2
    ended = [json.loads(line) for line in (tmp_path / "ended").read_text().splitlines()]
    assert 60 - found["killed"] <= len(ended) <= 60
