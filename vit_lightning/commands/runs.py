"""`runs`: lists the runs, shows one, compares two, or makes room. No torch in here: listing is quick."""

from __future__ import annotations

import shutil
import textwrap
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.commands.runs_pruning import add_prune_options, prune, say
from vit_lightning.commands.runs_table import (
    SORTS,
    add_filters,
    bytes_in_words,
    chosen,
    duration,
    print_table,
    record,
    size_of,
    test_words,
    write_json,
)
from vit_lightning.progress import legible
from vit_lightning.registry import Registry, read_registry
from vit_lightning.runs import LOG_FOLDER, Run, find_checkpoint, find_run, find_runs, finite

if TYPE_CHECKING:
    from vit_lightning.evaluation.compare import Comparison

#: Of `config.yaml`, what says where a run was made rather than how.
PLACES = ("data.root", "data.cache_dir", "trainer.default_root_dir")


def main(arguments: Sequence[str]) -> int:
    """`runs`, `runs show RUN`, `runs compare RUN RUN` and `runs prune`.

    Returns:
        The exit status.

    Raises:
        ValueError: Words that are no options of it.
        FileNotFoundError: There is no such run.
    """
    options = parse(arguments)
    if options.command == "show":
        show_run(options.run, options.logdir, as_json=options.json)
    elif options.command == "compare":
        from vit_lightning.evaluation.compare import compare_runs  # numpy

        first, second = options.runs
        found = compare_runs(first, second, options.logdir)
        settings = changed_settings(find_run(first, options.logdir), find_run(second, options.logdir))
        if options.json:
            write_json(comparison_record(found, settings))
        else:
            print_comparison(found, settings)
    elif options.command == "prune":
        return prune(options)
    else:
        list_runs(options)
    return 0


def parse(arguments: Sequence[str]) -> Namespace:
    """The options.

    Raises:
        ValueError: Words that are none.
    """
    text = "List the runs, show one of them, compare two, or make room."
    parser = LineParser(prog="cli.py runs", description=text, allow_abbrev=False)
    parser.add_argument(
        "--logdir", type=Path, default=Path(LOG_FOLDER), help="the folder of runs (default: %(default)s)"
    )
    add_filters(parser)
    text = "order within a section: val (the default), test, started, time or name"
    parser.add_argument("--sort", choices=SORTS, default="val", metavar="COLUMN", help=text)
    parser.add_argument("--limit", type=whole(1), metavar="N", help="rows of a section at most")
    parser.add_argument("--wide", action="store_true", help="all columns, however wide the terminal is")
    parser.add_argument("--json", action="store_true", help="as JSON")
    commands = parser.add_subparsers(dest="command", metavar="show RUN | compare RUN RUN | prune")
    show = commands.add_parser("show", help="what one run did", allow_abbrev=False)
    show.add_argument("run", metavar="RUN", help="a run's name or folder")
    compare = commands.add_parser("compare", help="whether two tested runs really differ", allow_abbrev=False)
    text = "a run's name or folder; of folds, any of them: those with the same config are taken together"
    compare.add_argument("runs", metavar="RUN", nargs=2, help=text)
    for command in (show, compare):
        command.add_argument("--json", action="store_true", default=SUPPRESS, help="as JSON")
    pruning = commands.add_parser("prune", help="make room: what would go, and with --yes goes", allow_abbrev=False)
    add_prune_options(pruning)
    for command in (show, compare, pruning):
        command.add_argument("--logdir", type=Path, default=SUPPRESS, help="the folder of runs")
    return parser.parse_args(arguments)


def list_runs(options: Namespace) -> None:
    """Prints the runs that were asked for."""
    runs = find_runs(options.logdir)
    found = chosen(runs, options)
    if options.json:
        ordered = sorted(found, key=SORTS[options.sort])[: options.limit]
        write_json([record(run) for run in ordered])
    elif not runs:
        print(f"no run in {options.logdir} yet; start one: python cli.py fit --config configs/demo.yaml")
    elif not found:
        print(f"none of the {len(runs)} runs in {options.logdir} is such a one; `runs` without options lists them")
    else:
        print_table(found, sort=options.sort, limit=options.limit, wide=options.wide)
        if why := read_registry(options.logdir).why():
            say(why)


