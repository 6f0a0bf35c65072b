"""What a sweep leaves: its trials as a table, history and importance as pictures, and whether the best is the best."""

import csv
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from vit_lightning.evaluation.compare import Comparison, Predictions, compare, read_table
from vit_lightning.files import replacing, write_text
from vit_lightning.sweep.study import Study
from vit_lightning.sweep.table import WORDS, point_words
from vit_lightning.sweep.trial import Setup

#: What is said where the best trial is not really better than the second.
CHANCE = "the difference may be chance"


def ranked(study: Study) -> list[FrozenTrial]:
    """The trials that are through, the best first; of equals the earlier one."""
    return sorted(study.trials([TrialState.COMPLETE]), key=lambda trial: (-(trial.value or 0.0), trial.number))


def write_trials(study: Study, setup: Setup) -> Path:
    """Writes `trials.csv`: number, run, state, epochs, score and the point of each."""
    path, keys = setup.folder / "trials.csv", study.plan.space.keys
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", "run", "state", "epochs", "val/acc", *keys])
        for trial in study.trials():
            told = trial.user_attrs.get("epochs", ""), "" if trial.value is None else trial.value
            point = [trial.params.get(key, "") for key in keys]
            writer.writerow([trial.number, setup.run_name(trial.number), WORDS[trial.state], *told, *point])
    return path


def draw(study: Study, setup: Setup) -> list[Path]:
    """Writes history and importance as `report.html`, and each as a PNG.

    Returns:
        What was written; importance needs two trials whose scores differ.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from optuna import visualization
    from optuna.visualization import matplotlib as pictures

    kinds = {"history": "optimization_history"} | ({"importance": "param_importances"} if is_varied(study) else {})
    written = [setup.folder / "report.html"]
    pages: list[str] = []
    with warnings.catch_warnings(), mpl.rc_context():  # Optuna sets a style for good
        warnings.simplefilter("ignore")  # those of Optuna's that call this experimental
        for name, kind in kinds.items():
            axes = getattr(pictures, f"plot_{kind}")(study.optuna, target_name="val/acc")
            axes.set_title("", loc="left")  # where some have one
            axes.set_title(f"{setup.name}: {name}")
            with replacing(setup.folder / f"{name}.png") as temporary:
                axes.figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
            pyplot.close(axes.figure)
            written.append(setup.folder / f"{name}.png")
            figure = getattr(visualization, f"plot_{kind}")(study.optuna, target_name="val/acc")
            figure.update_layout(title=f"{setup.name}: {name}")
            pages.append(figure.to_html(full_html=False, include_plotlyjs=not pages))
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{setup.name}</title><body>{"".join(pages)}'
    write_text(written[0], f"{page}</body></html>\n")
    return written


def compare_best(best: Sequence[FrozenTrial], setup: Setup) -> Comparison:
    """The best trial and the second, paired on the validation images that both were chosen by.

    Raises:
        ValueError: Their runs are not here, or one of them cannot be scored.
    """
    one, other = (said_by(trial, setup) for trial in best[:2])
    return compare(other, one, [path for path in other.rows if path in one.rows])


def said_by(trial: FrozenTrial, setup: Setup) -> Predictions:
    """What a trial's runs say of their validation images; of folds, an image is another one in each."""
    rows: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for name, _ in setup.members(trial.number):
        path = setup.folder / "predictions" / f"{name}.csv"
        if not path.is_file():
            validate(name, path, setup)
        prefix = name.removeprefix(setup.run_name(trial.number)).rpartition("-s")[0]
        for image, (group, label, said) in read_table(path).items():
            key = f"{prefix}:{image}" if prefix else image
            before = rows.get(key, ("", "", ()))[2]
            rows[key] = group or (image if prefix else ""), label, (*before, *said)
    return Predictions(setup.run_name(trial.number), rows, ())


def validate(run: str, path: Path, setup: Setup) -> None:
    """Has `validate` write what a run says of its validation images.

    Raises:
        ValueError: The run is on another machine, or has no checkpoint any more.
    """
    if not (setup.logs / run).is_dir():
        raise ValueError(f"the run {run} is not in {setup.logs}: it was trained on another machine")
    path.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "vit_lightning.cli", "validate", f"--run={run}", f"--output={path}", *setup.place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"{run} cannot be scored: {lines[-1].removeprefix('error: ') if lines else done.returncode}")


def comparison_words(found: Comparison) -> list[str]:
    """Whether the best trial is really better than the second, in two lines."""
    grouped = "" if found.groups == found.images else f" in {found.groups} groups"
    line = f"the best is {100 * (found.accuracy[1] - found.accuracy[0]):+.1f} points ahead"
    if found.paired is not None:
        low, high = (100 * end for end in found.paired.interval)
        line += f" [{low:+.1f}, {high:+.1f}], p {found.paired.p:.3f}"
    line += f", on {found.images} val images{grouped}"
    if found.paired is None:
        return [line, "nearly all images are of one group: whether the difference is real cannot be said"]
    return [line, f"the difference is real: {found.names[1]} is better" if found.real else CHANCE]


def best_command(trial: FrozenTrial, setup: Setup, options: Sequence[str]) -> str:
    """The command that repeats a trial as a run of its own, or its folds."""
    import shlex

    words = [*options, *(f"--{key}={value}" for key, value in trial.params.items()), *setup.place]
    command, more = "fit", []
    if setup.folds:
        command, more = "folds", [f"--folds={setup.folds}", *([f"--seeds={setup.seeds}"] if setup.seeds else [])]
    return shlex.join(["python", "cli.py", command, *words, *more])


def results(study: Study) -> dict[str, int]:
    """How many trials ended how, and how many epochs all of them took."""
    trials = study.trials()
    count = {word: sum(trial.state == state for trial in trials) for state, word in WORDS.items()}
    return count | {"epochs": sum(int(trial.user_attrs.get("epochs", 0)) for trial in trials)}


def record(trial: FrozenTrial, setup: Setup) -> dict[str, Any]:
    """A trial for JSON."""
    facts: dict[str, Any] = {key: trial.user_attrs[key] for key in ("scores", "interval") if key in trial.user_attrs}
    return {"run": setup.run_name(trial.number), "val/acc": trial.value, "point": trial.params, **facts}


def trial_words(trial: FrozenTrial, setup: Setup) -> str:
    """A trial with its score and its point, in a line."""
    interval = trial.user_attrs.get("interval")
    words = f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    return f"{setup.run_name(trial.number)}, val/acc {trial.value:.4f}{words}, {point_words(trial.params)}"


def comparison_record(found: Comparison) -> dict[str, Any]:
    """A comparison for JSON: the best trial less the second."""
    paired = found.paired
    return {
        "images": found.images,
        "groups": found.groups,
        "difference": found.accuracy[1] - found.accuracy[0],
        "interval": paired and list(paired.interval),
        "p": paired and paired.p,
        "real": found.real,
    }


def importances(study: Study) -> dict[str, float]:
    """How much of the scores' variance each option explains, by Optuna's default; none where it cannot tell."""
    if not is_varied(study):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.importance.get_param_importances(study.optuna)


def is_varied(study: Study) -> bool:
    """Whether there are scores that differ, of points that differ: without, nothing is known of importance."""
    done, keys = study.trials([TrialState.COMPLETE]), study.plan.space.keys
    return len({trial.value for trial in done}) > 1 and any(len({t.params[k] for t in done}) > 1 for k in keys)
