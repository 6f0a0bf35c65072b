"""Writes what `predict` finds, batch by batch."""

import json
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.cells import cell_len, set_cell_size
from torch import Tensor

from vit_lightning.callbacks.pictures import captioned, magnified
from vit_lightning.data.frames import load_frame
from vit_lightning.data.loading import Prediction
from vit_lightning.data.scan import write_unreadable
from vit_lightning.data.video import frame_at
from vit_lightning.evaluation.attention import attention_of, overlay
from vit_lightning.evaluation.conformal import kept_words, limit_of, set_of
from vit_lightning.evaluation.strangers import Nearness
from vit_lightning.files import cell, cell_of_path, csv_line
from vit_lightning.inference import Smoothing, checked, top_classes
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import WIDTH, legible

log = logging.getLogger(__name__)

#: What a table's cell may hold.
Value = str | int | float | None | list[str]

#: Predictions shown on the terminal; the file has all.
SHOWN = 20

#: Unreadable files named on the terminal, likewise.
NAMED = 5

#: Columns that the name of a file is given on the terminal even where much is to be said of it.
NAME_WIDTH = 24

#: Longest side in pixels of a picture that is shown with the attention; a smaller one is enlarged to at least `SMALL`.
LONGEST, SMALL = 1024, 240

#: Endings of the files that predictions are written into.
ENDINGS = (".csv", ".json", ".jsonl")


