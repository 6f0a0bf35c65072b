"""Tries out what a sweep's trials are to be built with, in a process of its own, before the first of them starts.

    python -m vit_lightning.commands.sweep_check ANSWER < QUESTION

QUESTION is JSON: `points`, the options of `fit` for each; `data` and `trainer`, whether those differ between points
too. ANSWER is a file for JSON: `error`, a line; or `epochs`, the most that any trains, and `gpus`, how many there are
to share out where each training takes one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from vit_lightning.commands.fit import Fit
from vit_lightning.commands.model_command import ModelCommand, run_command


class Tried(Fit):
    """A `fit` that is built, and leaves nothing."""

    data = trainers = True  # whether the images are listed and split, and a Trainer is built
    epochs: int | None = None
    gpus = 0

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  # Lightning's signature
        """Looks at the split, and builds a Trainer without a run's folder."""
        trainer = self.options.trainer
        if trainer.fast_dev_run:
            raise ValueError("trainer.fast_dev_run leaves no run that a sweep could read the score of; leave it out")
        Tried.epochs = None if (trainer.max_epochs or -1) < 1 else max(Tried.epochs or 0, trainer.max_epochs)
        one = str(trainer.devices) == "1" and trainer.accelerator in ("auto", "gpu", "cuda")
        Tried.gpus = torch.cuda.device_count() if one else 0
        if self.data:
            self.datamodule.prepare_data()
            self.datamodule.arrange("fit")
            if not self.datamodule.used_split.part("val"):
                raise ValueError(
                    "the split holds no validation images, and a sweep chooses by them; give --data.val_fraction"
                )
        return ModelCommand.instantiate_trainer(self, **kwargs) if self.trainers else Trainer(logger=False)

    def execute(self) -> int:
        """Nothing more."""
        return 0


def main() -> int:
    """Answers; gives the exit status."""
    question = json.load(sys.stdin)
    answer: dict[str, Any] = {}
    try:
        for number, point in enumerate(question["points"]):
            Tried.data = question["data"] or number == 0
            Tried.trainers = question["trainer"] or number == 0
            run_command(Tried, point)
        answer = {"epochs": Tried.epochs, "gpus": Tried.gpus}
    except (ValueError, OSError) as error:
        answer = {"error": " ".join(str(error).split())}
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
