"""Runs found, named, ranked and printed from their status files."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vit_lightning.commands.runs import main, print_runs, show_run
from vit_lightning.runs import Run, find_checkpoint, find_runs, new_run_folder, now, read_status, write_status


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A log folder that does not exist yet."""
    return tmp_path / "lightning_logs"


@pytest.fixture(autouse=True)
def narrow_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal has 80 columns."""
    monkeypatch.setattr("rich._console", Console(width=80))
    monkeypatch.setenv("COLUMNS", "80")


def make_run(logs: Path, name: str, *, checkpoints: tuple[str, ...] = ("best", "last"), **status: object) -> Path:
    """A finished run of now unless the status says otherwise."""
    folder = logs / name
    (folder / "checkpoints").mkdir(parents=True)
    for checkpoint in checkpoints:
        (folder / "checkpoints" / f"{checkpoint}.ckpt").touch()
    write_status(folder, {"state": "finished", "started": "2025-06-01T12:00:00+00:00"} | status)
    return folder


def scored(accuracy: float | None, data: str = "frames", split: str = "blocks", **identity: str) -> dict[str, Any]:
    """What a status says of scores; `identity` is the split's `id` or `family`."""
    best = {} if accuracy is None else {"best": {"epoch": 3, "val/acc": accuracy}}
    return {"data": {"id": data, "name": data}, "split": {"kind": split, **identity}, **best}


def put_report(folder: Path, accuracy: float, split: str | None, part: str = "test") -> None:
    """Puts the report of a test on a split there."""
    (folder / "report").mkdir()
    told = {"split": {"id": split}, "part": part, "accuracy": accuracy}
    (folder / "report" / "metrics.json").write_text(json.dumps(told))


def at(hour: int) -> str:
    return f"2025-06-01T{hour:02}:00:00+00:00"


# Finding


def test_runs_come_latest_first(logs: Path) -> None:
    for name, hour in (("a", 9), ("b", 11), ("c", 10)):
        make_run(logs, name, started=at(hour))
    assert [run.name for run in find_runs(logs)] == ["b", "c", "a"]


def test_runs_of_other_time_zones_are_put_in_their_real_order(logs: Path) -> None:
    make_run(logs, "first", started="2025-10-26T02:50:00+02:00")
    make_run(logs, "second", started="2025-10-26T02:10:00+01:00")  # the clock was put back in between
    make_run(logs, "third", started="2025-10-25T22:30:00-03:00")
    assert [run.name for run in find_runs(logs)] == ["third", "second", "first"]


def test_there_may_be_no_log_folder_and_other_things_in_it(logs: Path) -> None:
    assert find_runs(logs) == []
    make_run(logs, "a")
    (logs / "notes").mkdir()
    (logs / "status.json").write_text("{}")
    assert [run.name for run in find_runs(logs)] == ["a"]


@pytest.mark.parametrize("text", ["", '{"state": "fini', "[1, 2]", "null", "\udcff"])
def test_a_run_with_a_broken_status_is_listed_as_unknown_and_last(logs: Path, text: str) -> None:
    broken = make_run(logs, "broken")
    make_run(logs, "whole")
    (broken / "status.json").write_bytes(text.encode(errors="surrogateescape"))
    runs = find_runs(logs)
    assert [run.name for run in runs] == ["whole", "broken"]
    assert runs[1].state == "unknown"
    assert runs[1].best_acc is None
    assert find_checkpoint(None, logs)[0].is_relative_to(logs / "whole")


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    status = {"state": "running", "best": {"val/acc": 0.5}, "data": {"name": "B\u00e4ren"}}
    write_status(tmp_path, status)
    assert read_status(tmp_path / "status.json") == status
    assert read_status(tmp_path / "missing.json") == {}


def test_a_status_is_replaced_in_one_step(tmp_path: Path) -> None:
    write_status(tmp_path, {"state": "running"})
    with (tmp_path / "status.json").open(encoding="utf-8") as reader:  # somebody reads while the next one is written
        write_status(tmp_path, {"state": "finished", "long": "x" * 10_000})
        assert json.load(reader) == {"state": "running"}
    assert read_status(tmp_path / "status.json")["state"] == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_status_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_status(tmp_path, {"state": "running"})
    with pytest.raises(TypeError):
        write_status(tmp_path, {"state": "finished", "what": object()})
    assert read_status(tmp_path / "status.json") == {"state": "running"}


