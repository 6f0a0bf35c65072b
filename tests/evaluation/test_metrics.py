"""The scores of `metrics.json`, held against scikit-learn and hand-worked cases."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from vit_lightning.evaluation.calibration import fit_temperature
from vit_lightning.evaluation.metrics import (
    Outcome,
    auroc,
    calibrate,
    count_groups,
    group_index,
    macro_f1,
    score,
    score_challenges,
    write_predictions,
)

NAMES = ["ant", "bee", "cat", "dog"]


def outcome(images: int = 300, classes: int = 4, said: int = 4, seed: int = 0, groups: int = 12) -> Outcome:
    """A model that is right more often than not, and never says the last classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    logits = rng.normal(size=(images, 4))
    logits[np.arange(images), labels] += 1.5
    logits[:, said:] -= 100.0
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    names = [f"block {index * groups // images}" for index in range(images)]
    paths = [f"{NAMES[label]}/frame{index}.jpg" for index, label in enumerate(labels)]
    return Outcome(NAMES, paths, names, labels, powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("classes", "said"), [(4, 4), (3, 4), (4, 3), (3, 3)])
def test_scores_are_scikit_learns(classes: int, said: int) -> None:
    """Also where a class has no image, is never said, or both."""
    case = outcome(classes=classes, said=said)
    found = score(case)
    assert found["accuracy"] == pytest.approx(accuracy_score(case.labels, case.predicted), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(f1_score(case.labels, case.predicted, average="macro"), abs=1e-6)
    reference = precision_recall_fscore_support(case.labels, case.predicted, labels=range(4), zero_division=0)
    for index, name in enumerate(NAMES):
        mine = [found["per_class"][name][key] for key in ("precision", "recall", "f1", "support")]
        assert mine == pytest.approx([column[index] for column in reference], abs=1e-6)
    assert found["balanced_accuracy"] == pytest.approx(
        recall_score(case.labels, case.predicted, labels=np.unique(case.labels), average="macro")
    )
    there = range(classes)
    assert found["auroc"] == pytest.approx(
        np.mean([roc_auc_score(case.labels == label, case.probabilities[:, label]) for label in there])
    )
    assert found["confusion_matrix"] == confusion_matrix(case.labels, case.predicted, labels=range(4)).tolist()


def test_macro_f1_without_a_group_is_scikit_learns_without_its_images() -> None:
    case = outcome(images=60, groups=5)
    counts = count_groups(case)
    for group in range(5):
        kept = case.group_index != group
        reference = f1_score(case.labels[kept], case.predicted[kept], average="macro")
        assert macro_f1(counts.sum(axis=0) - counts[group]) == pytest.approx(reference, abs=1e-12)


def test_intervals_are_over_groups() -> None:
    """The same images are worth less where they stand or fall together."""
    case = outcome()
    hit = case.labels == case.predicted
    together = Outcome(
        NAMES, case.paths, [f"{right}{i % 3}" for i, right in enumerate(hit)], case.labels, case.probabilities
    )
    apart = Outcome(NAMES, case.paths, [""] * 300, case.labels, case.probabilities)
    widths = []
    for each in (apart, case, together):
        found = score(each)
        low, high = found["intervals"]["accuracy"]
        assert low < found["accuracy"] < high
        assert found["intervals"]["macro_f1"][0] < found["macro_f1"] < found["intervals"]["macro_f1"][1]
        widths.append(high - low)
    assert widths[2] > 4 * widths[0]
    assert widths[0] == pytest.approx(2 * 1.96 * np.sqrt(hit.mean() * (1 - hit.mean()) / 300), rel=0.03)


def test_blocks_that_are_all_right_do_not_make_a_certainty() -> None:
    """Six blocks of 120 frames, each of one of two classes; the interval over frames would be 0.995 to 1."""
    labels = np.repeat([0, 1, 0, 1, 0, 1], 120)
    groups = [str(index // 120) for index in range(720)]
    found = score(Outcome(NAMES, [""] * 720, groups, labels, np.eye(4)[labels]))
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        low, high = found["intervals"][name]
        assert (0.1 < low < 0.65, high) == (True, 1.0), name
    assert found["per_class"]["ant"]["intervals"]["recall"][0] < 0.4
    assert found["per_class"]["cat"]["intervals"] == {"precision": None, "recall": None, "f1": None}


def test_one_group_and_a_class_of_one_group_have_no_interval() -> None:
    case = outcome()
    found = score(Outcome(NAMES, case.paths, ["all"] * 300, case.labels, case.probabilities))
    assert found["intervals"]["accuracy"] is None
    assert found["intervals"]["macro_f1"] is None
    groups = ["first" if label == 0 else f"other {index % 9}" for index, label in enumerate(case.labels)]
    found = score(Outcome(NAMES, case.paths, groups, case.labels, case.probabilities))
    assert found["per_class"]["ant"]["intervals"] == {"precision": None, "recall": None, "f1": None}
    assert found["per_class"]["ant"]["no_interval"] == "nearly all of its images are of one group"
    assert "no_interval" not in found["per_class"]["bee"]
    assert found["per_class"]["bee"]["intervals"]["recall"] is not None


def test_many_images_without_groups_are_scored_in_parts() -> None:
    case = outcome(images=2500)
    whole = score(Outcome(NAMES, case.paths, [""] * 2500, case.labels, case.probabilities))
    low, high = whole["intervals"]["macro_f1"]
    assert high - low == pytest.approx(0.036, abs=0.006)


def test_a_class_that_is_glimpsed_elsewhere_has_no_interval_either() -> None:
    """100 frames in one block and one in each of four others are worth little more than one block."""
    case = outcome(groups=5)
    labels = np.repeat([1, 2, 3], 100)
    labels[[100, 150, 200, 250]] = 0
    groups = [f"{index // 20}" if index >= 100 else "first" for index in range(300)]
    labels[:100] = 0
    found = score(Outcome(NAMES, case.paths, groups, labels, case.probabilities))["per_class"]["ant"]
    assert (found["groups"], found["intervals"]["recall"]) == (pytest.approx(1.08, abs=0.01), None)


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    case = outcome()
    reference = roc_auc_score(case.labels, case.probabilities, multi_class="ovr", average="macro")
    assert auroc(case.labels, case.probabilities) == pytest.approx(reference)
    assert auroc(np.zeros(5, dtype=np.int64), case.probabilities[:5]) is None


def test_images_without_a_group_are_groups_of_their_own() -> None:
    assert group_index(["a", "", "a", "", "b"]).tolist() == [0, 1, 0, 2, 3]


def test_the_temperature_comes_from_validation() -> None:
    case, validation = outcome(seed=1), outcome(seed=2)
    found = calibrate(case, validation)
    assert found["temperature"] == pytest.approx(fit_temperature(validation.probabilities, validation.labels))
    assert found["after"]["nll"] == pytest.approx(found["before"]["nll"] + found["change"]["nll"]["difference"])
    alone = calibrate(case, None)
    assert (alone["temperature"], alone["before"], alone["after"]) == (None, found["before"], None)
    assert alone["no_temperature"] == "that takes validation images other than those that are scored"


def test_validation_without_mistakes_leaves_the_model_as_it_is() -> None:
    case, validation = outcome(seed=1), outcome(seed=2)
    sure = Outcome(NAMES, validation.paths, validation.groups, validation.predicted, validation.probabilities)
    found = calibrate(case, sure)
    assert (found["temperature"], found["after"], found["change"]) == (None, None, None)
    assert "no mistake on the validation images" in found["no_temperature"]


def test_challenges_are_those_held_out(tmp_path: Path) -> None:
    case = outcome()
    assert score_challenges(case, tmp_path) is None
    hard = [case.paths[3], case.paths[5], case.paths[8], "ant/frame9999.jpg"]
    rows = "".join(f"{path.replace('/', ',')}\n" for path in hard)
    (tmp_path / "challenges.csv").write_text(f"folder,image_name\n{rows}", encoding="utf-8")
    found = score_challenges(case, tmp_path)
    assert found is not None
    right = [bool(case.labels[index] == case.predicted[index]) for index in (3, 5, 8)]
    assert (found["images"], found["accuracy"]) == (3, pytest.approx(np.mean(right)))
    assert found["interval"][0] < found["accuracy"] + 1e-9 < found["interval"][1] + 1e-8


def test_predictions_are_written_and_say_all(tmp_path: Path) -> None:
    case = outcome(images=5)
    write_predictions(tmp_path / "predictions.csv", case)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == case.paths
    for row, label, probabilities in zip(rows, case.labels, case.probabilities, strict=True):
        assert row["label"] == NAMES[label]
        assert row["predicted"] == NAMES[probabilities.argmax()]
        assert float(row["confidence"]) == pytest.approx(probabilities.max(), abs=1e-6)
        assert [float(row[f"p_{name}"]) for name in NAMES] == pytest.approx(probabilities.tolist(), abs=1e-6)
        assert row["group"].startswith("block ")
