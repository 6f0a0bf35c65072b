"""Whether the network can learn at all: its first loss, its gradients, and the overfit test.

The functions are given a few images (N, C, H, W), normalised, and their labels (N,).
"""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from vit_lightning.callbacks.pictures import evenly_spaced
from vit_lightning.check.finding import Finding
from vit_lightning.optim import build_optimizer
from vit_lightning.progress import track

#: Images of the overfit test, in batches of so many, at most so often each, and the seconds it may take.
OVERFITTED, SMALL_BATCH, ROUNDS, OVERFITTING = 100, 20, 60, 40.0

#: Norm of all gradients together at which they are said to explode.
EXPLODING = 1000.0


#: The optimizer's settings where what is looked at is the network alone: nothing decays.
PLAIN = {"optimizer": "adamw", "lr": 0.0, "betas": (0.9, 0.999), "weight_decay": 0.0, "decay_all": False}


class Workbench:
    """Copies of a network on the run's device and in its precision, and the run's way of a training step.

    Args:
        net: Images (B, C, H, W) -> logits (B, K).
        trainer: Of the run.
    """

    def __init__(self, net: nn.Module, trainer: Trainer) -> None:
        self.net = net
        self.clip = float(trainer.gradient_clip_val or 0)
        device = trainer.strategy.root_device.type
        self.fabric = Fabric(accelerator=device, devices=1, precision=trainer.precision)

    def copy(self, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """A copy in evaluation mode, in which nothing is dropped, and its optimizer; both Fabric's.

        Batch normalisation alone stays in training: with the numbers of a fresh network it would learn several times
        more slowly than in the run.
        """
        net = copy.deepcopy(self.net).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
        network, optimizer = self.fabric.setup(net, build_optimizer(net, PLAIN | dict(settings), fused=False))
        return network, optimizer

    def step(self, net: Any, optimizer: Any, loss: Tensor, lr: float) -> None:  # noqa: ANN401  # Fabric's are untyped
        """A step down the gradient of a loss, clipped as in the run."""
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        self.fabric.backward(loss)
        if self.clip:  # a gradient that is no number is for the loss to show
            self.fabric.clip_gradients(net, optimizer, max_norm=self.clip, error_if_nonfinite=False)
        optimizer.step()

    def rounds(
        self,
        net: Any,  # noqa: ANN401  # Fabric's are untyped
        optimizer: Any,  # noqa: ANN401  # likewise
        images: Tensor,
        labels: Tensor,
        lr: float,
    ) -> Iterator[tuple[int, float, list[float]]]:
        """Passes over a few images without end, each in another order, with a rise over the first ten steps.

        Yields:
            How many were right, the mean loss, and that of each batch.
        """
        generator, step = torch.Generator().manual_seed(0), 0
        while True:
            right, mean, losses = 0, 0.0, []
            order = torch.randperm(len(images), generator=generator).to(images.device)
            for start in range(0, len(images), SMALL_BATCH):
                index = order[start : start + SMALL_BATCH]
                step += 1
                logits = net(images[index]).float()
                loss = F.cross_entropy(logits, labels[index])
                self.step(net, optimizer, loss, lr * min(1.0, step / 10))
                right += int((logits.argmax(dim=1) == labels[index]).sum())
                losses.append(float(loss.detach()))
                mean += losses[-1] * len(index) / len(images)
            yield right, mean, losses

    def to_device(self, *tensors: Tensor) -> list[Tensor]:
        """The tensors where the network is."""
        return [tensor.to(self.fabric.device) for tensor in tensors]


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_first_loss(workbench: Workbench, images: Tensor, labels: Tensor, classes: int, *, fresh: bool) -> Finding:
    """Whether a network that knows nothing says so: cross-entropy ln K, for equal probabilities of K classes.

    Weights that are not fresh, those of another run, know better.
    """
    net, _ = workbench.copy({})
    x, y = workbench.to_device(images, labels)
    with torch.no_grad():
        loss, expected = float(F.cross_entropy(net(x).float(), y)), math.log(classes)
    words = f"{loss:.3f} before training; ln {classes} is {expected:.3f}"
    if not fresh and loss < 3 * expected:
        return Finding("ok", "first loss", f"{words} (the weights are those of another run)")
    if not loss < 3 * expected:
        text = f"{words}: the network is sure of what it cannot know; look at its initialisation and the input"
        return Finding("failure", "first loss", text)
    if abs(loss - expected) > 0.15 * expected:
        return Finding(
            "warning", "first loss", f"{words}: the head could start nearer to zero, as with --model.init vit"
        )
    return Finding("ok", "first loss", words)


def check_gradients(workbench: Workbench, images: Tensor, labels: Tensor) -> Finding:
    """Whether every parameter learns: its gradient is there, finite and not zero.

    A head of zeros keeps the gradients of all else at zero, so that two small steps are taken first.
    """
    frozen = [name for name, parameter in workbench.net.named_parameters() if not parameter.requires_grad]
    net, optimizer = workbench.copy({"lr": 1e-3})
    few = evenly_spaced(len(images), SMALL_BATCH)
    x, y = workbench.to_device(images[few], labels[few])
    for step in range(3):
        optimizer.zero_grad()
        workbench.fabric.backward(F.cross_entropy(net(x).float(), y))
        workbench.fabric.clip_gradients(net, optimizer, max_norm=math.inf, error_if_nonfinite=False)  # fp16: unscaled
        if step < 2:
            optimizer.step()
    gradients = {name: parameter.grad for name, parameter in net.module.named_parameters()}
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items() if gradient is not None}
    for words, names in (
        ("frozen (requires_grad is False)", frozen),
        ("no gradient: what they compute is not used", [name for name in gradients if name not in norms]),
        (
            "the gradient is no number: look at the input and at --trainer.precision",
            [n for n in norms if not math.isfinite(norms[n])],
        ),
        ("the gradient is zero: the loss does not depend on them", [name for name in norms if norms[name] == 0]),
    ):
        if names:
            return Finding("failure", "gradients", f"{some(names)}: {words}")
    least = min(norms, key=lambda name: norms[name])
    norm = math.hypot(*norms.values())
    words = (
        f"finite and not zero in all {len(norms)} parameters; norm {norm:.2g}, the least {norms[least]:.1g} in {least}"
    )
    if norm > EXPLODING:
        return Finding("warning", "gradients", f"{words}: they explode; keep --trainer.gradient_clip_val 1.0")
    return Finding("ok", "gradients", words)


