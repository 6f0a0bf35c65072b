"""The runs in the log folder: their state and scores, found, ranked and named. No torch in here: listing is quick."""

import csv
import difflib
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from vit_lightning.arguments import shown
from vit_lightning.files import expanded, sha256_of, write_text
from vit_lightning.registry import ALIASES, FOLDER, find_version

#: Where runs are kept, below the working folder; `tensorboard --logdir` takes the same name.
LOG_FOLDER = "lightning_logs"

#: The weights that `export` leaves in a folder, and how files of weights end.
EXPORTED, WEIGHTS = "model.safetensors", (".ckpt", ".safetensors")

#: Share of held-out images with a near-duplicate in training above which a split is said to leak.
LEAK = 0.05

#: In the message of a training whose numbers are none any more.
DIVERGED = "training has failed"

#: What a run may be. One whose status says `running` while no process trains it was interrupted.
STATES = ("running", "finished", "interrupted", "failed", "unknown")

#: What has to be an object in a `status.json`.
SECTIONS = ("best", "last", "data", "split", "baselines", "seen", "test")

#: What has to be a list in it, and what a number.
LISTS, NUMBERS = ("ancestors", "members", "resumed"), ("epochs", "max_epochs", "seconds", "parameters")

#: The same of a `metrics.json`.
METRIC_SECTIONS = ("split", "data", "intervals", "groups", "baselines", "per_class", "near_duplicates", "seen")
METRIC_NUMBERS = ("accuracy", "macro_f1", "images")


@dataclass(frozen=True)
class Run:
    """One run's folder with what its `status.json` says."""

    folder: Path
    status: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @cached_property
    def state(self) -> str:
        """One of `STATES`."""
        told = self.status.get("state")
        if told == "running" and process_gone(self.folder, self.status):
            return "interrupted"  # killed, or a power cut: it had no time to say so
        return told if told in STATES else "unknown"

    @property
    def elsewhere(self) -> str | None:
        """The other machine that runs it, as its status says, which nobody here can look at; None of all other runs."""
        host = self.status.get("host")
        return str(host) if self.state == "running" and host not in (None, platform.node()) else None

    @property
    def best_acc(self) -> float | None:
        """The best validation accuracy, in [0, 1]."""
        return finite_in(self.status.get("best"), "val/acc")

    @property
    def comparable(self) -> tuple[str | None, str | None]:
        """Data and split: scores of runs that share both may be ranked against each other.

        Folds of one split share it, and so do runs of any seed on one; of old runs the kind of split is all there is.
        """
        split = self.status.get("split") or {}
        known = (self.status.get("data") or {}).get("id"), split.get("family") or split.get("id") or split.get("kind")
        data, family = (None if each is None else str(each) for each in known)
        return data, family

    @property
    def leaks(self) -> bool:
        """Whether the split is flagged: held-out images repeat in training, or frame numbers give them away."""
        baselines = self.status.get("baselines") or {}
        flagged = baselines.get("flagged")
        return (finite_in(baselines, "near_duplicates") or 0.0) > LEAK if flagged is None else bool(flagged)

    @property
    def unranked(self) -> bool:
        """Whether a run that its weights started from may have been trained on the images that they are scored on."""
        seen = self.status.get("seen") or {}
        return bool(seen.get("seen") or seen.get("unknown"))

    def config(self) -> dict[str, Any]:
        """What the run's `config.yaml` says; nothing where it cannot be read."""
        import yaml  # listing does without

        try:
            config = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError, LookupError, TypeError, RecursionError, yaml.YAMLError):
            return {}
        return config if isinstance(config, dict) else {}

    def metrics(self) -> dict[str, Any]:
        """The run's `report/metrics.json`; nothing where it was not tested, or that cannot be read."""
        return sound(read_json(self.folder / "report" / "metrics.json"), METRIC_SECTIONS, (), METRIC_NUMBERS)

    def quick_settings(self) -> dict[str, str]:
        """The settings of `config.yaml` that stand in a line of their section, as `model.depth`, without a YAML reader.

        A listing shows those of thousands of runs, and reading a YAML takes some milliseconds.
        """
        found: dict[str, str] = {}
        section = ""
        with suppress(OSError, ValueError):
            for line in (self.folder / "config.yaml").read_text(encoding="utf-8").splitlines():
                name, colon, value = line.partition(":")
                if colon and not name.startswith(" "):
                    section = name
                    found |= {name: value.strip()} if value else {}
                elif colon and name.startswith("  ") and name[2:3] not in (" ", "-", "") and value:
                    found[f"{section}.{name.strip()}"] = value.strip()
        return found

    @cached_property
    def tested(self) -> dict[str, Any]:
        """The `accuracy` on the test part of its own split with its `interval`, and the `macro_f1`, as far as known.

        Nothing where it was not tested; of folds it is over all of them.
        """
        metrics = self.metrics()
        own = (self.status.get("split") or {}).get("id")
        split, intervals = metrics.get("split"), metrics.get("intervals")
        if self.is_folds:
            metrics = metrics or (self.status.get("test") or {})
        elif own is None or metrics.get("part") != "test" or not isinstance(split, dict) or split.get("id") != own:
            return {}
        interval = intervals.get("accuracy") if isinstance(intervals, dict) else None
        ends = [finite(end) for end in interval] if isinstance(interval, list) else []
        scores = {"accuracy": finite_in(metrics, "accuracy"), "macro_f1": finite_in(metrics, "macro_f1")}
        return scores | {"interval": ends if len(ends) == 2 and None not in ends else None}

    @property
    def test_acc(self) -> float | None:
        """The accuracy on the test part of its own split, in [0, 1], if it was tested; of folds, over all of them."""
        accuracy: float | None = self.tested.get("accuracy")
        return accuracy

    @property
    def started(self) -> float:
        """When it began, in seconds since 1970; 0 where the status does not say."""
        try:
            return datetime.fromisoformat(str(self.status.get("started"))).timestamp()
        except ValueError:
            return 0.0

    @property
    def is_folds(self) -> bool:
        """Whether this is no training but the result of several, one a fold and seed."""
        return self.status.get("kind") == "folds"

    @property
    def members(self) -> list[str]:
        """The names of the runs that a result of folds is made of."""
        members = self.status.get("members")
        return [str(name) for name in members] if isinstance(members, list) else []

    def checkpoint(self) -> Path:
        """The best checkpoint, or the last where there is no best.

        Raises:
            FileNotFoundError: The run has neither.
            ValueError: It is a result of folds.
        """
        if self.is_folds:
            members = self.members
            more = f" and {len(members) - 3} more" if len(members) > 3 else ""
            raise ValueError(
                f"{self.name} is the result of several models; give one of them: {', '.join(members[:3])}{more}"
            )
        for name in ("best", "last"):
            path = self.folder / "checkpoints" / f"{name}.ckpt"
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"the run {self.name} ({self.state}) has no checkpoint in {self.folder / 'checkpoints'}"
        )


