"""From the command to the first thing it does: seconds of whole processes.

    python -m benchmarks.startup [--frames FOLDER] [--rounds 7] [--json]

`first step` is from the start of `fit` to the end of its first batch, the pictures decoded before; `fit, one step` is
that whole command, which then writes the run's record. Packages that torchmetrics imports where it finds them, such as
transformers, take seconds: measure without the extra `bench`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lightning.pytorch import Callback

from benchmarks.measure import arguments, finish
from benchmarks.pictures import folder_of_frames

CLI = Path(__file__).parent.parent / "cli.py"


class FirstStep(Callback):
    """Notes when the first batch is over."""

    def on_train_batch_end(self, *_: object) -> None:
        """A batch is over; there is one."""
        Path("first_step").write_text(str(time.time()))


def seconds(folder: str, *words: str) -> float:
    """Of one command, in a folder of its own."""
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(CLI.parent)}
    command = [sys.executable, str(CLI), *words]
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return time.perf_counter() - began


def main() -> None:
    """Measures, and prints what came out."""
    options = arguments(__doc__, rounds=7)
    with folder_of_frames(options.frames) as root, tempfile.TemporaryDirectory() as folder:
        step = ["fit", f"--data.root={root.resolve()}", f"--data.cache_dir={folder}/cache"]
        step += ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
        step += ["--trainer.callbacks+=benchmarks.startup.FirstStep"]
        commands = {"--help": ["--help"], "runs": ["runs"], "unknown": ["fti"], "predict --help": ["predict", "--help"]}
        commands["fit, one step"] = step
        times: dict[str, list[float]] = {name: [] for name in (*commands, "first step")}
        for counted in (False, *[True] * options.rounds):
            for name, words in commands.items():
                began = time.time()
                taken = seconds(folder, *words)
                if counted:
                    times[name].append(taken)
                if counted and name == "fit, one step":
                    times["first step"].append(float(Path(folder, "first_step").read_text()) - began)
    print(f"\nseconds (median, quickest and slowest of {options.rounds})")
    for name, each in times.items():
        print(f"{name:15} {statistics.median(each):6.2f}  {min(each):6.2f}  {max(each):6.2f}")
    names = {"help_s": "--help", "runs_s": "runs", "first_step_s": "first step"}
    finish(options, {key: statistics.median(times[name]) for key, name in names.items()})


if __name__ == "__main__":
    main()
