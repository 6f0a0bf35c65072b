"""Whether the exported ONNX file, the web page and a server say of pictures what `predict` says.

Each answers the same files: `predict` as on the command line, which decodes large JPEGs at a reduced size; `whole`, the
same model on pictures that Pillow has decoded in full; the ONNX file on these; the page in headless Chromium, which
decodes by itself; with --url also a server that is running. Of every two it tells the
largest difference of a probability and how many labels differ, and of how many of them the first one's likeliest class
leads by more than 0.05. Where that is one or more, the exit status is 1.

    python -m benchmarks.same_answers --run RUN --images FOLDER
"""

import argparse
import http.server
import json
import shutil
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from vit_lightning.cli import main as command
from vit_lightning.data.images import load_image
from vit_lightning.export.parity import Classifier, as_predicted
from vit_lightning.inference import find_images, load_classifier, predict_paths

#: How far the likeliest class has to lead for its label to count.
LEAD = 0.05

#: Pictures that the page is given at a time, and the milliseconds that it may take for them.
AT_A_TIME, PATIENCE = 20, 120_000

#: Probabilities by class, of all classes or of some; None where there is no answer.
Answer = dict[str, float] | None


def main() -> int:
    """Compares; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default=None, help="as for predict; left out, the latest finished run")
    parser.add_argument("--images", nargs="+", required=True, help="files and folders")
    parser.add_argument("--most", type=int, default=300, help="pictures at most, from end to end (default 300)")
    parser.add_argument("--web", type=Path, help="a folder that `export --format web` has made; left out, it is made")
    parser.add_argument("--url", help="of a server that is running, which is asked with POST /predict")
    parser.add_argument("--without-page", action="store_true", help="leaves the browser out")
    options = parser.parse_args()
    paths = [Path(path) for path in find_images(options.images)]
    paths = paths[:: -(-len(paths) // options.most)]
    with tempfile.TemporaryDirectory() as folder:
        web = options.web or Path(folder) / "web"
        if options.web is None:
            run = [] if options.run is None else ["--run", options.run]
            if command(["export", *run, "--format", "web", "--output", folder, "--pictures", "0"]):
                return 2
        contenders: dict[str, Callable[[Sequence[Path]], list[Answer]]]
        contenders = {"predict": partial(predicted, options.run), "whole": partial(by_whole, options.run)}
        contenders["onnx"] = partial(by_onnx, web / "model.onnx")
        if not options.without_page:
            contenders["page"] = partial(by_page, web)
        if options.url:
            contenders["server"] = partial(by_server, options.url)
        answers = {name: answer(paths) for name, answer in contenders.items()}
    return int(compare(answers, paths) > 0)


def predicted(run: str | None, paths: Sequence[Path]) -> list[Answer]:
    """What `predict` says."""
    model = load_classifier(run)
    found = dict(predict_paths(model, paths, on_error="skip"))
    names = model.class_names
    return [dict(zip(names, found[str(path)].tolist(), strict=True)) if str(path) in found else None for path in paths]


def by_whole(run: str | None, paths: Sequence[Path]) -> list[Answer]:
    """What the run's model says of pictures as Pillow decodes them."""
    model = load_classifier(run)
    return [of_pixels(path, partial(as_predicted, model), model.class_names) for path in paths]


