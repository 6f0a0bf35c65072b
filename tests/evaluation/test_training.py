"""What is read of a run's record for its report."""

import json
from pathlib import Path

import pytest
import yaml

from vit_lightning.evaluation.training import in_words, read_training

DEFAULTS = {"max_epochs": 50, "devices": 1}


def test_settings_are_those_that_differ_from_the_defaults(tmp_path: Path) -> None:
    """Of the network, the module, the data and the Trainer; folders and what an older version had are none of them."""
    config = {
        "seed_everything": 0,
        "model": {"dim": 96, "pool": "cls", "betas": [0.9, 0.999], "lr": 3e-4, "class_names": ["a"], "gone": 1},
        "data": {"root": "/some/where", "split": "/a/long/way/to/split.csv", "batch_size": 32, "guard": 30},
        "trainer": {"max_epochs": 3, "devices": 1, "precision": "32-true", "gradient_clip_val": None},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    training = read_training(tmp_path, DEFAULTS)
    assert training.settings == [
        ("model.dim", "96", "256"),
        ("model.lr", "0.0003", "0.001"),
        ("data.split", "…/way/to/split.csv", "left out"),
        ("data.guard", "30", "10"),
        ("trainer.max_epochs", "3", "50"),
    ]
    assert training.precision == "32-true"


def test_the_record_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,train/loss,val/acc\n1,0.5,\n2,0.25,0.75\n")
    (tmp_path / "status.json").write_text(json.dumps({"parameters": 7}))
    training = read_training(tmp_path, DEFAULTS)
    assert training.rows == [{"epoch": 1, "train/loss": 0.5}, {"epoch": 2, "train/loss": 0.25, "val/acc": 0.75}]
    assert training.status == {"parameters": 7}


@pytest.mark.parametrize("config", [None, "a: [", "just text", "[1, 2]", "model: 3"])
def test_what_is_missing_or_broken_says_nothing(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    training = read_training(tmp_path, DEFAULTS)
    assert (training.status, training.rows, training.precision, training.settings) == ({}, [], None, [])


def test_settings_in_words() -> None:
    values = (None, True, 0.1, (1, 2), [112, 192], "light", {"class_path": "x"})
    assert [in_words(value) for value in values] == [
        *("left out", "true", "0.1", "[1, 2]", "[112, 192]", "light", '{"class_path": "x"}')
    ]
