"""docs/walkthrough.md: what it computes is so, what it quotes stands in the code, and its pictures can be made."""

import doctest
import importlib
import importlib.util
import inspect
import re
from operator import attrgetter
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "walkthrough.md"
TEXT = PAGE.read_text(encoding="utf-8")

#: [`MLP.forward`](../vit_lightning/models/vit.py): a name with the module that has it.
NAMED = re.compile(r"\[`([\w.]+)`\]\(\.\./([\w/]+)\.py\)")

#: The same, followed by lines of it.
QUOTED = re.compile(NAMED.pattern + r"[^\[]*?:\n\n```python\n(.*?)```", re.DOTALL)


def member(name: str, module: str) -> object:
    return attrgetter(name)(importlib.import_module(module.replace("/", ".")))


def test_every_line_gives_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the page reads configs/demo.yaml, as its reader does
    with torch.random.fork_rng(devices=[]):
        result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted > 130


@pytest.mark.parametrize(("name", "module", "lines"), QUOTED.findall(TEXT))
def test_what_it_quotes_stands_in_the_code(name: str, module: str, lines: str) -> None:
    source = [line.strip() for line in inspect.getsource(member(name, module)).splitlines()]  # type: ignore[arg-type]  # a class or function
    for line in lines.splitlines():
        assert line.strip() in source


def test_no_quotation_goes_unchecked() -> None:
    assert len(QUOTED.findall(TEXT)) == TEXT.count("```python\n") >= 10


def test_its_links_lead_somewhere() -> None:
    for name, module in NAMED.findall(TEXT):
        assert member(name, module)
    targets = re.findall(r"\]\((?!https://)([^)]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (PAGE.parent / target).exists(), target


def test_it_has_the_paper_s_eight_equations() -> None:
    equations = re.findall(r"```math\n(.*?)```", TEXT, re.DOTALL)
    numbers = [number for equation in equations for number in re.findall(r"\\qquad \((\d)\)$", equation, re.MULTILINE)]
    assert sorted(numbers) == list("12345678")


def test_its_pictures_can_be_made_again_and_are_small(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("pictures", PAGE.parent / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    pictures.main(tmp_path)
    made = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(made) == {"demo_frames.png", "patches.png"}
    assert set(made) <= {path.name for path in (PAGE.parent / "img").iterdir()}
    assert max(made.values()) < 150_000
