"""`fit`: trains a new run, or goes on with one."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _get_sigkill_signal
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vit_lightning.callbacks.checkpoints import run_checkpoints
from vit_lightning.callbacks.finite import StopAtNaN
from vit_lightning.callbacks.history import EventLog, History
from vit_lightning.callbacks.monitor import ClassMonitor, StepMonitor
from vit_lightning.callbacks.pictures import HeldOutImages, TrainingImages
from vit_lightning.callbacks.seeding import BatchSeeding
from vit_lightning.callbacks.terminal import print_summary
from vit_lightning.callbacks.tracking import Tracking
from vit_lightning.checkpoint import changed_arguments, initial_weights
from vit_lightning.cli_errors import check_configs
from vit_lightning.commands.model_command import ModelCommand, run_command
from vit_lightning.commands.resuming import (
    check_labels,
    check_pictures,
    check_resumed,
    check_start,
    latest_checkpoint,
    tell_schedule,
)
from vit_lightning.commands.run_folder import RUN_FOLDER_VARIABLE, RunFolder, kept_labels, make_run_folder
from vit_lightning.commands.seen import Seen, add_allow_seen, lineage, look_back
from vit_lightning.data.loading import progress
from vit_lightning.evaluation.baselines import Baselines, score_baselines
from vit_lightning.hardware import check_compiler, device_name
from vit_lightning.progress import log_to
from vit_lightning.runs import Run, find_checkpoint, find_run, now, read_status, run_of

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Trains; gives the exit status."""
    return run_command(Fit, arguments)


