"""Whether sweeps lose nothing and do nothing twice when their processes are killed, and whether pruning pays.

    python -m benchmarks.sweeps workers [--workers 20] [--points 200] [--storage journal | postgres | URL]
    python -m benchmarks.sweeps killed
    python -m benchmarks.sweeps pruned [--seeds 3]

`workers`: processes share the points of a grid whose trials take a few milliseconds; half of the processes are killed
by -9 at random moments. Every point has to end once: the storage says so, and so does a file to which a process adds a
line for each end that it wrote.

`killed`: the six-run grid of the demo, shortened, is killed twice, the second time together with its trainings, and
repeated. Six trials have to be through, each a run that went through its epochs once.

`pruned`: all twelve points of a grid on the demo, and a search over the same points that prunes. The search's choice is
held against the grid's best, paired over the clips of the validation part, and its epochs against the grid's.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from benchmarks.postgres import postgres
from vit_lightning.evaluation.compare import Comparison, Predictions, compare, read_table
from vit_lightning.runs import read_json
from vit_lightning.sweep.space import parse_grid
from vit_lightning.sweep.storage import open_storage
from vit_lightning.sweep.study import FINISHED, OPEN, Plan, Study

ROOT = Path(__file__).parent.parent

#: Of the workers' study.
NAME = "trivial"


# Workers


def trivial_plan(points: int) -> Plan:
    """A grid of so many points, of two options."""
    return Plan(
        parse_grid([f"a={','.join(map(str, range(points // 4)))}", "b=0,1,2,3"]), None, asked={"points": points}
    )


def worker(folder: Path, storage: str | None, points: int) -> None:
    """Takes points until none is left, and adds a line for each end that it wrote to the file `ended`."""
    study = Study(NAME, folder, open_storage(folder, storage, NAME), trivial_plan(points))
    draw = random.Random(os.getpid())
    while True:
        claim = study.claim()
        if claim is None:
            if not study.trials(OPEN):
                break
            time.sleep(0.2)
            continue
        time.sleep(draw.uniform(0.0, 0.05))
        if study.finish(claim, TrialState.COMPLETE, float(claim.number)):
            with (folder / "ended").open("a") as file:
                file.write(json.dumps(claim.point) + "\n")
    study.close()


def workers(folder: Path, storage: str | None, count: int, points: int, seed: int = 0) -> dict[str, float]:
    """Starts workers, kills half of them, and looks at what they leave.

    Args:
        folder: Of the study.
        storage: A database's URL, or None for a journal.
        count: How many workers.
        points: How many points.
        seed: Of the moments.

    Returns:
        Counts of `points`, `finished` trials, `lost` points, points finished `twice`, and of the `killed`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(NAME, folder, open_storage(folder, storage, NAME), trivial_plan(points))  # so that all begin at once
    began = time.perf_counter()
    words = [sys.executable, "-m", "benchmarks.sweeps", "worker", f"--folder={folder}", f"--points={points}"]
    words += [] if storage is None else [f"--storage={storage}"]
    running = [subprocess.Popen(words, cwd=ROOT) for _ in range(count)]
    draw, killed = random.Random(seed), 0
    victims = draw.sample(running, count // 2)
    for number, victim in enumerate(victims, start=1):
        # Spread over the middle of the work, however fast this machine is.
        while len(study.trials(FINISHED)) < points * number / (len(victims) + 2) and victim.poll() is None:
            time.sleep(0.1)
        time.sleep(draw.uniform(0.0, 0.1))
        victim.kill()
        killed += victim.wait() == -signal.SIGKILL
    codes = [process.wait() for process in running]
    assert all(code == 0 for process, code in zip(running, codes, strict=True) if process not in victims), codes
    trials = study.trials()
    study.close()
    done = Counter(json.dumps(trial.params) for trial in trials if trial.state == TrialState.COMPLETE)
    lines = (folder / "ended").read_text().splitlines()
    return {
        "points": points,
        "finished": sum(done.values()),
        "lost": points - len(done),
        "twice": sum(count > 1 for count in (done + Counter()).values())
        + sum(count > 1 for count in Counter(lines).values())
        + (len(trials) - points),
        "killed": killed,
        "seconds": round(time.perf_counter() - began, 1),
    }


# Commands

#: A demo small enough to be trained in seconds.
SMALL = [
    f"--config={ROOT / 'configs' / 'demo.yaml'}",
    *("--model.image_size=48", "--model.patch_size=8", "--model.dim=48", "--data.num_workers=0"),
    *("--data.val_fraction=0.2", "--data.subset=300", "--trainer.accelerator=cpu"),
]


def sweep(folder: Path, name: str, *words: str) -> list[str]:
    """The command of a sweep."""
    place = f"--trainer.default_root_dir={folder}"
    return [sys.executable, str(ROOT / "cli.py"), "sweep", place, f"--run={name}", *words]


def killed(folder: Path, options: Sequence[str] = SMALL, epochs: int = 4) -> dict[str, float]:
    """Kills a sweep of six runs twice, the second time with its training, and repeats it.

    Args:
        folder: For the runs.
        options: Of `fit`.
        epochs: Of each run; four at least, as the kills come in the second.

    Returns:
        How many trials there are, finished ones, and runs; whether each run has each epoch once; of the `kills`, how
        many came while a run was trained.
    """
    logs, grid = folder / "lightning_logs", ("--grid=model.depth=1,2,3", "--grid=model.lr=1e-3,5e-4")
    command = sweep(folder, "six", *options, *grid, f"--trainer.max_epochs={epochs}")
    began, kills = time.perf_counter(), 0
    for runs, whole in ((2, False), (4, True)):
        process = subprocess.Popen(command, start_new_session=True)
        history = logs / f"six-{runs:03}" / "history.csv"
        while process.poll() is None and not (history.is_file() and len(history.read_text().splitlines()) > 2):
            time.sleep(0.1)
        kills += process.poll() is None
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()  # the training goes on by itself
        process.wait()
    subprocess.run(command, check=True)
    with (logs / "six" / "trials.csv").open(newline="", encoding="utf-8") as file:
        trials = list(csv.DictReader(file))
    tables = [(logs / trial["run"] / "history.csv").read_text().splitlines()[1:] for trial in trials]
    whole_runs = [[row.split(",")[0] for row in table] == [str(e + 1) for e in range(epochs)] for table in tables]
    return {
        "trials": len(trials),
        "finished": sum(trial["state"] == "done" for trial in trials),
        "runs": len(list(logs.glob("six-*/status.json"))),
        "whole": sum(whole_runs),
        "kills": kills,
        "seconds": round(time.perf_counter() - began, 1),
    }


def pruned(folder: Path, seed: int) -> dict[str, float]:
    """All points of a grid, and a search over them that prunes.

    Returns:
        Epochs of both, how many points of the grid are `bad` (ten points of accuracy or more below the best), and the
        accuracy of the search's choice less that of the grid's best, with its interval and whether it is really worse.
    """
    began = time.perf_counter()
    ways = ("model.lr=1e-6,1e-3,3e-3,0.1", "model.depth=1,2,3")
    common = ("--trainer.max_epochs=12", f"--seed_everything={seed}")
    results: dict[str, dict[str, Any]] = {}
    for kind, more in (("grid", ()), ("search", ("--trials=12",))):
        name = f"{kind}-{seed}"
        words = [*SMALL, *(f"--{kind}={way}" for way in ways), *more, *common]
        subprocess.run(sweep(folder, name, *words), check=True)
        results[kind] = read_json(folder / "lightning_logs" / name / "sweep.json")
    with (folder / "lightning_logs" / f"grid-{seed}" / "trials.csv").open(newline="", encoding="utf-8") as file:
        scores = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    found = compare_choices(folder, results["grid"]["best"]["run"], results["search"]["best"]["run"])
    low, high = found.accuracy_difference or (float("nan"), float("nan"))
    return {
        "grid_epochs": results["grid"]["trials"]["epochs"],
        "search_epochs": results["search"]["trials"]["epochs"],
        "share": results["search"]["trials"]["epochs"] / (12 * 12),
        "bad": 12 - sum(score > max(scores) - 0.1 for score in scores),
        "grid_best": results["grid"]["best"]["val/acc"],
        "search_best": results["search"]["best"]["val/acc"],
        "difference": found.accuracy[1] - found.accuracy[0],
        "low": low,
        "high": high,
        "really_worse": float(found.real and found.accuracy[1] < found.accuracy[0]),
        "seconds": round(time.perf_counter() - began, 1),
    }


def compare_choices(folder: Path, grid: str, search: str) -> Comparison:
    """Two runs on the validation images, by what their sweeps have kept of them."""
    rows = []
    for run in (grid, search):
        table = folder / "lightning_logs" / run.rpartition("-")[0] / "predictions" / f"{run}.csv"
        rows.append(Predictions(run, read_table(table), ()))
    return compare(rows[0], rows[1], list(rows[0].rows))


def main() -> None:
    """One campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=("workers", "worker", "killed", "pruned"))
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--storage", default=None)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.campaign == "worker":
        worker(asked.folder, asked.storage, asked.points)
        return
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        storage = None if asked.storage == "journal" else asked.storage
        if storage == "postgres":
            storage = stack.enter_context(postgres())
        if asked.campaign == "workers":
            found = workers(folder, storage, asked.workers, asked.points)
            good = not found["lost"] and not found["twice"]
            show(found)
        elif asked.campaign == "killed":
            found = killed(folder)
            good = [found[name] for name in ("trials", "finished", "runs", "whole", "kills")] == [6, 6, 6, 6, 2]
            show(found)
        else:
            good = True
            for seed in range(asked.seeds):
                found = pruned(folder, seed)
                good = good and not found["really_worse"] and found["share"] <= 0.5 and found["bad"] >= 4
                show({"seed": seed, **found})
    if asked.json:
        print(json.dumps(found))
    sys.exit(not good)


def show(found: dict[str, float]) -> None:
    """A line a number."""
    for name, value in found.items():
        print(f"{name:14} {value:g}", flush=True)


if __name__ == "__main__":
    main()
