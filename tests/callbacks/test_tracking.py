"""A run is trained on, whatever becomes of its tracker."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vit_lightning.callbacks import tracking
from vit_lightning.callbacks.tracking import Tracking


class Tracked:
    """In the place of an MLflow run: counts what it is asked, and answers as it is told to."""

    where = "http://host"

    def __init__(self, answer: Callable[[], None]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def send(self) -> None:
        self.asked.append("all")
        self.answer()

    def send_epochs(self) -> None:
        self.asked.append("epochs")
        self.answer()


def train(answer: Callable[[], None], *, epochs: int = 3, rank_zero: bool = True, end: bool = True) -> list[str]:
    callback = Tracking(Path("run"))
    callback.run = tracked = Tracked(answer)  # type: ignore[assignment]  # all that is asked of it
    trainer: Any = SimpleNamespace(is_global_zero=rank_zero)
    module: Any = None
    callback.on_train_start(trainer, module)
    for _ in range(epochs):
        callback.on_train_epoch_end(trainer, module)
    if end:
        callback.on_fit_end(trainer, module)
    else:
        callback.on_exception(trainer, module, KeyboardInterrupt())
    return tracked.asked


def failing(*which: int) -> Callable[[], None]:
    """Answers all but these calls, counted from 0."""
    calls = iter(range(100))

    def answer() -> None:
        if next(calls) in which:
            raise ConnectionRefusedError(111, "Connection refused")

    return answer


def test_every_epoch_is_told_and_in_the_end_all(told: list[tuple[str, str]]) -> None:
    assert train(failing()) == ["all", "epochs", "epochs", "epochs", "all"]
    assert train(failing(), end=False)[-1] == "all"
    assert not told


def test_what_is_gone_is_asked_once_more_at_the_end_and_warned_of_once(told: list[tuple[str, str]]) -> None:
    assert train(failing(0, 1)) == ["all", "all"]
    assert train(failing(2, 3)) == ["all", "epochs", "epochs", "all"]
    assert [level for level, _ in told] == ["WARNING", "WARNING"]
    assert told[0][1].startswith("MLflow at http://host is not told (Connection refused); what it misses is sent by")


def test_who_stops_a_run_does_not_wait_for_what_is_gone(told: list[tuple[str, str]]) -> None:
    assert train(failing(1, 2), end=False) == ["all", "epochs"]
    assert len(told) == 1


def test_that_it_is_back_is_said(told: list[tuple[str, str]]) -> None:
    train(failing(1))
    assert told[-1] == ("INFO", "MLflow answers again, and has all that it had missed")
    assert len(told) == 2


def test_what_hangs_costs_its_time_and_no_more(told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "ALL", 0.1)
    monkeypatch.setattr(tracking, "EPOCH", 0.1)
    assert train(lambda: time.sleep(60)) == ["all", "all"]
    assert told[0][1].startswith("MLflow at http://host is not told (no answer within 0.1 seconds)")


def test_further_processes_tell_nothing() -> None:
    assert train(failing(), rank_zero=False) == []
