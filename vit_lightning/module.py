"""The ViT as a LightningModule: loss, metrics, optimizer and schedule."""

import logging
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from vit_lightning.models.vit import VisionTransformer, resample_positions
from vit_lightning.optim import parameter_groups, warmup_cosine
from vit_lightning.runs import LOG_FOLDER, find_checkpoint

log = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]


class Prediction(TypedDict):
    """What `predict_step` gives for a batch."""

    path: list[str]  # of those that could be read
    probabilities: Tensor  # (B, K), as many
    unreadable: dict[str, str]  # the other paths, with the reason


class ViTClassifier(LightningModule):
    """A Vision Transformer trained with AdamW and a warm-up-cosine schedule.

    All arguments are plain numbers and names, so that a checkpoint's own hyper-parameters rebuild the model.

    Args:
        class_names: The classes in the order of the model's outputs; the command line fills them in from the data.
        num_classes: Number of classes; left out, that of `class_names`. Given, it is checked against the data.
        image_size: Side in pixels of a square image, or (height, width).
        patch_size: Side in pixels of a patch; divides height and width.
        in_channels: Channels of an image.
        dim: Width of every token.
        depth: Number of encoder blocks.
        heads: Attention heads a block; divides `dim`.
        mlp_ratio: Hidden width of the MLP over `dim`.
        dropout: Dropout rate on the embedded tokens.
        attention_dropout: Dropout rate on attention weights and attention output.
        mlp_dropout: Dropout rate after each layer of the MLP.
        drop_path: Stochastic-depth rate of the last block; the others rise to it linearly from 0.
        pool: `cls` reads the class token, `gap` averages the patch tokens.
        init: `vit` (Glorot-uniform, zero head) or `article` (torch's own, unit-normal tokens).
        compile: Have torch.compile translate the network for training: half a minute at the start, which long runs on a
            GPU may win back. On the processors measured it brought nothing.
        init_from: A run or checkpoint whose weights training starts from. Of another image size, the positions are
            resampled; of other classes, the head starts afresh; all else has to be the same.
        lr: Peak learning rate.
        betas: AdamW's averaging rates.
        weight_decay: AdamW's decoupled weight decay.
        decay_all: Decay biases, norms, tokens and positions too.
        warmup_fraction: Share of all steps in which the learning rate rises linearly from 0.
        label_smoothing: Share of the training target spread evenly over all classes.
        class_weights: `balanced` weighs each training image by n / (K n_k), for n images of which n_k are of its class,
            so that all K classes count alike in the training loss; left out, all images do.

    Raises:
        ValueError: Numbers that do not fit together; the message names them.
    """

    def __init__(
        self,
        *,
        class_names: list[str] | None = None,
        num_classes: int | None = None,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        dim: int = 256,
        depth: int = 6,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        drop_path: float = 0.0,
        pool: Literal["cls", "gap"] = "cls",
        init: Literal["vit", "article"] = "vit",
        compile: bool = False,  # torch's own word
        init_from: str | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.05,
        decay_all: bool = False,
        warmup_fraction: float = 0.1,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        if class_names is None and num_classes is None:
            raise ValueError("the model needs its classes: give model.class_names or model.num_classes")
        if class_names is None:
            class_names = [str(index) for index in range(num_classes or 0)]
        if num_classes is None:
            num_classes = len(class_names)
        if num_classes != len(class_names):
            raise ValueError(
                f"model.num_classes is {num_classes}, but there are {len(class_names)} classes: "
                f"{', '.join(class_names)}; leave num_classes out, or give the data those classes"
            )
        for name, rate in (("warmup_fraction", warmup_fraction), ("label_smoothing", label_smoothing)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} is {rate}; it lies in [0, 1)")
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas are {list(betas)}; they are two numbers in [0, 1), as in [0.9,0.999]")
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if value < 0.0:
                raise ValueError(f"{name} is {value}; it has to be 0 or more")
        self.save_hyperparameters()  # local `class_names` and `num_classes` as settled above
        self.class_names = class_names
        self.class_weights: Tensor | None = None  # no buffer: DDP would exchange it in every validation step
        self.net = VisionTransformer(
            num_classes=num_classes,
            image_size=image_size,
            patch_size=patch_size,
            in_channels=in_channels,
            dim=dim,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            attention_dropout=attention_dropout,
            mlp_dropout=mlp_dropout,
            drop_path=drop_path,
            pool=pool,
            init=init,
        )
        self.example_input_array = torch.zeros(1, *self.net.image_shape)  # for the summary's output shapes
        # "micro" counts every sample once; torchmetrics' own default averages over classes. Macro-F1 is the field's.
        metrics = MetricCollection(
            {
                "acc": MulticlassAccuracy(num_classes, average="micro"),
                "f1": MulticlassF1Score(num_classes, average="macro"),
            }
        )
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        # Lightning's own mean over devices rounds their average number of images down; and a NaN has to be seen.
        self.train_loss, self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        logits: Tensor = self.net(x)
        return logits

    def on_fit_start(self) -> None:
        """The weights to start from, how much the images of each class count, and the compiled network."""
        if self.hparams["compile"]:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses CUDA where none is
            self.net.compile()  # in place: the names of the weights stay
        if self.hparams["init_from"] is not None and self.trainer.ckpt_path is None:
            weights = self.weights_from(self.hparams["init_from"])
            missing = self.net.load_state_dict(weights, strict=False).missing_keys
            afresh = f"; {' and '.join(missing)} start afresh: the classes are others" if missing else ""
            log.info("weights from %s%s", self.hparams["init_from"], afresh)
        if self.hparams["class_weights"] == "balanced":
            counting = getattr(getattr(self.trainer, "datamodule", None), "training_counts", None)
            if counting is None:
                raise ValueError("class_weights balanced counts the images of an ImageDataModule; fit with one")
            counts = torch.tensor(counting())
            self.class_weights = counts.sum() / (len(counts) * counts)

    def weights_from(self, source: str) -> dict[str, Tensor]:
        """What a checkpoint's weights give this network: all but the head where the classes are others.

        Args:
            source: A run's name or folder, or a `.ckpt` file.

        Returns:
            A state for `net`; its positions are resampled to this image size.

        Raises:
            FileNotFoundError: There is no such run or file.
            ValueError: It is no checkpoint of this project, or its network has other sizes.
        """
        path, _ = find_checkpoint(source, Path(LOG_FOLDER))
        saved = read_checkpoint(path)
        theirs = saved["hyper_parameters"]
        fixed = ("patch_size", "in_channels", "dim", "depth", "heads", "mlp_ratio", "pool")
        other = [name for name in fixed if self.hparams[name] != theirs[name]]
        if other:
            flags = " ".join(f"--model.{name} {theirs[name]}" for name in other)
            raise ValueError(f"the weights in {path} belong to another network than asked for; give {flags}")
        weights = {name.removeprefix("net."): tensor for name, tensor in saved["state_dict"].items()}
        size, patch = theirs["image_size"], theirs["patch_size"]
        height, width = (size, size) if isinstance(size, int) else size
        weights["position_embedding"] = resample_positions(
            weights["position_embedding"], (height // patch, width // patch), self.net.grid
        )
        if list(theirs["class_names"]) != self.class_names:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
        return weights

    def shared_step(
        self,
        batch: Batch,
        metrics: MetricCollection,
        mean_loss: MeanMetric,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The step of all three stages; metrics and their log entries on the way.

        Returns:
            The batch's mean cross-entropy, and the logits (B, K).
        """
        images, labels = batch
        logits = self(images)
        if class_weights is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        else:  # over the images, not over their weights, so that it does not matter which of them share a batch
            weights = class_weights.to(logits.device)
            loss = F.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing, reduction="sum")
            loss = loss / len(labels)
        metrics.update(logits, labels)
        mean_loss.update(loss.detach().expand(len(labels)))  # over images; with "disable" it ignores weights
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels))
        self.log(f"{metrics.prefix}loss", mean_loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss, logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # Lightning's signature
        """Cross-entropy with label smoothing and class weights."""
        loss, _ = self.shared_step(
            batch, self.train_metrics, self.train_loss, self.hparams["label_smoothing"], self.class_weights
        )
        self.log("train/loss_step", loss, on_step=True, on_epoch=False, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Plain cross-entropy, so that values compare between runs with different smoothing; gives the logits."""
        return self.shared_step(batch, self.val_metrics, self.val_loss)[1].detach()

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As in validation."""
        return self.shared_step(batch, self.test_metrics, self.test_loss)[1].detach()

    def predict_step(self, batch: tuple[Tensor, list[str], list[str]], batch_idx: int) -> Prediction:
        """Images (B, C, H, W), their paths, and why a path's image is a black one, or '' -> probabilities by path."""
        images, paths, reasons = batch
        probabilities = self(images).float().softmax(dim=-1)
        readable = [index for index, reason in enumerate(reasons) if not reason]
        return {
            "path": [paths[index] for index in readable],
            "probabilities": probabilities[readable],
            "unreadable": {path: reason for path, reason in zip(paths, reasons, strict=True) if reason},
        }

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over the groups of `parameter_groups`, and the schedule stepped once an optimizer step."""
        groups = parameter_groups(
            self.net, weight_decay=self.hparams["weight_decay"], decay_all=self.hparams["decay_all"]
        )
        # The fused kernel unscales gradients itself under fp16's loss scaling, which would bypass the clipping below.
        fused = self.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW(groups, lr=self.hparams["lr"], betas=tuple(self.hparams["betas"]), fused=fused)
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("the schedule needs to know its end: give trainer.max_epochs or trainer.max_steps")
        total_steps = int(steps)
        warmup_steps = round(self.hparams["warmup_fraction"] * total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, total_steps=total_steps, warmup_steps=warmup_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Puts this run's settings over those that a checkpoint's optimizer and schedule brought along."""
        if self.trainer.ckpt_path is None:
            return
        optimizer, scheduler = self.trainer.optimizers[0], self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        scheduler.base_lrs = [self.hparams["lr"]] * len(optimizer.param_groups)
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        for group, decay in zip(optimizer.param_groups, (self.hparams["weight_decay"], 0.0), strict=False):
            group["lr"], group["initial_lr"] = self.hparams["lr"] * factor, self.hparams["lr"]
            group["betas"], group["weight_decay"] = tuple(self.hparams["betas"]), decay

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm of all gradients together, and logs what it was before.

        Lightning's own clipping refuses a fused optimizer under bf16 autocast, where nothing stands in its way.
        """
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(
                f"trainer.gradient_clip_algorithm is {gradient_clip_algorithm!r}; this model clips by 'norm'"
            )
        limit = gradient_clip_val or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), limit)
        self.log("train/grad_norm", norm, on_step=True, on_epoch=False)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds, on the CPU; nothing in it is executed.

    Raises:
        ValueError: It is another kind of file, or half of one.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"state_dict", "hyper_parameters", "datamodule_hyper_parameters"} - checkpoint.keys()
    except Exception as error:  # torch raises what its readers do
        raise ValueError(f"{path} is no checkpoint of this project ({type(error).__name__})") from error
    if missing:
        raise ValueError(f"{path} is no checkpoint of this project (without {', '.join(sorted(missing))})")
    return checkpoint
