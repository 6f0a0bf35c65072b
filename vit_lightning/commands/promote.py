"""`promote`: a run becomes champion only if it is really better. No torch in here: what is missing, others compute."""

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vit_lightning.commands.calling import called
from vit_lightning.commands.line_parser import LineParser
from vit_lightning.files import replacing, sha256_of
from vit_lightning.progress import set_up_logging
from vit_lightning.registry import (
    CANDIDATE,
    CHAMPION,
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    Registry,
    Version,
    held,
    read_registry,
    served_file,
    write_registry,
)
from vit_lightning.runs import LOG_FOLDER, Run, find_run, now, read_json, read_status
from vit_lightning.tracking.mirror import mirror
from vit_lightning.tracking.store import MEMORY

log = logging.getLogger(__name__)

DESCRIPTION = """Makes a run the champion, if it is really better than the one there is: paired on the images that the
run held out, over whole groups of them, which neither it nor a run that it started from has seen; its calibration is
not really worse, and its export says what predict says. The first one has to beat the baselines. What is missing, test
and export do first. Every attempt on the same groups makes the next one harder. Status 1: it was refused."""


def main(arguments: Sequence[str]) -> int:
    """Decides, or rolls back; gives the exit status."""
    parser = LineParser(prog="cli.py promote", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's name or its folder")
    text = "promote it if it is not worse by so much accuracy: 0.02 are two points (default: it has to be better)"
    parser.add_argument("--margin", type=share, default=0.0, help=text)
    parser.add_argument("--rollback", action="store_true", help="the champion before this one is champion again")
    parser.add_argument("--trainer.default_root_dir", dest="root", default=".", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rollback == (options.run is not None):
        raise ValueError("promote takes a RUN, or --rollback in its place; see `cli.py promote --help`")
    set_up_logging()
    logs = Path(options.root) / LOG_FOLDER
    if options.rollback:
        if not logs.is_dir():
            raise FileNotFoundError(f"no run in {logs}; start one with fit")
        with held(logs):
            roll_back(logs)
        return 0
    return 0 if promote(find_run(options.run, logs), logs, options.margin) else 1


def share(text: str) -> float:
    """The type of an option that takes a share below 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"is {text}; expected a share from 0 to below 1, such as 0.02")
    return number


def promote(run: Run, logs: Path, margin: float = 0.0) -> bool:
    """Judges a run, and writes the decision down; whether it is champion then.

    Raises:
        FileNotFoundError: It has no checkpoint.
        ValueError: It is no finished run, it could not be tested or exported, or somebody else decides.
    """
    if run.state != "finished":
        raise ValueError(f"the run {run.name} is {run.state}; only a finished one is promoted: fit --resume {run.name}")
    with held(logs):
        checkpoint = run.checkpoint()
        registry = read_registry(logs)
        version = register(registry, run, sha256_of(checkpoint))
        champion = registry.named(CHAMPION)
        if champion is not None and champion.version == version.version:
            log.info("%s", registry.why())
            return True
        before = repeated(registry, version, champion, margin)
        if before is not None:
            log.info("refused on %s already: %s", before["time"][:10], before["reason"])
            return False
        complete(run)
        better, reason, figures = decide(run, champion, registry, margin)
        registry.decisions.append(
            {
                "time": now(),
                "version": version.version,
                "against": champion and champion.version,
                "outcome": PROMOTED if better else REFUSED,
                "reason": reason,
                "figures": figures,
            }
        )
        if better:
            pin(run, logs, version)
            registry.aliases[CHAMPION] = version.version
            registry.aliases.pop(CANDIDATE, None)
        else:
            registry.aliases[CANDIDATE] = version.version
        write_registry(logs, registry)
        mirror(asdict(registry), logs)
    log.info("%s: %s", "promoted" if better else "refused", reason)
    return better


def register(registry: Registry, run: Run, sha256: str) -> Version:
    """The version that a run's weights are, a new one where they are none yet."""
    started = run.status.get("started")
    for version in registry.versions:
        if (version.run, version.started, version.sha256) == (run.name, started, sha256):
            return version
    version = Version(
        len(registry.versions) + 1,
        run.name,
        str(run.folder.resolve()),
        None if started is None else str(started),
        now(),
        sha256,
    )
    registry.versions.append(version)
    return version


def repeated(registry: Registry, version: Version, champion: Version | None, margin: float) -> dict[str, Any] | None:
    """The decision that was made on the very same question before; asking twice is no further attempt."""
    for decision in reversed(registry.decisions):
        asked = decision["version"], decision.get("against"), decision["figures"].get("margin")
        if asked == (version.version, champion and champion.version, margin) and decision["outcome"] == REFUSED:
            return decision if "groups_seen" in decision["figures"] else None
    return None


# What it takes


def complete(run: Run) -> None:
    """Tests and exports a run, unless that was done since it ended.

    Raises:
        ValueError: One of them failed.
    """
    ended = str(run.status.get("ended") or "")
    tracker = ["--tracker=mlflow"] if (run.folder / MEMORY).is_file() else []  # it goes on with what `fit` began
    for command, record in (("test", "report/metrics.json"), ("export", "export/parity.json")):
        told = read_json(run.folder / record)
        if not told or str(told.get("created", "")) < ended:
            call(command, f"--run={run.folder}", *tracker)


def call(command: str, *words: str) -> None:
    """Runs another command, whose lines are shown as they come.

    Raises:
        ValueError: It failed.
    """
    if called(command, *words):
        raise ValueError(f"that was {command} {' '.join(words)}: mend what it says, and promote again")


def decide(run: Run, champion: Version | None, registry: Registry, margin: float) -> tuple[bool, str, dict[str, Any]]:
    """Whether a run is promoted, why, and the figures.

    Raises:
        ValueError: The champion's weights are gone, or a table is broken.
    """
    from vit_lightning.evaluation.compare import Predictions, read_table
    from vit_lightning.evaluation.promotion import judge, judge_first

    metrics, parity = run.metrics(), read_json(run.folder / "export" / "parity.json")
    seen = metrics.get("seen") or {}
    figures: dict[str, Any] = {"margin": margin, "run": run.name, "data": (metrics.get("data") or {}).get("id")}
    figures |= {"seen": seen.get("sentence"), "parity": {key: parity.get(key) for key in ("largest", "pictures")}}
    if refusal := objection(run, metrics, parity):
        return False, refusal, figures
    data = str((metrics.get("data") or {}).get("name"))
    own = run.folder / "report" / "predictions.csv"
    if champion is None:
        verdict = judge_first(run.name, metrics, own, data=data, registry=registry)
    else:
        figures["champion"] = champion.run
        try:
            theirs = predictions_of(champion, run)
        except CannotScoreError as error:
            return False, str(error), figures
        one, other = (
            Predictions(name, read_table(table), ()) for name, table in ((champion.run, theirs), (run.name, own))
        )
        verdict = judge(one, other, (theirs, own), data=data, registry=registry, margin=margin)
    return verdict.better, verdict.reason, figures | verdict.figures


def objection(run: Run, metrics: dict[str, Any], parity: dict[str, Any]) -> str:
    """Why a run's score says nothing of its worth, or its file not what it is; '' where nothing speaks against it."""
    seen, leak = metrics.get("seen") or {}, metrics.get("near_duplicates") or {}
    if not run.tested:
        return f"{run.name} has no report on its own split: run test --run {run.name}"
    if metrics.get("part") != "test":
        return (
            f"{run.name} was scored on the images that chose its checkpoint: give it a test part (data.test_fraction)"
        )
    if "seen" not in seen:
        return f"whether {run.name} has seen what it is scored on is not known: run test --run {run.name} again"
    if seen["seen"] or seen.get("chose") or seen.get("unknown"):
        return f"it or a run that it started from has seen what it is scored on, or may have: {seen.get('sentence')}"
    if leak.get("flagged"):
        return f"its split leaks, so that its score measures memory: {leak.get('sentence')}"
    if parity.get("passed") is not True or not (run.folder / "export" / "model.onnx").is_file():
        return f"its export does not say what predict says: run export --run {run.name}"
    return ""


class CannotScoreError(Exception):
    """There is nothing to hold a run against."""


def predictions_of(champion: Version, run: Run) -> Path:
    """What the champion says of the images that a run was tested on: its own report, or one that is made now.

    Raises:
        CannotScoreError: It could not be scored: it has seen some of them, or knows other classes.
        ValueError: Its run is gone or has been trained on since.
    """
    folder = Path(champion.folder)
    kept = Run(folder, read_status(folder / "status.json"))
    check_weights(champion, kept)
    split = (run.metrics().get("split") or {}).get("id")
    own = folder / "report"
    made = run.folder / "promotion" / f"{champion.run}-{champion.sha256[:6]}"
    for report in (own, made):
        if (read_json(report / "metrics.json").get("split") or {}).get("id") == split:
            return report / "predictions.csv"
    labels = run.folder / "labels.csv"
    words = [f"--data.labels={labels}"] if labels.is_file() else []
    root = (run.status.get("data") or {}).get("root")
    log.info("the champion %s is scored on what %s was tested on", champion.run, run.name)
    words += [f"--data.root={root}", f"--data.split={run.folder / 'split.csv'}", f"--output={made}"]
    try:
        call("test", f"--run={folder}", *words)
    except ValueError as error:
        raise CannotScoreError(
            f"the champion {champion.run} cannot be scored on what {run.name} held out: {run.name} has to hold out "
            f"what the champion did (--data.keep_parts {folder / 'split.csv'}), and to know the same classes"
        ) from error
    return made / "predictions.csv"


def check_weights(version: Version, run: Run) -> None:
    """Refuses a run that is no longer what the registry says.

    Raises:
        ValueError: It is gone, another one has its name, or it has been trained on.
    """
    started = run.status.get("started")
    try:
        same = (None if started is None else str(started)) == version.started
        same = same and sha256_of(run.checkpoint()) == version.sha256
    except (OSError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"the weights of version {version.version} are no longer in {run.folder}: the run is gone or was trained "
            "on since; put it back, or promote --rollback"
        )


def pin(run: Run, logs: Path, version: Version) -> None:
    """Copies what a version is served from: the run's own export may be made anew."""
    target = served_file(logs, version.version)
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in ("parity.json", "model.onnx"):
        with replacing(target.with_name(name)) as temporary:
            shutil.copyfile(run.folder / "export" / name, temporary)


def roll_back(logs: Path) -> None:
    """The champion before this one is champion again.

    Raises:
        ValueError: There was none before, or it is no longer what it was.
    """
    registry = read_registry(logs)
    champions = registry.champions()
    if len(champions) < 2:
        there = registry.why() or f"there is no champion in {logs}"
        raise ValueError(f"there is no champion to go back to; {there}")
    gone, again = (registry[number] for number in (champions[-1], champions[-2]))
    folder = Path(again.folder)
    check_weights(again, Run(folder, read_status(folder / "status.json")))
    reason = (
        f"{again.run} (version {again.version}) is champion again in the place of {gone.run}, by promote --rollback"
    )
    told = {"time": now(), "version": again.version, "against": gone.version}
    registry.decisions.append(told | {"outcome": ROLLED_BACK, "reason": reason, "figures": {}})
    registry.aliases[CHAMPION] = again.version
    write_registry(logs, registry)
    mirror(asdict(registry), logs)
    log.info("%s", registry.why())
