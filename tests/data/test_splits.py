"""Who trains, who validates, who tests: hand-worked cases of every split, of the subset and of the split's file."""

import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vit_lightning.data.grouping import group_samples
from vit_lightning.data.index import Sample
from vit_lightning.data.splits import (
    Fold,
    count_table,
    drop_repeats,
    hold_out,
    read_split,
    split_blocks,
    split_folders,
    split_random,
    take_subset,
    write_split,
)


def images(**counts: int) -> list[Sample]:
    """So many images of each class, numbered through."""
    return [Sample(f"{label}/image{k}.jpg", label) for label, count in counts.items() for k in range(count)]


def film(labels: str) -> list[Sample]:
    """A frame a letter, which is its class: film("aab") is a/frame0.jpg, a/frame1.jpg, b/frame2.jpg."""
    return [Sample(f"{label}/frame{k}.jpg", label) for k, label in enumerate(labels)]


def in_part(samples: list[Sample], part: str) -> set[int]:
    """The frame numbers of a part."""
    return {sample.number for sample in samples if sample.split == part and sample.number is not None}


def paths(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(sample.path, sample.label) for sample in samples]


def parts(*shares: tuple[str, str, int]) -> list[Sample]:
    """So many images of (class, part) each."""
    return [Sample(f"{part}/{label}/{k}.jpg", label, part) for label, part, count in shares for k in range(count)]


def test_random_gives_every_class_its_share_of_every_part() -> None:
    found = split_random(images(a=100, b=20, c=33), val_fraction=0.1, test_fraction=0.2, seed=0)
    assert count_table(found) == {
        "train": {"a": 70, "b": 14, "c": 23},
        "val": {"a": 10, "b": 2, "c": 3},
        "test": {"a": 20, "b": 4, "c": 7},
    }


def test_random_keeps_every_image_once_and_in_order() -> None:
    samples = images(a=30, b=20)
    assert paths(split_random(samples, val_fraction=0.3, test_fraction=0.1, seed=0)) == paths(samples)


