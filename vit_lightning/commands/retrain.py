"""`retrain`: where pictures have come, a new run on all of them, which becomes champion if it is really better.

No torch in here: whether there is anything to do is told within a second or two, and every step is another process.
"""

import argparse
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
import yaml
from filelock import FileLock, Timeout

from vit_lightning.cli_errors import check_configs
from vit_lightning.commands.calling import called
from vit_lightning.commands.folds import config_paths, values_of
from vit_lightning.commands.line_parser import LineParser
from vit_lightning.commands.promote import promote, share
from vit_lightning.files import expanded, kept_in, write_text
from vit_lightning.progress import set_up_logging
from vit_lightning.registry import CHAMPION, FOLDER, read_registry
from vit_lightning.runs import LOG_FOLDER, find_run, read_json, read_status, run_stem

log = logging.getLogger(__name__)

DESCRIPTION = """Looks whether pictures have come, gone or changed since the last time; where they have, trains a new
run on all of them, tests and exports it, and promotes it if it is really better than the champion. What was held out
stays held out; of new groups as many join it as the split's rule wants. Stopped or killed in whatever step, the same
command goes on. All options of fit are taken, too."""

#: Options of `fit` that are this command's own business.
OWN = ("--run", "--resume", "--ckpt_path", "--data.keep_parts", "--data.fold")


@dataclass
class Round:
    """One time that something was to be done, as it is kept in `registry/retrain-CONFIG.json`.

    Args:
        run: The new run's name.
        asked: Configs and options, in a digest.
        data: The pictures then, in a digest.
        pictures: How many files they were.
        options: Of `fit`.
        done: Whether it came to its end.
        promoted: Whether the run became champion; None before that.
    """

    run: str
    asked: str
    data: str
    pictures: int
    options: list[str]
    done: bool = False
    promoted: bool | None = None


