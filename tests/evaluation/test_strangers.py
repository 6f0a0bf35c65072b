"""Pictures that are none of the model's business."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from vit_lightning.data.index import Sample
from vit_lightning.evaluation.embeddings import Embedded, embed_samples, write_embeddings
from vit_lightning.evaluation.strangers import (
    Nearness,
    energies,
    find_strangers,
    foreign_pictures,
    read_nearness,
    shuffled,
)
from vit_lightning.module import ViTClassifier


@pytest.fixture(scope="module")
def model() -> ViTClassifier:
    torch.manual_seed(0)
    model = ViTClassifier(num_classes=4, image_size=(16, 32), patch_size=8, dim=16, depth=1, heads=2)
    torch.nn.init.normal_(model.net.head.weight)
    return model.eval()


def test_the_distance_is_scikit_learns_and_those_beyond_the_limit_are_strangers() -> None:
    rng = np.random.default_rng(0)
    train, vectors = (rng.normal(size=(count, 6)).astype(np.float32) for count in (50, 2100))
    reference = NearestNeighbors(n_neighbors=1, metric="cosine").fit(train).kneighbors(vectors)[0][:, 0]
    near = Nearness(train, limit=float(np.median(reference)))
    assert near.distances(vectors) == pytest.approx(reference, abs=1e-5)
    assert sum(near.strange(vectors)) == pytest.approx(1050, abs=2)


def test_the_energy_is_of_the_logits(model: ViTClassifier) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    logits = vectors @ model.net.head.weight.detach().numpy().T + model.net.head.bias.detach().numpy()
    assert energies(model.net, vectors) == pytest.approx(-np.log(np.exp(logits).sum(axis=1)), abs=1e-4)


def test_shuffled_patches_are_the_same_in_another_order() -> None:
    frames = torch.arange(2 * 16 * 32 * 3, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 16, 32, 3)
    mixed = shuffled(frames, 8, np.random.default_rng(0))
    assert mixed.shape == frames.shape

    def patches(images: torch.Tensor) -> list[bytes]:
        return [
            image[y : y + 8, x : x + 8].contiguous().numpy().tobytes()
            for image in images
            for y in (0, 8)
            for x in (0, 8, 16, 24)
        ]

    assert patches(mixed)[:8] != patches(frames)[:8]
    assert sorted(patches(mixed)[:8]) == sorted(patches(frames)[:8])
    assert sorted(patches(mixed)[8:]) == sorted(patches(frames)[8:])


def test_white_pictures_are_strangers_to_drawn_frames(model: ViTClassifier, frames: Path, tmp_path: Path) -> None:
    paths = sorted(path.relative_to(frames).as_posix() for path in frames.rglob("*.jpg"))
    samples = [Sample(path, "a") for path in paths]
    embedded = (
        embed_samples(model.net, frames, samples[::2], "training"),
        embed_samples(model.net, frames, samples[1::2], "held-out"),
    )
    (tmp_path / "white").mkdir()
    for number in range(5):
        Image.new("RGB", (40, 20), (255, 255, 255 - number)).save(tmp_path / f"white/{number}.png")
    section = find_strangers(model.net, frames, embedded, foreign_pictures([tmp_path / "white"]))
    assert list(section["auroc"]) == ["noise", "shuffled patches", "white"]
    assert section["auroc"]["white"]["images"] == 5
    assert section["auroc"]["white"]["distance"] > 0.8
    held = Nearness(embedded[0].vectors).distances(embedded[1].vectors)
    assert (held <= section["threshold"]).mean() == pytest.approx(0.95, abs=0.03)


def test_what_is_kept_is_read_back_and_what_is_broken_is_told(tmp_path: Path, told: list[tuple[str, str]]) -> None:
    (tmp_path / "report").mkdir()
    vectors = np.eye(3, dtype=np.float32)
    train = Embedded([Sample(f"{k}.jpg", "a", "train") for k in range(2)], vectors[:2])
    write_embeddings(tmp_path / "report", train, Embedded([Sample("x.jpg", "a", "test")], vectors[2:]))
    near = read_nearness(tmp_path, {"threshold": 0.5, "share": 0.95})
    assert near is not None
    assert near.strange(vectors) == [False, False, True]
    assert read_nearness(tmp_path, {"threshold": "x"}) is None
    assert not told
    (tmp_path / "report/embeddings.npz").write_bytes(b"PK broken")
    assert read_nearness(tmp_path, {"threshold": 0.5}) is None
    assert "strangers are not told" in told[0][1]
