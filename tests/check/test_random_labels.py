"""Labels that mean nothing are learnt from a leaking split, and from an honest one they are not."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.check.test_network import workbench
from vit_lightning.check import random_labels
from vit_lightning.check.random_labels import Shuffled, check_random_labels, clips_of, fewest, judge, shuffle
from vit_lightning.data.index import Sample


class Wide(nn.Module):
    """Remembers a few hundred images of three colours and 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(48, 256), nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(x.flatten(1)).relu())
        return logits


def film(clips: np.ndarray[Any, np.dtype[np.int64]], seed: int) -> Tensor:
    """An image for each entry: its clip's scene, with a little noise."""
    scenes = torch.randn(1000, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(len(clips), 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return scenes[torch.from_numpy(clips)] + 0.1 * noise


@pytest.mark.parametrize("leaks", [False, True])
def test_a_leaking_split_is_found_and_an_honest_one_is_not(leaks: bool) -> None:
    train, val = np.repeat(np.arange(50), 6), np.repeat(np.arange(50), 2) + (0 if leaks else 50)
    drawn = shuffle(train, val, 4)
    images = film(train[drawn.train], 1), film(val[drawn.val], 2)
    finding = check_random_labels(workbench(Wide()), images, drawn, 3e-3)
    assert finding.level == ("failure" if leaks else "ok")
    assert ("its score measures memory" in finding.text) == leaks
    assert "by chance 2" in finding.text or "by chance 3" in finding.text


def test_what_could_not_be_learnt_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_labels, "TRAINING", 0.0)
    train, val = np.repeat(np.arange(50), 6), np.repeat(np.arange(50, 100), 2)
    drawn = shuffle(train, val, 4)
    images = film(train[drawn.train], 1), film(val[drawn.val], 2)
    finding = check_random_labels(workbench(Wide()), images, drawn, 1e-6)
    assert finding.level == "warning"
    assert "too little was learnt" in finding.text


def test_one_clip_says_nothing() -> None:
    clips = np.zeros(20, dtype=np.int64)
    drawn = Shuffled(clips, clips, clips, clips, clips)
    assert "val has too few clips (1)" in judge(1.0, np.full((20, 4), 0.25), drawn).text


def test_p_is_that_of_all_orders_of_the_labels() -> None:
    labels = np.repeat([0, 1], 5)
    clips = np.arange(10)
    drawn = Shuffled(clips, clips, labels, labels, clips)
    sure = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    found = judge(1.0, sure, drawn)  # the one best order of 10! / (5! 5!) = 252
    assert found.level == "failure"
    assert "100% of val after learning 100% of train; by chance 50% (p 0.0" in found.text
    assert float(found.text.partition("(p ")[2].partition(")")[0]) == pytest.approx(1 / 252, abs=0.002)
    assert fewest(labels) == pytest.approx(1 / 252)
    sure[[0, 5]] = sure[[5, 0]]  # 1 + 25 of 252
    found = judge(1.0, sure, drawn)
    assert found.level == "ok"
    assert float(found.text.partition("(p ")[2].partition(")")[0]) == pytest.approx(26 / 252, abs=0.01)


def test_honest_splits_are_called_leaking_once_in_a_hundred_times() -> None:
    rng, alarms = np.random.default_rng(0), 0
    clips = np.repeat(np.arange(30), 8)
    for _ in range(300):
        labels = rng.permutation(np.arange(30) % 4)[clips]
        scenes = rng.dirichlet(np.ones(4), 30)[clips]  # an answer for each clip, whatever its label
        drawn = Shuffled(clips, clips, labels, labels, clips)
        alarms += judge(1.0, scenes, drawn).level == "failure"
    assert alarms <= 9  # of 3 expected: as many as ten in 1 of 900


def test_a_clip_has_one_label_and_its_images_stay_together() -> None:
    train, val = np.repeat(np.arange(100), 20), np.repeat(np.arange(30, 130), 20)
    drawn = shuffle(train, val, 3, most=1000)
    by_clip: dict[int, set[int]] = {}
    for clip, label in (
        *zip(train[drawn.train], drawn.train_labels, strict=True),
        *zip(val[drawn.val], drawn.val_labels, strict=True),
    ):
        by_clip.setdefault(int(clip), set()).add(int(label))
    assert all(len(labels) == 1 for labels in by_clip.values())
    held = set(val[drawn.val].tolist())
    assert len(held) == random_labels.CLIPS
    assert len(drawn.val) == random_labels.CLIPS * random_labels.HELD
    trained = set(train[drawn.train].tolist())
    assert {clip for clip in held if clip < 100} <= trained  # what there is to recognise
    assert np.bincount(drawn.train_labels).min() > 0.2 * len(drawn.train)
    assert len(drawn.train) >= random_labels.IMAGES


def test_a_slow_network_is_given_fewer_images_and_few_clips_have_all_labels() -> None:
    clips = np.repeat(np.arange(40), 20)
    drawn = shuffle(clips, clips, 4, most=50)
    assert 50 <= len(drawn.train) < 50 + random_labels.TRAINED
    assert len(np.unique(drawn.clips)) == 7
    labels = dict(zip(drawn.clips, drawn.val_labels, strict=True))
    assert sorted(Counter(labels.values()).values()) == [1, 2, 2, 2]
    honest = shuffle(clips[:400], clips[400:], 4, most=50)  # its clips have nothing that trains
    assert len(np.unique(honest.clips)) == 20
    assert 50 <= len(honest.train) < 50 + random_labels.TRAINED


def test_clips_are_by_groups_or_numbers_and_by_looks() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    pictures[5] = pictures[0]  # comes again
    numbered = [Sample(f"a/frame{number}.jpg", "a") for number in (0, 1, 10, 11, 20, 30)]
    assert clips_of(numbered, pictures, 10).tolist() == [0, 0, 1, 1, 2, 0]
    grouped = [Sample(f"a/frame{k}.jpg", "a", group=name) for k, name in enumerate("ppqqrs")]
    assert clips_of(grouped, pictures, 10).tolist() == [0, 0, 1, 1, 2, 0]
    named = [Sample(f"a/{name}.jpg", "a") for name in "abcdef"]
    assert len(set(clips_of(named, pictures, 10).tolist())) == 5
