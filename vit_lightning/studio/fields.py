"""A form's fields, made from the parser of `fit` itself: names, types, defaults and texts stand nowhere else.

What a form says becomes the very options that `fit` is given, and is refused by the very lines.
"""

import json
import threading
import types
from argparse import SUPPRESS, Action
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch

import vit_lightning
from vit_lightning.arguments import shown
from vit_lightning.commands.fit import Fit
from vit_lightning.commands.options import OptionParser
from vit_lightning.data.sources import demo_root
from vit_lightning.studio.roots import Place

Kind = Literal["choice", "switch", "whole", "text"]

#: The groups of a form, by the titles of the parser's sections.
GROUPS = {
    "the network": "Network",
    "how it is trained": "Optimisation",
    "which images, and who trains and who is held out": "Data",
    "how long, and on what: Lightning's Trainer": "Run",
    "what this command does": "Run",
}

#: What changes the pictures, wherever it stands.
AUGMENTATION = ("data.augment", "model.cutmix")

#: Options that the pages set by themselves, that name files to be written, or code to be run.
NOT_ASKED = (
    *("config", "help", "help_all", "print_config", "run", "resume", "ckpt_path", "allow_seen", "save_every"),
    *("data.source", "data.root", "data.cache_dir", "model.class_names", "model.num_classes"),
    *("trainer.callbacks", "trainer.logger", "trainer.devices"),
)

#: Options that may name a file.
FILES = ("data.split", "data.group_by", "data.labels", "data.keep_parts", "model.init_from")

#: Of a process one form is parsed at a time: the parser is no friend of threads.
ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Field:
    """One option as a form shows it.

    Args:
        name: As on the command line, without dashes: `model.depth`.
        group: Its heading.
        kind: What it takes.
        choices: What may be chosen, '' for what may be left out.
        help: What it does.
    """

    name: str
    group: str
    kind: Kind
    choices: tuple[str, ...]
    help: str


class Draft(Fit):
    """A `fit` that is parsed and held against its data, and builds the network without memory; it leaves nothing."""

    def _set_seed(self) -> None:
        """Leaves the process's own as it is."""

    def choose_sizes(self) -> None:
        """As `fit` does, but nothing is downloaded or drawn for it.

        Raises:
            ValueError: The pictures, by which the sizes would be chosen, are not there yet.
        """
        data, model = self.options.data, self.options.model
        there = data.root is not None or (data.source == "demo" and demo_root(cache_of(data.cache_dir)).is_dir())
        if None in (model.image_size, model.patch_size) and model.init_from is None and not there:
            raise ValueError(
                f"the pictures of {data.source} are not here yet: look at them on the page Data, or give "
                "model.image_size and model.patch_size"
            )
        super().choose_sizes()

    def instantiate_classes(self) -> None:
        """The model, whose weights take no memory, and the data."""
        with torch.device("meta"):
            self.config_init = self.parser.instantiate(self.config)
        self.model, self.datamodule = self.config_init.model, self.config_init.data


