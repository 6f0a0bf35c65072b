"""`folds`: every fold and seed, one report over every image. No torch in here: each member is a process of its own."""

import argparse
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vit_lightning.cli_errors import check_configs
from vit_lightning.commands.calling import called
from vit_lightning.commands.line_parser import LineParser, whole
from vit_lightning.progress import set_up_logging
from vit_lightning.runs import LOG_FOLDER, now, plain_name, read_status, run_stem, write_status

log = logging.getLogger(__name__)

DESCRIPTION = """Trains and tests a run a fold and seed, one after another, and reports over every image.
The same command goes on where it was stopped. All options of fit are taken, too."""


def main(arguments: Sequence[str]) -> int:
    """Runs what is missing, and writes the result; gives the exit status."""
    parser = LineParser(prog="cli.py folds", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--folds", type=whole(2), default=5, help="shares of the data that take turns as the test part")
    parser.add_argument("--seeds", type=whole(1), default=1, help="trainings of each fold, with the seeds 0, 1, ...")
    parser.add_argument("--run", default=None, help="the result's name; left out, the first config's and -folds")
    parser.add_argument(
        "--keep", type=Path, help="keep config, metrics and predictions of each member here, compressed"
    )
    parser.add_argument("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    options, passed_on = parser.parse_known_args(arguments)
    set_up_logging()
    check_configs(passed_on)
    for word in passed_on:
        if word.partition("=")[0] in ("--data.fold", "--seed_everything", "--resume", "--ckpt_path"):
            raise ValueError(f"{word.partition('=')[0]} is set by folds for each member; leave it out")
    logs = Path(options.root) / LOG_FOLDER
    name = plain_name(options.run) if options.run is not None else f"{run_stem(config_paths(passed_on))}-folds"
    root = [] if options.root == "." else [f"--trainer.default_root_dir={options.root}"]
    result = FoldsResult(name, logs, options.folds, options.seeds, (*passed_on, *root), options.keep)
    try:
        return result.run()
    except MemberRefusedError as refused:
        log.info("%s", refused)
        return 2


class MemberRefusedError(Exception):
    """A member's command was refused, in the line that it said."""


def config_paths(words: Sequence[str]) -> list[Path]:
    """The configs that a command line names."""
    return [Path(value) for value in values_of(words, "-c", "--config")]


def values_of(words: Sequence[str], *options: str) -> list[str]:
    """What a command line gives to an option, by any of its names."""
    values: list[str] = []
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in options:
            values += [value] if equals else words[place + 1 : place + 2]  # none where it is the last word
    return values


@dataclass(frozen=True)
class FoldsResult:
    """The runs of one split's folds, and what they give together.

    Args:
        name: Of the result; its members are NAME-f1-s0 and so on.
        logs: The log folder.
        folds: How many.
        seeds: How many trainings each.
        options: Of `fit`, for every member.
        keep: Where what a finished member leaves is kept, and looked for.
    """

    name: str
    logs: Path
    folds: int
    seeds: int
    options: tuple[str, ...]
    keep: Path | None

    @property
    def members(self) -> Iterator[tuple[str, int, int]]:
        """Name, fold and seed of each; all folds of a seed before the next seed."""
        for seed in range(self.seeds):
            for fold in range(1, self.folds + 1):
                yield f"{self.name}-f{fold}-s{seed}", fold, seed

    def run(self) -> int:
        """Trains and tests what is missing, one after another, and writes the result."""
        new, status = not self.folder.exists(), self.begin()
        lock = self.lock()
        try:
            for number, (member, fold, seed) in enumerate(self.members, start=1):
                if self.source(member) is None:
                    log.info("%s: member %d of %d", member, number, self.folds * self.seeds)
                    self.train(member, fold, seed)
                    if self.keep is not None:
                        from vit_lightning.evaluation.folds import keep_member

                        keep_member(self.logs / member, self.keep / member)
        except BaseException as error:
            lock.release()
            stopped = isinstance(error, KeyboardInterrupt)
            if new and not any((self.logs / member).exists() for member, *_ in self.members):
                shutil.rmtree(self.folder)  # a mistaken option, which the same command without it may mend
            else:
                write_status(self.folder, status | {"state": "interrupted" if stopped else "failed", "ended": now()})
            raise
        metrics = self.report()
        scores = {"accuracy": metrics["accuracy"], "macro_f1": metrics["macro_f1"]}
        told = {"state": "finished", "ended": now(), "test": scores, "data": metrics["data"]}
        split = {"kind": f"{self.folds} folds", "family": metrics["split"]["family"]}
        write_status(self.folder, status | told | {"split": split})
        lock.release()
        return 0

    @property
    def folder(self) -> Path:
        """Of the result."""
        return self.logs / self.name

    def lock(self) -> FileLock:
        """Takes the result's lock, by which `runs` tells whether its process is still there.

        Raises:
            ValueError: Another process has it.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(f"{self.name} is being made by another process; wait for it, or stop it") from None
        return lock

    def begin(self) -> dict[str, Any]:
        """Makes the result's folder, or finds the one that was begun with the same options.

        Raises:
            ValueError: The name is taken, or was begun with other options.
        """
        asked = {"folds": self.folds, "seeds": self.seeds, "options": list(self.options)}
        before = read_status(self.folder / "status.json")
        if self.folder.exists():
            if before.get("kind") != "folds":
                raise ValueError(
                    f"the run {self.name} exists in {self.logs} and is no result of folds; choose another --run"
                )
            # More seeds may be added to what there is.
            if [before.get(key) for key in ("folds", "options")] != [asked["folds"], asked["options"]]:
                raise ValueError(
                    f"{self.name} was begun with --folds {before.get('folds')} {' '.join(before.get('options', []))}; "
                    "repeat that to go on, or choose another --run"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        status = {"state": "running", "kind": "folds", "started": before.get("started", now()), **asked}
        status |= {"host": platform.node(), "pid": os.getpid()}
        status["members"] = [member for member, *_ in self.members]
        write_status(self.folder, status)
        return status

    def source(self, member: str) -> Path | None:
        """The folder with what a finished member leaves: its report, or what was kept of it."""
        if self.keep is not None and (self.keep / member / "metrics.json").is_file():
            return self.keep / member
        report = self.logs / member / "report"
        finished = read_status(self.logs / member / "status.json").get("state") == "finished"
        return report if finished and (report / "metrics.json").is_file() else None

    def train(self, member: str, fold: int, seed: int) -> None:
        """Brings one member to its end: a new run, one that goes on, or a finished one that was not tested.

        Raises:
            ValueError: It failed; its own line says why.
        """
        folder = self.logs / member
        state = read_status(folder / "status.json").get("state")
        place = [word for word in self.options if word.startswith("--trainer.default_root_dir")]
        if state is None:
            words = [*self.options, f"--data.fold={fold}/{self.folds}", f"--seed_everything={seed}", f"--run={member}"]
            self.call("fit", words, member)
        elif state != "finished":
            self.call("fit", [f"--resume={member}", *place], member)
        tracker = [f"--tracker={name}" for name in values_of(self.options, "--tracker")]
        self.call("test", [f"--run={member}", *place, *tracker], member)

    def call(self, command: str, words: Sequence[str], member: str) -> None:
        """Runs a command in a process of its own, whose lines are shown as they come.

        Raises:
            KeyboardInterrupt: It was stopped.
            MemberRefusedError: It was refused.
            ValueError: It failed otherwise.
        """
        status = called(command, *words)
        if status == 2:
            raise MemberRefusedError(f"that was {command} of {member}: mend what it says, and repeat the command")
        if status != 0:
            raise ValueError(
                f"{command} of {member} ended with status {status}; mend what it says, and repeat the command"
            )

    def report(self) -> dict[str, Any]:
        """Writes the result over every image, and says what it is."""
        from vit_lightning.evaluation.conformal import kept_sets, set_words
        from vit_lightning.evaluation.folds import read_member, summarise, write_result
        from vit_lightning.evaluation.label_doctor import DOUBTS, doubt_words, examine, write_doubts
        from vit_lightning.evaluation.report import write_report

        members = [read_member(name, fold, seed, self.source(name) or Path()) for name, fold, seed in self.members]
        metrics, outcome = summarise(self.name, members)
        doubts = examine(outcome)
        metrics["doubtful_labels"] = {"flagged": int(doubts.flagged.sum()), "file": DOUBTS}
        write_result(self.folder / "report", metrics, members)
        write_doubts(self.folder / "report", doubts, outcome.class_names)
        told = [read_status(self.logs / member.name / "status.json").get("data", {}).get("root") for member in members]
        told += values_of(self.options, "--data.root")  # of what was kept, nothing else says where the images are
        root = next((Path(root) for root in told if root and Path(root).is_dir()), None)
        page = write_report(self.folder / "report", metrics, outcome, None, root=root, doubts=doubts)
        interval, groups = metrics["intervals"]["accuracy"], metrics["groups"]
        words = "" if interval is None else f", 95 % interval {interval[0]:.4f} to {interval[1]:.4f}"
        log.info(
            "%d images in %d %s: acc %.4f%s, macro-F1 %.4f",
            *(metrics["images"], groups["count"], groups["kind"], metrics["accuracy"], words, metrics["macro_f1"]),
        )
        if metrics["spread"]["deviation"] is not None:
            log.info("over %d seeds the deviation of acc is %.4f", self.seeds, metrics["spread"]["deviation"])
        known = {key: value for key, value in metrics["baselines"].items() if value is not None}
        log.info("to beat: %s", json.dumps({key: round(value, 4) for key, value in known.items()})[1:-1])
        for line in (doubt_words(doubts), *set_words(metrics["sets"])):
            log.info("%s", line)
        self.keep_sets(kept_sets(metrics))
        log.info("the report is %s", page)
        return metrics

    def keep_sets(self, kept: dict[str, Any] | None) -> None:
        """Has `predict` with a member tell the sets that all groups together were enough for."""
        from vit_lightning.evaluation.unknown import keep_unknown

        for member, *_ in self.members:
            checkpoint = self.logs / member / "checkpoints" / "best.ckpt"
            if kept is not None and checkpoint.is_file():
                keep_unknown(self.logs / member, checkpoint, sets=kept)
