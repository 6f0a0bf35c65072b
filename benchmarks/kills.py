"""Kills real fits at random moments, goes on with them, and compares what they end with: `python -m benchmarks.kills`.

A run is trained without a break; then the same run again and again, each time killed after a random while by SIGKILL,
SIGTERM or SIGINT in turn and taken up again, until so many kills are done. After each kill every checkpoint has to load
and every record to be whole; after SIGTERM and SIGINT the last checkpoint may be one step behind; and each run has to
end with the weights, the optimizer and the history of the unbroken one, to the bit.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vit_lightning.data.demo import draw_demo
from vit_lightning.runs import LOG_FOLDER, read_numbers, read_status

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

FIT = (
    *("--model.image_size=[16,32]", "--model.patch_size=8", "--model.dim=32", "--model.depth=2", "--model.heads=2"),
    *("--model.dropout=0.1", "--data.batch_size=16", "--data.val_fraction=0.25", "--data.num_workers=0"),
    *("--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.log_every_n_steps=5"),
)


@dataclass
class Campaign:
    """What came of the kills.

    Args:
        folder: Where everything is left.
        options: Of `fit`.
        random: Of the moments.
    """

    folder: Path
    options: tuple[str, ...]
    random: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def logs(self) -> Path:
        """The folder of runs."""
        return self.folder / LOG_FOLDER

    def start(self, run: str) -> subprocess.Popen[str]:
        """Begins a run, or goes on with what there is of it."""
        new = not (self.logs / run / "config.yaml").is_file()
        words = [f"--run={run}", *self.options] if new else [f"--resume={run}"]
        command = [sys.executable, "-m", "vit_lightning.cli", "fit", *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c
        )

    def whole(self, run: str) -> float:
        """Trains without a break; gives the seconds."""
        began = time.perf_counter()
        process = self.start(run)
        _, errors = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"the unbroken run failed: {errors}")
        return time.perf_counter() - began

    def broken(self, run: str, longest: float, most: int) -> None:
        """Trains with breaks, of which there are at most so many, each within so many seconds."""
        while True:
            process = self.start(run)
            number = SIGNALS[self.kills.total() % len(SIGNALS)]
            if self.kills.total() < most:
                try:
                    process.wait(self.random.uniform(0.0, longest))
                except subprocess.TimeoutExpired:
                    process.send_signal(number)
            output, errors = process.communicate()
            if process.returncode == 0:
                return
            self.kills[signal.Signals(number).name] += 1
            self.look(run, number, process.returncode, output, errors)
            finished = read_status(self.logs / run / "status.json").get("state") == "finished"
            if finished or self.lost:  # the signal may come when all is done
                return

    def look(self, run: str, number: int, status: int, output: str, errors: str) -> None:
        """Looks at what a kill has left."""
        folder = self.logs / run
        moment = "before the first step" if "training on" not in output else "while it trained"
        self.told[moment] += 1
        if "Traceback" in errors and moment != "before the first step":
            self.lost.append(f"{run}: a trace: {errors}")
        if status not in (-number, 128 + number):
            self.lost.append(f"{run}: status {status} after {number}: {errors}")
        steps: dict[str, int] = {}
        for path in folder.glob("checkpoints/[!.]*"):
            try:
                steps[path.name] = torch.load(path)["global_step"]
            except Exception as error:
                self.lost.append(f"{run}: {path.name} cannot be read: {error}")
        said = re.search(r"interrupted after (\d+) steps", output)
        if said and int(said[1]) - max(steps.values(), default=0) > 1:
            self.lost.append(f"{run}: {said[0]}, but the checkpoints hold {steps}")
        if (folder / "status.json").is_file():
            json.loads((folder / "status.json").read_text())
        for name, column in (("history.csv", "epoch"), ("learning_rate.csv", "step")):
            found = [row[column] for row in read_numbers(folder / name)]
            if found != [found[0] + place for place in range(len(found))]:
                self.lost.append(f"{run}: {name} has gaps: {found}")

    def compare(self, run: str, whole: str) -> None:
        """Holds a run that was broken against the unbroken one."""
        ours, theirs = self.logs / run, self.logs / whole
        for name in ("history.csv", "learning_rate.csv", "split.csv"):
            if (ours / name).read_bytes() != (theirs / name).read_bytes():
                self.lost.append(f"{run}: another {name}")
        for name in ("best.ckpt", "last.ckpt"):
            first, second = (torch.load(folder / "checkpoints" / name) for folder in (ours, theirs))
            for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step"):
                if not same(first.get(key), second.get(key)):
                    self.lost.append(f"{run}: another {key} in {name}")


def hear_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def same(first: Any, second: Any) -> bool:  # noqa: ANN401  # whatever a checkpoint holds
    """Whether two states are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def campaign(folder: Path, kills: int, seed: int, options: tuple[str, ...] = (), epochs: int = 15) -> Campaign:
    """Trains a run without a break and others with so many, and compares."""
    draw_demo(folder / "data", clips=24, size=(36, 64))
    words = (*FIT, f"--data.root={folder / 'data'}", f"--trainer.max_epochs={epochs}", "--save_every=0.02", *options)
    done = Campaign(folder, words, random.Random(seed))
    seconds = done.whole("whole")
    number = 0
    while done.kills.total() < kills and not done.lost:
        number += 1
        done.broken(f"broken-{number}", 0.8 * seconds, kills)
        if not done.lost:
            done.compare(f"broken-{number}", "whole")
            print(f"run {number} is the unbroken one after {done.kills.total()} kills", flush=True)
    return done


def main() -> None:
    """Prints what was killed when, and what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each round (default 50)")
    parser.add_argument("--rounds", type=int, default=3, help="with other moments each (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round's moments (default 0)")
    asked = parser.parse_args()
    for turn in range(asked.rounds):
        options = ("--model.ema=0.9",) if turn % 2 else ()
        with tempfile.TemporaryDirectory() as folder:
            done = campaign(Path(folder), asked.kills, asked.seed + turn, options)
        print(f"round {turn + 1}: {dict(done.kills)}, {dict(done.told)}; lost: {done.lost or 'nothing'}", flush=True)
        if done.lost:
            sys.exit(1)


if __name__ == "__main__":
    main()
