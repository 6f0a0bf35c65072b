"""`predict`: labels images with a run."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.arguments import check_number
from vit_lightning.callbacks.predictions import PredictionWriter
from vit_lightning.commands.evaluating import EvaluationCommand
from vit_lightning.commands.model_command import run_command
from vit_lightning.data.remote import INPUT, Fetched
from vit_lightning.data.video import is_video
from vit_lightning.evaluation.conformal import limit_of
from vit_lightning.evaluation.unknown import read_unknown
from vit_lightning.files import check_folder, expanded
from vit_lightning.hardware import device_name
from vit_lightning.inference import find_images

if TYPE_CHECKING:
    from vit_lightning.evaluation.strangers import Nearness

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Labels images; gives the exit status, 1 where some could not be read."""
    return run_command(Predict, arguments)


class Predict(EvaluationCommand):
    """Labels the images asked for, or the run's held-out ones."""

    name = "predict"
    purpose = "Labels images with a run."

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run, --images, --output, --top, --attention, --every and --smooth."""
        super().add_options(parser)
        text = "Pictures or videos, folders, globs, http(s):// addresses, or - for a picture from standard input; "
        text += "left out, the run's held-out images."
        parser.add_argument("--images", type=str, nargs="+", help=text)
        text = "The .csv, .json or .jsonl to write; left out, predictions/NNNN.csv in the run's folder."
        parser.add_argument("--output", type=str, default=None, help=text)
        text = "How many of the likeliest classes to tell of each image, its label among them."
        parser.add_argument("--top", type=int, default=3, help=text)
        text = "Also draw each image with the attention over it, into a folder beside the CSV."
        parser.add_argument("--attention", action="store_true", help=text)
        text = "Seconds of a video from one frame that is labelled to the next."
        parser.add_argument("--every", type=float, default=1.0, help=text)
        text = "Seconds of a window: a frame's probabilities become the mean over all frames of the video at most half "
        text += "of it before or after; 0 leaves each frame its own."
        parser.add_argument("--smooth", type=float, default=0.0, help=text)

    def needs_data(self) -> bool:
        """To label pictures, a checkpoint is enough."""
        return not self.options.images

    def own_callbacks(self) -> list[Callback]:
        """Writes the labels."""
        options = self.options
        check_number("--every", options.every, least=0.001, most=1e6)
        check_number("--smooth", options.smooth, least=0, most=1e6)
        self.writer = PredictionWriter(
            self.prediction_file(),
            self.model.class_names,
            attention=options.attention,
            top=options.top,
            smooth=options.smooth,
            sets=self.known_sets(),
            nearness=self.known_strangers(),
        )
        return [self.writer]

    def known_sets(self) -> dict[str, Any] | None:
        """What `test` or `folds` found out about sets; None of probabilities that are means over a film's frames."""
        kept = read_unknown(self.run_folder, Path(self.options.ckpt_path)).get("sets")
        return kept if limit_of(kept) is not None and not self.options.smooth else None

    def known_strangers(self) -> "Nearness | None":
        """What `test` found out about strangers, likewise."""
        kept = read_unknown(self.run_folder, Path(self.options.ckpt_path)).get("strangers")
        if kept is None or self.options.smooth:
            return None
        from vit_lightning.evaluation.strangers import read_nearness

        return read_nearness(self.run_folder, kept)

    def prediction_file(self) -> Path:
        """The file of this command: `--output`, or the next number in the run's folder (or here, for a lone file)."""
        if self.options.output:
            return expanded(self.options.output)
        folder = (self.run_folder or Path()) / "predictions"
        taken = [int(path.stem) for path in folder.glob("*.csv") if path.stem.isdigit()]
        return folder / f"{max(taken, default=0) + 1:04}.csv"

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  # Lightning's signature
        """The Trainer, of one device."""
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1:
            raise ValueError(f"predict runs on one device, not on {trainer.world_size}; leave trainer.devices out")
        return trainer

    def execute(self) -> int:
        """Labels, and shows the first few."""
        check_folder(self.writer.path.parent, "predictions", "give another file with --output")
        self.say_where(self.writer.path.parent)
        with tempfile.TemporaryDirectory() as folder:
            return self.label(Fetched(Path(folder)))

    def label(self, fetched: Fetched) -> int:
        """Labels; what is no file yet is fetched meanwhile."""
        if self.options.images:
            paths = find_images(self.options.images)
            if INPUT in paths:
                fetched.take_input()
            self.datamodule.predict_paths, self.datamodule.every = paths, self.options.every
            self.datamodule.file_of = self.writer.file_of = fetched
            self.writer.videos = any(map(is_video, paths))
        else:
            self.load_split("predict")
            if not self.datamodule.used_split.part("test", "val"):
                raise ValueError("the run's split holds no image out; say which to label with --images PATH ...")
        log.info("%s on %s", self.checkpoint_words, device_name(self.trainer))
        self.trainer.predict(self.model, datamodule=self.datamodule, return_predictions=False)
        return int(self.writer.unreadable > 0)