def show_run(run: str, logs: Path, *, as_json: bool = False) -> None:
    """Prints what one run's `status.json` says, a line a fact, and what its folder holds beside.

    Raises:
        FileNotFoundError: There is no such run.
    """
    registry = read_registry(logs)
    if run == "best":
        run = str(find_checkpoint(run, logs)[0])
    found = find_run(run, logs)
    if not found.status:
        raise FileNotFoundError(f"{found.folder} is no run: it has no status.json that can be read; `runs` lists them")
    if as_json:
        write_json(
            record(found) | {"status": found.status, "config": found.config(), "metrics": found.metrics() or None}
        )
        return
    print(legible(str(found.folder)))
    facts = [*facts_of(found), *decisions_on(found, registry)]
    indent = max(len(key) for key, _ in facts) + 4
    for key, text in facts:
        line = f"  {key:<{indent - 2}}{legible(text)}".rstrip()
        width = max(indent + 20, shutil.get_terminal_size().columns)
        print(
            textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
        )


def facts_of(run: Run) -> Iterator[tuple[str, str]]:
    """Name and text of each fact of a run."""
    for key, value in run.status.items():
        yield legible(key), in_words(key, value, run)
    if run.test_acc is not None:
        yield "tested", f"acc {test_words(run).strip()} (95 % interval)"
    kept = sorted((run.folder / "checkpoints").glob("*.ckpt"))
    if kept:
        yield "checkpoints", ", ".join(f"{path.name} {bytes_in_words(path.lstat().st_size)}" for path in kept)
    yield "disk", bytes_in_words(size_of(run.folder))


def decisions_on(run: Run, registry: Registry) -> Iterator[tuple[str, str]]:
    """What `promote` made of a run, a fact a decision."""
    for decision in registry.decisions:
        version = registry[decision["version"]]
        if (version.run, version.started) == (run.name, run.status.get("started")):
            alias = next(
                (f", {name} now" for name, number in registry.aliases.items() if registry[number] is version), ""
            )
            yield (
                f"version {version.version}",
                f"{decision['outcome']} {decision['time'][:16]}{alias}: {decision['reason']}",
            )


def in_words(key: str, value: Any, run: Run) -> str:  # noqa: ANN401  # anything that JSON holds
    """A fact of a status as one reads it."""
    if key == "state":
        where = f", as its status says, on {run.elsewhere}" if run.elsewhere else ""
        return run.state + (" (its process is gone)" if run.state != value else where)
    if key == "seconds" and finite(value) is not None:
        return f"{value:g} ({duration(finite(value))})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(str(each.get("run", each)) if isinstance(each, dict) else str(each) for each in value)
    return str(value)


# Comparing


def changed_settings(one: Run, other: Run) -> dict[str, tuple[Any, Any]]:
    """The settings in which two runs' configs differ, places on a machine left out."""
    first, second = (flat(run.config()) for run in (one, other))
    names = [name for name in {**first, **second} if name not in PLACES]
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """A config's settings by their whole names, as `model.depth`."""
    found: dict[str, Any] = {}
    for section, settings in config.items():
        if isinstance(settings, dict):
            found |= {f"{section}.{name}": value for name, value in settings.items()}
        else:
            found[str(section)] = settings
    return found


def comparison_record(found: Comparison, settings: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """A comparison for `--json`."""
    paired = None if found.paired is None else found.paired._asdict()
    told = asdict(found) | {"paired": paired, "real": found.real, "power": found.power}
    return told | {"settings": settings}


def print_comparison(found: Comparison, settings: dict[str, tuple[Any, Any]]) -> None:
    """Prints it: the two scores, their difference with its interval, and in words whether it is real."""
    grouped = "images, each by itself" if found.groups == found.images else f"images in {found.groups} groups"
    lines = [f"{found.images} {grouped}, scored by both"]
    for name, accuracy, f1 in zip(found.names, found.accuracy, found.macro_f1, strict=True):
        lines.append(f"  acc {accuracy:.4f}  macro-F1 {f1:.4f}  {name}")
    lines += [f"  {name}: {before} and {after}" for name, (before, after) in settings.items()]
    lines += found.warnings
    scores = (
        ("acc", found.accuracy, found.accuracy_difference, found.p),
        ("macro-F1", found.macro_f1, found.macro_f1_difference, None),
    )
    for score, (before, after), interval, p in scores:
        line = f"{score} {after - before:+.4f}"
        if interval is not None:
            line += f", 95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
        lines.append(line + (f", p {p:.3f}" if p is not None else ""))
    if found.accuracy_difference is None:
        lines.append("nearly all images are of one group: whether the difference is real cannot be said")
    elif found.real:
        lines.append(f"the difference is real: {found.names[int(found.accuracy[1] > found.accuracy[0])]} is better")
    else:
        lines.append("the difference may be chance")
    if found.power is not None:
        lines.append(found.power)
    print(*map(legible, lines), sep="\n")
