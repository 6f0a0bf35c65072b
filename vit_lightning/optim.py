"""AdamW, Muon, what they may shrink, and how its learning rate moves: plain functions, no Lightning."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vit_lightning.arguments import check_choice, check_number, shown

#: Parameters that are no matrix of a layer: shrinking them towards zero has no reason (big_vision, DeiT).
NOT_DECAYED = ("class_token", "position_embedding")


#: Newton and Schulz's iteration as Muon runs it: the factors of X, (XX')X and (XX')^2 X, and how often.
QUINTIC, ITERATIONS = (3.4445, -4.7750, 2.0315), 5

#: Root mean square of an orthogonal matrix's step, in learning rates: about that of AdamW's (Liu et al. 2025).
STEP_SIZE = 0.2


class Muon(AdamW):
    """Muon for the encoder's matrices (Jordan et al. 2024), AdamW for all else, with one learning rate.

    A matrix's step is its gradient's average over steps, made orthogonal: all its directions are of the same length. It
    is scaled to the size that AdamW's steps have, and decays as AdamW does (Liu et al., "Muon is Scalable for LLM
    Training", 2025).

    Args:
        groups: Those of `parameter_groups` with `muon`: groups with `matrices` are Muon's.
        momentum: Share of the average that each step keeps.
        **settings: AdamW's.
    """

    def __init__(self, groups: list[dict[str, object]], *, momentum: float = 0.95, **settings: Any) -> None:  # noqa: ANN401  # its
        super().__init__(groups, **settings)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401  # torch's signature
        """One step of all parameters that have a gradient; gives the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group.get("matrices"):
                self.step_matrices(group)
        self.param_groups = [group for group in groups if not group.get("matrices")]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def step_matrices(self, group: dict[str, Any]) -> None:
        """Moves a group's parameters, each of which is so many matrices below one another."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:  # a step's number is what AdamW looks for when a checkpoint is read
                state |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(parameter)}
            state["step"] += 1
            average = state["momentum_buffer"].lerp_(parameter.grad, 1 - self.momentum)
            ahead = parameter.grad.lerp(average, self.momentum)  # Nesterov's
            count = group["matrices"]
            for matrix, direction in zip(parameter.chunk(count), ahead.chunk(count), strict=True):
                by_shape.setdefault(matrix.shape, []).append((matrix, direction))
        for shape, pairs in by_shape.items():  # all of one shape in one product
            steps = orthogonal(torch.stack([direction for _, direction in pairs]))
            size = STEP_SIZE * math.sqrt(max(shape)) * group["lr"]
            for (matrix, _), step in zip(pairs, steps, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=size)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the nearest orthogonal matrices, (M, m, n): singular values between 0.7 and 1.2 in place of their own."""
    first, third, fifth = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = first * x + (third * gram + fifth * gram @ gram) @ x
    return x.mT if tall else x


def parameter_groups(
    model: nn.Module, *, weight_decay: float, decay_all: bool = False, muon: bool = False
) -> list[dict[str, object]]:
    """The optimizer's parameter groups: weights of layers with decay; biases, norms, tokens and positions without.

    Args:
        model: Any module; parameters that need no gradient are left out.
        weight_decay: Decay of the decayed group.
        decay_all: Put everything into the decayed group, as `AdamW(model.parameters())` does.
        muon: The encoder blocks' matrices get groups of their own, which say in `matrices` how many a parameter holds:
            queries, keys and values are three.

    Returns:
        One to four groups, without empty ones; `torch.optim.AdamW` takes them, too.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    matrices: dict[int, list[nn.Parameter]] = {1: [], 3: []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_free = parameter.ndim < 2 or name.rpartition(".")[2] in NOT_DECAYED
        if muon and parameter.ndim == 2 and ".blocks." in f".{name}":
            matrices[3 if name.endswith("qkv.weight") else 1].append(parameter)
        else:
            (free if is_free and not decay_all else decayed).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
        *({"params": own, "weight_decay": weight_decay, "matrices": count} for count, own in matrices.items()),
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


def check_settings(*, lr: float, betas: tuple[float, float], weight_decay: float, optimizer: str) -> None:
    """Refuses what the optimizer cannot work with.

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
    check_choice("optimizer", optimizer, ("adamw", "muon"))


def check_loss(*, cutmix: float, guide: float, class_weights: str | None) -> None:
    """Refuses what the loss cannot work with.

    Raises:
        ValueError: The message names the argument and what it may be.
    """
    check_number("cutmix", cutmix, least=0, most=1)
    check_number("guide", guide, least=0, most=1e6)
    if class_weights is not None:
        check_choice("class_weights", class_weights, ("balanced",))


def balanced_weights(datamodule: object) -> Tensor:
    """What each class counts for so that all count alike, (K,): n / (K n_k) for n training images, n_k of the class.

    Raises:
        ValueError: It is no data module that counts them.
    """
    counting = getattr(datamodule, "training_counts", None)
    if counting is None:
        raise ValueError("class_weights balanced counts the images of an ImageDataModule; fit with one")
    counts = torch.tensor(counting())
    weights: Tensor = counts.sum() / (len(counts) * counts)
    return weights


def build_optimizer(model: nn.Module, settings: Mapping[str, Any], *, fused: bool = True) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) or `Muon` over the groups of `parameter_groups`.

    Args:
        model: What is trained.
        settings: `optimizer`, `lr`, `betas`, `weight_decay` and `decay_all`.
        fused: One kernel for all of AdamW's parameters.
    """
    muon = settings["optimizer"] == "muon"
    decay, decay_all = settings["weight_decay"], settings["decay_all"]
    groups = parameter_groups(model, weight_decay=decay, decay_all=decay_all, muon=muon)
    return (Muon if muon else AdamW)(groups, lr=settings["lr"], betas=tuple(settings["betas"]), fused=fused)


def build_schedule(optimizer: Optimizer, settings: Mapping[str, Any], *, total_steps: int) -> LambdaLR:
    """`warmup_cosine` with the `warmup_fraction` of the settings, to be stepped after each step of the optimizer."""
    warmup_steps = round(settings["warmup_fraction"] * total_steps)
    return LambdaLR(optimizer, lambda step: warmup_cosine(step, total_steps=total_steps, warmup_steps=warmup_steps))


def update_settings(optimizer: Optimizer, schedule: Any, settings: Mapping[str, Any]) -> None:  # noqa: ANN401  # Lightning gives one of many
    """Puts settings over those that a checkpoint's optimizer and schedule, which stays at its step, brought along."""
    lr = settings["lr"]
    schedule.base_lrs = [lr] * len(optimizer.param_groups)
    factor = schedule.lr_lambdas[0](schedule.last_epoch)
    for number, group in enumerate(optimizer.param_groups):
        decay = 0.0 if number == 1 and not settings["decay_all"] else settings["weight_decay"]
        group |= {"lr": lr * factor, "initial_lr": lr, "betas": tuple(settings["betas"]), "weight_decay": decay}


def clip_gradients(model: nn.Module, limit: float | None, algorithm: str | None) -> Tensor:
    """Shortens all gradients together to a norm of at most `limit`, if there is one; gives the norm as it was, ().

    Raises:
        ValueError: An `algorithm` other than `norm`, which is meant where there is none.
    """
    if algorithm not in (None, "norm"):
        raise ValueError(f"trainer.gradient_clip_algorithm is {algorithm!r}; this model clips by 'norm'")
    return nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
