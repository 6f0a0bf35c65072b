"""What every part of the list says: a finding, and how it is printed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One line of the list."""

    level: Level
    name: str
    text: str


def tell(finding: Finding) -> None:
    """Prints a finding, wrapped beside its level and name."""
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    style = {"ok": "green", "warning": "yellow", "failure": "bold red"}[finding.level]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=7)
    row.add_column(width=13)
    row.add_column()
    row.add_row(Text(finding.level, style), Text(finding.name), Text(finding.text))
    get_console().print(row)


def spread(length: int, count: int) -> npt.NDArray[np.int64]:
    """At most `count` indices at even distances from the first to the last: images are sorted by class."""
    return np.unique(np.linspace(0, length - 1, count).astype(np.int64))
