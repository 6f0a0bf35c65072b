"""`runs compare`: paired on the same images, folds together."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import nct, t, ttest_1samp
from sklearn.metrics import f1_score

from vit_lightning.cli import main
from vit_lightning.evaluation.compare import compare_runs
from vit_lightning.runs import write_status

Row = tuple[str, str, str, str]  # path, group, label, said


def case(right: float, seed: int, images: range = range(200)) -> list[Row]:
    """Images in groups of 20, of which a share is right."""
    rows = []
    for index in images:
        draws = np.random.default_rng((seed, index))
        label = "ab"[index % 2]
        said = label if draws.random() < right else "ba"[index % 2]
        rows.append((f"{label}/f{index}.jpg", str(index // 20), label, said))
    return rows


def write_run(
    logs: Path,
    name: str,
    rows: list[Row] | None,
    *,
    part: str = "test",
    tested: str = "s",
    duplicates: dict[str, Any] | None = None,
    **config: Any,
) -> None:
    folder = logs / name
    (folder / "report").mkdir(parents=True)
    write_status(
        folder,
        {
            "state": "finished",
            "started": f"2026-01-01T00:00:{len(list(logs.iterdir())):02}+00:00",
            "split": {"id": "s"},
        },
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if rows is not None:
        metrics = {"part": part, "split": {"id": tested}, "images": len(rows), "near_duplicates": duplicates}
        (folder / "report" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        with (folder / "report" / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "group", "label", "predicted", "confidence"])
            writer.writerows([*row, "0.5"] for row in rows)


def test_a_difference_is_the_paired_t_test_over_groups(tmp_path: Path) -> None:
    one, other = case(0.5, 0), case(0.8, 1)
    write_run(tmp_path, "one", one)
    write_run(tmp_path, "other", list(reversed(other)))  # whatever the order
    found = compare_runs("one", "other", tmp_path)
    hits = [np.array([row[2] == row[3] for row in rows]).reshape(10, 20) for rows in (one, other)]
    reference = ttest_1samp((hits[1].astype(float) - hits[0]).mean(axis=1), 0.0)
    assert (found.images, found.groups) == (200, 10)
    assert found.accuracy == pytest.approx((hits[0].mean(), hits[1].mean()))
    assert found.accuracy_difference == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.p == pytest.approx(max(reference.pvalue, 2**-9))  # ten coins that fall alike
    for rows, f1 in zip((one, other), found.macro_f1, strict=True):
        assert f1 == pytest.approx(f1_score([row[2] for row in rows], [row[3] for row in rows], average="macro"))
    assert found.real


def test_what_the_seeds_of_one_result_say_of_an_image_is_averaged(tmp_path: Path) -> None:
    one, first, second = case(0.5, 0), case(0.8, 1), case(0.7, 2)
    write_run(tmp_path, "one", one)
    write_run(tmp_path, "two", first + second)  # as `folds` writes it: every image once a seed
    status = {"state": "finished", "kind": "folds", "started": "2026-01-02T00:00:00+00:00"}
    write_status(tmp_path / "two", status)
    found = compare_runs("one", "two", tmp_path)
    hits = [np.array([row[2] == row[3] for row in rows], dtype=float).reshape(10, 20) for rows in (one, first, second)]
    reference = ttest_1samp(((hits[1] + hits[2]) / 2 - hits[0]).mean(axis=1), 0.0)
    assert (found.images, found.groups) == (200, 10)
    assert found.accuracy == pytest.approx((hits[0].mean(), (hits[1].mean() + hits[2].mean()) / 2))
    assert found.accuracy_difference == pytest.approx(tuple(reference.confidence_interval(0.95)))
    both = first + second
    f1 = f1_score([row[2] for row in both], [row[3] for row in both], average="macro")
    assert found.macro_f1[1] == pytest.approx(f1)


def test_the_same_model_twice_does_not_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "one", case(0.7, 0))
    write_run(tmp_path, "two", case(0.7, 0))
    write_run(tmp_path, "three", case(0.72, 3))
    assert main(["runs", "--logdir", str(tmp_path), "compare", "one", "two"]) == 0
    out = capsys.readouterr().out
    assert "200 images in 10 groups, scored by both" in out
    assert "acc +0.0000, 95 % interval +0.0000 to +0.0000, p 1.000" in out
    assert "the difference may be chance" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not compare_runs("one", "three", tmp_path).real


def test_only_images_that_both_have_scored_count(tmp_path: Path) -> None:
    write_run(tmp_path, "one", case(0.5, 0, range(120)))
    write_run(tmp_path, "two", case(0.9, 1, range(60, 200)))
    found = compare_runs("one", "two", tmp_path)
    assert (found.images, found.groups) == (60, 3)


def test_folds_of_one_experiment_are_taken_together(tmp_path: Path) -> None:
    for name, right, lr in (("low", 0.5, 0.1), ("high", 0.9, 0.2)):
        for fold in (1, 2):
            rows = case(right, int(lr * 10), range(100 * fold - 100, 100 * fold))
            config: dict[str, Any] = {"model": {"lr": lr}, "data": {"fold": f"{fold}/2", "root": f"r{fold}"}}
            write_run(tmp_path, f"{name}-{fold}", rows, **config)
    write_run(tmp_path, "untested", None, model={"lr": 0.1}, data={"fold": "2/2"})
    write_run(tmp_path, "another", case(0.1, 5), model={"lr": 0.3}, data={"fold": "2/2"})
    write_run(tmp_path, "thirds", case(0.1, 5), model={"lr": 0.1}, data={"fold": "1/3"})
    write_run(tmp_path, "whole", case(0.1, 5), model={"lr": 0.1}, data={})
    write_run(tmp_path, "on-val", case(0.1, 5), part="val", model={"lr": 0.1}, data={"fold": "2/2"})
    write_run(
        tmp_path, "clipped", case(0.1, 5), model={"lr": 0.1}, data={"fold": "2/2"}, trainer={"gradient_clip_val": 1}
    )
    write_run(tmp_path, "seeded", case(0.1, 5), model={"lr": 0.1}, data={"fold": "2/2"}, seed_everything=7)
    found = compare_runs("low-2", "high-1", tmp_path)
    assert found.names == ("low-1, low-2", "high-1, high-2")
    assert (found.images, found.groups) == (200, 10)
    with pytest.raises(ValueError, match="are of one experiment"):
        compare_runs("low-1", "low-2", tmp_path)


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "one", case(0.5, 0, range(40)))
    write_run(tmp_path, "elsewhere", case(0.5, 0, range(60, 90)))
    write_run(tmp_path, "untested", None)
    write_run(tmp_path, "relabelled", [(path, group, "c", said) for path, group, _, said in case(0.5, 0)])
    write_run(tmp_path, "single", case(0.8, 1, range(20)))
    write_run(tmp_path, "strange", case(0.5, 0), tested="t")
    (tmp_path / "broken" / "report").mkdir(parents=True)
    (tmp_path / "broken" / "report" / "predictions.csv").write_text("path,label\na,b\n", encoding="utf-8")
    for name, message in (
        ("elsewhere", "have scored no image in common"),
        ("untested", "was not tested: first run test --run untested"),
        ("relabelled", "other data"),
        ("strange", "was last tested on another split than its own; run test --run strange again"),
        ("broken", "cannot be read"),
        ("one", "are of one experiment"),
        ("none", "no run 'none'"),
    ):
        assert main(["runs", "--logdir", str(tmp_path), "compare", "one", name]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    assert main(["runs", "--logdir", str(tmp_path), "compare", "one", "single"]) == 0
    assert "whether the difference is real cannot be said" in capsys.readouterr().out


def test_groups_of_either_run_count_in_any_order(tmp_path: Path) -> None:
    """Blocks of 20, of 30, and none: what either holds together stays together."""
    rows = case(0.8, 1, range(120))
    write_run(tmp_path, "twenties", case(0.5, 0, range(120)))
    write_run(tmp_path, "thirties", [(row[0], f"t{index // 30}", *row[2:]) for index, row in enumerate(rows)])
    write_run(tmp_path, "single", [(row[0], "", *row[2:]) for row in rows])
    for one, other, groups in (("twenties", "single", 6), ("single", "thirties", 4), ("twenties", "thirties", 2)):
        there, back = compare_runs(one, other, tmp_path), compare_runs(other, one, tmp_path)
        assert there.groups == back.groups == groups
        assert there.p == back.p


def test_two_groups_that_agree_prove_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, "bad", [(f"a/{index}.jpg", str(index), "a", "b") for index in range(2)])
    write_run(tmp_path, "good", [(f"a/{index}.jpg", str(index), "a", "a") for index in range(2)])
    found = compare_runs("bad", "good", tmp_path)
    assert (found.accuracy, found.p, found.real) == ((0.0, 1.0), 0.5, False)
    assert found.power is None  # nothing speaks of how groups differ


def test_a_comparison_says_its_power(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As scipy has it for ten groups of this error; with four groups nothing is ever found."""
    write_run(tmp_path, "one", case(0.70, 0))
    write_run(tmp_path, "two", case(0.72, 3))
    write_run(tmp_path, "few", case(0.72, 3, range(80)))
    found = compare_runs("one", "two", tmp_path)
    error = found.paired.error if found.paired else 0.0
    limit = t.ppf(0.975, 9)
    share = nct.sf(limit, 9, 0.05 / error) + nct.cdf(-limit, 9, 0.05 / error)
    assert main(["runs", "--logdir", str(tmp_path), "compare", "one", "two"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"with 10 groups a true difference of 5 points is found in {share:.0%} of cases; 80% takes ")
    points, needed = re.findall(r"takes ([\d.]+) points, or (\d+) groups", line)[0]
    assert nct.sf(limit, 9, float(points) / 100 / error) == pytest.approx(0.8, abs=0.01)
    assert int(needed) > 10
    assert main(["runs", "--logdir", str(tmp_path), "compare", "one", "few"]) == 0
    assert "4 groups never show a difference as real; for 5 points it takes" in capsys.readouterr().out


def test_a_split_that_leaks_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of the two by what its own test found, folds by the mean over their images."""
    write_run(tmp_path, "unknown", case(0.5, 0))
    write_run(tmp_path, "clean", case(0.7, 1), duplicates={"share": 0.049, "flagged": False})
    write_run(tmp_path, "leaky", case(0.8, 2), duplicates={"share": 0.1234, "flagged": True})
    write_run(tmp_path, "foretold", case(0.9, 3), duplicates={"share": 0.0, "flagged": True})
    for fold, images, found in (
        (1, range(50), {"share": 0.2, "flagged": True}),
        (2, range(50, 200), {"share": 0.04, "flagged": False}),
    ):
        write_run(tmp_path, f"fold-{fold}", case(0.6, 4, images), duplicates=found, data={"fold": f"{fold}/2"})
    memory = "leaks, and its score measures memory"
    repeat = "of the images it was tested on have a near-duplicate in its training part"
    leaky = f"warning: the split of leaky {memory}: 12.3% {repeat}"
    folds = f"warning: the split of fold-1, fold-2 {memory}: 8.0% {repeat}"
    assert compare_runs("unknown", "clean", tmp_path).warnings == ()
    assert compare_runs("leaky", "clean", tmp_path).warnings == (leaky,)
    assert compare_runs("fold-2", "leaky", tmp_path).warnings == (folds, leaky)
    foretold = f"warning: the split of foretold {memory}: its report says how"
    assert compare_runs("clean", "foretold", tmp_path).warnings == (foretold,)
    assert main(["runs", "--logdir", str(tmp_path), "compare", "clean", "leaky"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("leaky")
    assert lines[3] == leaky  # between the scores and their difference
