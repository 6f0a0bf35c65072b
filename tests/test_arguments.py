"""Whatever network, training, data and commands are given: it works, or one line names the argument."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.hostile_inputs import VALUES, pass_through
from vit_lightning.arguments import both_sides, check_choice, check_number, shown
from vit_lightning.commands.folds import main as folds
from vit_lightning.commands.model_command import TRAINER_NUMBERS, TRAINER_SHARES, check_trainer
from vit_lightning.commands.runs import main as runs
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import told

TINY: dict[str, Any] = {"num_classes": 3, "image_size": 8, "patch_size": 4, "dim": 8, "depth": 1, "heads": 2}

#: Without a database and with the same draws each time, so that a red test is red for all.
repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=150)

#: Sizes stay small or absurd: a network in between would only take long.
numbers = st.one_of(st.integers(-3, 40), st.integers(10**9), st.integers(max_value=-(10**9)), st.floats())
anything = st.one_of(numbers, numbers, st.sampled_from(VALUES), st.text(max_size=5), st.lists(numbers, max_size=3))


def works_or_names(make: Callable[[], object], *names: str) -> None:
    """Fails unless it works, or raises a ValueError whose one line has one of the names."""
    try:
        made = make()
    except ValueError as error:
        line = told(error)
        assert "\n" not in line
        assert any(re.search(rf"(?<!\w){name}", line) for name in names), f"{names} not in {line!r}"
        return
    if isinstance(made, VisionTransformer | ViTClassifier):
        pass_through(made.net if isinstance(made, ViTClassifier) else made)


# The helper


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, [1], 1 + 2j, b"1", torch.zeros(1)])
@pytest.mark.parametrize(
    "limits", [{}, {"least": 0}, {"most": 2}, {"below": 3}, {"least": 0, "most": 10, "whole": True}]
)
def test_what_is_no_finite_number_is_refused(value: object, limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^x is .*; expected a (whole )?number"):
        check_number("x", value, **limits)


@pytest.mark.parametrize(
    ("value", "limits", "line"),
    [
        (-1, {"least": 0}, "x is -1; expected a number of at least 0"),
        (1.0, {"least": 0, "below": 1}, "x is 1.0; expected a number in [0, 1)"),
        (5, {"least": 1, "most": 4, "whole": True}, "x is 5; expected a whole number from 1 to 4"),
        (2.0, {"least": 1, "whole": True}, "x is 2.0; expected a whole number of at least 1"),
    ],
)
def test_the_line_says_what_was_found_and_what_is_expected(value: object, limits: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        check_number("x", value, **limits)


def test_a_number_of_thousands_of_digits_is_told_without_them() -> None:
    with pytest.raises(ValueError, match=r"^x is a number of very many digits; expected a whole number from 1 to 2$"):
        check_number("x", 10**5000, least=1, most=2, whole=True)


def test_what_lies_in_its_range_passes() -> None:
    check_number("x", 0, least=0)
    check_number("x", 10**400)  # larger than any float
    check_number("x", 0.999, least=0, below=1)
    check_number("x", None, optional=True)
    assert both_sides("x", 8) == (8, 8)
    assert both_sides("x", [8, 16]) == (8, 16)
    check_choice("x", "a", ("a", "b"))
    assert shown("y" * 100) == f"'{'y' * 39}..."


# Constructors


@repeatable
@given(name=st.sampled_from(sorted(VisionTransformer.__init__.__kwdefaults__ or {})), value=anything)
def test_a_network_works_or_names_the_argument(name: str, value: object) -> None:
    # Where sizes do not fit together the line is about both.
    works_or_names(lambda: VisionTransformer(**TINY | {name: value}), name, "divisible by (patch_size|heads)")


@repeatable
@given(name=st.sampled_from(sorted(ViTClassifier.__init__.__kwdefaults__ or {})), value=anything)
def test_a_classifier_works_or_names_the_argument(name: str, value: object) -> None:
    works_or_names(lambda: ViTClassifier(**TINY | {name: value}), name, "num_classes", "divisible by patch_size")


@repeatable
@given(name=st.sampled_from(sorted(ImageDataModule.__init__.__kwdefaults__ or {})), value=anything)
def test_the_data_work_or_name_the_argument(name: str, value: object) -> None:
    given_data: dict[str, Any] = {"root": "x"}
    works_or_names(lambda: ImageDataModule(**{**given_data, name: value}), f"(data[.])?{name}")


@repeatable
@given(name=st.sampled_from(sorted({*(row[0] for row in TRAINER_NUMBERS), *TRAINER_SHARES})), value=numbers)
def test_the_trainer_s_numbers_are_in_range_or_named(name: str, value: float) -> None:
    class Asked(dict[str, Any]):
        """Options left out, but one."""

        def __missing__(self, key: str) -> None:
            return None

        __getattr__ = __missing__

    works_or_names(lambda: check_trainer(Asked({"detect_anomaly": False, name: value})), f"trainer.{name}")


# Commands


@repeatable
@given(
    option=st.sampled_from(["--limit", "--sort", "--state", "--folds", "--seeds"]), value=st.text(max_size=6) | numbers
)
def test_a_command_s_option_works_or_is_named(option: str, value: object) -> None:
    if option in ("--folds", "--seeds"):  # --resume ends it before anything is made
        works_or_names(lambda: folds([f"{option}={value}", "--resume=x"]), option, "--resume")
    else:
        works_or_names(lambda: runs(["--logdir=nowhere", f"{option}={value}"]), option)