def by_onnx(onnx: Path, paths: Sequence[Path]) -> list[Answer]:
    """What the ONNX file says of pictures as Pillow decodes them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    return [of_pixels(path, lambda images: session.run(None, {"images": images})[0], names) for path in paths]


def of_pixels(path: Path, classify: Classifier, names: Sequence[str]) -> Answer:
    """What is said of one decoded picture."""
    try:
        pixels = np.array(load_image(path))
    except OSError:
        return None
    return dict(zip(names, classify(pixels[None])[0].tolist(), strict=True))


def by_page(web: Path, paths: Sequence[Path]) -> list[Answer]:
    """What the page says in headless Chromium.

    Raises:
        RuntimeError: It has asked another host for something, or has an error.
    """
    names = json.loads((web / "model.json").read_text(encoding="utf-8"))["class_names"]
    answers: list[Answer] = []
    with opened_page(web) as page:
        for start in range(0, len(paths), AT_A_TIME):
            some = paths[start : start + AT_A_TIME]
            page.locator("#files").set_input_files([str(path) for path in some])
            done = page.locator(".answer[data-label], .answer[data-wrong]")
            done.nth(len(some) - 1).wait_for(timeout=PATIENCE)
            told = [each.get_attribute("data-probabilities") for each in page.locator(".answer").all()]
            # The last one given stands first.
            answers += [dict(zip(names, json.loads(each), strict=True)) if each else None for each in reversed(told)]
            page.get_by_role("button", name="Clear all").click()
    return answers


@contextmanager
def opened_page(web: Path, **context: Any) -> Iterator[Any]:  # noqa: ANN401  # Playwright's own options and page
    """A served folder's page in headless Chromium, ready to answer.

    Raises:
        RuntimeError: It has asked another host for something, or has an error.
    """
    from playwright.sync_api import sync_playwright

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(web)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, trouble = f"http://127.0.0.1:{server.server_port}", []
    try:
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = browser.new_context(**context).new_page()
            page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
            allowed = (address, f"blob:{address}", "data:")
            page.context.on(
                "request", lambda request: None if request.url.startswith(allowed) else trouble.append(request.url)
            )
            page.goto(f"{address}/")
            page.locator("html[data-ready], html:has(#status.wrong)").wait_for(state="attached", timeout=PATIENCE)
            if page.locator("#status.wrong").count():
                raise RuntimeError(f"the page: {page.locator('#status').inner_text()}")
            yield page
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    if trouble:
        raise RuntimeError(f"the page: {'; '.join(trouble[:3])}")


def by_server(url: str, paths: Sequence[Path]) -> list[Answer]:
    """What a server says, one picture a request, as raw bytes."""

    def answer(path: Path) -> Answer:
        asked = urllib.request.Request(
            f"{url.rstrip('/')}/predict?top=1000000", path.read_bytes(), {"Content-Type": "application/octet-stream"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as reply:
                told = json.load(reply)
        except OSError:
            return None
        return {each["label"]: each["probability"] for each in told["predictions"][0]["top"]}

    return [answer(path) for path in paths]


def compare(answers: dict[str, list[Answer]], paths: Sequence[Path]) -> int:
    """Prints a line for every two; gives how many labels differ that should not."""
    print(f"\n{'':20} {'pictures':>8} {'largest':>9} {'mean':>9} {'other labels':>13} {'where sure':>11}")
    failed = 0
    for one, other in combinations(answers, 2):
        apart, labels, sure = [], 0, []
        for path, ours, theirs in zip(paths, answers[one], answers[other], strict=True):
            if ours is None or theirs is None:
                continue
            apart.append(max(abs(ours[name] - theirs[name]) for name in ours.keys() & theirs.keys()))
            second, first = sorted((0.0, *ours.values()))[-2:]
            differs = max(ours, key=ours.__getitem__) != max(theirs, key=theirs.__getitem__)
            labels += differs
            if differs and first - second > LEAD:
                sure.append(f"{path} ({first:.3f}, then {second:.3f}; apart by {apart[-1]:.3f})")
        largest, mean = (max(apart), sum(apart) / len(apart)) if apart else (float("nan"),) * 2
        print(f"{one + ', ' + other:20} {len(apart):8} {largest:9.2g} {mean:9.2g} {labels:13} {len(sure):11}")
        for each in sure[:5]:
            print(f"    {each}")
        failed += len(sure)
    for name, found in answers.items():
        if gone := [str(path) for path, answer in zip(paths, found, strict=True) if answer is None]:
            print(f"{name} has no answer to {len(gone)}, such as {gone[0]}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
