"""Decay groups on the real model; the schedule value by value and against torch's own schedulers."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from vit_lightning.models.vit import VisionTransformer
from vit_lightning.optim import Muon, build_optimizer, orthogonal, parameter_groups, update_settings, warmup_cosine

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


SETTINGS: dict[str, object] = {"optimizer": "muon", "lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}
SETTINGS |= {"decay_all": False}


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5)])
def test_orthogonal_evens_out_the_singular_values_and_keeps_the_directions(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    found = orthogonal(matrices)
    assert found.shape == matrices.shape
    for matrix, each in zip(matrices, found, strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.linalg.svdvals(each).max() < 1.3
        inner = u.mT @ each @ v.mT  # diagonal, as the singular vectors are the matrix's own
        torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)
        assert inner.diagonal().median() > 0.6


@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (8, 32)])
def test_a_matrix_moves_as_with_torch_s_own_muon(shape: tuple[int, int]) -> None:
    """Which computes the iteration in bf16."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    groups: list[dict[str, object]] = [{"params": [ours], "matrices": 1}]
    one = Muon(groups, lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()  # type: ignore[no-untyped-call]  # torch's is untyped
    moved, expected = ours - start, theirs - start
    assert ((moved - expected).norm() / expected.norm()).item() < 0.03


def test_queries_keys_and_values_are_made_orthogonal_each_by_itself() -> None:
    torch.manual_seed(0)
    whole, parts = nn.Parameter(torch.zeros(24, 8)), [nn.Parameter(torch.zeros(8, 8)) for _ in range(3)]
    whole.grad = torch.randn(24, 8)
    for part, gradient in zip(parts, whole.grad.chunk(3), strict=True):
        part.grad = gradient.clone()
    Muon([{"params": [whole], "matrices": 3}], lr=0.1).step()
    Muon([{"params": parts, "matrices": 1}], lr=0.1).step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]))


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest_as_ever() -> None:
    torch.manual_seed(0)
    model, images = small(pool="gap"), torch.randn(4, 3, 16, 16)
    twin = small(pool="gap")
    twin.load_state_dict(model.state_dict())
    optimizers = [
        build_optimizer(each, SETTINGS | {"optimizer": name}) for each, name in ((model, "muon"), (twin, "adamw"))
    ]
    counts = [group.get("matrices", 0) for group in optimizers[0].param_groups]
    assert counts == [0, 0, 1, 3]
    taken = {parameter for group in optimizers[0].param_groups[2:] for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if parameter in taken}
    kinds = ("attention.qkv", "attention.out", "mlp.expand", "mlp.contract")
    assert names == {f"blocks.{layer}.{kind}.weight" for layer in (0, 1) for kind in kinds}
    for each, optimizer in zip((model, twin), optimizers, strict=True):
        each.head.weight.data.fill_(0.1)
        each(images).logsumexp(dim=1).sum().backward()
        optimizer.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs) == (name not in names), name


def test_a_muon_that_was_saved_goes_on_to_the_bit_with_what_flags_say() -> None:
    torch.manual_seed(0)
    model = small()
    optimizer = build_optimizer(model, SETTINGS)

    def step(each: Optimizer, net: nn.Module, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        each.step()

    step(optimizer, model, 0)
    twin = small()
    twin.load_state_dict(model.state_dict())
    again = build_optimizer(twin, SETTINGS)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch keeps the tensors it is given
    step(optimizer, model, 1)
    step(again, twin, 1)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    schedule = torch.optim.lr_scheduler.LambdaLR(again, lambda _: 1.0)
    update_settings(again, schedule, SETTINGS | {"weight_decay": 0.3})
    assert [group["weight_decay"] for group in again.param_groups] == [0.3, 0.0, 0.3, 0.3]
