"""The figures of the report, on numbers worked out by hand."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vit_lightning.evaluation.figures import (
    INK,
    draw_confusion_matrix,
    draw_curves,
    draw_precision_recall,
    draw_reliability,
    save_png,
    to_svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def legend(figure: Figure) -> list[str]:
    (box,) = figure.legends
    return [text.get_text() for text in box.get_texts()]


def points_of(figure: Figure, line: int) -> list[list[float]]:
    points: list[list[float]] = np.asarray(figure.axes[0].lines[line].get_xydata()).tolist()
    return points


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def drawn(classes: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    return labels, random.dirichlet(np.ones(classes), images)


def test_average_precision_and_curve() -> None:
    """By falling probability the truth is yes, no, yes, no: half the recall at precision 1, half at 2/3."""
    labels = np.array([1, 0, 1, 0])
    yes = np.array([0.9, 0.8, 0.7, 0.1])
    figure = draw_precision_recall(labels, np.stack([1 - yes, yes], axis=1), ["no", "yes"])
    assert legend(figure) == ["no, 0.83", "yes, 0.83"]
    points = {(recall, round(precision, 3)) for recall, precision in points_of(figure, 1)}
    assert {(0.5, 1.0), (0.5, 0.5), (1.0, 0.667), (1.0, 0.5)} <= points


def test_a_class_without_images_has_no_curve() -> None:
    labels, probabilities = drawn(4)
    labels[labels == 2] = 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_precision_recall(labels, probabilities, ["a", "b", "c", "d"])
    assert [text.split(",")[0] for text in legend(figure)] == ["a", "b", "d"]


def test_of_many_classes_the_worst_are_named() -> None:
    labels, probabilities = drawn(12)
    for known in range(7):  # found without a mistake
        probabilities[:, known] = labels == known
    figure = draw_precision_recall(labels, probabilities, [f"class {index}" for index in range(12)])
    assert sorted(text.split(",")[0] for text in legend(figure)[:-1]) == sorted(
        f"class {index}" for index in range(7, 12)
    )
    assert legend(figure)[-1] == "the other 7 classes"
    assert len(figure.axes[0].lines) == 12


def test_many_images_do_not_make_a_large_page() -> None:
    labels, probabilities = drawn(4, 20_000)
    probabilities += 0.3 * np.eye(4)[labels]  # of a curve that falls all the way
    assert len(to_svg(draw_precision_recall(labels, probabilities, ["a", "b", "c", "d"]), "curves")) < 100_000
    cells = np.random.default_rng(0).integers(0, 9, (200, 200))
    assert len(to_svg(draw_confusion_matrix(cells, [str(index) for index in range(200)]), "matrix")) < 500_000


def test_reliability_has_each_curve_and_the_diagonal() -> None:
    before = (np.array([0.4, 0.8]), np.array([0.5, 0.6]), np.array([3, 3]))
    after = (np.array([0.3, 0.7]), np.array([0.5, 0.6]), np.array([3, 3]))
    figure = draw_reliability({"as trained": before, "T = 1.50": after})
    lines = [points_of(figure, line) for line in range(3)]
    assert lines == [[[0, 0], [1, 1]], [[0.4, 0.5], [0.8, 0.6]], [[0.3, 0.5], [0.7, 0.6]]]
    assert legend(figure) == ["as trained", "T = 1.50"]


def test_cells_are_coloured_by_their_share_of_the_row() -> None:
    """A class without images is a row of nothing, not of NaN."""
    figure = draw_confusion_matrix(np.array([[6, 2, 0], [0, 0, 0], [1, 0, 1]]), ["a", "b", "c"])
    (axes,) = figure.axes
    shares = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert shares.tolist() == [[0.75, 0.25, 0], [0, 0, 0], [0.5, 0, 0.5]]
    assert [text.get_text() for text in axes.texts] == ["75 %\n6", "25 %\n2", "50 %\n1", "50 %\n1"]
    assert axes.get_title() == "Confusion matrix\nshare of the true class, and count"
    assert axes.yaxis_inverted()  # the first class on top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_names_may_be_left_out_and_colours_are_explained_where_there_are_no_counts() -> None:
    axes = draw_confusion_matrix(np.eye(25, dtype=np.int64), None).axes[0]
    assert not axes.get_xticklabels()
    assert not axes.get_yticklabels()
    assert not axes.texts
    assert axes.get_title() == "Confusion matrix\ncolour: root of the share of the true class"


def test_names_are_taken_literally() -> None:
    """Not as mathematics, not as markup, not as matplotlib's sign for a line that goes unnamed."""
    names = ["_hidden", "$x^2$", "<script>alert(1)</script>", "an extraordinarily long name of a class", "猫"]
    labels, probabilities = drawn(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves = to_svg(draw_precision_recall(labels, probabilities, names), 'curves <of> & "all"')
        matrix = to_svg(draw_confusion_matrix(np.eye(5, dtype=int), names), "matrix")
    assert "<script" not in curves + matrix
    shown = ["_hidden", "$x^2$", "<script>alert(1)</scrip…", "an extraordinarily long…", "猫"]
    assert [text.rpartition(",")[0] for text in texts(curves)][-5:] == shown
    assert set(shown) <= set(texts(matrix))
    assert ElementTree.fromstring(curves).get("aria-label") == 'curves <of> & "all"'


@pytest.mark.parametrize("name", ["matrix", "reliability", "curves"])
def test_the_svg_takes_the_colour_and_the_width_of_the_page(name: str) -> None:
    point = (np.array([0.5]), np.array([0.5]), np.array([1]))
    figures: dict[str, Callable[[], Figure]] = {
        "matrix": lambda: draw_confusion_matrix(np.eye(30, dtype=int), [str(index) for index in range(30)]),
        "reliability": lambda: draw_reliability({"as trained": point}),
        "curves": lambda: draw_precision_recall(*drawn(3), ["a", "b", "c"]),
    }
    svg = to_svg(figures[name](), name)
    root = ElementTree.fromstring(svg)
    assert root.get("width") is None
    assert root.get("height") is None
    assert root.get("viewBox") is not None
    assert INK not in svg
    assert all("currentColor" in element.get("style", "") for element in root.iter(f"{SVG}text"))
    assert "white" not in svg
    assert "#ffffff" not in svg  # no background
    assert svg == to_svg(figures[name](), name)  # nothing of today's date or of chance


def test_identifiers_of_two_figures_differ() -> None:
    """They stand in one page."""
    labels, probabilities = drawn(3)
    ids = [
        {element.get("id") for element in ElementTree.fromstring(to_svg(figure, name)).iter(f"{SVG}clipPath")}
        for figure, name in ((draw_precision_recall(labels, probabilities, list("abc")), name) for name in "ab")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_the_png_is_on_white(tmp_path: Path) -> None:
    save_png(draw_confusion_matrix(np.array([[4, 0], [0, 4]]), ["a", "b"]), tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as image:
        colours = image.convert("RGB").getcolors(1_000_000)
    assert max(colours or [])[1] == (255, 255, 255)
    assert (47, 127, 209) in {colour for _, colour in colours or []}  # a share of 1, in full


ROWS = [
    {"epoch": 1.0, "train/loss": 1.0, "train/acc": 0.2, "val/acc": 0.5, "val/f1": 0.1},
    {"epoch": 2.0, "train/loss": 0.5, "train/acc": 0.4, "val/acc": 0.25, "val/f1": 0.2},
]


def lines_of(figure: Figure, panel: int) -> dict[str, list[list[float]]]:
    """The labelled lines of a panel."""
    lines = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in figure.axes[panel].lines}
    return {label: points for label, points in lines.items() if not label.startswith("_")}


def test_the_training_curves_are_the_history_with_the_baselines_across() -> None:
    baselines = {"part": "val", "majority": 0.35, "thumbnail_neighbour": 0.4, "near_duplicates": 0.01}
    figure = draw_curves(ROWS, [(0, 0.1), (1, 0.2)], baselines)
    assert lines_of(figure, 0) == {"train": [[1, 1], [2, 0.5]]}
    assert lines_of(figure, 1) == {
        "train": [[1, 0.2], [2, 0.4]],
        "val": [[1, 0.5], [2, 0.25]],
        "majority 0.350": [[0, 0.35], [1, 0.35]],
        "nearest thumbnail 0.400": [[0, 0.4], [1, 0.4]],
    }
    assert lines_of(figure, 2) == {"val": [[1, 0.1], [2, 0.2]]}
    assert np.asarray(figure.axes[3].lines[0].get_xydata()).tolist() == [[0, 0.1], [1, 0.2]]
    titles = ["loss", "accuracy (best val 0.5000 in epoch 1)", "macro-F1", "learning rate"]
    assert [axes.get_title() for axes in figure.axes] == titles
    assert figure.axes[1].get_legend_handles_labels()[1] == [
        "train",
        "val",
        "majority 0.350",
        "nearest thumbnail 0.400",
    ]


def test_a_run_without_scores_has_empty_curves() -> None:
    figure = draw_curves([{"epoch": 1.0}], [(0, 0.1)], {})
    assert [len(axes.lines) for axes in figure.axes] == [0, 0, 0, 1]
    assert [axes.get_title() for axes in draw_curves(ROWS, [], {}, ["loss", "f1"]).axes] == ["loss", "macro-F1"]


def test_a_png_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_png(draw_curves(ROWS, [(0, 0.1)], {}), tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()

    def breaks(self: Figure, path: Path, **how: Any) -> None:
        path.write_bytes(b"half a picture")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", breaks)
    with pytest.raises(OSError, match="no space"):
        save_png(draw_curves(ROWS, [(0, 0.2)], {}), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
