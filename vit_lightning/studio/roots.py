"""Which folders may be looked at: nothing outside the roots is listed, read or written. No torch in here."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vit_lightning.arguments import shown
from vit_lightning.files import expanded
from vit_lightning.runs import LOG_FOLDER, Run, find_runs, read_status

#: Folders at most that a listing shows.
MOST = 500


@dataclass(frozen=True)
class Roots:
    """Folders below which data may be chosen.

    Args:
        folders: Absolute, with all links followed.
    """

    folders: tuple[Path, ...]

    def inside(self, path: Path | str) -> Path:
        """The real path of a file or folder, with all links followed.

        Raises:
            ValueError: It is not below one of the roots, wherever `..` and links lead.
        """
        text = str(path)
        if not text or "\0" in text:
            raise ValueError(f"{shown(text)} is no path; choose a folder below {self.words()}")
        real = Path(os.path.realpath(expanded(text)))
        if not any(real.is_relative_to(root) for root in self.folders):
            raise ValueError(f"{shown(text)} lies outside {self.words()}; start the studio with --root for it")
        return real

    def holds(self, path: Path | str) -> bool:
        """Whether a path is inside."""
        try:
            self.inside(path)
        except ValueError:
            return False
        return True

    def subfolders(self, folder: Path | str) -> list[str]:
        """Names of the folders in one, without hidden ones and links that lead outside, sorted.

        Raises:
            ValueError: The folder is not inside.
            OSError: It cannot be listed.
        """
        real = self.inside(folder)
        with os.scandir(real) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        return [name for name in sorted(names)[:MOST] if self.holds(real / name)]

    def check_tree(self, folder: Path | str) -> Path:
        """The real path of a folder below which no link leads outside: whoever lists its pictures follows links.

        Raises:
            ValueError: A link leads outside, or the folder lies there.
        """
        start = self.inside(folder)
        for link in links_below(start):
            if not self.holds(link):
                raise ValueError(
                    f"{shown(os.path.relpath(link, start))} in {start} leads outside {self.words()}; take it away, or "
                    "start the studio with --root for that folder, too"
                )
        return start

    def words(self) -> str:
        """The roots, for messages."""
        return f"the root{'s' * (len(self.folders) > 1)} {', '.join(map(str, self.folders))}"


def links_below(folder: Path) -> Iterator[Path]:
    """Every link below a folder, also in folders that links lead to, each folder looked at once."""
    todo, seen = [str(folder)], set[str]()
    while todo:
        here = todo.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield Path(entry.path)
                if entry.is_dir():
                    todo.append(entry.path)


@dataclass(frozen=True)
class Place:
    """Where this studio works.

    Args:
        roots: Given at the start.
        logs: The folder of runs.
    """

    roots: Roots
    logs: Path

    def runs(self) -> list[Run]:
        """All runs, the latest first; a run's folder that is a link to outside is left out."""
        return [run for run in find_runs(self.logs) if self.is_own(run.folder)]

    def runs_named(self, names: Sequence[str]) -> dict[str, Run]:
        """Those of `runs` with these names; no other is read."""
        folders = [self.logs / name for name in names if Path(name).name == name]
        folders = [folder for folder in folders if (folder / "status.json").is_file() and self.is_own(folder)]
        return {folder.name: Run(folder, read_status(folder / "status.json")) for folder in folders}

    def is_own(self, folder: Path) -> bool:
        """Whether a run's folder is no link to outside."""
        own = Roots((Path(os.path.realpath(self.logs)), *self.roots.folders))
        return not folder.is_symlink() or own.holds(folder)

    @property
    def readable(self) -> Roots:
        """The roots, and the cache folder, in which the demo's and Kaggle's frames lie; there nothing is chosen."""
        import platformdirs

        return Roots((*self.roots.folders, Path(os.path.realpath(platformdirs.user_cache_dir("vit_lightning")))))

    def file_of(self, run: Run, name: str) -> Path | None:
        """A file of a run's folder, if it is there and no link to outside of it."""
        path = run.folder / name
        real = Roots((Path(os.path.realpath(run.folder)),))
        return path if path.is_file() and real.holds(path) else None


def place() -> Place:
    """What the studio was started with."""
    from vit_lightning.commands.studio import VARIABLE

    told = json.loads(os.environ.get(VARIABLE, "{}"))
    folders = tuple(Path(os.path.realpath(root)) for root in told.get("roots", ["."]))
    return Place(Roots(folders), Path(LOG_FOLDER))
