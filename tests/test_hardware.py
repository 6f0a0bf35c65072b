"""The precision that suits the machine, and who has the last word on it."""

from pathlib import Path

import pytest
import torch
import yaml

from vit_lightning import hardware
from vit_lightning.cli import main
from vit_lightning.hardware import PRECISION_VARIABLE, bf16_gain, check_compiler, fitting_precision

TINY = ["--model.image_size=16", "--model.patch_size=8", "--model.dim=16", "--model.depth=1", "--model.heads=2"]
TINY += ["--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]


def machine(patch: pytest.MonkeyPatch, *, gpu: str = "", native: bool = True, gain: float = 4.0) -> None:
    """Pretends that torch finds such a machine."""
    patch.setattr("torch.cuda.is_available", lambda: gpu == "cuda")
    patch.setattr("torch.backends.mps.is_available", lambda: gpu == "mps")
    patch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: native and not including_emulation)
    patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    patch.setattr(hardware, "bf16_gain", lambda: gain)


@pytest.mark.parametrize(
    ("accelerator", "settings", "expected"),
    [
        ("auto", {"gpu": "cuda"}, "bf16-mixed"),
        ("gpu", {"gpu": "cuda", "native": False}, "32-true"),
        ("cuda", {"gpu": "cuda"}, "bf16-mixed"),
        ("auto", {"gpu": "mps"}, "32-true"),
        ("mps", {"gpu": "mps"}, "32-true"),
        ("auto", {}, "bf16-mixed"),
        ("cpu", {"gpu": "cuda", "gain": 0.5}, "32-true"),  # the GPU is not asked for
        ("cpu", {"gain": 1.2}, "32-true"),
        ("cpu", {"native": False}, "32-true"),
    ],
)
def test_bf16_is_for_hardware_that_computes_faster_in_it(
    accelerator: str, settings: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, **settings)  # type: ignore[arg-type]  # of several types
    assert fitting_precision(accelerator) == expected


def test_a_processor_s_gain_is_the_ratio_of_its_times() -> None:
    gains = sorted(bf16_gain(size=64) for _ in range(3))
    assert 0.001 < gains[0] <= gains[-1] < 100


def saved_precision(run: str) -> object:
    return yaml.safe_load(Path(f"lightning_logs/{run}/config.yaml").read_text())["trainer"]["precision"]


def test_the_choice_is_saved_and_told_and_a_flag_wins(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["fit", *TINY, f"--data.root={frames}"]
    machine(monkeypatch)
    assert main([*command, "--run=chosen"]) == 0
    assert "training on cpu, bf16-mixed" in capsys.readouterr().out
    assert saved_precision("chosen") == "bf16-mixed"
    assert main([*command, "--run=given", "--trainer.precision=32-true"]) == 0
    assert saved_precision("given") == "32-true"
    machine(monkeypatch, gain=0.5)  # as on another machine
    assert main(["fit", "--resume=chosen", "--trainer.max_epochs=2"]) == 0
    assert saved_precision("chosen") == "bf16-mixed"
    assert main([*command, "--run=other"]) == 0
    assert saved_precision("other") == "32-true"


def test_further_processes_take_the_first_one_s_choice(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own timing might come out otherwise."""
    from vit_lightning.commands.fit import Fit

    seen: list[object] = []

    def stop(self: object, **settings: object) -> None:
        seen.append(settings["precision"])
        raise ValueError("seen")

    monkeypatch.chdir(tmp_path)
    machine(monkeypatch, gain=0.5)
    monkeypatch.setenv(PRECISION_VARIABLE, "bf16-mixed")
    monkeypatch.setattr("lightning.pytorch.cli.LightningCLI.instantiate_trainer", stop)
    for rank in ("0", "1"):
        monkeypatch.setenv(PRECISION_VARIABLE, "bf16-mixed")
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(ValueError, match="seen"):
            Fit([*TINY, f"--data.root={frames}"])
    assert seen == ["32-true", "bf16-mixed"]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_images_come_in_the_model_s_own_numbers(
    precision: str, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY, f"--data.root={frames}", "--run=one", f"--trainer.precision={precision}"]) == 0
    assert main(["predict", "--run=one", f"--images={frames}", f"--trainer.precision={precision}"]) == 0


def test_a_plugin_for_the_precision_is_enough(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = "--trainer.plugins=lightning.pytorch.plugins.DoublePrecision"
    assert main(["fit", *TINY, f"--data.root={frames}", plugin]) == 0


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"needs the C\+\+ compiler no-such-compiler, .*; install it or leave it out"):
        check_compiler("auto")
    machine(monkeypatch, gpu="cuda")
    check_compiler("auto")
    with pytest.raises(ValueError, match="compiler"):
        check_compiler("cpu")
