"""`runs prune`: which runs or checkpoints would go, how much room that makes, and with `--yes` their removal."""

import shutil
import textwrap
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from vit_lightning.commands.line_parser import whole
from vit_lightning.commands.runs_table import (
    SORTS,
    UNRANKED,
    add_filters,
    bytes_in_words,
    chosen,
    sections_of,
    size_of,
)
from vit_lightning.progress import legible
from vit_lightning.registry import protected, read_registry
from vit_lightning.runs import Run, find_run, find_runs

#: What a folder's name ends with while it is being removed; it begins with a dot, and is no run any more.
GOING = ".pruned"


def add_prune_options(parser: ArgumentParser) -> None:
    """The options of `prune`; what `runs` was given before the word counts, too."""
    parser.description = (
        "Lists which runs would go and how much room that makes; --yes removes them. Never a running one or a "
        "champion, and none that others started from, unless asked for with --ancestors."
    )
    parser.add_argument("runs", metavar="RUN", nargs="*", help="runs that may go: names or folders")
    add_filters(parser)
    text = "of each data set and split, all finished runs may go but the N of the highest val/acc"
    parser.add_argument("--keep-best", type=whole(1), metavar="N", help=text)
    parser.add_argument("--checkpoints", action="store_true", help="only the checkpoints go, the records stay")
    parser.add_argument("--ancestors", action="store_true", help="also runs that others started from, or consist of")
    parser.add_argument("--yes", action="store_true", help="remove them")
    for action in parser._actions:
        if action.dest in ("state", "data", "split", "name"):
            action.default = SUPPRESS


def prune(options: Namespace) -> int:
    """Lists what would go, or removes it.

    Returns:
        The exit status: 1 where something could not be removed.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: It was not said which runs may go.
    """
    only_checkpoints = options.checkpoints
    everything = find_runs(options.logdir)
    going, kept = choose(everything, options)
    versions = protected(read_registry(options.logdir))
    kept |= {run.name: versions[run.name] for run in going if run.name in versions}
    going = [run for run in going if run.name not in versions]
    if not only_checkpoints:
        needed = dict(needed_by_others(everything, going))
        if options.ancestors:
            for run in (run for run in going if run.name in needed):
                say(f"{run.name} goes although {needed[run.name]}")
        else:
            kept |= needed
            going = [run for run in going if run.name not in needed]
    for reason in dict.fromkeys(kept.values()):
        say(f"kept, since {reason}: {', '.join(name for name in kept if kept[name] == reason)}")
    left = [] if only_checkpoints else [path for path in options.logdir.glob(f".*{GOING}") if path.is_dir()]
    rows = [(run, weight(run, only_checkpoints=only_checkpoints)) for run in going]
    rows = [(run, size) for run, size in rows if size or not only_checkpoints]
    if not rows and not left:
        print("nothing to remove")
        return 0
    freed, failed = sum(size_of(path) for path in left), 0
    for run, size in rows:
        trouble = remove(run, only_checkpoints=only_checkpoints) if options.yes else None
        verb = "would go" if not options.yes else "kept" if trouble else "removed"
        val = "" if run.best_acc is None else f"{run.best_acc:.4f}" + UNRANKED * run.unranked
        line = f"{verb:8}  {bytes_in_words(size):>7}  {run.state:11}  {val:7}  {legible(run.name)}"
        print(line + (f": {trouble}" if trouble else ""), flush=True)
        freed, failed = freed + (0 if trouble else size), failed + bool(trouble)
    gone = len(rows) - failed
    words = f"{'checkpoints of ' * only_checkpoints}{gone} run{'s' * (gone != 1)}, {bytes_in_words(freed)}"
    words += f", {len(left)} left over from a prune that was broken off" if left else ""
    if options.yes:
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        say(f"removed: {words}")
    else:
        say(f"{words}: nothing was removed yet; repeat with --yes to remove them for good")
        if only_checkpoints:
            say("without a checkpoint a run cannot be resumed, tested or predicted with; its record and scores stay")
    return 1 if failed else 0