class Form(Draft):
    """A `fit` that is parsed, and no more."""

    def before_instantiate_classes(self) -> None:
        """Nothing is looked at."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""


def cache_of(folder: str | None) -> Path:
    """The cache folder that the commands use."""
    import platformdirs

    return Path(folder or platformdirs.user_cache_dir("vit_lightning"))


def draft(words: Sequence[str]) -> Draft:
    """The `fit` that a form asks for.

    Raises:
        ValueError: What is wrong, as `fit` would say it.
        FileNotFoundError: A folder or run is missing.
    """
    with ONE_AT_A_TIME:
        return Draft(list(words))


@lru_cache(maxsize=16)
def form(recipe: str, changed: float) -> tuple[tuple[Field, ...], Mapping[str, str]]:
    """The fields, and each one's text in a recipe.

    Args:
        recipe: A config.
        changed: When the file was changed.

    Raises:
        ValueError: The config is none.
    """
    del changed  # it is part of what is remembered
    with ONE_AT_A_TIME:
        parsed = Form([f"--config={recipe}"])
    assert isinstance(parsed.parser, OptionParser), "its parser_class"
    fields = []
    for title, actions, _ in parsed.parser.sections():
        group = GROUPS.get(title)
        for action in actions if group else []:
            if action.dest not in NOT_ASKED and action.help != SUPPRESS:
                fields.append(field_of(action, "Augmentation" if action.dest in AUGMENTATION else str(group)))
    texts = {field.name: text_of(parsed.config[field.name]) for field in fields}
    # A stepper has no way to say that a number is left out.
    fields = [replace(each, kind="text") if each.kind == "whole" and not texts[each.name] else each for each in fields]
    return tuple(fields), texts


def field_of(action: Action, group: str) -> Field:
    """The field of one of the parser's options."""
    hint = plain_type(getattr(action, "_typehint", None) or action.type or str)
    parts = [plain_type(part) for part in get_args(hint)] if get_origin(hint) in (Union, types.UnionType) else [hint]
    optional = type(None) in parts
    parts = [part for part in parts if part is not type(None)]
    text = " ".join((action.help or "").replace("%%", "%").replace("``", "`").split())
    kind: Kind = "text"
    choices: list[str] = []
    if len(parts) == 1 and get_origin(parts[0]) is Literal:
        kind, choices = "choice", [*([""] if optional else []), *map(str, get_args(parts[0]))]
    elif parts == [bool] and not optional:
        kind = "switch"
    elif parts == [int] and not optional:
        kind = "whole"
    return Field(action.dest, group, kind, tuple(choices), text)


def plain_type(hint: Any) -> Any:  # noqa: ANN401  # a type, of which there are many kinds
    """A type without its remarks."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def text_of(value: object) -> str:
    """A value as the command line takes it; '' where it is left out."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)


def words_of(recipe: Path | str, before: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    """The options of `fit` for a form: the recipe, and what was changed of it.

    Args:
        recipe: The config.
        before: Each field's text in it.
        asked: Each field's text in the form; names that are no fields are options of their own.
    """
    changed = [(name, text) for name, text in asked.items() if text != before.get(name, "")]
    return [f"--config={recipe}", *(f"--{name}={text or 'null'}" for name, text in changed)]


def check_paths(asked: Mapping[str, str], place: Place) -> None:
    """Refuses options that name a file outside the roots, or a class.

    Raises:
        ValueError: The option and its file.
    """
    for name, text in asked.items():
        if "class_path" in text:  # a class of any module, which would be imported
            raise ValueError(f"{name} is {shown(text)}; expected a number or a word")
    for name in FILES:
        text = asked.get(name, "")
        file = f"{text.partition('.csv:')[0]}.csv" if ".csv:" in text else text
        named = file.endswith((".csv", ".ckpt", ".safetensors")) or (name == "model.init_from" and "/" in file)
        if named and not (place.roots.holds(file) or inside_logs(file, place)):
            raise ValueError(f"{name}: {file!r} lies outside {place.roots.words()} and the runs in {place.logs}")


def check_grid(lines: Sequence[str], names: Sequence[str], place: Place) -> None:
    """Refuses a sweep over what a form does not ask for, or over files outside the roots.

    Raises:
        ValueError: The line.
    """
    for line in lines:
        name, equals, values = line.partition("=")
        if not equals or name not in names:
            raise ValueError(
                f"{shown(line)} varies no field of this page; give an option and its values: model.depth=3,4"
            )
        for value in values.split(","):
            check_paths({name: value.strip()}, place)


def inside_logs(file: str, place: Place) -> bool:
    """Whether a file is of a run."""
    try:
        return Path(file).resolve().is_relative_to(place.logs.resolve())
    except (OSError, ValueError):
        return False


def recipes() -> dict[str, Path]:
    """The configs by name: of the working folder, else those beside the package.

    Raises:
        FileNotFoundError: There are none.
    """
    for folder in (Path("configs"), Path(vit_lightning.__file__).parent.parent / "configs"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    raise FileNotFoundError(
        "there is no configs/*.yaml here; start the studio in the project's folder, or copy it here"
    )
