"""Terminal and log file."""

import logging
import re
import warnings
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from vit_lightning.cli import main
from vit_lightning.progress import NOISE, SHOWN_BY, legible, log_to, set_up_logging, track

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


@pytest.mark.parametrize("category", [UserWarning, FutureWarning, DeprecationWarning])
def test_a_warning_of_the_user_s_own_code_is_seen(capsys: pytest.CaptureFixture[str], category: type[Warning]) -> None:
    """Python's own filters are those of a program started outside of a test."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        set_up_logging()
        warnings.warn("this metric will go", category, stacklevel=1)
        warnings.warn("\n    ``instantiate_classes`` was deprecated in v4.49.0", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().out == "warning: this metric will go\n"


def test_a_callback_that_warns_is_heard_and_nothing_else(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine_that_warns.py").write_text(
        "import warnings\nfrom lightning.pytorch import Callback\n\nclass Mine(Callback):\n"
        "    def on_fit_start(self, trainer, pl_module):\n"
        "        warnings.warn('old', DeprecationWarning)\n        warnings.warn('soon', FutureWarning)\n"
    )
    command = ["fit", f"--data.root={frames}", "--model.image_size=16", "--model.patch_size=8", "--model.dim=16"]
    command += ["--model.depth=1", "--model.heads=2", "--trainer.max_epochs=1", "--data.num_workers=0"]
    # On blocks of so few frames a part lacks a class, of which it warns; a random split leaks.
    command += ["--data.split=groups", "--data.group_by=duplicates", "--trainer.callbacks+=mine_that_warns.Mine"]
    capsys.readouterr()
    assert main(command) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if "warning" in line.lower()]
    assert warned == ["warning: old", "warning: soon"]


def test_names_from_outside_stay_on_one_line() -> None:
    assert legible("a\nb\x1b[31m\t\u202egnp.jpg") == r"a\nb\x1b[31m\t\u202egnp.jpg"
    assert legible("Grüße 猫.png") == "Grüße 猫.png"
    assert legible("folder/frame0001.jpg", 20) == "folder/frame0001.jpg"
    assert legible("folder/frame00001.jpg", 20) == "folder/fr…e00001.jpg"
    assert cell_len(legible("猫" * 30, 21)) <= 21


def test_a_name_can_neither_move_the_cursor_nor_forge_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging()
    log_to(tmp_path / "run.log")
    logging.getLogger("vit_lightning.x").warning("class %s", "a\x1b[2J\n2025-01-01 00:00:00 error: forged")
    for text in (capsys.readouterr().out, (tmp_path / "run.log").read_text()):
        (line,) = text.splitlines()
        assert line.endswith(r"warning: class a\x1b[2J\n2025-01-01 00:00:00 error: forged")


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


def test_progress_may_be_shown_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[tuple[str, float]] = []
    before = SHOWN_BY.set(lambda text, share: shown.append((text, share)))
    try:
        with track("counting", total=4) as advance:
            advance(1)
            advance(5)
    finally:
        SHOWN_BY.reset(before)
    assert shown == [("counting", 0.0), ("counting", 0.25), ("counting", 1.0)]
    assert capsys.readouterr().out == ""
