"""The house itself: who imports whom, and how large rooms, functions and classes may become."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vit_lightning"

#: Files and folders of the package, from the top. A module imports only what lies below it or in its own folder.
LAYERS = (
    ("cli",),
    ("studio",),
    ("commands",),
    ("sweep", "export", "serve"),
    ("check",),
    ("callbacks",),
    ("inference",),
    ("evaluation",),
    ("module",),
    ("data",),
    ("tracking",),
    ("runs",),
    ("registry",),
    ("guidance",),
    ("checkpoint", "optim"),
    ("public_weights",),
    ("models",),
    ("hardware", "cli_errors"),
    ("progress",),
    ("files", "arguments"),
    ("__init__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

#: Most lines of a function, of a class, of a file, and of the files that a newcomer reads first.
FUNCTION, CLASS, FILE = 60, 300, 480
FIRST_READ = {"module.py": 180, "models/vit.py": 300, "data/datamodule.py": 300}


def modules(package: Path) -> dict[str, Path]:
    """The files of a package by their dotted names."""
    files = sorted(package.rglob("*.py"))
    parts = {path: path.relative_to(package.parent).with_suffix("").parts for path in files}
    return {".".join(names[:-1] if names[-1] == "__init__" else names): path for path, names in parts.items()}


def imports(package: Path) -> Iterator[tuple[str, str, str]]:
    """Who imports what, and where: also inside functions and under TYPE_CHECKING.

    What is imported from the package is one of its modules; of other packages the name is as it was written.
    """
    known = modules(package)
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                # A dot is the module's own package, each further one the package around it.
                own = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
                start = own[: len(own) - node.level + 1] if node.level else []
                source = ".".join([*start, node.module] if node.module else start)
                # `from a import b` may import the module a.b, or a name that a defines.
                inside = [f"{source}.{alias.name}" for alias in node.names]
                found = [module if module in known else source for module in inside]
            else:
                continue
            for module in found:
                yield name, module, f"{path.relative_to(package.parent)}:{node.lineno}"


def own_imports() -> list[tuple[str, str, str]]:
    """Those of this package's modules by one another."""
    return [found for found in imports(PACKAGE) if found[1].split(".")[0] == PACKAGE.name]


def room(module: str) -> str:
    """The file or folder right in the package that a module is or lies in."""
    return [*module.split("."), "__init__"][1]


def test_every_file_has_its_place() -> None:
    assert {room(module) for module in modules(PACKAGE)} == LEVEL.keys()


def test_imports_go_downwards() -> None:
    upwards = [
        f"{where} imports {imported}"
        for importer, imported, where in own_imports()
        if room(importer) != room(imported) and not LEVEL.get(room(importer), -1) < LEVEL.get(room(imported), -1)
    ]
    assert not upwards, "\n".join(upwards)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported, _ in own_imports():
        graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_models_know_torch_alone_and_data_know_no_model() -> None:
    allowed = sys.stdlib_module_names | {"torch"}
    wrong = [
        f"{where} imports {imported}"
        for importer, imported, where in imports(PACKAGE)
        if (  # numbers are checked by the one helper that all have, which imports nothing
            room(importer) == "models"
            and imported.split(".")[0] not in allowed
            and not imported.startswith((f"{PACKAGE.name}.models", f"{PACKAGE.name}.arguments"))
        )
        or (
            room(importer) == "data"
            and imported.split(".")[0] == PACKAGE.name
            and room(imported) in ("module", "models")
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_too_large_to_be_read_at_once() -> None:
    large = []
    for path in modules(PACKAGE).values():
        text, name = path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix()
        lines, most = text.count("\n"), FIRST_READ.get(name, FILE)
        if lines > most and name != "data/demo.py":  # drawings are long, and nobody has to read them
            large.append(f"{name}: {lines} lines, at most {most}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                most = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > most:
                    large.append(f"{name}:{node.lineno} {node.name}: {lines} lines, at most {most}")
    assert not large, "\n".join(large)


def test_every_kind_of_import_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "room" / "__init__.py").write_text("from .chair import leg\n")
    (package / "room" / "chair.py").write_text(
        "from .. import cellar\nfrom . import table\nfrom ..cellar import coal\n"
    )
    (package / "room" / "table.py").write_text("import numpy.linalg\nfrom torch import nn\n")
    (package / "cellar.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.room.chair\n"
        "def deep():\n    from house import room\n    from house.room import table, nothing\n"
    )
    assert {(importer.removeprefix("house."), imported) for importer, imported, _ in imports(package)} == {
        ("room", "house.room.chair"),
        ("room.chair", "house.cellar"),
        ("room.chair", "house.room.table"),
        ("room.table", "numpy.linalg"),
        ("room.table", "torch"),
        ("cellar", "typing"),
        ("cellar", "house.room.chair"),
        ("cellar", "house.room"),
        ("cellar", "house.room.table"),
    }
    assert [where for _, imported, where in imports(package) if imported == "house.room.chair"] == [
        *("house/cellar.py:3", "house/room/__init__.py:1")
    ]
