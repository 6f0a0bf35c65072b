"""From the command to the first thing it does: seconds of whole processes.

    python -m benchmarks.startup [--frames FOLDER] [--rounds 7] [--json]

`fit` is the whole command with one optimizer step and no validation, the pictures decoded before: more than the time to
the first step, by what it takes to end.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import arguments, finish
from benchmarks.pictures import folder_of_frames

CLI = Path(__file__).parent.parent / "cli.py"


def seconds(folder: str, *words: str) -> float:
    """Of one command, in an empty folder."""
    began = time.perf_counter()
    subprocess.run([sys.executable, str(CLI), *words], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - began


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, rounds=7)
    with folder_of_frames(options.frames) as root, tempfile.TemporaryDirectory() as folder:
        step = ["fit", f"--data.root={root.resolve()}", f"--data.cache_dir={folder}/cache"]
        step += ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
        commands = {"--help": ["--help"], "runs": ["runs"], "unknown": ["fti"], "predict --help": ["predict", "--help"]}
        commands["fit, one step"] = step
        times: dict[str, list[float]] = {name: [] for name in commands}
        for counted in (False, *[True] * options.rounds):
            for name, words in commands.items():
                taken = seconds(folder, *words)
                if counted:
                    times[name].append(taken)
    print(f"\nseconds of a whole command (median, quickest and slowest of {options.rounds})")
    for name, each in times.items():
        print(f"{name:15} {statistics.median(each):6.2f}  {min(each):6.2f}  {max(each):6.2f}")
    names = {"help_s": "--help", "runs_s": "runs", "first_step_s": "fit, one step"}
    finish(options, {key: statistics.median(times[name]) for key, name in names.items()})


if __name__ == "__main__":
    main()
