"""Labelling pictures: the article's way one at a time, this project's `predict_paths`, and what `predict` does.

    python -m benchmarks.predict [--frames FOLDER] [--rounds 5] [--png FILE] [--json]

The article's model at 224 px, from files to probabilities. `one at a time` decodes a picture, gives it to the plain
model in fp32 and fetches the label, before it opens the next. `predict` is the Trainer with this project's data and
its choice of precision and loader processes. Before it times anything it holds the labels of batches against those of
single pictures, and the probabilities in bf16 against those in fp32.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from PIL import Image
from torchvision.transforms import v2

from benchmarks.measure import Contender, arguments, draw, finish, interleave, ratio, show
from benchmarks.pictures import folder_of_frames, labelled
from benchmarks.plain import PlainViT
from vit_lightning.callbacks.predictions import PredictionWriter
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.transforms import MEAN, STD
from vit_lightning.hardware import fitting_precision
from vit_lightning.inference import predict_paths
from vit_lightning.module import ViTClassifier


def one_at_a_time(paths: list[Path]) -> Contender:
    """The article's way."""
    model = PlainViT(0.1).eval()
    transform = v2.Compose(
        [v2.Resize((224, 224)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )

    def work() -> float:
        for path in paths:
            with torch.inference_mode(), Image.open(path) as image:
                model(transform(image.convert("RGB"))[None]).softmax(dim=-1).argmax().item()
        return len(paths)

    return work


def with_trainer(model: ViTClassifier, paths: list[Path], folder: Path, batch: int) -> Contender:
    """What the command `predict` does when its model is loaded."""

    def work() -> float:
        data = ImageDataModule(image_size=224, batch_size=batch)
        data.predict_paths = paths
        trainer = Trainer(
            accelerator="cpu",
            precision=fitting_precision("cpu"),  # type: ignore[arg-type]  # one of the Trainer's
            logger=False,
            callbacks=[PredictionWriter(folder / "labels.csv", model.class_names)],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.predict(model, data, return_predictions=False)
        return len(paths)

    return work


def agreement(model: ViTClassifier, paths: list[Path]) -> tuple[int, float]:
    """Labels that batches give otherwise than single pictures, in fp32; and bf16's largest error of a probability."""
    torch.nn.init.normal_(model.net.head.weight, std=0.1)  # answers as different as those of a trained model
    single = torch.stack([found for _, found in predict_paths(model, paths, batch_size=1)])
    together = torch.stack([found for _, found in predict_paths(model, paths)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quick = torch.stack([found for _, found in predict_paths(model, paths)])
    return int((single.argmax(dim=1) != together.argmax(dim=1)).sum()), float((quick - together).abs().max())


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, batch=32, rounds=5)
    warnings.filterwarnings("ignore")  # of many Trainers and of peers; the tables are what counts here
    for name in ("lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.manual_seed(0)
    model = ViTClassifier(num_classes=4).eval()
    with folder_of_frames(options.frames) as root, tempfile.TemporaryDirectory() as folder:
        paths = labelled(root)[0]
        otherwise, error = agreement(model, paths)
        print(f"{otherwise} of {len(paths)} labels differ from those one at a time; bf16 changes at most {error:.4f}")
        contenders: dict[str, Contender] = {
            "ours (predict)": with_trainer(model, paths, Path(folder), options.batch),
            "ours (predict_paths)": lambda: len(list(predict_paths(model, paths, batch_size=options.batch))),
            "one at a time": one_at_a_time(paths),
        }
        rates = interleave(contenders, rounds=options.rounds)
        title = f"prediction, {len(paths)} pictures, batch {options.batch}, {fitting_precision('cpu')}"
        show(title, rates, "one at a time")
        draw(options.png, {title: rates})
        finish(
            options,
            {
                "predict_to_one": ratio(rates["ours (predict)"], rates["one at a time"]),
                "predict_paths_to_one": ratio(rates["ours (predict_paths)"], rates["one at a time"]),
                "bf16_error": error,
            },
        )


if __name__ == "__main__":
    main()
