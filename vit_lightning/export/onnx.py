"""A trained model as one ONNX file, which takes pictures as they were decoded; onnx and torch in here."""

import logging
import platform
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from vit_lightning.evaluation.strangers import Nearness
from vit_lightning.export.network import PictureClassifier
from vit_lightning.module import ViTClassifier

#: ONNX operators of this version: `Resize` knows antialiasing from 18 on, and every onnxruntime of the last years 20.
OPSET = 20

INPUT, OUTPUTS = "images", ("probabilities", "embedding", "distance")


def resizes_in_integers() -> bool:
    """Whether torchvision has torch resize bytes in whole numbers on this processor, or in fractions."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or platform.machine() in ("aarch64", "arm64")


def write_onnx(model: ViTClassifier, path: Path, metadata: Mapping[str, str], nearness: Nearness | None = None) -> None:
    """Writes `images` uint8 (B, height, width, 3) -> `probabilities` (B, K) and `embedding` (B, D).

    Batch, height and width are free. The class names and what else is told go into the file's own metadata.

    Args:
        model: From `load_classifier`.
        path: The file.
        metadata: Names and words.
        nearness: To all of training; a third output is then `distance` (B,), by which `serve` tells strangers.
    """
    train = None if nearness is None else torch.from_numpy(nearness.train)
    exported = PictureClassifier(model.net, integers=resizes_in_integers(), train=train).eval()
    example = torch.zeros(
        2, 3, 5, 3, dtype=torch.uint8
    )  # sizes that differ from each other and from all of the model's
    free = {0: "batch", 1: "height", 2: "width"}
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)  # it tells of every step
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                exported,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={INPUT: free},
                input_names=[INPUT],
                output_names=list(OUTPUTS[: 2 if train is None else 3]),
                verbose=False,
            )
    finally:
        logger.setLevel(before)
    assert program is not None, "dynamo gives a program"
    program.model.metadata_props.update(metadata)
    program.save(path)


def add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Adds what is told to an ONNX file, in place."""
    program = onnx.load(path)
    known = {each.key: each.value for each in program.metadata_props}
    onnx.helper.set_model_props(program, known | dict(metadata))
    onnx.save(program, path)
