"""Runs found, named, ranked and printed from their status files."""

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from vit_lightning.commands.runs import main, show_run
from vit_lightning.commands.runs_table import duration
from vit_lightning.runs import (
    Run,
    find_checkpoint,
    find_runs,
    new_run_folder,
    now,
    process_gone,
    read_status,
    write_status,
)


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


def put_report(
    folder: Path, accuracy: float, split: str | None, part: str = "test", interval: list[float] | None = None
) -> None:
    """Puts the report of a test on a split there."""
    (folder / "report").mkdir()
    told = {"split": {"id": split}, "part": part, "accuracy": accuracy, "intervals": {"accuracy": interval}}
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


@pytest.mark.parametrize(
    "name",
    ["", "best", "x.ckpt", "a/b", "../a", "/a", ".", "..", ".hidden", "a/", "a\\b", "a\nb", "\x1b[2J", "x" * 300],
)
def test_a_name_that_is_none_is_refused(logs: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"--run {re.escape(repr(name)[:40])}.* cannot be a run's name; give a plain"):
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


def printed(logs: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["--logdir", str(logs), *options]) == 0
    return capsys.readouterr().out.splitlines()


def rows_of(lines: list[str]) -> list[list[str]]:
    """The words of each row: titles of sections and footnotes have a comma or more words."""
    return [line.split() for line in lines[1:] if re.search(r"  +(\d+/[\d?]+|\d\.\d{4})", line)]


def test_the_table_shows_what_a_run_did(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "demo-001", epochs=7, max_epochs=15, **scored(0.87654), started="2025-06-01T12:34:56+00:00")
    folder = make_run(logs, "demo-002", epochs=15, max_epochs=15, seconds=754.3, **scored(0.5, id="one"))
    put_report(folder, 0.43219, "one", interval=[0.3501, 0.99961])
    assert sorted(rows_of(printed(logs, capsys))) == [
        ["demo-001", "7/15", "0.8765"],
        ["demo-002", "15/15", "0.5000", "0.4322", ".350-1.00", "13", "min"],
    ]


