"""What AdamW may shrink, and how the learning rate moves: plain functions, no Lightning."""

import math

from torch import nn

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
