"""The debugging list that is worth going through before an hour of training is spent, in about a minute.

Each function looks at one thing and says what it found. Nothing of a run is opened or kept; every step that computes is
bounded in seconds.
"""

import copy
import logging
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional

from vit_lightning.callbacks.pictures import captioned, enlarged, sheet
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.near_duplicates import SIDE, Thumbnails, distances
from vit_lightning.data.scan import first_few
from vit_lightning.evaluation.baselines import Baselines, score_baselines
from vit_lightning.hardware import device_name
from vit_lightning.module import ViTClassifier
from vit_lightning.optim import parameter_groups, warmup_cosine
from vit_lightning.progress import track

log = logging.getLogger(__name__)

Level = Literal["ok", "warning", "failure"]
Labels = npt.NDArray[np.int64]

#: The largest class over the smallest, from which on the small one is likely to be ignored.
IMBALANCE = 10.0

#: Images that have to be learnt by heart, in batches of so many, at most so often each.
MEMORISED, SMALL_BATCH, ROUNDS = 100, 20, 60

#: Norm of all gradients together at which they are said to explode.
EXPLODING = 1000.0

#: Seconds that a step may take: the timed training, the images learnt by heart, the search for the learning rate.
TIMED, LEARNING, SEARCHING = 8.0, 40.0, 20.0

#: Images of which augmented versions are looked for among the plain ones, and of which the input's numbers are taken.
LOOKED_AT = 400

#: Images whose nearest neighbours' labels are looked at.
NEIGHBOURS = 2000

#: How slowly the average of Lightning's finder forgets.
FORGETTING = 0.98


@dataclass(frozen=True)
class Finding:
    """One line of the list."""

    level: Level
    name: str
    text: str


def run(model: ViTClassifier, data: ImageDataModule, trainer: Trainer, folder: Path) -> bool:
    """Goes through the list and prints it.

    Args:
        model: As in `check`.
        data: As in `check`.
        trainer: As in `check`.
        folder: As in `check`.

    Returns:
        Whether there was no failure.
    """
    levels = Counter[Level]()
    for finding in check(model, data, trainer, folder):
        tell(finding)
        levels[finding.level] += 1
    counted = [f"{levels['ok']} ok"]
    counted += [plural(levels[level], level) for level in ("warning", "failure") if levels[level]]
    log.info("%s; pictures are in %s", ", ".join(counted), folder)
    return not levels["failure"]


def tell(finding: Finding) -> None:
    """Prints a finding, wrapped beside its level and name."""
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    style = {"ok": "green", "warning": "yellow", "failure": "bold red"}[finding.level]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=7)
    row.add_column(width=13)
    row.add_column()
    row.add_row(Text(finding.level, style), Text(finding.name), Text(finding.text))
    get_console().print(row)