def main(arguments: Sequence[str]) -> int:
    """Does what there is to do; gives the exit status, which is 0 also where the new run is refused."""
    parser = LineParser(prog="cli.py retrain", description=DESCRIPTION, allow_abbrev=False)
    text = "what the new run starts from: scratch (the default), or champion"
    parser.add_argument("--from", dest="start", choices=("scratch", CHAMPION), default="scratch", help=text)
    text = "promote it if it is not worse by so much accuracy (default: it has to be better)"
    parser.add_argument("--margin", type=share, default=0.0, help=text)
    parser.add_argument("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    options, words = parser.parse_known_args(arguments)
    set_up_logging()
    check_configs(words)
    for word in words:
        if word.partition("=")[0] in OWN:
            raise ValueError(f"{word.partition('=')[0]} is set by retrain; leave it out")
    if not config_paths(words):
        raise ValueError("retrain has no config; give one, as in --config configs/folder.yaml")
    logs, stem = Path(options.root) / LOG_FOLDER, run_stem(config_paths(words))
    with kept_in(logs, "the record of retrain", "give it a folder that can be written"):
        (logs / FOLDER).mkdir(parents=True, exist_ok=True)
    lock = FileLock(logs / FOLDER / f".retrain-{stem}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"another retrain of {stem} is at work in {logs}; wait for it") from None
    with lock:
        return retrain(logs, stem, words, options)


def retrain(logs: Path, stem: str, words: Sequence[str], options: argparse.Namespace) -> int:
    """Goes on with the round that was broken off, begins one where there is something new, or says that there is not.

    Raises:
        FileNotFoundError: There are no files.
        ValueError: A step failed.
    """
    record = logs / FOLDER / f"retrain-{stem}.json"
    before = read_round(record)
    root = find_root(words)
    files = list(list_files(root))
    if not files:
        raise FileNotFoundError(f"the data's root {root} is empty; give the folder that holds the class folders")
    place = [] if options.root == "." else [f"--trainer.default_root_dir={options.root}"]
    asked = digest([*words, options.start, f"{options.margin}", *(path.read_text() for path in config_paths(words))])
    data = digest([*files, *(expanded(path).read_text() for path in values_of(words, "--data.labels"))])
    if before is not None and before.asked == asked and before.done and before.data == data:
        log.info("nothing new: the %d files in %s are those that %s was trained on", len(files), root, before.run)
        log.info("%s", read_registry(logs).why() or f"there is no champion in {logs} yet")
        return 0
    if before is not None and before.asked == asked and not before.done:
        now = before
        log.info("going on with %s, which was broken off", now.run)
    else:
        came = f"{len(files)} files in {root}" + ("" if before is None else f", {before.pictures} before")
        log.info("%s: there is something to learn", came)
        now = Round(
            next_name(logs, stem), asked, data, len(files), [*words, *place, *more_options(logs, before, options)]
        )
        write_round(record, now)
    if status := train(logs, now, place):
        return status
    now.promoted = promote(find_run(now.run, logs), logs, options.margin)
    now.done = True
    write_round(record, now)
    if not now.promoted:
        log.info("%s", read_registry(logs).why() or f"there is no champion in {logs} yet")
    return 0


def train(logs: Path, now: Round, place: Sequence[str]) -> int:
    """Brings the run to its end: a new one, or one that goes on; gives the exit status of `fit`.

    Raises:
        ValueError: It ended otherwise.
    """
    folder = logs / now.run
    wait_for(folder)
    state = read_status(folder / "status.json").get("state")
    if state == "finished":
        return 0
    words = [f"--resume={now.run}", *place] if state is not None else [*now.options, f"--run={now.run}"]
    status = called("fit", *words)
    if status not in (0, 2):
        raise ValueError(f"fit of {now.run} ended with status {status}; mend what it says, and repeat the command")
    return status


def wait_for(folder: Path) -> None:
    """Waits for a training that has outlived the command that began it."""
    if not folder.is_dir():
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("%s is still being trained by a process that an earlier call began; waiting for it", folder.name)
        lock.acquire()
    lock.release()


# What is new


def find_root(words: Sequence[str]) -> Path:
    """The folder with the pictures, downloaded or drawn first where it has to be.

    Raises:
        FileNotFoundError: It is missing.
        ValueError: No folder is given.
    """
    from vit_lightning.data.sources import locate

    told: dict[str, Any] = {}
    for path in config_paths(words):
        content = yaml.safe_load(expanded(path).read_text(encoding="utf-8")) or {}
        told |= {name: value for name, value in (content.get("data") or {}).items() if value is not None}
    for name in ("source", "root", "cache_dir"):
        if given := values_of(words, f"--data.{name}"):
            told[name] = given[-1]
    cache = expanded(told.get("cache_dir") or platformdirs.user_cache_dir("vit_lightning"))
    folder = expanded(str(told["root"])) if "root" in told else None
    root = locate(told.get("source", "folder"), folder, cache)
    if not root.is_dir():
        raise FileNotFoundError(f"the data's root {root} does not exist; give the folder that holds the class folders")
    return root


def list_files(folder: Path) -> Iterator[str]:
    """Path, size and time of change of every file below a folder, in the order of their paths."""
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = Path(where) / name
            try:
                found = path.stat()
            except OSError:  # a link that leads nowhere
                continue
            yield f"{path.relative_to(folder)}\t{found.st_size}\t{found.st_mtime_ns}"


def digest(texts: Sequence[str]) -> str:
    """Sixteen hexadecimal digits of texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def next_name(logs: Path, stem: str) -> str:
    """The first free name of a run that only this command makes."""
    number = 1
    while (logs / f"{stem}-retrain-{number:03}").exists():
        number += 1
    return f"{stem}-retrain-{number:03}"


def more_options(logs: Path, before: Round | None, options: argparse.Namespace) -> list[str]:
    """What `fit` is told beside the caller's options: whose parts are kept, and what it starts from."""
    champion = read_registry(logs).named(CHAMPION)
    splits = [] if champion is None else [Path(champion.folder) / "split.csv"]
    if before is not None:  # what it held out is what the champion did, and more
        splits = [logs / before.run / "split.csv", *map(Path, values_of(before.options, "--data.keep_parts")), *splits]
    kept = next((split for split in splits if split.is_file()), None)
    found = []
    if kept is not None and (read_status(kept.parent / "status.json").get("split") or {}).get("kind") != "folders":
        found.append(f"--data.keep_parts={kept.resolve()}")
    if options.start == CHAMPION and champion is None:
        log.info("there is no champion to start from yet: it starts from scratch")
    elif options.start == CHAMPION and champion is not None:
        found.append(f"--model.init_from={champion.folder}")
    return found


# The record


def read_round(path: Path) -> Round | None:
    """The last round; None where there was none.

    Raises:
        ValueError: The file is none that this command has written.
    """
    if not path.exists():
        return None
    try:
        found = Round(**read_json(path))
        texts = (found.run, found.asked, found.data, *found.options)
        if not all(isinstance(text, str) for text in texts) or Path(found.run).name != found.run:
            raise ValueError("something in it is no text")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it, and all pictures are new") from error
    return found


def write_round(path: Path, now: Round) -> None:
    """Replaces the file in one step."""
    write_text(path, json.dumps(asdict(now), indent=2) + "\n")
