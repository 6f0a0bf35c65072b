"""What the commands share that train or use a model: parsing, the checkpoint, and a Trainer that suits the machine."""

import argparse
import logging
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import platformdirs
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, distributed

from vit_lightning.arguments import both_sides, check_number, shown
from vit_lightning.callbacks.checkpoints import AtomicCheckpointIO
from vit_lightning.callbacks.signals import GracefulStop
from vit_lightning.callbacks.terminal import EpochBar
from vit_lightning.checkpoint import (
    binding_arguments,
    changed_arguments,
    check_training,
    check_weights,
    read_checkpoint,
    saved_sizes,
)
from vit_lightning.cli_errors import check_configs, explain
from vit_lightning.commands.options import OptionParser
from vit_lightning.commands.resuming import absolute
from vit_lightning.commands.run_folder import kept_labels
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.sources import find_classes, picture_size
from vit_lightning.files import expanded
from vit_lightning.hardware import PRECISION_VARIABLE, check_accelerator, fitting_precision, keep_memory
from vit_lightning.models.sizes import fitting_sizes
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import is_terminal, set_up_logging
from vit_lightning.runs import LOG_FOLDER, find_checkpoint
from vit_lightning.tracking.store import check_tracker

log = logging.getLogger(__name__)

#: The model's arguments that say what it is given: the data's of the same name follow.
LINKED = ("image_size", "in_channels")

TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "max_epochs": 50,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
}


#: The Trainer's numbers with the least that each may be, and whether it has to be a whole one.
TRAINER_NUMBERS = (
    *((name, -1, True) for name in ("max_epochs", "max_steps", "num_sanity_val_steps")),
    *((name, 0, True) for name in ("min_epochs", "min_steps", "reload_dataloaders_every_n_epochs")),
    *((name, 0, True) for name in ("log_every_n_steps",)),
    *((name, 1, True) for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes")),
    ("gradient_clip_val", 0, False),
)

#: The Trainer's options that take a share of all batches, or a number of them.
TRAINER_SHARES = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("overfit_batches", "val_check_interval", "fast_dev_run"),
)


