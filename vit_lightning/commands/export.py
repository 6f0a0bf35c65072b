"""`export`: a run as a file that others can use, held against `predict` before it is kept."""

import argparse
import importlib.util
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from vit_lightning import __version__
from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.evaluation.unknown import read_unknown
from vit_lightning.files import check_folder, expanded, replacing, write_text
from vit_lightning.progress import set_up_logging
from vit_lightning.runs import EXPORTED, LOG_FOLDER, find_checkpoint, now, read_json, read_status, run_of
from vit_lightning.tracking.store import check_tracker

if TYPE_CHECKING:
    from vit_lightning.evaluation.strangers import Nearness
    from vit_lightning.export.parity import Classifier, Floats, Parity
    from vit_lightning.module import ViTClassifier

DESCRIPTION = """Exports a run as a file that others can use, kept only if it says what `predict` says.
onnx: pictures of any size in, probabilities out, for programs that have neither torch nor this project.
safetensors: the weights under timm's names, with config.json and a model card; `predict --run` takes them, too.
web: a folder for any file server: a page that labels pictures in the browser, which sends them nowhere."""

#: Packages that each format needs, by the names that they are imported by.
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}
NEEDED["web"] = NEEDED["onnx"]

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
    check_tracker(options.tracker)
    if options.tracker is not None and options.format != "onnx":
        raise ValueError(f"--tracker registers the ONNX file; leave it out, or --format {options.format}")
    logs = Path(options.root) / LOG_FOLDER
    checkpoint, words = find_checkpoint(options.run, logs)
    folder = run_of(checkpoint)
    if options.tracker is not None and folder is None:
        raise ValueError(f"--tracker goes on with a run, and {checkpoint} is in no run's folder; leave it out")
    output = expanded(options.output) if options.output else (folder or Path()) / "export"
    check_folder(output, "what is exported", "give another with --output")
    log.info("exporting %s", words)
    deeds = {"onnx": export_onnx, "safetensors": export_safetensors, "web": export_web}
    deeds[options.format](checkpoint, output, options)
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
    text = "web: onnxruntime-web as npm packs it; left out, it is fetched from npm's registry once"
    parser.add_argument("--runtime", default=None, metavar="FILE", help=text)
    text = "onnx: also a version of the model in MLflow, in lightning_logs/mlflow.db or what MLFLOW_TRACKING_URI says"
    parser.add_argument("--tracker", choices=("mlflow",), default=None, help=text)
    parser.add_argument("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def export_onnx(checkpoint: Path, output: Path, options: argparse.Namespace) -> None:
    """Writes `model.onnx` and `parity.json`.

    Raises:
        ValueError: The file does not say what `predict` says; then it is not kept.
    """
    import onnxruntime

    from vit_lightning.evaluation.strangers import read_nearness
    from vit_lightning.inference import load_classifier

    model = load_classifier(checkpoint)
    facts = describe(model, checkpoint, options.licence)
    nearness = read_nearness(run_of(checkpoint), facts.get("strangers"))
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / "model.onnx") as temporary:
        found = write_checked_onnx(model, temporary, facts, held_out(checkpoint, options.pictures), nearness)
    size = (output / "model.onnx").stat().st_size
    versions = {"onnxruntime": onnxruntime.__version__, "created": now(), "checkpoint": str(checkpoint)}
    write_text(output / "parity.json", json.dumps(found.record() | versions, indent=2) + "\n")
    log.info("written to %s (%.1f MB), %d classes", output / "model.onnx", size / 1e6, len(model.class_names))
    if options.tracker is not None and (folder := run_of(checkpoint)) is not None:
        from vit_lightning.tracking.model import register

        register(folder, output / "model.onnx", model.class_names)


def write_checked_onnx(
    model: "ViTClassifier",
    path: Path,
    facts: Mapping[str, Any],
    pictures: Sequence[Path],
    nearness: "Nearness | None" = None,
) -> "Parity":
    """Writes an ONNX file and holds it against the model.

    Raises:
        ValueError: It does not say what `predict` says.
    """
    import onnxruntime

    from vit_lightning.export.onnx import INPUT, add_metadata, write_onnx

    metadata = {name: told if isinstance(told, str) else json.dumps(told) for name, told in facts.items()}
    write_onnx(model, path, metadata, nearness)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def exported(pictures: Any) -> Any:  # noqa: ANN401  # onnxruntime has no types
        return session.run(None, {INPUT: pictures})[0]

    found = gate(model, exported, pictures)
    if found.answers:  # what `serve` holds the answers of later pictures against
        add_metadata(path, {"reference": json.dumps(reference(found.answers))})
    return found


