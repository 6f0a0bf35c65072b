"""Labels from a CSV: they take the place of the class folders' by path, and need no class folders; no torch in here."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePath

from vit_lightning.data.index import Layout, Sample, find_layout, find_samples, image_names
from vit_lightning.data.splits import read_table
from vit_lightning.files import expanded, read_cell


def labelled_samples(root: Path, table: Path | str) -> tuple[Layout, list[Sample], dict[str, str]]:
    """All images of a root that have a label, by their folder or by a file of labels.

    Args:
        root: Of class folders, or of pictures in any folders: where there are fewer than two class folders, their
            names are no classes, and images that the file does not name are left out.
        table: The CSV.

    Returns:
        The layout; the images in the order of `find_samples`, each with its folder's class, or '' without one: by
        these they are split, so that a correction moves none to another part; and the file's labels by path.

    Raises:
        FileNotFoundError: The root or the file is missing.
        ValueError: As in `read_labels`, or there are fewer than two classes.
    """
    layout = find_layout(root, labelled=True)
    samples = find_samples(root, layout, labelled=True) if len(layout.classes) > 1 else []
    known = {sample.path for sample in samples}
    others = {name: part_of(name, root, layout) for name in image_names(root, Counter()) if name not in known}
    labels = read_labels(expanded(table), root, known | {name for name, part in others.items() if part is not None})
    samples += [Sample(name, "", part or "") for name, part in sorted(others.items()) if name in labels]
    classes = classes_of(relabelled(samples, labels))
    if len(classes) < 2:
        found = f"only the class {classes[0]}" if classes else "no class"
        raise ValueError(f"with the labels of {table} there is {found} in {root}; a classifier needs at least two")
    return layout, samples, labels


def part_of(name: str, root: Path, layout: Layout) -> str | None:
    """The part whose folder holds an image; None where the parts are folders and it is in none of them."""
    for part, folder in layout.parts.items():
        prefix = folder.relative_to(root).as_posix()
        if not part or name.startswith(f"{prefix}/"):
            return part
    return None


def read_labels(path: Path, root: Path, images: Collection[str]) -> dict[str, str]:
    """Reads `path,label`, a row an image; an image may stand there twice with one label.

    Args:
        path: The CSV.
        root: Of the data; the paths are relative to it.
        images: All paths that there are.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: No CSV, a column or cell that is missing, an empty label, a path that leads out of the root or to
            no image, or an image with two labels. The message names file and line.
    """
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in read_table(path, ("path", "label"), "the file of labels"):
        where = f"line {line} of {path}"
        named = PurePath(row["path"])  # ./a.jpg and a.jpg are one image
        name, label = named.as_posix(), read_cell(row["label"].strip())
        if not label:
            raise ValueError(f"{where} has no label for {row['path'] or 'no image'}; give one, or take the line away")
        if named.anchor or ".." in named.parts:
            raise ValueError(f"{where} names {row['path']}, which leads out of {root}; expected a path relative to it")
        if name not in images:
            raise ValueError(f"{where} names {name}, which is no image of the data in {root}; is data.root right?")
        if labels.setdefault(name, label) != label:
            raise ValueError(
                f"{where} gives {name} the label {label}, and line {lines[name]} {labels[name]}; take one of them away"
            )
        lines.setdefault(name, line)
    return labels


def relabelled(samples: list[Sample], labels: dict[str, str]) -> list[Sample]:
    """The samples with the file's labels in the place of their folders'."""
    return [replace(sample, label=labels.get(sample.path, sample.label)) for sample in samples]


def classes_of(samples: list[Sample]) -> list[str]:
    """The classes that have an image, sorted: the order of the model's outputs."""
    return sorted({sample.label for sample in samples})


def describe_labels(root: Path, table: Path | str, samples: list[Sample], labels: dict[str, str]) -> list[str]:
    """What a file of labels does, in lines.

    Args:
        root: Of the data.
        table: The CSV.
        samples: With their folders' classes, or ''.
        labels: The file's, by path.
    """
    folders, classes = {sample.label for sample in samples} - {""}, set(classes_of(relabelled(samples, labels)))
    changed = sum(sample.label not in ("", labels.get(sample.path, sample.label)) for sample in samples)
    lone = sum(not sample.label for sample in samples)
    words = [f"{counted(changed)} of another label than the folder's"] if folders else []
    words += [f"{counted(lone)} in no class folder"] if lone else []
    words += [f"new classes: {', '.join(sorted(classes - folders))}"] if folders and classes - folders else []
    lines = [f"labels by {table}: {'; '.join(words)}"]
    if gone := sorted(folders - classes):
        lines.append(f"no image is left in the folders {', '.join(gone)} by these labels: they are no classes any more")
    if (unnamed := len(image_names(root, Counter())) - len(samples)) > 0:
        lines.append(f"left out: {counted(unnamed)} in no class folder that {table} does not name")
    if folders and not folders & set(labels.values()) and (rest := len(samples) - len(labels)):
        lines.append(f"{counted(rest)} not named by {table}: the folders' names are their classes; is that right?")
    return lines


def counted(images: int) -> str:
    """So many images in words."""
    return f"{images:,} image{'s' * (images != 1)}"