def test_the_best_checkpoint_goes_before_the_last(logs: Path) -> None:
    for name, checkpoints, expected in (("a", ("best", "last"), "best"), ("b", ("last",), "last")):
        run = Run(make_run(logs, name, checkpoints=checkpoints), {})
        assert run.checkpoint() == logs / name / "checkpoints" / f"{expected}.ckpt"


def test_a_run_without_checkpoints_says_so(logs: Path) -> None:
    run = Run(make_run(logs, "a", checkpoints=()), {"state": "failed"})
    with pytest.raises(FileNotFoundError, match=r"the run a \(failed\) has no checkpoint in .*checkpoints"):
        run.checkpoint()


# What --run means


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_left_out_it_is_the_latest_finished_run(logs: Path, state: str) -> None:
    make_run(logs, "older", started=at(9))
    make_run(logs, "old", started=at(10))
    make_run(logs, "new", started=at(11), state=state)
    path, words = find_checkpoint(None, logs)
    assert path == logs / "old" / "checkpoints" / "best.ckpt"
    assert words == "old (the latest finished run), best.ckpt"


def test_a_run_goes_by_its_name(logs: Path) -> None:
    make_run(logs, "old", checkpoints=("last",), state="interrupted")
    make_run(logs, "new")
    assert find_checkpoint("old", logs) == (logs / "old" / "checkpoints" / "last.ckpt", "old, last.ckpt")


def test_a_run_goes_by_its_folder_wherever_that_is(logs: Path, tmp_path: Path) -> None:
    make_run(logs, "a")
    moved = make_run(tmp_path / "elsewhere", "b")
    assert find_checkpoint(str(moved), logs) == (moved / "checkpoints" / "best.ckpt", "b, best.ckpt")
    assert find_checkpoint(f"{moved}/", logs)[0] == moved / "checkpoints" / "best.ckpt"


def test_a_checkpoint_goes_by_its_file(logs: Path) -> None:
    path = make_run(logs, "a") / "checkpoints" / "last.ckpt"
    assert find_checkpoint(str(path), logs) == (path, str(path))


