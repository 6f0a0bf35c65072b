"""Going on with a run: from which checkpoint, and what has to be as it was."""

import inspect
import logging
from pathlib import Path, PurePath
from typing import Any

from lightning.pytorch import Trainer

from vit_lightning.checkpoint import marked_arguments, read_checkpoint, whole_epochs
from vit_lightning.commands.run_folder import kept_labels
from vit_lightning.data.splits import read_table
from vit_lightning.data.splitting import Split
from vit_lightning.files import expanded
from vit_lightning.models.layers import FROM_START
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import Run

log = logging.getLogger(__name__)

#: The data's arguments that say who trains and who is held out.
SPLITTING = (
    *(
        "split",
        "val_fraction",
        "test_fraction",
        "block_length",
        "guard",
        "group_by",
        "fold",
        "labels",
        "keep_parts",
        "subset",
        "seed",
    ),
)


def latest_checkpoint(run: Run) -> Path | None:
    """The latest of a run's checkpoints, with a word where epochs come once more; None where it has none yet.

    Lightning's own of a SLURM job that is to be queued again, `hpc_ckpt_N.ckpt`, lies beside the folder of the others.

    Raises:
        ValueError: None of them can be read.
    """
    folder = run.folder / "checkpoints"
    epochs: dict[Path, tuple[int, int]] = {}  # whole epochs and steps of each that can be read
    for path in (folder / "last.ckpt", folder / "best.ckpt", *run.folder.glob("hpc_ckpt_*.ckpt")):
        try:
            if path.is_file():
                checkpoint = read_checkpoint(path)
                epochs[path] = whole_epochs(checkpoint), checkpoint["global_step"]
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
    done, told = epochs[latest][0], run.status.get("epochs", 0)
    if folder / "last.ckpt" not in epochs:
        again = f"; epochs {done + 1} to {told} come once more" if isinstance(told, int) and told > done else ""
        log.warning("last.ckpt is gone or damaged: going on from %s after epoch %d%s", latest.name, done, again)
    return latest


def check_start(run: Run | None, options: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ANN401  # jsonargparse's Namespace
    """Refuses to go on with what a training has from its start.

    Args:
        run: What is resumed; none where a new run goes on from another's checkpoint.
        options: The parsed ones.
        checkpoint: From which it goes on.

    Raises:
        ValueError: An argument of the model has changed; of a new run, one that the optimizer's state hangs on.
    """
    whose = f"run {run.name}" if run is not None else str(options.ckpt_path)
    defaults = inspect.signature(ViTClassifier).parameters
    for option, fixed in marked_arguments(ViTClassifier, FROM_START).items():
        before = checkpoint["hyper_parameters"].get(option, defaults[option].default)  # an older version had it not
        free = not fixed or (run is None and option in ("init_from", "ema"))
        if not free and options.model[option] != before:
            raise ValueError(
                f"{whose} began with model.{option} {before}, which cannot be changed while it goes on; leave it so, "
                "or start a new run (--model.init_from takes the weights alone)"
            )


def check_resumed(run: Run, options: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ANN401  # jsonargparse's Namespace
    """Refuses to go on where nothing is left to do, or on another split: its score would be of seen images.

    In the middle of an epoch the batches have to stay as they are, too. A run that was killed behind its last
    checkpoint has its end still to be written down.

    Args:
        run: It.
        options: The parsed ones.
        checkpoint: From which it goes on.

    Raises:
        ValueError: It cannot go on like that.
    """
    trainer, epochs = options.trainer, whole_epochs(checkpoint)
    for limit, done in (("max_epochs", epochs), ("max_steps", checkpoint["global_step"])):
        if done >= (trainer[limit] or -1) > 0 and (done > trainer[limit] or run.state == "finished"):
            raise ValueError(f"run {run.name} has done its {done} {limit[4:]}; to go on give more: --trainer.{limit} N")
    data = checkpoint["datamodule_hyper_parameters"]
    if checkpoint.get("ImageDataModule", {}).get("batches") and options.data.batch_size != data["batch_size"]:
        raise ValueError(
            f"run {run.name} was stopped within an epoch, whose batches have to stay as they are: data.batch_size is "
            f"{options.data.batch_size} (was: {data['batch_size']}); leave it out"
        )
    changed = [
        f"data.{option} {options.data[option]} (was: {data.get(option)})"
        for option in SPLITTING
        if absolute(options.data[option]) != absolute(data.get(option))
    ]
    if changed:
        raise ValueError(
            f"run {run.name} goes on with its own split, but {', '.join(changed)} was asked for; start a new run with "
            "--ckpt_path if it should learn from other images"
        )


def check_pictures(run: Run, split: Split) -> None:
    """Refuses to go on with other pictures under the same names.

    Raises:
        ValueError: The files have not the size together that they had when the run began.
    """
    before, now = (run.status.get("data") or {}).get("bytes"), split.bytes()
    if before not in (None, now):  # older runs do not say
        raise ValueError(
            f"the {len(split.samples)} pictures of run {run.name} in {split.root} have changed: {now} bytes in all, "
            f"{before} when it began; put the old ones back, or start a new run with --ckpt_path"
        )


def check_labels(run: Run, asked: str | None) -> None:
    """Refuses to go on with other labels in the same file; where the file is gone, the run's copy is enough.

    Args:
        run: It.
        asked: The file, `data.labels`.

    Raises:
        ValueError: It gives other labels than when the run began.
    """
    kept = kept_labels(run.folder)
    if kept is None or asked is None or not expanded(asked).is_file():
        return
    before, now = (
        {
            (PurePath(row["path"]), row["label"].strip())
            for _, row in read_table(Path(path), ("path", "label"), "the file")
        }
        for path in (kept, expanded(asked))
    )
    if now != before:
        changed = len({path for path, _ in now ^ before})
        raise ValueError(
            f"run {run.name} goes on with the labels it had, but {asked} has others for {changed} of the images; put "
            "the old ones back, or start a new run with --ckpt_path"
        )


def tell_schedule(run: Run, trainer: Trainer, lr: float) -> None:
    """Says how the learning rate goes on where the run gets another end than was planned."""
    planned, end, step = run.status.get("max_epochs"), trainer.max_epochs, trainer.global_step
    if planned in (None, end):
        return
    schedule: Any = trainer.lr_scheduler_configs[0].scheduler
    log.info(
        "the cosine now ends with epoch %s (planned: %s); the learning rate follows it, with %.2g in step %d",
        *(end, planned, lr * schedule.lr_lambdas[0](step), step),
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
