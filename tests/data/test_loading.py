"""What the loaders deliver: every image once with its label, in an order and with pixels that the seed decides."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.loading import EpochSampler

BAD = ["ant/frame3.png", "bee/frame11.png"]


def data(root: Path, stage: str = "fit", **changes: object) -> ImageDataModule:
    settings: dict[str, object] = {"image_size": 8, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2}
    module = ImageDataModule(root=str(root), **(settings | changes))  # type: ignore[arg-type]  # settings of many types
    module.prepare_data()
    module.setup(stage)
    return module


def identity(image: Tensor) -> tuple[int, int]:
    """The index and the folder that a picture's colours tell, wherever it was cropped and flipped."""
    right = image.amax(dim=(0, 1))
    return round(float(right[0])) - 100, round(float(right[1])) // 50


def contents(loader: DataLoader[tuple[Tensor, int]]) -> list[tuple[int, int, int]]:
    """Index, folder and label of all a loader's pictures."""
    return [
        (*identity(image), int(label)) for images, labels in loader for image, label in zip(images, labels, strict=True)
    ]


def single(
    loader: DataLoader[tuple[Tensor, int]] | list[DataLoader[tuple[Tensor, int]]],
) -> DataLoader[tuple[Tensor, int]]:
    assert isinstance(loader, DataLoader)
    return loader


def test_training_batches_have_their_shapes_and_types(root: Path) -> None:
    module = data(root, image_size=(8, 14), batch_size=5)
    batches = list(module.train_dataloader())
    assert [tuple(images.shape) for images, _ in batches] == [*[(5, 8, 14, 3)] * 4, (4, 8, 14, 3)]
    for images, labels in batches:
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert labels.shape == images.shape[:1]


@pytest.mark.parametrize("augment", ["none", "light"])
def test_every_image_is_loaded_once_with_its_folder_s_label(root: Path, augment: str) -> None:
    module = data(root, augment=augment, test_fraction=0.1)
    loaders = (module.train_dataloader(), single(module.val_dataloader()), module.test_dataloader())
    found = [picture for loader in loaders for picture in contents(loader)]
    assert sorted(found) == sorted((index, folder, folder) for folder in range(3) for index in range(10))


def test_labels_follow_all_classes_where_a_part_lacks_some(draw: Callable[..., None], tmp_path: Path) -> None:
    draw(tmp_path, "train/ant", "train/bee", "val/bee", "train/cow")
    module = data(tmp_path, augment="none")
    assert {(folder, label) for _, folder, label in contents(single(module.val_dataloader()))} == {(2, 1)}
    assert {(folder, label) for _, folder, label in contents(module.train_dataloader())} == {(0, 0), (1, 1), (3, 2)}


def test_validation_and_test_come_in_order_and_the_same_each_time(root: Path) -> None:
    module = data(root, augment="trivial", val_fraction=0.4, test_fraction=0.3)
    for part, loader in (("val", single(module.val_dataloader())), ("test", module.test_dataloader())):
        numbers = [sample.number for sample in module.used_split.part(part)]
        assert [index + 10 * folder for index, folder, _ in contents(loader)] == numbers
        first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
        assert torch.equal(first, second)
        assert (first[:, :, 0, 2] < first[:, :, -1, 2]).all()  # black is on the left, as drawn
        assert len(first) == len(numbers)


def epoch_of(loader: DataLoader[tuple[Tensor, int]], epoch: int) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """All images of an epoch in their order, and what is on them."""
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(epoch)
    return torch.cat([images for images, _ in loader]), contents(loader)


