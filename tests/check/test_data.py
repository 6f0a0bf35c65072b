"""Findings about images, labels and split, from numbers made for them."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from vit_lightning.check.data import (
    check_augmentation,
    check_balance,
    check_files,
    check_input,
    check_labels,
    check_pictures,
    check_split,
)
from vit_lightning.evaluation.baselines import Baselines


def test_files_that_are_left_out_are_a_warning() -> None:
    finding = check_files({"a.jpg": "the file is empty"}, 9, refuses=False)
    assert finding.level == "warning"
    assert "left out" in finding.text


def test_classes_of_very_different_sizes_are_a_warning_unless_they_are_weighed() -> None:
    assert check_balance(Counter(cat=100, dog=10), weighted=False).level == "ok"
    finding = check_balance(Counter(cat=101, dog=10), weighted=False)
    assert finding.level == "warning"
    assert "--model.class_weights balanced" in finding.text
    assert check_balance(Counter(cat=101, dog=10), weighted=True).level == "ok"


def test_a_split_that_leaks_is_a_warning() -> None:
    baselines: dict[str, float | None] = {"majority": 0.3, "neighbour_number": None, "thumbnail_neighbour": 0.8}
    assert check_split(Baselines("val", baselines, 0.01, "do this")).level == "ok"
    finding = check_split(Baselines("val", baselines, 0.5, "do this"))
    assert finding.level == "warning"
    assert "thumbnail 0.800" in finding.text
    assert "do this" in finding.text
    assert check_split(None).level == "warning"


def test_a_picture_in_two_classes_is_a_warning() -> None:
    assert check_pictures(None).level == "ok"
    finding = check_pictures("1 picture is in two classes, such as a/1.png and b/1.png")
    assert (finding.level, finding.text) == ("warning", "1 picture is in two classes, such as a/1.png and b/1.png")


def test_labels_are_judged_by_near_copies() -> None:
    draw = np.random.default_rng(0)
    scenes = draw.integers(0, 256, (100, 1, 16, 16, 3))
    copies = np.clip(scenes + draw.integers(-3, 4, (100, 4, 16, 16, 3)), 0, 255).astype(np.uint8)
    thumbnails, labels = copies.reshape(-1, 16, 16, 3), np.repeat(draw.integers(0, 4, 100), 4)
    finding = check_labels(thumbnails, labels)
    assert finding.level == "ok"
    assert "in 100%" in finding.text
    assert check_labels(thumbnails, draw.permutation(labels)).level == "warning"


def test_augmentation_is_judged_by_what_is_left_of_the_picture() -> None:
    draw = np.random.default_rng(0)
    plain = draw.integers(0, 256, (200, 16, 16, 3)).astype(np.uint8)
    labels = draw.integers(0, 4, 200)
    harmless = (plain[:, :, ::-1] // 8 + 200).astype(np.uint8)  # mirrored, duller and brighter
    assert check_augmentation(plain, harmless, labels).level == "ok"
    assert "in 100%" in check_augmentation(plain, harmless, labels).text
    mixed = np.where((np.arange(200) % 5 == 0)[:, None, None, None], plain, draw.permutation(plain))
    assert check_augmentation(plain, mixed, labels).level == "warning"
    assert check_augmentation(plain, draw.permutation(plain), labels).level == "failure"


@pytest.mark.parametrize(
    ("mean", "deviation", "level"),
    [(0.0, 1.0, "ok"), (-1.0, 0.5, "ok"), (0.5, 0.25, "warning"), (118.0, 60.0, "failure"), (0.0, 0.001, "failure")],
)
def test_input_is_to_be_near_0_and_1(mean: float, deviation: float, level: str) -> None:
    images = mean + deviation * torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert check_input(images).level == level
    images[0, 0, 0, 0] = math.nan
    assert check_input(images).level == "failure"
