"""`serve`: an exported run behind HTTP. No torch in here: where there is no file yet, `export` is another process."""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vit_lightning.arguments import shown
from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.files import expanded
from vit_lightning.registry import CHAMPION, champion_file
from vit_lightning.runs import LOG_FOLDER, find_checkpoint, find_run, run_of

DESCRIPTION = """Answers over HTTP what pictures show, with a model that was exported; where it was not, it is first.
The environment variable VIT_LIGHTNING_TOKEN has a token that is asked for. Ctrl-C or SIGTERM ends it."""

#: The environment variable with the token.
TOKEN = "VIT_LIGHTNING_TOKEN"

#: The hosts that nobody else can reach, and the names that lead to them.
OWN = ("127.0.0.1", "localhost", "::1")

#: Packages that are needed, by the names that they are imported by.
NEEDED = ("fastapi", "uvicorn", "onnxruntime", "prometheus_client", "python_multipart")


def main(arguments: Sequence[str]) -> int:
    """Serves until it is ended; gives the exit status."""
    options = parse(arguments)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"serve needs {' and '.join(missing)}: pip install 'vit-lightning[serve]', or -e '.[serve]'")
    token = os.environ.get(TOKEN, "")
    check_reach(options, token)
    from vit_lightning.serve.app import Service, application
    from vit_lightning.serve.limits import Limits
    from vit_lightning.serve.model import WatchedModel, name_of
    from vit_lightning.serve.server import listening, run, set_up_logging

    place = listening(options.host, options.port)
    with place:
        set_up_logging()
        model = WatchedModel(finder(options))
        limits = Limits(options.max_mb, options.max_megapixels, options.max_files, options.timeout)
        service = Service(
            model,
            limits,
            batch=options.max_batch,
            queue=options.queue,
            threads=options.threads or cores(),
            window=options.window,
        )
        hosts = OWN if options.host in OWN else ()  # a foreign name that leads here is no way in (DNS rebinding)
        app = application(service, token=token, hosts=hosts)
        shown_host = OWN[0] if options.host in ("0.0.0.0", "::") else options.host
        url = f"http://{f'[{shown_host}]' if ':' in shown_host else shown_host}:{place.getsockname()[1]}"
        classes = len(model.current.class_names)
        print(f"{name_of(model.current)} ({classes} classes) is on {url} (Ctrl-C ends it)", flush=True)
        return run(app, service.state, place, patience=options.drain)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options.

    Raises:
        ValueError: Both a run and a file, or a port that is none.
    """
    parser = LineParser(prog="cli.py serve", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--run", default=None, help="a run's name, its folder, `best` or `champion`; left out, the latest finished run")
    add("--model", default=None, metavar="FILE", help="a .onnx file that `export` has written, in the place of a run")
    add("--port", type=whole(0), default=8000, help="0 is any that is free (default: %(default)s)")
    add("--host", default=OWN[0], help="another only with a token or --expose (default: %(default)s)")
    add("--expose", action="store_true", help="let others in, without a token, too, as a container needs it")
    add("--threads", type=whole(1), default=None, help="processor cores to answer with (default: all)")
    add("--max-batch", type=whole(1), default=16, help="pictures answered together (default: %(default)s)")
    add("--queue", type=whole(1), default=128, help="pictures that may wait (default: %(default)s)")
    add("--max-mb", type=positive, default=20, help="megabytes of a request (default: %(default)s)")
    add("--max-megapixels", type=positive, default=24, help="million pixels of a picture (default: %(default)s)")
    add("--max-files", type=whole(1), default=32, help="pictures of a request (default: %(default)s)")
    add("--timeout", type=positive, default=30, help="seconds until a request's answer (default: %(default)s)")
    add("--drain", type=positive, default=30, help="seconds for open requests in the end (default: %(default)s)")
    text = "answers that /metrics compares with those on held-out pictures (default: %(default)s)"
    add("--window", type=whole(1), default=1000, help=text)
    add("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run is not None and options.model is not None:
        raise ValueError("--run and --model are both given; one of them says what answers")
    if options.model is not None and not expanded(options.model).is_file():
        raise ValueError(f"--model {options.model} is no file; give a .onnx that `export` has written, or a --run")
    if options.port > 65535:
        raise ValueError(f"--port is {options.port}; expected a number up to 65535")
    if options.queue < options.max_files:
        raise ValueError(f"--queue is {options.queue}, and a request may have {options.max_files} pictures; raise it")
    return options


def positive(text: str) -> float:
    """The type of an option that takes a positive number.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"is {shown(text)}; expected a number above 0")
    return number


def check_reach(options: argparse.Namespace, token: str) -> None:
    """Lets others in only where that was asked for.

    Raises:
        ValueError: A host that others can reach, with neither a token nor `--expose`; or a token that cannot be sent.
    """
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ValueError(f"{TOKEN} holds signs that no header can carry; take letters and digits")
    if options.host not in OWN and not options.expose and not token:
        raise ValueError(
            f"--host {options.host} would let others ask, and there is no token; set {TOKEN}, or add --expose"
        )
    if options.expose and options.host in OWN:
        options.host = "0.0.0.0"
    if options.expose and not token:
        print(
            f"warning: whoever reaches port {options.port} of {options.host} may ask; {TOKEN} would set a token",
            file=sys.stderr,
        )


def finder(options: argparse.Namespace) -> Callable[[], Path]:
    """What says where the model's file is; the champion's is another one after a promotion.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: It has no folder, or could not be exported.
    """
    if options.run == CHAMPION:
        logs = Path(options.root) / LOG_FOLDER
        return lambda: champion_file(logs)
    path = expanded(options.model) if options.model else exported(options.run, options.root)
    return lambda: path


def exported(run: str | None, root: str) -> Path:
    """The ONNX file of a run; where there is none, `export` writes it first.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: It has no folder, or could not be exported.
    """
    logs = Path(root) / LOG_FOLDER
    if run is None or run == "best" or run.endswith(".ckpt"):
        folder = run_of(find_checkpoint(run, logs)[0])
    else:
        folder = find_run(run, logs).folder  # no checkpoint has to be left
    if folder is None:
        raise ValueError(f"{run} lies in no run's folder; export it, and give the file with --model")
    path = folder / "export" / "model.onnx"
    if not path.is_file():
        print(f"{folder.name} has no export/model.onnx yet", flush=True)
        command = [sys.executable, "-m", "vit_lightning.cli", "export", f"--run={folder}"]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise ValueError(f"{folder.name} could not be exported (status {done.returncode})")
    return path


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
