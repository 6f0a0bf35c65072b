"""`runs`: lists the runs, shows one, or compares two. No torch in here: listing is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vit_lightning.runs import LOG_FOLDER, Run, find_checkpoint, find_run, find_runs

if TYPE_CHECKING:
    from vit_lightning.evaluation.compare import Comparison


class Parser(argparse.ArgumentParser):
    """Gives mistakes to whoever shows them as a line."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print with its usage."""
        raise ValueError(f"{message}; see `runs --help`")


def main(arguments: Sequence[str]) -> int:
    """`runs`, `runs show RUN` and `runs compare RUN RUN`.

    Returns:
        The exit status.

    Raises:
        ValueError: Words that are no options of it.
        FileNotFoundError: There is no such run.
    """
    parser = Parser(prog="cli.py runs", description="List the runs, show one of them, or compare two.")
    parser.add_argument(
        "--logdir", type=Path, default=Path(LOG_FOLDER), help="the folder of runs (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="command", metavar="show RUN | compare RUN RUN")
    show = commands.add_parser("show", help="what one run did")
    show.add_argument("run", metavar="RUN", help="a run's name or folder")
    compare = commands.add_parser("compare", help="whether two runs that were tested really differ")
    text = "a run's name or folder; of folds, any of them: those with the same config are taken together"
    compare.add_argument("runs", metavar="RUN", nargs=2, help=text)
    options = parser.parse_args(arguments)
    if options.command == "show":
        show_run(options.run, options.logdir)
    elif options.command == "compare":
        from vit_lightning.evaluation.compare import compare_runs  # numpy

        print_comparison(compare_runs(options.runs[0], options.runs[1], options.logdir))
    else:
        print_runs(options.logdir)
    return 0


def print_runs(logs: Path) -> None:
    """Prints all runs as a table, grouped by data and kind of split, best validation accuracy first."""
    from rich import box, get_console
    from rich.table import Table
    from rich.text import Text

    runs = find_runs(logs)
    console = get_console()
    if not runs:
        console.print(f"no run in {logs} yet; start one: python cli.py fit --config configs/demo.yaml", soft_wrap=True)
        return
    groups: dict[tuple[str | None, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.comparable, []).append(run)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("run", overflow="fold", width=min(20, max(3, *(len(run.name) for run in runs))))
    table.add_column("state", no_wrap=True)
    table.add_column("data", overflow="fold")
    table.add_column("split", overflow="fold")
    for column in ("epochs", "val/acc", "started"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in groups.values():
        for run in sorted(group, key=lambda run: -1.0 if run.best_acc is None else run.best_acc, reverse=True):
            data, split = run.status.get("data") or {}, run.status.get("split") or {}
            accuracy = "" if run.best_acc is None else f"{run.best_acc:.4f}"
            epochs = f"{run.status.get('epochs', 0)}/{run.status.get('max_epochs', '?')}"
            started = str(run.status.get("started", ""))[5:16].replace("T", " ")
            cells = (run.name, run.state, data.get("name", ""), split.get("kind", ""), epochs, accuracy, started)
            table.add_row(*(Text(str(cell)) for cell in cells))
        table.add_section()
    console.print(table)


def show_run(run: str, logs: Path) -> None:
    """Prints what one run's `status.json` says, a line a fact.

    Raises:
        FileNotFoundError: There is no such run.
    """
    from rich import get_console

    if run == "best":
        run = str(find_checkpoint(run, logs)[0])
    found = find_run(run, logs)
    if not found.status:
        raise FileNotFoundError(f"{found.folder} is no run: it has no status.json that can be read; `runs` lists them")
    get_console().print(str(found.folder), soft_wrap=True, highlight=False, markup=False)
    for key, value in found.status.items():
        text = ", ".join(f"{name} {entry}" for name, entry in value.items()) if isinstance(value, dict) else value
        get_console().print(f"  {key:<11} {text}", soft_wrap=True, highlight=False, markup=False)


def print_comparison(found: Comparison) -> None:
    """Prints it: the two scores, their difference with its interval, and in words whether it is real."""
    from rich import get_console

    def show(text: str) -> None:
        get_console().print(text, soft_wrap=True, highlight=False, markup=False)

    grouped = "images, each by itself" if found.groups == found.images else f"images in {found.groups} groups"
    show(f"{found.images} {grouped}, scored by both")
    for name, accuracy, f1 in zip(found.names, found.accuracy, found.macro_f1, strict=True):
        show(f"  acc {accuracy:.4f}  macro-F1 {f1:.4f}  {name}")
    for warning in found.warnings:
        show(warning)
    scores = (
        ("acc", found.accuracy, found.accuracy_difference, found.p),
        ("macro-F1", found.macro_f1, found.macro_f1_difference, None),
    )
    for score, (before, after), interval, p in scores:
        line = f"{score} {after - before:+.4f}"
        if interval is not None:
            line += f", 95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
        show(line + (f", p {p:.3f}" if p is not None else ""))
    if found.accuracy_difference is None:
        show("nearly all images are of one group: whether the difference is real cannot be said")
    elif found.real:
        show(f"the difference is real: {found.names[int(found.accuracy[1] > found.accuracy[0])]} is better")
    else:
        show("the difference may be chance")
    if found.power is not None:
        show(found.power)
