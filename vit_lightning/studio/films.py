"""Films below the roots, and what `predict` said along their time line. Neither torch nor Streamlit in here."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_lightning.files import read_cell
from vit_lightning.runs import finite
from vit_lightning.studio.roots import MOST, Roots

#: Endings of files that are taken for films, in any case: `data/video.py` has the same, and imports torch.
ENDINGS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"),
    *(".webm", ".wmv"),
)

#: Rows of a table that are drawn at most, evenly chosen.
DRAWN = 2000


def films_in(folder: Path, roots: Roots) -> list[str]:
    """Names of the films right in a folder, without links that lead outside, sorted.

    Raises:
        ValueError: The folder is outside the roots.
        OSError: It cannot be listed.
    """
    real = roots.inside(folder)
    with os.scandir(real) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(ENDINGS) and entry.is_file()]
    return [name for name in sorted(names)[:MOST] if not name.startswith(".") and roots.holds(real / name)]


def time_line(table: Path) -> list[dict[str, Any]]:
    """A class's share at a time, a row each, of a table that `predict` wrote of a film; none of one of pictures.

    Raises:
        ValueError: The table is none.
        OSError: It cannot be read.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("time")]
    try:
        return [
            {"time": float(row["time"]), "class": name, "share": share}
            for row in rows[:: max(1, -(-len(rows) // DRAWN))]
            for name, share in shares(row)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{table} is no table of predictions ({error}); label the film again") from error


def shares(row: Mapping[str, str]) -> list[tuple[str, float]]:
    """The classes that a row tells, the likeliest first."""
    found, rank = [(read_cell(row["label"]), float(row["confidence"]))], 2
    while row.get(f"label_{rank}"):
        found.append((read_cell(row[f"label_{rank}"]), float(row[f"confidence_{rank}"])))
        rank += 1
    return [(name, share) for name, share in found if finite(share) is not None]
