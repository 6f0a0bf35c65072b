"""What the command line, the constructors and the readers do with bad inputs: a line that names what is wrong, or work.

    nice python -m benchmarks.hostile [--cases 10000] [--commands 300] [--seed 1] [--only KIND]

Every case is drawn from a seed of its own: an option or a YAML that is out of range, misspelt or of another kind; a
constructor with values that it was not made for; checkpoints that are damaged, would run code or fill the memory;
tables, pictures, status files, archives and names that somebody else has made. `--cases` are read in this one process,
each within a time limit; of `--commands` further ones the real command is run, in a process each: `runs` and `folds`
in a new interpreter, the others in a copy of this process, which has imported torch already (`--fresh`: new for all).

A failure is anything but the input being taken or refused in one line of printable signs that names the argument or
the file: another exception, a trace, a hang, something executed, something written elsewhere. Each is printed with its
seed, and the exit status is then 1; `--seed SEED --cases 1 --commands 0` repeats it.
"""

import argparse
import contextlib
import io
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from benchmarks.hostile_inputs import KINDS, MARK, TINY, Case, Readers
from vit_lightning.cli import main as cli_main
from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.module import ViTClassifier
from vit_lightning.progress import LONGEST, set_up_logging, told

#: Seconds that a case, and a command with all that it has to import, may take.
LIMIT, COMMAND_LIMIT = 20, 180

#: Bytes that this process may have beyond what it has to begin with: what takes more fails here, and harms nobody.
ROOM = 6 * 2**30


#: Kinds that no command line gives.
NO_COMMAND = ("arguments", "archives")


class HungError(BaseException):
    """A case took too long; no `except Exception` of what is tested may catch it."""