def check_overfit(workbench: Workbench, images: Tensor, labels: Tensor, lr: float) -> Finding:
    """The overfit test: whether a few images are learnt without augmentation, dropout, smoothing and decay.

    The learning rate is the run's, after a rise over the first ten steps.
    """
    net, optimizer = workbench.copy({"lr": lr})
    x, y = workbench.to_device(images, labels)
    began, late, step, right = time.monotonic(), False, 0, 0
    initial = mean = math.nan
    with track(f"overfitting {len(x)} images", total=ROUNDS) as advance:
        for right, mean, losses in islice(workbench.rounds(net, optimizer, x, y, lr), ROUNDS):
            initial = initial if step else losses[0]
            step += len(losses)
            advance(1)
            done, late = right > 0.95 * len(x) and mean < initial / 2, time.monotonic() - began > OVERFITTING
            if done or late or not math.isfinite(mean):
                break
    words = f"{right} of {len(x)} known after {step} steps; loss {initial:.2f} -> {mean:.2f}"
    if right > 0.9 * len(x) and mean < initial / 2:
        return Finding("ok", "overfit", words)
    if late and mean < 1.1 * initial:  # not worse, at least
        text = f"{words}: there was no time for more in {OVERFITTING:.0f} seconds; on this device the network is slow"
        return Finding("warning", "overfit", text)
    text = (
        f"{words}: it does not learn the images it is shown; the learning rate (below) is the first suspect, then "
        "frozen layers, the input, and pictures with two labels"
    )
    return Finding("failure", "overfit", text)
