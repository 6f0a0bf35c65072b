"""The search space: which options of `fit` vary, over what, and how points of it are drawn."""

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

#: A value of an option: a number where all its alternatives are numbers, else the text as it was given.
Value = int | float | str
Point = dict[str, Value]

#: Points of which every combination is tried out before the first trial; of more, every value by itself.
MOST_TRIED = 48

#: Points of a space that are listed to draw none of them twice.
MOST_LISTED = 10_000

FORMS = "a,b,c or log:1e-4:3e-3 or lin:0:0.3 or int:2:8 (or int:64:256:64, in steps)"


@dataclass(frozen=True)
class Parameter:
    """One option that varies.

    Args:
        key: The option's name without its dashes, such as `model.lr`.
        distribution: What it varies over.
    """

    key: str
    distribution: BaseDistribution

    def suggest(self, trial: Trial) -> Value:
        """The trial's own value; drawn by the study's sampler where the trial has none yet."""
        over = self.distribution
        if isinstance(over, FloatDistribution):
            return trial.suggest_float(self.key, over.low, over.high, log=over.log)
        if isinstance(over, IntDistribution):
            return trial.suggest_int(self.key, over.low, over.high, step=over.step)
        assert isinstance(over, CategoricalDistribution), "there are no others"
        value: Value = trial.suggest_categorical(self.key, over.choices)  # type: ignore[assignment]  # as parsed
        return value

    @property
    def values(self) -> list[Value]:
        """All alternatives of a list; both ends of a range."""
        over = self.distribution
        if isinstance(over, CategoricalDistribution):
            return list(over.choices)  # type: ignore[arg-type]  # as parsed
        assert isinstance(over, FloatDistribution | IntDistribution), "there are no others"
        return [over.low, over.high]


@dataclass(frozen=True)
class Space:
    """The options that vary, in the order in which they were given."""

    parameters: tuple[Parameter, ...]

    @property
    def keys(self) -> list[str]:
        """The options' names."""
        return [parameter.key for parameter in self.parameters]

    @property
    def finite(self) -> bool:
        """Whether all of it are lists, and short enough for all points to be listed."""
        lists = all(isinstance(parameter.distribution, CategoricalDistribution) for parameter in self.parameters)
        return lists and self.size <= MOST_LISTED

    @property
    def size(self) -> int:
        """How many points `points` gives."""
        return math.prod(len(parameter.values) for parameter in self.parameters)

    def points(self) -> list[Point]:
        """The product of all lists and of the ends of all ranges; the last option changes fastest."""
        values = [parameter.values for parameter in self.parameters]
        return [dict(zip(self.keys, point, strict=True)) for point in itertools.product(*values)]

    def trials(self) -> list[Point]:
        """Points to be tried out before the first trial: all, or of many each value beside the others' first ones."""
        if self.size <= MOST_TRIED:
            return self.points()
        first = {parameter.key: parameter.values[0] for parameter in self.parameters}
        return [first] + [
            first | {parameter.key: value} for parameter in self.parameters for value in parameter.values[1:]
        ]


def words(point: Mapping[str, Any]) -> list[str]:
    """A point as options of `fit`."""
    return [f"--{key}={value}" for key, value in point.items()]


def parse_grid(texts: Sequence[str]) -> Space:
    """The space of `--grid KEY=a,b,c` given any number of times.

    Raises:
        ValueError: What is no list of at least one value, or an option that stands twice.
    """
    return Space(distinct([Parameter(key, choices("--grid", key, text)) for key, text in split("--grid", texts)]))


def parse_search(texts: Sequence[str]) -> Space:
    """The space of `--search KEY=...` given any number of times.

    Raises:
        ValueError: What is neither a list nor a range, or an option that stands twice.
    """
    found = []
    for key, text in split("--search", texts):
        form, colon, ends = text.partition(":")
        ranged = bool(colon) and form in ("log", "lin", "int")
        found.append(Parameter(key, span(key, form, ends) if ranged else choices("--search", key, text)))
    return Space(distinct(found))


def split(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Key and text of each."""
    found = []
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip().removeprefix("--")
        if not equals or not key or not values.strip():
            raise ValueError(f"{option} {text!r} is no KEY=VALUES; expected for example {option} model.depth=4,6,8")
        found.append((key, values.strip()))
    return found


def distinct(parameters: list[Parameter]) -> tuple[Parameter, ...]:
    """The same, if no option stands twice."""
    keys = [parameter.key for parameter in parameters]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{key} is given twice; put all its values behind one {key}=")
    return tuple(parameters)


def choices(option: str, key: str, text: str) -> CategoricalDistribution:
    """A list; commas in brackets belong to a value, as in `model.image_size=96,[112,192]`."""
    texts = [value.strip() for value in re.split(r",(?![^\[{]*[\]}])", text)]
    numbers = [number(value) for value in texts]
    values: list[Any] = texts if None in numbers else numbers
    if "" in texts:
        raise ValueError(f"{option} {key}={text} has an empty value; expected {FORMS}")
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{option} {key}={text}: {value} is no value to try; expected finite numbers")
        if values.count(value) > 1:
            raise ValueError(f"{option} {key}={text} has {value} twice; leave one out")
    return CategoricalDistribution(values)


def span(key: str, form: str, ends: str) -> BaseDistribution:
    """A range."""
    numbers = [number(end) for end in ends.split(":")]
    whole = form == "int"
    known = [value for value in numbers if value is not None and math.isfinite(value)]
    if len(known) < len(numbers) or not 2 <= len(numbers) <= 2 + whole:
        raise ValueError(f"--search {key}={form}:{ends} is no range; expected {FORMS}")
    low, high, *step = known
    if whole and not all(isinstance(value, int) for value in known):
        raise ValueError(f"--search {key}={form}:{ends} has to be of whole numbers, as in int:2:8")
    if low >= high or (form == "log" and low <= 0) or any(value <= 0 for value in step):
        above = "above 0 and " if form == "log" else ""
        raise ValueError(f"--search {key}={form}:{ends}: the first number has to be {above}below the second")
    if whole:
        return IntDistribution(int(low), int(high) - int(high - low) % int(*step or [1]), step=int(*step or [1]))
    return FloatDistribution(float(low), float(high), log=form == "log")


def number(text: str) -> int | float | None:
    """The number that a text is, if it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def draw_point(space: Space, trials: Sequence[FrozenTrial], seed: int) -> Point:
    """A search's next point, by Optuna's TPE; of lists none that was tried, as long as there is another one.

    What waits half trained is to TPE as what was stopped there, which in the study it is not yet.

    Args:
        space: What is drawn from.
        trials: All of the study.
        seed: Of the draw. Draws of a study want different ones.
    """
    known = optuna.create_study(direction="maximize", sampler=TPESampler(seed=seed))
    for trial in trials:
        if trial.state != TrialState.FAIL and len(trial.params) == len(space.parameters):
            state = TrialState.PRUNED if trial.state == TrialState.WAITING else trial.state
            known.add_trial(
                create_trial(
                    state=state,
                    params=trial.params,
                    distributions=trial.distributions,
                    value=trial.value,
                    intermediate_values=trial.intermediate_values,
                )
            )
    drawn = known.ask({parameter.key: parameter.distribution for parameter in space.parameters})
    point: Point = {key: drawn.params[key] for key in space.keys}
    if space.finite:
        tried = [trial.user_attrs.get("point", trial.params) for trial in trials]
        fresh = [candidate for candidate in space.points() if candidate not in tried]
        if point in tried and fresh:
            return random.Random(seed).choice(fresh)
    return point