class PredictionWriter(Callback):
    """A table with path, label, index, confidence and the next likeliest classes; the first rows also on the terminal.

    It is a CSV, a JSON list of objects or JSON Lines, as the name's ending says, and whole after every batch: Ctrl-C, a
    full disk or a power cut leave what was written until then. A file that cannot be read has no row there, so that
    every row is a label. All such files are in a second CSV, path,reason, which is there only where there are any:
    `0001.unreadable.csv` beside `0001.csv`.

    Where there are videos, each of their frames has a row, and the last column `time` has the seconds; it is empty of
    a picture. Their probabilities are means over a window of time, if one is asked for; the attention is a frame's own.

    Args:
        path: The table: a .csv, .json or .jsonl.
        class_names: Names of the classes.
        attention: Also draw each image with the attention over it, as `0001-attention/00001-NAME.png` beside
            `0001.csv`; the number is that of the row.
        top: How many of the likeliest classes are told, the label among them.
        smooth: Seconds of the window, see `Smoothing`.
        sets: What `kept_sets` has kept of the run: a column `set` then has the classes that may be the true one.
        nearness: To all of training: a column `stranger` then says yes or no.

    Raises:
        ValueError: Another ending, or `top` is less than 1.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        *,
        attention: bool = False,
        top: int = 3,
        smooth: float = 0.0,
        sets: dict[str, Any] | None = None,
        nearness: Nearness | None = None,
    ) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise ValueError(f"--output {path} has to end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
        if top < 1:
            raise ValueError(f"--top is {top}; it is the number of classes told of each image, at least 1")
        self.path = path
        self.class_names = class_names
        self.attention = attention
        self.top = min(top, len(class_names))
        #: Whether there are videos, and how one comes to the file of a picture.
        self.videos = False
        self.file_of: Callable[[Path | str], Path] = Path
        self.smoothing = Smoothing(smooth)
        self.sets, self.limit = sets, limit_of(sets)
        self.sizes: Counter[int] = Counter()
        self.nearness = nearness
        self.vectors: list[Tensor] = []  # what the head has read in this batch
        self.strange: deque[bool] = deque()
        self.strangers = 0
        self.drawn = 0
        self.counts: Counter[str] = Counter()
        self.table: Table | None = None
        self.shown: list[tuple[str, float | None, list[tuple[int, str, float]]]] = []
        #: How many files could not be read, and the first of them with the reason.
        self.unreadable = 0
        self.named: dict[str, str] = {}

    @property
    def unreadable_path(self) -> Path:
        """The CSV of the files that could not be read."""
        return self.path.with_suffix(".unreadable.csv")

    @property
    def attention_folder(self) -> Path:
        """The folder of the pictures with the attention over them."""
        return self.path.with_name(f"{self.path.stem}-attention")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.unreadable_path.unlink(missing_ok=True)  # of an earlier command with the same --output
        if self.attention:
            self.attention_folder.mkdir(exist_ok=True)
            for picture in self.attention_folder.glob("[0-9][0-9][0-9][0-9][0-9]*-*.png"):
                picture.unlink()
        columns = ["path", "label", "index", "confidence"]
        for rank in range(2, self.top + 1):
            columns += [f"label_{rank}", f"confidence_{rank}"]
        columns += ["set"] * (self.limit is not None) + ["stranger"] * (self.nearness is not None)
        if self.nearness is not None:
            assert isinstance(pl_module, ViTClassifier)
            pl_module.net.head.register_forward_pre_hook(lambda _, given: self.vectors.append(given[0]))
        self.table = Table(self.path, columns + ["time"] * self.videos)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Prediction,
        batch: Any,  # noqa: ANN401  # Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one batch.

        Raises:
            ValueError: The model gives no numbers.
            OSError: The disk is full.
        """
        probabilities = checked(outputs["probabilities"].cpu())
        times = outputs.get("times", [None] * len(probabilities))
        found = list(zip(outputs["path"], times, probabilities, strict=True))
        if self.nearness is not None:
            readable = [place for place, reason in enumerate(batch[2]) if not reason]
            self.strange += self.nearness.strange(self.vectors[0][readable].float().cpu().numpy()) if readable else []
            self.vectors.clear()
        if self.attention:
            self.draw(pl_module, found, batch)
            self.vectors.clear()
        for path, time, each in found:
            self.smoothing.add(path, time, each)
        self.write(self.smoothing.ready())
        unreadable = outputs["unreadable"]
        if unreadable:
            write_unreadable(self.unreadable_path, unreadable, append=self.unreadable > 0)
            self.unreadable += len(unreadable)
            self.named |= dict(list(unreadable.items())[: NAMED - len(self.named)])

    def write(self, labelled: Iterable[tuple[str, float | None, Tensor]]) -> None:
        """Writes a row each for a path, a time and the probabilities (K,)."""
        assert self.table is not None, "on_predict_start comes first"
        rows: list[list[Value]] = []
        found = []
        for path, time, each in labelled:
            classes = top_classes(each, self.class_names, self.top)
            (index, label, confidence), *others = classes
            rows.append([path, label, index, confidence])
            for _, other, probability in others:
                rows[-1] += [other, probability]
            if self.limit is not None:
                inside = set_of(each.numpy(), self.limit)
                self.sizes[len(inside)] += 1
                rows[-1].append([self.class_names[k] for k in inside])
            if self.nearness is not None:
                strange = self.strange.popleft()
                self.strangers += strange
                rows[-1].append("yes" if strange else "no")
            rows[-1] += [time] * self.videos
            found.append((path, time, classes))
        self.table.add(rows)
        self.shown += found[: max(0, SHOWN - len(self.shown))]
        self.counts.update(classes[0][1] for *_, classes in found)

    def draw(
        self,
        pl_module: LightningModule,
        labelled: Iterable[tuple[str, float | None, Tensor]],
        batch: Sequence[Any],
    ) -> None:
        """Draws one batch: each picture in its own shape, and once more with the attention over it."""
        assert isinstance(pl_module, ViTClassifier)
        images, _, reasons, *_ = batch
        readable = torch.tensor([not reason for reason in reasons], device=images.device)
        attention = attention_of(pl_module.net, images[readable])
        for (path, time, each), weights in zip(labelled, attention, strict=True):
            self.drawn += 1
            picture = load_frame(self.file_of(path), shown_size) if time is None else frame_at(path, time, shown_size)
            picture = magnified(picture, max(1, math.ceil(SMALL / max(picture.shape[:2]))))
            classes = top_classes(each, self.class_names, self.top)
            text = ", ".join(f"{label} {share:.1%}" for _, label, share in classes)
            beside = picture.shape[0] > picture.shape[1]
            caption = Path(path).name + moment(time)
            drawn = captioned([picture, overlay(picture, weights)], [text, caption], beside=beside, whole=True)
            # A name may be 255 bytes long, which those of 60 letters are not.
            drawn.save(self.attention_folder / f"{self.drawn:05}-{Path(path).stem[:60]}.png", compress_level=1)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what was written so far."""
        if self.table is not None:
            self.table.close()
            if self.counts.total():
                log.warning("broken off after %d images; their labels are in %s", self.counts.total(), self.path)
            else:
                self.path.unlink()  # it would look like the answer

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the file and says what is in it."""
        self.write(self.smoothing.rest())
        if self.table is not None:
            self.table.close()
        self.tell_first()
        total = self.counts.total()
        if total > SHOWN:
            log.info("... and %d more", total - SHOWN)
        if total:
            shares = ", ".join(f"{legible(label)} {count}" for label, count in self.counts.most_common())
            what = "images and frames" if self.videos else "images"
            log.info("%d %s: %s; written to %s", total, what, shares, self.path)
            if self.attention:
                log.info("drawn with the attention over them in %s", self.attention_folder)
            self.tell_sets()
        self.tell_unreadable()

    def tell_sets(self) -> None:
        """Says what the sets are worth, and how large they are; and how many images are strangers."""
        if self.sets is not None:
            size = sum(number * count for number, count in self.sizes.items()) / self.sizes.total()
            log.info("sets of %.2f classes on average %s", size, kept_words(self.sets))

        if self.nearness is not None and self.strangers:
            text = "strangers, unlike all training images: %d of %d; the column says which"
            log.info(text, self.strangers, self.counts.total())

    def tell_first(self) -> None:
        """Says the labels of the first images, a line each, with as many further classes as a terminal has room for."""
        names = [legible("/".join(Path(path).parts[-2:])) + moment(time) for path, time, _ in self.shown]
        told = []
        for *_, ((index, label, confidence), *others) in self.shown:
            rest = [f"{legible(other, NAME_WIDTH)} {probability:.1%}" for _, other, probability in others]
            told.append([f"{legible(label, NAME_WIDTH)} ({index}) {confidence:.1%}", *rest])
        longest = max((cell_len(", then ".join(parts)) for parts in told), default=0)
        width = min(max(NAME_WIDTH, WIDTH - 2 - longest), max(map(cell_len, names), default=0))
        for name, (text, *rest) in zip(names, told, strict=True):
            line = set_cell_size(legible(name, width), width) + f"  {text}"
            for rank, more in enumerate(rest):
                more = f", {more}" if rank else f", then {more}"
                if cell_len(line + more) > WIDTH:
                    break
                line += more
            log.info("%s", line)

    def tell_unreadable(self) -> None:
        """Says which files have no label, if any."""
        if self.unreadable == 1:
            ((path, reason),) = self.named.items()
            log.error("%s has no label: %s", legible(path), reason)
        elif self.unreadable:
            for path, reason in self.named.items():
                log.warning("%s has no label: %s", legible(path), reason)
            files = "" if self.videos else f" of {self.unreadable + self.counts.total()}"  # else frames are counted
            text = "%d%s files could not be read and have no label; all are listed in %s"
            log.error(text, self.unreadable, files, self.unreadable_path)


