"""The commands that need torch: LightningCLI with runs, and with flags that beat what a checkpoint says."""

import argparse
import json
import logging
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _get_sigkill_signal
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vit_lightning.callbacks.checkpoints import AtomicCheckpointIO, run_checkpoints
from vit_lightning.callbacks.finite import StopAtNaN
from vit_lightning.callbacks.history import EventLog, History
from vit_lightning.callbacks.monitor import ClassMonitor, StepMonitor
from vit_lightning.callbacks.outputs import HeldOutOutputs
from vit_lightning.callbacks.pictures import HeldOutImages, TrainingImages
from vit_lightning.callbacks.predictions import PredictionWriter
from vit_lightning.callbacks.seeding import ProcessSeeding
from vit_lightning.callbacks.signals import GracefulStop
from vit_lightning.callbacks.terminal import EpochBar, print_summary
from vit_lightning.cli_errors import check_configs, explain
from vit_lightning.data.datamodule import ImageDataModule, find_classes
from vit_lightning.data.scan import write_unreadable
from vit_lightning.data.splits import count_table, write_split
from vit_lightning.evaluation.baselines import Baselines, score_baselines
from vit_lightning.hardware import (
    PRECISION_VARIABLE,
    check_accelerator,
    check_compiler,
    device_name,
    fitting_precision,
    keep_memory,
)
from vit_lightning.inference import find_images
from vit_lightning.module import ViTClassifier, read_checkpoint
from vit_lightning.progress import is_terminal, log_to, set_up_logging
from vit_lightning.runs import LOG_FOLDER, Run, find_checkpoint, find_run, new_run_folder, now, read_status

log = logging.getLogger(__name__)

#: Through this the processes that Lightning starts for further devices learn the run's folder.
RUN_FOLDER_VARIABLE = "VIT_LIGHTNING_RUN_FOLDER"

#: The model's arguments that are not the network's; the others cannot change once there are weights.
OPTIMISATION = {
    *("lr", "betas", "weight_decay", "decay_all", "warmup_fraction", "label_smoothing", "class_weights"),
    *("dropout", "attention_dropout", "mlp_dropout", "drop_path", "init", "init_from", "compile"),
}

#: The data's arguments that say who trains and who is held out.
SPLITTING = ("split", "val_fraction", "test_fraction", "block_length", "guard", "group_by", "fold", "subset", "seed")

TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "max_epochs": 50,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
}


class CommandTrainer(Trainer):
    """Lightning's Trainer with `check`: the commands of a LightningCLI are methods of its Trainer."""

    def check(self, model: ViTClassifier, datamodule: ImageDataModule, folder: Path) -> bool:
        """Looks for what is known to go wrong with data, model and settings, in about a minute, without training.

        Args:
            model: As `fit` would train it.
            datamodule: Its images.
            folder: Where pictures are put.

        Returns:
            Whether there was no failure; what was found is printed.
        """
        from vit_lightning import check  # a tenth of a second, needed only here

        return check.run(model, datamodule, self, folder)


def run(arguments: Sequence[str]) -> int:
    """Runs `fit`, `validate`, `test`, `predict` or `check`.

    Returns:
        The exit status: 0, or 1 where `predict` met images that it could not read or `check` found a failure.

    Raises:
        ValueError: A mistake in what was asked.
        FileNotFoundError: A run, an image or the data is missing.
    """
    set_up_logging(quiet=is_further_process())
    keep_memory()
    try:
        cli = ViTCLI(arguments)
        return int(cli.failed or (cli.writer is not None and cli.writer.unreadable > 0))
    except SIGTERMException:
        return 128 + signal.SIGTERM
    except SystemExit as end:
        if end.code == 1:  # how Lightning ends after Ctrl-C; --help ends with 0
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


