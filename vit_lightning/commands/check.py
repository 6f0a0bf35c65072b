"""`check`: looks for mistakes before an hour is spent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.commands.model_command import ModelCommand, run_command
from vit_lightning.runs import run_stem


def main(arguments: Sequence[str]) -> int:
    """Goes through the debugging list; gives the exit status, 1 after a failure."""
    return run_command(Check, arguments)


class Check(ModelCommand):
    """Goes through the debugging list, with the options that `fit` would be given."""

    name = "check"
    purpose = "Looks for mistakes in data, model and settings, in about a minute."

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--random_labels."""
        super().add_options(parser)
        text = "Also train a minute on labels that were shuffled by clip: on an honest split val stays at chance."
        parser.add_argument("--random_labels", type=bool, default=False, help=text)

    def before_instantiate_classes(self) -> None:
        """Weights to start from may be a run's."""
        self.find_initial_weights()
        super().before_instantiate_classes()

    def trainer_settings(self) -> dict[str, Any]:
        """One device tells as much as all."""
        return super().trainer_settings() | {"devices": 1, "num_nodes": 1, "strategy": "auto"}

    def execute(self) -> int:
        """Prints what is found; the pictures lie beside the runs."""
        from vit_lightning import check  # a tenth of a second, needed only here

        folder = self.logs / "check" / run_stem([Path(str(path)) for path in self.options.config or []])
        shuffled = self.options.random_labels
        return int(not check.run(self.model, self.datamodule, self.trainer, folder, shuffled=shuffled))
