"""The model card says what is known, and what is not."""

from typing import Any

import pytest
import yaml

from vit_lightning.export.card import front_matter, model_card, scores

FACTS: dict[str, Any] = {
    "class_names": ["cat", "do|g`"],
    "image_size": [32, 48],
    "run": "first",
    "data": "pets",
    "data_id": "0123",
    "split": "blocks",
    "test": {
        "accuracy": 0.75,
        "macro_f1": 0.7,
        "images": 1200,
        "part": "test",
        "intervals": {"accuracy": [0.7, 0.8]},
        "groups": {"kind": "blocks of 4 frames", "count": 30},
    },
    "val": {"val/acc": 0.9},
    "licence": "CC BY 4.0",
    "made_by": "vit_lightning 1",
}
ARGUMENTS: dict[str, Any] = {
    "in_channels": 3,
    "patch_size": 8,
    "dim": 8,
    "depth": 1,
    "heads": 2,
    "pool": "cls",
    "stem": "patch",
}


def test_scores_stand_with_what_they_were_measured_on() -> None:
    first, *others = scores(FACTS)
    assert first == ("Accuracy 0.750 on 1,200 test pictures, 95 % interval 0.700 to 0.800 over 30 blocks of 4 frames.")
    assert any("Validation accuracy 0.900" in each for each in others)
    assert any("stretches" in each for each in others)
    leaks = {"near_duplicates": {"flagged": True, "share": 0.45}}
    assert "The split leaks: 45% of these have a near-duplicate in training, so it measures memory." in scores(
        FACTS | {"test": FACTS["test"] | leaks}
    )
    assert scores({}) == ["It was not tested on held-out pictures."]


def test_the_head_is_what_hubs_read() -> None:
    card = model_card(FACTS, ARGUMENTS, timm=True)
    assert card.startswith("---\n")
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        "cc-by-4.0",
        "timm",
        "image-classification",
    )
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "name": "Accuracy", "value": 0.75}
    untested = front_matter(FACTS | {"test": {}}, timm=False)
    assert "model-index" not in untested
    assert "library_name" not in untested


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ("not stated", {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("frames: \n ask us", {"license": "other", "license_name": "frames: \\n ask us"}),
    ],
)
def test_a_licence_that_hubs_do_not_know_stays_in_its_words(licence: str, told: dict[str, str]) -> None:
    head = front_matter(FACTS | {"licence": licence}, timm=True)
    assert {name: value for name, value in head.items() if name.startswith("license")} == told


def test_names_from_outside_are_no_markup() -> None:
    assert "`cat`, `do|g'`" in model_card(FACTS, ARGUMENTS, timm=True)


def test_it_says_where_the_weights_come_from_and_whether_timm_knows_them() -> None:
    assert "trained from scratch" in model_card(FACTS, ARGUMENTS, timm=True)
    card = model_card(FACTS, ARGUMENTS | {"init_from": "a.ckpt", "stem": "conv"}, timm=False)
    assert "**not from scratch**" in card
    assert "timm has no such network" in card
    assert "create_model" not in card