class ModelCommand(LightningCLI):
    """A LightningCLI over `ViTClassifier` and `ImageDataModule`; each command is a subclass with its own deed.

    The constructor parses, lets the checkpoint's hyper-parameters be the defaults, and builds model, data and Trainer;
    `execute` does the deed. LightningCLI's own subcommands are not used: they build the parsers of all commands for
    one of them, and know Trainer's methods only.

    Args:
        arguments: What follows the command's name.
    """

    name: ClassVar[str]
    purpose: ClassVar[str]
    #: Whether it uses a trained model, and so needs a checkpoint.
    using: ClassVar[bool] = False

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.run_folder: Path | None = None  # of the run that the checkpoint belongs to
        self.saved: tuple[Path, dict[str, Tensor]] | None = None  # the checkpoint and its weights, until looked at
        check_configs(self.arguments)
        super().__init__(
            ViTClassifier,
            ImageDataModule,
            args=self.arguments,
            save_config_callback=None,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=0,
            parser_class=OptionParser,
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "purpose": self.purpose,
                "using": self.using,
                "usage": f"cli.py {self.name} [--config FILE ...] [--SECTION.OPTION VALUE ...]",
            },
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    # What a command adds

    def add_options(self, parser: LightningArgumentParser) -> None:
        """Adds the options of this command alone."""

    def own_callbacks(self) -> list[Callback]:
        """Callbacks of this command beside those of all."""
        return []

    def trainer_settings(self) -> dict[str, Any]:
        """What this command has the Trainer be built with, whatever was asked for."""
        return {"enable_checkpointing": False}

    def execute(self) -> int:
        """Does what the command is for; gives the exit status."""
        raise NotImplementedError

    # Parsing

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The options of this command and of several; the pictures are those that the model wants."""
        parser.add_argument("--help-all", action="store_true", help="Show this help with all options of Lightning's.")
        self.add_options(parser)
        # A config may hold these whatever it is given to.
        training = self.name == "fit"
        text = "Minutes between two saves of last.ckpt within an epoch: what a power cut may cost."
        parser.add_argument("--save_every", type=float, default=5.0, help=text if training else argparse.SUPPRESS)
        text = "Stop early after so many epochs without a better val/acc; left out, all epochs are done."
        parser.add_argument("--patience", type=int, default=None, help=text if training else argparse.SUPPRESS)
        tracked = self.name in ("fit", "test")
        text = "Where else the run is kept: `mlflow`, in lightning_logs/mlflow.db or what MLFLOW_TRACKING_URI says."
        text = text if tracked else argparse.SUPPRESS
        parser.add_argument("--tracker", type=Literal["mlflow"] | None, default=None, help=text)
        # An image size that is left out is chosen later, for both.
        parser.link_arguments(
            "model.image_size", "data.image_size", compute_fn=lambda size: 1 if size is None else size
        )
        parser.link_arguments("model.in_channels", "data.in_channels")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401  # Lightning's signature
        """Parses without Lightning's warning that `sys.argv` has words too.

        Raises:
            ValueError: An option that does not exist, or a value that does not fit.
        """
        if "--help-all" in args:
            assert isinstance(parser, OptionParser), "the parser_class above"
            parser.everything = True
            args = ["--help"]
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError as error:
            options = [
                option for action in parser._actions for option in action.option_strings if option.startswith("--")
            ]
            raise ValueError(explain(str(error), options)) from error
        seed = self.config.seed_everything
        if not isinstance(seed, bool):
            check_number("seed_everything", seed, least=0, most=2**32 - 1, whole=True)

    @property
    def options(self) -> Any:  # noqa: ANN401  # jsonargparse's Namespace: attributes by the parser's making
        """The parsed options."""
        return self.config

    @property
    def further(self) -> bool:
        """Whether another process keeps this run's record."""
        return is_further_process(self.options.trainer)

    @property
    def logs(self) -> Path:
        """The folder of runs."""
        return Path(self.options.trainer.default_root_dir or ".") / LOG_FOLDER

    def find_checkpoint(self) -> Path | None:
        """The checkpoint that the command begins with, if any."""
        return None

    def _parse_ckpt_path(self) -> None:
        """Makes the checkpoint's hyper-parameters the defaults and parses again, so that flags and configs win.

        Lightning's own way lets the checkpoint override explicit flags, and evaluates random weights where a
        checkpoint is not found.
        """
        path = self.find_checkpoint()
        if path is None:
            return
        checkpoint = read_checkpoint(path)
        if not self.using:
            check_training(path, checkpoint)
        saved, data = checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"]
        defaults = {f"model.{name}": value for name, value in saved.items()}
        defaults |= {f"data.{name}": value for name, value in data.items() if name not in LINKED}
        if self.using and path.parent.name == "checkpoints":
            self.run_folder = path.parent.parent
            used_split = self.run_folder / "split.csv"
            if used_split.is_file():  # images that came to the folder since then stay out of the score
                defaults |= {"data.split": str(used_split), "data.subset": None}
            if (kept := kept_labels(self.run_folder)) is not None:  # what it was trained with, whatever became of it
                defaults["data.labels"] = kept
        try:
            self.parser.set_defaults(defaults)
        except KeyError as error:  # an option that this version does not know
            raise ValueError(f"{path} was written by another version of this project: {error.args[0]}") from error
        try:
            self.parse_arguments(self.parser, self.arguments)
        except ValueError as error:  # what was asked for is sound: it was parsed before
            raise ValueError(f"the settings that {path} brings along are none: {error}") from error
        self.options.ckpt_path = str(path)
        model = self.options.model.as_dict()
        model["num_classes"] = model["num_classes"] or saved["num_classes"]  # left out: the classes'
        changed = changed_arguments(model, saved, [*binding_arguments(), "class_names"])
        if changed:  # some would load without an error and be another network
            words = ", ".join(f"{name} {model[name]} (saved: {saved.get(name)})" for name in changed)
            raise ValueError(f"the weights in {path} belong to another model than asked for: {words}")
        self.take_checkpoint(checkpoint)
        self.saved = path, checkpoint["state_dict"]

    def take_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Looks at the checkpoint before anything is built."""

    # Building

    def before_instantiate_classes(self) -> None:
        """Paths as they are from any working folder, and the classes: the data's, or the model's held against them."""
        if self.further:
            set_up_logging(quiet=True)
        check_tracker(self.options.tracker)
        model, data = self.options.model, self.options.data
        check_trainer(self.options.trainer)
        if data.root == "":
            raise ValueError("data.root is empty; give the folder that holds the class folders")
        for name in ("root", "cache_dir"):
            if data[name] is not None:
                data[name] = str(expanded(data[name]).resolve())
        for name in ("split", "group_by", "labels", "keep_parts"):
            data[name] = absolute(data[name])
        if not self.needs_data():
            return
        found = find_classes(data.source, data.root, self.labels(), self.cache_dir)
        if model.class_names is None:
            model.class_names = found
        elif list(model.class_names) != found:
            raise ValueError(
                f"the model's classes are {', '.join(model.class_names)}, but the data's are {', '.join(found)}; give "
                "the data that belongs to the model, or leave model.class_names out to train a new one"
            )
        self.choose_sizes()

    def labels(self) -> str | None:
        """The file of labels that counts, if any."""
        asked: str | None = self.options.data.labels
        return asked

    @property
    def cache_dir(self) -> Path:
        """Where downloads and drawn frames are kept."""
        return expanded(self.options.data.cache_dir or platformdirs.user_cache_dir("vit_lightning"))

    def choose_sizes(self) -> None:
        """Has image and patch size that were left out be those of the weights to start from, or fit the pictures."""
        model, data = self.options.model, self.options.data
        left_out = [name for name in ("image_size", "patch_size") if model[name] is None]
        if left_out and model.init_from is not None:
            theirs = saved_sizes(Path(model.init_from))
            for name in left_out:
                model[name] = theirs[name]
        elif left_out:
            pictures = picture_size(data.source, data.root, self.cache_dir, self.labels()) or (224, 224)
            model.image_size, model.patch_size = fitting_sizes(
                pictures, model.image_size, model.patch_size, stem=model.stem
            )
            shown = "x".join(map(str, both_sides("model.image_size", model.image_size)))
            log.info(
                "pictures of %dx%d (height x width): image size %s, patch size %d", *pictures, shown, model.patch_size
            )
        data.image_size = model.image_size

    def needs_data(self) -> bool:
        """Whether the data set has to be there."""
        return True

    def find_initial_weights(self) -> None:
        """Has `model.init_from` be a path of weights, also where a run was named.

        Raises:
            FileNotFoundError: There are none.
        """
        asked = self.options.model.init_from
        if asked is None:
            return
        path = expanded(asked)
        try:
            if path.suffix != ".safetensors":
                path = find_checkpoint(asked, self.logs)[0]
            elif not path.is_file():
                raise FileNotFoundError(f"the weights {path} do not exist")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"model.init_from: {error}") from error
        self.options.model.init_from = str(path.resolve())

    def instantiate_classes(self) -> None:
        """As Lightning does, with its mistakes in plain words.

        Raises:
            ValueError: A callback or logger that cannot be built, among others.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            if "Union subtypes" not in str(error):
                raise
            raise ValueError(explain(str(error), [])) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401  # Lightning's signature
        """The Trainer, with the precision and the progress bar that suit where it runs."""
        self.check_saved()
        asked = self.config_init.trainer
        settings: dict[str, Any] = {"enable_model_summary": False, "logger": asked.logger or False}
        plugins = asked.plugins if isinstance(asked.plugins, list) else [asked.plugins]
        if asked.precision is None and not any(isinstance(plugin, Precision) for plugin in plugins):
            told = os.environ.get(PRECISION_VARIABLE) if self.further else None
            precision = told or fitting_precision(asked.accelerator)
            settings["precision"] = self.options.trainer.precision = os.environ[PRECISION_VARIABLE] = precision
        settings["plugins"] = [*(plugin for plugin in plugins if plugin is not None), AtomicCheckpointIO()]
        callbacks = self.own_callbacks()
        if not any(isinstance(callback, GracefulStop) for callback in callbacks):
            callbacks.insert(0, GracefulStop())
        if not is_terminal():
            settings["enable_progress_bar"] = False
        elif asked.enable_progress_bar is not False:
            callbacks.insert(0, EpochBar())
        self.trainer_defaults["callbacks"] = callbacks
        try:
            trainer = super().instantiate_trainer(**settings | self.trainer_settings(), **kwargs)
        except TypeError as error:  # how Lightning refuses values of a wrong type
            raise ValueError(f"the trainer cannot be built: {error}") from error
        self.datamodule.device_batch_size(trainer.world_size)
        return trainer

    def check_saved(self) -> None:
        """Refuses a checkpoint whose weights the network does not have; who uses a trained model gets them here.

        Raises:
            ValueError: It says which.
        """
        if self.saved is not None:
            check_weights(*self.saved, self.model)
            if self.using:  # Lightning would want all that a training goes on with
                self.model.load_state_dict(self.saved[1])
            self.saved = None

    def load_split(self, stage: str) -> None:
        """Lists and splits the images before the Trainer does, to say early what is missing."""
        if not self.further:
            self.datamodule.prepare_data()
        self.datamodule.setup(stage)


