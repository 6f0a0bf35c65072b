"""The window of answers, and the index over them."""

from pathlib import Path

import numpy as np
import pytest

from vit_lightning.serve.drift import Shares, Window, by_chance, stability_index
from vit_lightning.serve.model import load_model


def test_the_window_has_the_last_answers_of_one_model(model_file: Path) -> None:
    one, other = load_model(model_file), load_model(model_file)
    window = Window(one, 4)
    assert window.shares()[1] == Shares(0, [0, 0, 0], 0)
    for row in ([1, 0, 0], [1, 0, 0], [0.2, 0.6, 0.2], [0, 0.25, 0.75], [0, 1, 0], [0, 0.5, 0.5]):
        window.add(one, np.array(row, dtype=np.float32))
    window.add(other, np.array([1, 0, 0], dtype=np.float32))
    model, found = window.shares()
    assert model is one
    assert (found.pictures, found.shares) == (4, [0, 0.75, 0.25])
    assert found.confidence == pytest.approx((0.6 + 0.75 + 1 + 0.5) / 4)
    window.begin(other)
    assert window.shares() == (other, Shares(0, [0, 0, 0], 0))


def test_the_index_is_about_what_chance_makes_of_it_where_nothing_changes_and_beyond_it_where_it_does() -> None:
    rng = np.random.default_rng(0)
    truth, n, m = np.array([0.4, 0.3, 0.2, 0.1]), 1000, 200

    def drawn(count: int, shares: np.ndarray) -> Shares:
        return Shares(count, (rng.multinomial(count, shares) / count).tolist(), 0.9)

    drawn_pairs = [(drawn(n, truth), drawn(m, truth)) for _ in range(2000)]
    mean = np.mean([stability_index(now, before) for now, before in drawn_pairs])
    assert mean == pytest.approx(by_chance(*drawn_pairs[0]), rel=0.1)
    shifted = stability_index(drawn(n, truth[::-1]), drawn(m, truth))
    assert shifted > 0.25
    assert stability_index(Shares(10, [1, 0], 1.0), Shares(10, [0, 1], 1.0)) < 10  # and finite
