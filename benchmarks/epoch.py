"""Training in steady state: the whole `fit` on pictures, a bare loop on tensors in memory, and the plain loop.

    python -m benchmarks.epoch [--frames FOLDER] [--batches 20] [--rounds 5] [--png FILE] [--json]

The article's model at 224 px, at equal dropout. `ours (fit)` is Lightning's Trainer with this project's data (decoded
once before), augmentation, metrics, logging and record of the run, from its sixth batch on; `bare loop` is the same
network and optimizer on one batch that is always the same. `plain` is the article's way, loading and all, in a process
of its own. The three take turns.
"""

import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.measure import Contender, Rates, arguments, draw, finish, ratio, show
from benchmarks.pictures import folder_of_frames
from benchmarks.step import ours as bare_step
from vit_lightning.callbacks.history import EventLog, History
from vit_lightning.callbacks.seeding import BatchSeeding
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.sources import find_classes
from vit_lightning.hardware import fitting_precision, keep_memory
from vit_lightning.module import ViTClassifier

#: Batches before the steady state.
BEFORE = 5


class Clock(Callback):
    """Notes when each batch is over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """A batch is over."""
        self.times.append(time.perf_counter())


def fit(root: Path, folder: Path, rate: float, batch: int, batches: int) -> float:
    """Images a second of a short `fit`, as the command line puts it together."""
    torch.manual_seed(0)
    run = Path(tempfile.mkdtemp(dir=folder))
    data = ImageDataModule(root=str(root), val_fraction=0.0, batch_size=batch, cache_dir=str(folder))
    model = ViTClassifier(
        class_names=find_classes("folder", str(root)), dropout=rate, attention_dropout=rate, mlp_dropout=rate
    )
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        precision=fitting_precision("cpu"),  # type: ignore[arg-type]  # one of the Trainer's
        max_steps=BEFORE + batches,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        logger=EventLog(run),
        callbacks=[clock, History(run), BatchSeeding()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return batch * batches / (clock.times[-1] - clock.times[BEFORE - 1])


def timed(work: Contender, batches: int) -> float:
    """Images a second over so many batches, after two that do not count."""
    for _ in range(2):
        work()
    began = time.perf_counter()
    images = sum(work() for _ in range(batches))
    return images / (time.perf_counter() - began)


def plain(root: Path, rate: float, batch: int, batches: int) -> float:
    """Images a second of the plain loop in a process of its own: what this one does for its memory, it would not do."""
    words = [str(root.resolve()), str(rate), str(batch), str(batches)]
    command = [sys.executable, "-m", "benchmarks.plain", *words]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, batch=16, batches=20, rounds=5)
    warnings.filterwarnings("ignore")  # of many Trainers and of peers; the tables are what counts here
    for name in ("lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    keep_memory()  # as the command line does
    bf16 = fitting_precision("cpu") == "bf16-mixed"
    tables: dict[str, dict[str, Rates]] = {}
    ratios = {}
    with folder_of_frames(options.frames) as root, tempfile.TemporaryDirectory() as folder:
        fit(root, Path(folder), 0.0, options.batch, 1)  # decodes the pictures
        images, labels = torch.randn(options.batch, 3, 224, 224), torch.randint(4, (options.batch,))
        for rate in (0.0, 0.1):
            rates = {name: Rates() for name in ("ours (fit)", "bare loop", "plain")}
            for _ in range(options.rounds):
                rates["ours (fit)"].rounds.append(fit(root, Path(folder), rate, options.batch, options.batches))
                bare = bare_step(images, labels, rate, bf16=bf16)
                rates["bare loop"].rounds.append(timed(bare, options.batches))
                rates["plain"].rounds.append(plain(root, rate, options.batch, options.batches))
            title = f"training, batch {options.batch}, dropout {rate:g}, {fitting_precision('cpu')}"
            tables[title] = rates
            show(title, rates, "plain")
            ratios[f"to_plain_{rate:g}"] = ratio(rates["ours (fit)"], rates["plain"])
            ratios[f"to_bare_{rate:g}"] = ratio(rates["ours (fit)"], rates["bare loop"])
            print(f"fit is {ratios[f'to_bare_{rate:g}']:.3f}x the bare loop")
    draw(options.png, tables)
    finish(options, ratios)


if __name__ == "__main__":
    main()