def check_trainer(asked: Any) -> None:  # noqa: ANN401  # jsonargparse's Namespace
    """Refuses what Lightning would find later, or answer with a trace.

    Raises:
        ValueError: The option and what it may be.
    """
    check_accelerator(asked.accelerator)
    for option, least, whole in TRAINER_NUMBERS:
        most = 2**31 - 1 if whole else 1e30
        check_number(f"trainer.{option}", asked[option], least=least, most=most, whole=whole, optional=True)
    for option in TRAINER_SHARES:
        value, least = asked[option], int(option == "val_check_interval")
        if isinstance(value, float):
            check_number(f"trainer.{option}", value, least=0, most=1)
        elif isinstance(value, int) and not isinstance(value, bool):  # of batches
            check_number(f"trainer.{option}", value, least=least, most=2**31 - 1, whole=True)
    if isinstance(asked.max_time, str) and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", asked.max_time.strip()):
        raise ValueError(f"trainer.max_time is {shown(asked.max_time)}; expected DD:HH:MM:SS, as in 00:08:00:00")
    if isinstance(asked.devices, int) and asked.accelerator == "cpu":  # a process each: thousands are a machine's end
        check_number("trainer.devices", asked.devices, least=1, most=max(8, os.cpu_count() or 1), whole=True)
    if asked["detect_anomaly"] is None:  # a config's null, which torch would answer with a trace
        raise ValueError("trainer.detect_anomaly is None; expected true or false")
    if asked.gradient_clip_algorithm not in (None, "norm"):
        raise ValueError(f"trainer.gradient_clip_algorithm is {asked.gradient_clip_algorithm}; expected norm")


def run_command(command: type[ModelCommand], arguments: Sequence[str]) -> int:
    """Builds a command and does its deed.

    Returns:
        The exit status.

    Raises:
        ValueError: A mistake in what was asked.
        FileNotFoundError: A run, an image or the data is missing.
    """
    set_up_logging(quiet=is_further_process())
    keep_memory()
    try:
        status = command(arguments).execute()
    except SIGTERMException:
        return 128 + signal.SIGTERM
    except SystemExit as end:
        if end.code == 1:  # how Lightning ends after Ctrl-C; --help ends with 0
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValueError(
            "a loader process died, which mostly is for want of memory; ask for fewer, as --data.num_workers 0"
        ) from error
    # Lightning ends NCCL's group alone. Gloo's threads can abort the interpreter while it ends (pytorch #179291). After
    # a failure another process may be in the midst of an exchange, for which this would wait.
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    return status


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
