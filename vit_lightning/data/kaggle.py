"""The Tom & Jerry frames from Kaggle: downloaded once, checked at every start."""

import errno
import json
import logging
import os
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

from vit_lightning.data.index import HIDDEN
from vit_lightning.progress import track

log = logging.getLogger(__name__)

#: Pinned: an unversioned handle asks Kaggle at every start, and fails without a network even when all is cached.
HANDLE = "balabaskar/tom-and-jerry-image-classification/versions/3"

#: Where a person reads about the set, and accepts its licence.
PAGE = "https://www.kaggle.com/datasets/" + HANDLE.partition("/versions/")[0]

#: The set's class folders; `tom_jerry_0` is neither of the two, `tom_jerry_1` both.
CLASSES = ("jerry", "tom", "tom_jerry_0", "tom_jerry_1")

#: Seconds before each further attempt, where a connection broke or Kaggle was busy.
DELAYS = (1, 4, 15)

#: Seconds to wait for a connection, and for the next bytes of an answer.
TIMEOUT = (10, 60)

#: Seconds to wait silently for another process that downloads.
PATIENCE = 1

MEBIBYTE = 1 << 20


class ArchiveError(ValueError):
    """An archive that is of no use, and was deleted."""


def download(cache_dir: Path) -> Path:
    """Downloads the frames once; later calls make no request, but look whether every file still has its size.

    What is missing or changed is downloaded anew. A transient failure is tried again, a download that broke off goes
    on where it stopped, and of several processes one downloads while the others wait.

    Args:
        cache_dir: Where downloads are kept.

    Returns:
        The folder with Kaggle's own layout.

    Raises:
        FileNotFoundError: The download failed; the message names the set, the cache, the reason and the way round.
    """
    owner, name, _, version = HANDLE.split("/")
    folder = cache_dir / "datasets" / owner / name / "versions" / version  # as kagglehub lays it out
    damage: str | None = ""
    try:
        damage = find_damage(folder)
        if damage is None:
            return folder  # without lock and kagglehub: the cache may be read-only, and the import takes half a second
        with locked(beside(folder, "lock")):
            damage = find_damage(folder)
            if damage is None:
                return folder  # another process has just downloaded it
            if damage:
                log.warning("%s: downloading the set anew", damage)
            log.info("downloading %s from Kaggle into %s", HANDLE, cache_dir)
            os.environ["KAGGLEHUB_CACHE"] = str(cache_dir)
            beside(folder, "complete").unlink(missing_ok=True)  # kagglehub would take what is there
            return fetch(beside(folder, "archive"))
    except Exception as error:  # kagglehub raises what its HTTP library does
        found = f"{damage}; " if damage else ""
        left = ", or at that folder to use what is left" if damage else ""
        raise FileNotFoundError(
            f"{found}could not download {HANDLE} from Kaggle into {cache_dir}: {explain(error)}, or point --data.root "
            f"at a copy{left}"
        ) from error


def beside(folder: Path, suffix: str) -> Path:
    """The file for one version's folder, as kagglehub names its archive and its mark of completeness."""
    return folder.parent.parent / f"{folder.name}.{suffix}"


def find_damage(folder: Path) -> str | None:
    """Compares the files' sizes with the manifest, which a complete folder without one gets here.

    Returns:
        None where all is well, '' where there is nothing yet, else what is wrong.
    """
    sizes = read_manifest(folder)
    if sizes is None:
        if not any(path.is_file() for path in folder.rglob("*")):
            return ""
        if not beside(folder, "complete").exists():
            return f"{folder} is incomplete"
        write_manifest(folder)
        return None
    bad = [path for path, size in sizes.items() if size_of(folder / path) != size]
    return f"{len(bad):,} of {len(sizes):,} files in {folder} missing or changed, such as {bad[0]}" if bad else None


