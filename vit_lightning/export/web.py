"""A folder for any file server: a page that labels pictures in the browser, with the model and what runs it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_lightning.export.card import LIMITS, scores
from vit_lightning.export.parity import Parity
from vit_lightning.export.runtime import VERSION, unpack

#: The page's own files.
PAGE = Path(__file__).parent / "page"


def write_page(folder: Path, facts: Mapping[str, Any], parity: Parity, runtime: Path) -> None:
    """Puts all beside `model.onnx` that a browser needs.

    Args:
        folder: Where the model lies.
        facts: From `describe`.
        parity: How near the model is to `predict`.
        runtime: onnxruntime-web's archive, checked.
    """
    for file in PAGE.iterdir():
        shutil.copyfile(file, folder / file.name)
    unpack(runtime, folder)
    told = page_facts(facts, parity, model_hash(folder / "model.onnx"))
    (folder / "model.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def page_facts(facts: Mapping[str, Any], parity: Parity, digest: str) -> dict[str, Any]:
    """What the page shows of the model; its address changes with its content, so that no browser keeps an old one."""
    height, width = facts["image_size"]
    shown = {
        "Data": f"{facts.get('data') or 'not known'} (identity {facts.get('data_id') or 'not known'})",
        "Split": facts.get("split") or "not known",
        "Licence": facts["licence"],
        "Looks at": f"{width} by {height} pixels, to which each picture is scaled",
        "Checked": f"within {max(parity.largest, 1e-9):.1g} of predict's probabilities on {parity.pictures} pictures",
        "Made by": f"{facts['made_by']}; run by onnxruntime-web {VERSION} (MIT licence)",
    }
    told = {"name": facts["run"], "model": f"model.onnx?{digest}", "class_names": facts["class_names"]}
    return told | {"scores": scores(facts), "limits": LIMITS, "facts": shown}


def model_hash(path: Path) -> str:
    """A few signs that change with a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
