"""The ViT as a LightningModule: loss, metrics, optimizer and schedule."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from vit_lightning import optim
from vit_lightning.checkpoint import complete, take_initial_weights
from vit_lightning.data.loading import Prediction, predicted
from vit_lightning.data.mixing import cut_and_mix
from vit_lightning.guidance import GuidedModule, check_guide
from vit_lightning.models.layers import FROM_START, check_rates, name_classes
from vit_lightning.models.vit import VisionTransformer

Batch = tuple[Tensor, Tensor]


class ViTClassifier(GuidedModule):
    """A Vision Transformer trained with AdamW or Muon and a warm-up-cosine schedule.

    All arguments are plain numbers and names, so that a checkpoint's own hyper-parameters rebuild the model.

    Args:
        class_names: The classes in the order of the model's outputs; the command line fills them in from the data.
        num_classes: Number of classes; left out, that of `class_names`. Given, it is checked against the data.
        image_size: Side in pixels, or (height, width); left out, 224, but in a command what fits the pictures.
        patch_size: Side of a patch in pixels; left out, 16, but in a command what fits the image.
        compile: Have torch.compile translate the network for training: half a minute, won back by long runs on a GPU.
        init_from: Weights to start from: a checkpoint, in a command also a run, or timm's (.safetensors). Of another
            image size, positions are resampled; of other classes, the head starts afresh; all else has to be the same.
        optimizer: `adamw`, or `muon`: orthogonal steps for the blocks' matrices (Jordan et al. 2024), else AdamW.
        lr: Peak learning rate.
        betas: AdamW's averaging rates.
        weight_decay: Decoupled weight decay.
        decay_all: Decay biases, norms, tokens and positions too.
        warmup_fraction: Share of all steps in which the learning rate rises linearly from 0.
        label_smoothing: Share of the training target spread evenly over all classes.
        cutmix: Share of the batches whose images get a rectangle of one another (CutMix, Yun et al. 2019).
        guide: Weight of guidance by a CNN, as 1.0.
        class_weights: `balanced` weighs each training image by n / (K n_k), for n images of which n_k are of its class,
            so that all K classes count alike in the training loss; left out, all images do.
        ema: Decay of the average over the weights of all steps, as 0.999, which then validates and is the model's.
        **network: Arguments of `VisionTransformer`.

    Raises:
        ValueError: Numbers that do not fit together; the message names them.
    """

    def __init__(
        self,
        *,
        class_names: list[str] | None = None,
        num_classes: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        patch_size: int | None = None,
        compile: bool = False,  # torch's own word
        init_from: Annotated[str | None, FROM_START] = None,
        optimizer: Annotated[Literal["adamw", "muon"], FROM_START] = "adamw",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.05,
        decay_all: Annotated[bool, FROM_START] = False,
        warmup_fraction: float = 0.1,
        label_smoothing: float = 0.0,
        cutmix: float = 0.0,
        guide: Annotated[float, FROM_START] = 0.0,
        class_weights: Literal["balanced"] | None = None,
        ema: Annotated[float | None, FROM_START] = None,
        **network: Any,  # noqa: ANN401  # jsonargparse finds names and types in VisionTransformer's own signature
    ) -> None:
        super().__init__()
        class_names = name_classes(class_names, num_classes)
        num_classes = len(class_names)
        check_rates(warmup_fraction=warmup_fraction, label_smoothing=label_smoothing, ema=ema or 0.0)
        optim.check_settings(lr=lr, betas=betas, weight_decay=weight_decay, optimizer=optimizer)
        optim.check_loss(cutmix=cutmix, guide=guide, class_weights=class_weights)
        network = complete(network, image_size=image_size, patch_size=patch_size)
        self.save_hyperparameters()  # the local variables, as settled above
        self.class_names = class_names
        self.class_weights: Tensor | None = None  # no buffer: DDP would exchange it in every validation step
        self.net = VisionTransformer(num_classes=num_classes, **network)
        check_guide(guide, self.net, ema)
        self.example_input_array = torch.zeros(1, *self.net.image_shape)  # for the summary's output shapes
        # "micro" counts every sample once; torchmetrics' own default averages over classes. Macro-F1 is the field's.
        accuracy = MulticlassAccuracy(num_classes, average="micro")
        scores = MetricCollection({"acc": accuracy, "f1": MulticlassF1Score(num_classes, average="macro")})
        self.train_metrics, self.val_metrics = scores.clone(prefix="train/"), scores.clone(prefix="val/")
        self.test_metrics = scores.clone(prefix="test/")
        # Lightning's own mean over devices rounds their average number of images down; and a NaN has to be seen.
        self.train_loss, self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        return self.net(x)  # type: ignore[no-any-return]  # calling a torch module gives Any

    def on_fit_start(self) -> None:
        """The weights to start from, how much the images of each class count, and the compiled network."""
        if self.hparams["compile"]:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses CUDA where none is
            self.net.compile()  # in place: the names of the weights stay
        if self.hparams["init_from"] is not None and self.trainer.ckpt_path is None:
            take_initial_weights(Path(self.hparams["init_from"]), self.net, self.hparams)
        if self.hparams["class_weights"] == "balanced":
            self.class_weights = optim.balanced_weights(getattr(self.trainer, "datamodule", None))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What training minimises: cross-entropy with label smoothing and class weights, (B, K) and (B,) -> ().

        The mean is over the images, not over their weights, so that it does not matter which of them share a batch.
        """
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        smoothing = self.hparams["label_smoothing"]
        return F.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="none").mean()

    def shared_step(
        self, stage: Literal["train", "val", "test"], batch: Batch, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The step of all stages, with metrics and their log entries: the batch's loss, and the logits (B, K)."""
        metrics, mean_loss = getattr(self, f"{stage}_metrics"), getattr(self, f"{stage}_loss")
        images, labels = batch
        logits = self(images)
        value = loss(logits, labels)
        metrics.update(logits, labels)
        mean_loss.update(value.detach().expand(len(labels)))  # over images; with "disable" it ignores weights
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels))
        self.log(f"{stage}/loss", mean_loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return value, logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # Lightning's signature
        """The batch's `loss`; of mixed images, both labels' by their shares. Scores are of the images' own labels."""
        mixed = self.hparams["cutmix"] and float(torch.rand(())) < self.hparams["cutmix"]
        batch, of_batch = cut_and_mix(batch, self.loss) if mixed else (batch, self.loss)
        loss, _ = self.shared_step("train", batch, of_batch)
        self.log("train/loss_step", loss, on_step=True, on_epoch=False, prog_bar=True)
        return loss + self.guidance(batch, of_batch)  # a guide's part is not logged: losses compare with and without

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The logits; the loss is plain cross-entropy, so that values compare between runs with different losses."""
        return self.shared_step("val", batch, F.cross_entropy)[1].detach()

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As in validation."""
        return self.shared_step("test", batch, F.cross_entropy)[1].detach()

    def predict_step(self, batch: Sequence[Any], batch_idx: int) -> Prediction:
        """Images (B, C, H, W), their paths, and why a path's image is a black one, or '' -> probabilities by path."""
        return predicted(batch, self(batch[0]).float().softmax(dim=-1))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over the groups of `parameter_groups`, and the schedule stepped once an optimizer step."""
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("the schedule needs to know its end: give trainer.max_epochs or trainer.max_steps")
        # The fused kernel unscales gradients itself under fp16's loss scaling, which would bypass the clipping below.
        optimizer = optim.build_optimizer(self, self.hparams, fused=self.trainer.precision != "16-mixed")
        schedule = optim.build_schedule(optimizer, self.hparams, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Puts this run's settings over those that a checkpoint's optimizer and schedule brought along."""
        if self.trainer.ckpt_path is not None:
            optim.update_settings(self.trainer.optimizers[0], self.lr_schedulers(), self.hparams)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips and logs the norm of all gradients: Lightning's clipping refuses a fused optimizer under bf16."""
        norm = optim.clip_gradients(self.net, gradient_clip_val, gradient_clip_algorithm)
        self.log("train/grad_norm", norm, on_step=True, on_epoch=False)