def check(model: ViTClassifier, data: ImageDataModule, trainer: Trainer, folder: Path) -> Iterator[Finding]:
    """Goes through the list.

    Args:
        model: As it would be trained; it is left as it was.
        data: Its images; unreadable ones are left out, whatever `on_error` says.
        trainer: Its device, precision and limits are those of the run.
        folder: Where `samples.png` and `learning_rate.png` are put, over older ones.

    Yields:
        A finding at a time, as soon as it is known.

    Raises:
        FileNotFoundError: The data are missing.
        ValueError: There is no split, or no end of training.
    """
    refuses = data.settings.on_error == "raise"
    data.settings = replace(data.settings, on_error="skip")
    data.prepare_data()
    data.setup("fit")
    steps, batches = length(data, trainer)
    model = copy.deepcopy(model)
    if model.hparams["init_from"] is not None:
        model.net.load_state_dict(model.weights_from(model.hparams["init_from"]), strict=False)
    fresh = model.hparams["init_from"] is None
    # Compiling takes longer than all of this.
    model.hparams.update(init_from=None, compile=False)

    split = data.used_split
    names, train, labels = split.class_names, split.part("train"), np.array(split.labels("train"))
    yield check_files(split.unreadable, len(split.samples), refuses=refuses)
    yield check_balance(split.counts()["train"], weighted=model.hparams["class_weights"] is not None)
    yield check_split(score_baselines(split))
    yield check_labels(split.thumbnails(train), labels)

    chosen = spread(len(train), LOOKED_AT)
    plain = plain_images(data, chosen)
    augmented = augmented_images(data, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    yield draw_samples(plain, augmented, [names[label] for label in labels[chosen]], folder / "samples.png")
    yield check_augmentation(thumbnails_of(plain), thumbnails_of(augmented), labels[chosen])

    batch = data.on_after_batch_transfer([plain, torch.from_numpy(labels[chosen])], 0)
    images, targets = batch[0].float(), batch[1]
    yield check_input(images)

    yield check_device(trainer)
    workbench = Workbench(model.net, trainer)
    few = spread(len(images), MEMORISED)
    images, targets = images[few], targets[few]
    yield check_first_loss(workbench, images, targets, len(names), fresh=fresh)
    yield check_gradients(workbench, images, targets)
    lr, decay = float(model.hparams["lr"]), float(model.hparams["weight_decay"])
    clip = float(trainer.gradient_clip_val or 0)
    yield check_memory(workbench, images, targets, lr=lr, clip=clip)

    pace = measure(model, data, trainer, steps, batches)
    yield check_lr(model, data, trainer, pace, folder / "learning_rate.png")
    yield check_decay(lr, decay, steps, model.hparams["warmup_fraction"])
    yield pace.finding()


# Data


def check_files(unreadable: dict[str, str], readable: int, *, refuses: bool) -> Finding:
    """Whether every file is a picture.

    Args:
        unreadable: Those that are none, with the reason.
        readable: How many are.
        refuses: Whether `fit` would not begin for them.
    """
    if not unreadable:
        return Finding("ok", "files", f"all {readable:,} images can be read")
    words = f"{len(unreadable):,} files cannot be read: {first_few(unreadable)}"
    if refuses:
        text = f"{words}; fit would not begin: mend them, take them away, or add --data.on_error skip"
        return Finding("failure", "files", text)
    return Finding("warning", "files", f"{words}; they are left out")


def check_balance(counts: Counter[str], *, weighted: bool) -> Finding:
    """How the training images are shared out over the classes.

    Args:
        counts: Training images of each class.
        weighted: Whether the loss makes up for it.
    """
    listed = "to train on: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common(8))
    if len(counts) > 8:
        listed += f" and {len(counts) - 8} more, down to {min(counts.values()):,}"
    ratio = max(counts.values()) / min(counts.values())
    if ratio > IMBALANCE and not weighted:
        text = (
            f"{listed}; the largest has {ratio:.0f} times as many as the smallest; try --model.class_weights balanced"
        )
        return Finding("warning", "classes", text)
    return Finding("ok", "classes", listed)


def check_split(baselines: Baselines | None) -> Finding:
    """What scores on the validation part would be worth."""
    if baselines is None:
        return Finding("warning", "split", "nothing is held out to validate on; give --data.val_fraction 0.1")
    return Finding("warning" if baselines.leaks else "ok", "split", "; ".join(baselines.lines()))


def check_labels(thumbnails: Thumbnails, labels: Labels) -> Finding:
    """Whether pictures that look alike have the same label more often than chance would have it.

    Labels that were shuffled are learnt by heart as well as true ones, so that no training on a few images tells. But
    with them the nearest neighbour's label is right as often as any image's: the sum of the squared shares.

    Args:
        thumbnails: Of the training images, (N, 16, 16, 3).
        labels: Their classes, (N,).
    """
    asked = spread(len(labels), NEIGHBOURS)
    nearest = []
    for part, difference, _ in distances(thumbnails[asked], thumbnails):
        difference[np.arange(len(difference)), asked[part]] = np.inf  # not itself
        nearest.append(difference.argmin(axis=1))
    share = float((labels[np.concatenate(nearest)] == labels[asked]).mean())
    chance = chance_agreement(labels)
    error = math.sqrt(chance * (1 - chance) / len(asked))
    words = (
        f"the nearest neighbour on {SIDE}x{SIDE} thumbnails has the same label in {share:.0%}, by chance {chance:.0%}"
    )
    if share < chance + max(3 * error, 0.05 * (1 - chance)):
        text = f"{words}: labels look shuffled, or the classes do not differ at that size; look at samples.png"
        return Finding("warning", "labels", text)
    return Finding("ok", "labels", words)


def check_augmentation(plain: Thumbnails, augmented: Thumbnails, labels: Labels) -> Finding:
    """Whether augmented pictures still show what the plain ones do: their nearest plain picture is of their class.

    Thumbnails are compared without their brightness and contrast, and with mirrored ones as well.

    Args:
        plain: (N, 16, 16, 3).
        augmented: The same pictures, (N, 16, 16, 3).
        labels: Their classes, (N,).
    """
    reference = standardised(np.concatenate([plain, plain[:, :, ::-1]]))
    nearest = (standardised(augmented) @ reference.T).argmax(axis=1) % len(plain)
    share = float((labels[nearest] == labels).mean())
    chance = chance_agreement(labels)
    kept = (share - chance) / (1 - chance) if chance < 1 else 1.0
    words = f"the plain picture nearest to an augmented one is of its class in {share:.0%}, by chance {chance:.0%}"
    if kept < 0.3:
        text = f"{words}: too little is left of the pictures; look at samples.png, and try --data.augment light"
        return Finding("failure" if kept < 0.1 else "warning", "augmentation", text)
    return Finding("ok", "augmentation", words)


def check_input(images: Tensor) -> Finding:
    """Whether the model's input is near mean 0 and deviation 1.

    Args:
        images: As the model is given them, (N, C, H, W).
    """
    mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).tolist()
    words = "mean " + " ".join(f"{value:.2f}" for value in mean) + ", deviation " + " ".join(f"{s:.2f}" for s in std)
    far = max(map(abs, mean))
    if not all(map(math.isfinite, mean + std)) or far > 3 or max(std) > 3 or min(std) < 0.02:
        return Finding(
            "failure", "input", f"{words}: expected about 0 and 1; normalise the images, or look for blank ones"
        )
    if far > 2 or max(std) > 2 or min(std) < 0.3:
        return Finding(
            "warning", "input", f"{words}: far from 0 and 1; are the images normalised, and as bright as usual?"
        )
    return Finding("ok", "input", words)


