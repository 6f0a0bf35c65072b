"""The form is the parser's: its options, its types, its lines."""

from pathlib import Path

import pytest

from vit_lightning.data.datamodule import ImageDataModule
from vit_lightning.models.vit import VisionTransformer
from vit_lightning.module import ViTClassifier
from vit_lightning.studio.cost import cost_of, device_of
from vit_lightning.studio.fields import NOT_ASKED, check_grid, check_paths, draft, form, recipes, words_of
from vit_lightning.studio.roots import Place

DEMO = str(Path(__file__).parent.parent.parent / "configs/demo.yaml")


def test_every_argument_of_network_training_and_data_has_a_field_in_its_group() -> None:
    import inspect

    fields, before = form(DEMO, 0.0)
    groups = {field.name: field.group for field in fields}
    network = set(inspect.signature(VisionTransformer).parameters)
    for owner, section in ((VisionTransformer, "model"), (ViTClassifier, "model"), (ImageDataModule, "data")):
        for name in inspect.signature(owner).parameters:
            option = f"{section}.{name}"
            linked = section == "data" and name in ("image_size", "in_channels")  # they are the model's
            if option not in NOT_ASKED and name != "network" and not linked:
                assert option in groups, option
    assert groups["model.depth"] == "Network"
    assert groups["model.lr"] == "Optimisation"
    assert groups["data.augment"] == groups["model.cutmix"] == "Augmentation"
    assert groups["data.split"] == "Data"
    assert groups["trainer.max_epochs"] == "Run"
    assert all(groups[f"model.{name}"] in ("Network", "Augmentation") for name in network - {"num_classes"})
    assert before["model.depth"] == "4"
    assert before["data.augment"] == "light"


def test_types_and_texts_are_the_parsers() -> None:
    fields = {field.name: field for field in form(DEMO, 0.0)[0]}
    assert fields["model.pool"].kind == "choice"
    assert fields["model.pool"].choices == ("cls", "gap")
    assert fields["model.class_weights"].choices == ("", "balanced")
    assert fields["model.compile"].kind == "switch"
    assert fields["model.depth"].kind == "whole"
    assert fields["model.patch_size"].kind == "text"  # it may be left out
    assert fields["model.lr"].help == "Peak learning rate."


def test_nothing_that_runs_code_or_names_a_file_to_be_written_is_asked_for() -> None:
    names = {field.name for field in form(DEMO, 0.0)[0]}
    assert not names & {
        "trainer.callbacks",
        "trainer.logger",
        "trainer.default_root_dir",
        "data.cache_dir",
        "ckpt_path",
    }


def test_only_what_was_changed_becomes_an_option() -> None:
    before = {"model.depth": "4", "model.ema": "0.9", "model.lr": "0.001"}
    asked = {"model.depth": "6", "model.ema": "", "model.lr": "0.001", "data.root": "/a b"}
    assert words_of("c.yaml", before, asked) == [
        "--config=c.yaml",
        "--model.depth=6",
        "--model.ema=null",
        "--data.root=/a b",
    ]


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--model.depth=x", "model.depth is x; expected a whole number"),
        ("--model.heads=7", "dim 96 is not divisible by heads 7"),
        ("--data.val_fraction=1.5", "data.val_fraction is 1.5; expected a number in [0, 1)"),
        ("--trainer.max_epochs=0", "there is nothing to train"),
        ("--model.dim=1000000", "more than the"),
    ],
)
def test_a_mistake_is_told_as_fit_tells_it(option: str, line: str) -> None:
    with pytest.raises(ValueError, match=line.replace("[", r"\[").replace(")", r"\)")):
        draft([f"--config={DEMO}", option])


def test_a_draft_takes_no_memory_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drafted = draft([f"--config={DEMO}"])
    assert {parameter.device.type for parameter in drafted.model.parameters()} == {"meta"}
    assert list(tmp_path.iterdir()) == []


def test_the_cost_of_a_network(work: Path, frames: Path) -> None:
    words = ("--config=configs/folder.yaml", f"--data.root={frames}", "--model.pool=gap")
    cost = cost_of(words)
    weights = sum(parameter.numel() for parameter in draft(words).model.parameters())
    assert cost.parameters == weights
    assert (cost.tokens, cost.grid, cost.image) == (15, (3, 5), (36, 60))
    assert cost.images == 48
    assert cost.device == "cpu"
    assert cost.memory is not None
    assert cost.memory > 16 * weights
    guided = cost_of((*words, "--model.guide=1"))
    assert guided.parameters == weights  # a guide is no part of the model, but takes memory
    assert guided.memory is not None
    assert guided.memory > 1.2 * cost.memory
    assert cost.rate is not None
    assert cost.lines()[-1].startswith("an epoch of about 48 images takes about")


def test_a_processor_is_what_is_asked_for() -> None:
    assert device_of("cpu") == "cpu"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.split", "/etc/parts.csv"),
        ("data.split", "../parts.csv"),
        ("data.group_by", "/etc/groups.csv:clip"),
        ("model.init_from", "/etc/model.ckpt"),
        ("model.init_from", "../other/lightning_logs/run"),
        ("model.init_from", "~/vit.safetensors"),
    ],
)
def test_options_name_no_file_outside_the_roots(where: Place, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .* lies outside"):
        check_paths({name: text}, where)


def test_options_name_files_inside(where: Place, work: Path) -> None:
    asked = {"data.split": f"{work}/parts.csv", "data.group_by": r"clip(\d+)", "model.init_from": "first"}
    check_paths(asked, where)
    check_paths({"data.split": "lightning_logs/first/split.csv", "data.group_by": "folder"}, where)


@pytest.mark.parametrize(
    "line",
    [
        "data.root=/etc,/home",
        "trainer.callbacks=x",
        "model.depth",
        "data.split=random,/etc/a.csv",
        "trainer.logger=a,b",
    ],
)
def test_a_sweep_varies_no_more_than_the_form_asks_for(where: Place, line: str) -> None:
    names = [field.name for field in form(DEMO, 0.0)[0]]
    check_grid(["model.depth=1,2", "data.split=random,blocks"], names, where)
    with pytest.raises(ValueError, match=r"varies no field|lies outside"):
        check_grid([line], names, where)


def test_no_field_takes_a_class(where: Place) -> None:
    with pytest.raises(ValueError, match="expected a number or a word"):
        check_paths({"trainer.accelerator": '{"class_path": "antigravity.X"}'}, where)


def test_without_recipes_it_is_said_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "demo" in recipes()  # those beside the package
    monkeypatch.setattr("vit_lightning.__file__", str(tmp_path / "vit_lightning/__init__.py"))
    with pytest.raises(FileNotFoundError, match="no configs"):
        recipes()