def find_runs(logs: Path) -> list[Run]:
    """All runs below the log folder, the latest first; what begins with a dot is on its way out."""
    runs = [Run(path.parent, read_status(path)) for path in logs.glob("[!.]*/status.json")]
    return sorted(runs, key=lambda run: run.started, reverse=True)


def process_gone(folder: Path, status: Mapping[str, Any]) -> bool:
    """Whether no process trains a run any more whose status says that it is running.

    Its lock tells: whoever trains holds it, and the system opens it however a process ends. It is not asked for a run
    of another machine, since not every shared drive hands locks on; such a status is believed.
    """
    lock = folder / ".lock"
    if status.get("host") not in (None, platform.node()):
        return False
    if not lock.is_file():
        return True
    from filelock import FileLock, Timeout  # only a listing with such a run waits for it

    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        return False
    except (OSError, NotImplementedError):  # a folder that cannot be written, a disk without locks: cannot be told
        return False
    held.release()
    return True


def finite(value: object) -> float | None:
    """A number as it is, anything else, NaN and infinity among it, as None: files may say what they like."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond what a float can hold
        return None


def finite_in(section: object, name: str) -> float | None:
    """The number of that name in a section of a status, if there is one."""
    return finite(section.get(name)) if isinstance(section, dict) else None


def read_status(path: Path) -> dict[str, Any]:
    """What a `status.json` says; one that cannot be read says nothing."""
    return sound(read_json(path), SECTIONS, LISTS, NUMBERS)


def sound(
    content: Mapping[str, Any], sections: Sequence[str], lists: Sequence[str], numbers: Sequence[str]
) -> dict[str, Any]:
    """The entries that are of their kind: what somebody else has put there instead says nothing."""
    kinds = dict.fromkeys(sections, dict) | dict.fromkeys(lists, list)
    return {
        name: value
        for name, value in content.items()
        if (finite(value) is not None if name in numbers else isinstance(value, kinds.get(name, object)))
    }


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file with an object says; one that is missing or cannot be read says nothing."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_status(folder: Path, status: dict[str, Any]) -> None:
    """Replaces `status.json` in one step, so that a reader never sees half of it."""
    write_text(folder / "status.json", json.dumps(status, indent=2) + "\n")


def find_checkpoint(run: str | None, logs: Path) -> tuple[Path, str]:
    """The checkpoint that `--run` means.

    Args:
        run: A run's name, its folder, a `.ckpt` file, `best`, `champion`, `candidate`, or None for the latest finished
            run; or what `export` has made of one: a `.safetensors` file, or its folder.
        logs: The log folder.

    Returns:
        The checkpoint's path, and in words what it is: "demo-002 (the latest finished run), best.ckpt".

    Raises:
        FileNotFoundError: There is no such run or file.
    """
    if run is None or run == "best":
        finished = [
            candidate for candidate in find_runs(logs) if candidate.state == "finished" and not candidate.is_folds
        ]
        if not finished:
            raise FileNotFoundError(f"no finished run in {logs}; start one with fit, or name one with --run")
        chosen, why = finished[0], "the latest finished run"
        if run == "best":
            rivals = [rival for rival in finished if rival.comparable == chosen.comparable and not rival.unranked]
            if not rivals:
                raise FileNotFoundError(
                    f"no run on the split of {chosen.name} can be ranked: their weights may have been trained on what "
                    "they are scored on; name one with --run"
                )
            chosen, why = max(rivals, key=lambda rival: rival.best_acc or 0.0), f"the best of {len(rivals)}"
        path = chosen.checkpoint()
        return path, f"{chosen.name} ({why}), {path.name}"
    if run in ALIASES:
        version, named = find_version(run, logs), find_run(run, logs)
        path = named.checkpoint()
        if sha256_of(path) != version.sha256:
            raise ValueError(
                f"the {run} {named.name} was trained on since it was judged; promote it again, or promote --rollback"
            )
        return path, f"{named.name} ({run}, version {version.version}), {path.name}"
    path = expanded(run)
    if path.suffix in WEIGHTS:
        if path.is_file():
            return path, str(path)
        raise FileNotFoundError(f"the checkpoint {path} does not exist")
    if (path / EXPORTED).is_file() and not (logs / run / "status.json").is_file():
        return path / EXPORTED, str(path / EXPORTED)
    named = find_run(run, logs)
    path = named.checkpoint()
    return path, f"{named.name}, {path.name}"


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to, if it lies in one."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else None


def find_run(run: str, logs: Path) -> Run:
    """The run of a name, a folder, an alias, or a `.ckpt` file in a run's `checkpoints` folder.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The registry is broken.
    """
    if run in ALIASES:
        version = find_version(run, logs)
        for folder in (logs / version.run, Path(version.folder)):  # moved runs are moved together
            status = read_status(folder / "status.json")
            if status and status.get("started") == version.started:
                return Run(folder, status)
        raise FileNotFoundError(f"the {run} is {version.run}, and that run is no longer in {version.folder}")
    path = expanded(run)
    if path.suffix == ".ckpt" and path.is_file():
        path = path.resolve().parent.parent
    for folder in (logs / run, path):
        if run and folder.is_dir():
            return Run(folder, read_status(folder / "status.json"))
    runs = find_runs(logs)
    near = difflib.get_close_matches(run, [candidate.name for candidate in runs], n=1)
    if near:
        raise FileNotFoundError(f"no run {run!r} in {logs}; did you mean {near[0]}?")
    names = ", ".join(candidate.name for candidate in runs[:8])
    raise FileNotFoundError(f"no run {run!r} in {logs}; there {f'are: {names}' if names else 'is none yet'}")


def new_run_folder(logs: Path, name: str | None, stem: str) -> Path:
    """Makes the folder of a new run: `name`, or `stem` and the next free number.

    Raises:
        ValueError: The name is taken, or is no plain name.
    """
    if name is not None:
        folder = logs / plain_name(name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            # A process that was killed before it came to its config leaves a folder that nobody can go on with.
            if not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir()):
                raise ValueError(f"the run {name} already exists in {logs}; choose another --run name") from None
        return folder
    number = 1
    while True:
        folder = logs / f"{stem}-{number:03}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def plain_name(name: str) -> str:
    """The name of a run, if it can be one.

    Raises:
        ValueError: It is none, leads elsewhere, means something else, or would garble a terminal.
    """
    plain = Path(name).name == name and "\\" not in name and name.isprintable() and len(name.encode()) <= 200
    if not plain or name in ("", "best", FOLDER, *ALIASES) or name.startswith(".") or name.endswith(WEIGHTS):
        raise ValueError(f"--run {shown(name)} cannot be a run's name; give a plain name such as deeper-8")
    return name


def run_stem(configs: Sequence[Path]) -> str:
    """What a new run is called before its number: the first config's name, or for a run's config that run's."""
    if not configs:
        return "run"
    own = configs[0].name == "config.yaml"
    stem = re.sub(r"-\d{3,}$", "", configs[0].resolve().parent.name) if own else configs[0].stem
    return "".join(sign if sign.isprintable() and sign != "\\" else "_" for sign in stem).lstrip(".")[:100] or "run"


def read_numbers(path: Path) -> list[dict[str, float]]:
    """Rows of a CSV file of numbers, without empty cells, up to one that a power cut tore; none without a file.

    The first column, which counts epochs or steps, is in every row.
    """
    rows: list[dict[str, float]] = []
    with suppress(OSError, ValueError, TypeError, csv.Error):  # the latter two of what somebody else has written
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        reader = csv.DictReader(whole.splitlines())
        for row in reader:
            numbers = {name: float(cell) for name, cell in row.items() if cell}
            if finite(numbers.get((reader.fieldnames or [""])[0])) is None:
                break
            rows.append(numbers)
    return rows


def now() -> str:
    """The time as ISO 8601 with its zone, in seconds."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
