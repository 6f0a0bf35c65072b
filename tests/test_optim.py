"""Decay groups on the real model; the schedule value by value and against torch's own schedulers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from vit_lightning.models.vit import VisionTransformer
from vit_lightning.optim import parameter_groups, warmup_cosine

#: What is free of decay in `small()`: one line a kind.
FREE = {f"blocks.{layer}.norm{k}.{name}" for layer in (0, 1) for k in (1, 2) for name in ("weight", "bias")}
FREE |= {f"blocks.{layer}.attention.{name}.bias" for layer in (0, 1) for name in ("qkv", "out")}
FREE |= {f"blocks.{layer}.mlp.{name}.bias" for layer in (0, 1) for name in ("expand", "contract")}
FREE |= {"patch_embedding.projection.bias", "norm.weight", "norm.bias", "head.bias"}
FREE |= {"class_token", "position_embedding"}


def small(**changes: object) -> VisionTransformer:
    settings: dict[str, object] = {"num_classes": 3, "image_size": 16, "patch_size": 8, "dim": 8, "depth": 2}
    return VisionTransformer(**(settings | {"heads": 2} | changes))  # type: ignore[arg-type]  # settings of many types


def decay_by_name(model: nn.Module, groups: list[dict[str, object]]) -> dict[str, object]:
    """The weight decay of every parameter that is in a group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    taken = torch.optim.AdamW(groups, lr=0.1).param_groups
    return {names[parameter]: group["weight_decay"] for group in taken for parameter in group["params"]}


def undecayed(model: nn.Module, groups: list[dict[str, object]]) -> set[str]:
    return {name for name, decay in decay_by_name(model, groups).items() if decay == 0.0}


def test_biases_norms_class_token_and_positions_are_free_of_decay() -> None:
    model = small()
    assert undecayed(model, parameter_groups(model, weight_decay=0.3)) == FREE


@pytest.mark.parametrize("decay_all", [False, True])
def test_every_parameter_is_in_exactly_one_group(decay_all: bool) -> None:
    model = small()
    groups = parameter_groups(model, weight_decay=0.3, decay_all=decay_all)
    found = [parameter for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]  # a list
    assert len(found) == len(set(found))
    assert set(found) == set(model.parameters())


def test_average_pooling_has_no_class_token_to_spare() -> None:
    model = small(pool="gap")
    assert undecayed(model, parameter_groups(model, weight_decay=0.3)) == FREE - {"class_token"}


def test_tokens_are_known_inside_a_wrapper_too() -> None:
    wrapper = nn.ModuleDict({"net": small()})
    free = undecayed(wrapper, parameter_groups(wrapper, weight_decay=0.3))
    assert {"net.class_token", "net.position_embedding"} <= free


def test_decay_all_decays_everything_in_one_group() -> None:
    model = small()
    groups = parameter_groups(model, weight_decay=0.3, decay_all=True)
    assert len(groups) == 1
    assert decay_by_name(model, groups) == {name: 0.3 for name, _ in model.named_parameters()}


@pytest.mark.parametrize("decay_all", [False, True])
def test_frozen_parameters_are_left_out(decay_all: bool) -> None:
    model = small()
    model.patch_embedding.requires_grad_(False)
    model.norm.requires_grad_(False)
    found = set(decay_by_name(model, parameter_groups(model, weight_decay=0.3, decay_all=decay_all)))
    frozen = {"patch_embedding.projection.weight", "patch_embedding.projection.bias", "norm.weight", "norm.bias"}
    assert found == {name for name, _ in model.named_parameters()} - frozen


def test_no_group_is_empty() -> None:
    assert len(parameter_groups(nn.Linear(2, 2, bias=False), weight_decay=0.3)) == 1
    assert len(parameter_groups(nn.LayerNorm(2), weight_decay=0.3)) == 1


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.0),
        (1, 0.25),
        (2, 0.5),
        (3, 0.75),
        (4, 1.0),  # the peak, at the end of the rise
        (6, (1 + math.sqrt(3) / 2) / 2),  # pi / 6
        (7, (1 + math.sqrt(1 / 2)) / 2),  # pi / 4
        (8, 0.75),  # pi / 3
        (10, 0.5),  # pi / 2
        (12, 0.25),  # 2 pi / 3
        (15, 0.01703708685546585),  # 11 pi / 12
        (16, 0.0),
        (17, 0.0),
        (1000, 0.0),
    ],
)
def test_schedule_of_four_steps_up_and_twelve_down(step: int, factor: float) -> None:
    assert warmup_cosine(step, total_steps=16, warmup_steps=4) == pytest.approx(factor, abs=1e-12)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    factors = [warmup_cosine(step, total_steps=4, warmup_steps=0) for step in range(6)]
    assert factors == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0, 0.0])


def test_a_warm_up_of_one_step_starts_from_zero() -> None:
    assert [warmup_cosine(step, total_steps=3, warmup_steps=1) for step in range(4)] == [0.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("warmup_steps", [0, 3, 6, 9])
def test_the_run_s_end_is_zero_whatever_the_warm_up(warmup_steps: int) -> None:
    assert [warmup_cosine(step, total_steps=6, warmup_steps=warmup_steps) for step in (6, 7, 8)] == [0.0, 0.0, 0.0]


def rates(schedule: Callable[[Optimizer], LRScheduler], steps: int) -> list[float]:
    """The learning rate of torch's scheduler at so many successive steps, from a peak of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return found


def test_agrees_with_torch_s_linear_and_cosine_schedulers() -> None:
    total, warmup = 50, 11
    rise = rates(lambda sgd: LinearLR(sgd, 1 / warmup, total_iters=warmup - 1), warmup)  # torch's cannot begin at 0
    fall = rates(lambda sgd: CosineAnnealingLR(sgd, total - warmup), total - warmup + 1)
    found = [warmup_cosine(step, total_steps=total, warmup_steps=warmup) for step in range(total + 1)]
    assert found[1 : warmup + 1] == pytest.approx(rise, abs=1e-9)
    assert found[warmup:] == pytest.approx(fall, abs=1e-9)
