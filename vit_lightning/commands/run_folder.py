"""The folder of a run that is being trained: taken by one process alone, and what is written before the first step."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from vit_lightning.data.scan import write_unreadable
from vit_lightning.data.splits import write_split
from vit_lightning.data.splitting import Split
from vit_lightning.files import expanded, write_text
from vit_lightning.runs import new_run_folder, run_stem

#: Through this the processes that Lightning starts for further devices learn the run's folder.
RUN_FOLDER_VARIABLE = "VIT_LIGHTNING_RUN_FOLDER"

#: The copy of `data.labels`: the file itself goes on changing.
LABELS = "labels.csv"


class RunFolder:
    """A run's folder, which no other process may train in meanwhile.

    Args:
        path: An existing folder.
        new: Whether it goes away again when nothing has run in it.

    Raises:
        ValueError: Another process trains the run, or the folder cannot be written.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path = path
        self.new = new
        self.lock = FileLock(path / ".lock")
        try:
            self.lock.acquire(blocking=False)  # the system lets go of it however the process ends
        except Timeout:
            raise ValueError(f"run {path.name} is being trained by another process; wait for it, or stop it") from None
        except OSError as error:
            raise ValueError(
                f"the run's folder {path} cannot be written ({error.strerror}); copy it elsewhere"
            ) from error
        os.environ[RUN_FOLDER_VARIABLE] = str(path)

    def close(self) -> None:
        """Lets other processes in; a new folder in which nothing has run goes away."""
        self.lock.release()
        Path(self.lock.lock_file).unlink(missing_ok=True)
        if self.new:
            shutil.rmtree(self.path)

    def describe(self, config: str, split: Split) -> None:
        """Writes what is known before the first step: config, split and classes."""
        write_text(self.path / "config.yaml", config)  # other processes of the run may be reading the old one
        write_split(self.path / "split.csv", split.samples)
        if split.settings.labels not in (None, kept_labels(self.path)):
            write_text(self.path / LABELS, expanded(str(split.settings.labels)).read_text(encoding="utf-8-sig"))
        if split.unreadable:
            table = self.path / "unreadable.csv"
            write_unreadable(table, split.unreadable, append=table.is_file())  # of a resumed run
        mapping = {str(index): name for index, name in enumerate(split.class_names)}
        write_text(self.path / "class_mapping.json", json.dumps(mapping, indent=2) + "\n")


def kept_labels(run: Path) -> str | None:
    """The file of labels that a run was trained with, as it keeps it; None where it had none."""
    path = (run / LABELS).resolve()
    return str(path) if path.is_file() else None


def make_run_folder(logs: Path, name: str | None, configs: Sequence[Path]) -> RunFolder:
    """The folder of a new run: `name`, or the first config's name and a number.

    Raises:
        ValueError: The name is taken or no plain name, or the folder cannot be made.
    """
    try:
        path = new_run_folder(logs, name, run_stem(configs))
    except OSError as error:
        raise ValueError(
            f"runs cannot be kept in {logs.absolute()} ({error.strerror}); give another folder with "
            "--trainer.default_root_dir"
        ) from error
    return RunFolder(path, new=True)
