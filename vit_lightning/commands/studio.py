"""`studio`: training and inference in the browser. It starts the server, and neither torch nor Streamlit itself."""

import argparse
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.files import expanded

DESCRIPTION = """Opens the studio: data, training, runs and pictures in the browser.
It starts the other commands and reads the runs' folders in lightning_logs. Ctrl-C ends it, never the runs."""

#: Through this the server learns what it was started with.
VARIABLE = "VIT_LIGHTNING_STUDIO"

#: The hosts that nobody else can reach.
OWN = ("127.0.0.1", "localhost")

#: The largest file that the browser may send, in MB.
UPLOAD_MB = 20

#: What is asked of Streamlit, whatever the user's own settings of it are.
STREAMLIT = {
    "server.headless": "true",
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.enableAgentApi": "false",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": str(UPLOAD_MB),
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "logger.level": "warning",
    "global.developmentMode": "false",
    "runner.postScriptGC": "false",  # a full collection a second, over all of torch, would take half a processor core
}

#: Seconds until the server has to answer; an old disk reads Streamlit slowly.
PATIENCE = 90.0


def main(arguments: Sequence[str]) -> int:
    """Runs the server until it is ended; gives the exit status."""
    options = parse(arguments)
    if importlib.util.find_spec("streamlit") is None:
        raise ValueError("studio needs streamlit: pip install 'vit-lightning[studio]', or -e '.[studio]'")
    check_port(options.host, options.port)
    if options.expose:
        print(
            f"warning: whoever reaches port {options.port} of {options.host} can start trainings, see the pictures "
            "below the roots and delete runs; there is no password",
            file=sys.stderr,
        )
    return serve(options)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options.

    Raises:
        ValueError: A host that others can reach without `--expose`, or a root that is no folder.
    """
    parser = LineParser(prog="cli.py studio", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--port", type=whole(1), default=8501, help="default: %(default)s")
    add("--host", default=OWN[0], help="another than 127.0.0.1 only together with --expose (default: %(default)s)")
    add("--expose", action="store_true", help="let others in, without a password, as a container needs it")
    text = "folder below which data may be chosen; several may be given (default: the working folder)"
    add("--root", action="append", metavar="DIR", help=text)
    options = parser.parse_args(arguments)
    if options.port > 65535:
        raise ValueError(f"--port is {options.port}; expected a number up to 65535")
    if options.host not in OWN and not options.expose:
        raise ValueError(
            f"--host {options.host} would let others use the studio, and there is no password; from another machine "
            f"take ssh -L {options.port}:127.0.0.1:{options.port} HOST, or add --expose"
        )
    if options.expose and options.host in OWN:
        options.host = "0.0.0.0"
    options.root = [expanded(name).resolve() for name in options.root or ["."]]
    for root in options.root:
        if not root.is_dir():
            raise ValueError(f"--root {root} is no folder; give the one below which your data are")
    return options


def check_port(host: str, port: int) -> None:
    """Refuses a port that is taken, which the server would answer with a trace.

    Raises:
        ValueError: It cannot be listened to.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
            tried.listen()
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or error
        raise ValueError(f"the studio cannot listen on {host}:{port} ({why}); choose another --port") from error


def serve(options: argparse.Namespace) -> int:
    """Starts the server, says where it is once it answers, and ends with it."""
    told = {"roots": [str(root) for root in options.root]}
    settings = STREAMLIT | {"server.address": options.host, "server.port": str(options.port)}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    if not options.expose:  # a foreign name that leads to this machine is no way in either (DNS rebinding)
        words += [word for host in OWN for word in ("--server.allowedHosts", host)]
    command = [sys.executable, "-m", "vit_lightning.studio.server", *words]
    # The pipe is never written to: it closes when this process is gone, however it ends, and the server ends, too.
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ | {VARIABLE: json.dumps(told)}
    )
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        server.terminate()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        shown = OWN[0] if options.host == "0.0.0.0" else options.host
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{options.port}"
        if wait_until_it_answers(url, server):
            print(f"the studio is on {url} (Ctrl-C ends it, never the runs)", flush=True)
        while server.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                server.wait(0.5)
            if received and server.poll() is None and not patient(server):
                server.kill()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if server.poll() is None:
            server.kill()
    if received:
        return 130 if received[0] == signal.SIGINT else 128 + signal.SIGTERM
    raise ValueError(f"the studio's server ended by itself (status {server.returncode}); start it again, runs go on")


def patient(server: "subprocess.Popen[bytes]") -> bool:
    """Whether a server that was asked to end does so."""
    with suppress(subprocess.TimeoutExpired):
        server.wait(5.0)
    return server.poll() is not None


def wait_until_it_answers(url: str, server: "subprocess.Popen[bytes]") -> bool:
    """Whether the server is up before it ends or patience does."""
    began = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands before one's own machine
    while server.poll() is None and time.monotonic() - began < PATIENCE:
        with suppress(OSError), opener.open(f"{url}/_stcore/health", timeout=2):
            return True
        time.sleep(0.1)
    return False