class ViTCLI(LightningCLI):
    """LightningCLI over `ViTClassifier` and `ImageDataModule`, with the project's runs."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.run_folder: Path | None = None
        self.resumed: Run | None = None
        self.resumed_step = 0
        self.lock: FileLock | None = None
        self.checkpoint_words = ""
        self.writer: PredictionWriter | None = None
        self.failed = False  # what `check` looked at
        self.outputs = HeldOutOutputs()
        self.baselines: Baselines | None = None
        check_configs(self.arguments)
        strict = {"exit_on_error": False}
        super().__init__(
            ViTClassifier,
            ImageDataModule,
            trainer_class=CommandTrainer,
            args=self.arguments,
            save_config_callback=None,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs=strict | {command: dict(strict) for command in self.subcommands()},
        )

    # Parsing

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of Lightning's methods that are no options here."""
        loaders = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders", "weights_only"}
        return {
            "fit": loaders,
            "validate": loaders | {"verbose"},
            "test": loaders | {"verbose"},
            "predict": loaders | {"return_predictions"},
            "check": loaders | {"folder"},
        }

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401  # Lightning's signature
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.usage = f"cli.py {subcommand} [--config FILE ...] [--SECTION.OPTION VALUE ...]"  # not all two hundred
        if subcommand == "fit":
            parser.add_argument("--run", type=str, default=None, help="The new run's name; left out, it is made up.")
            text = "The run that goes on, in its folder and from its last checkpoint: a name or a folder."
            parser.add_argument("--resume", type=str, default=None, help=text)
        elif subcommand != "check":
            text = "A run's name, its folder, a .ckpt file or `best`; left out, the latest finished run."
            parser.add_argument("--run", type=str, default=None, help=text)
        if subcommand == "predict":
            parser.add_argument(
                "--images", type=str, nargs="+", help="Files, folders or globs; left out, the run's held-out images."
            )
            parser.add_argument(
                "--output",
                type=str,
                default=None,
                help="The .csv, .json or .jsonl to write; left out, predictions/NNNN.csv in the run's folder.",
            )
            text = "Also draw each image with the attention over it, into a folder beside the CSV."
            parser.add_argument("--attention", action="store_true", help=text)
            text = "How many of the likeliest classes to tell of each image, its label among them."
            parser.add_argument("--top", type=int, default=3, help=text)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The model's image size is the data's."""
        parser.link_arguments("model.image_size", "data.image_size")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Parses without Lightning's warning that `sys.argv` has words too.

        Raises:
            ValueError: An option that does not exist, or a value that does not fit.
        """
        command = self.arguments[0]
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError as error:
            actions = self._subcommand_parsers[command]._actions
            options = [option for action in actions for option in action.option_strings if option.startswith("--")]
            raise ValueError(explain(str(error), options)) from error

    @property
    def options(self) -> Any:  # noqa: ANN401  # jsonargparse's Namespace: attributes by the parser's making
        """The parsed options of the command."""
        return self.config[self.config["subcommand"]]

    @property
    def further(self) -> bool:
        """Whether another process keeps this run's record."""
        return is_further_process(self.options.trainer)

    @property
    def logs(self) -> Path:
        """The folder of runs."""
        return Path(self.options.trainer.default_root_dir or ".") / LOG_FOLDER

    def _parse_ckpt_path(self) -> None:
        """Makes the checkpoint's hyper-parameters the defaults and parses again, so that flags and configs win.

        Lightning's own way lets the checkpoint override explicit flags, and evaluates random weights where a
        checkpoint is not found.
        """
        command = self.config["subcommand"]
        if command == "check":
            return
        asked = self.options.ckpt_path
        if command == "fit" and self.options.resume is not None:
            asked = self.find_resumed()
        if command == "fit" and asked is None:
            return
        if command != "fit" and self.options.run is not None:
            if asked is not None:
                raise ValueError(f"--run {self.options.run} and --ckpt_path {asked} both name a checkpoint; give one")
            asked = self.options.run
        path, self.checkpoint_words = find_checkpoint(asked, self.logs)
        checkpoint = read_checkpoint(path)
        defaults = {f"model.{name}": value for name, value in checkpoint["hyper_parameters"].items()}
        data = checkpoint["datamodule_hyper_parameters"]
        defaults |= {f"data.{name}": value for name, value in data.items() if name != "image_size"}
        if command != "fit" and path.parent.name == "checkpoints":
            self.run_folder = path.parent.parent
            used_split = self.run_folder / "split.csv"
            if used_split.is_file():  # images that came to the folder since then stay out of the score
                defaults |= {"data.split": str(used_split), "data.subset": None}
        self._subcommand_parsers[command].set_defaults(defaults)
        self.parse_arguments(self.parser, self.arguments)
        self.options.ckpt_path = str(path)
        asked_for = self.options.model.as_dict()
        asked_for["num_classes"] = asked_for["num_classes"] or defaults["model.num_classes"]  # left out: the classes'
        changed = [
            f"{name} {asked_for[name]} (saved: {value})"
            for name, value in checkpoint["hyper_parameters"].items()
            if name not in OPTIMISATION and as_list(asked_for[name]) != as_list(value)
        ]
        if changed:  # some would load without an error and be another network
            raise ValueError(f"the weights in {path} belong to another model than asked for: {', '.join(changed)}")
        if self.resumed is not None:
            self.resumed_step = checkpoint["global_step"]
            self.check_resumed(checkpoint)

    def find_resumed(self) -> str | None:
        """Makes the config of the run to be resumed the first one; gives its later checkpoint, if it has one."""
        for name in ("run", "ckpt_path"):
            if self.options[name] is not None:
                raise ValueError(
                    f"--resume goes on in the run's own folder; leave --{name} out, which is for a new run"
                )
        if self.options.resume.endswith(".ckpt"):
            raise ValueError(
                f"--resume takes a run's name or folder, not {self.options.resume}: it goes on from the run's last "
                "checkpoint; --ckpt_path starts a new run from any"
            )
        self.resumed = find_run(self.options.resume, self.logs)
        config = self.resumed.folder / "config.yaml"
        if not config.is_file():
            raise FileNotFoundError(f"{self.resumed.folder} cannot be resumed: it has no config.yaml")
        self.arguments = ["fit", f"--config={config}", *self.arguments[1:]]
        check_configs(self.arguments)
        self.parse_arguments(self.parser, self.arguments)
        folder = self.resumed.folder / "checkpoints"
        steps: dict[Path, int] = {}
        for path in (folder / "last.ckpt", folder / "best.ckpt"):
            try:
                if path.is_file():
                    steps[path] = read_checkpoint(path)["global_step"]
            except ValueError as error:
                log.warning("%s", error)
        if steps:  # after a kill between the two, best is the later one
            return str(max(steps, key=lambda path: steps[path]))
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"no checkpoint in {folder} can be read; start a new run with fit --config {config}")
        log.warning("run %s has no checkpoint yet: it starts from the beginning", self.resumed.name)
        return None

    def check_resumed(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to go on where nothing is left to do, or on another split: its score would be of seen images."""
        name, trainer, epochs = self.options.resume, self.options.trainer, checkpoint["epoch"] + 1
        for limit, done in (("max_epochs", epochs), ("max_steps", checkpoint["global_step"])):
            if done >= (trainer[limit] or -1) > 0:
                raise ValueError(f"run {name} has done its {done} {limit[4:]}; to go on give more: --trainer.{limit} N")
        model = checkpoint["hyper_parameters"]
        for option in ("decay_all", "init_from"):
            if self.options.model[option] != model[option]:
                raise ValueError(
                    f"run {name} began with model.{option} {model[option]}, which cannot be changed while it goes on; "
                    "leave it out, or start a new run"
                )
        data = checkpoint["datamodule_hyper_parameters"]
        changed = [
            f"data.{option} {self.options.data[option]} (was: {data.get(option)})"
            for option in SPLITTING
            if absolute(self.options.data[option]) != absolute(data.get(option))
        ]
        if changed:
            raise ValueError(
                f"run {name} goes on with its own split, but {', '.join(changed)} was asked for; start a new run with "
                "--ckpt_path if it should learn from other images"
            )

    # Building

    def before_instantiate_classes(self) -> None:
        """Takes the classes from the data, or holds the model's against them."""
        if self.further:
            set_up_logging(quiet=True)
        if self.options.data.root == "":
            raise ValueError("data.root is empty; give the folder that holds the class folders")
        model, data = self.options.model, self.options.data
        for name in ("root", "cache_dir"):  # what is saved has to be found from any working folder
            if data[name] is not None:
                data[name] = str(Path(data[name]).expanduser().resolve())
        data.split, data.group_by = absolute(data.split), absolute(data.group_by)
        command = self.config["subcommand"]
        if command == "fit" and str(data.split).endswith(".csv") and data.fold is not None:
            raise ValueError(f"data.fold shares the images out, but {data.split} says who tests; leave one of them out")
        if model.init_from is not None and (
            command == "check" or (command == "fit" and self.options.ckpt_path is None)
        ):
            model.init_from = str(find_checkpoint(model.init_from, self.logs)[0].resolve())
        if command == "predict" and self.options.images:
            return
        found = find_classes(data.source, data.root)
        if model.class_names is None:
            model.class_names = found
        elif list(model.class_names) != found:
            raise ValueError(
                f"the model's classes are {', '.join(model.class_names)}, but the data's are {', '.join(found)}; give "
                "the data that belongs to the model, or leave model.class_names out to train a new one"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  # Lightning's signature
        """The Trainer with the run's folder, logger, checkpoints and record."""
        command = self.config["subcommand"]
        trainer = self.config_init[command].trainer
        check_accelerator(trainer.accelerator)
        for option, least in (("accumulate_grad_batches", 1), ("check_val_every_n_epoch", 1), ("gradient_clip_val", 0)):
            if (trainer[option] if trainer[option] is not None else least) < least:
                raise ValueError(f"trainer.{option} is {trainer[option]}; it has to be at least {least}")
        if trainer.gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(f"trainer.gradient_clip_algorithm is {trainer.gradient_clip_algorithm}; expected norm")
        overrides: dict[str, Any] = {"enable_model_summary": False, "logger": trainer.logger or False}
        plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
        if trainer.precision is None and not any(isinstance(plugin, Precision) for plugin in plugins):
            told = os.environ.get(PRECISION_VARIABLE) if self.further else None
            precision = told or fitting_precision(trainer.accelerator)
            overrides["precision"] = self.options.trainer.precision = os.environ[PRECISION_VARIABLE] = precision
        if not is_terminal():
            overrides["enable_progress_bar"] = False
        overrides["plugins"] = [*(plugin for plugin in plugins if plugin is not None), AtomicCheckpointIO()]
        callbacks: list[Callback] = [GracefulStop()]
        if is_terminal() and trainer.enable_progress_bar is not False:
            callbacks.append(EpochBar())
        if command == "predict":
            self.writer = PredictionWriter(
                self.prediction_file(),
                self.model.class_names,
                attention=self.options.attention,
                top=self.options.top,
            )
            callbacks.append(self.writer)
        if command == "test":
            callbacks.append(self.outputs)
        if command == "check":  # one device tells as much
            overrides |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        if command != "fit":
            overrides["enable_checkpointing"] = False
        elif not trainer.fast_dev_run:
            if trainer.max_epochs == trainer.max_steps == -1:
                raise ValueError("the schedule needs to know its end: give trainer.max_epochs or trainer.max_steps")
            if self.resumed is not None and self.options.ckpt_path is not None:
                self.keep_split(self.resumed.folder / "split.csv")
            if self.options.model.init_from is not None and self.options.ckpt_path is None:
                self.model.weights_from(self.options.model.init_from)  # refused before there is a run
            if self.options.model.compile:
                check_compiler(trainer.accelerator)
            if self.further:
                self.run_folder = Path(os.environ.get(RUN_FOLDER_VARIABLE, self.logs))  # it is written by the first
            else:
                self.datamodule.prepare_data()
                self.datamodule.arrange("fit")
                self.run_folder = self.open_run_folder()
                os.environ[RUN_FOLDER_VARIABLE] = str(self.run_folder)
            describe = None if self.resumed is None else partial(self.describe_run, self.run_folder)
            history = History(self.run_folder, self.facts(), describe)
            callbacks += [StopAtNaN(), history, ProcessSeeding(), TrainingImages()]
            callbacks += [HeldOutImages(), ClassMonitor(self.model.class_names), StepMonitor()]
            if trainer.enable_checkpointing is not False:
                callbacks += run_checkpoints(self.run_folder / "checkpoints")
            if trainer.logger in (None, True):
                overrides["logger"] = EventLog(
                    self.run_folder, purge_step=None if self.resumed is None else self.resumed_step
                )
            overrides["default_root_dir"] = str(self.run_folder)
        self.trainer_defaults["callbacks"] = callbacks
        try:
            built = super().instantiate_trainer(**overrides, **kwargs)
            self.datamodule.device_batch_size(built.world_size)
            if command == "predict" and built.world_size > 1:
                raise ValueError(f"predict runs on one device, not on {built.world_size}; leave trainer.devices out")
            if self.run_folder is not None and self.lock is not None:
                self.datamodule.setup("fit")  # decodes; what may be refused without it was by now
                if self.resumed is None:
                    self.baselines = score_baselines(self.datamodule, "val" if self.datamodule.part("val") else "test")
                    if self.baselines is not None:
                        history.status["baselines"] = self.baselines.record()
                    self.describe_run(self.run_folder)
        except BaseException as error:
            self.close_run_folder(new=self.resumed is None)
            if isinstance(error, TypeError):  # how Lightning refuses values of a wrong type
                raise ValueError(f"the trainer cannot be built: {error}") from error  # noqa: TRY004  # the user's value
            raise
        return built

    def open_run_folder(self) -> Path:
        """Makes the folder of a new run, or takes that of the resumed one, for this process alone.

        Raises:
            ValueError: The name is taken, or another process trains the run.
        """
        if self.resumed is not None:
            folder = self.resumed.folder
        else:
            configs = [Path(str(path)) for path in self.options.config or []]
            folder = new_run_folder(self.logs, self.options.run, run_stem(configs))
        self.lock = FileLock(folder / ".lock")
        try:
            self.lock.acquire(blocking=False)  # the system lets go of it however the process ends
        except Timeout:
            raise ValueError(
                f"run {folder.name} is being trained by another process; wait for it, or stop it"
            ) from None
        return folder

    def close_run_folder(self, *, new: bool) -> None:
        """Lets go of the run's folder, and removes it when nothing has run in it."""
        if self.lock is None or self.run_folder is None:
            return
        self.lock.release()
        Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock = None
        if new:
            shutil.rmtree(self.run_folder)

    def keep_split(self, used: Path) -> None:
        """A resumed run goes on with the images it had, whatever came to the folder since."""
        if not used.is_file():
            raise FileNotFoundError(
                f"{used} is missing, and without it the run cannot keep the split it had; put it back, or start a new "
                "run with --ckpt_path"
            )
        self.datamodule.split, self.datamodule.subset = str(used), None

    def describe_run(self, folder: Path) -> None:
        """Writes what is known before the first step: config, split and classes."""
        config = self.options.clone()
        for key in ("config", "run", "resume", "ckpt_path"):
            config.pop(key, None)
        text = self._subcommand_parsers["fit"].dump(config, skip_none=False)
        temporary = folder / ".config.yaml"  # other processes of the run may be reading the old one
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / "config.yaml")
        write_split(folder / "split.csv", self.datamodule.samples)
        if self.datamodule.unreadable:
            table = folder / "unreadable.csv"
            write_unreadable(table, self.datamodule.unreadable, append=table.is_file())  # of a resumed run
        mapping = {str(index): name for index, name in enumerate(self.model.class_names)}
        (folder / "class_mapping.json").write_text(json.dumps(mapping, indent=2) + "\n", encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """What `status.json` says of data and split; a resumed run's status says it already."""
        data = self.datamodule
        if self.further:
            return {}
        if self.resumed is not None and "split" in self.resumed.status:
            status = self.resumed.status
            told = {"resumed": [*status.get("resumed", []), now()]}
            return {**status, **told, "data": {**status.get("data", {}), "root": str(data.root)}}
        kind = "csv" if str(data.split).endswith(".csv") else data.split
        name = data.root.resolve().name if data.source == "folder" else data.source
        return {
            "data": {"name": name, "id": data.data_id, "root": str(data.root)},
            "split": {"kind": kind, "id": data.split_id, **self.part_sizes()},
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
        }

    def prediction_file(self) -> Path:
        """The CSV of this `predict`: `--output`, or the next number in the run's folder (or here, for a lone file)."""
        if self.options.output:
            return Path(self.options.output).expanduser()
        folder = (self.run_folder or Path()) / "predictions"
        taken = [int(path.stem) for path in folder.glob("*.csv") if path.stem.isdigit()]
        return folder / f"{max(taken, default=0) + 1:04}.csv"

    # Running

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        if subcommand == "check":
            return {"model": self.model, "datamodule": self.datamodule}
        kwargs = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": self.options.ckpt_path}
        if subcommand in ("validate", "test"):
            kwargs["verbose"] = False
        return kwargs

    def fit(self, **kwargs: Any) -> None:  # noqa: ANN401  # Trainer.fit's arguments
        """Trains, and says what was trained on and where it went."""
        if self.trainer.is_global_zero:
            if self.run_folder is not None:
                log_to(self.run_folder / "run.log")
                verb = "resuming run" if self.resumed is not None else "run"
                log.info("%s %s in %s", verb, self.run_folder.name, self.run_folder)
            if self.datamodule.samples:
                log.info("data %s", self.datamodule.root)
                log.info(self.datamodule.describe())
            if self.baselines is not None:
                self.baselines.tell(log)
                for logger in self.trainer.loggers:
                    logger.log_metrics(
                        {f"baselines/{name}": score for name, score in self.baselines.scores().items()}, 0
                    )
            print_summary(self.model)
            log.info("training on %s, %s", device_name(self.trainer), self.trainer.precision)
        try:
            self.trainer.fit(**kwargs)
        except (SystemExit, SIGTERMException):  # Lightning's end after Ctrl-C; its callbacks have run
            if isinstance(launcher := self.trainer.strategy.launcher, _SubprocessScriptLauncher):
                launcher.kill(_get_sigkill_signal())  # they wait for this process
            if self.trainer.is_global_zero and self.run_folder is not None:
                epochs = self.trainer.current_epoch
                log.warning("interrupted after %d whole epochs; what they gave is in %s", epochs, self.run_folder)
                log.info("to go on: fit --resume %s", self.run_folder.name)
            raise
        finally:
            self.close_run_folder(new=False)
        if self.trainer.is_global_zero and self.run_folder is not None:
            best = read_status(self.run_folder / "status.json").get("best")
            if best:
                log.info(
                    "best val/acc %.4f in epoch %d; the run is in %s", best["val/acc"], best["epoch"], self.run_folder
                )
            else:
                log.info("the run is in %s", self.run_folder)

    def validate(self, **kwargs: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Scores the validation images."""
        self.score("val", self.trainer.validate, kwargs)

    def test(self, **kwargs: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Scores the test images, or the validation images where the split has no test part."""
        self.load_split("test")
        part = self.datamodule.test_part
        if part == "val" and self.datamodule.part("val"):
            log.warning("the split has no test part: these are the validation images, which also chose the checkpoint")
        elif self.datamodule.part("val"):  # for the temperature
            self.trainer.validate(**kwargs)
        self.score(part, self.trainer.test, kwargs)
        if part == "val":
            self.outputs.logits["val"] = self.outputs.logits.pop("test")
        if self.trainer.is_global_zero:
            self.report("val" if part == "val" else "test")

    def report(self, part: Literal["val", "test"]) -> None:
        """Writes the report of what `test` found, and says what it is worth."""
        from vit_lightning.evaluation.assess import assess  # a second

        data, status = self.datamodule, {}
        if self.run_folder is not None:
            status = read_status(self.run_folder / "status.json")
        if len(self.outputs.logits[part]) < len(data.part(part)):
            log.warning("no report: trainer.limit_test_batches left images out")
            return
        if not all(logits.isfinite().all() for logits in self.outputs.logits.values()):
            log.warning("no report: the model gives no numbers: its training has failed; lower --model.lr")
            return
        if len(self.outputs.logits.get("val", ())) < len(data.part("val")):
            self.outputs.logits.pop("val", None)
        name = Path(str(data.root)).name
        if status.get("split", {}).get("id") == data.split_id:
            kind, name = status["split"]["kind"], status.get("data", {}).get("name", name)
        else:
            kind = "csv" if str(data.split).endswith(".csv") else str(data.split)
        checkpoint = Path(self.options.ckpt_path)
        facts = {
            "run": self.run_folder.name if self.run_folder is not None else checkpoint.stem,
            "checkpoint": checkpoint.name,
            "data": {"name": name, "id": data.data_id, "root": str(data.root)},
            "split": {"kind": kind, "id": data.split_id, **self.part_sizes()},
        }
        folder = (self.run_folder or Path()) / "report"
        assess(self.model, data, self.outputs.logits, part=part, kind=kind, facts=facts, folder=folder)

    def part_sizes(self) -> dict[str, int]:
        """Images in each part."""
        return {part: sum(counter.values()) for part, counter in count_table(self.datamodule.samples).items()}

    def score(self, part: str, evaluate: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Runs one evaluation and prints its scores as one line."""
        self.load_split("test")
        images = len(self.datamodule.part(part))
        if not images:
            raise ValueError("the run's split holds no image out: there is nothing to score it on; give --data.split")
        log.info("%s on %s", self.checkpoint_words, device_name(self.trainer))
        scores = evaluate(**kwargs)
        if not scores:
            raise ValueError("no batch was scored; is a trainer.limit_..._batches 0?")
        values = {name.partition("/")[2]: value for name, value in scores[0].items()}
        text = " ".join(f"{name} {values[name]:.4f}" for name in ("acc", "f1", "loss"))
        log.info("%s images %d: %s", part, images, text)

    def predict(self, **kwargs: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Labels the images asked for, or the run's held-out ones."""
        if self.options.images:
            self.datamodule.predict_paths = find_images(self.options.images)
        else:
            self.load_split("predict")
            if not self.datamodule.part("test", "val"):
                raise ValueError("the run's split holds no image out; say which to label with --images PATH ...")
        log.info("%s on %s", self.checkpoint_words, device_name(self.trainer))
        self.trainer.predict(**kwargs, return_predictions=False)

    def check(self, **kwargs: Any) -> None:  # noqa: ANN401  # CommandTrainer.check's arguments
        """Goes through the debugging list; its pictures lie beside the runs."""
        folder = self.logs / "check" / run_stem([Path(str(path)) for path in self.options.config or []])
        assert isinstance(self.trainer, CommandTrainer), "the trainer_class above"
        self.failed = not self.trainer.check(**kwargs, folder=folder)

    def load_split(self, stage: str) -> None:
        """Lists and splits the images before the Trainer does, to say early what is missing."""
        if not self.further:
            self.datamodule.prepare_data()
        self.datamodule.setup(stage)


def run_stem(configs: Sequence[Path]) -> str:
    """What a new run is called before its number: the first config's name, or for a run's config that run's."""
    if not configs:
        return "run"
    if configs[0].name == "config.yaml":
        return re.sub(r"-\d{3,}$", "", configs[0].resolve().parent.name)
    return configs[0].stem


def as_list(value: object) -> object:
    """Tuples as lists: a checkpoint and a parser may disagree on which."""
    return list(value) if isinstance(value, tuple) else value


def absolute(split: object) -> object:
    """A file of parts or groups by its whole path; kinds of split, and all else, as they are."""
    if not isinstance(split, str):
        return split
    file, colon, column = split.partition(".csv:")
    if colon or split.endswith(".csv"):
        file = file if colon else split.removesuffix(".csv")
        return f"{Path(f'{file}.csv').expanduser().resolve()}{':' * bool(colon)}{column}"
    return split


def is_further_process(trainer: Any = None) -> bool:  # noqa: ANN401  # jsonargparse's Namespace
    """Whether this process serves a further device of a run whose first process keeps the record.

    Lightning starts such processes with a LOCAL_RANK, torchrun all of them with a RANK. SLURM's SLURM_PROCID, and
    NODE_RANK, which one sets by hand, may be there without meaning this run: they count only where the trainer's
    options ask for more than one device.
    """
    names = ["RANK", "LOCAL_RANK"]
    if trainer is not None and (str(trainer.num_nodes), str(trainer.devices)) != ("1", "1"):
        names += ["NODE_RANK", "SLURM_PROCID"]
    return any(os.environ.get(name, "0") != "0" for name in names)
