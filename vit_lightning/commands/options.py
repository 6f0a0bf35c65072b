"""The parser of the commands that train or use a model, and a help that begins with what one needs."""

import inspect
import re
import shutil
import textwrap
from argparse import SUPPRESS, Action, HelpFormatter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from lightning.pytorch.cli import LightningArgumentParser

from vit_lightning.models.vit import VisionTransformer

#: The options of Lightning's Trainer that the help lists without being asked for all.
COMMON = (
    *("max_epochs", "accelerator", "devices", "precision", "gradient_clip_val", "accumulate_grad_batches"),
    *("check_val_every_n_epoch", "log_every_n_steps", "callbacks", "logger"),
)

#: Options that every command has: they come after its own.
GENERAL = ("help", "help_all", "config", "print_config", "seed_everything")

#: Columns of the help at most, and where its texts begin.
WIDTH, INDENT = 100, 26


class OptionParser(LightningArgumentParser):
    """A parser whose help has the project's own options first, by what one wants to do, and Lightning's after them.

    Args:
        purpose: What the command does, in a line.
        using: Whether it uses a trained model, whose network and training are no options that one would look for.
        kwargs: Lightning's.
    """

    def __init__(self, *args: Any, purpose: str = "", using: bool = False, **kwargs: Any) -> None:  # noqa: ANN401  # argparse's
        super().__init__(*args, **kwargs)
        self.purpose = purpose
        self.using = using
        self.everything = False  # --help-all

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The help's text; it is formatted here."""
        del formatter
        width = min(WIDTH, shutil.get_terminal_size().columns)
        lines = [*textwrap.wrap(f"usage: {self.usage}", width), "", self.purpose]
        hidden = 0
        for title, actions, shown in self.sections():
            if not shown and not self.everything:
                hidden += len(actions)
                continue
            lines += ["", f"{title}:"]
            for action in actions:
                lines += describe(action, self.get_defaults().get(action.dest), width)
        if hidden:
            lines += ["", f"--help-all lists {hidden} more."]
        return "\n".join(lines) + "\n"

    def sections(self) -> Iterator[tuple[str, list[Action], bool]]:
        """Title, options and whether they are always listed."""
        network = inspect.signature(VisionTransformer).parameters
        sections: dict[str, list[Action]] = {}
        for action in self._actions:
            section, dot, name = action.dest.partition(".")
            linked = not any(option.startswith("--") for option in action.option_strings)
            if linked or action.help == SUPPRESS or (not dot and section in ("trainer", "model", "data")):
                continue
            if section == "trainer" and dot:
                section = "common" if name in COMMON else "trainer"
            elif section == "model" and dot:
                section = "network" if name in network else "training"
            sections.setdefault(section if dot else "command", []).append(action)
        for each in ("common", "command", "data", "training", "network", "trainer"):
            sections.setdefault(each, [])  # a class's own help has none of them
        sections["common"].sort(key=lambda action: COMMON.index(action.dest.partition(".")[2]))
        sections["command"].sort(key=lambda action: action.dest in GENERAL)
        yield "what this command does", sections["command"], True
        yield "which images, and who trains and who is held out", sections["data"], True
        yield "how it is trained", sections["training"], not self.using
        yield "the network", sections["network"], not self.using
        yield "how long, and on what: Lightning's Trainer", sections["common"], True
        yield "more of Lightning's Trainer", sections["trainer"], False


def describe(action: Action, default: Any, width: int) -> Iterator[str]:  # noqa: ANN401  # of any option
    """The lines of one option: its name, what it takes, what it does, and what it is if left out."""
    name = next(option for option in action.option_strings if option.startswith("--") and not option.endswith("+"))
    short = [f"{option}, " for option in action.option_strings if not option.startswith("--")]
    head = "  " + "".join(short) + f"{name} {metavar(action)}".rstrip()
    text = " ".join((action.help or "").replace("%%", "%").replace("``", "").split())
    if default is not None and default is not False and default != SUPPRESS:
        text = re.sub(r" Default: [^ ]*\.$", "", text)  # Lightning's, of which some are other ones here
        text += f" (default: {list(default) if isinstance(default, tuple) else default})"
    body = textwrap.wrap(text, width - INDENT)
    if len(head) < INDENT - 1 and body:
        head = f"{head:{INDENT}}{body.pop(0)}"
    yield head
    for line in body:
        yield " " * INDENT + line


def metavar(action: Action) -> str:
    """What stands for an option's value: the choices where there are few, else a word."""
    if action.nargs == 0:
        return ""
    hint = getattr(action, "_typehint", None)  # jsonargparse's actions have one
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if hint is bool:
        return "{true,false}"
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    word = action.metavar if isinstance(action.metavar, str) else action.dest.rpartition(".")[2].upper()
    return f"{word} ..." if action.nargs == "+" else word