def test_training_is_shuffled_and_augmented_anew_in_every_epoch(root: Path) -> None:
    loader = data(root, augment="light").train_dataloader()
    (first, order), (second, other_order) = epoch_of(loader, 0), epoch_of(loader, 1)
    assert order != sorted(order)
    assert order != other_order
    assert sorted(order) == sorted(other_order)
    assert 0 < (first[:, 0, 0, 2] > first[:, 0, -1, 2]).sum() < len(first)  # some are mirrored
    place = {picture: index for index, picture in enumerate(other_order)}
    same = [torch.equal(image, second[place[picture]]) for image, picture in zip(first, order, strict=True)]
    assert sum(same) < len(same) / 2  # cropped and mirrored anew


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_order_and_augmentation_depend_on_seed_epoch_and_image_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Not on loader processes, on what else is drawn, or on how many devices share the images."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    expected, order = epoch_of(data(root).train_dataloader(), 3)
    torch.manual_seed(123)
    found, found_order = epoch_of(data(root, num_workers=workers).train_dataloader(), 3)
    assert torch.equal(found, expected)
    assert found_order == order
    shares = []
    for rank in (0, 1):
        module = data(root, num_workers=workers)
        module.trainer = SimpleNamespace(world_size=2, global_rank=rank)  # type: ignore[assignment]  # a stand-in
        shares.append(epoch_of(module.train_dataloader(), 3)[0])
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), expected)


def test_no_seed_repeats_the_orders_of_another() -> None:
    """As those of seed + epoch would."""
    orders = []
    for seed in (7, 8):
        sampler = EpochSampler(range(30), num_replicas=1, rank=0, seed=seed)  # type: ignore[arg-type]  # has a length
        for epoch in (2, 3):
            sampler.set_epoch(epoch)
            orders.append(tuple(index for _, index in sampler))
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_an_epoch_under_way_keeps_its_number(root: Path) -> None:
    """Lightning sets the next one while loader processes may still be asking."""
    sampler = data(root).train_dataloader().sampler
    assert isinstance(sampler, EpochSampler)
    under_way = iter(sampler)
    next(under_way)
    sampler.set_epoch(5)
    assert {epoch for epoch, _ in under_way} == {0}


@pytest.mark.parametrize("cache", ["disk", "memory", "none"])
def test_training_images_are_the_same_before_and_after_they_are_kept(root: Path, cache: str) -> None:
    module = data(root, "test", augment="trivial", cache=cache)
    before, order = epoch_of(module.train_dataloader(), 0)
    module.setup("fit")
    after, same_order = epoch_of(module.train_dataloader(), 0)
    assert order == same_order
    assert torch.equal(before, after)


@pytest.mark.parametrize("augment", ["trivial", "light", "article", "none"])
@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_batches_from_a_cache_are_those_from_the_files_to_the_bit(root: Path, cache: str, augment: str) -> None:
    kept, read = (data(root, cache=kind, augment=augment) for kind in (cache, "none"))
    for one, other in zip(
        (kept.train_dataloader(), single(kept.val_dataloader())),
        (read.train_dataloader(), single(read.val_dataloader())),
        strict=True,
    ):
        for (images, labels), (their_images, their_labels) in zip(one, other, strict=True):
            assert torch.equal(images, their_images)
            assert torch.equal(labels, their_labels)


def test_augmenting_leaves_torch_s_own_numbers_as_they_were(root: Path) -> None:
    dataset = data(root).train_dataloader().dataset
    before = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("gpu", "cores", "workers"), [(True, 2, 2), (True, 64, 8), (False, 2, 0), (False, 8, 2)])
def test_workers_are_those_asked_for_or_by_the_hardware(
    root: Path, gpu: bool, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("vit_lightning.data.loading.available_cores", lambda: cores)
    assert data(root, num_workers=3).train_dataloader().num_workers == 3
    assert data(root, num_workers=None, batch_size=4).train_dataloader().num_workers == workers
    assert data(root, num_workers=None, batch_size=12).train_dataloader().num_workers == 0  # a few pictures only


def test_worker_processes_load_the_same(root: Path) -> None:
    one, other = (single(data(root, num_workers=workers).val_dataloader()) for workers in (0, 1))
    assert contents(one) == contents(other)


@pytest.mark.parametrize("workers", [0, 1])
def test_predict_gets_a_whole_batch_of_unreadable_files(damaged: Path, workers: int) -> None:
    module = ImageDataModule(image_size=8, batch_size=2, num_workers=workers)
    module.predict_paths = [*(damaged / path for path in BAD), damaged / "ant/frame0.png", damaged / "gone.png"]
    first, second = module.predict_dataloader()
    for images, paths, reasons in (first, second):
        assert images.shape == (2, 8, 8, 3)
        assert len(paths) == len(reasons) == 2
    assert first[2][0] == "the file is empty"
    assert first[2][1] != ""
    assert list(second[2]) == ["", "No such file or directory"]
