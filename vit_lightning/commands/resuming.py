"""Going on with a run: from which checkpoint, and with what it has to be as it was."""

import logging
from pathlib import Path
from typing import Any

from vit_lightning.checkpoint import marked_arguments, read_checkpoint
from vit_lightning.files import expanded
from vit_lightning.models.layers import FROM_START
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import Run

log = logging.getLogger(__name__)

#: The data's arguments that say who trains and who is held out.
SPLITTING = ("split", "val_fraction", "test_fraction", "block_length", "guard", "group_by", "fold", "subset", "seed")


def latest_checkpoint(run: Run) -> Path | None:
    """The later of a run's two checkpoints, with a word where epochs come once more; None where it has none yet.

    Raises:
        ValueError: None of them can be read.
    """
    folder = run.folder / "checkpoints"
    epochs: dict[Path, tuple[int, int]] = {}  # steps and whole epochs of each that can be read
    for path in (folder / "last.ckpt", folder / "best.ckpt"):
        try:
            if path.is_file():
                checkpoint = read_checkpoint(path)
                epochs[path] = checkpoint["global_step"], checkpoint["epoch"] + 1
        except ValueError as error:
            log.warning("%s", error)
    if not epochs:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"no checkpoint in {folder} can be read; start a new run with fit --config {run.folder / 'config.yaml'}"
            )
        log.warning("run %s has no checkpoint yet: it starts from the beginning", run.name)
        return None
    latest = max(epochs, key=lambda path: epochs[path])  # after a kill between the two, best is the later one
    done, told = epochs[latest][1], run.status.get("epochs", 0)
    if folder / "last.ckpt" not in epochs:
        again = f"; epochs {done + 1} to {told} come once more" if isinstance(told, int) and told > done else ""
        log.warning("last.ckpt is gone or damaged: going on from %s after epoch %d%s", latest.name, done, again)
    return latest


def check_resumed(run: str, options: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ANN401  # jsonargparse's Namespace
    """Refuses to go on where nothing is left to do, or on another split: its score would be of seen images.

    Args:
        run: Its name, for messages.
        options: The parsed ones.
        checkpoint: From which it goes on.

    Raises:
        ValueError: It cannot go on like that.
    """
    trainer, epochs = options.trainer, checkpoint["epoch"] + 1
    for limit, done in (("max_epochs", epochs), ("max_steps", checkpoint["global_step"])):
        if done >= (trainer[limit] or -1) > 0:
            raise ValueError(f"run {run} has done its {done} {limit[4:]}; to go on give more: --trainer.{limit} N")
    model = checkpoint["hyper_parameters"]
    for option, fixed in marked_arguments(ViTClassifier, FROM_START).items():
        if fixed and options.model[option] != model[option]:
            raise ValueError(
                f"run {run} began with model.{option} {model[option]}, which cannot be changed while it goes on; "
                "leave it out, or start a new run"
            )
    data = checkpoint["datamodule_hyper_parameters"]
    changed = [
        f"data.{option} {options.data[option]} (was: {data.get(option)})"
        for option in SPLITTING
        if absolute(options.data[option]) != absolute(data.get(option))
    ]
    if changed:
        raise ValueError(
            f"run {run} goes on with its own split, but {', '.join(changed)} was asked for; start a new run with "
            "--ckpt_path if it should learn from other images"
        )


def absolute(split: object) -> object:
    """A file of parts or groups by its whole path; kinds of split, and all else, as they are."""
    if not isinstance(split, str):
        return split
    file, colon, column = split.partition(".csv:")
    if colon or split.endswith(".csv"):
        file = file if colon else split.removesuffix(".csv")
        return f"{expanded(f'{file}.csv').resolve()}{':' * bool(colon)}{column}"
    return split
