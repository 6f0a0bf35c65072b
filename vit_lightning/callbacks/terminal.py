"""The model's summary and the progress bar."""

import io
import logging

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.model_summary import summarize
from rich import box
from rich.console import Console
from rich.progress import ProgressColumn
from rich.table import Table

from vit_lightning.module import ViTClassifier

log = logging.getLogger(__name__)


class EpochBar(RichProgressBar):
    """Lightning's bar, fitted to 80 columns; an epoch's scores are printed by `History` when it is over."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.live.transient = True  # the bar goes away at the end, the printed lines stay

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run may go on in the middle of an epoch, which then does not start for Lightning."""
        super().on_train_start(trainer, pl_module)
        if trainer.fit_loop.restarted_mid_epoch:
            self.on_train_epoch_start(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Lightning's columns, the bar itself short enough for a narrow terminal."""
        columns: list[ProgressColumn] = super().configure_columns(trainer)
        for column in columns:
            if hasattr(column, "bar_width"):
                column.bar_width = 16
        return columns

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The running loss alone."""
        metrics = super().get_metrics(trainer, pl_module)
        return {"loss": metrics["train/loss_step"]} if "train/loss_step" in metrics else {}


def print_summary(model: ViTClassifier) -> None:
    """Prints the network layer by layer with output shapes (of one image) and parameter counts.

    Lightning's RichModelSummary has 8 columns, which 80 characters cut to "Par…" and "Vis…" and break each row into
    four; it leaves out the class token and the positions, and gives half of its rows to the metrics.
    """
    summary = summarize(model, max_depth=3)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("output shape", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    rows = zip(summary.layer_names, summary.layer_types, summary.out_sizes, summary.param_nums, strict=True)
    for name, kind, shape, parameters in rows:
        if not name.startswith("net.") or name == "net.patch_embedding.projection" or kind in ("ModuleList", "Dropout"):
            continue
        table.add_row(name.removeprefix("net."), kind, str(shape), f"{parameters:,}")
        if name == "net.patch_embedding":
            embeddings = [model.net.position_embedding]
            if model.net.class_token is not None:
                embeddings.append(model.net.class_token)
            kind = "class token, positions" if len(embeddings) == 2 else "positions"
            shape = [1, *model.net.position_embedding.shape[1:]]
            table.add_row("embedding", kind, str(shape), f"{sum(part.numel() for part in embeddings):,}")
    table.add_section()
    total = sum(parameter.numel() for parameter in model.net.parameters())
    table.add_row("total", "", "", f"{total:,}")
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    log.info(text.getvalue().strip("\n"), extra={"table": True})  # as text, so that `run.log` gets it too
