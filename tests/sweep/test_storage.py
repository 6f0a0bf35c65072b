"""Where studies are kept: one process at a time, none lost, whoever is killed in between."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.postgres import find_binaries, postgres
from vit_lightning.sweep import storage
from vit_lightning.sweep.storage import Journal, JournalLock, has_study, machine, open_storage


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL server."""
    if find_binaries() is None:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    with postgres() as url:
        yield url


def test_a_torn_last_line_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = Journal(path, JournalLock(path))
    journal.append_logs([{"a": 1}])
    with path.open("a") as file:
        file.write('{"a": 2, "b"')  # a process was killed here
    assert list(journal.read_logs(0)) == [{"a": 1}]
    other = Journal(path, JournalLock(path))
    other.append_logs([{"a": 3}, {"a": 4}])
    for each in (journal, other):
        assert list(each.read_logs(0)) == [{"a": 1}, {"a": 3}, {"a": 4}]
    assert list(journal.read_logs(1)) == [{"a": 3}, {"a": 4}]


def test_a_first_line_that_is_torn_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_text('{"a"')
    journal = Journal(path, JournalLock(path))
    journal.append_logs([{"a": 1}])
    assert list(journal.read_logs(0)) == [{"a": 1}]


HOLD = """
import sys, time
from pathlib import Path
from vit_lightning.sweep.storage import JournalLock
JournalLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert (tmp_path / "study.journal.lock").read_text() == machine()
    process.kill()
    process.wait()
    process.stdout.close()
    lock, began = JournalLock(path), time.monotonic()
    with lock.held(), lock.held():
        assert (tmp_path / "study.journal.lock").is_file()
    assert time.monotonic() - began < lock.grace_period / 2  # type: ignore[operator]  # as it is left out
    assert not (tmp_path / "study.journal.lock").exists()


def test_that_of_another_machine_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.journal"
    (tmp_path / "study.journal.lock").write_text("another machine")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            (tmp_path / "study.journal.lock").unlink()  # which lets go of it

    monkeypatch.setattr("optuna.storages.journal._file.time.sleep", sleep)
    with JournalLock(path).held():
        assert len(slept) == 3


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///a.db", "SQLite locks the whole file"),
        ("mysql://a@b/c", "--storage is of mysql; expected postgresql://USER@HOST/DATABASE"),
        ("nonsense", "--storage is no URL; expected postgresql://"),
        ("postgresql://a:secret@127.0.0.1:1/c", r"the database postgresql://a:\*\*\*@127.0.0.1:1/c cannot be reached"),
    ],
)
def test_what_is_no_server_is_refused(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        open_storage(tmp_path, url, "name")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_looking_for_a_study_makes_none(tmp_path: Path) -> None:
    assert not has_study(tmp_path / "new", None, "name")
    assert not (tmp_path / "new").exists()
    open_storage(tmp_path / "new", None, "name").optuna.create_new_study([], "name")
    assert has_study(tmp_path / "new", None, "name")
    assert not has_study(tmp_path / "new", None, "other")


MAKE = """
import sys
from pathlib import Path
from vit_lightning.sweep.storage import open_storage
opened = open_storage(Path(), sys.argv[1], "name")
with opened.alone():
    try:
        opened.optuna.get_study_id_from_name("name")
    except KeyError:
        opened.optuna.create_new_study([], "name")
"""


@pytest.mark.slow  # four processes and a server
def test_a_new_database_may_be_opened_by_many_at_once(database: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", MAKE, database]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert has_study(Path(), database, "name")
    assert storage.open_storage(Path(), database, "name").where.startswith("postgresql://sweep@127.0.0.1")


def test_a_process_that_was_killed_before_it_had_named_its_lock_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    (tmp_path / "study.journal.lock").touch()
    lock = JournalLock(path)
    lock.grace_period = 1  # half a minute, as it comes
    with lock.held():
        assert (tmp_path / "study.journal.lock").read_text() == machine()
    assert not (tmp_path / "study.journal.lock").exists()
