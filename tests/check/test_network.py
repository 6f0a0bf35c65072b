"""Findings about small networks with planted faults."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vit_lightning.check import network
from vit_lightning.check.network import Workbench, check_first_loss, check_gradients, check_overfit


class Small(nn.Module):
    """Two layers on flattened images of three colours and 4 x 4 pixels."""

    def __init__(self, *, unused: bool = False, dead: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(48, 32), nn.Linear(32, 4)
        self.extra = nn.Linear(2, 2) if unused else None
        self.dead, self.scale = dead, scale

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x.flatten(1)).relu()
        logits: Tensor = self.head(hidden * 0 if self.dead else hidden) * self.scale
        return logits


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(60, 3, 4, 4, generator=generator), torch.randint(4, (60,), generator=generator)


def workbench(net: nn.Module) -> Workbench:
    cpu = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(strategy=cpu, precision="32-true", gradient_clip_val=1.0)
    return Workbench(net, trainer)


def test_gradients_are_judged_by_name(images: tuple[Tensor, Tensor]) -> None:
    assert check_gradients(workbench(Small()), *images).level == "ok"
    for net, words in (
        (Small(unused=True), ["extra.weight, extra.bias", "not used"]),
        (Small(dead=True), ["hidden.weight, hidden.bias", "zero"]),
        (Small(scale=math.nan), ["hidden.weight", "and 1 more", "no number"]),
    ):
        finding = check_gradients(workbench(net), *images)
        assert finding.level == "failure"
        for word in words:
            assert word in finding.text
    assert check_gradients(workbench(Small(scale=1e5)), *images).level == "warning"


def test_a_head_of_zeros_is_no_fault_and_says_ln_k(images: tuple[Tensor, Tensor]) -> None:
    net = Small()
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    assert check_gradients(workbench(net), *images).level == "ok"
    finding = check_first_loss(workbench(net), *images, 4, fresh=True)
    assert finding.level == "ok"
    assert finding.text.startswith("1.386 before")
    assert not net.head.weight.any()  # a copy was trained


def test_a_first_loss_far_from_ln_k_is_told(images: tuple[Tensor, Tensor]) -> None:
    assert check_first_loss(workbench(Small(scale=4)), *images, 4, fresh=True).level == "warning"
    assert check_first_loss(workbench(Small(scale=4)), *images, 4, fresh=False).level == "ok"
    assert check_first_loss(workbench(Small(scale=100)), *images, 4, fresh=False).level == "failure"
    assert check_first_loss(workbench(Small(scale=math.nan)), *images, 4, fresh=True).level == "failure"


def test_random_labels_are_overfitted_unless_the_rate_forbids_it(
    images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = workbench(Small())
    finding = check_overfit(bench, *images, lr=0.01)
    assert finding.level == "ok"
    assert " loss 1.37 ->" in finding.text  # of the first batch
    finding = check_overfit(bench, *images, lr=1e-7)
    assert finding.level == "failure"
    assert "learning rate" in finding.text
    monkeypatch.setattr(network, "OVERFITTING", 0.0)
    assert check_overfit(bench, *images, lr=0.003).level == "warning"


def test_a_copy_drops_nothing_and_normalises_its_own_batches() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    copied, _ = workbench(net).copy({})
    images = 100 + torch.randn(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = copied(images)
    torch.testing.assert_close(found, copied(images))
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(net[1].running_mean, torch.zeros(4))  # it is a copy