def draw_samples(plain: Tensor, augmented: Tensor, labels: Sequence[str], path: Path) -> Finding:
    """Draws a few images with their labels, the plain above the augmented, for somebody to look at.

    Args:
        plain: Bytes (N, H, W, 3).
        augmented: The same images, bytes (N, H, W, 3).
        labels: Their classes' names.
        path: The PNG.
    """
    chosen = spread(len(plain), 24)
    tiles = [captioned([enlarged(plain[i]), enlarged(augmented[i])], [labels[i]]) for i in chosen]
    sheet(tiles, 8).save(path)
    return Finding(
        "ok", "samples", f"{len(tiles)} images, plain above augmented, are in {path.name}: are their labels right?"
    )


# Hardware


def check_device(trainer: Trainer) -> Finding:
    """What computes, and how precisely."""
    words = f"{device_name(trainer)}, precision {trainer.precision}"
    idle = torch.cuda.is_available() or torch.backends.mps.is_available()
    if trainer.strategy.root_device.type == "cpu":
        words += f", {torch.get_num_threads()} threads"
        if idle:
            return Finding("warning", "device", f"{words}: there is a GPU, too; leave trainer.accelerator out")
    return Finding("ok", "device", words)


# Model


class Workbench:
    """Fresh copies of a network on the run's device and in its precision, without dropout.

    Args:
        net: Images (B, C, H, W) -> logits (B, K).
        trainer: Of the run.
    """

    def __init__(self, net: nn.Module, trainer: Trainer) -> None:
        self.net = net
        device = trainer.strategy.root_device.type
        self.fabric = Fabric(accelerator=device, devices=1, precision=trainer.precision)

    def copy(self, lr: float) -> tuple[Any, Any]:
        """A copy in evaluation mode, in which nothing is dropped, and an AdamW without decay; both Fabric's."""
        net = copy.deepcopy(self.net).eval()
        module, optimizer = self.fabric.setup(net, torch.optim.AdamW(parameter_groups(net, weight_decay=0.0), lr=lr))
        return module, optimizer

    def to_device(self, *tensors: Tensor) -> list[Tensor]:
        """The tensors where the network is."""
        return [tensor.to(self.fabric.device) for tensor in tensors]


