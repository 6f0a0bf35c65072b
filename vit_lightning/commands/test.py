"""`test`: scores a run on images that it has not seen, as a report."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.callbacks.outputs import HeldOutOutputs
from vit_lightning.commands.evaluating import EvaluationCommand, score
from vit_lightning.commands.external import external_split, is_external
from vit_lightning.commands.model_command import TRAINER_DEFAULTS, run_command
from vit_lightning.commands.resuming import absolute
from vit_lightning.commands.run_folder import kept_labels
from vit_lightning.commands.seen import Seen, add_allow_seen
from vit_lightning.data.splitting import Split
from vit_lightning.evaluation.strangers import foreign_pictures
from vit_lightning.files import check_folder, expanded
from vit_lightning.runs import read_status
from vit_lightning.tracking.run import track

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Scores and reports; gives the exit status."""
    return run_command(Test, arguments)


class Test(EvaluationCommand):
    """Scores the test images, or the validation images where the split has no test part; of another set, all images."""

    name = "test"
    purpose = "Scores a run on images that it has not seen, and writes a report."
    __test__ = False  # no test of pytest's

    def __init__(self, arguments: Sequence[str]) -> None:
        self.outputs = HeldOutOutputs()
        self.strangers: dict[str, list[Path]] = {}
        super().__init__(arguments)

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run, --output and --allow_seen."""
        super().add_options(parser)
        text = "The report's folder; left out, report/ in the run's folder, or report-NAME/ of other images there."
        parser.add_argument("--output", type=str, default=None, help=text)
        text = "Also find the training images that mistakes resemble, which takes as long as labelling all of training."
        parser.add_argument("--neighbours", type=bool, default=True, help=text)
        text = "Folders of pictures that are none of the model's business, beside noise and shuffled patches."
        parser.add_argument("--strangers", type=str, nargs="+", default=[], metavar="DIR", help=text)
        add_allow_seen(parser)

    def own_callbacks(self) -> list[Callback]:
        """Keeps the logits."""
        return [self.outputs]

    @property
    def report_folder(self) -> Path:
        """Where the report goes: `--output`, the run's folder, or here for a checkpoint by itself."""
        if self.options.output:
            return expanded(self.options.output)
        return (self.run_folder or Path()) / "report"

    @property
    def run_status(self) -> dict[str, Any]:
        """What the run's `status.json` says; nothing for a checkpoint by itself."""
        return {} if self.run_folder is None else read_status(self.run_folder / "status.json")

    def before_instantiate_classes(self) -> None:
        """As all commands do; only a run is tracked."""
        if self.options.tracker is not None and self.run_folder is None:
            raise ValueError(
                f"--tracker goes on with a run, and {self.options.ckpt_path} is in no run's folder; leave it out"
            )
        if self.options.strangers:
            if not self.options.neighbours:
                raise ValueError("--strangers are found by their neighbours in training; leave out --neighbours false")
            self.strangers = foreign_pictures([expanded(name) for name in self.options.strangers])
        super().before_instantiate_classes()

    def load_split(self, stage: str) -> None:
        """As all commands do; but where `--data.root` is another set than the run's, its images are all held out."""
        data = self.datamodule
        if self.run_folder is not None and data.settings.split == absolute(str(self.run_folder / "split.csv")):
            root = data.locate()
            if is_external(root, self.run_folder, data.settings):
                kind = self.run_status.get("split", {}).get("kind", "")
                settings = data.settings
                if settings.labels == kept_labels(self.run_folder):  # of the run's own images
                    settings = replace(settings, labels=None)
                data.used_split = external_split(root, settings, kind)
                log.info("%s is another set than the run's: all of it is scored", root)
        super().load_split(stage)

    def is_own(self, split: Split) -> bool:
        """Whether a split is the one that the run was trained on, so that the report is the run's own."""
        own = self.run_status.get("split", {}).get("id")
        return self.run_folder is None or (split.id == own if own is not None else split.kind == "csv")

    def execute(self) -> int:
        """Prints the scores and writes the report."""
        check_folder(self.report_folder, "the report", "give another folder with --output")
        self.say_where(self.report_folder)
        self.load_split("test")
        split = self.datamodule.used_split
        part = split.test_part
        if part == "val" and split.part("val"):
            log.warning("the split has no test part: these are the validation images, which also chose the checkpoint")
        elif split.part("val"):  # for the temperature
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        seen = score(self, part, self.trainer.test)
        if part == "val":
            self.outputs.logits["val"] = self.outputs.logits.pop("test")
        if self.trainer.is_global_zero:
            self.report(part, seen)
            if self.options.tracker is not None and self.run_folder is not None:
                track(self.run_folder, [self.report_folder] if self.options.output else [])
        return 0

    def report(self, part: Literal["val", "test"], seen: Seen) -> None:
        """Writes the report of what was found, and says what it is worth."""
        from vit_lightning.evaluation.assess import assess  # a second
        from vit_lightning.evaluation.conformal import kept_sets
        from vit_lightning.evaluation.embeddings import embed_split
        from vit_lightning.evaluation.training import read_training
        from vit_lightning.evaluation.unknown import keep_unknown

        split, status, folder = self.datamodule.used_split, self.run_status, self.report_folder
        if len(self.outputs.logits[part]) < len(split.part(part)):
            log.warning("no report: trainer.limit_test_batches left images out")
            return
        if not all(logits.isfinite().all() for logits in self.outputs.logits.values()):
            log.warning("no report: the model gives no numbers: its training has failed; lower --model.lr")
            return
        if len(self.outputs.logits.get("val", ())) < len(split.part("val")):
            self.outputs.logits.pop("val", None)
        name, family = split.root.name, split.family
        if status.get("split", {}).get("id") == split.id:
            family = status["split"].get("family")  # its split.csv does not say that it is a fold
            split, name = split.made_as(status["split"]["kind"]), status.get("data", {}).get("name", name)
        elif not self.is_own(split) and not self.options.output:
            what = f"{name}-{split.data_id[:6]}" if split.kind == "external" else f"{split.kind}-{split.id[:6]}"
            folder = folder.with_name(f"report-{what}")  # the run's own stays: `runs` and `runs compare` go by it
        checkpoint = Path(self.options.ckpt_path)
        facts = {
            "run": self.run_folder.name if self.run_folder is not None else checkpoint.stem,
            "checkpoint": checkpoint.name,
            "data": {"name": name, "id": split.data_id, "root": str(split.root)},
            "split": {"kind": split.kind, "id": split.id, "family": family, **split.sizes()},
            "seen": seen.record(),
        }
        training = None if self.run_folder is None else read_training(self.run_folder, TRAINER_DEFAULTS)
        outputs = self.outputs.logits
        net = self.model.net
        told: dict[str, Any] = {"facts": facts, "folder": folder, "training": training, "strangers": self.strangers}
        told["embedded"] = embed_split(net, split, part) if self.options.neighbours else None
        metrics = assess(net, split, outputs, part=part, **told)
        if self.run_folder is not None and folder == self.run_folder / "report":
            kept = (
                {name: metrics["strangers"][name] for name in ("share", "threshold")} if metrics["strangers"] else None
            )
            keep_unknown(self.run_folder, checkpoint, sets=kept_sets(metrics), strangers=kept)
