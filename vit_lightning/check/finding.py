"""What every part of the list says: a finding, and how it is printed."""

from dataclasses import dataclass
from typing import Literal

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
