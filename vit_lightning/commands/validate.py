"""`validate`: scores a run on its validation images."""

from collections.abc import Sequence

from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.commands.evaluating import EvaluationCommand, score
from vit_lightning.commands.model_command import run_command
from vit_lightning.commands.seen import add_allow_seen


def main(arguments: Sequence[str]) -> int:
    """Scores; gives the exit status."""
    return run_command(Validate, arguments)


class Validate(EvaluationCommand):
    """Scores a run on its validation images."""

    name = "validate"
    purpose = "Scores a run on its validation images."

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run and --allow_seen."""
        super().add_options(parser)
        add_allow_seen(parser)

    def execute(self) -> int:
        """Prints the scores."""
        self.load_split("test")
        score(self, "val", self.trainer.validate)
        return 0
