"""Embeddings of images, and the training images nearest to one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from vit_lightning.data.frames import load_frame
from vit_lightning.data.index import Sample
from vit_lightning.data.transforms import frame_size
from vit_lightning.evaluation import embeddings
from vit_lightning.evaluation.embeddings import (
    Embedded,
    embed,
    embed_samples,
    nearest_of_groups,
    neighbours_of,
    write_embeddings,
)
from vit_lightning.inference import predict_paths
from vit_lightning.module import ViTClassifier


@pytest.fixture(scope="module", params=["cls", "gap"])
def model(request: pytest.FixtureRequest) -> ViTClassifier:
    torch.manual_seed(0)
    model = ViTClassifier(
        num_classes=4, pool=request.param, image_size=(16, 32), patch_size=8, dim=16, depth=2, heads=2
    )
    torch.nn.init.normal_(model.net.head.weight)
    return model.eval()


def samples_of(frames: Path) -> list[Sample]:
    paths = sorted(path.relative_to(frames).as_posix() for path in frames.rglob("*.jpg"))
    return [Sample(path, path.split("/")[-2], "train", str(index // 4)) for index, path in enumerate(paths)]


def test_an_embedding_is_what_the_head_reads(frames: Path, model: ViTClassifier) -> None:
    samples = samples_of(frames)[:40]
    found = embed_samples(model.net, frames, samples, "training")
    assert found.samples == samples
    logits = torch.from_numpy(found.vectors) @ model.net.head.weight.T + model.net.head.bias
    expected = [each for _, each in predict_paths(model, [frames / sample.path for sample in samples])]
    assert logits.softmax(dim=-1).detach().numpy() == pytest.approx(torch.stack(expected).numpy(), abs=1e-5)


def test_the_network_keeps_its_mode(frames: Path, model: ViTClassifier) -> None:
    frame = load_frame(next(frames.rglob("*.jpg")), frame_size((16, 32)))
    model.train()
    embed(model.net, frame[None])
    assert model.net.training
    model.eval()


def test_the_nearest_are_scikit_learns_one_a_group() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    train = Embedded([Sample(f"{k}.jpg", "a", "train", str(k // 5)) for k in range(200)], vectors)
    held = Embedded([Sample("x.jpg", "b", "test")], rng.normal(size=(1, 8)).astype(np.float32))
    distances, order = NearestNeighbors(n_neighbors=200, metric="cosine").fit(vectors).kneighbors(held.vectors)
    expected: dict[str, tuple[str, float]] = {}
    for index, distance in zip(order[0], distances[0], strict=True):
        sample = train.samples[index]
        expected.setdefault(sample.group, (sample.path, 1 - float(distance)))
    found = neighbours_of(train, held)(0)
    nearest = list(expected.values())[:3]
    assert [sample.path for sample, _ in found] == [path for path, _ in nearest]
    assert [similar for _, similar in found] == pytest.approx([similar for _, similar in nearest], abs=1e-5)
    alone = Embedded([Sample(f"{k}.jpg", "a", "train") for k in range(2)], vectors[:2])
    assert len(nearest_of_groups(vectors[5], alone, 3)) == 2


def test_of_very_many_training_images_some_are_taken_evenly(
    frames: Path, model: ViTClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "AT_ONCE", 7)
    samples = samples_of(frames)
    found = embed_samples(model.net, frames, samples, "training", most=32)
    assert found.samples == samples[::3]
    assert found.vectors == pytest.approx(embed_samples(model.net, frames, samples, "training").vectors[::3], abs=1e-5)


def test_the_file_is_read_by_numpy_alone(tmp_path: Path) -> None:
    one = Embedded([Sample("a/\u00e4.jpg", "a", "train", "3")], np.ones((1, 2), dtype=np.float32))
    two = Embedded([Sample("b/2.jpg", "long name", "test")], np.zeros((1, 2), dtype=np.float32))
    write_embeddings(tmp_path, one, two)
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as file:
        told = {name: file[name].tolist() for name in file.files}
    assert told == {
        "vector": [[1, 1], [0, 0]],
        "path": ["a/\u00e4.jpg", "b/2.jpg"],
        "label": ["a", "long name"],
        "split": ["train", "test"],
        "group": ["3", ""],
    }
