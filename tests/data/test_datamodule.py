"""Where the images come from, what is refused, and what the loaders of every stage deliver."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from vit_lightning.data import demo, kaggle
from vit_lightning.data.datamodule import ImageDataModule, LabelledImages, draw_demo_once, find_classes
from vit_lightning.data.demo import draw_demo
from vit_lightning.data.splits import write_split

MEAN = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
STD = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
CLASSES = ("ant", "bee", "cow")


def draw(root: Path, *folders: str, count: int = 10) -> None:
    """So many pictures a folder, each left half black, right half of its own colour: its index, its folder's."""
    for k, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            image = Image.new("RGB", (12, 8))
            image.paste((100 + index, 50 * k, 200), (6, 0, 12, 8))
            image.save(root / folder / f"frame{index + count * k}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pictures of each of three classes."""
    draw(tmp_path / "set", *CLASSES)
    return tmp_path / "set"


@pytest.fixture
def ready_made(tmp_path: Path) -> Path:
    """Ten training and ten test pictures of two classes each."""
    draw(tmp_path / "parts", "train/ant", "train/bee", "test/ant", "test/bee")
    return tmp_path / "parts"


def data(root: Path | None, stage: str = "fit", **changes: object) -> ImageDataModule:
    settings: dict[str, object] = {"image_size": 8, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2}
    module = ImageDataModule(root=root and str(root), **(settings | changes))  # type: ignore[arg-type]
    module.prepare_data()
    module.setup(stage)
    return module


def identity(image: Tensor) -> tuple[int, int]:
    """The index and the folder that a picture's colours tell, wherever it was cropped and flipped."""
    right = 255 * (image * STD + MEAN).amax(dim=(1, 2))
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


# Sources


def test_a_folder_without_a_root_is_refused() -> None:
    message = re.escape("data.source is folder, but no folder is given: add --data.root PATH")
    with pytest.raises(ValueError, match=message):
        data(None)
    with pytest.raises(ValueError, match=message):
        find_classes("folder", None)


@pytest.mark.parametrize("source", ["kaggle", "demo"])
def test_a_root_wins_over_the_source(root: Path, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(*arguments: object, **settings: object) -> None:
        raise AssertionError("nothing is to be fetched")

    monkeypatch.setattr(kaggle, "download", fetch)
    monkeypatch.setattr(demo, "draw_demo", fetch)
    module = data(root, source=source, cache_dir=str(tmp_path / "cache"))
    assert module.source == "folder"
    assert module.class_names == list(CLASSES)
    assert find_classes(source, str(root)) == list(CLASSES)  # type: ignore[arg-type]


def test_kaggle_s_frames_come_from_the_cache_folder(
    frames: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def download(cache_dir: Path) -> Path:
        asked.append(cache_dir)
        return frames

    monkeypatch.setattr(kaggle, "download", download)
    module = data(None, source="kaggle", cache_dir=str(tmp_path / "cache"))
    assert set(asked) == {tmp_path / "cache"}
    assert len(module.samples) == 96
    assert module.class_names == find_classes("kaggle", None)


def test_classes_are_known_before_anything_is_fetched(frames: Path) -> None:
    assert find_classes("kaggle", None) == find_classes("demo", None) == find_classes("folder", str(frames))


def test_a_home_folder_is_written_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert find_classes("folder", "~/set") == list(CLASSES)
    assert data(Path("~/set"), cache_dir="~/cache").root == root
    assert ImageDataModule(source="demo", cache_dir="~/cache").demo_root == root.parent / "cache" / "demo-1"


def test_the_cache_folder_is_the_platform_s_unless_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert ImageDataModule().cache_dir == tmp_path / "vit_lightning"
    assert ImageDataModule(cache_dir="here").cache_dir == Path("here")


def test_demo_frames_are_drawn_into_the_cache_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Path] = []

    def draw_few(root: Path, **settings: object) -> None:
        drawn.append(root)
        draw_demo(root, clips=12, size=(32, 32))

    monkeypatch.setattr(demo, "draw_demo", draw_few)
    monkeypatch.setattr(demo, "CLIPS", 12)
    first = data(None, source="demo", cache_dir=str(tmp_path))
    again = data(None, source="demo", cache_dir=str(tmp_path))
    assert len(drawn) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo-1"]
    assert first.root == again.root == tmp_path / "demo-1"
    assert first.samples == again.samples
    assert len(first.samples) == 48


def test_drawing_says_where_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[object] = []

    @contextmanager
    def track(description: str, total: int) -> Iterator[Callable[[int], None]]:
        seen.extend((description, total))
        yield seen.append

    monkeypatch.setattr("vit_lightning.data.datamodule.track", track)
    monkeypatch.setattr(demo, "CLIPS", 2)
    monkeypatch.setattr(demo, "draw_demo", partial(draw_demo, clips=2, size=(32, 32)))
    root = tmp_path / "deep" / "demo"
    draw_demo_once(root)
    assert seen == [f"drawing the demo frames into {root}", 2, 1, 1]
    assert len(list(root.rglob("*.jpg"))) == 8


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_drawing_that_was_broken_off_leaves_nothing_behind(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def break_off(root: Path, **settings: object) -> None:
        draw_demo(root, clips=1, size=(32, 32))
        raise error

    monkeypatch.setattr(demo, "draw_demo", break_off)
    with pytest.raises(type(error)):
        draw_demo_once(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": -0.1}, "data.val_fraction is -0.1; a share lies in [0, 1)"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; a share lies in [0, 1)"),
        ({"test_fraction": -0.1}, "data.test_fraction is -0.1; a share lies in [0, 1)"),
        ({"test_fraction": 1.5}, "data.test_fraction is 1.5; a share lies in [0, 1)"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "data.val_fraction 0.5 and data.test_fraction 0.5 leave nothing to train on",
        ),
        ({"batch_size": 0}, "data.batch_size is 0; it has to be at least 1"),
        ({"block_length": 0}, "data.block_length is 0; it has to be at least 1"),
        ({"guard": -1}, "data.guard is -1; it has to be at least 0"),
        ({"subset": 0}, "data.subset is 0; it has to be at least 1"),
        ({"num_workers": -1}, "data.num_workers is -1; it has to be at least 0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageDataModule(**settings)  # type: ignore[arg-type]


def test_numbers_at_the_edge_of_their_range_are_taken() -> None:
    ImageDataModule(val_fraction=0.0, test_fraction=0.0, batch_size=1, block_length=1, guard=0, subset=1, num_workers=0)
    ImageDataModule(val_fraction=0.5, test_fraction=0.49)


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_drawing_a_split_is_refused_where_one_is_ready_made(ready_made: Path, split: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.split is {split}, but .* has ready-made .*; use --data\.split folders"
    ):
        data(ready_made, split=split)


def test_ready_made_folders_are_refused_where_there_are_none(root: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"folders, but {root} has no train folder; use --data\.split random or blocks"
    ):
        data(root, split="folders")


@pytest.mark.parametrize("split", ["randon", "groups", "split.txt", ""])
def test_an_unknown_split_is_refused(root: Path, split: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.split is '{split}'; choose random, blocks, folders or a \.csv file"):
        data(root, split=split)


@pytest.mark.parametrize(("part", "missing"), [("train", "val"), ("val", "train")])
def test_a_split_without_a_part_that_is_needed_is_refused(root: Path, tmp_path: Path, part: str, missing: str) -> None:
    table = tmp_path / "split.csv"
    table.write_text(f"path,label,split\nant/frame0.png,ant,{part}\nbee/frame10.png,bee,{part}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"of {root} leaves no image for {missing}"):
        data(root, split=str(table))


# Splits


def test_left_out_the_split_is_random_or_the_ready_made_one(root: Path, ready_made: Path) -> None:
    assert data(root).split == "random"
    assert data(ready_made).split == "folders"


def test_random_takes_both_fractions(root: Path) -> None:
    module = data(root, split="random", val_fraction=0.2, test_fraction=0.3)
    assert [len(module.part(name)) for name in ("train", "val", "test")] == [15, 6, 9]
    assert module.describe() == "30 images, 3 classes, split random: train 15, val 6, test 9"


def test_blocks_take_length_and_guard(root: Path) -> None:
    module = data(root, split="blocks", val_fraction=0.2, test_fraction=0.2, block_length=6, guard=1)
    held = [[sample.number or 0 for sample in module.part(part)] for part in ("val", "test")]
    for numbers in held:
        assert numbers == list(range(numbers[0] // 6 * 6, numbers[0] // 6 * 6 + 6))
    near = {number + step for numbers in held for number in numbers for step in (-1, 0, 1)}
    assert {sample.number for sample in module.part("train")} == set(range(30)) - near


def test_a_ready_made_test_part_stays_and_validation_is_carved_from_training(ready_made: Path) -> None:
    module = data(ready_made, val_fraction=0.2)
    assert [len(module.part(name)) for name in ("train", "val", "test")] == [16, 4, 20]
    assert all(sample.path.startswith("test/") for sample in module.part("test"))


def test_another_seed_draws_another_split(root: Path) -> None:
    assert data(root, seed=1).samples == data(root, seed=1).samples
    assert data(root, seed=1).samples != data(root, seed=2).samples


def test_subset_keeps_so_many_images_a_class(root: Path) -> None:
    module = data(root, subset=5, val_fraction=0.2)
    assert Counter((sample.label, sample.split) for sample in module.samples) == {
        (label, part): count for label in CLASSES for part, count in (("train", 4), ("val", 1))
    }
    whole = data(root, val_fraction=0.2)
    assert set(module.samples) < set(whole.samples)  # drawn after splitting


def test_subset_is_drawn_by_the_seed(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "split.csv", data(root).samples)
    one, again, other = (data(root, split=str(tmp_path / "split.csv"), subset=5, seed=seed) for seed in (7, 7, 8))
    assert one.samples == again.samples
    assert one.samples != other.samples


def test_a_split_s_file_repeats_it_though_images_have_come_since(root: Path, tmp_path: Path) -> None:
    module = data(root, seed=3, test_fraction=0.2)
    write_split(tmp_path / "split.csv", module.samples)
    Image.new("RGB", (12, 8)).save(root / "ant" / "frame99.png")
    again = data(root, split=str(tmp_path / "split.csv"), seed=4)
    assert again.samples == module.samples
    assert again.split_id == module.split_id
    assert again.data_id != module.data_id


def test_a_split_s_file_works_over_ready_made_folders_too(ready_made: Path, tmp_path: Path) -> None:
    module = data(ready_made)
    write_split(tmp_path / "split.csv", module.samples)
    assert data(ready_made, split=str(tmp_path / "split.csv")).samples == module.samples


def test_set_up_twice_is_set_up_once(root: Path) -> None:
    module = data(root)
    before = list(module.samples)
    (root / "ant" / "frame0.png").unlink()
    module.setup("test")
    assert module.samples == before


# Identity


def test_same_images_and_same_split_share_their_identities(root: Path, tmp_path: Path) -> None:
    draw(tmp_path / "copy", *CLASSES)
    one, copy = data(root), data(tmp_path / "copy")
    assert re.fullmatch("[0-9a-f]{12}", one.data_id)
    assert re.fullmatch("[0-9a-f]{12}", one.split_id)
    assert (one.data_id, one.split_id) == (copy.data_id, copy.split_id)


def test_another_split_changes_the_split_s_identity_only(root: Path) -> None:
    modules = [data(root), data(root, seed=1), data(root, subset=5), data(root, test_fraction=0.2)]
    assert len({module.data_id for module in modules}) == 1
    assert len({module.split_id for module in modules}) == len(modules)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "relabelled"])
def test_other_images_change_the_data_s_identity(root: Path, change: str) -> None:
    before = data(root).data_id
    path = root / "ant" / "frame3.png"
    if change == "added":
        Image.new("RGB", (12, 8)).save(root / "ant" / "frame99.png")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(root / "ant" / "frame77.png" if change == "renamed" else root / "bee" / "frame3.png")
    assert data(root).data_id != before


# Loaders


def test_training_batches_have_their_shapes_and_types(root: Path) -> None:
    module = data(root, image_size=(8, 14), batch_size=5)
    batches = list(module.train_dataloader())
    assert [tuple(images.shape) for images, _ in batches] == [*[(5, 3, 8, 14)] * 4, (4, 3, 8, 14)]
    for images, labels in batches:
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert labels.shape == images.shape[:1]


@pytest.mark.parametrize("augment", ["none", "light"])
def test_every_image_is_loaded_once_with_its_folder_s_label(root: Path, augment: str) -> None:
    module = data(root, augment=augment, test_fraction=0.1)
    loaders = (module.train_dataloader(), single(module.val_dataloader()), module.test_dataloader())
    found = [picture for loader in loaders for picture in contents(loader)]
    assert sorted(found) == sorted((index, folder, folder) for folder in range(3) for index in range(10))


def test_labels_follow_all_classes_where_a_part_lacks_some(tmp_path: Path) -> None:
    draw(tmp_path, "train/ant", "train/bee", "val/bee", "train/cow")
    module = data(tmp_path, augment="none")
    assert {(folder, label) for _, folder, label in contents(single(module.val_dataloader()))} == {(2, 1)}
    assert {(folder, label) for _, folder, label in contents(module.train_dataloader())} == {(0, 0), (1, 1), (3, 2)}


def test_validation_and_test_come_in_order_and_the_same_each_time(root: Path) -> None:
    module = data(root, augment="trivial", val_fraction=0.4, test_fraction=0.3)
    for part, loader in (("val", single(module.val_dataloader())), ("test", module.test_dataloader())):
        numbers = [sample.number for sample in module.part(part)]
        assert [index + 10 * folder for index, folder, _ in contents(loader)] == numbers
        first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
        assert torch.equal(first, second)
        assert (first[:, 2, :, 0] < first[:, 2, :, -1]).all()  # black is on the left, as drawn
        assert len(first) == len(numbers)


def test_training_is_shuffled_and_augmented(root: Path) -> None:
    torch.manual_seed(0)
    loader = data(root, augment="light").train_dataloader()
    assert isinstance(loader.sampler, RandomSampler)
    assert contents(loader) != contents(loader)
    images = torch.cat([images for images, _ in loader])
    assert 0 < (images[:, 2, 0, 0] > images[:, 2, 0, -1]).sum() < len(images)  # some are mirrored


@pytest.mark.parametrize(
    ("settings", "trivial"), [({}, True), ({"augment": "light"}, False), ({"augment": "none"}, False)]
)
def test_training_takes_the_chosen_augmentation(root: Path, settings: dict[str, str], trivial: bool) -> None:
    dataset = data(root, **settings).train_dataloader().dataset
    assert isinstance(dataset, LabelledImages)
    assert ("TrivialAugmentWide" in str(dataset.transform)) == trivial


def test_no_validation_part_means_no_loader(root: Path) -> None:
    module = data(root, val_fraction=0.0, test_fraction=0.2)
    assert module.val_dataloader() == []
    assert len(contents(module.test_dataloader())) == 6


def test_test_falls_back_to_validation(root: Path) -> None:
    module = data(root)
    assert module.test_part == "val"
    assert contents(module.test_dataloader()) == contents(single(module.val_dataloader()))
    module = data(root, test_fraction=0.3)
    assert module.test_part == "test"
    assert len(contents(module.test_dataloader())) == 9


@pytest.mark.parametrize(("devices", "share"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_the_batch_is_shared_out_over_devices(root: Path, devices: int, share: int) -> None:
    module = data(root, batch_size=6)
    module.trainer = SimpleNamespace(world_size=devices)  # type: ignore[assignment]
    loaders = (
        module.train_dataloader(),
        module.val_dataloader(),
        module.test_dataloader(),
        module.predict_dataloader(),
    )
    assert [loader.batch_size for loader in loaders if isinstance(loader, DataLoader)] == [share] * 4


def test_a_batch_that_cannot_be_shared_out_is_refused(root: Path) -> None:
    module = data(root, batch_size=6)
    module.trainer = SimpleNamespace(world_size=4)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"batch_size 6 cannot be shared .* over 4 devices; choose a multiple of 4"):
        module.train_dataloader()


def test_workers_are_those_asked_for_or_none_for_a_few_pictures(root: Path) -> None:
    assert data(root, num_workers=2).train_dataloader().num_workers == 2
    assert data(root, num_workers=None, batch_size=12).train_dataloader().num_workers == 0
    assert 1 <= data(root, num_workers=None, batch_size=4).train_dataloader().num_workers <= 8


def test_worker_processes_load_the_same(root: Path) -> None:
    one, other = (single(data(root, num_workers=workers).val_dataloader()) for workers in (0, 1))
    assert contents(one) == contents(other)


def test_predict_labels_the_files_asked_for_without_a_data_set(root: Path) -> None:
    module = ImageDataModule(image_size=8, batch_size=2, num_workers=0)
    module.predict_paths = [root / "cow" / "frame25.png", root / "ant" / "frame4.png", root / "bee" / "frame11.png"]
    module.prepare_data()
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert [list(paths) for _, paths in batches] == [
        [str(path) for path in module.predict_paths[:2]],
        [str(module.predict_paths[2])],
    ]
    assert [identity(image) for images, _ in batches for image in images] == [(5, 2), (4, 0), (1, 1)]


@pytest.mark.parametrize(("test_fraction", "part"), [(0.0, "val"), (0.3, "test")])
def test_predict_labels_the_held_out_images_unless_asked_otherwise(root: Path, test_fraction: float, part: str) -> None:
    module = data(root, "predict", test_fraction=test_fraction)
    batches = list(module.predict_dataloader())
    assert [path for _, paths in batches for path in paths] == [
        str(root / sample.path) for sample in module.samples if sample.split == part
    ]
    assert {tuple(image.shape) for images, _ in batches for image in images} == {(3, 8, 8)}
