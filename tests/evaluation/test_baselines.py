"""What a split is worth: hand-worked baselines, scikit-learn's neighbour, and planted duplicates."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_1samp
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.data.index import Sample
from vit_lightning.data.splitting import Split
from vit_lightning.evaluation.baselines import Baselines, advice, lead, majority, neighbour_number, score_baselines


def samples(*names: str) -> list[Sample]:
    """`a/7` is a/frame7.jpg of the class a."""
    return [Sample(f"{name[0]}/frame{name[2:]}.jpg", name[0]) for name in names]


def split_of(root: Path, split: str = "random", **settings: object) -> Split:
    data = ImageDataModule(root=str(root), split=split, image_size=8, val_fraction=0.2, test_fraction=0.2, **settings)  # type: ignore[arg-type]  # settings of many types
    data.prepare_data()
    data.arrange("fit")
    return data.used_split


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Real, independent pictures: 1,200 digits that people wrote, 8 x 8 pixels."""
    found = load_digits()
    for index, (image, label) in enumerate(zip(found.images[:1200], found.target[:1200], strict=True)):
        folder = tmp_path / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9375).astype(np.uint8)).save(folder / f"digit{index}.png")
    return tmp_path / "digits"


def test_majority_is_that_of_training() -> None:
    hits = majority(samples("a/1", "a/2", "b/3"), samples("b/4", "b/5", "a/6", "b/7"))
    assert hits.tolist() == [False, False, True, False]


def test_the_nearest_number_worked_by_hand() -> None:
    train = samples("a/1", "b/10", "c/20")
    held = samples("a/2", "b/14", "b/16", "c/900", "b/15")  # 15 is as near to 10 as to 20: the lower one
    hits = neighbour_number(train, held)
    assert hits is not None
    assert hits.tolist() == [True, True, False, True, True]


def test_of_equal_numbers_the_commonest_label_counts() -> None:
    train = samples("b/1", "b/1", "a/1", "a/9")
    hits = neighbour_number(train, samples("b/2", "b/3", "a/2"))
    assert hits is not None
    assert hits.tolist() == [True, True, False]


def test_without_numbers_there_is_no_nearest() -> None:
    assert neighbour_number(samples("a/1"), samples("a/x")) is None
    assert neighbour_number(samples("a/x"), samples("a/1")) is None


def test_the_thumbnail_neighbour_is_scikit_learns(frames: Path) -> None:
    split = split_of(frames)
    baselines = score_baselines(split, "val")
    train, val = split.part("train"), split.part("val")
    neighbour = KNeighborsClassifier(1).fit(
        split.thumbnails(train).reshape(len(train), -1), [sample.label for sample in train]
    )
    accuracy = neighbour.score(split.thumbnails(val).reshape(len(val), -1), [sample.label for sample in val])
    assert baselines is not None
    assert baselines.accuracy["thumbnail_neighbour"] == pytest.approx(accuracy)


def test_frames_of_clips_leak_from_a_random_split_and_not_from_groups(frames: Path) -> None:
    random = score_baselines(split_of(frames))
    assert random is not None
    assert random.leaks
    assert "--data.split blocks" in random.lines()[1]
    groups = score_baselines(split_of(frames, split="groups", group_by="duplicates"))
    assert groups is not None
    assert groups.near_duplicates == 0.0
    assert len(groups.lines()) == 1


def test_independent_pictures_are_not_flagged(digits: Path) -> None:
    for part in ("val", "test"):
        baselines = score_baselines(split_of(digits), part)
        assert baselines is not None
        assert baselines.near_duplicates == 0.0
        assert (
            baselines.accuracy["thumbnail_neighbour"] or 0
        ) > 0.9  # digits of a class resemble each other all the same


def test_planted_duplicates_are_found(digits: Path) -> None:
    """Copies of held-out pictures, saved anew as JPEG and a little brighter, come to training."""
    split = split_of(digits, split="random")
    table = digits.parent / "split.csv"
    held = split.part("val")
    rows = [f"{sample.path},{sample.label},{sample.split}" for sample in split.samples]
    for number, sample in enumerate(held[:30]):
        copy = f"{sample.label}/copy{number}.jpg"
        with Image.open(digits / sample.path) as image:
            image.convert("RGB").point(lambda value: value * 1.02).save(digits / copy, quality=90)
        rows.append(f"{copy},{sample.label},train")
    table.write_text("path,label,split\n" + "\n".join(rows) + "\n", encoding="utf-8")
    baselines = score_baselines(split_of(digits, split=str(table)))
    assert baselines is not None
    assert baselines.near_duplicates == pytest.approx(30 / len(held), abs=1e-9)
    assert baselines.leaks
    assert "let pictures that look alike share a part" in baselines.sentence
    test = score_baselines(split_of(digits, split=str(table)), "test")
    assert test is not None
    assert not test.leaks


def test_what_to_do_depends_on_the_split(frames: Path) -> None:
    split = split_of(frames, split="blocks", block_length=4, guard=0)
    assert [advice(split.made_as(kind)) for kind in ("blocks", "groups", "csv")] == [
        "raise --data.guard",
        "hold pictures that look alike out together with --data.split groups --data.group_by duplicates",
        "let pictures that look alike share a part",
    ]


def test_without_training_images_there_is_nothing_to_say(frames: Path, tmp_path: Path) -> None:
    name = next(iter(sorted(frames.rglob("*.jpg"))))
    (tmp_path / "split.csv").write_text(
        f"path,label,split\n{name.relative_to(frames).as_posix()},{name.parent.name},test\n", encoding="utf-8"
    )
    data = ImageDataModule(root=str(frames), image_size=8, split=str(tmp_path / "split.csv"))
    data.prepare_data()
    data.arrange("test")
    assert score_baselines(data.used_split, "test") is None


