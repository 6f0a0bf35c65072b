"""onnxruntime-web, by which a browser runs a model: fetched from npm's registry at export, and known by its hash."""

import base64
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from vit_lightning.files import kept_in, replacing
from vit_lightning.progress import told, track

#: The version that the page was tried with, the hash that npm's registry has of it, and its bytes.
VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
SIZE = 33_106_585

#: Of its many builds the smallest that runs everywhere, on the processor.
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

#: npm's own registry, where nothing else is set up.
REGISTRY = "https://registry.npmjs.org"

#: Seconds without an answer after which the registry is given up.
SILENCE = 30.0

#: Bytes that are fetched at a time.
CHUNK = 1 << 18


def find_runtime(cache_dir: Path, given: Path | None = None) -> Path:
    """The package as an archive: the file given, or a copy in the cache folder that is fetched once.

    Raises:
        ValueError: It cannot be fetched, or is another file; the message says how to give it by hand.
    """
    if given is not None:
        if not given.is_file():
            raise ValueError(f"--runtime {given} does not exist; {by_hand()}")
        check_hash(given, f"--runtime {given}")
        return given
    kept = cache_dir / "runtime" / f"onnxruntime-web-{VERSION}.tgz"
    if kept.is_file() and integrity(kept) == INTEGRITY:
        return kept
    with kept_in(kept.parent, "onnxruntime-web", f"free it, or {by_hand()}"):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.touch()
            url = f"{registry()}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
            with track(f"fetching onnxruntime-web {VERSION} ({SIZE / 1e6:.0f} MB)", total=SIZE) as advance:
                download(url, temporary, advance)
            check_hash(temporary, f"what {urlsplit(url).hostname} has sent")
    return kept


def by_hand() -> str:
    """How to get the package where there is no network."""
    return f"`npm pack onnxruntime-web@{VERSION}` on another machine makes the file for --runtime FILE.tgz"


def registry() -> str:
    """The address that npm is set up to fetch from: by the environment, by its own files, or its default."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if address := os.environ.get(name):
            return address.rstrip("/")
    npm = shutil.which("npm")
    if npm is not None:
        asked = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False)
        address = asked.stdout.strip().rstrip("/")
        if asked.returncode == 0 and address.startswith("http"):
            return address
    return REGISTRY


def download(url: str, path: Path, advance: Callable[[int], None]) -> None:
    """Fetches the archive, and no more bytes than it has.

    Raises:
        ValueError: The registry does not answer, has no such file or breaks off.
    """
    try:
        with urllib.request.urlopen(url, timeout=SILENCE) as answer, path.open("wb") as file:
            done = 0
            while done <= SIZE and (chunk := answer.read(CHUNK)):
                done += file.write(chunk)
                advance(len(chunk))
    except (OSError, ValueError, http.client.HTTPException) as error:  # of urllib, ssl and http
        raise ValueError(
            f"onnxruntime-web cannot be fetched from {urlsplit(url).hostname} ({told(error)}); {by_hand()}"
        ) from error


def integrity(path: Path) -> str:
    """A file's hash as npm writes it."""
    with path.open("rb") as file:
        return f"sha512-{base64.b64encode(hashlib.file_digest(file, 'sha512').digest()).decode()}"


def check_hash(path: Path, what: str) -> None:
    """Refuses any other file.

    Raises:
        ValueError: It has another hash.
    """
    if (found := integrity(path)) != INTEGRITY:
        raise ValueError(
            f"{what} is not onnxruntime-web {VERSION}: its hash is {found[:20]}..., expected {INTEGRITY[:20]}...; "
            f"nothing of it was used; {by_hand()}"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Writes the needed files of a checked archive into a folder, and the licence beside them."""
    import onnxruntime

    with tarfile.open(archive) as package:
        for name in FILES:
            content = package.extractfile(f"package/dist/{name}")
            assert content is not None, "the hash was checked"
            (folder / name).write_bytes(content.read())
    # The package for browsers comes without; the one for Python, which is built from the same source, has both.
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copyfile(Path(onnxruntime.__file__).parent / name, folder / f"onnxruntime-{name}")
