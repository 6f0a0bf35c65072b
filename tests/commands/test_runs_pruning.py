"""What `runs prune` would remove, what it removes, and what it never does."""

from pathlib import Path

import pytest
from filelock import FileLock

from vit_lightning.commands.runs import main
from vit_lightning.runs import find_runs, read_status, write_status

STARTED = "2025-06-01T12:00:00+00:00"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A log folder that does not exist yet."""
    return tmp_path / "lightning_logs"


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal has 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def make_run(logs: Path, name: str, accuracy: float | None = None, state: str = "finished", **status: object) -> Path:
    """A run on one split with two checkpoints of 1,000 bytes each."""
    folder = logs / name
    (folder / "checkpoints").mkdir(parents=True)
    for checkpoint in ("best", "last"):
        (folder / "checkpoints" / f"{checkpoint}.ckpt").write_bytes(bytes(1000))
    best = {} if accuracy is None else {"best": {"epoch": 1, "val/acc": accuracy}}
    where = {"data": {"id": "d", "name": "frames"}, "split": {"id": "s", "kind": "blocks"}}
    write_status(folder, {"state": state, "started": STARTED, **where, **best, **status})
    return folder


def prune(logs: Path, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> tuple[set[str], str]:
    """The names of the runs that would go or went, and all that was said."""
    assert main(["--logdir", str(logs), "prune", *words]) == status
    told = capsys.readouterr().out
    rows = [line for line in told.splitlines() if line.startswith(("would go", "removed  "))]
    return {line.split()[-1] for line in rows}, " ".join(told.split())


def names(logs: Path) -> set[str]:
    return {run.name for run in find_runs(logs)}


def test_nothing_goes_without_yes_and_all_that_was_listed_with_it(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(logs, "good", 0.9)
    make_run(logs, "bad", 0.1, "failed")
    make_run(logs, "stopped", 0.5, "interrupted")
    (logs / "check").mkdir()  # no run
    before = sorted(logs.rglob("*"))
    going, told = prune(logs, capsys, "--state", "failed,interrupted")
    assert going == {"bad", "stopped"}
    assert "2 runs, 4.5 kB: nothing was removed yet; repeat with --yes to remove them for good" in told
    assert sorted(logs.rglob("*")) == before
    going, told = prune(logs, capsys, "--state", "failed,interrupted", "--yes")
    assert going == {"bad", "stopped"}
    assert "removed: 2 runs, 4.5 kB" in told
    assert sorted(path.name for path in logs.iterdir()) == ["check", "good"]


def test_it_has_to_be_told_which(logs: Path) -> None:
    make_run(logs, "a", 0.9)
    for words in ([], ["--yes"], ["--checkpoints", "--yes"]):
        with pytest.raises(ValueError, match=r"prune has to be told which runs may go: .*--state failed,interrupted"):
            main(["--logdir", str(logs), "prune", *words])
    assert names(logs) == {"a"}


def test_the_best_of_every_split_stay_and_so_does_what_cannot_be_ranked(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(4):
        make_run(logs, f"a{k}", k / 10)
        make_run(logs, f"b{k}", k / 10, split={"id": "other", "kind": "random"})
    make_run(logs, "unscored")
    make_run(logs, "unranked", 0.0, seen={"seen": 1})
    make_run(logs, "failed", 0.0, "failed")
    assert prune(logs, capsys, "--keep-best", "1")[0] == {"a0", "a1", "a2", "b0", "b1", "b2"}
    assert prune(logs, capsys, "--keep-best", "3", "--split", "random")[0] == {"b0"}
    going, told = prune(logs, capsys, "--keep-best", "3")
    assert going == {"a0", "b0"}
    assert "kept, since they have no val/acc that could be ranked: " in told
    going, told = prune(logs, capsys, "--keep-best", "9")
    assert not going
    assert told.endswith("nothing to remove")


def test_runs_are_chosen_by_name_and_filters_before_the_word_count(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x-1", "x-2", "y-1"):
        make_run(logs, name, 0.5, "failed" if name == "x-2" else "finished")
    assert prune(logs, capsys, "x-1", "y-1")[0] == {"x-1", "y-1"}
    assert prune(logs, capsys, str(logs / "x-1"))[0] == {"x-1"}
    assert prune(logs, capsys, "--name", "x-*")[0] == {"x-1", "x-2"}
    assert main(["--logdir", str(logs), "--state", "failed", "prune", "--name", "x-*"]) == 0
    assert "x-1" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no run 'z'"):
        main(["--logdir", str(logs), "prune", "z"])


def test_only_what_lies_in_the_log_folder_goes(logs: Path, tmp_path: Path) -> None:
    make_run(logs, "a")
    for outside in (make_run(tmp_path / "elsewhere", "b"), tmp_path, logs):
        with pytest.raises(ValueError, match=r"is no run in .*; prune removes nothing else"):
            main(["--logdir", str(logs), "prune", str(outside), "--yes"])
    assert (tmp_path / "elsewhere" / "b" / "status.json").is_file()


def test_a_running_run_never_goes(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(logs, "here", 0.5, "running")
    make_run(logs, "there", 0.5, "running", host="elsewhere")
    make_run(logs, "killed", 0.5, "running")
    with FileLock(folder / ".lock"):
        going, told = prune(logs, capsys, "--name", "*", "--yes")
    assert going == {"killed"}
    assert "kept, since they are running: here" in told
    assert "kept, since they are running on elsewhere: there" in told
    assert names(logs) == {"here", "there"}


def test_a_run_that_is_taken_up_meanwhile_stays(
    logs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(logs, "a", 0.5, "failed")
    with FileLock(folder / ".lock"):  # by a process that has not written its status yet
        for words in ([], ["--checkpoints"]):
            going, told = prune(logs, capsys, "a", "--yes", *words, status=1)
            assert not going
            assert "kept" in told
            assert "a: another process trains it" in told
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_what_others_started_from_stays_unless_asked_for(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = {"run": "first", "folder": str(logs / "first"), "started": STARTED}
    make_run(logs, "first", 0.1)
    make_run(logs, "second", 0.2, ancestors=[start])
    make_run(logs, "third", 0.3, ancestors=[start | {"run": "second"}, start])
    old = make_run(logs, "old", 0.4)
    (old / "config.yaml").write_text(f"model:\n  init_from: '{logs}/first/checkpoints/best.ckpt'\n")
    status = read_status(old / "status.json")
    going, told = prune(logs, capsys, "first", "second")
    assert not going
    assert "kept, since third started from it: second" in told
    assert "first" not in prune(logs, capsys, "first", "second", "third")[0]  # the old one still does
    assert prune(logs, capsys, "--name", "*")[0] == {"first", "second", "third", "old"}
    going, told = prune(logs, capsys, "first", "--ancestors")
    assert going == {"first"}
    assert "first goes although" in told
    assert prune(logs, capsys, "first", "--checkpoints")[0] == {"first"}  # its record is what the others need
    write_status(logs / "first", status | {"started": "2026-01-01T00:00:00+00:00"})  # another of the name
    assert prune(logs, capsys, "first")[0] == set()  # an older run says no time


def test_older_runs_that_started_one_from_another_stay_together(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for before, name in ((None, "a"), ("a", "b"), ("b", "c")):
        start = f"{logs}/{before}/checkpoints/best.ckpt" if before else "null"
        (make_run(logs, name, 0.5) / "config.yaml").write_text(f"model:\n  init_from: {start}\n")
    going, told = prune(logs, capsys, "a", "b")  # of which c names the one alone
    assert not going
    assert "kept, since c started from it: b kept, since b started from it: a" in told


def test_what_a_result_of_folds_consists_of_stays(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(logs, "all", kind="folds", members=["all-f1-s0", "all-f2-s0"])
    for name in ("all-f1-s0", "all-f2-s0"):
        make_run(logs, name, 0.5)
    going, told = prune(logs, capsys, "all-f1-s0")
    assert not going
    assert "kept, since all is a result of folds with it: all-f1-s0" in told
    assert prune(logs, capsys, "--name", "all*")[0] == {"all", "all-f1-s0", "all-f2-s0"}


def test_only_checkpoints_go_where_asked(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(logs, "a", 0.5)
    (folder / "hpc_ckpt_1.ckpt").write_bytes(bytes(500))
    make_run(logs, "b", 0.6)
    going, told = prune(logs, capsys, "a", "--checkpoints")
    assert going == {"a"}
    assert "checkpoints of 1 run, 2.5 kB" in told
    assert "a run cannot be resumed, tested or predicted with" in told
    prune(logs, capsys, "a", "--checkpoints", "--yes")
    assert sorted(path.name for path in folder.rglob("*")) == ["checkpoints", "status.json"]
    assert prune(logs, capsys, "a", "--checkpoints")[1] == "nothing to remove"


def test_links_are_left_alone(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = make_run(tmp_path / "elsewhere", "a", 0.5)
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    logs.mkdir()
    (logs / "a").symlink_to(elsewhere)
    (make_run(logs, "b", 0.5) / "link").symlink_to(tmp_path)
    going, told = prune(logs, capsys, "--name", "*", "--yes")
    assert going == {"b"}
    assert "kept, since they are links to other folders; remove those by hand: a" in told
    assert (elsewhere / "status.json").is_file()
    assert kept.is_file()


def test_a_broken_prune_leaves_no_half_of_a_run(
    logs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(logs, "a", 0.5)

    def break_off(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", break_off)
        with pytest.raises(KeyboardInterrupt):
            main(["--logdir", str(logs), "prune", "a", "--yes"])
    assert names(logs) == set()
    assert [path.name for path in logs.iterdir()] == [".a.pruned"]
    told = prune(logs, capsys, "--name", "*")[1]
    assert "0 runs, 2.2 kB, 1 left over from a prune that was broken off: nothing was removed yet" in told
    prune(logs, capsys, "--name", "*", "--yes")
    assert list(logs.iterdir()) == []
