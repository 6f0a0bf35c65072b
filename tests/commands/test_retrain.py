"""`retrain`: what is new, what is kept, and going on; the steps that it begins stand in for themselves."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.champion import kills
from tests.commands.test_promote import make_run
from vit_lightning import cli
from vit_lightning.commands import promote as promote_module
from vit_lightning.commands import retrain as command
from vit_lightning.commands.retrain import main
from vit_lightning.registry import read_registry
from vit_lightning.runs import read_status, write_status

ROOT = Path(__file__).parent.parent.parent
LOGS = Path("lightning_logs")
RECORD = LOGS / "registry" / "retrain-demo.json"
Told = list[tuple[str, str]]


class Steps:
    """Stands in for the other commands: `fit` leaves a tested and exported run whose share of right answers grows."""

    def __init__(self) -> None:
        self.called: list[tuple[str, ...]] = []
        self.status = 0
        self.shares = [0.5, 0.75, 0.95]

    def __call__(self, name: str, *words: str) -> int:
        self.called.append((name, *words))
        told = dict(word.removeprefix("--").partition("=")[::2] for word in words)
        if name == "fit" and self.status == 0:
            run = told.get("run") or told["resume"]
            if (LOGS / run).exists():
                write_status(LOGS / run, read_status(LOGS / run / "status.json") | {"state": "finished"})
            else:
                make_run(run, self.shares.pop(0))
                (LOGS / run / "split.csv").write_text("path,label,split\n")
        return self.status


@pytest.fixture(autouse=True)
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    monkeypatch.chdir(tmp_path)
    found = Steps()
    for module in (command, promote_module):
        monkeypatch.setattr(module, "called", found)
        monkeypatch.setattr(module, "set_up_logging", lambda: None)  # `told` listens in its place
    Path("demo.yaml").write_text("data:\n  root: frames\n")
    (tmp_path / "frames/ant").mkdir(parents=True)
    come("ant/1.jpg")
    return found


def come(name: str) -> None:
    """A picture comes."""
    (Path("frames") / name).write_bytes(b"x")


def record() -> dict[str, object]:
    told: dict[str, object] = json.loads(RECORD.read_text())
    return told


WORDS = ["--config", "demo.yaml"]


def test_pictures_come_and_a_better_champion_with_them(steps: Steps, told: Told) -> None:
    assert main(WORDS) == 0
    assert steps.called == [("fit", *WORDS, "--run=demo-retrain-001")]
    assert read_registry(LOGS).why() is not None
    come("ant/2.jpg")
    assert main(WORDS) == 0
    split = (LOGS / "demo-retrain-001/split.csv").resolve()
    assert steps.called[1:] == [("fit", *WORDS, f"--data.keep_parts={split}", "--run=demo-retrain-002")]
    assert [(each["version"], each["outcome"]) for each in read_registry(LOGS).decisions] == [
        (1, "promoted"),
        (2, "promoted"),
    ]
    assert any(line == "2 files in frames, 1 before: there is something to learn" for _, line in told)


def test_nothing_new_is_said_and_nothing_done(steps: Steps, told: Told) -> None:
    main(WORDS)
    before = sorted((path, path.stat().st_mtime_ns) for path in LOGS.rglob("*") if not path.name.endswith(".lock"))
    steps.called.clear()
    assert main(WORDS) == 0
    assert steps.called == []
    assert [line for _, line in told][-2:] == [
        "nothing new: the 1 files in frames are those that demo-retrain-001 was trained on",
        read_registry(LOGS).why(),
    ]
    assert before == sorted((path, path.stat().st_mtime_ns) for path in LOGS.rglob("*") if path.name[-5:] != ".lock")


def change_config() -> None:
    Path("demo.yaml").write_text("data:\n  root: frames\nmodel:\n  depth: 3\n")


CHANGES = {
    "a picture has come": lambda: come("ant/2.jpg"),
    "a picture has gone": lambda: Path("frames/ant/1.jpg").unlink(),
    "a picture has changed": lambda: Path("frames/ant/1.jpg").write_bytes(b"yy"),
    "the config has changed": change_config,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_something_new(change: str, steps: Steps) -> None:
    come("ant/3.jpg")  # so that one may go
    main(WORDS)
    CHANGES[change]()
    main(WORDS)
    assert [name for name, *_ in steps.called] == ["fit", "fit"]


def test_labels_that_have_changed_are_something_new(steps: Steps) -> None:
    Path("l.csv").write_text("path,label\n")
    main([*WORDS, "--data.labels=l.csv"])
    main([*WORDS, "--data.labels=l.csv"])
    Path("l.csv").write_text("path,label\nant/1.jpg,bee\n")
    main([*WORDS, "--data.labels=l.csv"])
    assert len(steps.called) == 2


def test_a_round_that_was_broken_off_goes_on_in_its_run(steps: Steps, told: Told) -> None:
    steps.status = 1
    with pytest.raises(ValueError, match="fit of demo-retrain-001 ended with status 1"):
        main(WORDS)
    steps.status = 0
    folder = make_run("demo-retrain-001", 0.5, status={"state": "interrupted"})
    come("ant/2.jpg")  # is for the next time
    assert main(WORDS) == 0
    assert steps.called[-1] == ("fit", "--resume=demo-retrain-001")
    assert read_status(folder / "status.json")["state"] == "finished"
    assert record()["done"] is True
    main(WORDS)
    assert "--run=demo-retrain-002" in steps.called[-1]


def test_a_finished_run_is_judged_without_another_training(steps: Steps) -> None:
    main(WORDS)
    RECORD.write_text(json.dumps(record() | {"done": False, "promoted": None}))
    steps.called.clear()
    assert main(WORDS) == 0
    assert steps.called == []
    assert len(read_registry(LOGS).decisions) == 1
    assert (record()["done"], record()["promoted"]) == (True, True)


def test_other_options_begin_anew_and_keep_what_was_held_out(steps: Steps) -> None:
    main(WORDS)
    come("ant/2.jpg")
    steps.status = 2  # a mistake in the config, say
    assert main(WORDS) == 2
    steps.status = 0
    assert main([*WORDS, "--model.depth=2"]) == 0
    split = (LOGS / "demo-retrain-001/split.csv").resolve()  # that of the refused one was never made
    assert steps.called[-1] == (
        *("fit", *WORDS, "--model.depth=2", f"--data.keep_parts={split}", "--run=demo-retrain-002"),
    )


def test_a_run_that_is_refused_ends_well_and_the_champion_stays(steps: Steps, told: Told) -> None:
    steps.shares = [0.75, 0.5]
    main(WORDS)
    come("ant/2.jpg")
    assert main(WORDS) == 0
    assert record()["promoted"] is False
    assert told[-1][1].startswith("champion: demo-retrain-001 (version 1)")


def test_it_starts_from_the_champion_if_asked_to(steps: Steps, told: Told) -> None:
    main([*WORDS, "--from=champion"])
    assert steps.called == [("fit", *WORDS, "--run=demo-retrain-001")]
    assert any("there is no champion to start from yet" in line for _, line in told)
    come("ant/2.jpg")
    main([*WORDS, "--from", "champion"])
    assert f"--model.init_from={(LOGS / 'demo-retrain-001').resolve()}" in steps.called[-1]


def test_ready_made_parts_need_nothing_kept(steps: Steps) -> None:
    main(WORDS)
    status = read_status(LOGS / "demo-retrain-001/status.json")
    write_status(LOGS / "demo-retrain-001", status | {"split": {"id": "s", "kind": "folders"}})
    come("ant/2.jpg")
    main(WORDS)
    assert not any("keep_parts" in word for word in steps.called[-1])


def test_a_training_that_has_outlived_its_command_is_waited_for(steps: Steps, told: Told) -> None:
    steps.status = 1
    with pytest.raises(ValueError, match="ended with status 1"):
        main(WORDS)
    steps.status = 0
    folder = make_run("demo-retrain-001", 0.5, status={"state": "running"})
    began = threading.Event()

    def end() -> None:
        with FileLock(folder / ".lock"):
            began.set()
            while not any("is still being trained by a process" in line for _, line in told):
                time.sleep(0.01)
            write_status(folder, read_status(folder / "status.json") | {"state": "finished"})

    thread = threading.Thread(target=end)
    thread.start()
    began.wait()
    assert main(WORDS) == 0
    thread.join()
    assert len(steps.called) == 1


def test_two_at_once_do_not_mix(steps: Steps) -> None:
    main(WORDS)
    with (
        FileLock(LOGS / "registry" / ".retrain-demo.lock"),
        pytest.raises(ValueError, match="another retrain of demo is at work in lightning_logs; wait for it"),
    ):
        main(WORDS)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ([], "retrain has no config; give one, as in --config configs/folder.yaml"),
        ([*WORDS, "--run=x"], "--run is set by retrain; leave it out"),
        ([*WORDS, "--data.fold", "1/5"], "--data.fold is set by retrain; leave it out"),
        ([*WORDS, "--from=there"], "argument --from: invalid choice: 'there'"),
        ([*WORDS, "--margin=-1"], "--margin is -1; expected a share"),
        ([*WORDS, "--data.root=nowhere"], "the data's root nowhere does not exist"),
        ([*WORDS, "--data.root=empty"], "the data's root empty is empty; give the folder that holds the class folders"),
        (["--config=nothing.yaml"], "the config nothing.yaml does not exist"),
    ],
)
def test_mistakes_are_one_line(words: list[str], wrong: str, capsys: pytest.CaptureFixture[str], steps: Steps) -> None:
    Path("empty").mkdir()
    assert cli.main(["retrain", *words]) == 2
    err = capsys.readouterr().err
    assert wrong in err
    assert err.count("\n") == 1
    assert steps.called == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 3}', '{"run": "../x", "asked": "", "data": ""}'])
def test_a_broken_record_is_told(text: str, steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    RECORD.parent.mkdir(parents=True)
    RECORD.write_text(text)
    assert cli.main(["retrain", *WORDS]) == 2
    err = capsys.readouterr().err
    assert "retrain-demo.json cannot be read (" in err
    assert "remove it, and all pictures are new" in err
    assert steps.called == []


def test_on_unchanged_data_no_torch_is_imported(steps: Steps) -> None:
    main(WORDS)
    code = (
        "import sys; from vit_lightning.cli import main; status = main(['retrain', '--config', 'demo.yaml']);"
        "assert 'torch' not in sys.modules; assert 'lightning' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_kill_costs_no_decision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(ROOT / "configs", tmp_path / "work" / "configs")
    kills(tmp_path / "work", 1, [("fit", False), ("export", True)])  # it raises where something is not whole
