"""`sweep`: a grid or a search over the options of `fit`, shared by any number of processes. No torch in here."""

import argparse
import importlib.util
import json
import logging
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_lightning.cli_errors import check_configs
from vit_lightning.commands.folds import config_paths, values_of
from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.files import write_text
from vit_lightning.progress import set_up_logging
from vit_lightning.runs import LOG_FOLDER, read_status, run_stem

if TYPE_CHECKING:
    from vit_lightning.sweep.space import Point, Space
    from vit_lightning.sweep.study import Plan, Study
    from vit_lightning.sweep.trial import Setup

log = logging.getLogger(__name__)

DESCRIPTION = """Trains a run a point of a grid, or a search's trials, and says which is best and whether really.
The same command goes on where it was stopped; given once more, here or on another machine, it helps.
All options of fit are taken, too. A trial's score is its best val/acc."""


def main(arguments: Sequence[str]) -> int:
    """Sweeps; gives the exit status."""
    options, passed_on = parse(arguments)
    set_up_logging()
    missing = [name for name in ("optuna", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"sweep needs {' and '.join(missing)}: pip install 'vit-lightning[sweep]', or -e '.[sweep]'")
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    from vit_lightning.sweep.space import parse_grid, parse_search

    check_options(options, passed_on)
    space = parse_grid(options.grid) if options.grid else parse_search(options.search)
    check_passed_on(passed_on, space.keys, options)
    if options.search and space.finite:
        options.trials = min(options.trials, space.size)  # one more would only repeat another
    try:
        return Sweep(options, passed_on, space).run()
    except (StorageInternalError, SQLAlchemyError) as error:
        from vit_lightning.sweep.storage import reason

        why = reason(error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error)
        raise ValueError(f"the database was lost ({why}); repeat the command to go on") from error


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of `sweep`, and those for `fit`."""
    parser = LineParser(prog="cli.py sweep", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--grid", action="append", metavar="KEY=a,b,c", help="an option and its values; given more often, the product")
    text = "an option and what to draw from: a,b,c or log:1e-4:3e-3 or lin:0:0.3 or int:2:8; several may be given"
    add("--search", action="append", metavar="KEY=...", help=text)
    add("--trials", type=whole(1), default=None, help="how many points a search draws (default: 20)")
    add("--folds", type=whole(2), default=0, help="a trial is trained on each of so many folds, its score is the mean")
    add("--seeds", type=whole(1), default=0, help="a trial is trained with the seeds 0, 1, ..., its score is the mean")
    text = "halving trains all for a sixth of the epochs, the best third up to half, and the best of those to the end; "
    text += "wilcoxon stops what is worse between folds or seeds"
    add("--pruner", choices=("halving", "wilcoxon", "none"), default=None, help=f"{text} (default for a search)")
    add("--jobs", type=whole(1), default=1, help="trainings at once on this machine (default: %(default)s)")
    add("--storage", metavar="URL", help="a database server: postgresql://USER@HOST/DATABASE (default: a file)")
    add("--run", default=None, help="the sweep's name; left out, the first config's and -sweep")
    add("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    return parser.parse_known_args(arguments)


def check_options(options: argparse.Namespace, passed_on: Sequence[str]) -> None:
    """Refuses what cannot be meant.

    Raises:
        ValueError: The option, and what it may be.
    """
    check_configs(passed_on)
    if bool(options.grid) == bool(options.search):
        found = "--grid and --search are both given" if options.grid else "there is nothing to vary"
        raise ValueError(
            f"{found}; give --grid KEY=a,b,c for all points, or --search KEY=a,b,c and --search KEY=log:1e-4:3e-3 for "
            "points that are drawn"
        )
    if options.grid and options.trials is not None:
        raise ValueError("--trials is for --search: a grid runs all its points")
    options.trials = 20 if options.search and options.trials is None else options.trials
    several = options.folds or options.seeds > 1
    if options.pruner is None:
        options.pruner = "none" if options.grid else "wilcoxon" if several else "halving"
    if options.pruner == "halving" and several:
        raise ValueError("--pruner halving compares epochs of single trainings; with --folds or --seeds take wilcoxon")
    if options.pruner == "wilcoxon" and not several:
        raise ValueError("--pruner wilcoxon compares folds or seeds; give --folds or --seeds, or take halving")
    if options.run is not None and not re.fullmatch(r"\w[\w.+-]*", options.run):
        raise ValueError(f"--run {options.run!r} cannot be a sweep's name; give a plain name such as depths")


def check_passed_on(passed_on: Sequence[str], keys: Sequence[str], options: argparse.Namespace) -> None:
    """Refuses options of `fit` that the sweep itself sets.

    Raises:
        ValueError: The option.
    """
    own = {"--resume", "--ckpt_path", "--trainer.fast_dev_run", *(["--data.fold"] if options.folds else [])}
    own |= {"--seed_everything"} if options.seeds else set()
    for word in passed_on:
        name = word.partition("=")[0]
        if name in own:
            raise ValueError(f"{name} is set by sweep for each trial, or cannot be in one; leave it out")
        if name.removeprefix("--") in keys:
            raise ValueError(f"{name} is given, and varies, too; leave one of them out")
    for key in keys:
        if f"--{key}" in own or key in ("run", "config", "trainer.default_root_dir"):
            raise ValueError(f"{key} cannot vary: sweep sets it for each trial")


class Sweep:
    """One call of the command.

    Args:
        options: Its own.
        passed_on: Those for `fit`.
        space: What varies.
    """

    def __init__(self, options: argparse.Namespace, passed_on: Sequence[str], space: "Space") -> None:
        self.options, self.passed_on, self.space = options, list(passed_on), space
        self.name = options.run or f"{run_stem(config_paths(passed_on))}-sweep"
        self.logs = Path(options.root) / LOG_FOLDER
        self.place = () if options.root == "." else (f"--trainer.default_root_dir={options.root}",)

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.logs / self.name

    def run(self) -> int:
        """Runs what is there to be run, and reports; gives the exit status."""
        from vit_lightning.sweep.storage import has_study, open_storage
        from vit_lightning.sweep.study import Study
        from vit_lightning.sweep.table import Table
        from vit_lightning.sweep.worker import Worker

        found, there = None, self.runs_there()
        if not has_study(self.folder, self.options.storage, self.name):
            self.check_names(there, begun=())
            found = self.try_out(self.space.trials())  # nothing is written before this is through
        self.folder.mkdir(parents=True, exist_ok=True)
        study = Study(self.name, self.folder, open_storage(self.folder, self.options.storage, self.name), self.plan())
        try:
            self.check_names(there, begun=study.begun())
            found = found or self.try_out(self.space.trials()[:1])
            epochs = study.agree_on("epochs", found["epochs"])
            setup = self.setup(epochs, found["gpus"])
            wanted = self.options.trials or self.space.size
            self.set_pruner(study, epochs, wanted)
            log.info("sweep %s of %d trials, kept in %s", self.name, wanted, study.storage.where)
            status = Worker(study, setup, Table(setup, wanted)).work()
            if status:
                log.warning("stopped; the same command goes on")
                return status
            return report(study, setup, self.passed_on)
        finally:
            study.close()

    def plan(self) -> "Plan":
        """What is asked for, in the form in which processes agree on it."""
        from vit_lightning.sweep.study import Plan

        options = self.options
        seeds = values_of(self.passed_on, "--seed_everything")
        asked = {"grid": options.grid, "search": options.search, "trials": options.trials}
        asked |= {"options": self.passed_on, "pruner": options.pruner}
        asked |= {"folds": options.folds or None, "seeds": options.seeds or None}
        seed = int(seeds[-1]) if seeds and seeds[-1].isdecimal() else 0
        return Plan(self.space, options.trials, seed, asked)

    def setup(self, epochs: int | None, gpus: int) -> "Setup":
        """What the trials have in common."""
        from vit_lightning.sweep.trial import Setup

        options = self.options
        return Setup(
            self.name,
            self.logs,
            (*self.passed_on, *self.place),
            self.place,
            folds=options.folds,
            seeds=options.seeds,
            epochs=epochs,
            jobs=options.jobs,
            gpus=gpus,
        )

    def set_pruner(self, study: "Study", epochs: int | None, wanted: int) -> None:
        """Has what is behind not be trained to its end."""
        from optuna.exceptions import ExperimentalWarning
        from optuna.pruners import WilcoxonPruner

        from vit_lightning.sweep.halving import Halving, rungs_of

        if self.options.pruner == "wilcoxon":
            warnings.filterwarnings("ignore", category=ExperimentalWarning)
            study.optuna.pruner = WilcoxonPruner()
        if self.options.pruner == "halving" and epochs is not None:
            study.halving = Halving(rungs_of(epochs), wanted)

    def runs_there(self) -> dict[int, Path]:
        """Folders of runs that are named like this sweep's trials, by the trial's number."""
        found = {}
        for path in self.logs.glob(f"{self.name}-*"):
            if match := re.fullmatch(rf"{re.escape(self.name)}-(\d{{3,}})(-f\d+)?(-s\d+)?", path.name):
                found[int(match[1]) - 1] = path
        return found

    def check_names(self, there: dict[int, Path], begun: Collection[int]) -> None:
        """Refuses a name that other runs have already.

        Raises:
            ValueError: The name.
        """
        others = [path for number, path in sorted(there.items()) if number not in begun]
        if read_status(self.folder / "status.json"):
            others.append(self.folder)
        if others:
            raise ValueError(
                f"the run {others[0].name} exists in {self.logs} and is of no such sweep; choose another --run"
            )

    def try_out(self, points: Sequence["Point"]) -> dict[str, Any]:
        """Has a process build what trials will be built with.

        Returns:
            `epochs` of a training, and how many `gpus` this machine has for trainings beside one another.

        Raises:
            ValueError: A point is refused.
        """
        from vit_lightning.sweep.space import words

        fold = [f"--data.fold=1/{self.options.folds}"] if self.options.folds else []
        question = {
            "points": [[*self.passed_on, *self.place, *fold, *words(point)] for point in points],
            "data": any(key.startswith("data.") for key in self.space.keys),
            "trainer": any(key.startswith("trainer.") for key in self.space.keys),
        }
        log.info("trying out %s", f"{len(points)} points" if len(points) > 1 else "a point")
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            command = [sys.executable, "-m", "vit_lightning.commands.sweep_check", str(answer)]
            done = subprocess.run(command, input=json.dumps(question), text=True, check=False)
            if done.returncode or not answer.is_file():
                raise ValueError(f"the points could not be tried out (status {done.returncode})")
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in found:
            raise ValueError(found["error"])
        if self.options.pruner == "halving" and found["epochs"] is None:
            raise ValueError("--pruner halving goes by epochs: give --trainer.max_epochs, or --pruner none")
        return found


def report(study: "Study", setup: "Setup", passed_on: Sequence[str]) -> int:
    """Writes what the sweep leaves, and says which trial is best and whether really.

    Returns:
        1 where a trial failed, else 0.
    """
    from vit_lightning.sweep import report as left

    count, best = left.results(study), left.ranked(study)
    left.write_trials(study, setup)
    result: dict[str, Any] = {"trials": count, "best": None, "second": None, "comparison": None}
    words = ", ".join(f"{count[word]} {word}" for word in ("done", "pruned", "failed") if count[word])
    log.info("%s: %s; %d epochs in all", setup.name, words or "no trial", count["epochs"])
    if best:
        command = left.best_command(best[0], setup, passed_on)
        result |= {"best": left.record(best[0], setup), "command": command, "importances": left.importances(study)}
        log.info("best: %s", left.trial_words(best[0], setup))
        log.info("once more: %s", command)
        if len(best) > 1:
            result["second"] = left.record(best[1], setup)
            log.info("second: %s", left.trial_words(best[1], setup))
            try:
                found = left.compare_best(best, setup)
                result["comparison"] = left.comparison_record(found)
                for line in left.comparison_words(found):
                    log.info("%s", line)
            except ValueError as error:
                log.warning("whether it is really better than %s cannot be said: %s", result["second"]["run"], error)
        paths = left.draw(study, setup)
        log.info("history and importance are in %s", ", ".join(path.name for path in paths))
    write_text(setup.folder / "sweep.json", json.dumps(result, indent=2) + "\n")
    log.info("the sweep is in %s; tensorboard --logdir %s shows its runs side by side", setup.folder, setup.logs)
    return 1 if count["failed"] else 0
