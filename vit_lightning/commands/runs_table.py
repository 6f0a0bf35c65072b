"""The table of runs: which of them, in which order, and the columns that fit a terminal."""

from __future__ import annotations

import json
import shutil
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vit_lightning.progress import legible
from vit_lightning.runs import STATES, Run, finite, finite_in

#: Marks of the table, and what they mean.
LEAKS, UNRANKED, ELSEWHERE = "*", "?", "@"
FOOTNOTES = {
    LEAKS: "the split leaks: held-out images repeat in training or are told by their numbers; scores measure memory",
    UNRANKED: "not ranked: a run that the weights started from was trained on these images, or may have been",
    ELSEWHERE: "running on another machine, as its status says; whether its process is still there cannot be seen here",
}

#: What a table may be sorted by within a section: scores from the highest, the latest first, the rest from the lowest.
SORTS: dict[str, Callable[[Run], Any]] = {
    "val": lambda run: (run.unranked, 1.0 if run.best_acc is None else -run.best_acc),
    "test": lambda run: (run.unranked, 1.0 if run.test_acc is None else -run.test_acc),
    "started": lambda run: -run.started,
    "time": lambda run: seconds_of(run) or 0.0,
    "name": lambda run: run.name,
}

#: Settings that `--wide` shows, by the column's title.
SETTINGS = {
    "lr": "model.lr",
    "depth": "model.depth",
    "dim": "model.dim",
    "batch": "data.batch_size",
    "seed": "seed_everything",
}


# Which runs


def add_filters(parser: ArgumentParser) -> None:
    """The options that choose runs, of the table and of `prune`."""
    parser.add_argument("--state", metavar="STATE[,STATE]", help=f"only runs of these states: {', '.join(STATES)}")
    text = "only runs on this data: the name or the beginning of its id; * and ? stand for any signs"
    parser.add_argument("--data", metavar="GLOB", help=text)
    text = "only runs on this kind of split, or on the one whose id, as the table shows it, begins so"
    parser.add_argument("--split", metavar="GLOB", help=text)
    parser.add_argument("--name", metavar="GLOB", help="only runs of such names, as in --name 'demo-*'")


def chosen(runs: Sequence[Run], options: Namespace) -> list[Run]:
    """The runs that the options of `add_filters` let through, in the same order.

    Raises:
        ValueError: A state that there is not.
    """
    states = STATES if options.state is None else tuple(options.state.split(","))
    for state in states:
        if state not in STATES:
            raise ValueError(f"--state is {state!r}; expected one or several of {','.join(STATES)}")

    def fits(run: Run) -> bool:
        data, split = (run.status.get(name) or {} for name in ("data", "split"))
        ids = (split.get("family"), split.get("id"))
        return (
            run.state in states
            and alike(options.name, run.name)
            and (alike(options.data, data.get("name")) or begins(options.data, data.get("id")))
            and (alike(options.split, split.get("kind")) or any(begins(options.split, each) for each in ids))
        )

    return [run for run in runs if fits(run)]


def alike(pattern: str | None, name: object) -> bool:
    """Whether a name is what was asked for, if anything was."""
    return pattern is None or (name is not None and fnmatchcase(str(name), pattern))


def begins(pattern: str | None, identity: object) -> bool:
    """Whether an id begins as was asked for."""
    return bool(pattern) and identity is not None and str(identity).startswith(str(pattern))