class Table:
    """A file of rows that is whole whenever it is looked at.

    Each `add` writes over the closing bracket of a JSON list and sets it again; what a full disk or Ctrl-C tore is
    taken back to the row before.

    Args:
        path: Its ending says whether it is a CSV, a JSON list of objects, or JSON Lines.
        columns: Names of the columns.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.kind, self.columns = path.suffix.lower(), columns
        self.close_with = b"\n]\n" if self.kind == ".json" else b""
        self.file = path.open("wb", buffering=0)  # a buffer would try once more to write what a full disk refused
        self.rows = 0
        self.end = self.write({".csv": csv_line(columns), ".json": "[", ".jsonl": ""}[self.kind], 0)

    def add(self, rows: Sequence[Sequence[Value]]) -> None:
        """Adds rows, each with a value a column, or None; shares and times are rounded to a millionth.

        Several names in one cell of a CSV are apart by ` | `.

        Raises:
            OSError: The disk is full; then none of them is there.
        """
        text = ""
        for number, row in enumerate(rows, self.rows):
            if self.kind == ".csv":
                path, *rest = row
                cells = (
                    f"{each:.6f}"
                    if isinstance(each, float)
                    else cell(" | ".join(each) if isinstance(each, list) else "" if each is None else str(each))
                    for each in rest
                )
                text += csv_line([cell_of_path(str(path)), *cells])
                continue
            values = [round(value, 6) if isinstance(value, float) else value for value in row]
            line = json.dumps(dict(zip(self.columns, values, strict=True)), ensure_ascii=False)
            text += f"{line}\n" if self.kind == ".jsonl" else f"{',' * bool(number)}\n{line}"
        try:
            self.end = self.write(text, self.end)
        except BaseException:
            self.file.truncate(self.end)
            self.write("", self.end)
            raise
        self.rows += len(rows)

    def write(self, text: str, place: int) -> int:
        """Writes text from a place on, and what closes the file; gives the place where the next text goes."""
        content = memoryview(text.encode() + self.close_with)
        self.file.seek(place)
        while content:  # the system may take a part
            content = content[self.file.write(content) :]
        return self.file.tell() - len(self.close_with)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def moment(time: float | None) -> str:
    """A frame's time as it stands behind the name of its video."""
    return "" if time is None else f" {time:.1f} s"


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture of this size where it is shown: no larger than it is, nor than `LONGEST`."""
    scale = min(1.0, LONGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
