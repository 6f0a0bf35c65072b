"""`validate`: scores a run on its validation images."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.callbacks.outputs import HeldOutOutputs
from vit_lightning.commands.evaluating import EvaluationCommand, score
from vit_lightning.commands.model_command import run_command
from vit_lightning.commands.seen import add_allow_seen
from vit_lightning.files import check_folder, replacing


def main(arguments: Sequence[str]) -> int:
    """Scores; gives the exit status."""
    return run_command(Validate, arguments)


class Validate(EvaluationCommand):
    """Scores a run on its validation images."""

    name = "validate"
    purpose = "Scores a run on its validation images."

    def __init__(self, arguments: Sequence[str]) -> None:
        self.outputs = HeldOutOutputs()
        super().__init__(arguments)

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run, --output and --allow_seen."""
        super().add_options(parser)
        text = "A CSV file for what is said of each image, in the columns of a report's predictions.csv."
        parser.add_argument("--output", type=str, default=None, help=text)
        add_allow_seen(parser)

    def own_callbacks(self) -> list[Callback]:
        """Keeps the logits."""
        return [self.outputs]

    def execute(self) -> int:
        """Prints the scores, and writes what was said of each image where that is asked for."""
        self.load_split("test")
        output = None if self.options.output is None else Path(self.options.output).expanduser()
        if output is not None:
            check_folder(output.parent, "the predictions", "give another file with --output")
        score(self, "val", self.trainer.validate)
        if output is not None and self.trainer.is_global_zero:
            self.write(output)
        return 0

    def write(self, output: Path) -> None:
        """Writes a row an image.

        Raises:
            ValueError: Not every image was scored.
        """
        from vit_lightning.evaluation.assess import outcome_of  # a second
        from vit_lightning.evaluation.metrics import write_predictions

        split, logits = self.datamodule.used_split, self.outputs.logits["val"]
        if len(logits) < len(split.part("val")):
            raise ValueError("trainer.limit_val_batches left images out; leave it out to write what is said of all")
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            write_predictions(temporary, outcome_of(split, "val", logits))
