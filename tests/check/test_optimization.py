"""Findings about learning rate and weight decay."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vit_lightning.check.network import Workbench
from vit_lightning.check.optimization import check_decay, check_lr, divergence, judge_lr, range_test, suggested

#: Of a plain AdamW.
SETTINGS = {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.0, "decay_all": False}


@pytest.mark.parametrize(
    ("lr", "decay", "steps", "level"),
    [
        (1e-3, 0.05, 1000, "ok"),
        (3e-4, 0.1, 15400, "ok"),  # the article's run
        (5e-4, 0.05, 375_000, "ok"),  # DeiT's: much is forgotten, but slowly
        (1e-3, 3.0, 1200, "warning"),
        (1e-3, 10.0, 1200, "failure"),
        (1e-3, 10.0, 10, "ok"),  # it has no time
        (1e-3, 0.0, 1000, "ok"),
        (0.0, 10.0, 1000, "ok"),
    ],
)
def test_decay_is_judged_by_what_it_leaves_and_how_fast(lr: float, decay: float, steps: int, level: str) -> None:
    assert check_decay(lr, decay, steps, 0.1).level == level


def test_a_learning_rate_is_judged_by_where_the_loss_explodes() -> None:
    levels = {0.5: "failure", 0.2: "warning", 0.03: "ok"}
    assert {lr: judge_lr(lr, 0.4, 0.01, "a.png").level for lr in levels} == levels
    assert judge_lr(0.03, 0.4, 0.01, "a.png").text == "0.03; the range test suggests 0.01 (see a.png)"
    assert judge_lr(0.03, 0.4, None, "a.png").text == "0.03 (see a.png)"


def test_decay_is_summed_over_the_schedule() -> None:
    # Ten steps, none of warm-up: the factors (1 + cos(pi n / 10)) / 2 for n = 0 ... 9 sum up to 5.5.
    assert check_decay(0.1, 1.0, 10, 0.0).text.startswith("1 leaves 0.58 of")  # exp(-0.55) = 0.577


def test_the_suggestion_lies_on_the_descent_before_the_lowest_loss() -> None:
    rates, losses = np.logspace(-6, 0, 61), np.full(61, 1.4)
    losses[30:41] = np.linspace(1.4, 0.8, 11)
    losses[41:55], losses[55:] = 50.0, 1.5  # steeper than the descent
    found = suggested(rates, losses)
    assert found is not None
    assert rates[32] <= found <= rates[38]
    losses[15] = 0.0  # one batch alone is no descent
    assert suggested(rates, losses) == found
    assert suggested(rates, np.linspace(1, 2, 61)) is None
    assert suggested(rates, np.full(61, math.nan)) is None


def test_the_loss_explodes_where_it_stays_twice_as_high() -> None:
    rates = np.logspace(-6, 0, 61)
    losses = np.full(61, 1.4)
    assert divergence(rates, losses) == 1.0
    losses[30] = 100.0  # one batch alone
    assert divergence(rates, losses) == 1.0
    losses[50:] = 5.0
    assert divergence(rates, losses) == pytest.approx(0.1)
    losses[40:] = math.nan
    assert divergence(rates, losses) == pytest.approx(0.01)
    assert divergence(rates, np.full(61, math.nan)) < 1e-4


def linear() -> nn.Linear:
    """One layer, for images of four numbers; logits are zero at first."""
    net = nn.Linear(4, 4)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    return net


class Repeater(nn.Module):
    """Its logits are the images, whatever it is trained; it wants to be trained as in a run, with its dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        assert self.training
        return x + 0 * self.weight


def workbench(net: nn.Module, clip: float = 0.0) -> Workbench:
    cpu = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(strategy=cpu, precision="32-true", gradient_clip_val=clip)
    return Workbench(net, trainer)


def test_a_range_test_gives_each_batch_s_loss_before_a_step_of_its_rate() -> None:
    net, batch = linear(), (torch.eye(4), torch.arange(4))
    rates = np.array([0.0, 0.1, 0.2, 0.3, 0.2])
    settings = SETTINGS | {"weight_decay": 1.0, "betas": (0.8, 0.9)}
    loss = partial(cross_entropy, label_smoothing=0.1)
    losses = range_test(workbench(net, clip=0.01), repeat(batch), rates, settings, loss)

    ours = linear()
    assert all(map(torch.equal, ours.parameters(), net.parameters()))  # a copy was trained
    groups: list[dict[str, Any]] = [{"params": [ours.weight]}, {"params": [ours.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1.0, betas=(0.8, 0.9))
    expected = []
    for rate in rates:
        value = loss(ours(batch[0]), batch[1])
        expected.append(value.item())
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch's is untyped
        nn.utils.clip_grad_norm_(ours.parameters(), 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    assert losses == pytest.approx(expected, rel=1e-5)
    assert expected[2] < expected[1]


def test_a_range_test_goes_on_until_the_loss_has_exploded_for_good() -> None:
    rates = np.geomspace(1e-6, 1, 40)

    def batches(last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first class is the right one; one batch, and all from another on, are sure of the second."""
        for number in count():
            wrong = 100.0 * (number == 20 or number >= last)
            yield torch.tensor([[0.0, wrong, 0.0, 0.0]]), torch.tensor([0])

    losses = range_test(workbench(Repeater()), batches(30), rates, SETTINGS, cross_entropy)
    assert losses[20] == pytest.approx(100)  # one batch alone
    assert len(losses) == 33  # three of the last five
    assert divergence(rates, losses) == pytest.approx(rates[30])
    assert len(range_test(workbench(Repeater()), batches(99), rates, SETTINGS, cross_entropy)) == 40


def test_the_run_s_rate_is_judged_by_a_range_test_and_drawn(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [(images := torch.randn(16, 4, generator=generator), images.argmax(dim=1)) for _ in range(100)]
    path = tmp_path / "rates.png"
    net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    finding = check_lr(workbench(net), batches, SETTINGS | {"lr": 0.001}, cross_entropy, seconds=0.01, path=path)
    assert finding.level == "ok"
    assert finding.text.startswith("0.001; the range test suggests 0.0")
    with Image.open(path) as picture:
        assert picture.width > 500
    assert (
        check_lr(workbench(net), batches, SETTINGS | {"lr": 10.0}, cross_entropy, seconds=0.01, path=path).level
        == "failure"
    )


def test_a_network_that_gives_no_numbers_fails_and_is_drawn(tmp_path: Path) -> None:
    net, batch = nn.Linear(4, 4), (torch.eye(4), torch.arange(4))
    nn.init.constant_(net.weight, math.nan)
    finding = check_lr(workbench(net), repeat(batch), SETTINGS, cross_entropy, seconds=1.0, path=tmp_path / "rates.png")
    assert finding.level == "failure"


def test_a_slow_device_tries_fewer_rates(tmp_path: Path) -> None:
    for seconds, tried in ((0.01, 80), (0.5, 40), (5.0, 30)):
        batches = iter([(torch.eye(4), torch.arange(4))] * 100)
        check_lr(workbench(Repeater()), batches, SETTINGS, cross_entropy, seconds=seconds, path=tmp_path / "rates.png")
        assert 100 - len(list(batches)) == tried
