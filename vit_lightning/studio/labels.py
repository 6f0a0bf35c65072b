"""What a tested run took wrongly, and a `labels.csv` with what somebody says instead: never a moved file."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vit_lightning.evaluation.label_doctor import DOUBTS
from vit_lightning.files import cell, cell_of_path, csv_line, read_cell, write_text
from vit_lightning.runs import Run, finite, read_status
from vit_lightning.studio.roots import Place, Roots

#: The file, in a run's folder; `labels.csv` right in there is what the run was trained with.
NAME, OWN = "corrections/labels.csv", "labels.csv"


@dataclass(frozen=True)
class Mistake:
    """A picture that a run took for something else."""

    path: str  # as in the data
    label: str
    predicted: str
    confidence: float


def mistakes(run: Run, place: Place) -> list[Mistake]:
    """The run's mistakes on what it was tested on, the surest first; none where it was not tested.

    Raises:
        ValueError: The table is none.
    """
    table = place.file_of(run, "report/predictions.csv")
    if table is None:
        return []
    found = []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                label, said = read_cell(row["label"]), read_cell(row["predicted"])
                confidence = finite(float(row["confidence"]))
                if label != said and confidence is not None:
                    found.append(Mistake(plain_path(row["path"]), label, said, confidence))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{table} is no table of predictions ({error}); test the run again") from error
    return sorted(found, key=lambda each: -each.confidence)


def doubts(run: Run, place: Place) -> list[Mistake]:
    """The doubtful labels of a result of `folds`, the worst first: what is said is the class that is more likely.

    Raises:
        ValueError: The table is none.
    """
    table = place.file_of(run, f"report/{DOUBTS}")
    if table is None:
        return []
    found = []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                against = finite(float(row["score"]))
                if row["flagged"] == "1" and against is not None:
                    names = read_cell(row["given"]), read_cell(row["likely"])
                    found.append(Mistake(plain_path(row["path"]), *names, against))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{table} is no table of doubtful labels ({error}); repeat the folds command") from error
    return found


def trained(run: Run, place: Place) -> Run:
    """The run itself, or of a result of `folds` the first of its members: they have all been given the same."""
    if not run.is_folds or not run.members:
        return run
    folder = place.logs / Path(run.members[0]).name
    return Run(folder, read_status(folder / "status.json"))


def classes_of(run: Run, place: Place) -> list[str]:
    """The classes, in the order of the model's outputs."""
    import json

    path = place.file_of(trained(run, place), "class_mapping.json")
    try:
        names = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return [str(name) for name in names.values()]
    except (OSError, ValueError, AttributeError):
        return []


def picture_of(mistake: Mistake, run: Run, roots: Roots) -> Path:
    """The file of a mistake.

    Raises:
        ValueError: It is not below the data's root, or that is outside the roots.
        FileNotFoundError: It is gone.
    """
    told = (run.status.get("data") or {}).get("root")
    if not told:
        raise ValueError(f"the record of {run.name} does not say where its pictures are")
    root = roots.inside(str(told))
    path = Roots((root, *roots.folders)).inside(root / mistake.path)
    if not path.is_file():
        raise FileNotFoundError(f"{mistake.path} is not in {root} any more")
    return path


def read_labels(run: Run, place: Place) -> dict[str, str]:
    """The labels that were put right by now, by path.

    Raises:
        ValueError: The file there is none of ours.
    """
    return read_table(place.file_of(run, NAME))


def read_table(path: Path | None) -> dict[str, str]:
    """The labels in a file, by path; none where there is no file.

    Raises:
        ValueError: It is no table of labels.
    """
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {plain_path(row["path"]): read_cell(row["label"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no table of path,label ({error}); mend it or take it away") from error


def write_labels(run: Run, place: Place, labels: Mapping[str, str]) -> Path:
    """Puts labels right, beside those that were before; one that is right as it was is taken out.

    Those that the run was trained with are there as well, since the next run is given this file alone.

    Args:
        run: In whose folder they are kept.
        place: Where the studio works.
        labels: The right label by path; '' takes an entry out.

    Returns:
        The file.

    Raises:
        ValueError: The run's folder is a link to elsewhere, or the file there is none of ours.
        OSError: It cannot be written.
    """
    path = run.folder / NAME
    if path.is_symlink() or path.parent.is_symlink() or (run.folder.is_symlink() and not place.roots.holds(run.folder)):
        raise ValueError(f"{path} is a link; labels are written into the run's own folder alone")
    own = read_table(place.file_of(trained(run, place), OWN))
    known = own | read_labels(run, place) | {name: label or own.get(name, "") for name, label in labels.items()}
    rows = [csv_line((cell_of_path(name), cell(label))) for name, label in sorted(known.items()) if label]
    path.parent.mkdir(exist_ok=True)
    write_text(path, "path,label\n" + "".join(rows))
    return path


def plain_path(text: str) -> str:
    """The path that `cell_of_path` made a cell of."""
    return text.removeprefix("./")
