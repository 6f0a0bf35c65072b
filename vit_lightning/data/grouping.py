"""Which clip an image is of, by a rule that needs no pixel."""

import re
from dataclasses import replace
from pathlib import Path, PurePath

from vit_lightning.arguments import ended_after
from vit_lightning.data.index import Sample
from vit_lightning.data.splits import read_table
from vit_lightning.files import expanded

#: Seconds that looking for groups by a regular expression may take: a sound one does 100,000 paths in a tenth of one.
SEARCH = 20.0


def group_samples(samples: list[Sample], group_by: str) -> list[Sample]:
    """The samples with their groups, by a rule that needs no pixel.

    Args:
        samples: Images.
        group_by: `folder`, the name of the folder in the class folder that holds the file; a CSV file with the columns
            path,group (or FILE.csv:COLUMN); or a regular expression that each path has to contain: its first group that
            matches, or all that it finds, is the name.

    Raises:
        ValueError: An image that is in no folder of its class folder, no regular expression, one that does not match,
            or a CSV that lacks a column or an image.
        FileNotFoundError: The CSV is missing.
    """
    if group_by == "folder":
        folders = [sample.path.rpartition("/")[0].rpartition("/")[2] for sample in samples]
        for sample, folder in zip(samples, folders, strict=True):
            if folder in (sample.label, ""):
                raise ValueError(
                    f"data.group_by folder goes by folders in the class folders, and {sample.path} is in none; make "
                    "them (class/clip/image), or give a regular expression, FILE.csv or duplicates"
                )
        return [replace(sample, group=folder) for sample, folder in zip(samples, folders, strict=True)]
    file, _, column = group_by.rpartition(":") if not group_by.endswith(".csv") else (group_by, "", "group")
    if file.endswith(".csv"):
        return groups_of_table(samples, expanded(file), column)
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ValueError(
            f"data.group_by {group_by!r} is no regular expression ({error}); expected one, or folder, duplicates or "
            "FILE.csv"
        ) from error
    grouped = []
    slow = f"data.group_by {group_by!r} takes more than {SEARCH:.0f} s to look for; give a simpler regular expression"
    with ended_after(SEARCH, slow):  # repetitions within repetitions may take for ever
        for sample in samples:
            match = pattern.search(sample.path)
            name = match and next(filter(None, match.groups()), match[0])
            if not name:
                raise ValueError(
                    f"data.group_by {group_by!r} finds no group in {sample.path}; expected a regular expression that "
                    "finds one in every path, folder, duplicates or FILE.csv"
                )
            grouped.append(replace(sample, group=name))
    return grouped


def groups_of_table(samples: list[Sample], path: Path, column: str) -> list[Sample]:
    """The samples with the groups that a CSV names in one of its columns."""
    rows = read_table(path, ("path", column), "the file of groups")
    groups = {PurePath(row["path"]).as_posix(): row[column] for _, row in rows}
    for sample in samples:
        if not groups.get(sample.path):
            raise ValueError(f"{path} names no {column} for {sample.path}; every image needs one")
    return [replace(sample, group=groups[sample.path]) for sample in samples]