class Fit(ModelCommand):
    """Trains a model into a run's folder.

    The folder is opened once nothing can be refused any more that a look at options and data may tell; then the images
    are decoded, what the split's score has to beat is computed and written, and training begins.
    """

    name = "fit"
    purpose = "Trains a Vision Transformer on a folder of images; what it leaves is a run."

    def __init__(self, arguments: Sequence[str]) -> None:
        self.resumed: Run | None = None
        self.resumed_step = 0
        self.folder: RunFolder | None = None  # None in further processes, and for a trial without a record
        self.history: History | None = None
        self.baselines: Baselines | None = None
        self.seen: Seen | None = None  # of the images that validate; None where it starts from no other run
        super().__init__(arguments)

    def add_options(self, parser: LightningArgumentParser) -> None:
        """--run, --resume, --ckpt_path and --allow_seen."""
        parser.add_argument("--run", type=str, default=None, help="The new run's name; left out, it is made up.")
        text = "The run that goes on, in its folder and from its last checkpoint: a name or a folder."
        parser.add_argument("--resume", type=str, default=None, help=text)
        text = "A checkpoint from which a new run goes on, with its optimizer and its schedule."
        parser.add_argument("--ckpt_path", type=str, default=None, help=text)
        add_allow_seen(parser)

    # What it goes on from

    def find_checkpoint(self) -> Path | None:
        """That of the run to be resumed, whose config becomes the first one; or `--ckpt_path`."""
        if self.options.resume is None:
            asked = self.options.ckpt_path
            return None if asked is None else find_checkpoint(asked, self.logs)[0]
        for name in ("run", "ckpt_path"):
            if self.options[name] is not None:
                raise ValueError(f"--resume goes on in the run's own folder; leave --{name} out, it is for a new run")
        if self.options.resume.endswith(".ckpt"):
            raise ValueError(
                f"--resume takes a run's name or folder, not {self.options.resume}: it goes on from the run's last "
                "checkpoint; --ckpt_path starts a new run from any"
            )
        self.resumed = find_run(self.options.resume, self.logs)
        config = self.resumed.folder / "config.yaml"
        if not config.is_file():
            raise FileNotFoundError(f"{self.resumed.folder} cannot be resumed: it has no config.yaml")
        self.arguments = [f"--config={config}", *self.arguments]
        check_configs(self.arguments)
        self.parse_arguments(self.parser, self.arguments)
        return latest_checkpoint(self.resumed)

    def take_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """It has to allow the training to go on."""
        check_start(self.resumed, self.options, checkpoint)
        if self.resumed is not None:
            self.resumed_step = checkpoint["global_step"]
            check_resumed(self.resumed, self.options, checkpoint)
            check_labels(self.resumed, self.options.data.labels)

    # Building

    def before_instantiate_classes(self) -> None:
        """Refuses what cannot be trained."""
        data, trainer = self.options.data, self.options.trainer
        if str(data.split).endswith(".csv") and data.fold is not None:
            raise ValueError(f"data.fold shares the images out, but {data.split} says who tests; leave one of them out")
        for option in ("max_epochs", "max_steps", "limit_train_batches"):
            if trainer[option] == 0:
                raise ValueError(f"there is nothing to train: trainer.{option} is 0; give more, or leave it out")
        if trainer.max_epochs == trainer.max_steps == -1 and not trainer.fast_dev_run:
            raise ValueError("the schedule needs to know its end: give trainer.max_epochs or trainer.max_steps")
        if not self.options.save_every > 0:
            raise ValueError(f"--save_every is {self.options.save_every}; expected minutes, more than 0")
        if self.options.patience is not None and self.options.patience < 1:
            raise ValueError(f"--patience is {self.options.patience}; expected epochs, 1 at least")
        if self.options.ckpt_path is None:
            self.find_initial_weights()
        super().before_instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  # Lightning's signature
        """The Trainer, after the run's folder was opened, which goes away again where it cannot be built."""
        if self.options.trainer.fast_dev_run:
            return super().instantiate_trainer(**kwargs)
        self.open_folder()
        try:
            trainer = super().instantiate_trainer(**kwargs)
            if self.folder is not None:
                self.datamodule.setup("fit")  # decodes; what may be refused without it was by now
                if self.resumed is None:
                    self.record_baselines()
                    self.describe()
        except BaseException:
            self.close_folder()
            raise
        return trainer

    def open_folder(self) -> None:
        """Refuses what the data or the weights to start from tell, and makes or takes the run's folder."""
        self.check_saved()
        if self.resumed is not None and self.options.ckpt_path is not None:
            self.keep_split(self.resumed.folder / "split.csv")
        if self.options.model.init_from is not None and self.options.ckpt_path is None:
            initial_weights(Path(self.options.model.init_from), self.model.net, self.model.hparams)
        if self.options.model.compile:
            check_compiler(self.options.trainer.accelerator)
        if self.further:
            self.run_folder = Path(os.environ.get(RUN_FOLDER_VARIABLE, self.logs))  # it is written by the first
            return
        self.datamodule.prepare_data()
        self.datamodule.arrange("fit")
        if self.options.patience is not None and not self.datamodule.used_split.part("val"):
            raise ValueError(
                "--patience waits for a better val/acc, but the split has no validation part; leave it out"
            )
        if self.resumed is None and self.start is not None:
            self.look_back(self.start)
        if self.resumed is not None:
            check_pictures(self.resumed, self.datamodule.used_split)
            self.folder = RunFolder(self.resumed.folder, new=False)
        else:
            configs = [Path(str(path)) for path in self.options.config or []]
            self.folder = make_run_folder(self.logs, self.options.run, configs)
        self.run_folder = self.folder.path

    @property
    def start(self) -> Path | None:
        """The checkpoint of another run whose weights this one starts from, if any."""
        start = self.options.ckpt_path if self.resumed is None else None
        start = start or self.options.model.init_from
        return None if start is None else Path(start)

    def look_back(self, start: Path) -> None:
        """Refuses to hold images out that the weights to start from were trained on."""
        split = self.datamodule.used_split
        held = [look_back(split, part, start) for part in ("val", "test") if split.part(part)]
        if not self.options.allow_seen:
            for seen in held:
                seen.refuse(f"split as that run did, with --data.split {(run_of(start) or Path()) / 'split.csv'}")
        self.seen = held[0] if held else None

    def close_folder(self) -> None:
        """Lets go of the run's folder."""
        if self.folder is not None:
            self.folder.close()
            self.folder = None

    def keep_split(self, used: Path) -> None:
        """A resumed run goes on with the images it had, whatever came to the folder since."""
        if not used.is_file():
            raise FileNotFoundError(
                f"{used} is missing, and without it the run cannot keep the split it had; put it back, or start a new "
                "run with --ckpt_path"
            )
        settings = self.datamodule.settings
        self.datamodule.settings = replace(settings, split=str(used), subset=None, labels=self.labels())

    def labels(self) -> str | None:
        """A resumed run's are its own copy, from where the file may be gone."""
        own = self.resumed is not None and self.options.ckpt_path is not None
        return (kept_labels(self.resumed.folder) if own and self.resumed else None) or super().labels()

    def own_callbacks(self) -> list[Callback]:
        """The run's record, pictures and checkpoints."""
        if self.run_folder is None:
            return []
        self.history = History(self.run_folder, self.facts(), self.begin)
        callbacks: list[Callback] = [StopAtNaN(), self.history, BatchSeeding()]
        callbacks += [Tracking(self.run_folder)] if self.options.tracker else []
        callbacks += [TrainingImages(self.run_folder), HeldOutImages(self.run_folder)]
        callbacks += [ClassMonitor(self.model.class_names), StepMonitor()]
        if self.options.model.ema is not None:  # after the pictures, which are of the averaged weights
            callbacks.append(EMAWeightAveraging(decay=self.options.model.ema))
        if self.options.patience is not None:
            callbacks.append(EarlyStopping("val/acc", patience=self.options.patience, mode="max", check_finite=False))
        if self.options.trainer.enable_checkpointing is not False:
            callbacks += run_checkpoints(self.run_folder / "checkpoints", self.options.save_every)
        return callbacks

    def trainer_settings(self) -> dict[str, Any]:
        """TensorBoard in the run's folder, unless another logger was asked for."""
        if self.run_folder is None:
            return {}
        settings: dict[str, Any] = {"default_root_dir": str(self.run_folder)}
        if self.options.trainer.logger in (None, True):
            purge_step = None if self.resumed is None else self.resumed_step
            settings["logger"] = EventLog(self.run_folder, purge_step=purge_step)
        return settings

    # The record

    def describe(self) -> None:
        """Writes config, split and classes into the run's folder."""
        assert self.folder is not None, "the first process opened it"
        config = self.options.clone()
        for key in ("config", "run", "resume", "ckpt_path", "allow_seen", "help_all"):
            config.pop(key, None)
        self.folder.describe(self.parser.dump(config, skip_unset=False), self.datamodule.used_split)

    def begin(self) -> None:
        """Brings the config up to date, now that training begins: a callback may have changed a setting."""
        asked, settings = self.options.model, self.model.hparams
        names = [name for name in settings if name != "num_classes"]  # left out, it is the classes'
        changed = changed_arguments(settings, asked.as_dict(), names)
        for name in changed:
            log.info("model.%s is %s, by a callback (asked for: %s)", name, settings[name], asked[name])
            asked[name] = settings[name]
        if changed or self.resumed is not None:
            self.describe()
        if self.resumed is not None:
            tell_schedule(self.resumed, self.trainer, self.options.model.lr)

    def record_baselines(self) -> None:
        """Computes what the split's score has to beat, for `status.json`."""
        split = self.datamodule.used_split
        self.baselines = score_baselines(split, "val" if split.part("val") else "test")
        if self.baselines is not None and self.history is not None:
            self.history.status["baselines"] = self.baselines.record()

    def facts(self) -> dict[str, Any]:
        """What `status.json` says of data and split; a resumed run's status says it already."""
        if self.further:
            return {}
        split = self.datamodule.used_split
        if self.resumed is not None and "split" in self.resumed.status:
            status = self.resumed.status
            told = {"resumed": [*status.get("resumed", []), now()]}
            return {**status, **told, "data": {**status.get("data", {}), "root": str(split.root)}}
        name = split.root.resolve().name if self.datamodule.source == "folder" else self.datamodule.source
        return {
            "data": {"name": name, "id": split.data_id, "root": str(split.root), "bytes": split.bytes()},
            "split": {"kind": split.kind, "id": split.id, "family": split.family, **split.sizes()},
            "ancestors": lineage(self.start) if self.start is not None else [],
            **({"seen": self.seen.record()} if self.seen is not None else {}),
            "image_size": [*self.model.net.image_shape[1:]],
            "patch_size": self.model.hparams["patch_size"],
            "parameters": sum(parameter.numel() for parameter in self.model.net.parameters()),
        }

    # Training

    def execute(self) -> int:
        """Trains, and says what was trained on and where it went."""
        if self.trainer.is_global_zero:
            self.announce()
        try:
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.options.ckpt_path)
        except (SystemExit, SIGTERMException):  # Lightning's end after Ctrl-C; its callbacks have run
            if isinstance(launcher := self.trainer.strategy.launcher, _SubprocessScriptLauncher):
                launcher.kill(_get_sigkill_signal())  # they wait for this process
            if self.trainer.is_global_zero and self.run_folder is not None:
                epochs = progress(self.trainer)[0]
                whole = f"{epochs} whole epoch{'s' * (epochs != 1)}"
                log.warning("interrupted after %d steps, %s", self.trainer.global_step, whole)
                self.tell_how_to_go_on()
            raise
        except Exception:
            if self.trainer.is_global_zero and self.run_folder is not None:
                self.tell_how_to_go_on()
            raise
        finally:
            if self.folder is not None:
                self.folder.new = False
                self.close_folder()
        if self.trainer.is_global_zero and self.run_folder is not None:
            if self.trainer.should_stop and self.options.patience is not None:
                log.info("stopped early: no better val/acc in %d epochs", self.options.patience)
            best = read_status(self.run_folder / "status.json").get("best")
            words = "" if not best else f"best val/acc {best['val/acc']:.4f} in epoch {best['epoch']}; "
            log.info("%sthe run is in %s", words, self.run_folder)
        return 0

    def tell_how_to_go_on(self) -> None:
        """Says what takes the run up again, if it has come to a step and left a checkpoint."""
        assert self.run_folder is not None, "a run without a record cannot go on"
        if any((self.run_folder / "checkpoints").glob("*.ckpt")):
            log.info("to go on: fit --resume %s", self.run_folder.name)

    def announce(self) -> None:
        """Says what is about to be trained, on what and where."""
        if self.run_folder is not None:
            log_to(self.run_folder / "run.log")
            verb = "resuming run" if self.resumed is not None else "run"
            log.info("%s %s in %s", verb, self.run_folder.name, self.run_folder)
            log.info("data %s", self.datamodule.used_split.root)
            log.info(self.datamodule.used_split.describe())
            if self.seen is not None:
                self.seen.tell()
        if self.baselines is not None:
            self.baselines.tell(log)
            for logger in self.trainer.loggers:
                if isinstance(logger, EventLog):
                    logger.log_baselines(self.baselines.lines())
                else:
                    logger.log_metrics(
                        {f"baselines/{name}": value for name, value in self.baselines.scores().items()}, 0
                    )
        print_summary(self.model)
        log.info("training on %s, %s", device_name(self.trainer), self.trainer.precision)
