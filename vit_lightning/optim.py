"""AdamW, what it may shrink, and how its learning rate moves: plain functions, no Lightning."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vit_lightning.arguments import check_choice, check_number, shown

#: Parameters that are no matrix of a layer: shrinking them towards zero has no reason (big_vision, DeiT).
NOT_DECAYED = ("class_token", "position_embedding")


def parameter_groups(model: nn.Module, *, weight_decay: float, decay_all: bool = False) -> list[dict[str, object]]:
    """The optimizer's parameter groups: weights of layers with decay; biases, norms, tokens and positions without.

    Args:
        model: Any module; parameters that need no gradient are left out.
        weight_decay: Decay of the decayed group.
        decay_all: Put everything into the decayed group, as `AdamW(model.parameters())` does.

    Returns:
        One or two groups for `torch.optim.AdamW`, without empty ones.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_free = parameter.ndim < 2 or name.rpartition(".")[2] in NOT_DECAYED
        (free if is_free and not decay_all else decayed).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """The share of the peak learning rate at an optimizer step: linear from 0, then half a cosine down to 0.

    Args:
        step: Steps done so far, from 0.
        total_steps: Steps of the whole run; from here on the factor is 0.
        warmup_steps: Steps of the rise; the factor is 1 at this step.

    Returns:
        A factor in [0, 1]: `step / warmup_steps`, then `(1 + cos(pi * progress)) / 2` (Loshchilov & Hutter 2017).
    """
    if step >= total_steps:
        return 0.0
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return (1.0 + math.cos(math.pi * progress)) / 2.0


def check_settings(*, lr: float, betas: tuple[float, float], weight_decay: float, class_weights: str | None) -> None:
    """Refuses what AdamW and the loss cannot work with.

    Raises:
        ValueError: The message names the number and where it has to lie.
    """
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas is {shown(betas)}; expected two numbers in [0, 1), as in [0.9,0.999]")
    for beta in betas:
        check_number("one of betas", beta, least=0, below=1)
    # Of a rate of 1e30 the first step is no number any more; a float32 ends at 3e38.
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        check_number(name, value, least=0, most=1e6)
    if class_weights is not None:
        check_choice("class_weights", class_weights, ("balanced",))


def build_optimizer(model: nn.Module, settings: Mapping[str, Any], *, fused: bool = True) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) over the groups of `parameter_groups`.

    Args:
        model: What is trained.
        settings: `lr`, `betas`, `weight_decay` and `decay_all`.
        fused: One kernel for all parameters.
    """
    groups = parameter_groups(model, weight_decay=settings["weight_decay"], decay_all=settings["decay_all"])
    return AdamW(groups, lr=settings["lr"], betas=tuple(settings["betas"]), fused=fused)


def build_schedule(optimizer: Optimizer, settings: Mapping[str, Any], *, total_steps: int) -> LambdaLR:
    """`warmup_cosine` with the `warmup_fraction` of the settings, to be stepped after each step of the optimizer."""
    warmup_steps = round(settings["warmup_fraction"] * total_steps)
    return LambdaLR(optimizer, lambda step: warmup_cosine(step, total_steps=total_steps, warmup_steps=warmup_steps))


def update_settings(optimizer: Optimizer, schedule: Any, settings: Mapping[str, Any]) -> None:  # noqa: ANN401  # Lightning gives one of many
    """Puts settings over those that a checkpoint's optimizer and schedule, which stays at its step, brought along."""
    lr = settings["lr"]
    schedule.base_lrs = [lr] * len(optimizer.param_groups)
    factor = schedule.lr_lambdas[0](schedule.last_epoch)
    for group, decay in zip(optimizer.param_groups, (settings["weight_decay"], 0.0), strict=False):
        group |= {"lr": lr * factor, "initial_lr": lr, "betas": tuple(settings["betas"]), "weight_decay": decay}


def clip_gradients(model: nn.Module, limit: float | None, algorithm: str | None) -> Tensor:
    """Shortens all gradients together to a norm of at most `limit`, if there is one; gives the norm as it was, ().

    Raises:
        ValueError: An `algorithm` other than `norm`, which is meant where there is none.
    """
    if algorithm not in (None, "norm"):
        raise ValueError(f"trainer.gradient_clip_algorithm is {algorithm!r}; this model clips by 'norm'")
    return nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
