"""The search space: what may be written, and what is drawn."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from vit_lightning.sweep.space import MOST_TRIED, Space, draw_point, parse_grid, parse_search, words

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_grid_is_the_product_of_its_lists() -> None:
    space = parse_grid(["model.depth=4,6,8", "--model.lr=1e-3,5e-4"])
    assert space.keys == ["model.depth", "model.lr"]
    assert space.points() == [{"model.depth": d, "model.lr": lr} for d in (4, 6, 8) for lr in (0.001, 0.0005)]
    assert words(space.points()[1]) == ["--model.depth=4", "--model.lr=0.0005"]


def test_lists_hold_what_an_option_takes() -> None:
    space = parse_grid(["model.image_size=96,[112,192]", "data.augment=light, none", "model.compile=true,false"])
    assert [parameter.values for parameter in space.parameters] == [
        ["96", "[112,192]"],
        ["light", "none"],
        ["true", "false"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.lr=log:1e-4:3e-3", FloatDistribution(1e-4, 3e-3, log=True)),
        ("model.dropout=lin:0:0.3", FloatDistribution(0.0, 0.3)),
        ("model.depth=int:2:8", IntDistribution(2, 8)),
        ("model.dim=int:64:256:64", IntDistribution(64, 256, step=64)),
        ("model.dim=int:64:250:64", IntDistribution(64, 192, step=64)),  # only whole steps
        ("model.pool=cls,gap", CategoricalDistribution(["cls", "gap"])),
        ("a=log,lin", CategoricalDistribution(["log", "lin"])),
    ],
)
def test_a_search_has_ranges_too(text: str, expected: object) -> None:
    (parameter,) = parse_search([text]).parameters
    assert parameter.distribution == expected


@pytest.mark.parametrize(
    ("option", "texts", "said"),
    [
        ("grid", ["model.depth"], "'model.depth' is no KEY=VALUES"),
        ("grid", ["model.depth="], "is no KEY=VALUES"),
        ("grid", ["=4,6"], "is no KEY=VALUES"),
        ("grid", ["model.depth=4,,6"], "has an empty value"),
        ("grid", ["model.depth=4,6,4"], "has 4 twice"),
        ("grid", ["model.lr=0.001,1e-3"], "has 0.001 twice"),
        ("grid", ["model.lr=nan,1"], "nan is no value to try"),
        ("grid", ["model.lr=1,inf"], "inf is no value to try"),
        ("grid", ["a=1", "--a=2"], "a is given twice"),
        ("search", ["model.lr=log:1e-4"], "is no range"),
        ("search", ["model.lr=log:1e-4:x"], "is no range"),
        ("search", ["model.lr=lin:0:inf"], "is no range"),
        ("search", ["model.lr=lin:0:nan"], "is no range"),
        ("search", ["model.lr=lin:0:1:0.1"], "is no range"),
        ("search", ["model.lr=log:0:1"], "has to be above 0 and below the second"),
        ("search", ["model.lr=lin:1:0"], "has to be below the second"),
        ("search", ["model.depth=int:2:8.5"], "has to be of whole numbers"),
        ("search", ["model.depth=int:2:8:0"], "has to be below the second"),
    ],
)
def test_a_mistake_is_named(option: str, texts: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^(--|a is)") as error:
        (parse_grid if option == "grid" else parse_search)(texts)
    assert said in str(error.value)


def test_many_points_are_tried_out_value_by_value() -> None:
    few = parse_grid(["a=1,2,3", "b=x,y"])
    assert few.trials() == few.points()
    many = parse_grid([f"a={','.join(map(str, range(MOST_TRIED)))}", "b=x,y"])
    assert len(many.trials()) == MOST_TRIED + 1
    assert {point["b"] for point in many.trials()} == {"x", "y"}
    ends = parse_search(["lr=log:1e-4:1e-2", "depth=int:2:8"])
    assert [tuple(point.values()) for point in ends.trials()] == [(1e-4, 2), (1e-4, 8), (1e-2, 2), (1e-2, 8)]


def drawn(space: Space, count: int, seed: int = 0) -> list[tuple[object, ...]]:
    trials: list[FrozenTrial] = []
    distributions = {parameter.key: parameter.distribution for parameter in space.parameters}
    for number in range(count):
        point = draw_point(space, trials, seed + number)
        score = float(point["a"])
        trials.append(create_trial(state=TrialState.COMPLETE, params=point, distributions=distributions, value=score))
    return [tuple(trial.params.values()) for trial in trials]


def test_lists_are_drawn_without_a_point_twice() -> None:
    space = parse_search(["a=1,2,3,4", "b=x,y,z,u,v"])
    points = drawn(space, 20)
    assert len(set(points)) == 20  # ten at random and ten by TPE, which would go for a=4 again and again
    assert len(drawn(space, 22)) == 22  # when there is no other point left, one comes again
    assert drawn(space, 5, seed=100) != points[:5]
    assert drawn(space, 20) == points  # of one seed they are the same


def test_ranges_are_drawn_from_all_over() -> None:
    values = [float(str(point[0])) for point in drawn(parse_search(["a=log:1e-4:1"]), 30)]
    assert len(set(values)) == 30
    assert min(values) < 1e-2
    assert sum(value > 0.1 for value in values[10:]) > 10  # where the score is high


def test_what_waits_half_trained_is_known_to_the_draw() -> None:
    space = parse_search(["a=lin:0:1"])
    distributions = {"a": space.parameters[0].distribution}

    def known(state: TrialState) -> list[FrozenTrial]:
        return [
            create_trial(
                state=state, params={"a": place / 20}, distributions=distributions, intermediate_values={2: place / 20}
            )
            for place in range(20)
        ]

    def mean(trials: list[FrozenTrial]) -> float:
        return sum(float(draw_point(space, trials, seed)["a"]) for seed in range(30)) / 30

    assert mean(known(TrialState.WAITING)) == mean(known(TrialState.PRUNED)) > 0.7
    assert mean([]) < 0.7
