"""Taking times in turn, and showing them."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vit_lightning.hardware import keep_memory

#: Does its work and says how much it was: images, mostly.
Contender = Callable[[], float]


@dataclass
class Rates:
    """A contender's units per second, a round each."""

    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)


def interleave(contenders: Mapping[str, Contender], *, rounds: int) -> dict[str, Rates]:
    """Has the contenders do their work in turn, each round all of them, so that they share what disturbs the machine.

    Each does it once before, which does not count. What the command line does for the memory, all of them get.
    """
    keep_memory()
    rates = {name: Rates() for name in contenders}
    for work in contenders.values():
        work()
    for _ in range(rounds):
        for name, work in contenders.items():
            began = time.perf_counter()
            units = work()
            rates[name].rounds.append(units / (time.perf_counter() - began))
    return rates


def ratio(one: Rates, other: Rates) -> float:
    """How many times as fast one is: the median over the rounds, each by itself."""
    return statistics.median(a / b for a, b in zip(one.rounds, other.rounds, strict=True))


def arguments(doc: str | None, **defaults: int) -> argparse.Namespace:
    """The options of a benchmark: these numbers, and where its picture goes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--frames", default="", help="a folder of class folders; left out, generated pictures")
    parser.add_argument("--png", type=Path, help="draws the table into this file")
    parser.add_argument("--json", action="store_true", help="prints the ratios as one last line")
    return parser.parse_args()


def show(title: str, rates: Mapping[str, Rates], reference: str, unit: str = "images/s") -> None:
    """Prints a table: median, slowest and fastest round, and how many times as fast as the reference."""
    width = max(map(len, rates))
    print(f"\n{title} ({torch.get_num_threads()} threads; median of {len(rates[reference].rounds)} rounds)")
    print(f"{'':{width}}  {unit:>9}  {'min':>7}  {'max':>7}  of {reference}")
    for name, each in rates.items():
        slow, fast = min(each.rounds), max(each.rounds)
        print(f"{name:{width}}  {each.median:9.1f}  {slow:7.1f}  {fast:7.1f}  {ratio(each, rates[reference]):.2f}x")


def draw(path: Path | None, tables: Mapping[str, Mapping[str, Rates]], unit: str = "images/s") -> None:
    """Draws bars with the spread of their rounds, a panel a table."""
    if path is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, sum(0.6 + 0.3 * len(rates) for rates in tables.values())), layout="constrained")
    heights = [len(rates) + 1 for rates in tables.values()]
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, rates) in zip(panels, tables.items(), strict=True):
        names, medians = list(rates), [each.median for each in rates.values()]
        below = [each.median - min(each.rounds) for each in rates.values()]
        above = [max(each.rounds) - each.median for each in rates.values()]
        colours = ["tab:orange" if name.startswith("ours") else "tab:gray" for name in names]
        bars = axes.barh(names, medians, xerr=[below, above], color=colours, ecolor="black")
        axes.bar_label(bars, fmt="%.3g", padding=8)
        axes.set_xlim(0, 1.2 * max(each.median + up for each, up in zip(rates.values(), above, strict=True)))
        axes.invert_yaxis()
        axes.set_title(f"{title}, {unit}", loc="left", fontsize=10)
    figure.savefig(path, dpi=110)
    print(f"\ndrawn into {path}")


def finish(options: argparse.Namespace, ratios: Mapping[str, float]) -> None:
    """Prints the closing line, if it was asked for."""
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in ratios.items()}))


def check(names: Sequence[str]) -> list[str]:
    """Which of the peers' packages are installed; says how to get the others."""
    import importlib.util

    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        print(f"without {', '.join(missing)}: pip install -e '.[bench]'")
    return [name for name in names if name not in missing]
