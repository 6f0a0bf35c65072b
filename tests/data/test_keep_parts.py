"""Data that has grown: what was held out stays held out, and what is new is divided by the split's own rule."""

from pathlib import Path

import pytest

from tests.data.test_splits import film, images, in_part
from tests.data.test_splitting import split_of
from vit_lightning.data.index import Sample
from vit_lightning.data.splits import hold_out, read_kept, split_blocks, split_random, write_split


def parts_of(samples: list[Sample]) -> dict[str, str]:
    return {sample.path: sample.split for sample in samples}


def blocks(length: int, **more: object) -> list[Sample]:
    settings: dict[str, object] = {"val_fraction": 0.2, "test_fraction": 0.2, "block_length": 10, "guard": 3, "seed": 5}
    return split_blocks(film("abc" * 1000)[:length], **(settings | more))  # type: ignore[arg-type]  # of many types


@pytest.mark.parametrize("length", [105, 150, 200, 1000])
@pytest.mark.parametrize("seed", [5, 6])
def test_blocks_that_grow_keep_what_was_held_out(length: int, seed: int) -> None:
    before = blocks(100)
    after = blocks(length, kept=parts_of(before), seed=seed)
    old, new = parts_of(before), parts_of(after)
    for path, part in old.items():
        if part == "train":  # the guard of a new held-out block may reach over it
            assert new.get(path, "train") == "train"
        else:
            assert new[path] == part or (part == "val" and path not in new)
    share = -(-length // 10) / 5
    for part in ("val", "test"):
        held = {number // 10 for number in in_part(after, part)}
        assert abs(len(held) - share) <= 1, part
        train = in_part(after, "train")
        assert not any(number + offset in train for number in in_part(after, part) for offset in (-3, 3))


def test_new_frames_of_a_held_out_block_are_held_out_with_it() -> None:
    whole = blocks(100)
    block = min(number // 10 for number in in_part(whole, "test"))
    gone = {10 * block, 10 * block + 1}
    kept = {sample.path: sample.split for sample in whole if sample.number not in gone}
    for seed in range(20):
        assert gone <= in_part(blocks(100, kept=kept, seed=seed), "test")


def test_a_group_takes_the_part_that_is_furthest_from_training() -> None:
    samples = [Sample(f"a/{name}{k}.jpg", "a", group=name) for name in "pqrs" for k in range(3)]
    kept = {"a/p0.jpg": "train", "a/p1.jpg": "val", "a/q0.jpg": "test", "a/q1.jpg": "val", "a/r2.jpg": "train"}
    found = hold_out(samples, val_fraction=0.3, test_fraction=0.3, seed=0, what="groups", instead="", kept=kept)
    assert {sample.group: sample.split for sample in found} == {"p": "val", "q": "test", "r": "train", "s": "train"}


def test_without_a_new_group_nothing_is_drawn() -> None:
    before = blocks(100)
    assert blocks(100, kept=parts_of(before), seed=77) == before


def test_random_keeps_each_image_and_draws_of_the_new_ones_what_is_missing() -> None:
    before = split_random(images(a=100, b=20), val_fraction=0.1, test_fraction=0.2, seed=0)
    grown = images(a=200, b=25, c=10)
    after = split_random(grown, val_fraction=0.1, test_fraction=0.2, seed=1, kept=parts_of(before))
    new = parts_of(after)
    assert parts_of(before).items() <= new.items()
    counts = {part: [sample.label for sample in after if sample.split == part] for part in ("val", "test")}
    assert {name: counts["test"].count(name) for name in "abc"} == {"a": 40, "b": 5, "c": 2}
    assert {name: counts["val"].count(name) for name in "abc"} == {"a": 20, "b": 2, "c": 1}


def test_the_file_of_an_earlier_run_is_kept_though_its_pictures_are_gone(root: Path, tmp_path: Path) -> None:
    before = split_of(root, split="random", test_fraction=0.2)
    write_split(tmp_path / "split.csv", before.samples)
    gone = before.part("test")[0]
    (root / gone.path).unlink()
    after = split_of(root, split="random", test_fraction=0.2, seed=9, keep_parts=str(tmp_path / "split.csv"))
    assert parts_of(list(after.samples)) == {
        path: part for path, part in parts_of(list(before.samples)).items() if path != gone.path
    }
    assert read_kept(tmp_path / "split.csv")[gone.path] == "test"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("path,label\na,b\n", "has the columns path,label; expected path,split"),
        ("path,split\na.jpg,tset\n", "line 2 of .* has the part 'tset'; expected train, val or test"),
        (None, "the file of parts to keep .* does not exist"),
    ],
)
def test_a_file_that_says_no_parts_is_refused(root: Path, tmp_path: Path, text: str | None, wrong: str) -> None:
    table = tmp_path / "kept.csv"
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=wrong):
        split_of(root, split="random", keep_parts=str(table))


@pytest.mark.parametrize("other", [{"fold": "1/3"}, {"split": "folders"}])
def test_it_goes_with_no_other_word_on_who_is_held_out(root: Path, other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"data\.keep_parts says who is held out, and so does data\."):
        split_of(root, **({"split": "random"} | other), keep_parts="x.csv")
