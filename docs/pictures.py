"""Makes the pictures of the README and the walkthrough from frames that the project draws itself.

python docs/pictures.py            # writes docs/img/demo_frames.png and docs/img/patches.png
"""

import io
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vit_lightning.data.demo import draw_demo

#: Class folders with what is in the picture.
CLASSES = {"tom": "the cat", "jerry": "the mouse", "tom_jerry_1": "both", "tom_jerry_0": "neither"}

#: Of configs/demo.yaml: side of the image and of a patch in pixels.
SIDE, PATCH = 96, 12

#: The patch that the walkthrough looks at, counted row by row from the top left.
SHOWN = 29


def first_frames(root: Path, name: str) -> list[Image.Image]:
    """The first frame of every clip of four that begins with this class, in the order of the clips."""
    numbers = sorted(int(path.stem.removeprefix("frame")) for path in root.rglob(f"{name}/*.jpg"))
    files = [next(root.rglob(f"{name}/frame{number}.jpg")) for number in numbers if number % 4 == 0]
    return [Image.open(file).convert("RGB") for file in files]


def demo_frames(root: Path) -> Figure:
    """Four frames of every class, each of another clip."""
    figure = Figure(figsize=(9.6, 5.0), dpi=100, layout="constrained")
    grid = figure.subplots(len(CLASSES), 4)
    for row, (name, meaning) in zip(grid, CLASSES.items(), strict=True):
        for axes, frame in zip(row, first_frames(root, name), strict=False):
            axes.imshow(frame)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(f"{name}\n{meaning}", rotation=0, ha="right", va="center", fontsize=10)
    return figure


def patches(root: Path) -> Figure:
    """The walkthrough's frame cut into its patches, one patch enlarged, and all patches as rows of numbers."""
    frame = np.asarray(first_frames(root, "tom_jerry_1")[0].resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    count = SIDE // PATCH
    top, left = (PATCH * place for place in divmod(SHOWN, count))
    figure = Figure(figsize=(8.8, 3.7), dpi=100, layout="constrained")
    whole, one, rows = figure.subplots(1, 3, width_ratios=(1.0, 0.55, 1.0))

    whole.imshow(frame, extent=(0, SIDE, SIDE, 0))
    whole.set_title(f"the image: {SIDE} x {SIDE} pixels,\n{count} x {count} patches", fontsize=10)
    whole.set(xticks=range(0, SIDE + 1, 2 * PATCH), yticks=range(0, SIDE + 1, 2 * PATCH))
    for k in range(1, count):
        whole.axhline(k * PATCH, color="white", linewidth=0.7)
        whole.axvline(k * PATCH, color="white", linewidth=0.7)
    for index in range(count**2):
        y, x = (PATCH * place for place in divmod(index, count))
        whole.text(x + 0.8, y + 0.8, str(index), color="white", fontsize=6, va="top")
    whole.add_patch(Rectangle((left, top), PATCH, PATCH, fill=False, edgecolor="red", linewidth=2))

    one.imshow(frame[top : top + PATCH, left : left + PATCH])
    one.set_title(f"patch {SHOWN}:\n{PATCH} x {PATCH} pixels x 3 channels", fontsize=10)
    one.set(xticks=[], yticks=[])
    one.spines[:].set(color="red", linewidth=2)

    table = frame.reshape(count, PATCH, count, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(count**2, -1)
    rows.imshow(table, cmap="gray", aspect="auto", interpolation="nearest")
    rows.set_title(f"all patches: {count**2} rows\nof {table.shape[1]} numbers", fontsize=10)
    rows.set(yticks=range(0, count**2, count))
    rows.set_xticks([PATCH**2 * (k + 0.5) for k in range(3)], ["red", "green", "blue"])
    rows.tick_params(axis="x", length=0)
    rows.add_patch(Rectangle((-0.5, SHOWN - 0.5), table.shape[1], 1, fill=False, edgecolor="red", linewidth=2))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG of 256 colours: a quarter of the bytes, and hardly a difference in drawn frames."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("RGB").quantize(256, kmeans=1)
    image.save(path, optimize=True)


def main(folder: Path = Path(__file__).parent / "img") -> None:
    """Draws the frames into a temporary folder and writes the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as drawn:
        root = Path(drawn)
        draw_demo(root, clips=60)
        save(demo_frames(root), folder / "demo_frames.png")
        save(patches(root), folder / "patches.png")


if __name__ == "__main__":
    main()
