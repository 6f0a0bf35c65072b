"""What the members of a result say together."""

from typing import Any

import numpy as np
import pytest

from vit_lightning.evaluation.folds import Member, summarise
from vit_lightning.evaluation.metrics import Outcome


def member(fold: int, seed: int, images: int = 4, **changes: Any) -> Member:
    """A model that is right for the first two of its images."""
    paths = [f"{fold}/{number}.jpg" for number in range(images)]
    labels = np.array([0, 1] + [0] * (images - 2))
    probabilities = np.array([[0.9, 0.1]] + [[0.2, 0.8]] * (images - 1))
    metrics = {
        "accuracy": 2 / images,
        "data": {"name": "drawn", "id": "1", "root": "/nowhere"},
        "split": {"kind": "random", "id": str(fold)},
        "groups": {"kind": "images", "count": images},
        "baselines": {"majority": 0.1 * fold, "neighbour_number": None},
        "near_duplicates": {"share": 0.01 * fold, "flagged": False, "sentence": ""},
        "seen": {"images": images, "seen": 0, "chose": 0, "unknown": []},
    }
    outcome = Outcome(["a", "b"], paths, [""] * images, labels, probabilities)
    return Member(f"all-f{fold}-s{seed}", fold, seed, metrics | changes, outcome)


def test_baselines_and_near_duplicates_are_weighted_by_images() -> None:
    metrics, _ = summarise("all", [member(1, 0, images=4), member(2, 0, images=16)])
    assert metrics["baselines"]["majority"] == pytest.approx((4 * 0.1 + 16 * 0.2) / 20)
    assert metrics["baselines"]["neighbour_number"] is None
    assert metrics["near_duplicates"]["share"] == pytest.approx((4 * 0.01 + 16 * 0.02) / 20)
    assert "1.8% of the test images have a near-duplicate" in metrics["near_duplicates"]["sentence"]
    assert "leaks" not in metrics["near_duplicates"]["sentence"]
    assert [each["images"] for each in metrics["folds"].values()] == [4, 16]
    assert metrics["accuracy"] == pytest.approx(4 / 20)


def test_a_fold_that_leaks_flags_the_whole() -> None:
    leaks = {"share": 0.3, "flagged": True, "sentence": ""}
    members = [member(1, 0), member(2, 0, near_duplicates=leaks), member(1, 1), member(2, 1, near_duplicates=leaks)]
    found = summarise("all", members)[0]["near_duplicates"]
    assert found["flagged"]
    assert found["sentence"].endswith("; the split leaks in 1 of 2 folds")
    assert summarise("all", [member(1, 0), member(2, 0, near_duplicates=None)])[0]["near_duplicates"] is None


def test_what_one_member_has_seen_is_said_of_the_whole() -> None:
    clean = summarise("all", [member(1, 0), member(2, 0)])[0]["seen"]
    assert (clean["images"], clean["seen"], clean["unknown"]) == (8, 0, [])
    assert clean["sentence"].startswith("0 of 8 predictions are of images")
    told = {"images": 4, "seen": 3, "chose": 1, "unknown": ["x.ckpt"]}
    found = summarise("all", [member(1, 0), member(2, 0, seen=told)])[0]["seen"]
    assert (found["seen"], found["chose"], found["unknown"]) == (3, 1, ["x.ckpt"])
    assert "what x.ckpt learned from is not known" in found["sentence"]
    assert "1 are of images that chose a checkpoint" in found["sentence"]
    assert summarise("all", [member(1, 0), member(2, 0, seen=None)])[0]["seen"] is None