def test_a_section_says_which_split_and_how_many_images(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = scored(0.9, id="0123456789ab")
    status["split"] |= {"train": 1000, "val": 50, "test": 60}
    make_run(logs, "a", **status)
    make_run(logs, "b", **scored(0.95, id="ba9876543210"))
    titles = [line for line in printed(logs, capsys)[1:] if line.startswith("frames")]
    assert sorted(titles) == ["frames, blocks 012345: train 1,000, val 50, test 60", "frames, blocks ba9876"]


def test_folds_of_one_split_share_a_section(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in "12":
        make_run(logs, f"fold-{fold}", **scored(0.9, id=f"fold{fold}", family="f0f0f0f0f0f0"))
    whole = scored(None, split="2 folds", family="f0f0f0f0f0f0")
    make_run(logs, "whole", kind="folds", test={"accuracy": 0.61234}, **whole)
    lines = printed(logs, capsys)
    assert lines[2] == "frames, blocks f0f0f0: several folds"
    rows = {name: rest for name, *rest in rows_of(lines)}
    assert rows.keys() == {"fold-1", "fold-2", "whole"}
    assert rows["whole"] == ["0.6123"]


def test_test_scores_stand_beside_where_they_are_of_the_run_s_own_test_part(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, split, part in (("own", "one", "test"), ("other", "two", "test"), ("val", "one", "val")):
        put_report(make_run(logs, name, **scored(0.5, id="one")), 0.43219, split, part)
    rows = {name: scores for name, _, *scores in rows_of(printed(logs, capsys))}
    assert rows == {"own": ["0.5000", "0.4322"], "other": ["0.5000"], "val": ["0.5000"]}
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
    assert rows_of(lines) == [["a", "0/?", "0.9000*" if marked else "0.9000"]]
    assert any(line.startswith("* the split leaks") for line in lines) == marked


def test_what_cannot_be_ranked_is_marked_and_comes_last(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "seen", seen={"seen": 3}, **scored(0.9, id="one"))
    make_run(logs, "fair", seen={"seen": 0, "unknown": []}, **scored(0.5, id="one"))
    lines = printed(logs, capsys)
    assert rows_of(lines) == [["fair", "0/?", "0.5000"], ["seen", "0/?", "0.9000?"]]
    assert any(line.startswith("? not ranked") for line in lines)


def test_best_scores_come_first_within_data_and_split(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "easy-low", started=at(2), **scored(0.95, split="random"))
    make_run(logs, "easy-high", started=at(1), **scored(0.99, split="random"))
    make_run(logs, "low", started=at(3), **scored(0.2))
    make_run(logs, "high", started=at(4), **scored(0.9))
    make_run(logs, "zero", started=at(5), **scored(0.0))
    make_run(logs, "none", started=at(6), **scored(None))
    names = [row[0] for row in rows_of(printed(logs, capsys))]
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
    told = scored(0.5, data=data, split=split, id="one")
    folder = make_run(logs, name, state=state, epochs=epochs, max_epochs=epochs, seconds=48 * 3600 - 1, **told)
    put_report(folder, 0.4, "one", interval=[0.35, 0.45])
    lines = printed(logs, capsys)
    assert max(len(line.rstrip()) for line in lines) <= 80
    (row,) = rows_of(lines)
    assert f"{data}, {split}" in " ".join(lines)
    assert row == [
        *(name, f"{epochs}/{epochs}", "0.5000", "0.4000", ".350-.450", "48.0", "h"),
        *([] if state == "finished" else [state]),
    ]


def test_long_names_are_folded_not_cut(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["".join(f"{k:02}" for k in range(30)), "deeper-and-wider-with-a-low-learning-rate-of-somebody"]
    for name in names:
        make_run(logs, name, state="interrupted", epochs=100, max_epochs=100, **scored(0.5))
    lines = printed(logs, capsys)
    assert max(len(line.rstrip()) for line in lines) <= 80
    told = "".join(word for line in lines for word in line.split()[:1])
    assert all(name in told for name in names)
    assert any(line.endswith(("-rate-of-somebody", "somebody")) for line in lines)


def test_brackets_in_names_are_shown_as_they_are(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "lr[red]", **scored(0.5, data="frames[old]"))
    assert rows_of(printed(logs, capsys)) == [["lr[red]", "0/?", "0.5000"]]
    assert "frames[old], blocks" in printed(logs, capsys)


def test_runs_with_little_in_their_status_are_shown(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (make_run(logs, "early", state="running") / ".lock").touch()
    (logs / "broken").mkdir()
    (logs / "broken" / "status.json").touch()
    rows = [line.split() for line in printed(logs, capsys)]
    assert ["early", "0/?", "interrupted"] in rows  # nobody holds its lock
    assert ["broken", "0/?", "unknown"] in rows


def test_without_runs_a_start_is_suggested(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(logs, capsys, "--json") == ["[]"]
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
            ["checkpoints", "best.ckpt 0 B, last.ckpt 0 B"],
            ["disk", f"{(folder / 'status.json').stat().st_size} B"],
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
    assert ["demo-001", "0/?"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main(["--logdir", str(logs), "show", "demo-001"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(logs / "demo-001")


def test_the_log_folder_is_the_one_here_unless_given(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(logs, "a")
    monkeypatch.chdir(logs.parent)
    assert main(["show", "a"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == os.path.join("lightning_logs", "a")  # noqa: PTH118  # as the system writes it


@pytest.mark.parametrize(
    "text",
    [
        '{"state": "finished", "best": "no", "data": null, "split": 3}',
        '{"state": ["x"], "best": {"val/acc": "high"}, "data": {"id": [1]}, "split": {"family": {}, "kind": NaN}}',
        '{"state": "running", "best": {"val/acc": NaN}, "epochs": "many", "max_epochs": 1e999, "seconds": {}}',
        '{"baselines": {"near_duplicates": "all"}, "seen": {"seen": "x"}, "host": 3, "members": 3, "kind": "folds"}',
        '{"ancestors": "x", "started": 7, "device": [], "images_per_second": "x", "seconds": -1}',
        '{"split": {"id": "one", "train": true, "test": "x"}, "test": {"accuracy": []}, "parameters": 1%s}'
        % ("0" * 999),
    ],
)
def test_a_status_with_strange_values_does_not_hide_the_other_runs(
    logs: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    make_run(logs, "a")
    make_run(logs, "b")
    (logs / "b/status.json").write_text(text)
    put_report(logs / "b", "much", "one")  # type: ignore[arg-type]  # what a stranger wrote
    for options in ([], ["--wide"], ["--json"], ["--sort", "test"], ["--sort", "time"], ["--sort", "started"]):
        told = " ".join(printed(logs, capsys, *options))
        assert " a " in told or '"a"' in told
        assert " b " in told or '"b"' in told
    assert main(["--logdir", str(logs), "show", "b"]) == 0


# What there is beside the table


def filled(logs: Path) -> None:
    make_run(logs, "demo-001", started=at(1), seconds=60, **scored(0.5, data="demo", id="aa11"))
    make_run(logs, "demo-002", started=at(2), seconds=30, state="failed", **scored(0.7, data="demo", id="aa11"))
    make_run(logs, "demo-003", started=at(3), seconds=90, **scored(0.6, data="demo", id="aa11"))
    make_run(logs, "frames-001", started=at(4), state="interrupted", **scored(0.9, split="random", id="bb22"))
    put_report(logs / "demo-001", 0.8, "aa11")
    put_report(logs / "demo-003", 0.4, "aa11")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["frames-001", "demo-002", "demo-003", "demo-001"]),
        (["--state", "failed,interrupted"], ["frames-001", "demo-002"]),
        (["--data", "demo"], ["demo-002", "demo-003", "demo-001"]),
        (["--data", "fram*"], ["frames-001"]),
        (["--split", "random"], ["frames-001"]),
        (["--split", "aa1"], ["demo-002", "demo-003", "demo-001"]),
        (["--name", "*-001"], ["frames-001", "demo-001"]),
        (["--name", "*-001", "--state", "finished"], ["demo-001"]),
        (["--limit", "1"], ["frames-001", "demo-002"]),
        (["--sort", "test", "--data", "demo"], ["demo-001", "demo-003", "demo-002"]),
        (["--sort", "started", "--data", "demo"], ["demo-003", "demo-002", "demo-001"]),
        (["--sort", "time", "--data", "demo"], ["demo-002", "demo-001", "demo-003"]),
        (["--sort", "name", "--data", "demo"], ["demo-001", "demo-002", "demo-003"]),
    ],
)
def test_runs_are_filtered_and_sorted(
    logs: Path, capsys: pytest.CaptureFixture[str], options: list[str], names: list[str]
) -> None:
    filled(logs)
    assert [row[0] for row in rows_of(printed(logs, capsys, *options))] == names
    if "--limit" not in options:  # which is of a section
        told = json.loads("".join(printed(logs, capsys, "--json", *options)))
        assert sorted(run["name"] for run in told) == sorted(names)


def test_rows_left_out_are_counted_and_none_is_said(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(logs)
    assert "... and 2 more" in printed(logs, capsys, "--limit", "1")
    (line,) = printed(logs, capsys, "--name", "x")
    assert line == f"none of the 4 runs in {logs} is such a one; `runs` without options lists them"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "done"], r"--state is 'done'; expected one or several of running,finished,.*"),
        (["--limit", "0"], r"--limit is '0'; expected a whole number from 1 up; see `cli.py runs --help`"),
        (["--limit", "1e3"], r"--limit is '1e3'; expected a whole number from 1 up.*"),
        (["--limit", "\u0663"], r"--limit is '\u0663'; expected a whole number from 1 up.*"),
        (["--sort", "loss"], r"argument --sort.*'loss'.*choose from.*val.*"),
        (["--wid"], r"unrecognized arguments: --wid; .*"),
    ],
)
def test_mistaken_options_are_named(logs: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        main(["--logdir", str(logs), *options])


def test_wide_has_the_rest(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(
        logs, "a", parameters=2800000, device="a GPU", images_per_second=1031.26, epochs=2, max_epochs=2, **scored(0.5)
    )
    (folder / "config.yaml").write_text(
        "seed_everything: 3\nmodel:\n  lr: 0.001\n  depth: 6\n  betas:\n  - 0.9\n  dim: 192\ndata:\n  batch_size: 64\n"
    )
    head, _, _, row = printed(logs, capsys, "--wide")
    for title in ("val/f1", "test/f1", "lr", "depth", "dim", "batch", "seed", "parameters", "images/s", "device"):
        assert title in head
    words = ["0.001", "6", "192", "64", "3", "2800000", "1,031.3", "a", "GPU", "2025-06-01", "12:00"]
    assert row.split()[3:] == words


def test_json_is_strict_and_has_what_the_table_has(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(logs)
    (logs / "demo-001" / "config.yaml").write_text("model:\n  lr: 0.001\n  depth: 6\n")
    status = read_status(logs / "demo-001" / "status.json")
    status["best"] |= {"val/loss": float("nan")}
    write_status(logs / "demo-001", status)
    text = "".join(printed(logs, capsys, "--json", "--name", "demo-001"))
    (run,) = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert run["best"] == {"epoch": 3, "val/acc": 0.5, "val/loss": None}
    assert run["test"] == {"accuracy": 0.8, "macro_f1": None, "interval": None}
    assert run["settings"] == {"model.lr": 0.001, "model.depth": 6}
    assert main(["--logdir", str(logs), "show", "demo-001", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"]["best"] == run["best"]
    assert shown["config"] == {"model": {"lr": 0.001, "depth": 6}}


def test_names_cannot_move_the_terminal_s_cursor(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "a\x1b[2Jb", **scored(0.5, data="x\x1b]0;title\x07", split="\u202eblocks"))
    for options in ([], ["--wide"], ["show", "a\x1b[2Jb"], ["prune", "--name", "*"]):
        told = "\n".join(printed(logs, capsys, *options))
        assert all(line.isprintable() for line in told.splitlines())
        assert "\\x1b[2Jb" in told


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1.7 h"), (200_000, "2.3 d")],
)
def test_times_are_short(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


# Whether a run's process is still there


def test_a_run_whose_process_is_gone_was_interrupted(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(logs, "a", state="running", host=platform.node())
    lock = FileLock(folder / ".lock")
    with lock:
        assert not process_gone(folder, {})
        assert Run(folder, read_status(folder / "status.json")).state == "running"
    assert Run(folder, read_status(folder / "status.json")).state == "interrupted"
    (folder / ".lock").unlink()
    assert Run(folder, read_status(folder / "status.json")).state == "interrupted"
    assert not (folder / ".lock").exists()  # looking leaves nothing behind
    show_run("a", logs)
    assert "interrupted (its process is gone)" in capsys.readouterr().out


def test_a_run_of_another_machine_is_believed_and_marked(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "a", state="running", host="elsewhere", **scored(0.5))
    make_run(logs, "b", state="finished", host="elsewhere", **scored(0.5))
    lines = printed(logs, capsys)
    assert sorted(rows_of(lines)) == [["a", "0/?", "0.5000", "running@"], ["b", "0/?", "0.5000"]]
    assert any(line.startswith("@ running on another machine") for line in lines)
    show_run("a", logs)
    assert "running, as its status says, on elsewhere" in capsys.readouterr().out


def test_a_lock_that_cannot_be_tried_is_believed(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(logs, "a", state="running")
    (folder / ".lock").touch()

    def refuse(self: FileLock, **how: object) -> None:
        raise PermissionError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert not process_gone(folder, {})