def sections_of(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs that may be ranked against each other, together; in the order that they come in."""
    groups: dict[tuple[str | None, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.comparable, []).append(run)
    return list(groups.values())


# The table


def print_table(runs: Sequence[Run], *, sort: str = "val", limit: int | None = None, wide: bool = False) -> None:
    """Prints runs with a section for each data set and split, the best validation accuracy first.

    Args:
        runs: At least one.
        sort: One of `SORTS`.
        limit: Rows of a section at most.
        wide: All columns, however wide the terminal is.
    """
    width = shutil.get_terminal_size().columns
    sections = [(group, sorted(group, key=SORTS[sort])[:limit]) for group in sections_of(runs)]
    shown = [run for _, rows in sections for run in rows]
    titles = titles_of(shown, wide=wide)
    cells = {run.folder: cells_of(run, wide=wide)[: len(titles)] for run in shown}
    sizes = [max(len(each[place]) for each in (titles, *cells.values())) for place in range(len(titles))]
    if not wide:
        others = sum(size + 2 for size in sizes[1:])
        sizes[0] = min(sizes[0], max(8, width - others))
    lines = table_row(titles, sizes)
    for group, rows in sections:
        lines += ["", *textwrap.wrap(section_title(group), width)]
        for run in rows:
            lines += table_row(cells[run.folder], sizes)
        if len(group) > len(rows):
            lines.append(f"... and {len(group) - len(rows):,} more")
    notes = {LEAKS: any(run.leaks for run in shown), UNRANKED: any(run.unranked for run in shown)}
    for mark, found in (notes | {ELSEWHERE: any(run.elsewhere for run in shown)}).items():
        if found:
            lines += ["", *textwrap.wrap(f"{mark} {FOOTNOTES[mark]}", width, subsequent_indent="  ")]
    print("\n".join(lines))


def titles_of(runs: Sequence[Run], *, wide: bool) -> tuple[str, ...]:
    """The head of the table; the state has a column only where a run has not finished."""
    if wide:
        more = ("val/f1", "test/f1", *SETTINGS, "parameters", "images/s", "device", "started")
        return ("run", "epochs", "val/acc", "test/acc  95 %", "time", "state", *more)
    titles = ("run", "epochs", "val/acc", "test/acc  95 %", "time", "state")
    return titles if any(run.state != "finished" for run in runs) else titles[:-1]


def cells_of(run: Run, *, wide: bool) -> tuple[str, ...]:
    """The cells of a run's row."""
    epochs = "" if run.is_folds else f"{count_of(run, 'epochs', '0')}/{count_of(run, 'max_epochs', '?')}"
    marks = LEAKS * run.leaks + UNRANKED * run.unranked
    val = "" if run.best_acc is None else f"{run.best_acc:.4f}{marks:2}"
    state = "" if run.state == "finished" else run.state + ELSEWHERE * bool(run.elsewhere)
    cells = (legible(run.name), epochs, val, test_words(run), duration(seconds_of(run)), state)
    if not wide:
        return cells
    settings = run.quick_settings()
    scores = (finite_in(run.status.get("best"), "val/f1"), run.tested.get("macro_f1"))
    return (
        *cells,
        *("" if score is None else f"{score:.4f}" for score in scores),
        *(legible(settings.get(name, "")) for name in SETTINGS.values()),
        count_of(run, "parameters", ""),
        "" if (speed := finite(run.status.get("images_per_second"))) is None else f"{speed:,.1f}",
        legible(str(run.status.get("device", ""))),
        legible(str(run.status.get("started", ""))[:16].replace("T", " ")),
    )


def count_of(run: Run, name: str, unknown: str) -> str:
    """A whole number of a status, in words."""
    value = finite(run.status.get(name))
    return unknown if value is None else f"{value:.0f}"


def seconds_of(run: Run) -> float | None:
    """How long it has trained, pauses and earlier sessions included."""
    return finite(run.status.get("seconds"))


def duration(seconds: float | None) -> str:
    """Seconds as one reads them: `45 s`, `12 min`, `3.4 h`, `2.1 d`."""
    if seconds is None:
        return ""
    for size, unit, most in ((1, "s", 99.5), (60, "min", 99.5), (3600, "h", 48)):
        if seconds < most * size:
            return f"{seconds / size:.1f} h" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"


def test_words(run: Run) -> str:
    """The accuracy on the test part with its 95 % interval, in 16 columns: `0.4704 .430-.512`."""
    if run.test_acc is None:
        return ""
    interval = run.tested.get("interval")
    ends = "" if interval is None else "-".join(share(end) for end in interval)
    return f"{run.test_acc:.4f} {ends:9}"


def share(value: float) -> str:
    """A number in [0, 1] in four columns."""
    return f"{value:.3f}"[1:] if 0 <= value < 0.9995 else f"{value:.2f}"


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
    if len({str((run.status.get("split") or {}).get("id")) for run in runs}) > 1:
        return legible(f"{title}: several folds")
    parts = [f"{part} {split[part]:,}" for part in ("train", "val", "test") if isinstance(split.get(part), int)]
    return legible(title + (f": {', '.join(parts)}" if parts else ""))


def table_row(cells: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The lines of a row: the name to the left, numbers to the right, then words; a long name is folded."""
    name, *rest = cells
    first, *more = fold(name, sizes[0])
    words = [cell.rjust(size) for cell, size in zip(rest, sizes[1 : len(cells)], strict=True)]
    if len(words) > 4:  # the state
        words[4] = rest[4].ljust(sizes[5])
    return ["  ".join([first.ljust(sizes[0]), *words]).rstrip(), *more]


def fold(name: str, width: int) -> list[str]:
    """A name in lines of at most so many signs, broken behind a dash or a stroke where there is one late enough."""
    lines = []
    while len(name) > width:
        end = max(name.rfind(sign, 0, width) for sign in "-_") + 1
        end = end if end > width // 2 else width
        lines.append(name[:end])
        name = name[end:]
    return [*lines, name]


# The same for programs


def record(run: Run) -> dict[str, Any]:
    """What `--json` says of a run: the table's columns and what tells data and split."""
    status = run.status
    return {
        "name": run.name,
        "folder": str(run.folder),
        "kind": "folds" if run.is_folds else "run",
        "state": run.state,
        "elsewhere": run.elsewhere,
        **{key: status.get(key) for key in ("started", "ended", "seconds", "epochs", "max_epochs")},
        **{key: status.get(key) for key in ("best", "last", "data", "split", "baselines", "parameters", "device")},
        "test": run.tested or None,
        "leaks": run.leaks,
        "ranked": not run.unranked,
        "settings": {name: typed(text) for name, text in run.quick_settings().items() if name in SETTINGS.values()},
    }


def typed(setting: str) -> Any:  # noqa: ANN401  # a number, a truth value, null or a word
    """A setting of a YAML's line as JSON has it."""
    try:
        return json.loads(setting)
    except ValueError:
        return setting


def plain(value: Any) -> Any:  # noqa: ANN401  # anything that JSON holds
    """The same for `json.dumps`, which would write NaN and infinity as words that are no JSON: those as null."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return finite(value)
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def write_json(value: Any) -> None:  # noqa: ANN401  # as above
    """Prints it as JSON; of a list an entry a line, which is quicker by far than all of it in lines."""
    if isinstance(value, list):
        print("[" + ",\n".join(json.dumps(plain(entry)) for entry in value) + "]")
    else:
        print(json.dumps(plain(value), indent=2))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            total += 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_size
    return total


def bytes_in_words(size: int) -> str:
    """Bytes as one reads them."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
