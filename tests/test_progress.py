"""Terminal and log file."""

import logging
import re
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from vit_lightning.progress import NOISE, log_to, set_up_logging, track

log = logging.getLogger("vit_lightning.somewhere")


@pytest.fixture(autouse=True)
def fresh_warnings() -> None:
    set_up_logging()


def test_messages_go_out_plain_and_errors_to_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("a [bold] message of %d", 1)
    log.warning("careful")
    log.error("broken")
    captured = capsys.readouterr()
    assert captured.out == "a [bold] message of 1\nwarning: careful\n"
    assert captured.err == "error: broken\n"


def test_python_s_warnings_are_one_line_without_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        set_up_logging()
        warnings.warn("a thing\n  to know", UserWarning, stacklevel=1)
    assert capsys.readouterr().out == "warning: a thing to know\n"


def test_advice_that_does_not_apply_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        set_up_logging()
        warnings.warn("The 'val_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").info("Tip: buy something")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").warning("this matters")
    assert capsys.readouterr().out == "warning: this matters\n"
    assert all(re.compile(pattern) for pattern in NOISE)


def test_the_log_file_has_the_same_with_the_time(tmp_path: Path) -> None:
    log_to(tmp_path / "run.log")
    log.info("hello")
    log.error("broken")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == ["hello", "error: broken"]
    assert all(line.startswith("20") for line in lines)
    set_up_logging()  # the next run in this process has a file of its own
    log.info("later")
    assert "later" not in (tmp_path / "run.log").read_text()


def test_the_log_file_begins_with_what_was_said_before_there_was_one(tmp_path: Path) -> None:
    log.info("drawing")
    logging.getLogger("lightning.pytorch").warning("beware")
    log.info("split")
    log_to(tmp_path / "run.log")
    log.info("training")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line[20:] for line in lines] == ["drawing", "warning: beware", "split", "training"]
    set_up_logging()
    log_to(tmp_path / "other.log")  # of the next run in this process
    assert (tmp_path / "other.log").read_text() == ""


def test_further_processes_keep_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(quiet=True)
    log.warning("said by the first process already")
    log.error("broken")
    assert capsys.readouterr() == ("", "error: broken\n")


def test_a_bar_is_drawn_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("counting", total=3) as advance:
        advance(1)
    assert capsys.readouterr().out == "counting\n"
    monkeypatch.setattr("rich.get_console", lambda: Console(force_terminal=True, width=80))
    with track("counting", total=3) as advance:
        advance(3)
    out = capsys.readouterr().out
    assert "3/3" in out
    assert "━" in out