def test_paths_from_home_and_from_here_are_understood(
    logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = make_run(logs, "a") / "checkpoints" / "best.ckpt"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for run in ("~/lightning_logs/a", "lightning_logs/a", "lightning_logs/a/checkpoints/best.ckpt"):
        path, _ = find_checkpoint(run, Path("lightning_logs"))
        assert path.resolve() == expected.resolve()


@pytest.mark.parametrize("other", ["folder", "file"])
def test_a_run_s_name_means_the_run_whatever_else_has_that_name_here(
    logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: str
) -> None:
    make_run(logs, "article")
    monkeypatch.chdir(tmp_path)
    if other == "folder":
        (tmp_path / "article").mkdir()
    else:
        (tmp_path / "article").write_text("not a checkpoint")
    assert find_checkpoint("article", logs)[0] == logs / "article" / "checkpoints" / "best.ckpt"


def test_best_is_the_best_of_the_latest_run_s_kind(logs: Path) -> None:
    make_run(logs, "other-data", started=at(1), **scored(0.99, data="others"))
    make_run(logs, "other-split", started=at(2), **scored(0.98, split="random"))
    make_run(logs, "unfinished", started=at(3), state="running", **scored(0.97))
    make_run(logs, "good", started=at(4), **scored(0.8))
    make_run(logs, "unscored", started=at(5), **scored(None))
    make_run(logs, "latest", started=at(6), **scored(0.7))
    make_run(logs, "failed", started=at(7), state="failed", **scored(0.1, data="others"))
    path, words = find_checkpoint("best", logs)
    assert path == logs / "good" / "checkpoints" / "best.ckpt"
    assert words == "good (the best of 3), best.ckpt"


def test_best_is_of_the_latest_run_s_own_split_and_never_one_that_may_have_seen_it(logs: Path) -> None:
    make_run(logs, "small-blocks", started=at(1), **scored(0.9, id="two"))  # a split of the same kind, but easier
    make_run(logs, "seen", started=at(2), seen={"seen": 3}, **scored(0.8, id="one"))
    make_run(logs, "unknown", started=at(3), seen={"seen": 0, "unknown": ["x.ckpt"]}, **scored(0.7, id="one"))
    make_run(logs, "further", started=at(4), seen={"seen": 0, "unknown": []}, **scored(0.6, id="one"))
    make_run(logs, "latest", started=at(5), **scored(0.5, id="one"))
    path, words = find_checkpoint("best", logs)
    assert path == logs / "further" / "checkpoints" / "best.ckpt"
    assert words == "further (the best of 2), best.ckpt"


def test_where_no_run_can_be_ranked_there_is_no_best(logs: Path) -> None:
    make_run(logs, "seen", seen={"seen": 3}, **scored(0.8, id="one"))
    with pytest.raises(FileNotFoundError, match=r"no run on the split of seen can be ranked: .*; name one with --run"):
        find_checkpoint("best", logs)


def test_runs_compare_by_data_and_the_split_itself() -> None:
    def of(data: str, **split: str) -> Run:
        return Run(Path("a"), {"data": {"id": data}, "split": {"kind": "blocks"} | split})

    assert of("x", id="s1").comparable == of("x", id="s1").comparable
    assert of("x", id="f1", family="f").comparable == of("x", id="f2", family="f").comparable  # folds of one split
    assert of("x").comparable == of("x").comparable  # old runs
    apart = (of("x", id="s1"), of("x", id="s2"), of("y", id="s1"), of("x"), of("x", kind="random"), Run(Path("e"), {}))
    assert len({run.comparable for run in apart}) == len(apart)


@pytest.mark.parametrize("run", [None, "best"])
def test_without_a_finished_run_one_is_asked_for(logs: Path, run: str | None) -> None:
    make_run(logs, "a", state="running")
    with pytest.raises(
        FileNotFoundError, match=f"no finished run in {logs}; start one with fit, or name one with --run"
    ):
        find_checkpoint(run, logs)


def test_an_unknown_name_is_answered_with_those_there_are(logs: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no run 'c' in {logs}; there is none yet"):
        find_checkpoint("c", logs)
    make_run(logs, "a", started=at(1))
    make_run(logs, "b", started=at(2))
    with pytest.raises(FileNotFoundError, match=rf"no run 'c' in {logs}; there are: b, a$"):
        find_checkpoint("c", logs)


def test_a_missing_checkpoint_file_is_named(logs: Path) -> None:
    make_run(logs, "a")
    with pytest.raises(FileNotFoundError, match=r"the checkpoint .*/epoch9\.ckpt does not exist"):
        find_checkpoint(str(logs / "a" / "checkpoints" / "epoch9.ckpt"), logs)


# New runs


def test_a_new_run_takes_its_name(logs: Path) -> None:
    assert new_run_folder(logs, "deeper-8", "demo") == logs / "deeper-8"
    assert (logs / "deeper-8").is_dir()


def test_a_name_is_made_of_the_config_s_and_a_counter(logs: Path) -> None:
    assert [new_run_folder(logs, None, "demo").name for _ in range(3)] == ["demo-001", "demo-002", "demo-003"]
    assert new_run_folder(logs, None, "article").name == "article-001"
    assert sorted(path.name for path in logs.iterdir()) == ["article-001", "demo-001", "demo-002", "demo-003"]


def test_the_counter_steps_over_what_is_there(logs: Path) -> None:
    (logs / "demo-001").mkdir(parents=True)
    (logs / "demo-002").touch()
    assert new_run_folder(logs, None, "demo").name == "demo-003"


def test_a_taken_name_is_refused_and_its_run_untouched(logs: Path) -> None:
    folder = make_run(logs, "deeper")
    before = (folder / "status.json").read_bytes()
    with pytest.raises(ValueError, match=rf"the run deeper already exists in {logs}; choose another --run name"):
        new_run_folder(logs, "deeper", "demo")
    assert (folder / "status.json").read_bytes() == before


@pytest.mark.parametrize("name", ["", "best", "x.ckpt", "a/b", "../a", "/a", ".", "..", ".hidden", "a/"])
def test_a_name_that_is_none_is_refused(logs: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"--run {re.escape(repr(name))} cannot be a run's name; give a plain name"):
        new_run_folder(logs, name, "demo")
    assert not logs.exists()


def test_every_name_that_is_taken_is_found_again(logs: Path) -> None:
    for name in ("deeper-8", "lr 1e-3", "v1.5", "tom&jerry"):
        folder = new_run_folder(logs, name, "demo")
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").touch()
        assert find_checkpoint(name, logs)[0] == folder / "checkpoints" / "best.ckpt"


def test_times_are_in_seconds_with_their_zone() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", now())


# Printing


def printed(logs: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_runs(logs)
    return capsys.readouterr().out.splitlines()


def test_the_table_shows_what_a_run_did(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "demo-001", epochs=7, max_epochs=15, **scored(0.87654), started="2025-06-01T12:34:56+00:00")
    (row,) = [line for line in printed(logs, capsys) if "demo-001" in line]
    assert row.split() == ["demo-001", "finished", "7/15", "0.8765", "06-01", "12:34"]


def test_a_section_says_which_split_and_how_many_images(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = scored(0.9, id="0123456789ab")
    status["split"] |= {"train": 1000, "val": 50, "test": 60}
    make_run(logs, "a", **status)
    make_run(logs, "b", **scored(0.95, id="ba9876543210"))
    titles = [line for line in printed(logs, capsys)[1:] if line and "finished" not in line]
    assert sorted(titles) == ["frames, blocks 012345: train 1,000, val 50, test 60", "frames, blocks ba9876"]


def test_folds_of_one_split_share_a_section(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in "12":
        make_run(logs, f"fold-{fold}", **scored(0.9, id=f"fold{fold}", family="f0f0f0f0f0f0"))
    whole = scored(None, split="2 folds", family="f0f0f0f0f0f0")
    make_run(logs, "whole", kind="folds", test={"accuracy": 0.61234}, **whole)
    _, _, title, *rows = printed(logs, capsys)
    assert title == "frames, blocks f0f0f0: several folds"
    assert {row.split()[0] for row in rows} == {"fold-1", "fold-2", "whole"}
    (row,) = [row for row in rows if row.startswith("whole")]
    assert row.split() == ["whole", "finished", "0.6123", "06-01", "12:00"]


def test_test_scores_stand_beside_where_they_are_of_the_run_s_own_test_part(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, split, part in (("own", "one", "test"), ("other", "two", "test"), ("val", "one", "val")):
        put_report(make_run(logs, name, **scored(0.5, id="one")), 0.43219, split, part)
    rows = {line.split()[0]: line.split()[3:5] for line in printed(logs, capsys) if "finished" in line}
    assert rows == {"own": ["0.5000", "0.4322"], "other": ["0.5000", "06-01"], "val": ["0.5000", "06-01"]}
    (logs / "own" / "report" / "metrics.json").write_text("{")
    assert "0.4322" not in "".join(printed(logs, capsys))


@pytest.mark.parametrize(
    ("baselines", "marked"),
    [
        ({"near_duplicates": 0.37, "flagged": True}, True),
        ({"near_duplicates": 0.0, "flagged": True}, True),  # by its frame numbers
        ({"near_duplicates": 0.02, "flagged": False}, False),
        ({"near_duplicates": 0.06}, True),  # of an older run
        ({"near_duplicates": 0.04}, False),
        (None, False),
    ],
)
def test_a_split_that_leaks_is_marked(
    logs: Path, capsys: pytest.CaptureFixture[str], baselines: dict[str, Any] | None, marked: bool
) -> None:
    told: dict[str, Any] = {"baselines": baselines} if baselines else {}
    make_run(logs, "a", **scored(0.9, id="aaaaaaaaaaaa"), **told)
    lines = printed(logs, capsys)
    assert ("frames, blocks aaaaaa *" in lines) == marked
    assert any(line.startswith("* the split leaks") for line in lines) == marked


def test_what_cannot_be_ranked_is_marked_and_comes_last(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "seen", seen={"seen": 3}, **scored(0.9, id="one"))
    make_run(logs, "fair", seen={"seen": 0, "unknown": []}, **scored(0.5, id="one"))
    lines = printed(logs, capsys)
    rows = [line.split()[:4] for line in lines if "finished" in line]
    assert rows == [["fair", "finished", "0/?", "0.5000"], ["seen", "finished", "0/?", "0.9000?"]]
    assert any(line.startswith("? not ranked") for line in lines)


def test_best_scores_come_first_within_data_and_split(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "easy-low", started=at(2), **scored(0.95, split="random"))
    make_run(logs, "easy-high", started=at(1), **scored(0.99, split="random"))
    make_run(logs, "low", started=at(3), **scored(0.2))
    make_run(logs, "high", started=at(4), **scored(0.9))
    make_run(logs, "zero", started=at(5), **scored(0.0))
    make_run(logs, "none", started=at(6), **scored(None))
    names = [line.split()[0] for line in printed(logs, capsys) if "finished" in line]
    assert names == ["high", "low", "zero", "none", "easy-high", "easy-low"]


@pytest.mark.parametrize(
    ("state", "data", "split", "epochs"),
    [
        ("finished", "kaggle", "blocks", 30),
        ("interrupted", "tom_and_jerry", "folders", 100),
        ("finished", "photographs-of-the-garden-2025", "random", 100),
        ("failed", "demo", "experiments/splits/by-season.csv", 300),
    ],
)
@pytest.mark.parametrize("name", ["tom_and_jerry-001", "n" * 20])
def test_the_table_fits_80_columns_and_keeps_names_whole(
    logs: Path, capsys: pytest.CaptureFixture[str], name: str, state: str, data: str, split: str, epochs: int
) -> None:
    make_run(logs, name, state=state, epochs=epochs, max_epochs=epochs, **scored(0.5, data=data, split=split))
    lines = printed(logs, capsys)
    assert max(len(line.rstrip()) for line in lines) <= 80
    (row,) = [line for line in lines if name in line.split()]
    assert f"{data}, {split}" in " ".join(lines)
    assert f" {state} " in row
    assert f" {epochs}/{epochs} " in row
    assert row.split()[-3:] == ["0.5000", "06-01", "12:00"]


def test_long_names_are_folded_not_cut(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(f"{k:02}" for k in range(30))
    make_run(logs, name, state="interrupted", epochs=100, max_epochs=100, **scored(0.5))
    lines = printed(logs, capsys)
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert name in "".join(word for line in lines for word in line.split()[:1])


def test_brackets_in_names_are_shown_as_they_are(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "lr[red]", **scored(0.5, data="frames[old]"))
    (row,) = [line for line in printed(logs, capsys) if "finished" in line]
    assert row.split()[0] == "lr[red]"
    assert "frames[old], blocks" in printed(logs, capsys)


def test_runs_with_little_in_their_status_are_shown(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "early", state="running")
    (logs / "broken").mkdir()
    (logs / "broken" / "status.json").touch()
    rows = [line.split() for line in printed(logs, capsys)]
    assert ["early", "running", "0/?", "06-01", "12:00"] in rows
    assert ["broken", "unknown", "0/?"] in rows


def test_without_runs_a_start_is_suggested(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(logs, capsys) == [f"no run in {logs} yet; start one: python cli.py fit --config configs/demo.yaml"]


def test_show_prints_a_line_a_fact(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(logs, "a", data={"name": "x [bold]", "id": "1f"}, parameters=123)
    for run in ("a", str(folder)):
        show_run(run, logs)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == str(folder)
        assert [line.split(maxsplit=1) for line in lines[1:]] == [
            ["state", "finished"],
            ["started", "2025-06-01T12:00:00+00:00"],
            ["data", "name x [bold], id 1f"],
            ["parameters", "123"],
        ]


@pytest.mark.parametrize("run", ["a", "lightning_logs/a", "lightning_logs/a/checkpoints/last.ckpt", "best"])
def test_the_show_command_takes_a_run_in_every_form(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: str
) -> None:
    make_run(logs, "a", started=at(1), **scored(0.9))
    make_run(logs, "b", started=at(2), **scored(0.1))
    monkeypatch.chdir(logs.parent)
    assert main(["show", run]) == 0
    assert Path(capsys.readouterr().out.splitlines()[0]).resolve() == (logs / "a").resolve()


def test_show_refuses_an_unknown_run(logs: Path, tmp_path: Path) -> None:
    make_run(logs, "a")
    for run in ("b", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match=rf"no run '{run}' in {logs}; there are: a|is no run"):
            show_run(run, logs)


def test_the_command_lists_and_shows(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "demo-001")
    assert main(["--logdir", str(logs)]) == 0
    assert ["demo-001", "finished"] in [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert main(["--logdir", str(logs), "show", "demo-001"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(logs / "demo-001")


def test_the_log_folder_is_the_one_here_unless_given(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(logs, "a")
    monkeypatch.chdir(logs.parent)
    assert main(["show", "a"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == os.path.join("lightning_logs", "a")  # noqa: PTH118  # as the system writes it


def test_a_status_with_strange_values_does_not_hide_the_other_runs(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(logs, "a")
    make_run(logs, "b")
    (logs / "b/status.json").write_text('{"state": "finished", "best": "no", "data": null, "split": 3}')
    assert main(["--logdir", str(logs)]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line} >= {"a", "b"}
