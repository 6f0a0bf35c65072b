"""The command line's front door: help, listings and mistakes are answered before torch is imported."""

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from vit_lightning import __version__

COMMANDS = {
    "fit": "train a model: --config configs/demo.yaml",
    "validate": "score a run on its validation images",
    "test": "score a run on its test images",
    "predict": "label images with a run: --images PATH ...",
    "check": "look for mistakes before an hour is spent: --config ...",
    "folds": "every fold and seed, one report over every image: --config ...",
    "sweep": "a grid or a search, on any number of machines: --grid KEY=a,b,c",
    "export": "a run as a file for others: --format onnx",
    "serve": "an exported run behind HTTP, without torch: --run RUN",
    "promote": "a run becomes champion, if it is really better: RUN",
    "retrain": "pictures have come: a new run, a new champion? --config ...",
    "studio": "all of this in the browser, on this machine",
    "runs": "list the runs; `runs show RUN`, `runs compare RUN RUN`",
}

USAGE = """usage: cli.py COMMAND [options]

Train a plain Vision Transformer from scratch on a folder of images, and use it.

commands:
{commands}

examples:
  python cli.py fit --config configs/demo.yaml
  python cli.py fit --config configs/folder.yaml --data.root PATH
  python cli.py predict --images PATH
  tensorboard --logdir lightning_logs

RUN is a run's name, its folder or a .ckpt file; left out, the latest finished
run; `best` is the best of its kind, `champion` what `promote` made it.
`COMMAND --help` lists all options; --debug shows the trace of an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: What follows the program's name; left out, the process's own.

    Returns:
        The exit status: 0, 2 for a mistake in what was asked, 1 for an unexpected error, images that `predict` could
        not read or a failure that `check` found, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a terminal that does not know all of a name's signs
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
        print(USAGE.format(commands=lines))
        return 0
    if command == "--version":
        print(f"vit_lightning {__version__}")
        return 0
    try:
        if command not in COMMANDS:
            near = difflib.get_close_matches(command, COMMANDS, n=1)
            instead = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
            raise ValueError(f"there is no command {command!r}; {instead}")
        module = importlib.import_module(
            f"vit_lightning.commands.{command}"
        )  # torch, unless it is `runs`, `folds`, `sweep`, `serve`, `promote`, `retrain` or `studio`
        status: int = module.main(words[1:])
        return status
    except KeyboardInterrupt:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # one of several processes of a run says it
            print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        from vit_lightning.progress import told

        expected = isinstance(error, ValueError | OSError)
        text = told(error)
        report(text if expected else f"{type(error).__name__}: {text} (unexpected; --debug shows where)")
        return 2 if expected else 1


def report(message: str) -> None:
    """Shows an error as one line, in the run's log too where there is one."""
    import logging

    from vit_lightning.progress import LOGGER, is_set_up, legible

    if is_set_up():
        logging.getLogger(LOGGER).error("%s", message)  # escapes what a terminal would obey
    else:
        print(f"error: {legible(message)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
