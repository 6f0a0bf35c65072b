"""A small campaign of `benchmarks.hostile`: bad inputs are taken or refused in a line that names them."""

import contextlib
from pathlib import Path

import pytest

from benchmarks.hostile import campaign, judge, prepare, read
from benchmarks.hostile_inputs import KINDS, Case

ALL = [name for name, (_, share) in KINDS.items() for _ in range(share)]


def test_300_bad_inputs_in_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readers = prepare(tmp_path)
    with contextlib.chdir(tmp_path):
        failures = campaign(readers, ALL, 20_000, 300, commands=False)
    told = capsys.readouterr().out
    assert failures == 0, told
    assert "300 inputs in one process" in told


@pytest.mark.slow
def test_some_bad_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readers = prepare(tmp_path)
    with contextlib.chdir(tmp_path):
        failures = campaign(readers, ALL, 30_000, 12, commands=True)
    assert failures == 0, capsys.readouterr().out


def test_the_campaign_sees_what_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> Case:
        def fail() -> None:
            raise error

        return Case("x", fail, named=("lr",))

    assert read(raising(ValueError("lr is nan; expected a number"))) == "refused"
    assert read(Case("x", lambda: None)) == "taken"
    assert read(raising(ValueError("that is wrong"))).startswith("named is none of")
    assert read(raising(KeyError("lr"))).startswith("KeyError at test_hostile.py")
    assert read(raising(ValueError())).startswith("named is none of")
    assert judge("lr is\nnan", Case("x", lambda: None)).startswith("no line")
    assert "it printed" in read(Case("x", lambda: print("\x1b[2J")))
    monkeypatch.setattr("benchmarks.hostile.LIMIT", 0.2)

    def hang() -> None:
        while True:
            pass

    assert read(Case("x", hang)) == "it took more than 0.2 s"
