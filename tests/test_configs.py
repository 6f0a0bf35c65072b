"""Every config, run as it is on frames drawn for the test: fit, test and predict."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from vit_lightning.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
EXPERIMENTS = sorted(CONFIGS.glob("*.yaml"))
HARDWARE = sorted((CONFIGS / "trainer").glob("*.yaml"))

# The configs' own models and schedules; only what takes time is cut.
SHORT = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--data.batch_size=4",
    "--data.num_workers=0",
]


def test_the_configs_that_the_design_names_are_there() -> None:
    assert [path.stem for path in EXPERIMENTS] == [
        *("article", "demo", "folder", "tom_and_jerry", "tom_and_jerry_quick")
    ]
    assert [path.stem for path in HARDWARE] == ["cpu", "ddp", "gpu", "mps"]


@pytest.mark.parametrize("config", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_config_runs_from_end_to_end(
    config: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = (
        ["--data.block_length=4", "--data.guard=0"]
        if yaml.safe_load(config.read_text())["data"].get("split") == "blocks"
        else []
    )
    hardware = f"--config={CONFIGS / 'trainer' / 'cpu.yaml'}"
    assert main(["fit", f"--config={config}", hardware, f"--data.root={frames}", *SHORT, *blocks]) == 0
    run = Path("lightning_logs") / f"{config.stem}-001"
    assert (run / "checkpoints/best.ckpt").is_file()
    short = [option for option in SHORT if "epochs" not in option]
    assert main(["test", *short]) == 0
    picture = next(frames.rglob("*.jpg"))
    assert main(["predict", "--images", str(picture)]) == 0
    assert (run / "predictions/0001.csv").read_text().count("\n") == 2
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    expected = (
        r"warning: the split .* leaves ",  # few frames: a part lacks a class
        r"warning: the split has no test part",  # the article's
        r"warning: \d+\.\d% of the (val|test) images have a near-duplicate in training",  # clips of four frames
        r"warning: no report: trainer\.limit_test_batches",
    )
    assert [line for line in warnings if not re.match("|".join(expected), line)] == []


def test_article_yaml_is_the_article_s_run() -> None:
    """Number for number, as the article states them."""
    config = yaml.safe_load((CONFIGS / "article.yaml").read_text())
    assert config["trainer"] == {"max_epochs": 100, "gradient_clip_val": 1.0, "precision": "32-true"}
    assert config["model"] == {
        "image_size": 224,
        "patch_size": 16,
        "dim": 256,
        "depth": 6,
        "heads": 8,
        "mlp_ratio": 4.0,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "mlp_dropout": 0.1,
        "pool": "cls",
        "init": "article",
        "lr": 3e-4,
        "betas": [0.9, 0.999],
        "weight_decay": 0.1,
        "decay_all": True,
        "warmup_fraction": 0.23,
    }
    data = config["data"]
    assert (data["split"], data["val_fraction"], data["augment"], data["batch_size"]) == ("random", 0.1, "article", 32)
    assert "test_fraction" not in data


@pytest.mark.parametrize("config", HARDWARE, ids=lambda path: path.stem)
def test_hardware_configs_say_nothing_but_hardware(config: Path) -> None:
    content = yaml.safe_load(config.read_text())
    assert set(content) == {"trainer"}
    assert set(content["trainer"]) <= {"accelerator", "devices", "strategy"}


@pytest.mark.parametrize(
    ("name", "present"), [("gpu", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]
)
def test_hardware_that_is_missing_is_one_clear_line(
    name: str,
    present: bool,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    hardware = f"--config={CONFIGS / 'trainer' / f'{name}.yaml'}"
    status = main(
        ["fit", f"--config={CONFIGS / 'demo.yaml'}", hardware, f"--data.root={frames}", *SHORT, "--data.block_length=4"]
    )
    captured = capsys.readouterr()
    if present:
        assert status == 0
        return
    assert status == 2
    (line,) = (captured.out + captured.err).splitlines()
    assert line.startswith("error: ")
    assert "cpu.yaml" in line
    assert list(tmp_path.glob("lightning_logs/*")) == []