def test_a_part_without_images_has_no_worth(frames: Path) -> None:
    data = ImageDataModule(root=str(frames), image_size=8, val_fraction=0.2)
    data.prepare_data()
    data.arrange("fit")
    assert score_baselines(data.used_split, "test") is None


def test_ready_made_parts_that_share_pictures_are_told_apart(digits: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(digits, tmp_path / "parts" / part)
    baselines = score_baselines(split_of(tmp_path / "parts", split="folders"), "test")
    assert baselines is not None
    assert baselines.near_duplicates > 0.7  # a fifth of training validates
    assert "ready-made parts share pictures" in baselines.sentence


def clips(root: Path, length: int) -> Path:
    """240 unlike frames, of which runs of so many show one of two classes."""
    rng = np.random.default_rng(0)
    for index, run in enumerate(np.repeat(rng.permutation(np.arange(240 // length) % 2), length)):
        folder = root / "clips" / "ab"[run]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(folder / f"frame{index}.png")
    return root / "clips"


def test_blocks_that_the_frame_number_foretells_are_flagged(tmp_path: Path) -> None:
    """Scenes of 24 frames and blocks of 6: the number alone tells the class, though no two frames look alike."""
    root = clips(tmp_path, 24)
    baselines = score_baselines(split_of(root, "blocks", block_length=6, guard=1))
    assert baselines is not None
    assert baselines.near_duplicates == 0.0
    assert baselines.leaks
    assert baselines.foretold is not None
    lead = baselines.hits["neighbour_number"].astype(float) - baselines.hits["majority"]
    assert baselines.foretold.mean == pytest.approx(lead.mean())
    assert (
        f"the nearest frame number is right for {100 * lead.mean():.1f} points more of them than the commonest class "
        f"(at least {100 * baselines.foretold.interval[0]:.1f}, with 95% confidence): the split leaks"
    ) in baselines.sentence
    assert baselines.sentence.endswith("raise --data.guard.")


def test_a_number_that_says_nothing_is_no_leak(tmp_path: Path) -> None:
    """Classes change with every frame; and numbers that go by class say nothing of a split that is not by blocks."""
    baselines = score_baselines(split_of(clips(tmp_path, 1), "blocks", block_length=6, guard=1))
    assert baselines is not None
    assert baselines.foretold is not None
    assert not baselines.leaks
    random = score_baselines(split_of(clips(tmp_path / "more", 120)))
    assert random is not None
    assert random.accuracy["neighbour_number"] == pytest.approx(1.0, abs=0.05)
    assert (random.foretold, random.leaks) == (None, False)


def test_images_of_a_class_that_look_alike_are_not_accused(digits: Path) -> None:
    baselines = score_baselines(split_of(digits), "test")
    assert baselines is not None
    assert baselines.note is not None
    assert not baselines.leaks
    assert "images of a class look alike here, which by itself is no leak" in baselines.note
    assert Baselines("val", {}, 0.0, "").note is None


def test_a_picture_in_two_classes_is_a_warning_of_its_own(digits: Path, told: list[tuple[str, str]]) -> None:
    """Whichever parts its two files are in; that it is a near-duplicate as well accuses nobody of a leak."""
    baselines = score_baselines(split_of(digits), "val")
    assert baselines is not None
    assert baselines.clash is None
    split = split_of(digits)
    for part, name in (("train", "8/twice.png"), ("val", "9/twice.png")):
        source = next(sample.path for sample in split.part(part) if sample.label != name[0])
        shutil.copy(digits / source, digits / name)
        table = digits.parent / "split.csv"
        rows = [f"{sample.path},{sample.label},{sample.split}" for sample in split.samples]
        table.write_text("\n".join(["path,label,split", *rows, f"{name},{name[0]},train"]) + "\n", encoding="utf-8")
        baselines = score_baselines(split_of(digits, split=str(table)))
        assert baselines is not None
        assert baselines.clash is not None
        assert source in baselines.clash
        assert name in baselines.clash
        told.clear()
        baselines.tell(logging.getLogger("vit_lightning.test"))
        assert [level for level, _ in told] == ["INFO", "WARNING"]
        assert told[1][1] == baselines.clash


def test_a_lead_is_paired_over_groups() -> None:
    ours = np.array([True, True, False, True, True, False, True, True])
    theirs = np.array([False, True, False, False, True, True, False, False])
    found = lead(ours, theirs, np.repeat(np.arange(4), 2))
    reference = ttest_1samp([0.5, 0.5, -0.5, 1.0], 0.0)
    assert found is not None
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.p == pytest.approx(max(reference.pvalue, 0.125))
    assert lead(ours, theirs, np.zeros(8, dtype=np.int64)) is None


def test_what_is_kept_of_it() -> None:
    baselines = Baselines(
        "val", {"majority": 0.35, "neighbour_number": None, "thumbnail_neighbour": 0.123456}, 0.05, ""
    )
    assert baselines.record() == {
        "part": "val",
        "majority": 0.35,
        "thumbnail_neighbour": 0.1235,
        "near_duplicates": 0.05,
        "flagged": False,
    }
    assert not baselines.leaks  # five of a hundred are not above
    assert baselines.lines() == ["val acc to beat: majority 0.350, nearest thumbnail 0.123"]
