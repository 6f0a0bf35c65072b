"""Whether the run's learning rate and weight decay are of a size that trains."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vit_lightning.check.finding import Finding
from vit_lightning.check.network import Workbench
from vit_lightning.optim import warmup_cosine
from vit_lightning.progress import track

Numbers = npt.NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]

#: Seconds that the range test may take.
SEARCHING = 20.0

#: Rates too low to move anything: their losses are the first loss.
SKIPPED = 10


def check_lr(
    workbench: Workbench,
    batches: Iterable[Sequence[Tensor]],
    settings: Mapping[str, Any],
    loss: Loss,
    *,
    seconds: float,
    path: Path,
) -> Finding:
    """Where the run's learning rate lies among those of a range test, from 1e-6 to 1.

    Args:
        workbench: The network.
        batches: Small ones of training, without end: images (B, C, H, W), normalised, and labels (B,).
        settings: The run's hyper-parameters.
        loss: What the run minimises, of logits (B, K) and labels (B,).
        seconds: What a batch may take; a slow device tries fewer rates.
        path: The PNG of losses by learning rate.
    """
    lr = float(settings["lr"])
    rates = np.geomspace(1e-6, 1.0, int(min(80, max(30, SEARCHING / seconds))))
    losses = range_test(workbench, batches, rates, settings, loss)
    rates = rates[: len(losses)]
    suggestion = suggested(rates, losses)
    draw_rates(rates, losses, lr=lr, suggestion=suggestion, path=path)
    return judge_lr(lr, divergence(rates, losses), suggestion, path.name)


def range_test(
    workbench: Workbench, batches: Iterable[Sequence[Tensor]], rates: Numbers, settings: Mapping[str, Any], loss: Loss
) -> Numbers:
    """Trains a copy with a learning rate that rises from batch to batch (Smith 2017, "Cyclical Learning Rates").

    Args:
        workbench: The network.
        batches: As in `check_lr`.
        rates: The learning rate of each batch, (R,).
        settings: The run's, for its optimizer.
        loss: As in `check_lr`.

    Returns:
        The loss of each batch before its step, (R,) or fewer: it ends soon after the loss has exploded.
    """
    net, optimizer = workbench.copy(settings)
    net.train()  # with the run's dropout
    losses: list[float] = []
    with track("looking for the learning rate", total=len(rates)) as advance:
        for rate, batch in zip(rates, batches, strict=False):
            images, labels = workbench.to_device(*batch)
            value = loss(net(images).float(), labels)
            losses.append(float(value.detach()))
            # By then `divergence` has found where it explodes, and no later loss would move that.
            if len(losses) > SKIPPED + 5 and running_median(losses[-5:])[2] > 4 * first_loss(losses):
                break
            workbench.step(net, optimizer, value, rate)
            advance(1)
    return np.array(losses)


def judge_lr(lr: float, limit: float, suggestion: float | None, picture: str) -> Finding:
    """What a learning rate is worth beside the one at which the loss explodes.

    Args:
        lr: The run's.
        limit: As `divergence` gives it.
        suggestion: The range test's, if it has one.
        picture: Name of the curve's file.
    """
    words = f"{lr:g}; the range test suggests {suggestion:.1g}" if suggestion else f"{lr:g}"
    if lr > limit:
        text = f"{words}, and beyond {limit:.1g} the loss explodes: lower --model.lr (see {picture})"
        return Finding("failure", "learning rate", text)
    if lr > limit / 10:
        text = f"{words}, and the loss explodes at {limit:.1g}, not far above: try a lower --model.lr (see {picture})"
        return Finding("warning", "learning rate", text)
    return Finding("ok", "learning rate", f"{words} (see {picture})")


def running_median(losses: Sequence[float] | Numbers) -> Numbers:
    """The median of each loss and two on either side, or as many as there are; what is no number is infinite."""
    finite = np.where(np.isfinite(losses), losses, np.inf)
    return np.array([np.median(finite[max(0, index - 2) : index + 3]) for index in range(len(finite))])


def first_loss(losses: Sequence[float] | Numbers) -> float:
    """What the loss was before the rates had any effect; infinite where it was no number even then."""
    first = np.array(losses[:SKIPPED])
    return float(np.median(np.where(np.isfinite(first), first, np.inf)))


def divergence(rates: Numbers, losses: Numbers) -> float:
    """The learning rate from which on the loss is twice its first one or no number, by the running median."""
    exploded = np.flatnonzero(running_median(losses)[SKIPPED:] >= 2 * first_loss(losses))
    return float(rates[SKIPPED + exploded[0]] if len(exploded) else rates[-1])


def suggested(rates: Numbers, losses: Numbers) -> float | None:
    """The learning rate of steepest descent before the loss is lowest; none where it does not descend.

    Noise is as steep, so that the running median is averaged over a third of a decade on either side of each rate.
    """
    reach = max(1, round(1 / 3 / math.log10(rates[1] / rates[0])))
    padded = np.pad(running_median(losses), reach, mode="edge")
    smooth = np.convolve(padded, np.full(2 * reach + 1, 1 / (2 * reach + 1)), mode="valid")
    lowest = int(smooth.argmin())
    if lowest < SKIPPED + 2:
        return None
    return float(rates[SKIPPED + int(np.gradient(smooth[: lowest + 1])[SKIPPED:].argmin())])


def draw_rates(rates: Numbers, losses: Numbers, *, lr: float, suggestion: float | None, path: Path) -> None:
    """Draws the losses by learning rate into a PNG, with the run's own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="tab:blue", alpha=0.4, label="a small batch's loss")
    axes.plot(rates, running_median(losses), color="tab:blue", label="running median")
    axes.axvline(lr, color="tab:orange", label=f"model.lr {lr:g}")
    if suggestion:
        axes.axvline(suggestion, color="tab:green", linestyle="--", label=f"suggested {suggestion:.1g}")
    axes.set_xscale("log")
    first = first_loss(losses)
    axes.set_ylim(0, 3 * first if math.isfinite(first) else None)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def check_decay(lr: float, weight_decay: float, steps: int, warmup_fraction: float) -> Finding:
    """How far weight decay alone would shrink the weights in the whole run.

    AdamW multiplies them by 1 - lr x decay in a step (Loshchilov & Hutter 2019), so that what a gradient gave is
    forgotten after about 1 / (lr x decay) steps: too soon where that is a small part of the run and few steps.

    Args:
        lr: The peak learning rate.
        weight_decay: AdamW's.
        steps: Of the whole run.
        warmup_fraction: Of the schedule.
    """
    warmup = round(warmup_fraction * steps)
    rates = lr * sum(warmup_cosine(step, total_steps=steps, warmup_steps=warmup) for step in range(steps))
    shrinkage = rates * weight_decay
    memory = math.inf if lr * weight_decay == 0 else 1 / (lr * weight_decay)
    left = math.exp(-shrinkage)
    words = f"{weight_decay:g} leaves {f'{left:.2g}' if left > 0.001 else 'nothing'} of weights that no gradient holds"
    if shrinkage > 3 and memory < 1000:
        text = (
            f"{words}, and forgets in {memory:,.0f} steps: lower --model.weight_decay (0.05 is common), or --model.lr"
        )
        return Finding("failure", "weight decay", text)
    if shrinkage > 1 and memory < 5000:
        text = f"{words}, and forgets in {memory:,.0f} steps: strong; --model.weight_decay 0.05 is common"
        return Finding("warning", "weight decay", text)
    return Finding("ok", "weight decay", words)
