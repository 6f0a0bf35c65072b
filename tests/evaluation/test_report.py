"""The report's page: what it says, and how it looks in a browser."""

import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vit_lightning.evaluation import report
from vit_lightning.evaluation.conformal import calibrate_sets
from vit_lightning.evaluation.folds import Member, summarise
from vit_lightning.evaluation.label_doctor import examine
from vit_lightning.evaluation.metrics import Outcome, calibrate, score
from vit_lightning.evaluation.report import least_sure_hits, surest_mistakes, write_report
from vit_lightning.evaluation.training import Training
from vit_lightning.module import ViTClassifier

#: Milliseconds that a browser is given: it may share its cores.
TIMEOUT = 120_000

NASTY = ["<script>alert(1)</script>", 'a"b<img src=x onerror=alert(2)>', "a_rather_long_name_" * 5, "_ $x$ &amp;"]


@pytest.fixture(scope="module")
def model() -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(num_classes=4, image_size=(16, 32), patch_size=8, dim=16, depth=2, heads=2).eval()


def outcome_of(frames: Path, classes: int = 4, names: list[str] | None = None, groups: int = 8) -> Outcome:
    """Of the drawn frames, with a model that is often right; the labels are not the frames' own."""
    paths = sorted(path.relative_to(frames).as_posix() for path in frames.rglob("*.jpg"))
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, len(paths))
    logits = random.normal(size=(len(paths), classes)) + 1.5 * np.eye(classes)[labels]
    powers = np.exp(logits)
    return Outcome(
        class_names=names or [f"class_{index}" for index in range(classes)],
        paths=paths,
        groups=[str(index * groups // len(paths)) for index in range(len(paths))],
        labels=labels,
        probabilities=powers / powers.sum(axis=1, keepdims=True),
    )


def metrics_of(outcome: Outcome, **changes: Any) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "run": "tom_and_jerry-001",
        "checkpoint": "best.ckpt",
        "part": "test",
        "images": len(outcome.paths),
        "created": "2026-03-05T10:15:00+00:00",
        "data": {"name": "tom_and_jerry", "id": "05c2622bc135"},
        "split": {"kind": "blocks", "id": "1191e642c681", "train": 3000, "val": 720, "test": 96},
        "groups": {"kind": "blocks of 12 frames", "count": len(set(outcome.groups))},
        **score(outcome),
        "calibration": calibrate(outcome, outcome),
        "baselines": {"majority": 0.351, "neighbour_number": 0.402, "thumbnail_neighbour": 0.438},
        "leads": {
            "majority": {"difference": 0.154, "interval": [0.04, 0.27], "p": 0.01},
            "neighbour_number": {"difference": 0.104, "interval": [-0.02, 0.23], "p": 0.09},
            "thumbnail_neighbour": {"difference": 0.068, "interval": [-0.031, 0.167], "p": 0.15},
        },
        "near_duplicates": {"share": 0.012, "flagged": False, "sentence": "1.2 % have a near-duplicate."},
        "challenges": {"images": 12, "accuracy": 0.25, "interval": [0.09, 0.53], "note": "few and picked by hand"},
    }
    return metrics | changes


def text_of(page: Path) -> str:
    """What is read, in one line, with every dash as a hyphen."""
    html = re.sub(r"<style.*?</style>|<svg.*?</svg>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(
        unescape(re.sub(r"<[^>]*>", "", html.replace("<br>", " ").replace("<small>", " ")))
        .replace("\N{EN DASH}", "-")
        .split()
    )


@pytest.fixture(scope="module")
def page(frames: Path, model: ViTClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outcome = outcome_of(frames)
    changes = {"accuracy": 0.5056, "macro_f1": 0.4245}
    intervals = {"level": 0.95, "accuracy": [0.381, 0.6312], "macro_f1": [0.3, 0.55]}
    metrics = metrics_of(outcome, **changes, intervals=intervals)
    training = Training(STATUS, ROWS, "32-true", SETTINGS)
    folder = tmp_path_factory.mktemp("run") / "report"
    return write_report(folder, metrics, outcome, model.net, root=frames, training=training)


@pytest.fixture(scope="module")
def hard_page(frames: Path, model: ViTClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long and nasty names, a warning, and nothing that may be missing is there."""
    outcome = outcome_of(frames, names=NASTY, groups=1)
    metrics = metrics_of(
        outcome,
        run="averylongname" * 8,
        part="val",
        calibration=calibrate(outcome, None),
        baselines={"majority": 0.351, "neighbour_number": None, "thumbnail_neighbour": 0.97},
        leads={},
        near_duplicates={"share": 0.98, "flagged": True, "sentence": "98 % have a near-duplicate: it leaks"},
        challenges=None,
    )
    assert metrics["intervals"]["accuracy"] is None
    return write_report(tmp_path_factory.mktemp("run") / "report", metrics, outcome, model.net, root=frames)


@pytest.fixture(scope="module")
def wide_page(frames: Path, model: ViTClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The largest table of counts: 20 classes."""
    outcome = outcome_of(frames, classes=20, names=[f"a_name_as_long_as_may_{index}" for index in range(20)])
    folder = tmp_path_factory.mktemp("run") / "report"
    return write_report(folder, metrics_of(outcome), outcome, model.net, root=frames)


def test_it_says_what_was_measured_and_how_much_it_is_worth(page: Path) -> None:
    text = text_of(page)
    for sentence in (
        "How good is tom_and_jerry-001?",
        "checkpoint best.ckpt on the test part of tom_and_jerry, 5 March 2026",
        "50.6 % of 96 images labelled right 95 % interval: 38.1 to 63.1 %",
        "The images come from 8 blocks of 12 frames",
        "Always the most frequent class model +15.4 points [4.0, 27.0] 35.1 %",
        "The best of these ways reaches 43.8 %; the model is ahead by +6.8 points [-3.1, 16.7]: that may be chance.",
        "it is 0.42 (95 % interval 0.30-0.55)",
        "12 of them are in this part. The model is right for 25.0 % of them (95 % interval 9.0 to 53.0 %). Few",
        "3,000 for training, 720 for validation, 96 for the test",
        "Each of the 8 blocks of 12 frames is left out in turn",
    ):
        assert sentence in text
    assert "near-duplicate in" not in text
    assert "These numbers say less" not in text


@pytest.mark.parametrize(
    ("accuracy", "lead", "said"),
    [
        (
            0.60,
            {"interval": [0.03, 0.29], "p": 0.02},
            "is ahead by +16.2 points [3.0, 29.0], which is more than chance.",
        ),
        (0.60, {"interval": [0.03, 0.29], "p": 0.0625}, "is ahead by +16.2 points [3.0, 29.0]: that may be chance."),
        (0.60, {"interval": [-0.03, 0.29], "p": 0.1}, "that may be chance"),
        (0.60, {"interval": None, "p": None}, "the model is ahead by 16.2 points. "),
        (0.43, {"interval": [-0.1, 0.09], "p": 0.8}, "The model does no better on these images, which may be chance."),
        (0.23, {"interval": [-0.3, -0.1], "p": 0.01}, "does no better on these images, and that is more than chance."),
        (0.43, {"interval": None, "p": None}, "The model does no better on these images. "),
    ],
)
def test_the_baselines_are_held_against_it(accuracy: float, lead: dict[str, Any], said: str, frames: Path) -> None:
    """By the paired difference, wherever the accuracy's own interval lies."""
    lead["difference"] = accuracy - 0.438
    leads = {"majority": None, "neighbour_number": None, "thumbnail_neighbour": lead}
    intervals = {"level": 0.95, "accuracy": [0.3, 0.7], "macro_f1": None}
    text = words_of(metrics_of(outcome_of(frames), accuracy=accuracy, intervals=intervals, leads=leads))
    assert said in text


def words_of(metrics: dict[str, Any], training: Training | None = None) -> str:
    """What a page without pictures says."""
    figures = dict.fromkeys(("confusion_matrix", "reliability", "precision_recall"))
    html = report.render(metrics, {"mistakes": [], "hits": [], "doubts": []}, figures, training)
    return " ".join(unescape(re.sub(r"<style.*?</style>|<[^>]*>", "", html, flags=re.DOTALL)).split())


@pytest.mark.parametrize(
    ("difference", "interval", "p", "temperature", "said"),
    [
        (
            -0.05,
            [-0.09, -0.01],
            0.02,
            1.4,
            "lowers the negative log-likelihood, by more than chance: the model was surer",
        ),
        (-0.05, [-0.09, -0.01], 0.02, 0.6, "the model was less sure than it could have been"),
        (
            -0.05,
            [-0.12, 0.02],
            0.15,
            1.4,
            "makes no difference to the negative log-likelihood that could not be chance.",
        ),
        (-0.05, [-0.09, -0.01], 0.0625, 1.4, "makes no difference to the negative log-likelihood"),
        (0.70, [0.3, 1.1], 0.01, 0.6, "raises the negative log-likelihood, by more than chance"),
        (-0.05, None, None, 1.4, "by -0.050; whether that is chance cannot be said."),
    ],
)
def test_a_temperature_is_no_gain_where_it_may_be_chance(
    difference: float, interval: list[float] | None, p: float | None, temperature: float, said: str, frames: Path
) -> None:
    metrics = metrics_of(outcome_of(frames))
    metrics["calibration"]["temperature"] = temperature
    metrics["calibration"]["change"]["nll"] = {"difference": difference, "interval": interval, "p": p}
    text = words_of(metrics)
    assert said in text
    assert ("lowers" in text) == (p is not None and p < 0.05 and difference < 0)


def test_a_calibration_error_is_held_against_chance(frames: Path) -> None:
    metrics = metrics_of(outcome_of(frames))
    before = metrics["calibration"]["before"] | {"ece_floor": 0.056, "ece_chance": 0.075}
    for error, said in ((0.059, "nothing here speaks against this one"), (0.081, "this one misses by more than that")):
        metrics["calibration"]["before"] = before | {"ece": error}
        text = words_of(metrics)
        assert f"They miss it by {100 * error:.1f} points on average (ECE)." in text
        assert "chance alone makes that of a model that can be believed 5.6 points, and more than 7.5 once" in text
        assert said in text


def test_what_could_not_be_fitted_is_not_shown_as_a_fit(frames: Path) -> None:
    outcome = outcome_of(frames)
    sure = Outcome(outcome.class_names, outcome.paths, outcome.groups, outcome.predicted, outcome.probabilities)
    text = words_of(metrics_of(outcome, calibration=calibrate(outcome, sure)))
    assert "No temperature was fitted: the model makes no mistake on the validation images." in text
    assert "T =" not in text


def test_a_class_without_an_interval_has_a_reason(frames: Path) -> None:
    outcome = outcome_of(frames)
    groups = ["one" if label == 2 else group for label, group in zip(outcome.labels, outcome.groups, strict=True)]
    lonely = Outcome(outcome.class_names, outcome.paths, groups, outcome.labels, outcome.probabilities)
    assert "No interval of class_2: nearly all of its images are of one group." in words_of(metrics_of(lonely))
    assert "No interval of" not in words_of(metrics_of(outcome))


def test_all_scores_of_the_whole_are_told(frames: Path) -> None:
    metrics = metrics_of(outcome_of(frames), balanced_accuracy=0.512, auroc=0.734)
    text = words_of(metrics)
    assert "Balanced accuracy, the mean of their recall, is 0.51 (" in text
    assert (
        "AUROC, how often an image of a class is given a higher probability of it than one of another, is 0.73" in text
    )
    assert "AUROC" not in words_of(metrics | {"auroc": None})


def test_pictures_that_look_alike_are_told_and_not_accused(frames: Path) -> None:
    duplicates = {"share": 0.0, "flagged": False, "sentence": "0.0 % have one", "note": "they look alike"}
    text = words_of(metrics_of(outcome_of(frames), near_duplicates=duplicates))
    assert "is no test. They look alike." in text
    assert "These numbers say less" not in text


def test_what_is_not_known_is_not_claimed(hard_page: Path) -> None:
    text = text_of(hard_page)
    for sentence in (
        "These numbers say less than they seem to. 98 % have a near-duplicate: it leaks.",
        "The split has no test part.",
        "it takes two or more blocks of 12 frames, and there is only one",
        "No temperature was fitted",
        "The names of these files carry no numbers",
        "The model does no better",
    ):
        assert sentence in text
    for word in ("nan", "None", "known to be hard", "interval:"):
        assert word not in text


def test_a_class_without_images(frames: Path, model: ViTClassifier, tmp_path: Path) -> None:
    outcome = outcome_of(frames, classes=3)
    outcome.labels[outcome.labels == 1] = 2
    text = text_of(write_report(tmp_path, metrics_of(outcome), outcome, model.net, root=frames))
    assert "No image of class_1 is in this part, so that nothing is known of that class" in text
    assert "class_1 0.00 - - 0" in text


@pytest.mark.parametrize(
    ("f1", "said"),
    [
        ([0.9, 0.5, 0.2, 0.7], "class_0 is recognised best, class_2 worst."),
        ([0.0, 0.9, 0.0, 0.0], "class_1 is recognised best; class_0, class_2 and class_3 worst."),
        ([0.6, 0.9, 0.9, 0.7], "class_1 and class_2 are recognised best, class_0 worst."),
        ([0.0, 0.1 + 0.2, 0.3, 0.0, 0.0, 0.0], "class_1 and class_2 are recognised best; 4 classes worst."),
        ([0.5, 0.5, 0.5], None),
    ],
)
def test_classes_that_tie_are_named_together(
    f1: list[float], said: str | None, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = metrics_of(outcome_of(frames, classes=len(f1)))
    for row, value in zip(metrics["per_class"].values(), f1, strict=True):
        row["f1"] = value
    figures = dict.fromkeys(("confusion_matrix", "reliability", "precision_recall"))
    text = " ".join(re.sub(r"<[^>]*>", "", report.render(metrics, {"mistakes": [], "hits": []}, figures)).split())
    assert (said is None) == ("recognised best" not in text)
    assert said is None or said in text


def test_names_and_paths_are_text(hard_page: Path, frames: Path, model: ViTClassifier, tmp_path: Path) -> None:
    named = '"><script>alert(3)<%2fscript>.jpg'
    shutil.copy(next(frames.rglob("*.jpg")), tmp_path / named)
    other = Outcome(NASTY[:2], [named, named], ["", ""], np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    pages = [hard_page, write_report(tmp_path / "report", metrics_of(other), other, model.net, root=tmp_path)]
    for html in (page.read_text(encoding="utf-8") for page in pages):
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "&lt;script&gt;alert(1)" in html
    assert "&lt;script&gt;alert(3)" in html


def test_surest_mistakes_and_least_sure_hits() -> None:
    """Of frames of one group that are mistaken in the same way the surest goes before the others."""
    said = [
        (0, 1, 0.90, "a"),
        (0, 1, 0.95, "a"),
        (0, 1, 0.80, "b"),
        (0, 2, 0.60, "a"),
        (1, 1, 0.70, "a"),
        (2, 2, 0.5, ""),
    ]
    said += [(1, 1, 0.65, "a"), (1, 1, 0.75, "b"), (2, 2, 0.4, "")]
    probabilities = np.full((len(said), 3), 0.0)
    for row, (_, column, confidence, _) in enumerate(said):
        probabilities[row] = (1 - confidence) / 2
        probabilities[row, column] = confidence
    labels, groups = np.array([true for true, *_ in said]), [group for *_, group in said]
    outcome = Outcome(["x", "y", "z"], [str(row) for row in range(len(said))], groups, labels, probabilities)
    assert surest_mistakes(outcome, 3) == [1, 2, 3]
    assert surest_mistakes(outcome, 12) == [1, 0, 2, 3]
    assert least_sure_hits(outcome, 4) == [8, 5, 6, 7]
    assert least_sure_hits(outcome, 12) == [8, 5, 6, 4, 7]


def test_there_may_be_no_mistake_or_no_hit(frames: Path, model: ViTClassifier, tmp_path: Path) -> None:
    outcome = outcome_of(frames, classes=2)
    for labels, said in (
        (outcome.predicted, "Nothing: every image was labelled right. "),
        (1 - outcome.predicted, "There is no hit to show."),
    ):
        one = Outcome(outcome.class_names, outcome.paths, outcome.groups, labels, outcome.probabilities)
        text = text_of(write_report(tmp_path, metrics_of(one), one, model.net, root=frames))
        assert said in text
    assert sorted(path.name for path in (tmp_path / "hits").iterdir()) == []  # nor of the former report


def test_pictures_keep_their_aspect(model: ViTClassifier, tmp_path: Path) -> None:
    """Tall, wide and tiny ones; the model is given the whole of each."""
    sizes = {"tall.png": (50, 100), "wide.png": (900, 300), "tiny.png": (20, 10)}
    for name, size in sizes.items():
        Image.new("RGB", size, (200, 30, 30)).save(tmp_path / name)
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    outcome = Outcome(["a", "b"], list(sizes), ["", "", ""], np.array([1, 1, 1]), probabilities)
    write_report(tmp_path / "report", metrics_of(outcome), outcome, model.net, root=tmp_path)
    shown = []
    for name in ("01", "02", "03"):
        with Image.open(tmp_path / f"report/mistakes/{name}.jpg") as image:
            shown.append(image.size)
            red, green, _ = image.convert("RGB").getpixel((5, 5))  # type: ignore[misc]  # of RGB it gives three
        assert red > 150 > green  # the image itself is on the left
    # Beside each other, the wide one below, with a gap of 4; the tiny one eight times as large.
    assert shown == [(2 * 50 + 4, 100), (320, 2 * 107 + 4), (2 * 160 + 4, 80)]


def test_images_that_are_gone_are_named(
    frames: Path, model: ViTClassifier, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    outcome = outcome_of(frames)
    first, second = surest_mistakes(outcome, 2)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    outcome.paths[first], outcome.paths[second] = "gone/frame1.jpg", str(tmp_path / "broken.jpg")
    text = text_of(write_report(tmp_path / "report", metrics_of(outcome), outcome, model.net, root=frames))
    assert "The file is no longer there. Is class_" in text
    assert "The file can no longer be read. Is class_" in text
    assert "gone/frame1.jpg" in text
    assert ("WARNING", "2 of the report's 18 pictures cannot be read any more: gone/frame1.jpg") in told
    assert not (tmp_path / "report/mistakes/01.jpg").exists()
    assert (tmp_path / "report/mistakes/03.jpg").exists()


def test_a_command_that_is_broken_off_leaves_the_former_page(
    frames: Path, model: ViTClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = outcome_of(frames)
    before = write_report(tmp_path, metrics_of(outcome), outcome, model.net, root=frames).read_text(encoding="utf-8")
    whole = Path.write_text

    def half(path: Path, text: str, **how: Any) -> int:
        whole(path, text[: len(text) // 2], **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path, metrics_of(outcome, run="other"), outcome, model.net, root=frames)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_what_lies_beside_it(page: Path) -> None:
    found = sorted(path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*") if path.is_file())
    pictures = [*(f"hits/{number:02}.jpg" for number in range(1, 7))]
    pictures += [f"mistakes/{number:02}.jpg" for number in range(1, 13)]
    figures = ["confusion_matrix.png", "precision_recall.png", "reliability.png"]
    assert found == sorted([*pictures, *figures, "report.html"])
    assert page.stat().st_size < 1_500_000


ROWS = [{"epoch": float(epoch), "train/loss": 1 / epoch, "val/acc": 0.1 * epoch} for epoch in range(1, 6)]
SETTINGS = [(f"model.setting_{number}", str(number), "left out") for number in range(9)]
STATUS = {
    "parameters": 347620,
    "epochs": 5,
    "max_epochs": 8,
    "device": "cpu",
    "seconds": 570.0,
    "images_per_second": 94.6,
    "ancestors": [{"run": "parent-001"}],
    "best": {"epoch": 5, "val/acc": 0.5},
    "baselines": {"part": "val", "majority": 0.351},
}


def test_how_it_was_trained(frames: Path, model: ViTClassifier, tmp_path: Path) -> None:
    outcome = outcome_of(frames)
    training = Training(STATUS, ROWS, "32-true", SETTINGS)
    page = write_report(tmp_path, metrics_of(outcome), outcome, model.net, root=frames, training=training)
    text, html = text_of(page), page.read_text(encoding="utf-8")
    told = (
        "The network has 347,620 parameters. It was trained for 5 of 8 epochs, starting from the weights of parent-001"
    )
    assert f"{told} on cpu (32-true), which took 9.5 minutes, at 95 images a second, validation left out." in text
    assert "9 settings differ from their defaults" in text
    assert "model.setting_8 8 left out" in text
    assert [f'aria-label="Training curve: {name}"' in html for name in ("loss", "accuracy", "macro-F1")] == [
        *(True, True, False)  # of what was never measured there is no curve
    ]
    assert "majority 0.351" in html
    assert "accuracy (best val 0.5000 in epoch 5)" in html
    assert "The best validation accuracy" not in text  # the curve says it


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (Training({"parameters": 7}, [], None, []), "The network has 7 parameters."),
        (Training({"best": {"epoch": 2, "val/acc": 0.5}}, [], None, []), "accuracy, 50.0 %, was that of epoch 2."),
        (Training({}, [], None, SETTINGS[:1]), "1 setting differs from its default"),
        (Training({"epochs": 1, "max_epochs": -1}, [], None, []), "It was trained for 1 epoch."),
        (Training({}, [], None, []), None),
        (None, None),
    ],
)
def test_what_a_run_did_not_record_is_absent(training: Training | None, said: str | None, frames: Path) -> None:
    text = words_of(metrics_of(outcome_of(frames)), training)
    assert ("How it was trained" in text) == (said is not None)
    assert said is None or said in text
    assert ("differ from" in text) == (training is not None and len(training.settings) > 1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(45.2, "45 seconds"), (89, "89 seconds"), (90, "1.5 minutes"), (5390, "89.8 minutes"), (5400, "1.5 hours")],
)
def test_times_in_words(seconds: float, said: str) -> None:
    assert report.duration(seconds) == said


def test_another_set_is_called_one(frames: Path) -> None:
    split = {"kind": "external", "id": "1", "train": 0, "val": 0, "test": 96}
    baselines = dict.fromkeys(("majority", "neighbour_number", "thumbnail_neighbour"))
    metrics = metrics_of(outcome_of(frames), split=split, baselines=baselines, near_duplicates=None, leads={})
    text = words_of(metrics)
    assert "A test of its checkpoint best.ckpt on tom_and_jerry, another set than its own, 5 March 2026" in text
    assert "s split does not know: all of it is scored, or its test folder where it has one." in text
    for words in ("test part", "for training", "grey bars", "Simpler ways", "Near-duplicates"):
        assert words not in text


@pytest.mark.parametrize(
    ("seen", "part", "doubt"),
    [
        ({"seen": 0, "chose": 0, "unknown": []}, "test", False),
        ({"seen": 3, "chose": 0, "unknown": []}, "test", True),
        ({"seen": 0, "chose": 0, "unknown": ["x.ckpt"]}, "test", True),
        ({"seen": 0, "chose": 7, "unknown": []}, "test", True),
        ({"seen": 0, "chose": 7, "unknown": []}, "val", False),
        (None, "test", None),
    ],
)
def test_images_are_unseen_only_where_that_is_known(
    seen: dict[str, Any] | None, part: str, doubt: bool | None, frames: Path
) -> None:
    told = seen and seen | {"sentence": "this is known of them"}
    text = words_of(metrics_of(outcome_of(frames), seen=told, part=part))
    assert ("that it was not trained on" in text) == (doubt is False)
    assert ("These may be no unseen images. This is known of them." in text) == (doubt is True)
    assert text.count("his is known of them") == (seen is not None)  # once


def test_what_a_warning_says_is_not_said_again(hard_page: Path) -> None:
    assert text_of(hard_page).count("98 % have a near-duplicate") == 1


def test_cells_have_share_and_count(frames: Path) -> None:
    metrics = metrics_of(outcome_of(frames))
    metrics["confusion_matrix"] = [[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2000]]
    figures = dict.fromkeys(("confusion_matrix", "reliability", "precision_recall"))
    html = report.render(metrics, {"mistakes": [], "hits": []}, figures)
    assert "<caption>Confusion matrix: the share of the true class in per cent" in html
    table = html[html.index('<table class="matrix') :]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table[: table.index("</table>")])
    assert cells[:4] == ["75\N{NO-BREAK SPACE}%<small>3</small>", "25\N{NO-BREAK SPACE}%<small>1</small>", "0", "0"]
    assert cells[-1] == "100\N{NO-BREAK SPACE}%<small>2,000</small>"


def test_without_a_network_the_images_are_shown_alone(frames: Path, tmp_path: Path) -> None:
    outcome = outcome_of(frames)
    html = write_report(tmp_path / "report", metrics_of(outcome), outcome, None, root=frames).read_text("utf-8")
    assert html.count("<img") == 18
    assert "attention" not in html.lower()
    with Image.open(tmp_path / "report/hits/01.jpg") as shown, Image.open(frames / outcome.paths[0]) as frame:
        assert shown.width / shown.height == pytest.approx(frame.width / frame.height, rel=0.02)


@pytest.mark.parametrize("root", [None, "gone"])
def test_without_the_data_the_images_are_named(
    root: str | None, frames: Path, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    outcome = outcome_of(frames)
    place = None if root is None else tmp_path / root
    page = write_report(tmp_path / "report", metrics_of(outcome), outcome, None, root=place)
    text = text_of(page)
    assert "<img" not in page.read_text(encoding="utf-8")
    assert "the pictures were not at hand for this page" in text
    assert "no longer there" not in text
    assert outcome.paths[surest_mistakes(outcome, 1)[0]] in text
    assert [line for _, line in told if "names images and shows none" in line] != []


def folds_result(frames: Path, seeds: int) -> tuple[dict[str, Any], Outcome]:
    """Of two folds, with models that are right about as often as the one above."""
    whole = outcome_of(frames, groups=12)
    members = []
    for seed in range(seeds):
        for fold in (1, 2):
            own = [index for index in range(len(whole.paths)) if int(whole.groups[index]) % 2 == fold - 1]
            probabilities = np.roll(whole.probabilities[own], seed, axis=1) if seed else whole.probabilities[own]
            outcome = Outcome(
                class_names=whole.class_names,
                paths=[whole.paths[index] for index in own],
                groups=[whole.groups[index] for index in own],
                labels=whole.labels[own],
                probabilities=probabilities,
            )
            metrics = metrics_of(outcome, accuracy=float((outcome.predicted == outcome.labels).mean()))
            metrics["seen"] = {"images": len(own), "seen": 0, "chose": 0, "unknown": []}
            members.append(Member(f"all-f{fold}-s{seed}", fold, seed, metrics, outcome))
    return summarise("all", members)


@pytest.fixture(scope="module")
def folds_page(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    metrics, outcome = folds_result(frames, seeds=2)
    return write_report(tmp_path_factory.mktemp("run") / "report", metrics, outcome, None, root=frames)


def test_a_result_of_folds_with_one_seed(frames: Path, tmp_path: Path) -> None:
    metrics, outcome = folds_result(frames, seeds=1)
    text = text_of(write_report(tmp_path, metrics, outcome, None, root=frames))
    low, high = (100 * end for end in metrics["spread"]["groups"])
    for sentence in (
        "A test of 2 models, each on the fold of tom_and_jerry that it was not trained on, ",
        f"{100 * metrics['accuracy']:.1f} % of 96 images labelled right 95 % interval: {low:.1f} to {high:.1f} %",
        "The images were shared out into 2 folds. Each was held out in turn while a model was trained on others;",
        "Another seed of training It cannot be said: there is only one.",
        "so that each of the 96 images is held out once for every seed. 0 of 96 predictions are of images",
        "1.2% of the test images have a near-duplicate in the training part of their fold.",
        "No temperature was fitted: each of the models would have its own.",
        "Always the most frequent class 35.1 %",
    ):
        assert sentence in text
    for name, member in metrics["folds"].items():
        assert f"{name} {member['fold']} 0 {member['images']} {100 * member['accuracy']:.1f} %" in text
    for words in ("None", "nan", "0 for training", "below each", "Beside or below each image", "predictions right"):
        assert words not in text


def test_a_result_of_folds_with_two_seeds_counts_predictions(folds_page: Path, frames: Path) -> None:
    metrics, _ = folds_result(frames, seeds=2)
    text = text_of(folds_page)
    first, second = (f"{100 * value:.1f} % with seed {seed}" for seed, value in metrics["spread"]["seeds"].items())
    low, high = (100 * end for end in metrics["spread"]["groups"])
    for sentence in (
        f"{100 * metrics['accuracy']:.1f} % of 192 predictions right",
        "Each was held out in turn, 2 times with another seed, while a model was trained on others;",
        "That makes 2 predictions for each of 96 images. The images come from 12 blocks of 12 frames",
        f"95 % interval: {low:.1f} to {high:.1f} %",
        "By the interval at the top, which is over 12 blocks of 12 frames, with the seeds averaged.",
        f"By a standard deviation of {100 * metrics['spread']['deviation']:.1f} points between 2 seeds, which so few",
        f"{first}, {second}.",
        "and below it the number of predictions",
        "With 192 predictions chance alone",
    ):
        assert sentence in text
    assert len(metrics["folds"]) == 4
    assert all(name in text for name in metrics["folds"])
    assert sum(map(sum, metrics["confusion_matrix"])) == 192


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; pip install playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


#: The lowest contrast (WCAG 2.2) of any text with what lies behind it, and the text.
CONTRAST = """() => {
  const parse = colour => {
    const numbers = colour.match(/[\\d.]+/g).map(Number);
    return numbers.length < 4 ? [...numbers, 1] : numbers;
  };
  const over = (above, below) => above.slice(0, 3).map((value, i) => above[3] * value + (1 - above[3]) * below[i]);
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => element === null ? [255, 255, 255]
    : over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  let worst = [21, ""];
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
    if (!text || element.closest("style")) continue;
    const style = getComputedStyle(element), back = behind(element);
    const front = over(parse(element.ownerSVGElement ? style.fill : style.color), back);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < worst[0]) worst = [contrast, text];
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["page", "hard_page", "wide_page", "folds_page"])
def test_in_a_browser(which: str, width: int, scheme: str, browser: Any, request: pytest.FixtureRequest) -> None:
    """No sideways scrolling, nothing asked for from elsewhere, all pictures there, all text legible."""
    address = request.getfixturevalue(which).as_uri()
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.set_default_timeout(TIMEOUT)
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))  # of what the page's own policy forbids
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    tab.goto(address)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert complaints == []
    widths = tab.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == 18
    assert min(widths) > 0
    assert tab.evaluate("[...document.images].every(image => image.alt)")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    contrast, text = tab.evaluate(CONTRAST)
    assert contrast >= 4.5, text
    tab.close()


@pytest.mark.parametrize("which", ["page", "hard_page", "wide_page", "folds_page"])
def test_on_paper(which: str, browser: Any, request: pytest.FixtureRequest) -> None:
    """White whatever the screen, and as wide as the paper: an A4 page has 680 points between its margins."""
    tab = browser.new_page(viewport={"width": 680, "height": 960}, color_scheme="dark")
    tab.set_default_timeout(TIMEOUT)
    tab.goto(request.getfixturevalue(which).as_uri())
    printed = tab.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 3
    assert len(printed) > 50_000
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 680
    contrast, text = tab.evaluate(CONTRAST)
    assert contrast >= 4.5, text
    tab.close()


def test_sets_are_told_folded_and_refused_in_a_sentence(frames: Path) -> None:
    outcome = outcome_of(frames, groups=24)
    metrics = metrics_of(outcome, sets=calibrate_sets(outcome, "blocks of 4 frames"))
    words = words_of(metrics)
    first = metrics["sets"]["levels"][0]
    assert f"{first['mean_size']:.1f} of 4, to be right for 90" in words
    assert f"{100 * first['coverage']:.1f}" in words
    assert "for an image of a new group" in words
    few = outcome_of(frames, groups=6)
    words = words_of(metrics_of(few, sets=calibrate_sets(few, "blocks of 4 frames")))
    assert "too few blocks of 4 frames to tell" in words
    assert "To promise the true class for 90% takes 9 groups or more, and there are 6 blocks of 4 frames" in words


def test_doubtful_labels_are_a_folded_gallery(frames: Path, tmp_path: Path) -> None:
    outcome = outcome_of(frames)
    doubts = examine(outcome)
    metrics = metrics_of(outcome, doubtful_labels={"flagged": int(doubts.flagged.sum()), "file": "doubtful_labels.csv"})
    page = write_report(tmp_path, metrics, outcome, None, root=frames, doubts=doubts)
    html = page.read_text(encoding="utf-8")
    shown = min(24, int(doubts.flagged.sum()))
    assert html.count("against the label") == shown > 6
    folded = html[html.index("Labels that may be wrong") :]
    assert folded.index("<details>") < folded.index("against the label") < folded.index("</details>")
    assert f"The {shown} most doubtful" in folded
    assert len(list((tmp_path / "doubts").glob("*.jpg"))) == shown
