"""The help: what one looks for comes first, nothing is cut, and every option is in it."""

import re

import pytest

from vit_lightning.cli import main
from vit_lightning.commands.fit import Fit
from vit_lightning.commands.options import COMMON


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code in (0, None)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", [["fit", "--help"], ["predict", "--help"], ["check", "--help"]])
def test_the_help_fits_80_columns(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert max(map(len, help_of(capsys, *words).splitlines())) <= 80


def test_what_one_looks_for_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "fit", "--help")
    order = ["--run", "--config", "--data.root", "--data.split", "--model.lr", "--model.depth", "--trainer.max_epochs"]
    places = [re.search(rf"^  .*{option} ", text, re.MULTILINE) for option in order]
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)
    assert all(places)
    listed = re.findall(r"^  --trainer\.(\w+)", text, re.MULTILINE)
    assert tuple(listed) == COMMON
    assert len(text.splitlines()) < 250
    assert "(default: 0.001)" in text
    assert "{trivial,strong,light,article,none}" in text
    assert "Annotated" not in text


def test_a_command_that_uses_a_model_does_not_list_how_it_was_trained(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "predict", "--help")
    assert "--images" in text
    assert "--data.batch_size" in text
    assert "--model.depth" not in text
    assert "--model.depth" in help_of(capsys, "predict", "--help-all")


def test_no_option_is_missing_from_the_whole_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, "fit", "--help-all")
    known: set[str] = set()

    def note(self: Fit, parser: object, args: object) -> None:
        known.update(option for action in self.parser._actions for option in action.option_strings)
        raise ValueError("noted")

    monkeypatch.setattr(Fit, "parse_arguments", note)
    with pytest.raises(ValueError, match="noted"):
        Fit([])
    named = {option for option in known if option.startswith("--") and not option.endswith("+")}
    named -= {"--trainer", "--model", "--data"}  # a file for a section
    assert len(named) > 90
    assert [
        option for option in sorted(named) if not re.search(rf"^  .*{re.escape(option)}\b", text, re.MULTILINE)
    ] == []
