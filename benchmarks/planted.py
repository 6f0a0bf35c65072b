"""Whether the label doctor finds wrong labels that were planted: 5 % of the demo's.

    python -m benchmarks.planted --work DIR [--share 5] [--epochs 8] [--folds 3] [--seed 0] [--json]

Draws the demo into DIR, gives so many per cent of its pictures another class, trains and tests the folds on these
labels, and looks where in the doctor's order the planted ones are. The same command goes on where it was stopped.
Beside it is the order by the margin between the label given and the likeliest other class.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from vit_lightning.cli import main as command
from vit_lightning.data.demo import CLIPS, draw_demo
from vit_lightning.data.index import find_layout, find_samples
from vit_lightning.evaluation.folds import joined, read_member
from vit_lightning.evaluation.label_doctor import examine
from vit_lightning.evaluation.metrics import Outcome
from vit_lightning.files import csv_line

ROOT = Path(__file__).parent.parent


def plant(frames: Path, file: Path, *, share: float, seed: int) -> set[str]:
    """Writes a file of labels that are wrong, of a share of the pictures; gives their paths."""
    samples = find_samples(frames, find_layout(frames))
    names = sorted({sample.label for sample in samples})
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(samples), round(share * len(samples)), replace=False)
    wrong = {}
    for index in sorted(chosen):
        others = [name for name in names if name != samples[index].label]
        wrong[samples[index].path] = others[rng.integers(len(others))]
    file.write_text("path,label\n" + "".join(csv_line(row) for row in wrong.items()), encoding="utf-8")
    return set(wrong)


def found(outcome: Outcome, wrong: set[str]) -> dict[str, float]:
    """Which share of the planted labels is among the first tenth of all pictures, and what is flagged."""
    doubts = examine(outcome)
    planted = np.array([path in wrong for path in doubts.paths])
    tenth = len(planted) // 10
    rows = np.arange(len(planted))
    margin = doubts.probabilities[rows, doubts.given] - doubts.probabilities[rows, doubts.likely]
    by_margin = np.argsort(margin, kind="stable")
    return {
        "pictures": len(planted),
        "planted": int(planted.sum()),
        "first_tenth": float(planted[:tenth].sum() / planted.sum()),
        "first_tenth_by_margin": float(planted[by_margin[:tenth]].sum() / planted.sum()),
        "flagged": int(doubts.flagged.sum()),
        "flagged_precision": float(planted[doubts.flagged].mean()),
        "flagged_recall": float(doubts.flagged[planted].mean()),
        "accuracy": float((outcome.predicted == outcome.labels).mean()),
    }


def main() -> None:
    """Plants, trains, and looks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for frames, labels and runs")
    parser.add_argument("--json", action="store_true", help="prints the figures as one last line")
    for name, value in (("share", 5), ("epochs", 8), ("folds", 3), ("seed", 0), ("clips", CLIPS)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    options = parser.parse_args()
    work = options.work.absolute()
    frames, labels = work / "frames", work / f"labels-{options.share}-{options.seed}.csv"
    if not frames.is_dir():
        draw_demo(frames, clips=options.clips)
    wrong = plant(frames, labels, share=options.share / 100, seed=options.seed)
    name = f"planted-{options.share}-{options.seed}"
    words = [f"--config={ROOT / 'configs' / 'demo.yaml'}", f"--data.root={frames}", f"--data.labels={labels}"]
    words += [f"--trainer.max_epochs={options.epochs}", f"--trainer.default_root_dir={work}"]
    if status := command(["folds", *words, f"--folds={options.folds}", f"--run={name}"]):
        raise SystemExit(status)
    members = [f"{name}-f{fold}-s0" for fold in range(1, options.folds + 1)]
    read = [read_member(each, 0, 0, work / "lightning_logs" / each / "report") for each in members]
    figures = found(joined(read), wrong)
    print(
        f"{figures['first_tenth']:.1%} of {figures['planted']} planted labels are among the first tenth of "
        f"{figures['pictures']} pictures ({figures['first_tenth_by_margin']:.1%} by the margin to the likeliest other "
        f"class); {figures['flagged']} are flagged, {figures['flagged_precision']:.1%} of them planted, "
        f"{figures['flagged_recall']:.1%} of the planted"
    )
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