def test_random_draws_from_all_over_a_class() -> None:
    found = split_random(images(a=400, b=400), val_fraction=0.25, test_fraction=0.25, seed=0)
    for part in ("val", "test"):
        quarters = Counter(
            sample.path[0] + str((sample.number or 0) // 100) for sample in found if sample.split == part
        )
        assert len(quarters) == 8
        assert min(quarters.values()) > 12  # 25 expected


def test_random_repeats_with_the_seed_only() -> None:
    samples = images(a=50, b=50)
    one, again, other = (split_random(samples, val_fraction=0.2, test_fraction=0.2, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_random_without_fractions_trains_on_everything() -> None:
    found = split_random(images(a=3, b=2), val_fraction=0.0, test_fraction=0.0, seed=0)
    assert count_table(found) == {"train": {"a": 3, "b": 2}}


def test_random_leaves_a_small_class_one_image_in_every_part() -> None:
    found = split_random(images(a=40, b=3), val_fraction=0.05, test_fraction=0.05, seed=0)
    assert [table["b"] for table in count_table(found).values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("count", "val", "test", "message"),
    [
        (2, 0.1, 0.1, "class b has 2 images, too few for 1 in validation, 1 in test and at least one in training"),
        (1, 0.1, 0.0, "class b has 1 images, too few for 1 in validation, 0 in test and at least one in training"),
        (4, 0.5, 0.45, "class b has 4 images, too few for 2 in validation, 2 in test and at least one in training"),
    ],
)
def test_random_refuses_a_class_that_is_too_small(count: int, val: float, test: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_random(images(a=40, b=count), val_fraction=val, test_fraction=test, seed=0)


@pytest.mark.parametrize("seed", range(8))
def test_blocks_are_held_out_whole(seed: int) -> None:
    samples = film("ab" * 60)
    found = split_blocks(samples, val_fraction=0.25, test_fraction=0.1, block_length=10, guard=0, seed=seed)
    for part, blocks in (("val", 3), ("test", 1), ("train", 8)):  # of 12
        numbers = in_part(found, part)
        first = {number // 10 * 10 for number in numbers}
        assert len(first) == blocks
        assert numbers == {start + k for start in first for k in range(10)}
    assert paths(found) == paths(samples)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("guard", [0, 1, 3, 9])
def test_guard_frames_leave_training_and_validation_and_never_the_test_part(seed: int, guard: int) -> None:
    settings = {"val_fraction": 0.1, "test_fraction": 0.2, "block_length": 10, "seed": seed}
    samples = film("ab" * 100)
    whole = split_blocks(samples, guard=0, **settings)  # type: ignore[arg-type]  # settings of many types
    found = split_blocks(samples, guard=guard, **settings)  # type: ignore[arg-type]  # settings of many types
    assert in_part(found, "test") == in_part(whole, "test")
    held = {"val": in_part(whole, "test"), "train": in_part(whole, "val") | in_part(whole, "test")}
    for part, others in held.items():
        near = {number for number in in_part(whole, part) if any(abs(number - other) <= guard for other in others)}
        assert in_part(found, part) == in_part(whole, part) - near


def test_a_hand_worked_guard() -> None:
    found = split_blocks(film("abab" * 5), val_fraction=0.2, test_fraction=0.0, block_length=4, guard=2, seed=1)
    (first,) = {number // 4 * 4 for number in in_part(found, "val")}
    assert in_part(found, "val") == {first, first + 1, first + 2, first + 3}
    dropped = set(range(20)) - in_part(found, "val") - in_part(found, "train")
    assert dropped == {first - 2, first - 1, first + 4, first + 5} & set(range(20))


def test_a_hand_worked_guard_between_validation_and_test(told: list[tuple[str, str]]) -> None:
    """Four blocks, of which this seed holds the last two out."""
    settings = {"val_fraction": 0.25, "test_fraction": 0.25, "block_length": 4, "seed": 10}
    found = split_blocks(film("abab" * 4), guard=1, **settings)  # type: ignore[arg-type]  # settings of many types
    assert in_part(found, "test") == {12, 13, 14, 15}
    assert in_part(found, "val") == {8, 9, 10}
    assert in_part(found, "train") == {0, 1, 2, 3, 4, 5, 6}
    assert told == [("INFO", "1 validation frames are within guard 1 of a test block: they do not validate")]
    split_blocks(film("abab" * 4), guard=1, tell=False, **settings)  # type: ignore[arg-type]  # settings of many types
    assert len(told) == 1


@pytest.mark.parametrize("number", range(1, 6))
def test_the_guard_stands_between_validation_and_the_test_part_of_a_fold(number: int) -> None:
    settings = {"val_fraction": 0.5, "test_fraction": 0.0, "block_length": 10, "guard": 3, "seed": 0}
    found = split_blocks(film("ab" * 100), fold=Fold(number, 5), **settings)  # type: ignore[arg-type]  # as above
    assert len(in_part(found, "test")) == 40
    assert min(abs(one - other) for one in in_part(found, "val") for other in in_part(found, "test")) > 3


def test_a_guard_that_leaves_nothing_to_validate_on_is_refused() -> None:
    settings = {"val_fraction": 0.25, "test_fraction": 0.25, "block_length": 4, "seed": 10}
    words = "guard 4 leaves no frame to validate on; lower it below block_length 4"
    with pytest.raises(ValueError, match=words):
        split_blocks(film("abab" * 4), guard=4, **settings)  # type: ignore[arg-type]  # settings of many types


def test_gaps_between_frame_numbers_belong_to_their_blocks() -> None:
    numbers = [0, 3, 9, 10, 11, 50, 55, 59, 1000]  # blocks 0, 1, 5 and 100
    samples = [Sample(f"{'ab'[k % 2]}/frame{number}.jpg", "ab"[k % 2]) for k, number in enumerate(numbers)]
    blocks = ({0, 3, 9}, {10, 11}, {50, 55, 59}, {1000})
    for seed in range(4):
        found = split_blocks(samples, val_fraction=0.25, test_fraction=0.25, block_length=10, guard=0, seed=seed)
        assert in_part(found, "val") in blocks
        assert in_part(found, "test") in blocks


def test_blocks_repeat_with_the_seed_only() -> None:
    samples = film("ab" * 200)
    settings = {"val_fraction": 0.2, "test_fraction": 0.2, "block_length": 10, "guard": 2}
    one, again, other = (split_blocks(samples, seed=seed, **settings) for seed in (0, 0, 1))  # type: ignore[arg-type]  # settings of many types
    assert one == again
    assert one != other


def test_blocks_without_fractions_train_on_everything() -> None:
    found = split_blocks(film("abab"), val_fraction=0.0, test_fraction=0.0, block_length=2, guard=1, seed=0)
    assert in_part(found, "train") == {0, 1, 2, 3}


def test_the_only_balanced_draw_is_found() -> None:
    # Of ten blocks, only the fourth has the film's shares of both classes: one b in five.
    blocks = ["aaaaa", "bbbbb", "aaaaa", "aaaab", "aaaaa", "aaaaa", "aaabb", "aaaaa", "aaaaa", "aaabb"]
    found = split_blocks(film("".join(blocks)), val_fraction=0.1, test_fraction=0.0, block_length=5, guard=0, seed=0)
    assert in_part(found, "val") == {15, 16, 17, 18, 19}


def test_both_held_out_parts_are_nearer_to_the_class_shares_than_a_usual_draw() -> None:
    rng = np.random.default_rng(0)
    scenes = [label * int(length) for label, length in zip("abcd" * 15, rng.integers(20, 80, 60), strict=True)]
    samples = film("".join(scenes))
    shares = Counter(sample.label for sample in samples)

    def gap(labels: list[str]) -> float:
        """How far a part's class shares are from the film's, summed over classes."""
        found = Counter(labels)
        return sum(abs(found[label] / len(labels) - shares[label] / len(samples)) for label in shares)

    blocks = [samples[start : start + 40] for start in range(0, len(samples), 40)]
    count = round(0.15 * len(blocks))
    usual = np.median(
        [
            gap([sample.label for index in rng.permutation(len(blocks))[:count] for sample in blocks[index]])
            for _ in range(200)
        ]
    )
    found = split_blocks(samples, val_fraction=0.15, test_fraction=0.15, block_length=40, guard=5, seed=0)
    for part in ("val", "test"):
        assert gap([sample.label for sample in found if sample.split == part]) < 0.5 * usual


def test_blocks_need_frame_numbers() -> None:
    samples = [*film("ab"), Sample("b/cover.jpg", "b")]
    with pytest.raises(ValueError, match=r"b/cover\.jpg has none; name files like frame12\.jpg, or use split random"):
        split_blocks(samples, val_fraction=0.1, test_fraction=0.0, block_length=1, guard=0, seed=0)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.5, 0.5), "2 blocks of 6 frames are too few for 1 in val and 1 in test and at least one in training"),
        ((0.9, 0.0), "2 blocks of 6 frames are too few for 2 in val and at least one in training"),
    ],
)
def test_too_few_blocks_are_refused(fractions: tuple[float, float], message: str) -> None:
    val, test = fractions
    with pytest.raises(ValueError, match=message):
        split_blocks(film("ab" * 6), val_fraction=val, test_fraction=test, block_length=6, guard=0, seed=0)


def test_a_guard_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="guard 8 leaves no frame to train on; lower it below block_length 4"):
        split_blocks(film("ab" * 6), val_fraction=0.1, test_fraction=0.0, block_length=4, guard=8, seed=0)


def test_folders_with_a_validation_part_stay_as_they_are() -> None:
    samples = parts(("a", "train", 9), ("b", "train", 9), ("a", "val", 1), ("b", "test", 2))
    assert split_folders(samples, val_fraction=0.5, seed=0) == samples


def test_a_missing_validation_part_is_carved_from_training_only() -> None:
    samples = parts(("a", "train", 20), ("b", "train", 10), ("a", "test", 20), ("b", "test", 30))
    found = split_folders(samples, val_fraction=0.2, seed=0)
    assert count_table(found) == {"train": {"a": 16, "b": 8}, "val": {"a": 4, "b": 2}, "test": {"a": 20, "b": 30}}
    assert sorted(paths(found)) == sorted(paths(samples))
    assert all(sample.path.startswith("test/") == (sample.split == "test") for sample in found)


def test_no_validation_part_is_carved_where_none_is_wanted() -> None:
    samples = parts(("a", "train", 3), ("b", "train", 3), ("a", "test", 1))
    assert split_folders(samples, val_fraction=0.0, seed=0) == samples


def test_carving_refuses_a_class_with_a_single_training_image() -> None:
    with pytest.raises(ValueError, match="class b has 1 images, too few for 1 in validation"):
        split_folders(parts(("a", "train", 9), ("b", "train", 1), ("b", "test", 9)), val_fraction=0.1, seed=0)


def test_subset_keeps_the_split_s_proportions() -> None:
    samples = parts(("a", "train", 80), ("a", "val", 10), ("a", "test", 10), ("b", "train", 30), ("b", "test", 30))
    found = take_subset(samples, per_class=20, seed=0)
    assert count_table(found) == {"train": {"a": 16, "b": 10}, "val": {"a": 2}, "test": {"a": 2, "b": 10}}
    assert [sample for sample in samples if sample in found] == found


@pytest.mark.parametrize(
    ("per_class", "train", "val", "test"),
    [(3, 1, 1, 1), (4, 2, 1, 1), (10, 8, 1, 1), (50, 48, 1, 1), (100, 97, 2, 1)],
)
def test_subset_leaves_every_part_an_image_and_no_class_more_than_asked(
    per_class: int, train: int, val: int, test: int
) -> None:
    samples = parts(("a", "train", 970), ("a", "val", 20), ("a", "test", 10))
    assert count_table(take_subset(samples, per_class=per_class, seed=0)) == {
        "train": {"a": train},
        "val": {"a": val},
        "test": {"a": test},
    }


@pytest.mark.parametrize("per_class", range(3, 14))
@pytest.mark.parametrize("counts", [(4, 4, 4), (5, 5, 2), (1, 1, 10), (6, 5, 1)])
def test_subset_takes_exactly_as_many_as_asked(per_class: int, counts: tuple[int, int, int]) -> None:
    train, val, test = counts
    samples = parts(("a", "train", train), ("a", "val", val), ("a", "test", test))
    found = take_subset(samples, per_class=per_class, seed=0)
    assert len(found) == min(per_class, 12)
    assert set(count_table(found)) == {"train", "val", "test"}


def test_a_class_smaller_than_the_subset_is_kept_whole() -> None:
    samples = parts(("a", "train", 900), ("a", "val", 100), ("b", "train", 4), ("b", "val", 3))
    assert count_table(take_subset(samples, per_class=50, seed=0)) == {
        "train": {"a": 45, "b": 4},
        "val": {"a": 5, "b": 3},
    }


def test_subset_draws_anew_with_another_seed() -> None:
    samples = parts(("a", "train", 90), ("a", "val", 10))
    one, again, other = (take_subset(samples, per_class=20, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_a_subset_smaller_than_the_number_of_parts_is_refused() -> None:
    samples = parts(("a", "train", 9), ("b", "train", 9), ("b", "val", 9), ("b", "test", 9))
    with pytest.raises(ValueError, match="subset 2 is too small for class b: 3 parts need an image each"):
        take_subset(samples, per_class=2, seed=0)


def test_counts_name_only_parts_and_classes_that_are_there() -> None:
    samples = parts(("b", "val", 1), ("a", "train", 2), ("b", "train", 3))
    assert count_table(samples) == {"train": {"a": 2, "b": 3}, "val": {"b": 1}}
    assert list(count_table([*parts(("a", "test", 1)), *samples])) == ["train", "val", "test"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images of two classes, and room for split files."""
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", 'b/with, "marks" and \u00fc.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_split_is_read_as_it_was_written(root: Path) -> None:
    samples = [
        Sample("b/1.jpg", "b", "test"),
        Sample("a/2.jpg", "a", "train"),
        Sample('b/with, "marks" and \u00fc.jpg', "b", "val"),
    ]
    write_split(root / "split.csv", samples)
    assert (root / "split.csv").read_text(encoding="utf-8").splitlines()[:2] == ["path,label,split", "b/1.jpg,b,test"]
    assert read_split(root / "split.csv", root=root, classes=["a", "b"]) == samples


def test_a_split_from_a_spreadsheet_is_read_too(root: Path) -> None:
    (root / "split.csv").write_bytes(b"\xef\xbb\xbfsplit,note,path,label\r\nval,x,a/1.jpg,a\r\ntrain,,b/1.jpg,b\r\n")
    assert read_split(root / "split.csv", root=root, classes=["a", "b"]) == [
        Sample("a/1.jpg", "a", "val"),
        Sample("b/1.jpg", "b", "train"),
    ]


def test_a_missing_split_file_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"other\.csv does not exist; give a CSV with the columns path,label"):
        read_split(root / "other.csv", root=root, classes=["a", "b"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "split.csv has the columns nothing; expected path,label,split"),
        ("path,label\na/1.jpg,a", "split.csv has the columns path,label; expected path,label,split"),
        ("path;label;split\na/1.jpg;a;val", "has the columns path;label;split; expected path,label,split"),
        (
            "path,label,split\na/1.jpg,a,train\na/2.jpg,a,dev",
            "line 3 of .*split.csv has the part 'dev'; expected train, val or test",
        ),
        ("path,label,split\na/1.jpg,a", "line 2 of .*split.csv has too few cells; expected path,label,split"),
        ("split,label,path\ntrain,a", "line 2 of .*split.csv has too few cells; expected split,label,path"),
        (
            "path,label,split\na/1.jpg,a,val\n./a/1.jpg,a,train",
            "line 3 of .*split.csv names a/1.jpg a second time; an image belongs to one part",
        ),
        (
            "path,label,split\nb/../a/1.jpg,a,val",
            r"line 2 of .*split.csv names b/\.\./a/1.jpg, which leads out of .*; expected a path relative to it",
        ),
        ("path,label,split\n../a/1.jpg,a,val", r"line 2 of .*split.csv names \.\./a/1.jpg, which leads out of"),
        ("path,label,split\n/etc/1.jpg,a,val", r"line 2 of .*split.csv names /etc/1.jpg, which leads out of"),
        ("path,label,split\na/1.jpg,c,val", "line 2 of .*split.csv has the class 'c'; the data has a, b"),
        (
            "path,label,split\na/1.jpg,a,val\nb/1.jpg,b,val\na/1.jpg,a,train",
            "line 4 of .*split.csv names a/1.jpg a second time; an image belongs to one part",
        ),
    ],
)
def test_a_wrong_split_file_is_refused_with_its_line(root: Path, lines: str, message: str) -> None:
    (root / "split.csv").write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_split(root / "split.csv", root=root, classes=["a", "b"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "split.csv is no CSV in UTF-8 "),
        ("path,label,split\nb/1.jpg,\u00fc,val".encode("latin-1"), "split.csv is no CSV in UTF-8 "),
        ("path,label,split\nb/1.jpg,b,val".encode("utf-16"), "split.csv is no CSV in UTF-8 "),
        (b"path,label,split\n" + b"x" * 200_000 + b",b,val", r"split.csv is no CSV in UTF-8 \(field larger"),
        (b"\0\1\2\x1b[2J" * 3, r"split.csv has the columns '(\\x00\\x01\\x02\\x1b\[2J){3}'; expected path,label,split"),
        (b"x" * 1000, "split.csv has the columns x{80}; expected path,label,split"),
    ],
)
def test_what_is_no_csv_is_refused_in_one_line(root: Path, content: bytes, message: str) -> None:
    (root / "split.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_split(root / "split.csv", root=root, classes=["a", "b"])
    assert str(caught.value).isprintable()


def test_paths_are_taken_as_the_system_means_them(root: Path) -> None:
    (root / "split.csv").write_text("path,label,split\n./a/1.jpg,a,val\nb//1.jpg,b,train\n", encoding="utf-8")
    assert read_split(root / "split.csv", root=root, classes=["a", "b"]) == [
        Sample("a/1.jpg", "a", "val"),
        Sample("b/1.jpg", "b", "train"),
    ]


def test_a_split_of_other_images_is_refused(root: Path) -> None:
    (root / "split.csv").write_text("path,label,split\na/9.jpg,a,val\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=rf"names a/9\.jpg, which is not in {root}; is data\.root right\?"):
        read_split(root / "split.csv", root=root, classes=["a", "b"])


def grouped(**groups: str) -> list[Sample]:
    """Samples of groups: grouped(x="aab") is two of class a and one of b, all of group x."""
    return [
        Sample(f"{label}/{group}{k}.jpg", label, group=group)
        for group, labels in groups.items()
        for k, label in enumerate(labels)
    ]


def held_out(samples: list[Sample], **settings: object) -> list[Sample]:
    wanted = {"val_fraction": 0.25, "test_fraction": 0.25, "seed": 0, "what": "groups", "instead": "wait"} | settings
    return hold_out(samples, **wanted)  # type: ignore[arg-type]  # settings of many types


def test_groups_are_held_out_whole_and_balanced() -> None:
    samples = grouped(p="aaab", q="bbba", r="aabb", s="aaaa", t="bbbb", u="abab", v="aaabbb", w="ab")
    found = held_out(samples)
    parts = {group: {sample.split for sample in found if sample.group == group} for group in "pqrstuvw"}
    assert all(len(names) == 1 for names in parts.values())
    table = count_table(found)
    assert all(abs(table[part][label] - 4) <= 1 for part in ("val", "test") for label in "ab")


def test_every_fold_is_of_one_draw() -> None:
    samples = grouped(**{f"g{number}": "ab" for number in range(11)})
    tested = []
    for number in range(1, 4):
        found = held_out(samples, fold=Fold(number, 3))
        tested.append({sample.group for sample in found if sample.split == "test"})
        assert sum(sample.split == "val" for sample in found) == 4  # a quarter of the seven or eight others
    assert [len(groups) for groups in tested] == [3, 4, 4]
    assert len(set.union(*tested)) == 11


def test_groups_named_by_numbers_are_in_their_order() -> None:
    """So that 2 comes before 10, and a split does not depend on how many digits there are."""
    labels = ["ab" if number % 3 else "aab" for number in range(12)]
    plain = held_out(grouped(**{str(number): each for number, each in enumerate(labels)}))
    padded = held_out(grouped(**{f"{number:02}": each for number, each in enumerate(labels)}))
    assert [sample.split for sample in plain] == [sample.split for sample in padded]


def test_validation_is_a_share_of_what_a_fold_leaves() -> None:
    found = split_random(images(a=100), val_fraction=0.1, test_fraction=0.3, seed=0, fold=Fold(2, 5))
    assert count_table(found) == {"train": {"a": 72}, "val": {"a": 8}, "test": {"a": 20}}


def test_validation_is_balanced_in_every_fold() -> None:
    samples = grouped(**{f"g{number}": "aaaa" if number % 2 else "bbbb" for number in range(20)})
    for number in range(1, 6):
        table = count_table(held_out(samples, fold=Fold(number, 5)))
        assert table["val"] == {"a": 8, "b": 8}
        assert table["test"] == {"a": 8, "b": 8}


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="2 groups are too few for 1 in val and 1 in test and at least one in train"):
        held_out(grouped(x="ab", y="ab"))
    with pytest.raises(ValueError, match="2 groups are too few for 3 folds; wait"):
        held_out(grouped(x="ab", y="ab"), fold=Fold(1, 3))


def test_folds_are_read_and_share_out() -> None:
    assert Fold.parse("2/5") == Fold(2, 5)
    assert [Fold(number, 3).span(10) for number in (1, 2, 3)] == [(0, 3), (3, 3), (6, 4)]


def test_groups_by_folder_pattern_and_table(tmp_path: Path) -> None:
    samples = [Sample("a/ep1/x1.jpg", "a"), Sample("a/ep2/x2.jpg", "a"), Sample("b/ep1/x3.jpg", "b")]

    def groups(group_by: str) -> list[str]:
        return [sample.group for sample in group_samples(samples, group_by)]

    assert groups("folder") == ["ep1", "ep2", "ep1"]  # one clip, whatever its frames show
    assert groups(r"(x1)|ep(2)|(none)?x") == ["x1", "2", "x"]
    with pytest.raises(ValueError, match=r"folders in the class folders, and b/x4\.jpg is in none"):
        group_samples([*samples, Sample("b/x4.jpg", "b")], "folder")
    assert groups(r"ep\d") == ["ep1", "ep2", "ep1"]
    assert groups(r"ep(\d)") == ["1", "2", "1"]
    table = tmp_path / "who.csv"
    table.write_text(
        "path,group,person\na/ep1/x1.jpg,g,ann\na/ep2/x2.jpg,h,bob\nb/ep1/x3.jpg,g,bob\n", encoding="utf-8"
    )
    assert groups(str(table)) == ["g", "h", "g"]
    assert groups(f"{table}:person") == ["ann", "bob", "bob"]
    odd = tmp_path / "who: all.csv"
    odd.write_text(table.read_text(encoding="utf-8").replace("a/ep1", "./a/ep1"), encoding="utf-8")
    assert groups(f"{odd}:person") == ["ann", "bob", "bob"]
    assert groups(str(odd)) == ["g", "h", "g"]
    for group_by, message in (
        ("ep(", "is no regular expression"),
        (r"ep1", r"finds no group in a/ep2/x2\.jpg"),
        (f"{table}:place", "has the columns path,group,person; expected path,place"),
    ):
        with pytest.raises(ValueError, match=message):
            groups(group_by)
    with pytest.raises(FileNotFoundError, match=r"the file of groups .*none\.csv does not exist"):
        groups(str(tmp_path / "none.csv"))
    table.write_text("path,group\na/ep1/x1.jpg,g\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"names no group for a/ep2/x2\.jpg"):
        groups(str(table))


def test_repeats_go_with_their_neighbours() -> None:
    samples = [Sample(f"a/f{k}.jpg", "a", "val" if k == 9 else "train") for k in range(10)]
    kept = drop_repeats(samples, ["a/f4.jpg"], guard=2)
    assert in_part(kept, "train") == {0, 1, 7, 8}
    assert in_part(kept, "val") == {9}
    with pytest.raises(ValueError, match="every training image repeats a held-out one, or is within guard 0 of one"):
        drop_repeats(samples, [sample.path for sample in samples], guard=0)


def test_validation_frames_that_repeat_test_ones_go_with_their_neighbours() -> None:
    samples = [Sample(f"a/f{k}.jpg", "a", "train" if k < 3 else "val" if k < 9 else "test") for k in range(10)]
    kept = drop_repeats(samples, ["a/f4.jpg"], guard=2, part="val")
    assert [in_part(kept, part) for part in ("train", "val", "test")] == [{0, 1, 2}, {7, 8}, {9}]
    with pytest.raises(ValueError, match=r"every validation image repeats a test one.*; .* If not, lower data\.guard"):
        drop_repeats(samples, ["a/f5.jpg"], guard=3, part="val")


def test_groups_are_written_and_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    samples = [Sample("a/x1.jpg", "a", "train", "clip 1"), Sample("a/x2.jpg", "a", "val", "")]
    for sample in samples:
        (tmp_path / sample.path).touch()
    write_split(tmp_path / "split.csv", samples)
    assert (
        (tmp_path / "split.csv")
        .read_text(encoding="utf-8")
        .startswith("path,label,split,group\na/x1.jpg,a,train,clip 1")
    )
    assert read_split(tmp_path / "split.csv", root=tmp_path, classes=["a"]) == samples


def test_an_expression_that_takes_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit_lightning.data.grouping.SEARCH", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ValueError, match=r"'\(a\+\)\+!' takes more than 0 s to look for; give a simpler"):
        group_samples([Sample(f"x/{'a' * 60}.jpg", "x")], "(a+)+!")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