def export_web(checkpoint: Path, output: Path, options: argparse.Namespace) -> None:
    """Writes the folder `web`, file by file once all of them are there.

    Raises:
        ValueError: onnxruntime-web cannot be had, or the model does not say what `predict` says.
    """
    from vit_lightning.export.runtime import find_runtime
    from vit_lightning.export.web import write_page
    from vit_lightning.inference import load_classifier

    given = expanded(options.runtime) if options.runtime else None
    runtime = find_runtime(Path(platformdirs.user_cache_dir("vit_lightning")), given)
    model = load_classifier(checkpoint)
    facts, folder = describe(model, checkpoint, options.licence), output / "web"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".web") as temporary:
        made = Path(temporary)
        found = write_checked_onnx(model, made / "model.onnx", facts, held_out(checkpoint, options.pictures))
        write_page(made, facts, found, runtime)
        files = sorted(made.iterdir(), key=lambda file: file.name == "model.json")  # which names the model, last
        size = sum(file.stat().st_size for file in files)
        for file in files:
            file.replace(folder / file.name)
    log.info("written to %s (%.1f MB); to look at it: python -m http.server -d %s", folder, size / 1e6, folder)


def export_safetensors(checkpoint: Path, output: Path, options: argparse.Namespace) -> None:
    """Writes `model.safetensors`, `config.json` and the model card.

    Raises:
        ValueError: The file does not give the checkpoint's own answers; then it is not kept.
    """
    from vit_lightning.export.card import model_card
    from vit_lightning.export.parity import as_predicted
    from vit_lightning.export.weights import known_to_timm, read_back, timm_config, write_weights
    from vit_lightning.inference import load_classifier

    model = load_classifier(checkpoint)
    facts, timm = describe(model, checkpoint, options.licence), known_to_timm(model)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / EXPORTED) as temporary:
        write_weights(model, temporary)
        exported = partial(as_predicted, read_back(temporary))
        gate(model, exported, held_out(checkpoint, options.pictures), tolerance=0.0)
    write_text(output / "config.json", json.dumps(timm_config(model, facts), indent=2) + "\n")
    write_text(output / "README.md", model_card(facts, model.hparams, timm=timm))
    size = (output / EXPORTED).stat().st_size
    log.info("written to %s (%.1f MB), with config.json and README.md", output / EXPORTED, size / 1e6)
    if timm:
        log.info("timm reads it, too: timm.create_model('local-dir:%s', pretrained=True)", output)
    else:
        log.info("timm has no network with a convolutional stem and cannot load it; only the other tensors are its own")


def gate(
    model: "ViTClassifier", exported: "Classifier", paths: Sequence[Path], tolerance: float | None = None
) -> "Parity":
    """Holds what was exported against `predict`, and says how far they are apart.

    Raises:
        ValueError: Too far.
    """
    from vit_lightning.export.parity import TOLERANCE, hold_against

    found = hold_against(model, exported, paths, TOLERANCE if tolerance is None else tolerance)
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


def describe(model: "ViTClassifier", checkpoint: Path, licence: str) -> dict[str, Any]:
    """What the file says of itself: classes, where it comes from, how good it is."""
    folder = run_of(checkpoint)
    status = {} if folder is None else read_status(folder / "status.json")
    report = {} if folder is None else read_json(folder / "report" / "metrics.json")
    tested = ("accuracy", "macro_f1", "intervals", "images", "part", "groups", "near_duplicates")
    return {
        "class_names": model.class_names,
        "image_size": list(model.net.image_shape[1:]),
        "run": folder.name if folder is not None else checkpoint.name,
        "data": status.get("data", {}).get("name"),
        "data_id": status.get("data", {}).get("id"),
        "split": status.get("split", {}).get("kind"),
        "test": {name: report[name] for name in tested if name in report},
        "val": {
            name: value for name, value in (status.get("best") or {}).items() if name.startswith(("epoch", "val/"))
        },
        **read_unknown(folder, checkpoint),
        "licence": licence,
        "made_by": f"vit_lightning {__version__}",
    }
