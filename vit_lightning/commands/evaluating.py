"""What the commands share that use a trained model."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.commands.model_command import ModelCommand
from vit_lightning.commands.run_folder import kept_labels
from vit_lightning.commands.seen import Seen, look_back
from vit_lightning.data.splits import read_table
from vit_lightning.files import expanded
from vit_lightning.hardware import device_name
from vit_lightning.runs import find_checkpoint

log = logging.getLogger(__name__)


class EvaluationCommand(ModelCommand):
    """A command that uses a trained model: --run says which."""

    using = True

    def __init__(self, arguments: Sequence[str]) -> None:
        self.checkpoint_words = ""
        super().__init__(arguments)

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run, which Lightning calls --ckpt_path."""
        text = "A run's name, its folder, a .ckpt file or `best`; left out, the latest finished run."
        parser.add_argument("--run", type=str, default=None, help=text)
        parser.add_argument("--ckpt_path", type=str, default=None, help="The same as --run, by Lightning's name.")

    def find_checkpoint(self) -> Path | None:
        """The checkpoint that is asked for, and in `checkpoint_words` what it is.

        Raises:
            FileNotFoundError: There is no such run or file.
            ValueError: Two are asked for.
        """
        asked = self.options.ckpt_path
        if self.options.run is not None:
            if asked is not None:
                raise ValueError(f"--run {self.options.run} and --ckpt_path {asked} both name a checkpoint; give one")
            asked = self.options.run
        path, self.checkpoint_words = find_checkpoint(asked, self.logs)
        return path

    def before_instantiate_classes(self) -> None:
        """As all commands do; the labels that the run was trained with are nothing to another data set."""
        data = self.options.data
        kept = None if self.run_folder is None else kept_labels(self.run_folder)
        if kept is not None and data.labels == kept and data.root:
            rows = read_table(Path(kept), ("path", "label"), "the run's file of labels")
            if not any((expanded(data.root) / row["path"]).is_file() for _, row in rows):
                data.labels = None
        super().before_instantiate_classes()

    def say_where(self, folder: Path) -> None:
        """Says where the results of a checkpoint go that belongs to no run."""
        if self.run_folder is None and not self.options.output:
            log.info(
                "%s is in no run's folder: results go to %s (or --output)", self.options.ckpt_path, folder.absolute()
            )


def score(command: EvaluationCommand, part: str, evaluate: Callable[..., Any]) -> Seen:
    """Runs one evaluation and prints its scores as one line, and before it how many of the images trained the weights.

    Args:
        command: Its data is split.
        part: What is scored, in words.
        evaluate: The Trainer's `validate` or `test`.

    Returns:
        What the weights have seen of the part.

    Raises:
        ValueError: There is nothing to score, or the weights have seen some of it and `--allow_seen` does not allow it.
    """
    images = len(command.datamodule.used_split.part(part))
    if not images:
        raise ValueError("the run's split holds no image out: there is nothing to score it on; give --data.split")
    seen = look_back(command.datamodule.used_split, part, Path(command.options.ckpt_path))
    if not command.options.allow_seen:
        seen.refuse("score others, such as the run's own held-out images (leave --data.split out)")
    log.info("%s on %s", command.checkpoint_words, device_name(command.trainer))
    scores = evaluate(command.model, datamodule=command.datamodule, verbose=False)
    if not scores:
        raise ValueError("no batch was scored; is a trainer.limit_..._batches 0?")
    values = {name.partition("/")[2]: value for name, value in scores[0].items()}
    text = " ".join(f"{name} {values[name]:.4f}" for name in ("acc", "f1", "loss"))
    log.info("%s images %d: %s", part, images, text)
    seen.tell()
    return seen
