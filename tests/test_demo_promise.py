"""What the README says of the demo: its held-out clips cannot be recognised by looking alike."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.demo import CLIP_LENGTH
from vit_lightning.data.index import Sample

CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"


def thumbnails(root: Path, samples: list[Sample]) -> tuple[np.ndarray, list[str]]:
    pictures = []
    for sample in samples:
        with Image.open(root / sample.path) as image:
            pictures.append(np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX)).ravel())
    return np.stack(pictures).astype(np.float32), [sample.label for sample in samples]


@pytest.mark.slow
def test_the_thumbnail_neighbour_fails_on_held_out_clips_and_succeeds_on_random_frames(tmp_path: Path) -> None:
    settings = yaml.safe_load(CONFIG.read_text())["data"]
    accuracy = {}
    for split in ("blocks", "random"):
        data = ImageDataModule(**(settings | {"split": split, "cache_dir": str(tmp_path)}))
        data.prepare_data()
        data.setup("fit")
        used = data.used_split
        if split == "blocks":
            clips = {
                part: {(s.number or 0) // CLIP_LENGTH for s in used.part(part)} for part in ("train", "val", "test")
            }
            assert not clips["train"] & (clips["val"] | clips["test"])
            assert not clips["val"] & clips["test"]
        neighbour = KNeighborsClassifier(1).fit(*thumbnails(used.root, used.part("train")))
        accuracy[split] = neighbour.score(*thumbnails(used.root, used.part("val")))
    assert accuracy["blocks"] < 0.60, accuracy
    assert accuracy["random"] > 0.85, accuracy
