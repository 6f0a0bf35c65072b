"""The Tom & Jerry frames from Kaggle: downloaded once by kagglehub, checked at every start."""

import errno
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from vit_lightning.data.index import HIDDEN
from vit_lightning.files import write_text

log = logging.getLogger(__name__)

#: Pinned: an unversioned handle asks Kaggle at every start, and fails without a network even when all is cached.
HANDLE = "balabaskar/tom-and-jerry-image-classification/versions/3"

#: Where a person reads about the set and accepts its licence, and where one gets a token.
PAGE = "https://www.kaggle.com/datasets/" + HANDLE.partition("/versions/")[0]
TOKEN = "https://www.kaggle.com/settings/api"

#: The set's class folders; `tom_jerry_0` is neither of the two, `tom_jerry_1` both.
CLASSES = ("jerry", "tom", "tom_jerry_0", "tom_jerry_1")

#: Seconds before the second and the third attempt, where a connection broke or Kaggle was busy.
DELAYS = (1, 10)


def download(cache_dir: Path) -> Path:
    """Downloads the frames once; later calls make no request, but look whether every file still has its size.

    What is missing or changed is downloaded anew. Of several processes one downloads while the others wait.

    Returns:
        The folder with Kaggle's own layout, below `cache_dir`.

    Raises:
        FileNotFoundError: The download failed; the message names the set, the cache, the reason and the way round.
    """
    folder = cache_dir / "datasets" / HANDLE  # as kagglehub lays it out
    damage: str | None = ""
    try:
        if (damage := find_damage(folder)) is None:
            return folder  # without lock and kagglehub: the cache may be read-only, and the import takes half a second
        from filelock import FileLock

        log.info("downloading %s from Kaggle into %s, or waiting for a process that does", HANDLE, cache_dir)
        with FileLock(beside(folder, "lock")):  # makes the folder, too
            if (damage := find_damage(folder)) is None:
                return folder
            if damage:
                log.warning("%s: downloading the set anew", damage)
            os.environ["KAGGLEHUB_CACHE"] = str(cache_dir)
            return fetch(folder)
    except Exception as error:  # kagglehub raises what its HTTP library and the archive's reader do
        found, copy = (f"{damage}; ", "what is left, or at a copy") if damage else ("", "a copy")
        words = f"{found}could not download {HANDLE} from Kaggle into {cache_dir}: {explain(error)[0]}"
        raise FileNotFoundError(f"{words}, or point --data.root at {copy}") from error


def beside(folder: Path, suffix: str) -> Path:
    """The file for one version's folder, as kagglehub names its archive and its mark of completeness."""
    return folder.parent.parent / f"{folder.name}.{suffix}"


def find_damage(folder: Path) -> str | None:
    """Compares the files' sizes with the manifest, which a complete folder without one gets here.

    Returns:
        None where all is well, '' where there is nothing yet, else what is wrong.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(HIDDEN)]
    found = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}
    manifest, expected = beside(folder, "manifest.json"), None
    with suppress(OSError, ValueError, RecursionError):  # there is none, or half a one
        expected = json.loads(manifest.read_text(encoding="utf-8"))
    if not expected or not isinstance(expected, dict):
        if not found or not beside(folder, "complete").exists():
            return f"{folder} is incomplete" if found else ""
        with suppress(OSError):  # a cache that cannot be written to still serves
            write_text(manifest, json.dumps(found, indent=0))
        return None
    bad = [path for path, size in expected.items() if found.get(path) != size]
    return f"{len(bad):,} of {len(expected):,} files in {folder} missing or changed, such as {bad[0]}" if bad else None


def fetch(folder: Path) -> Path:
    """Lets kagglehub download and unpack, again after transient failures; it goes on where it stopped."""
    import kagglehub  # half a second, needed only here

    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    beside(folder, "complete").unlink(missing_ok=True)  # kagglehub would take what is there
    for delay in (*DELAYS, None):
        try:
            path = Path(kagglehub.dataset_download(HANDLE))
            break
        except Exception as error:
            words, transient = explain(error)
            if not isinstance(error, OSError):  # neither network nor disk: what came is no archive, and would stay
                beside(folder, "archive").unlink(missing_ok=True)
            if delay is None or not transient:
                raise
            log.warning("%s; the next attempt comes in %d s", words, delay)
            time.sleep(delay)
    beside(folder, "manifest.json").unlink(missing_ok=True)
    find_damage(folder)  # writes the new one
    return path


def explain(error: Exception) -> tuple[str, bool]:
    """What went wrong and what to do, and whether another attempt may well succeed."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    response, inner = getattr(error, "response", None), error
    status = 0 if response is None else response.status_code
    while deeper := inner.__cause__ or inner.__context__:  # around it are addresses with signatures in them
        inner = deeper  # type: ignore[assignment]  # causes need not be Exceptions
    cause = " ".join((getattr(inner, "strerror", None) or str(inner)).split()) or type(inner).__name__
    cut_off = requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, DataCorruptionError
    if status in (408, 429) or status >= 500 or isinstance(error, cut_off):
        cause = f"status {status}" if status else cause
        return f"the download broke off ({cause}), check the network; it goes on from there", True
    words = f"{cause}; choose another folder with --data.cache_dir"
    if status == 401:
        words = f"Kaggle does not know your token (401); renew it at {TOKEN}, or remove it: the set needs none"
    elif status == 403:
        words = f"Kaggle refuses it (403); accept the licence at {PAGE} and set KAGGLE_API_TOKEN to one from {TOKEN}"
    elif status:
        words = f"Kaggle does not give it (status {status}); look at {PAGE} whether it was moved or withdrawn"
    elif not isinstance(error, OSError):
        words = f"{cause}; what had come was deleted, see to that or look at {PAGE}, and try again"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        words = "the disk is full; make room, or choose another with --data.cache_dir"
    return words, False