def size_of(path: Path) -> int:
    """Bytes in a file, -1 without one."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def read_manifest(folder: Path) -> dict[str, int] | None:
    """The size in bytes of every file by its path in the folder; None without a legible manifest."""
    try:
        sizes = json.loads(beside(folder, "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return sizes if sizes and isinstance(sizes, dict) else None


def write_manifest(folder: Path) -> None:
    """Keeps the size of every file, but of the hidden ones that a file manager may change."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(HIDDEN))
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    manifest = beside(folder, "manifest.json")
    new = manifest.with_name(f"{manifest.name}.{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be written to still serves
        try:
            new.write_text(json.dumps(sizes, indent=0), encoding="utf-8")
            new.replace(manifest)
        finally:
            new.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets one process at a time through."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)  # makes the folder, too
    try:
        held = lock.acquire(timeout=PATIENCE)
    except Timeout:
        log.info("another process is downloading %s: waiting for it", HANDLE)
        held = lock.acquire()
    with held:
        yield


def fetch(archive: Path) -> Path:
    """Lets kagglehub download, again after transient failures.

    Args:
        archive: Where kagglehub keeps what it has of the archive.
    """
    import kagglehub  # half a second, needed only here

    delays = iter(DELAYS)
    with hooked(archive):
        while True:
            try:
                return Path(kagglehub.dataset_download(HANDLE))
            except Exception as error:
                delay = next(delays, None)
                if delay is None or not is_transient(error):
                    raise
                log.warning("the download failed (%s): trying again in %d s", root_cause(error), delay)
                time.sleep(delay)


@contextmanager
def hooked(archive: Path) -> Iterator[None]:
    """Has kagglehub wait for no answer for ever, check what it appends, unpack safely and be quiet.

    It has no settings for these, so parts of it are exchanged meanwhile.
    """
    import kagglehub.clients
    import kagglehub.http_resolver
    import requests

    original: Callable[..., requests.Response] = requests.adapters.HTTPAdapter.send

    def send(adapter: object, request: requests.PreparedRequest, **settings: object) -> requests.Response:
        settings["timeout"] = settings.get("timeout") or TIMEOUT
        response = original(adapter, request, **settings)
        if "Range" in request.headers and not response.is_redirect:  # kagglehub would append whatever comes
            if response.status_code in (200, 416):
                archive.unlink(missing_ok=True)
                raise requests.ConnectionError("the part on the disk does not fit, starting over")
            response.raise_for_status()
        return response

    logger = logging.getLogger("kagglehub")
    with ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.WARNING)
        for owner, name, value in (
            (requests.adapters.HTTPAdapter, "send", send),
            (kagglehub.clients, "tqdm", bar),
            (kagglehub.clients, "already_printed_version_warning", True),
            (kagglehub.http_resolver, "_extract_archive", unpack),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


@contextmanager
def bar(*, total: int, initial: int = 0, **_: object) -> Iterator[SimpleNamespace]:
    """Takes tqdm's place: this project's bar, in whole MiB of `total` bytes."""
    done = initial
    with track(f"fetching {total // MEBIBYTE:,} MiB", total=total // MEBIBYTE) as advance:
        advance(initial // MEBIBYTE)

        def update(size: int) -> None:
            nonlocal done
            advance((done + size) // MEBIBYTE - done // MEBIBYTE)
            done += size

        yield SimpleNamespace(update=update)


def unpack(archive_path: str, out_path: str) -> None:
    """Takes the place of kagglehub's own, which cleans evil names silently: all of the archive or nothing.

    Raises:
        OSError: The disk is full, or the like; the archive is kept.
        ArchiveError: The archive is broken, or would write outside the folder; it is deleted.
    """
    archive, folder = Path(archive_path), Path(out_path)
    new = beside(folder, "unpacking")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    try:
        try:
            unpack_into(archive, new)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            with archive.open("rb") as file:
                page = file.read(64).lstrip().startswith(b"<")
            archive.unlink()
            reason = f"it is a web page, perhaps to sign in or to accept the licence at {PAGE}" if page else error
            raise ArchiveError(f"the archive was refused and deleted: {reason}") from error
        beside(folder, "manifest.json").unlink(missing_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
        write_manifest(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def unpack_into(archive: Path, folder: Path) -> None:
    """Unpacks a zip or tar archive after a look at all its members.

    Raises:
        ValueError: A member is neither file nor folder, or its name leads out of the folder.
    """
    with ExitStack() as stack:
        pack: tarfile.TarFile | zipfile.ZipFile
        members: list[tuple[Any, str, bool]]  # what the archive calls it, its name, whether it is a file or a folder
        if tarfile.is_tarfile(archive):
            pack = stack.enter_context(tarfile.open(archive))
            pack.extraction_filter = tarfile.data_filter
            members = [(member, member.name, member.isfile() or member.isdir()) for member in pack]
        else:
            pack = stack.enter_context(zipfile.ZipFile(archive))
            kinds = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: packed on a system without Unix's kinds
            infos = pack.infolist()
            members = [(info, info.filename, stat.S_IFMT(info.external_attr >> 16) in kinds) for info in infos]
        if not members:
            raise ValueError("it is empty")
        for _, name, plain in members:
            path = PureWindowsPath(name)  # knows both slashes and drive letters
            if not plain or path.drive or path.root or ".." in path.parts:
                raise ValueError(f"its member {name!r} is a link or leads out of the folder")
        with track(f"unpacking {len(members):,} files", total=len(members)) as advance:
            for member, _, _ in members:
                pack.extract(member, folder)
                advance(1)


def status_of(error: Exception) -> int:
    """The HTTP status that an error stands for, 0 where it stands for none."""
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)


def is_transient(error: Exception) -> bool:
    """Whether another attempt may well succeed."""
    import requests

    status = status_of(error)
    if status:
        return status in (408, 429) or status >= 500
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def root_cause(error: BaseException) -> str:
    """What lies at the bottom of an error of the HTTP library, which wraps the system's several times."""
    import requests

    status = status_of(error) if isinstance(error, Exception) else 0
    if status:
        return f"status {status}"
    cut_off = isinstance(error, requests.exceptions.ChunkedEncodingError)
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "the connection was cut" if cut_off else one_line(error)


def one_line(error: BaseException) -> str:
    """An error's own words."""
    return " ".join(str(error).split()) or type(error).__name__


def explain(error: Exception) -> str:
    """What went wrong and what to do next."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    status = status_of(error)
    if is_transient(error):
        return (
            f"{len(DELAYS) + 1} attempts failed, the last with: {root_cause(error)}; check the network and try again "
            "later: it goes on where it stopped"
        )
    if status == 401:
        return (
            "Kaggle does not know your token (401); renew it at https://www.kaggle.com/settings/api, or remove it "
            "(KAGGLE_API_TOKEN, ~/.kaggle): the set needs none"
        )
    if status == 403:
        words = one_line(error.__cause__ or error)
        words = "" if "Client Error" in words else f": {words}"  # the HTTP library's, whose address may be signed
        return (
            f"Kaggle refuses it (403{words}); sign in and accept the licence at {PAGE}, then set KAGGLE_API_TOKEN to "
            "a token from https://www.kaggle.com/settings/api"
        )
    if status:
        return f"Kaggle does not give it (status {status}); look at {PAGE} whether it was moved or withdrawn"
    if isinstance(error, DataCorruptionError):
        return "what came does not have Kaggle's checksum and was deleted; try again"
    if isinstance(error, ArchiveError):
        return f"{one_line(error)}; try again"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room, choose another disk with --data.cache_dir"
    if isinstance(error, OSError | NotImplementedError) and not isinstance(error, requests.RequestException):
        return f"{one_line(error)}; choose another folder with --data.cache_dir"  # a file system without locks, too
    return f"{one_line(error)}; see to that and try again"
