"""The methods that `benchmarks.accuracy` compares: what each is built with, and one run of it from start to score."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from vit_lightning.callbacks.finite import StopAtNaN
from vit_lightning.callbacks.history import EventLog, History
from vit_lightning.callbacks.outputs import HeldOutOutputs
from vit_lightning.callbacks.seeding import BatchSeeding
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.transforms import CropNearly
from vit_lightning.evaluation.assess import outcome_of
from vit_lightning.evaluation.baselines import score_baselines
from vit_lightning.evaluation.folds import keep_member
from vit_lightning.evaluation.metrics import calibrate, score, write_predictions
from vit_lightning.files import write_text
from vit_lightning.hardware import device_name, keep_memory
from vit_lightning.module import Batch, ViTClassifier
from vit_lightning.runs import now

CONFIGS = Path(__file__).parent.parent / "configs"
Network = Literal["ours", "timm", "resnet18"]


@dataclass(frozen=True)
class Task:
    """A set of pictures, as all methods see it.

    `epochs` is what a method's epochs come to in the time of the study on two cores; see RESULTS.md for the costs.
    """

    image_size: tuple[int, int]
    patch_size: int
    data: dict[str, Any]
    epochs: dict[str, int]
    folds: int


TASKS = {
    "tom_and_jerry": Task(
        image_size=(112, 192),
        patch_size=16,
        data={"split": "blocks", "block_length": 120, "guard": 30},
        epochs={"ours": 28, "quick": 19, "plain": 32, "article": 8, "timm": 39, "resnet18": 13},
        folds=5,
    ),
    "cifar10_small": Task(
        image_size=(32, 32),
        patch_size=4,
        data={"split": "folders"},
        epochs={"ours": 61, "unguided": 71, "timm": 76, "resnet18": 29},
        folds=1,
    ),
}


@dataclass
class Method:
    """A network and how it is trained; what is not said here is the same for all."""

    network: Network = "ours"
    model: dict[str, Any] = field(default_factory=dict)
    augment: str = "trivial"
    batch_size: int = 64
    image_size: int | tuple[int, int] | None = None  # where it is not the task's
    mixup: float = 0.0
    rand_augment: bool = False


def method(name: str, task_name: str) -> Method:
    """A method by its name; `plain` is ours without the stem, `unguided` without the guide."""
    task = TASKS[task_name]
    regular = {"lr": 1e-3, "weight_decay": 0.05, "warmup_fraction": 0.1, "label_smoothing": 0.1}
    if name in ("ours", "quick", "plain", "unguided"):
        tom_and_jerry = "tom_and_jerry_quick" if name == "quick" else "tom_and_jerry"
        config = read_config(tom_and_jerry if task_name == "tom_and_jerry" else "folder")
        model = {"image_size": task.image_size, "patch_size": task.patch_size} | config["model"]
        if name == "plain":
            model["stem"] = "patch"
        if name == "unguided":
            model["guide"] = 0.0
        data, size = config["data"], model["image_size"]
        return Method(model=model, augment=data["augment"], batch_size=data["batch_size"], image_size=size)
    if name == "article":
        config = read_config("article")
        batch = config["data"]["batch_size"]
        return Method(
            model=config["model"], augment="article", batch_size=batch, image_size=config["model"]["image_size"]
        )
    if name == "timm":
        return Method(network="timm", model=regular | {"drop_path": 0.1}, mixup=0.2, rand_augment=True)
    return Method(network="resnet18", model=regular)


def read_config(name: str) -> dict[str, Any]:
    """One of the project's configs."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    return config


def build_network(kind: Network, task: Task, classes: int, drop_path: float) -> nn.Module:
    """A peer's network: timm's VisionTransformer of our size, or torchvision's ResNet-18."""
    if kind == "timm":
        from timm.models.vision_transformer import VisionTransformer

        size: nn.Module = VisionTransformer(
            img_size=task.image_size,
            patch_size=task.patch_size,
            embed_dim=192,
            depth=6,
            num_heads=6,
            num_classes=classes,
            drop_path_rate=drop_path,
        )
        return size
    from torchvision.models import resnet18

    net = resnet18(num_classes=classes)
    if max(task.image_size) <= 64:  # the usual change for small pictures
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    result: nn.Module = net
    return result


class PeerClassifier(ViTClassifier):
    """The same module with another network inside, and mixup (Zhang et al. 2018) where a peer's recipe has it."""

    mixup = 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mixes each picture with another of the batch."""
        if not self.mixup:
            return super().training_step(batch, batch_idx)
        (images, labels), share = batch, float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        order = torch.randperm(len(images)).to(images.device)
        mixed = share * images + (1 - share) * images[order]

        def loss(logits: Tensor, own: Tensor) -> Tensor:
            return share * self.loss(logits, own) + (1 - share) * self.loss(logits, labels[order])

        return self.shared_step("train", (mixed, labels), loss)[0]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; what the network itself says is not decayed, is not."""
        found = super().configure_optimizers()
        said: Any = getattr(self.net, "no_weight_decay", set)
        names = said()
        kept = {id(parameter) for name, parameter in self.net.named_parameters() if name in names}
        decayed, free = found["optimizer"].param_groups[:2]
        free["params"] += [each for each in decayed["params"] if id(each) in kept]
        decayed["params"] = [each for each in decayed["params"] if id(each) not in kept]
        return found


