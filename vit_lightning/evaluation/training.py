"""What a report says of the training: from the record that a run keeps of itself."""

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vit_lightning.checkpoint import network_defaults
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.module import ViTClassifier
from vit_lightning.runs import Run, read_numbers, read_status

#: Names of a machine's folders and of the data, and what is told elsewhere: no settings.
LEFT_OUT = ("model.class_names", "data.root", "data.cache_dir", "trainer.default_root_dir", "trainer.precision")


@dataclass(frozen=True)
class Training:
    """How a run was trained.

    Args:
        status: What its `status.json` says.
        rows: Of its `history.csv`, an epoch each; none of a run that has no such file.
        precision: The Trainer's.
        settings: Name, value and default of each setting that differs from its default.
    """

    status: dict[str, Any]
    rows: list[dict[str, float]]
    precision: str | None
    settings: list[tuple[str, str, str]]


def read_training(folder: Path, trainer_defaults: Mapping[str, Any]) -> Training:
    """Reads the record of a run; what is missing or broken says nothing.

    Args:
        folder: The run's.
        trainer_defaults: What the commands have the Trainer do where nothing is said, beside its own defaults.
    """
    run = Run(folder, read_status(folder / "status.json"))
    sections = {name: section for name, section in run.config().items() if isinstance(section, dict)}
    return Training(
        status=run.status,
        rows=read_numbers(folder / "history.csv"),
        precision=sections.get("trainer", {}).get("precision"),
        settings=list(changed_settings(sections, trainer_defaults)),
    )


def changed_settings(
    config: Mapping[str, Mapping[str, Any]], trainer_defaults: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Name, value and default of each setting of a config that differs from today's default.

    Those whose default is not known, such as one that an older version had, are left out.
    """
    defaults = {
        "model": own_defaults(ViTClassifier) | network_defaults(),
        "data": own_defaults(ImageDataModule),
        "trainer": own_defaults(Trainer) | dict(trainer_defaults),
    }
    for section, known in defaults.items():
        for name, value in config.get(section, {}).items():
            option = f"{section}.{name}"
            if name in known and option not in LEFT_OUT and in_words(value) != in_words(known[name]):
                yield option, in_words(value), in_words(known[name])


def own_defaults(made: type) -> dict[str, Any]:
    """The arguments of a class that have a default, with it."""
    parameters = inspect.signature(made).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def in_words(value: object) -> str:
    """A setting as a reader may type it; of a path on somebody's machine the end."""
    if value is None:
        return "left out"
    if isinstance(value, str):
        path = Path(value)
        return "/".join(("…", *path.parts[-3:])) if path.is_absolute() else value
    return json.dumps(value, default=str)
