"""Which version of a model is the champion, and why: `registry.json` in the log folder. No torch in here."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vit_lightning.files import kept_in, write_text

#: The file, and the folder beside it with the files that versions are served from.
FILE, FOLDER = "registry.json", "registry"

#: What a version may be called; both stand for a run wherever one is asked for.
CHAMPION, CANDIDATE = ALIASES = ("champion", "candidate")

#: How a trial may end. A rollback is none, but is written down beside them.
PROMOTED, REFUSED, ROLLED_BACK = OUTCOMES = ("promoted", "refused", "rolled back")


@dataclass(frozen=True)
class Version:
    """A run's weights as they were when somebody asked whether they are better.

    Args:
        version: Counted from 1.
        run: The run's name.
        folder: Its folder.
        started: When the run began, as its status says: another one may take the name later.
        registered: When it became a version.
        sha256: Of its checkpoint.
    """

    version: int
    run: str
    folder: str
    started: str | None
    registered: str
    sha256: str


@dataclass
class Registry:
    """All versions, the aliases of two of them, and every decision with its figures.

    Args:
        versions: In their order.
        aliases: The version of `champion` and of `candidate`, the last one that was judged and is not champion.
        decisions: Of each its `time`, the `version`, the one it was held `against` (None for the first champion and
            baselines), the `outcome`, the `reason` in a sentence, and `figures`.
    """

    versions: list[Version] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, number: int) -> Version:
        return self.versions[number - 1]

    def named(self, alias: str) -> Version | None:
        """The version of an alias, if there is one."""
        number = self.aliases.get(alias)
        return None if number is None else self[number]

    def champions(self) -> list[int]:
        """The versions that a rollback leads to and the champion, oldest first."""
        stack: list[int] = []
        for decision in self.decisions:
            if decision["outcome"] == PROMOTED:
                stack.append(decision["version"])
            elif decision["outcome"] == ROLLED_BACK:
                stack.pop()
        return stack

    def last_of(self, version: int) -> dict[str, Any] | None:
        """The latest decision on a version."""
        return next((each for each in reversed(self.decisions) if each["version"] == version), None)

    def why(self) -> str | None:
        """The champion and the reason for it, in a line; None where there is none."""
        champion = self.named(CHAMPION)
        if champion is None:
            return None
        decision = self.last_of(champion.version) or {}
        return f"champion: {champion.run} (version {champion.version}), {decision['time'][:10]}: {decision['reason']}"


def read_registry(logs: Path) -> Registry:
    """The registry of a log folder; an empty one where there is none yet.

    Raises:
        ValueError: The file is none that this project has written.
    """
    path = logs / FILE
    if not path.exists():
        return Registry()
    try:
        content = json.loads(path.read_bytes())
        registry = Registry(
            [Version(**each) for each in content["versions"]], dict(content["aliases"]), list(content["decisions"])
        )
        check(registry)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}); put an older copy of it back, or move it away "
            "to begin without a champion"
        ) from error
    return registry


def check(registry: Registry) -> None:
    """Refuses what is no registry.

    Raises:
        ValueError: Something is of another kind than it has to be.
        LookupError: Something is missing.
    """
    known = range(1, len(registry.versions) + 1)
    if [each.version for each in registry.versions] != list(known):
        raise ValueError("its versions are not counted from 1")
    for each in registry.versions:
        if not all(isinstance(text, str) for text in (each.run, each.folder, each.registered, each.sha256)):
            raise ValueError(f"version {each.version} is not described by texts")
        if Path(each.run).name != each.run or each.run in ("", ".", ".."):
            raise ValueError(f"version {each.version} is of no run of this folder")
    if not set(registry.aliases) <= set(ALIASES) or not all(number in known for number in registry.aliases.values()):
        raise ValueError("it has an alias for a version that there is not")
    for decision in registry.decisions:
        if decision["outcome"] not in OUTCOMES or decision["version"] not in known:
            raise ValueError("it has a decision on a version that there is not")
        if not all(isinstance(decision[name], kind) for name, kind in KINDS.items()):
            raise ValueError("a decision has something of another kind than it has to be")
    champions = registry.champions()
    if registry.aliases.get(CHAMPION) != (champions[-1] if champions else None):
        raise ValueError("its champion is not the one of its decisions")


#: Of a decision's entries.
KINDS = {"time": str, "reason": str, "figures": dict}


def write_registry(logs: Path, registry: Registry) -> None:
    """Replaces the file in one step."""
    write_text(logs / FILE, json.dumps(asdict(registry), indent=2) + "\n")


@contextmanager
def held(logs: Path) -> Iterator[None]:
    """Keeps others from deciding meanwhile.

    Raises:
        ValueError: Another process decides, or the folder cannot be written.
    """
    lock = FileLock(logs / f".{FILE}.lock")
    with kept_in(logs, "the registry", "give it a folder that can be written"):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(f"another promote or retrain decides in {logs} at this time; wait for it") from None
    try:
        yield
    finally:
        lock.release()


def served_file(logs: Path, version: int) -> Path:
    """The ONNX file that a version is served from, which stays as it was when it was promoted."""
    return logs / FOLDER / f"v{version}" / "model.onnx"


def champion_file(logs: Path) -> Path:
    """The ONNX file of the champion.

    Raises:
        FileNotFoundError: There is no champion, or its file is gone.
        ValueError: The registry is broken.
    """
    version = find_version(CHAMPION, logs)
    path = served_file(logs, version.version)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone, the file of the champion {version.run}; put it back, or roll back")
    return path


def find_version(alias: str, logs: Path) -> Version:
    """The version that an alias stands for.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The registry is broken.
    """
    found = read_registry(logs).named(alias)
    if found is None:
        instead = "promote RUN makes one" if alias == CHAMPION else "the last run that promote refused is one"
        raise FileNotFoundError(f"there is no {alias} in {logs} yet; {instead}")
    return found


def protected(registry: Registry) -> Mapping[str, str]:
    """The runs that must stay, by name, and why: champion, candidate, and what a rollback leads to."""
    found = {
        registry[number].run: "they were champion, and a rollback leads to them" for number in registry.champions()
    }
    for alias, number in registry.aliases.items():
        found[registry[number].run] = f"they are the {alias}"
    return found