def main() -> int:
    """Runs the campaign; gives 1 where there was a failure."""
    options = parse()
    set_up_logging()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        readers = prepare(Path(place))
        os.environ["XDG_CACHE_HOME"] = f"{place}/cache"
        with contextlib.chdir(place):
            kinds = [name for name, (_, share) in KINDS.items() for _ in range(share)]
            kinds = [options.only] if options.only else kinds
            failures = campaign(readers, kinds, options.seed, options.cases, commands=False)
            begin = options.seed + options.cases
            kinds = [name for name in kinds if name not in NO_COMMAND]
            failures += campaign(readers, kinds, begin, options.commands, commands=True, fresh=options.fresh)
    return int(failures > 0)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--cases", type=int, default=10_000, help="bad inputs read in this process (%(default)s)")
    parser.add_argument("--commands", type=int, default=300, help="bad inputs of the real command (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first case; the next has the next (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="a new interpreter for every command, which takes long")
    parser.add_argument("--only", choices=KINDS, help="one kind of input")
    return parser.parse_args()


def prepare(place: Path) -> Readers:
    """Pictures of two classes, a checkpoint, and the parser."""
    for label in "ab":
        (place / "data" / label).mkdir(parents=True)
        for number in range(6):
            shade = 40 * number + 100 * (label == "b")
            Image.new("RGB", (20, 16), (shade % 256, shade // 2, 90)).save(place / "data" / label / f"{number}.png")
    model = ViTClassifier(class_names=["a", "b"], **TINY)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "epoch": 0, "global_step": 3}
    content["datamodule_hyper_parameters"] = dict(ImageDataModule(root="data", image_size=16).hparams)
    torch.save(content, place / "good.ckpt")
    return Readers(place / "data", place / "good.ckpt")


def campaign(readers: Readers, kinds: list[str], seed: int, count: int, *, commands: bool, fresh: bool = False) -> int:
    """Draws and reads so many cases, tells each failure and counts what was done; gives the number of failures."""
    if count < 1:
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    began = shown = time.monotonic()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if not commands:
        resource.setrlimit(resource.RLIMIT_AS, (own_memory() + ROOM, limits[1]))
    for number in range(seed, seed + count):
        rng = random.Random(number)
        kind = rng.choice(kinds)
        folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        try:
            case = KINDS[kind][0](rng, folder, readers)
            trouble = run_command(case, folder, fresh=fresh) if commands and case.words else read(case)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if Path(MARK).exists():
            trouble = "it was executed"
            Path(MARK).unlink()
        outcome = trouble if trouble in ("taken", "refused") else "failure"
        counts[kind, outcome] += 1
        if outcome == "failure":
            print(f"FAILURE {kind} seed {number}: {case.what[:400]!a}\n    {trouble[:1500]!a}", flush=True)
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            print(f"... {number - seed + 1:,} of {count:,}", file=sys.stderr, flush=True)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    where = "commands" if commands else "inputs in one process"
    print(f"\n{count:,} {where}, {time.monotonic() - began:.0f} s")
    print(f"{'kind':12} {'taken':>7} {'refused':>8} {'failures':>9}")
    for kind in dict.fromkeys(kinds):
        print(f"{kind:12} {counts[kind, 'taken']:7,} {counts[kind, 'refused']:8,} {counts[kind, 'failure']:9,}")
    return sum(number for (_, outcome), number in counts.items() if outcome == "failure")


def own_memory() -> int:
    """Bytes of address space that this process has."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.is_file() else 2**45


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `HungError` where the block takes longer."""

    def stop(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read(case: Case) -> str:
    """Reads a case in this process: `taken`, `refused`, or what went wrong."""
    output = io.StringIO()
    try:
        with (
            limited(LIMIT),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            case.read()
    except (ValueError, OSError) as error:
        return judge(told(error), case)
    except SystemExit as end:
        return "taken" if end.code in (None, 0) else f"it ended with {end.code}"
    except HungError:
        return f"it took more than {LIMIT} s"
    except BaseException as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        return f"{type(error).__name__} at {where}: {error}"
    strange = [line for line in output.getvalue().splitlines() if not line.isprintable()]
    return f"it printed {strange[0]!a}" if strange else "taken"


def judge(line: str, case: Case) -> str:
    """`refused` where a message is one line that names what is wrong, else what it lacks."""
    if not line.strip() or "\n" in line or len(line) > LONGEST + 10:
        return f"no line: {line!a}"
    if case.named and not any(name in line for name in case.named if name):
        return f"named is none of {case.named[:6]}: {line}"
    return "refused"


def run_command(case: Case, folder: Path, *, fresh: bool) -> str:
    """Runs a case's command in a process: `taken`, `refused`, or what went wrong."""
    for name in ("data", "good.ckpt"):
        (folder / name).symlink_to(Path.cwd() / name)
    words = [word.replace("\x00", "").replace(f"{folder}/", "") for word in case.words]
    # What needs no torch is a process of its own in any case.
    status, said = (started if fresh or words[0] in ("runs", "folds") else forked)(words, folder)
    if (folder / MARK).exists():
        return "it was executed"
    if status is None:
        return f"it took more than {COMMAND_LIMIT} s: {words}"
    for sign in ("Traceback", "(unexpected"):
        if sign in said:
            return f"{sign}: {words}: {said[-1200:]}"
    if not all(line.isprintable() for line in said.replace("\t", " ").splitlines()):
        return f"it printed what a terminal obeys: {words}: {said[-1200:]!a}"
    if status == 0 or (status == 1 and "no label" in said):
        return "taken"
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if status != 2 or len(errors) != 1:
        return f"status {status}, {len(errors)} lines of error: {words}: {said[-1200:]}"
    return judge(errors[0].removeprefix("error: "), case)


def started(words: list[str], folder: Path) -> tuple[int | None, str]:
    """Exit status (None where it takes too long) and output of a command in a new interpreter."""
    command = [sys.executable, "-m", "vit_lightning.cli", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    kept = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, timeout=COMMAND_LIMIT, check=False, **kept)  # type: ignore[call-overload]  # of all three
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout.decode(errors="replace")


def forked(words: list[str], folder: Path) -> tuple[int | None, str]:
    """The same in a copy of this process, which has imported torch and Lightning already: ten seconds less each."""
    output = folder / "output.txt"
    process = os.fork()
    if process == 0:
        os.chdir(folder)
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", closefd=False) for stream in (1, 2))  # noqa: SIM115  # for good
        for name in ("vit_lightning", "lightning"):
            logging.getLogger(name).handlers.clear()
        status = 1
        try:
            status = cli_main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + COMMAND_LIMIT
    while True:
        ended, code = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(code), output.read_text(encoding="utf-8", errors="replace")
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None, ""
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
