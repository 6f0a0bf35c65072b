"""Where a study is kept: a journal file, or a PostgreSQL server. Any number of processes may share either."""

import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

JOURNAL = "study.journal"

#: Attempts to make the tables of a new database, while other processes are making them, too.
ATTEMPTS = 10


@dataclass(frozen=True)
class Storage:
    """Optuna's storage, and what keeps all other processes out of a study for as long as it takes to change it.

    Args:
        optuna: The storage.
        alone: A block that only one process of all is in at a time; when one dies in it, the next one gets in.
        where: In words, without a password.
    """

    optuna: BaseStorage
    alone: Callable[[], AbstractContextManager[None]]
    where: str


def open_storage(folder: Path, url: str | None, name: str) -> Storage:
    """Opens the storage, and makes it where it is new.

    Args:
        folder: Of the study; the journal is in it.
        url: Of a database; left out, the journal.
        name: Of the study.

    Raises:
        ValueError: It is no database that many can write to, or it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        path = folder / JOURNAL
        lock = JournalLock(path)
        return Storage(JournalStorage(Journal(path, lock)), lock.held, str(path))
    return open_database(url, name)


def has_study(folder: Path, url: str | None, name: str) -> bool:
    """Whether a study was begun; of a journal that is not there nothing is made.

    Raises:
        ValueError: The database cannot be used.
    """
    if url is None and not (folder / JOURNAL).is_file():
        return False
    return name in [study.study_name for study in open_storage(folder, url, name).optuna.get_all_studies()]


def machine() -> str:
    """What tells this machine from all others, and containers on it from none: the boot of its kernel, or its name."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


class JournalLock(JournalFileOpenLock):
    """Optuna's lock by a file, for other machines, inside one of the system's, for processes of this one.

    With the file alone all have to wait half a minute after a process that was killed while it wrote, and then two of
    them may take the file at once. A process may take the lock again while it has it.

    Args:
        path: Of what is locked.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.here = FileLock(path.with_name(f"{path.name}.here"))
        self.taken = path.with_name(f"{path.name}.lock")  # as Optuna calls it
        self.depth = 0

    def acquire(self) -> bool:
        """Waits for it."""
        if self.depth == 0:
            self.here.acquire()
            try:
                with suppress(OSError):
                    if self.taken.read_text() == machine():  # of a process that was killed: no other one here has it
                        self.taken.unlink()
                super().acquire()
                self.taken.write_text(machine())
            except BaseException:
                self.here.release()
                raise
        self.depth += 1
        return True

    def release(self) -> None:
        """Lets go of it; while it is being acquired, of what somebody has left: Optuna gives up waiting with this."""
        if self.depth == 0:
            super().release()
            return
        self.depth -= 1
        if self.depth == 0:
            try:
                with suppress(RuntimeError):  # asleep for half a minute, it lost the file to another machine
                    super().release()
            finally:
                self.here.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block with the lock."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


class Journal(JournalFileBackend):
    """Optuna's journal, whose last line may be torn: by a process that was killed, or by a full disk.

    Optuna would write behind the torn line, and never read the file again. Nobody has read such a line yet.
    """

    def __init__(self, path: Path, lock: JournalLock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(str(path), lock)
        self.path, self.lock = path, lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds whole lines behind whole lines."""
        with self.lock.held():
            with self.path.open("rb+") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                if file.read() not in (b"", b"\n"):
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            super().append_logs(logs)


def open_database(url: str, name: str) -> Storage:
    """A study in a PostgreSQL server.

    Raises:
        ValueError: It is another kind of database, or it cannot be reached.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        address = make_url(url)
    except ArgumentError:
        raise ValueError(f"--storage is no URL; expected {EXPECTED}") from None
    kind = address.get_backend_name()
    if kind == "sqlite":
        raise ValueError(
            "--storage: SQLite locks the whole file and gives up when many write, and does not work on shared drives; "
            "leave --storage out for a journal file, which does, or give a PostgreSQL server"
        )
    if kind not in ("postgresql", "postgres"):
        raise ValueError(f"--storage is of {kind}; expected {EXPECTED}")
    address = address.set(drivername="postgresql+psycopg")
    where = address.set(drivername="postgresql").render_as_string(hide_password=True)
    try:
        import psycopg  # noqa: F401  # SQLAlchemy's own error would name another package
    except ImportError:
        raise ValueError("--storage needs psycopg, which is not installed: pip install 'psycopg[binary]'") from None
    # A connection of its own, which the server closes, and with it lets go of the lock, however the process ends.
    engine = create_engine(address, pool_size=1, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
    number = int.from_bytes(hashlib.sha256(f"vit_lightning sweep {name}".encode()).digest()[:8], "big", signed=True)

    @contextmanager
    def alone() -> Iterator[None]:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": number})

    logging.getLogger("alembic").setLevel(logging.WARNING)
    for attempt in range(ATTEMPTS):
        try:
            with engine.connect():
                pass
        except SQLAlchemyError as error:
            raise ValueError(f"the database {where} cannot be reached: {reason(error)}") from error
        try:
            storage = optuna.storages.get_storage(address.render_as_string(hide_password=False))
            return Storage(storage, alone, where)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if attempt == ATTEMPTS - 1:
                raise ValueError(f"no study can be kept in {where}: {reason(error)}") from error
            time.sleep(0.1 * (attempt + 1))  # another process was making the same tables
    raise AssertionError("the last attempt returns or raises")


EXPECTED = "postgresql://USER@HOST/DATABASE (the password in PGPASSWORD), or none for a journal file"


def reason(error: Exception) -> str:
    """The first line of what the server says."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
