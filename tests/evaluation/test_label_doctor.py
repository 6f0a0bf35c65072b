"""Doubtful labels, against cleanlab, and with labels that were made wrong."""

import csv
from pathlib import Path

import numpy as np

from vit_lightning.evaluation.label_doctor import DOUBTS, confident_class, doubt_words, examine, write_doubts
from vit_lightning.evaluation.metrics import Indices, Outcome


def drawn(seed: int, count: int = 800) -> tuple[Outcome, Indices]:
    """A model that is right for three quarters, on labels of which a tenth was made wrong; and which these are."""
    rng = np.random.default_rng(seed)
    true = rng.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])
    logits = 2.5 * np.eye(4)[true] + rng.normal(size=(count, 4))
    powers = np.exp(logits)
    wrong = rng.random(count) < 0.1
    given = np.where(wrong, (true + rng.integers(1, 4, count)) % 4, true)
    names = [f"{each:04}.jpg" for each in range(count)]
    outcome = Outcome(list("abcd"), names, [""] * count, given, powers / powers.sum(axis=1, keepdims=True))
    return outcome, np.flatnonzero(wrong)


def test_the_flags_and_the_order_are_cleanlabs() -> None:
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    for seed in range(5):
        outcome, _ = drawn(seed)
        joint = compute_confident_joint(outcome.labels, outcome.probabilities, calibrate=False)
        counted = confident_class(outcome.probabilities, outcome.labels)
        # Where no class is confident theirs counts nothing, and ours the label that was given.
        for given in range(4):
            for likely in range(4):
                ours = int(((outcome.labels == given) & (counted == likely)).sum())
                assert ours == joint[given, likely] if given != likely else ours >= joint[given, likely]
        reference = find_label_issues(
            outcome.labels,
            outcome.probabilities,
            filter_by="confident_learning",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
        doubts = examine(outcome)
        flagged = [path for path, flag in zip(doubts.paths, doubts.flagged, strict=True) if flag]
        # Theirs leaves those out whose label is the likeliest class after all.
        theirs = [outcome.paths[index] for index in reference]
        assert [path for path in flagged if path in set(theirs)] == theirs
        for path in set(flagged) - set(theirs):
            index = outcome.paths.index(path)
            assert outcome.predicted[index] == outcome.labels[index]


def test_wrong_labels_come_first() -> None:
    outcome, wrong = drawn(1)
    doubts = examine(outcome)
    first = {outcome.paths.index(path) for path in doubts.paths[: len(outcome.paths) // 5]}
    assert len(first & set(wrong.tolist())) / len(wrong) > 0.9
    assert (np.diff(doubts.scores) <= 0).all()
    assert (doubts.likely != doubts.given).all()


def test_of_several_models_the_mean_counts_and_an_image_is_there_once() -> None:
    one, _ = drawn(2, 50)
    other, _ = drawn(3, 50)
    twice = Outcome(
        one.class_names,
        one.paths * 2,
        one.groups * 2,
        np.concatenate([one.labels, one.labels]),
        np.concatenate([one.probabilities, other.probabilities]),
    )
    mean = Outcome(one.class_names, one.paths, one.groups, one.labels, (one.probabilities + other.probabilities) / 2)
    assert examine(twice).paths == examine(mean).paths
    assert np.allclose(examine(twice).probabilities, examine(mean).probabilities)


def test_a_class_without_a_label_is_never_likely_by_itself() -> None:
    probabilities = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]])
    assert confident_class(probabilities, np.array([0, 0, 1])).tolist() == [0, 0, 1]


def test_the_table_has_all_pictures_and_no_formulas(tmp_path: Path) -> None:
    outcome, _ = drawn(4, 20)
    names = ["=a", "b", "c", "d"]
    odd = Outcome(names, ["=x.jpg", *outcome.paths[1:]], outcome.groups, outcome.labels, outcome.probabilities)
    doubts = examine(odd)
    write_doubts(tmp_path, doubts, names)
    with (tmp_path / DOUBTS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {row["path"] for row in rows} == {"./=x.jpg", *outcome.paths[1:]}
    assert {row["given"] for row in rows} <= {"'=a", "b", "c", "d"}
    assert sum(row["flagged"] == "1" for row in rows) == doubts.flagged.sum()
    assert doubt_words(doubts).startswith(f"{doubts.flagged.sum()} of 20 labels are doubtful")
