"""`runs`: lists the runs, shows one, or compares two. No torch in here: listing is quick."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_lightning.commands.line_parser import LineParser
from vit_lightning.runs import LOG_FOLDER, Run, find_checkpoint, find_run, find_runs

if TYPE_CHECKING:
    from vit_lightning.evaluation.compare import Comparison


#: Marks of the table, and what they mean.
LEAKS, UNRANKED = "*", "?"
FOOTNOTES = {
    LEAKS: "the split leaks: held-out images repeat in training or are told by their numbers; scores measure memory",
    UNRANKED: "not ranked: a run that the weights started from was trained on these images, or may have been",
}


def main(arguments: Sequence[str]) -> int:
    """`runs`, `runs show RUN` and `runs compare RUN RUN`.

    Returns:
        The exit status.

    Raises:
        ValueError: Words that are no options of it.
        FileNotFoundError: There is no such run.
    """
    parser = LineParser(prog="cli.py runs", description="List the runs, show one of them, or compare two.")
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
    """Prints all runs as a table with a section for each data set and split, the best validation accuracy first."""
    runs = find_runs(logs)
    if not runs:
        print(f"no run in {logs} yet; start one: python cli.py fit --config configs/demo.yaml")
        return
    width = shutil.get_terminal_size().columns
    groups: dict[tuple[str | None, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.comparable, []).append(run)
    # rich takes a second for 1,000 rows.
    sizes = [max(len(run.state) for run in runs), 7, 7, 6, 11]
    room = max(8, width - sum(sizes) - 2 * len(sizes))
    sizes.insert(0, min(room, max(len(run.name) for run in runs)))
    print(table_row(("run", "state", "epochs", "val ", "test", "started"), sizes)[0])
    for group in groups.values():
        print("", *textwrap.wrap(section_title(group), width), sep="\n")
        # Runs that cannot be ranked come last.
        for run in sorted(group, key=lambda run: (run.unranked, 1.0 if run.best_acc is None else -run.best_acc)):
            print(*table_row(cells_of(run), sizes), sep="\n")
    notes = {LEAKS: any(run.leaks for run in runs), UNRANKED: any(run.unranked for run in runs)}
    for mark, found in notes.items():
        if found:
            print("", *textwrap.wrap(f"{mark} {FOOTNOTES[mark]}", width, subsequent_indent="  "), sep="\n")


def section_title(runs: Sequence[Run]) -> str:
    """What the runs of a section share: data, kind of split with its identity, and how many images each part has."""
    first = next((run for run in runs if not run.is_folds), runs[0])
    data, split = (first.status.get(name) or {} for name in ("data", "split"))
    family = split.get("family") or split.get("id")
    if not data and not split:
        return "data and split not known yet" if first.state == "running" else "data and split not known"
    title = f"{data.get('name', 'data not known')}, {split.get('kind', 'split not known')}"
    title += f" {str(family)[:6]}" if family else ""
    title += f" {LEAKS}" if any(run.leaks for run in runs) else ""
    if len({(run.status.get("split") or {}).get("id") for run in runs}) > 1:
        return f"{title}: several folds"
    parts = [f"{part} {split[part]:,}" for part in ("train", "val", "test") if isinstance(split.get(part), int)]
    return title + (f": {', '.join(parts)}" if parts else "")


def cells_of(run: Run) -> tuple[str, ...]:
    """The cells of a run's row."""
    val = "" if run.best_acc is None else f"{run.best_acc:.4f}{UNRANKED if run.unranked else ' '}"
    test = run.test_acc
    epochs = "" if run.is_folds else f"{run.status.get('epochs', 0)}/{run.status.get('max_epochs', '?')}"
    started = str(run.status.get("started", ""))[5:16].replace("T", " ")
    return run.name, run.state, epochs, val, "" if test is None else f"{test:.4f}", started


def table_row(cells: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The lines of a row: names and states to the left, what are numbers to the right; a long name is folded."""
    name, *rest = cells
    first, *more = [name[start : start + sizes[0]] for start in range(0, len(name), sizes[0])]
    words = [first.ljust(sizes[0]), rest[0].ljust(sizes[1])]
    words += [cell.rjust(size) for cell, size in zip(rest[1:], sizes[2:], strict=True)]
    return ["  ".join(words).rstrip(), *more]


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
