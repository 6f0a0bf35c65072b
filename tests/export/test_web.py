"""The web page: its facts, and its answers in headless Chromium beside those of `predict`."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.same_answers import by_page, compare, opened_page
from vit_lightning.cli import main
from vit_lightning.export.parity import Parity
from vit_lightning.export.web import PAGE, page_facts
from vit_lightning.inference import load_classifier, predict_paths
from vit_lightning.module import ViTClassifier

FACTS: dict[str, Any] = {"class_names": ["cat", "dog"], "image_size": [32, 48], "run": "first", "data": "pets"}
FACTS |= {"data_id": None, "split": "random", "test": {}, "licence": "MIT", "made_by": "vit_lightning 1"}


def test_the_page_says_how_good_the_model_is() -> None:
    told = page_facts(FACTS, Parity(largest=2e-6, pictures=18), "0123abcd")
    assert told["model"] == "model.onnx?0123abcd"  # another one is another address
    assert told["scores"][0] == "It was not tested on held-out pictures."
    assert "near copies" in told["scores"][1]
    assert told["facts"]["Data"] == "pets (identity not known)"
    assert told["facts"]["Looks at"].startswith("48 by 32 pixels")
    assert told["facts"]["Checked"] == "within 2e-06 of predict's probabilities on 18 pictures"


def test_the_page_names_no_other_host_and_forbids_to_ask_one() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in PAGE.iterdir())
    assert not re.search(r"https?://|//\w+\.\w+", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"unsafe-inline|'unsafe-eval'|\*", policy)


@pytest.fixture
def web(tmp_path: Path, save_model: Callable[[ViTClassifier, Path], str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The exported folder of a random model, `a.ckpt`."""
    if shutil.which("chromium") is None and shutil.which("google-chrome") is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; pip install playwright")
    from vit_lightning.export import runtime

    try:
        archive = runtime.find_runtime(tmp_path / "cache")
    except ValueError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"image_size": (32, 48), "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "stem": "conv"}
    model = ViTClassifier(class_names=["ant", "bee", "<b>cow"], **sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    save_model(model, tmp_path / "a.ckpt")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--run=a.ckpt", "--format=web", "--output=out", f"--runtime={archive}"]) == 0
    return tmp_path / "out/web"


@pytest.mark.slow
def test_the_page_says_what_predict_says(web: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    picture, exif = coarse.resize((90, 60), Image.Resampling.BICUBIC), Image.Exif()
    exif[0x0112] = 6  # on its side
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=90)
    picture.convert("L").save(tmp_path / "grey.webp", lossless=True)
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((90, 60)))
    clear.save(tmp_path / "clear.png")
    coarse.resize((3200, 2100), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
    paths = [tmp_path / name for name in ("plain.png", "turned.jpg", "grey.webp", "clear.png", "large.jpg")]
    model = load_classifier(tmp_path / "a.ckpt")
    told = [each.tolist() for _, each in predict_paths(model, paths)]
    expected: list[dict[str, float]] = [dict(zip(model.class_names, each, strict=True)) for each in told]
    found = by_page(web, paths)
    assert compare({"predict": [*expected], "page": found}, paths) == 0
    for path, ours, theirs in zip(paths, expected, found, strict=True):
        assert theirs is not None
        assert theirs == pytest.approx(ours, abs=0.02 if path.name in ("large.jpg", "clear.png") else 1e-4), path

    (tmp_path / "text.jpg").write_text("no picture")
    with opened_page(web) as page:
        data = page.evaluate_handle(
            """files => {
                const data = new DataTransfer();
                for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
                return data;
            }""",
            [[path.name, list(path.read_bytes())] for path in (tmp_path / "turned.jpg", tmp_path / "text.jpg")],
        )
        page.dispatch_event("body", "drop", {"dataTransfer": data})
        page.locator(".answer[data-label]").wait_for(timeout=60_000)
        page.locator(".answer[data-wrong]").wait_for(timeout=60_000)
        label = max(expected[1], key=expected[1].__getitem__)
        assert page.locator(".answer[data-label] h3").inner_text() == f"{label} {100 * expected[1][label]:.1f} %"
        assert "It is no picture that a browser reads" in page.locator(".answer[data-wrong]").inner_text()
        assert "1 picture labelled, 1 not read" in page.locator("#status").inner_text()
        assert "<b>cow" in page.locator("#classes").inner_text()  # a name, and no markup
        # The browser's own dialog stays closed: a busy machine does not always tell of it.
        page.evaluate(
            """() => document.getElementById("files").addEventListener("click", (event) => {
                event.preventDefault();
                document.body.dataset.asked = "yes";
            })"""
        )
        page.locator("#choose").press("Enter")
        page.locator("body[data-asked]").wait_for(timeout=60_000)
        page.locator("#files").set_input_files(str(paths[0]))
        page.locator(".answer[data-label]").nth(1).wait_for(timeout=60_000)
