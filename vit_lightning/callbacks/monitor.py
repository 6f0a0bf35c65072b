"""Curves for TensorBoard beyond loss and accuracy: class by class, and step by step."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassPrecisionRecallCurve

from vit_lightning.callbacks.pictures import is_looked_at, last_step, watched
from vit_lightning.evaluation.figures import draw_confusion_matrix, style
from vit_lightning.module import ViTClassifier

#: Thresholds of a precision-recall curve, as many as TensorBoard's own.
THRESHOLDS = 127

#: More classes than this have no names in the confusion matrix: nobody could read them in a picture of this size.
LEGIBLE = 30


class ClassMonitor(Callback):
    """Which classes are found and which are taken for another, by the validation images.

    Each epoch `val/recall/CLASS` and `val/confusion`; `val/pr/CLASS`, the precision-recall curves, in the epochs of
    `is_looked_at`.

    Args:
        class_names: The classes in the order of the model's outputs.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = class_names
        self.tags = tag_names(class_names)
        # Their own checks would wait for the GPU at every batch.
        self.confusion = MulticlassConfusionMatrix(len(class_names), validate_args=False)
        self.curves = MulticlassPrecisionRecallCurve(len(class_names), thresholds=THRESHOLDS, validate_args=False)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the epoch before."""
        for metric in (self.confusion, self.curves):
            metric.to(pl_module.device)
            metric.reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature; here the logits (B, K)
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts one batch."""
        if not watched(trainer):
            return
        probabilities = outputs.float().softmax(dim=-1)
        self.confusion.update(probabilities, batch[1])
        if is_looked_at(trainer):
            self.curves.update(probabilities, batch[1])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sums up over all processes, which all have to come by here; the first one writes."""
        if not watched(trainer):
            return
        matrix = self.confusion.compute().cpu()
        counts = None
        if is_looked_at(trainer):
            with self.curves.sync_context():  # its `compute` keeps the counts, which TensorBoard wants, to itself
                counts = self.curves.confmat.cpu()
        if not trainer.is_global_zero:
            return
        step = last_step(trainer)
        images = matrix.sum(dim=1)
        recall = matrix.diag() / images
        scores = {f"val/recall/{tag}": recall[k].item() for k, tag in enumerate(self.tags) if images[k] > 0}
        for logger in trainer.loggers:
            logger.log_metrics(scores, step)
            if not isinstance(logger, TensorBoardLogger):
                continue
            names = self.class_names if len(self.class_names) <= LEGIBLE else None
            with style():  # it is rendered in here
                logger.experiment.add_figure("val/confusion", draw_confusion_matrix(matrix.numpy(), names), step)
            for k, tag in enumerate(self.tags):
                if counts is not None and images[k] > 0:
                    logger.experiment.add_pr_curve_raw(
                        f"val/pr/{tag}", *curve_counts(counts[:, k]), global_step=step, num_thresholds=THRESHOLDS
                    )


class StepMonitor(Callback):
    """How fast training goes, and how far a step goes.

    Every `log_every_n_steps` steps `train/images_per_second` of all processes together, held-out images and the pauses
    between epochs left out, and `train/update_norm`: the norm of the last step over that of the weights. About 1e-3 is
    usual (CS231n's notes on neural networks, part 3); much more and the learning rate is too large.
    """

    def __init__(self) -> None:
        self.images, self.seconds, self.since = 0, 0.0, 0.0
        self.before: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self.since = time.perf_counter()

    on_train_start = on_train_epoch_start  # a run may go on in the middle of an epoch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts it again."""
        self.since = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keeps the weights where the step is one of those that are logged."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connector
        if trainer.loggers and every and (trainer.global_step + 1) % every == 0:
            assert isinstance(pl_module, ViTClassifier)
            self.before = [(weights, weights.detach().clone()) for weights in pl_module.net.parameters()]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  # Lightning's signature
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Counts one batch, and logs."""
        now = time.perf_counter()
        self.images += len(batch[1]) * trainer.world_size
        self.seconds += now - self.since
        self.since = now
        if not self.before:
            return
        update = torch.nn.utils.get_total_norm([after.detach() - before for after, before in self.before])
        whole = torch.nn.utils.get_total_norm([before for _, before in self.before])
        scores: dict[str, Tensor | float] = {
            "train/update_norm": update / whole,
            "train/images_per_second": self.images / self.seconds,
        }
        pl_module.log_dict(scores, on_step=True, on_epoch=False)
        self.images, self.seconds, self.before = 0, 0.0, []


def tag_names(class_names: Sequence[str]) -> list[str]:
    """The classes' names without what TensorBoard's lists trip over; with the number where two become the same."""
    names = [re.sub(r"[^\w.-]+", "_", name) for name in class_names]
    count = Counter(names)
    return [name if count[name] == 1 else f"{name}_{index}" for index, name in enumerate(names)]


def curve_counts(counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What TensorBoard draws a curve from.

    Args:
        counts: (T, 2, 2), for each threshold the images by label and by prediction, no before yes.

    Returns:
        True positives, false positives, true negatives, false negatives, precision and recall, each (T,). Where
        nothing is predicted the precision is 1, as in scikit-learn.
    """
    (tn, fp), (fn, tp) = counts.permute(1, 2, 0).double()
    predicted = tp + fp
    precision = torch.where(predicted > 0, tp / predicted.clamp_min(1), 1.0)
    return tp, fp, tn, fn, precision, tp / (tp + fn).clamp_min(1)
