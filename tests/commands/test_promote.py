"""`promote`: who becomes champion, who does not, and what is written down; its runs are made up, file by file."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from vit_lightning import cli
from vit_lightning.commands import promote as command
from vit_lightning.commands.promote import main
from vit_lightning.registry import champion_file, read_registry
from vit_lightning.runs import find_checkpoint, find_run, write_status

GROUPS, IMAGES = 12, 20
LOGS = Path("lightning_logs")
Told = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "set_up_logging", lambda: None)  # `told` listens in its place
    LOGS.mkdir()


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The other commands, which are not run: what they leave is there already."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(command, "call", lambda *words: found.append(words))
    return found


def make_run(
    name: str,
    share: float,
    *,
    groups: int = GROUPS,
    sure: float = 0.0,
    lead: float | None = 0.2,
    status: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    parity: dict[str, Any] | None = None,
) -> Path:
    """A tested and exported run that is right on such a share of every group's images; groups differ a little.

    It is as sure as it is right, and by `sure` more. Its lead over a baseline is the same in every group but for that.
    """
    folder = LOGS / name
    for part in ("checkpoints", "report", "export"):
        (folder / part).mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(name.encode())
    (folder / "export" / "model.onnx").write_bytes(b"model of " + name.encode())
    told = {"passed": True, "largest": 1e-6, "pictures": 9, "created": "2026-01-02"}
    (folder / "export" / "parity.json").write_text(json.dumps(told | (parity or {})))
    own = {
        "state": "finished",
        "started": f"of {name}",
        "ended": "2026-01-01",
        "split": {"id": "s"},
        "data": {"id": "d"},
    }
    write_status(folder, own | (status or {}))
    with (folder / "report" / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "group", "label", "predicted", "confidence"])
        for group in range(groups):
            right = round(IMAGES * share) + (-1) ** group * (group % 3 == 0)
            for index in range(IMAGES):
                said = "a" if index < right else "b"
                rows.writerow([f"a/{group}-{index}.jpg", f"clip{group}", "a", said, min(1.0, share + sure)])
    report: dict[str, Any] = {
        "part": "test",
        "split": {"id": "s"},
        "data": {"id": "d", "name": "frames"},
        "images": groups * IMAGES,
        "accuracy": share,
        "created": "2026-01-02",
        "groups": {"kind": "clips", "count": groups},
        "seen": {"seen": 0, "chose": 0, "unknown": [], "sentence": "none"},
        "near_duplicates": {"flagged": False},
        "leads": {"majority": lead and {"difference": lead, "interval": [0.1, 0.3], "p": 2.0 ** (1 - groups)}},
    }
    (folder / "report" / "metrics.json").write_text(json.dumps(report | (metrics or {})))
    return folder


def decisions() -> list[tuple[int, int | None, str]]:
    return [(each["version"], each["against"], each["outcome"]) for each in read_registry(LOGS).decisions]


def test_from_the_first_champion_to_a_better_one_and_back(told: Told, called: list[tuple[str, ...]]) -> None:
    for name, share in (("first", 0.5), ("better", 0.75), ("equal", 0.75)):
        make_run(name, share)
    assert main(["first"]) == 0
    assert main(["better"]) == 0
    assert main(["equal"]) == 1
    assert decisions() == [(1, None, "promoted"), (2, 1, "promoted"), (3, 2, "refused")]
    registry = read_registry(LOGS)
    assert registry.aliases == {"champion": 2, "candidate": 3}
    assert [version.run for version in registry.versions] == ["first", "better", "equal"]
    assert find_run("champion", LOGS).name == "better"
    assert find_checkpoint("champion", LOGS)[1] == "better (champion, version 2), best.ckpt"
    assert find_run("candidate", LOGS).name == "equal"
    assert champion_file(LOGS).read_bytes() == b"model of better"
    assert any("better is better than first: +25.0 points [" in line for _, line in told)
    assert any(
        line.startswith("refused: that equal is better than better may be chance: +0.0 points") for _, line in told
    )
    assert called == []
    assert main(["--rollback"]) == 0
    assert find_run("champion", LOGS).name == "first"
    assert champion_file(LOGS).read_bytes() == b"model of first"
    assert decisions()[-1] == (1, 2, "rolled back")
    with pytest.raises(ValueError, match="there is no champion to go back to; champion: first"):
        main(["--rollback"])


def test_the_champion_s_file_is_not_the_run_s(told: Told) -> None:
    folder = make_run("first", 0.5)
    main(["first"])
    (folder / "export" / "model.onnx").write_bytes(b"exported again")
    assert champion_file(LOGS).read_bytes() == b"model of first"
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"trained on")
    with pytest.raises(ValueError, match="the champion first was trained on since it was judged"):
        find_checkpoint("champion", LOGS)


def test_every_attempt_on_the_same_groups_is_harder(told: Told) -> None:
    make_run("first", 0.5)
    main(["first"])
    for name in ("a", "b"):
        make_run(name, 0.5)
        main([name])
    attempts = [(each["figures"]["attempt"], each["figures"]["level"]) for each in read_registry(LOGS).decisions]
    assert attempts == [(1, pytest.approx(0.05 / 2)), (2, pytest.approx(0.05 / 6)), (3, pytest.approx(0.05 / 12))]
    assert main(["b"]) == 1  # the same question is no further attempt
    assert len(decisions()) == 3
    assert told[-1][1].startswith("refused on 2")
    make_run("elsewhere", 0.75, metrics={"data": {"id": "e", "name": "others"}})
    main(["elsewhere"])
    assert read_registry(LOGS).decisions[-1]["figures"]["attempt"] == 1


@pytest.mark.parametrize(("groups", "champion"), [(5, False), (5, True), (7, True)])
def test_few_groups_are_refused_with_the_number_that_it_takes(groups: int, champion: bool, told: Told) -> None:
    if champion:
        make_run("first", 0.5, groups=groups, metrics={"groups": {"count": 12}})
        main(["first"])
    make_run("next", 0.9, groups=groups)
    better = main(["next"]) == 0
    assert better == (groups == 7)  # the second attempt takes seven: 2^-7 is below 0.05 / 6, 2^-6 is not
    if not better:
        needed = 7 if champion else 6
        assert f"refused: {groups} held-out groups are too few to show anything: attempt" in told[-1][1]
        assert f"takes {needed} at least; hold more out" in told[-1][1]


def test_not_worse_by_a_margin_is_another_question(told: Told) -> None:
    make_run("first", 0.7)
    main(["first"])
    make_run("same", 0.7)
    assert main(["same"]) == 1
    assert main(["same", "--margin", "0.05"]) == 0
    assert "same is not 5 points worse than first: +0.0 points" in told[-1][1]


def test_a_better_one_that_is_far_too_sure_is_refused(told: Told) -> None:
    make_run("first", 0.5)
    main(["first"])
    make_run("boaster", 0.7, sure=0.29)
    assert main(["boaster"]) == 1
    assert "but its calibration is really worse: error 0.1" in told[-1][1]
    figures = read_registry(LOGS).decisions[-1]["figures"]["calibration"]
    assert figures["after"] == pytest.approx(0.99 - 0.7, abs=0.01)
    assert figures["interval"][0] > 0


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"metrics": {"seen": {"seen": 3, "unknown": [], "sentence": "three were"}}}, "has seen what it is scored on"),
    ({"metrics": {"seen": {"seen": 0, "chose": 2, "unknown": []}}}, "has seen what it is scored on"),
    ({"metrics": {"seen": {"seen": 0, "unknown": ["x"]}}}, "has seen what it is scored on, or may have"),
    ({"metrics": {"seen": {}}}, "is not known: run test --run next again"),
    ({"metrics": {"part": "val"}}, "no report on its own split"),
    ({"metrics": {"split": {"id": "other"}}}, "no report on its own split"),
    ({"metrics": {"near_duplicates": {"flagged": True, "sentence": "how"}}}, "its split leaks, .* memory: how"),
    ({"parity": {"passed": False}}, "its export does not say what predict says"),
    ({"lead": None}, "no baselines in its report"),
    ({"lead": -0.1}, "that next beats all baselines may be chance: -10.0 points over the majority"),
]


@pytest.mark.parametrize(("more", "words"), UNFIT)
def test_what_speaks_against_a_first_one(more: dict[str, Any], words: str, told: Told) -> None:
    make_run("next", 0.9, **more)
    assert main(["next"]) == 1
    assert decisions() == [(1, None, "refused")]
    with pytest.raises(FileNotFoundError, match=r"there is no champion in .* yet"):
        find_run("champion", LOGS)
    assert re.search(words, told[-1][1])


def test_what_is_missing_or_older_than_the_run_is_made_first(called: list[tuple[str, ...]]) -> None:
    folder = make_run("next", 0.9, status={"ended": "2026-01-03"})
    main(["next"])
    assert called == [("test", f"--run={folder}"), ("export", f"--run={folder}")]


def test_a_tracked_run_is_tested_and_exported_with_its_tracker_and_mirrored(
    called: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored: list[dict[str, Any]] = []
    monkeypatch.setattr(command, "mirror", lambda registry, _: mirrored.append(registry["aliases"]))
    for name, share in (("first", 0.5), ("next", 0.9)):
        folder = make_run(name, share, status={"ended": "2026-01-03"})
        (folder / "mlflow.json").write_text("{}")
        main([name])
    assert called[:2] == [(name, f"--run={LOGS / 'first'}", "--tracker=mlflow") for name in ("test", "export")]
    main(["--rollback"])
    assert mirrored == [{"champion": 1}, {"champion": 2}, {"champion": 1}]


def test_a_champion_of_another_split_is_scored_on_the_candidate_s(
    monkeypatch: pytest.MonkeyPatch, called: list[tuple[str, ...]], told: Told
) -> None:
    make_run("first", 0.5)
    main(["first"])
    folder = make_run(
        "next", 0.9, status={"split": {"id": "t"}, "data": {"root": "/pictures"}}, metrics={"split": {"id": "t"}}
    )
    (folder / "labels.csv").touch()

    def score(*words: str) -> None:
        called.append(words)
        made = Path(words[-1].removeprefix("--output="))
        made.mkdir(parents=True)
        (made / "predictions.csv").write_bytes((LOGS / "first/report/predictions.csv").read_bytes())

    monkeypatch.setattr(command, "call", score)
    assert main(["next"]) == 0
    ((name, run, *words),) = called
    assert (name, Path(run.removeprefix("--run=")).name) == ("test", "first")
    assert words[0] == f"--data.labels={folder / 'labels.csv'}"
    assert words[1:] == [
        "--data.root=/pictures",
        f"--data.split={folder / 'split.csv'}",
        words[3],
    ]
    assert Path(words[3].removeprefix("--output=")).parent == folder / "promotion"


def test_a_champion_that_cannot_be_scored_there_stays(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    make_run("first", 0.5)
    main(["first"])
    make_run("next", 0.9, status={"split": {"id": "t"}}, metrics={"split": {"id": "t"}})

    def refuse(*words: str) -> None:
        raise ValueError(words)

    monkeypatch.setattr(command, "call", refuse)
    assert main(["next"]) == 1
    assert "the champion first cannot be scored on what next held out: next has to hold out" in told[-1][1]
    assert decisions()[-1] == (2, 1, "refused")


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_only_a_finished_run_is_promoted(state: str) -> None:
    make_run("next", 0.9, status={"state": state})
    with pytest.raises(ValueError, match=r"only a finished one is promoted: fit --resume next"):
        main(["next"])
    assert not (LOGS / "registry.json").exists()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ([], "promote takes a RUN, or --rollback in its place"),
        (["next", "--rollback"], "promote takes a RUN, or --rollback in its place"),
        (["next", "--margin", "2"], "--margin is 2; expected a share from 0 to below 1"),
        (["other"], "no run 'other'"),
        (["champion"], "there is no champion in"),
        (["--rollback"], "there is no champion to go back to; there is no champion in"),
    ],
)
def test_mistakes_are_one_line(words: list[str], wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("next", 0.9)
    assert cli.main(["promote", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(wrong, told)


BROKEN = [
    "",
    "[]",
    "{}",
    '{"versions": 3, "aliases": {}, "decisions": []}',
    '{"versions": [], "aliases": {"champion": 1}, "decisions": []}',
    '{"versions": [], "aliases": {}, "decisions": [{"outcome": "promoted", "version": 1}]}',
    '{"versions": [{"version": 1, "run": "../x", "folder": "", "started": null, "registered": "", "sha256": ""}],'
    ' "aliases": {}, "decisions": []}',
]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize(
    "words", [["promote", "next"], ["runs"], ["predict", "--run=champion"], ["runs", "prune", "next"]]
)
def test_a_broken_registry_is_told_and_left_alone(
    text: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("next", 0.9)
    (LOGS / "registry.json").write_text(text)
    assert cli.main(words) == 2
    out = capsys.readouterr().err
    assert "registry.json cannot be read (" in out
    assert out.count("\n") == 1
    assert (LOGS / "registry.json").read_text() == text


def test_two_do_not_decide_at_once() -> None:
    make_run("next", 0.9)
    with (
        FileLock(LOGS / ".registry.json.lock"),
        pytest.raises(ValueError, match="another promote or retrain decides in"),
    ):
        main(["next"])


def test_a_lock_that_cannot_be_had_is_told() -> None:
    make_run("next", 0.9)
    (LOGS / ".registry.json.lock").mkdir()
    with pytest.raises(ValueError, match="the registry cannot be kept in"):
        main(["next"])


def test_runs_show_the_champion_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("first", 0.5)
    make_run("next", 0.5)
    main(["first"])
    main(["next"])
    capsys.readouterr()
    assert cli.main(["runs"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "champion: first (version 1), 2" in listed
    assert "the first one, it beats the baselines over 12 groups: +20.0 points over the majority" in listed
    cli.main(["runs", "show", "champion"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "version 1 promoted 2" in shown
    assert ", champion now: the first one, it beats" in shown
    cli.main(["runs", "show", "next"])
    assert ", candidate now: that next is better than first may be chance" in " ".join(capsys.readouterr().out.split())


def test_prune_keeps_champions_and_what_a_rollback_leads_to(capsys: pytest.CaptureFixture[str]) -> None:
    for name, share in (("first", 0.5), ("better", 0.75), ("equal", 0.75), ("other", 0.2)):
        make_run(name, share)
        if name != "other":
            main([name])
    cli.main(["runs", "prune", "--yes", "first", "better", "equal", "other"])
    told = " ".join(capsys.readouterr().out.split())
    assert sorted(path.name for path in LOGS.iterdir() if path.is_dir()) == ["better", "equal", "first", "registry"]
    assert "kept, since they are the champion: better" in told
    assert "kept, since they were champion, and a rollback leads to them: first" in told


@pytest.mark.parametrize("name", ["champion", "candidate", "registry"])
def test_no_run_takes_an_alias_for_a_name(name: str) -> None:
    from vit_lightning.runs import plain_name

    with pytest.raises(ValueError, match="cannot be a run's name"):
        plain_name(name)


def test_the_calibration_error_is_the_report_s() -> None:
    from vit_lightning.evaluation.calibration import ece
    from vit_lightning.evaluation.promotion import calibration_difference

    rng = np.random.default_rng(0)
    both = [rng.dirichlet(np.ones(4) * scale, 300) for scale in (0.3, 1.0)]
    labels = rng.integers(0, 4, 300)
    groups = np.repeat(np.arange(10), 30)
    pairs = [
        list(zip(each.max(axis=1).tolist(), (each.argmax(axis=1) == labels).tolist(), strict=True)) for each in both
    ]
    found = calibration_difference(pairs[0], pairs[1], groups)
    assert (found["before"], found["after"]) == pytest.approx(tuple(ece(each, labels) for each in both))
    assert found["interval"][0] < found["difference"] < found["interval"][1]
