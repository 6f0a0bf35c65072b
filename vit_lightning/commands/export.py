"""`export`: a run as a file that others can use, held against `predict` before it is kept."""

import argparse
import importlib.util
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_lightning import __version__
from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.files import check_folder, expanded, replacing, write_text
from vit_lightning.progress import set_up_logging
from vit_lightning.runs import LOG_FOLDER, find_checkpoint, now, read_json, read_status, run_of

if TYPE_CHECKING:
    from vit_lightning.export.parity import Classifier, Floats, Parity
    from vit_lightning.module import ViTClassifier

DESCRIPTION = """Exports a run as a file that others can use without this project.
onnx: pictures of any size in, probabilities out; kept only if it says what `predict` says."""

#: Packages that each format needs, by the names that they are imported by.
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Exports; gives the exit status."""
    options = parse(arguments)
    set_up_logging()
    missing = [name for name in NEEDED[options.format] if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"export needs {' and '.join(missing)}: pip install 'vit-lightning[export]', or -e '.[export]'"
        )
    logs = Path(options.root) / LOG_FOLDER
    checkpoint, words = find_checkpoint(options.run, logs)
    folder = run_of(checkpoint)
    output = expanded(options.output) if options.output else (folder or Path()) / "export"
    check_folder(output, "what is exported", "give another with --output")
    log.info("exporting %s", words)
    export_onnx(checkpoint, output, options)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = LineParser(prog="cli.py export", description=DESCRIPTION, allow_abbrev=False)
    text = "a run's name, its folder, a .ckpt file or `best`; left out, the latest finished run"
    parser.add_argument("--run", default=None, help=text)
    parser.add_argument("--format", choices=tuple(NEEDED), default="onnx", help="default: %(default)s")
    text = "the folder for it; left out, export/ in the run's folder"
    parser.add_argument("--output", default=None, metavar="DIR", help=text)
    text = "of the run's held-out pictures, so many at most are compared (default: %(default)s)"
    parser.add_argument("--pictures", type=whole(0), default=200, help=text)
    text = "under which others may use the model, for the file's metadata; its pictures may have a say in that"
    parser.add_argument("--licence", default="not stated", help=text)
    parser.add_argument("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def export_onnx(checkpoint: Path, output: Path, options: argparse.Namespace) -> None:
    """Writes `model.onnx` and `parity.json`.

    Raises:
        ValueError: The file does not say what `predict` says; then it is not kept.
    """
    import onnxruntime

    from vit_lightning.export.onnx import INPUT, add_metadata, write_onnx
    from vit_lightning.inference import load_classifier

    model = load_classifier(checkpoint)
    metadata = describe(model, checkpoint, options.licence)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "model.onnx") as temporary:
        write_onnx(model, temporary, metadata)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])

        def exported(pictures: Any) -> Any:  # noqa: ANN401  # onnxruntime has no types
            return session.run(None, {INPUT: pictures})[0]

        found = gate(model, exported, held_out(checkpoint, options.pictures))
        if found.answers:  # what `serve` holds the answers of later pictures against
            add_metadata(temporary, {"reference": json.dumps(reference(found.answers))})
    size = (output / "model.onnx").stat().st_size
    versions = {"onnxruntime": onnxruntime.__version__, "created": now(), "checkpoint": str(checkpoint)}
    write_text(output / "parity.json", json.dumps(found.record() | versions, indent=2) + "\n")
    log.info("written to %s (%.1f MB), %d classes", output / "model.onnx", size / 1e6, len(model.class_names))


def gate(model: "ViTClassifier", exported: "Classifier", paths: Sequence[Path]) -> "Parity":
    """Holds what was exported against `predict`, and says how far they are apart.

    Raises:
        ValueError: Too far.
    """
    from vit_lightning.export.parity import hold_against

    found = hold_against(model, exported, paths)
    if found.failed:
        raise ValueError(
            f"the exported model does not say what predict says: it differs on {found.failed} (at most "
            f"{found.tolerance:g}); it was not kept"
        )
    log.info(
        "parity on %d pictures: probabilities differ by at most %.1g, no label does", found.pictures, found.largest
    )
    if found.reduced.get("pictures"):
        log.info(
            "predict decodes large JPEGs at a reduced size, which adds up to %.2g on %d of them (other labels: %d)",
            *(found.reduced["largest"], found.reduced["pictures"], found.reduced["other_labels"]),
        )
    return found


def reference(answers: "Sequence[Floats]") -> dict[str, Any]:
    """The exported model's own answers on held-out pictures: how many, each class's share of them, mean confidence."""
    classes = len(answers[0])
    shares = [sum(int(answer.argmax()) == index for answer in answers) / len(answers) for index in range(classes)]
    confidence = sum(float(answer.max()) for answer in answers) / len(answers)
    return {"pictures": len(answers), "shares": shares, "confidence": confidence}


def held_out(checkpoint: Path, most: int) -> list[Path]:
    """Some of the pictures that a checkpoint's run held out, from end to end; none where they are gone."""
    from vit_lightning.data.splits import read_table

    folder = run_of(checkpoint)
    root = None if folder is None else (read_status(folder / "status.json").get("data") or {}).get("root")
    if folder is None or not root or not most:
        return []
    try:
        rows = [row for _, row in read_table(folder / "split.csv", ("path", "label", "split"), "the split file")]
    except (OSError, ValueError):
        rows = []
    parts = [[row["path"] for row in rows if row["split"] == part] for part in ("test", "val")]
    paths = [Path(root) / path for path in (parts[0] or parts[1])]
    paths = [path for path in paths if path.is_file()]
    if not paths:
        log.warning("the pictures that the run held out are gone: made-up ones alone are compared")
    return paths[:: max(1, -(-len(paths) // most))]


def describe(model: "ViTClassifier", checkpoint: Path, licence: str) -> dict[str, str]:
    """What the file says of itself: classes, where it comes from, how good it is."""
    folder = run_of(checkpoint)
    status = {} if folder is None else read_status(folder / "status.json")
    report = {} if folder is None else read_json(folder / "report" / "metrics.json")
    told: dict[str, Any] = {
        "class_names": model.class_names,
        "image_size": list(model.net.image_shape[1:]),
        "run": folder.name if folder is not None else checkpoint.name,
        "data": status.get("data", {}).get("name"),
        "data_id": status.get("data", {}).get("id"),
        "split": status.get("split", {}).get("kind"),
        "test": {name: report[name] for name in ("accuracy", "macro_f1", "intervals", "images") if name in report},
        "val": {
            name: value for name, value in (status.get("best") or {}).items() if name.startswith(("epoch", "val/"))
        },
        "licence": licence,
        "made_by": f"vit_lightning {__version__}",
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
