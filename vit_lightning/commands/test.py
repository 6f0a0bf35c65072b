"""`test`: scores a run on images that it has not seen, as a report."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.callbacks.outputs import HeldOutOutputs
from vit_lightning.commands.evaluating import EvaluationCommand, score
from vit_lightning.commands.model_command import run_command
from vit_lightning.files import check_folder
from vit_lightning.runs import read_status

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Scores and reports; gives the exit status."""
    return run_command(Test, arguments)


class Test(EvaluationCommand):
    """Scores the test images, or the validation images where the split has no test part."""

    name = "test"
    purpose = "Scores a run on images that it has not seen, and writes a report."
    __test__ = False  # no test of pytest's

    def __init__(self, arguments: Sequence[str]) -> None:
        self.outputs = HeldOutOutputs()
        super().__init__(arguments)

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run and --output."""
        super().add_options(parser)
        text = "The report's folder; left out, report/ in the run's folder."
        parser.add_argument("--output", type=str, default=None, help=text)

    def own_callbacks(self) -> list[Callback]:
        """Keeps the logits."""
        return [self.outputs]

    @property
    def report_folder(self) -> Path:
        """Where the report goes: `--output`, the run's folder, or here for a checkpoint by itself."""
        if self.options.output:
            return Path(self.options.output).expanduser()
        return (self.run_folder or Path()) / "report"

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
            self.trainer.validate(
                self.model, datamodule=self.datamodule, ckpt_path=self.options.ckpt_path, verbose=False
            )
        score(self, part, self.trainer.test)
        if part == "val":
            self.outputs.logits["val"] = self.outputs.logits.pop("test")
        if self.trainer.is_global_zero:
            self.report(part)
        return 0

    def report(self, part: Literal["val", "test"]) -> None:
        """Writes the report of what was found, and says what it is worth."""
        from vit_lightning.evaluation.assess import assess  # a second

        split, status = self.datamodule.used_split, {}
        if self.run_folder is not None:
            status = read_status(self.run_folder / "status.json")
        if len(self.outputs.logits[part]) < len(split.part(part)):
            log.warning("no report: trainer.limit_test_batches left images out")
            return
        if not all(logits.isfinite().all() for logits in self.outputs.logits.values()):
            log.warning("no report: the model gives no numbers: its training has failed; lower --model.lr")
            return
        if len(self.outputs.logits.get("val", ())) < len(split.part("val")):
            self.outputs.logits.pop("val", None)
        name = split.root.name
        if status.get("split", {}).get("id") == split.id:
            split, name = split.made_as(status["split"]["kind"]), status.get("data", {}).get("name", name)
        checkpoint = Path(self.options.ckpt_path)
        facts = {
            "run": self.run_folder.name if self.run_folder is not None else checkpoint.stem,
            "checkpoint": checkpoint.name,
            "data": {"name": name, "id": split.data_id, "root": str(split.root)},
            "split": {"kind": split.kind, "id": split.id, **split.sizes()},
        }
        assess(self.model.net, split, self.outputs.logits, part=part, facts=facts, folder=self.report_folder)