def say(line: str) -> None:
    """Prints a line, folded at the terminal's width."""
    width = shutil.get_terminal_size().columns
    print(textwrap.fill(legible(line), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


def choose(everything: Sequence[Run], options: Namespace) -> tuple[list[Run], dict[str, str]]:
    """The runs that were asked for, and those of them that stay all the same, with the reason.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: It was not said which runs may go.
    """
    asked = (options.runs, options.state, options.name, options.data, options.split, options.keep_best is not None)
    if not any(asked):
        raise ValueError(
            "prune has to be told which runs may go: their names, --state failed,interrupted, --name GLOB, --data "
            "GLOB, --split GLOB or --keep-best N; without --yes it only lists them"
        )
    named = [find_run(name, options.logdir) for name in options.runs]
    for run in named:
        if run.folder.resolve().parent != options.logdir.resolve() or not run.status:
            raise ValueError(f"{run.folder} is no run in {options.logdir}; prune removes nothing else")
    folders = {run.folder.resolve() for run in named}
    found = chosen([run for run in everything if not named or run.folder.resolve() in folders], options)
    kept: dict[str, str] = {}
    if options.keep_best is not None:
        found = [run for run in found if options.state is not None or run.state == "finished"]
        for section in sections_of(found):
            ranked = sorted((run for run in section if run.best_acc is not None and not run.unranked), key=SORTS["val"])
            best = ranked[: options.keep_best]
            kept |= {run.name: f"they are the best {options.keep_best} of their split" for run in best}
            kept |= {run.name: "they have no val/acc that could be ranked" for run in section if run not in ranked}
    for run in found:
        if run.state == "running":
            kept[run.name] = f"they are running{f' on {run.elsewhere}' if run.elsewhere else ''}"
        elif run.folder.is_symlink():
            kept[run.name] = "they are links to other folders; remove those by hand"
    return [run for run in found if run.name not in kept], kept


def needed_by_others(everything: Sequence[Run], going: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """Name of each run that would go while another stays that started from it, or consists of it; and which."""
    names = {run.name: run for run in going}
    staying = [run for run in everything if run.name not in names]
    while staying:  # what stays for another's sake may need others in turn
        run = staying.pop()
        for name, started, verb in origins(run):
            needed = names.get(name)
            if needed is not None and started in (None, needed.status.get("started")):
                yield name, f"{run.name} {verb} it"
                staying.append(names.pop(name))


def origins(run: Run) -> Iterator[tuple[str, object, str]]:
    """Name and start of each run that a run's weights come from or that a result of folds is made of, and which."""
    for member in run.members:
        yield member, None, "is a result of folds with"
    ancestors = run.status.get("ancestors")
    if isinstance(ancestors, list):
        for each in ancestors:
            if isinstance(each, dict):
                yield str(each.get("run")), each.get("started"), "started from"
    else:  # an older run
        start = Path(run.quick_settings().get("model.init_from", "").strip("'\""))
        if start.parent.name == "checkpoints":
            yield start.parent.parent.name, None, "started from"


def checkpoints_of(run: Run) -> list[Path]:
    """All checkpoints of a run, Lightning's own of a SLURM job among them."""
    return [*(run.folder / "checkpoints").glob("*.ckpt"), *run.folder.glob("hpc_ckpt_*.ckpt")]


def weight(run: Run, *, only_checkpoints: bool) -> int:
    """Bytes that a removal would free."""
    if only_checkpoints:
        return sum(path.lstat().st_size for path in checkpoints_of(run))
    return size_of(run.folder)


def remove(run: Run, *, only_checkpoints: bool) -> str | None:
    """Removes a run or its checkpoints; why not, where it cannot be.

    It is done under the run's lock, so that no process trains it meanwhile. The folder takes another name first: who
    breaks the removal off leaves no half of a run.
    """
    lock = FileLock(run.folder / ".lock")
    try:
        lock.acquire(blocking=False)
        try:
            if only_checkpoints:
                for path in checkpoints_of(run):
                    path.unlink()
                return None
            going = run.folder.with_name(f".{run.name}{GOING}")
            if going.exists():
                shutil.rmtree(going)
            run.folder.rename(going)
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
        shutil.rmtree(going)
    except Timeout:
        return "another process trains it"
    except (OSError, NotImplementedError) as error:
        return f"{getattr(error, 'strerror', None) or error}"
    return None