def check_first_loss(workbench: Workbench, images: Tensor, labels: Tensor, classes: int, *, fresh: bool) -> Finding:
    """Whether a network that knows nothing says so: cross-entropy ln K, for equal probabilities of K classes.

    Args:
        workbench: The network.
        images: (N, C, H, W), normalised.
        labels: (N,).
        classes: K.
        fresh: Whether its weights are new; those of another run know better.
    """
    net, _ = workbench.copy(lr=0.0)
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

    Args:
        workbench: The network.
        images: (N, C, H, W), normalised.
        labels: (N,).
    """
    frozen = [name for name, parameter in workbench.net.named_parameters() if not parameter.requires_grad]
    net, optimizer = workbench.copy(lr=1e-3)
    few = spread(len(images), SMALL_BATCH)
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


def check_memory(workbench: Workbench, images: Tensor, labels: Tensor, *, lr: float, clip: float) -> Finding:
    """Whether a few images are learnt by heart, without augmentation, dropout, smoothing and decay, at the run's rate.

    Args:
        workbench: The network.
        images: (N, C, H, W), normalised.
        labels: (N,).
        lr: Learning rate; it rises over the first ten steps.
        clip: Largest norm of the gradients; 0 for none.
    """
    net, optimizer = workbench.copy(lr=lr)
    x, y = workbench.to_device(images, labels)
    began, step, rounds, right = time.monotonic(), 0, 0, 0
    initial = mean = math.nan
    generator = torch.Generator().manual_seed(0)
    with track(f"learning {len(x)} images by heart", total=ROUNDS) as advance:
        for _ in range(ROUNDS):
            right, mean = 0, 0.0
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for start in range(0, len(x), SMALL_BATCH):
                index = order[start : start + SMALL_BATCH]
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = lr * min(1.0, step / 10)
                logits = net(x[index]).float()
                loss = F.cross_entropy(logits, y[index])
                optimizer.zero_grad()
                workbench.fabric.backward(loss)
                if clip:
                    workbench.fabric.clip_gradients(net, optimizer, max_norm=clip, error_if_nonfinite=False)
                optimizer.step()
                right += int((logits.argmax(dim=1) == y[index]).sum())
                mean += float(loss.detach()) * len(index) / len(x)
                initial = float(loss.detach()) if step == 1 else initial
            rounds += 1
            advance(1)
            done = right > 0.95 * len(x) and mean < initial / 2
            if done or not math.isfinite(mean) or time.monotonic() - began > LEARNING:
                break
    words = f"{right} of {len(x)} known after {step} steps; loss {initial:.2f} -> {mean:.2f}"
    if right > 0.9 * len(x) and mean < initial / 2:
        return Finding("ok", "by heart", words)
    if rounds < ROUNDS and mean < 1.1 * initial:  # not worse, at least
        text = f"{words}: there was no time for more in {LEARNING:.0f} seconds; on this device the network is slow"
        return Finding("warning", "by heart", text)
    text = (
        f"{words}: it does not learn the images it is shown; the learning rate (below) is the first suspect, then "
        "frozen layers, the input, and pictures with two labels"
    )
    return Finding("failure", "by heart", text)


@dataclass(frozen=True)
class Pace:
    """How fast a run would be."""

    steps: int  # optimizer steps
    batches: int  # training batches over all epochs
    batch: float  # seconds a training batch
    validations: int  # batches validated over all epochs
    validation: float  # seconds a batch
    images: int  # a batch

    def finding(self) -> Finding:
        """In words."""
        seconds = self.batches * self.batch + self.validations * self.validation
        text = f"{self.images / self.batch:.0f} images/s in training; {self.steps:,} steps and validation take about "
        return Finding("ok", "time", text + duration(seconds))


class Stopwatch(Callback):
    """Notes when training and validation batches are over, and ends training after some seconds.

    Args:
        advance: Told of every training batch.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.training: list[float] = []
        self.validation: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """The first batch begins."""
        self.training.append(time.perf_counter())

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """One is over."""
        self.training.append(time.perf_counter())
        self.advance(1)
        if len(self.training) > 2 and self.training[-1] - self.training[0] > TIMED:
            trainer.should_stop = True

    def on_validation_epoch_start(self, *_: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """The first batch begins."""
        self.validation.append(time.perf_counter())

    def on_validation_batch_end(self, *_: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """One is over."""
        self.validation.append(time.perf_counter())


def length(data: ImageDataModule, trainer: Trainer) -> tuple[int, int]:
    """The optimizer steps of the run, and the training batches of an epoch.

    Raises:
        ValueError: The run has no end.
    """
    limit, whole = trainer.limit_train_batches, len(data.train_dataloader())
    batches = max(1, min(whole, limit) if isinstance(limit, int) else int(whole * (limit or 1.0)))
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        ends.append(trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches))
    if not ends:
        raise ValueError("the schedule needs to know its end: give trainer.max_epochs or trainer.max_steps")
    return min(ends), batches


def measure(model: ViTClassifier, data: ImageDataModule, trainer: Trainer, steps: int, batches: int) -> Pace:
    """Trains for a few seconds with the run's own loader, augmentation and optimizer, and validates a little.

    Args:
        model: A copy of it is trained.
        data: The images.
        trainer: Of the run.
        steps: Of the run, as `length` gives them.
        batches: Of an epoch, as `length` gives them.
    """
    size = data.batch_size
    with track("measuring how fast it trains", total=30) as advance:
        stopwatch = Stopwatch(advance)
        rehearsed = data.batch_size = min(size, 32) if trainer.strategy.root_device.type == "cpu" else size
        try:
            with rehearsal(trainer, [stopwatch], max_epochs=1, limit_val_batches=3, max_batches=30) as rehearsing:
                rehearsing.fit(copy.deepcopy(model), datamodule=data)
        finally:
            data.batch_size = size
    held_out = math.ceil(len(data.used_split.part("val")) / size)
    scale = size / rehearsed
    trained = steps * trainer.accumulate_grad_batches
    return Pace(
        steps=steps,
        batches=trained,
        batch=scale * interval(stopwatch.training),
        validations=round(held_out * trained / batches / (trainer.check_val_every_n_epoch or 1)),
        validation=scale * interval(stopwatch.validation),
        images=size,
    )


def check_lr(model: ViTClassifier, data: ImageDataModule, trainer: Trainer, pace: Pace, path: Path) -> Finding:
    """Where the learning rate lies among those that Lightning's finder tries on small batches, from 1e-6 to 1.

    Args:
        model: Its own learning rate is judged.
        data: The images.
        trainer: Of the run.
        pace: How many steps there is time for.
        path: The PNG of losses by learning rate.
    """
    lr, size = float(model.hparams["lr"]), data.batch_size
    small = min(size, 16)
    steps = int(min(80, max(30, SEARCHING / (pace.batch * small / pace.images))))
    try:
        data.batch_size = small
        with (
            track("looking for the learning rate", total=1) as advance,
            rehearsal(trainer, [], max_epochs=100_000) as rehearsing,
            redirect_stderr(StringIO()),  # the finder's own bar, which cannot be switched off
        ):
            finder = Tuner(rehearsing).lr_find(
                copy.deepcopy(model), datamodule=data, min_lr=1e-6, max_lr=1.0, num_training=steps, update_attr=False
            )
            advance(1)
    finally:
        data.batch_size = size
    assert finder is not None, "no fast_dev_run"
    rates, losses = np.array(finder.results["lr"]), batch_losses(finder.results["loss"])
    suggestion = suggested(finder, losses)
    draw_rates(rates, losses, lr=lr, suggestion=suggestion, path=path)
    return judge_lr(lr, divergence(rates, losses), suggestion, path.name)


def judge_lr(lr: float, limit: float, suggestion: float | None, picture: str) -> Finding:
    """What a learning rate is worth beside the one at which the loss explodes.

    Args:
        lr: The run's.
        limit: As `divergence` gives it.
        suggestion: The finder's, if it has one.
        picture: Name of the curve's file.
    """
    words = f"{lr:g}; the finder suggests {suggestion:.1g}" if suggestion else f"{lr:g}"
    if lr > limit:
        text = f"{words}, and beyond {limit:.1g} the loss explodes: lower --model.lr (see {picture})"
        return Finding("failure", "learning rate", text)
    if lr > limit / 10:
        text = f"{words}, and the loss explodes at {limit:.1g}, not far above: try a lower --model.lr (see {picture})"
        return Finding("warning", "learning rate", text)
    return Finding("ok", "learning rate", f"{words} (see {picture})")


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


# What these need


@contextmanager
def rehearsal(
    trainer: Trainer,
    callbacks: list[Callback],
    *,
    max_epochs: int,
    limit_val_batches: int = 0,
    max_batches: int = 10**9,
) -> Iterator[Trainer]:
    """A Trainer on the run's device that leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        yield Trainer(
            accelerator=trainer.strategy.root_device.type,
            devices=1,
            precision=trainer.precision,
            gradient_clip_val=trainer.gradient_clip_val,
            accumulate_grad_batches=1,
            max_epochs=max_epochs,
            limit_train_batches=max_batches,
            limit_val_batches=limit_val_batches,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def spread(length: int, count: int) -> npt.NDArray[np.int64]:
    """At most `count` indices at even distances from the first to the last: images are sorted by class."""
    return np.unique(np.linspace(0, length - 1, count).astype(np.int64))


def plain_images(data: ImageDataModule, chosen: npt.NDArray[np.int64]) -> Tensor:
    """Training images without augmentation, bytes (N, H, W, 3)."""
    dataset = data.labelled("train")
    frames = [dataset[int(index)][0].permute(2, 0, 1) for index in chosen]  # larger where they are to be cropped
    resized = [functional.resize(frame, list(data.image_size), antialias=True) for frame in frames]
    return torch.stack(resized).permute(0, 2, 3, 1)


def augmented_images(data: ImageDataModule, chosen: npt.NDArray[np.int64]) -> Tensor:
    """The same images as training is given them, bytes (N, H, W, 3)."""
    dataset = data.train_dataloader().dataset
    return torch.stack([dataset[int(index)][0] for index in chosen])


def thumbnails_of(images: Tensor) -> Thumbnails:
    """Bytes (N, H, W, 3) -> (N, 16, 16, 3)."""
    resized = functional.resize(images.permute(0, 3, 1, 2), [SIDE, SIDE], antialias=True)
    thumbnails: Thumbnails = resized.permute(0, 2, 3, 1).numpy()
    return thumbnails


def standardised(thumbnails: Thumbnails) -> npt.NDArray[np.float32]:
    """Rows (N, 768) of mean 0 and length 1; a thumbnail of one colour has only zeros."""
    rows = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    result: npt.NDArray[np.float32] = rows / np.maximum(lengths, 1.0)
    return result


def chance_agreement(labels: Labels) -> float:
    """How often two images have the same label if labels have nothing to do with images."""
    shares = np.bincount(labels) / len(labels)
    return float((shares**2).sum())


def batch_losses(averages: Sequence[float]) -> npt.NDArray[np.float64]:
    """The loss of each batch, from the finder's average, which shows an explosion a factor of ten too late.

    The finder gives a_n / (1 - f^(n + 1)), counting steps from 1, of a_n = f a_(n-1) + (1 - f) loss_n.
    """
    smooth = np.array(averages) * (1 - FORGETTING ** (np.arange(len(averages)) + 2))
    before = np.concatenate([[0.0], smooth[:-1]])
    losses: npt.NDArray[np.float64] = (smooth - FORGETTING * before) / (1 - FORGETTING)
    return losses


def running_median(values: npt.NDArray[np.float64], width: int = 5) -> npt.NDArray[np.float64]:
    """The median of each value and its neighbours, as many as fit at the ends; what is no number counts as infinite."""
    finite, half = np.where(np.isfinite(values), values, np.inf), width // 2
    medians = [np.median(finite[max(0, index - half) : index + half + 1]) for index in range(len(values))]
    return np.array(medians, dtype=np.float64)


def suggested(finder: Any, losses: npt.NDArray[np.float64]) -> float | None:  # noqa: ANN401  # Lightning's is private
    """The finder's learning rate of steepest descent, before the loss is lowest: later, noise is as steep."""
    skipped, lowest = 10, int(running_median(losses).argmin())
    if lowest < skipped + 2:
        return None
    rate: float | None = finder.suggestion(skip_begin=skipped, skip_end=len(losses) - lowest)
    return rate


def divergence(rates: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]) -> float:
    """The learning rate from which on the loss is twice its first one or no number, by the running median."""
    first = float(np.median(losses[:10]))
    exploded = np.flatnonzero(running_median(losses)[10:] >= 2 * first)
    return float(rates[10 + exploded[0]] if len(exploded) else rates[-1])


def draw_rates(
    rates: npt.NDArray[np.float64],
    losses: npt.NDArray[np.float64],
    *,
    lr: float,
    suggestion: float | None,
    path: Path,
) -> None:
    """Draws the finder's losses by learning rate into a PNG, with the run's own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="tab:blue", alpha=0.4, label="a small batch's loss")
    axes.plot(rates, running_median(losses), color="tab:blue", label="running median")
    axes.axvline(lr, color="tab:orange", label=f"model.lr {lr:g}")
    if suggestion:
        axes.axvline(suggestion, color="tab:green", linestyle="--", label=f"suggested {suggestion:.1g}")
    axes.set_xscale("log")
    axes.set_ylim(0, 3 * float(np.median(losses[:10])))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def interval(times: Sequence[float]) -> float:
    """Seconds between two of them, on average; the first two are left out where there are more, as things warm up."""
    kept = times[2:] if len(times) > 3 else times
    return (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > 1 else 0.0


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def plural(count: int, noun: str) -> str:
    """As in 1 failure, 2 failures."""
    return f"{count} {noun}{'s' * (count != 1)}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