class RandAugmentedData(ImageDataModule):
    """The same pictures with RandAugment m9 (Cubuk et al. 2020) in TrivialAugment's place, as timm's recipes do."""

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Shuffled, augmented batches."""
        loader = super().train_dataloader()
        changes = [v2.ToPILImage(), v2.RandAugment(2, 9), v2.PILToTensor(), v2.RandomHorizontalFlip(0.5)]
        loader.dataset.transform = v2.Compose([CropNearly(self.image_size), *changes])  # type: ignore[attr-defined]  # ours
        return loader


@dataclass(frozen=True)
class Job:
    """One run: a method on a fold with a seed."""

    task: str
    method: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Of the run, and of the folder that it leaves."""
        return f"{self.method}-f{self.fold}-s{self.seed}"


def run(job: Job, root: Path, keep: Path, work: Path, *, epochs: int | None, changes: dict[str, Any]) -> None:
    """Trains a method, scores the last weights on the test part, and keeps config, metrics, curves and predictions.

    Args:
        job: What to run.
        root: The pictures.
        keep: Where what the run leaves is kept, in a folder of its name.
        work: Where the run's own folder is made.
        epochs: In place of the study's.
        changes: Of the data's arguments.
    """
    keep_memory()
    task, chosen = TASKS[job.task], method(job.method, job.task)
    seed_everything(job.seed, workers=True, verbose=False)
    fold = {"fold": f"{job.fold}/{task.folds}"} if task.folds > 1 else {}
    settings = task.data | fold | {"val_fraction": 0.0, "augment": chosen.augment, "batch_size": chosen.batch_size}
    size = chosen.image_size or task.image_size
    source = RandAugmentedData if chosen.rand_augment else ImageDataModule
    data = source(root=str(root), image_size=size, **(settings | changes))
    data.prepare_data()
    data.arrange("fit")
    split = data.used_split
    model = build_model(chosen, task, list(split.class_names))
    folder = work / job.name
    (folder / "report").mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        devices=1,
        precision="32-true",
        max_epochs=epochs or task.epochs[job.method],
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        logger=EventLog(folder),
        callbacks=[StopAtNaN(), History(folder), BatchSeeding(), outputs := HeldOutOutputs()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    began = time.perf_counter()
    trainer.fit(model, data)
    seconds = time.perf_counter() - began
    trainer.test(model, datamodule=data, verbose=False)
    outcome = outcome_of(split, "test", outputs.logits["test"])
    baselines = score_baselines(split, "test")
    facts = {
        "run": job.name,
        "checkpoint": "the last epoch's weights",
        "data": {"name": job.task, "id": split.data_id},
        "split": {"kind": split.kind, "id": split.id, "family": split.family, **split.sizes()},
        "part": "test",
        "images": len(outcome.paths),
        "created": now(),
        "groups": {"kind": split.group_words, "count": int(outcome.group_index.max()) + 1},
        "training": {
            "epochs": trainer.max_epochs,
            "device": device_name(trainer),
            "seconds": round(seconds, 1),
            "parameters": sum(parameter.numel() for parameter in model.net.parameters()),
        },
        "baselines": baselines.accuracy if baselines else None,
    }
    facts |= score(outcome) | {"calibration": calibrate(outcome, None)}
    write_predictions(folder / "report" / "predictions.csv", outcome)
    write_text(folder / "report" / "metrics.json", json.dumps(facts, indent=2) + "\n")
    shown = {"method": job.method, "seed_everything": job.seed, "epochs": trainer.max_epochs, "mixup": chosen.mixup}
    shown |= {"rand_augment": chosen.rand_augment, "model": plain(chosen.model), "data": plain(settings)}
    write_text(folder / "config.yaml", yaml.safe_dump(shown | {"network": chosen.network}, sort_keys=False))
    keep_member(folder, keep / job.name)
    write_text(keep / job.name / "history.csv", (folder / "history.csv").read_text(encoding="utf-8"))
    print(f"{job.name}: acc {facts['accuracy']:.4f}, macro-F1 {facts['macro_f1']:.4f}, {seconds:.0f} s", flush=True)


def build_model(chosen: Method, task: Task, class_names: list[str]) -> ViTClassifier:
    """The module with the method's network inside."""
    if chosen.network == "ours":
        return ViTClassifier(class_names=class_names, **chosen.model)
    settings = {name: value for name, value in chosen.model.items() if name != "drop_path"}
    model = PeerClassifier(
        class_names=class_names, image_size=task.image_size, patch_size=task.patch_size, depth=1, **settings
    )
    drop_path = float(chosen.model.get("drop_path", 0.0))
    model.net = build_network(chosen.network, task, len(class_names), drop_path)  # type: ignore[assignment]  # a peer
    model.mixup = chosen.mixup
    return model


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, which YAML has."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
