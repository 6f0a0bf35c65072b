"""Every page, run as Streamlit runs it."""

import errno
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vit_lightning.registry import Registry, Version, write_registry
from vit_lightning.runs import Run, read_numbers, read_status
from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place
from vit_lightning.studio.views.shared import plain

Page = Callable[..., Any]


def errors(page: Any) -> list[str]:
    assert not page.exception, page.exception
    return [box.value for box in page.error]


def codes(page: Any) -> str:
    return "\n".join(each.value for each in page.code)


def end(logs: Path) -> None:
    """Stops what a page started."""
    for job in jobs.jobs_in(logs):
        jobs.stop(job)
    for _ in range(600):
        if not any(job.active for job in jobs.jobs_in(logs)):
            return
        time.sleep(0.1)


def until(there: Callable[[], bool]) -> None:
    """Waits for what another process does, five minutes at most."""
    for _ in range(3000):
        if there():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def wait(logs: Path) -> None:
    """Waits for the jobs to end."""
    until(lambda: not any(job.active for job in jobs.jobs_in(logs)))


def test_the_first_page_is_headed_as_promised(page: Page) -> None:
    home = page("home")
    assert [title.value for title in home.title] == ["vit_lightning studio"]
    assert [box.value for box in home.info] == ["Nothing was started here yet."]
    assert errors(home) == []


def test_the_first_page_shows_jobs_and_stops_them(page: Page, work: Path) -> None:
    job = jobs.start(work / "lightning_logs", ["sweep", "--nonsense"])
    home = page("home")
    assert "python cli.py sweep --nonsense" in codes(home)
    end(work / "lightning_logs")
    assert job.id in [each.id for each in jobs.jobs_in(work / "lightning_logs")]


def test_data_shows_what_check_sees(page: Page, frames: Path) -> None:
    data = page("data", asked={"data.source": "folder"}, folder=str(frames))
    assert errors(data) == []
    data.button(key="look").click().run()
    assert errors(data) == []
    view = data.session_state["view"]
    assert view.line.startswith("96 images, 4 classes, split random: train 50")
    assert [finding.name for finding in view.findings] == ["files", "classes", "split", "pictures", "labels"]
    assert len(view.samples) == 12
    assert f"--data.root={frames}" in codes(data)


def test_data_names_what_cannot_be_read(page: Page, work: Path, frames: Path) -> None:
    shutil.copytree(frames, work / "set")
    first = next((work / "set").rglob("*.jpg"), None) or next((work / "set").rglob("*.png"))
    first = first.rename(first.with_name(f"<b>{first.name}"))
    first.write_bytes(b"")
    data = page("data", asked={"data.source": "folder"}, folder=str(work / "set"))
    data.button(key="look").click().run()
    assert [name.rpartition("/")[2] for name in data.session_state["view"].unreadable] == [first.name]


@pytest.mark.parametrize("folder", ["/etc", "..", "/"])
def test_data_does_not_leave_the_roots(page: Page, folder: str) -> None:
    data = page("data", asked={"data.source": "folder"}, folder=folder)
    assert "lies outside" in errors(data)[0].replace("\\", "")


def test_data_refuses_a_link_to_outside(page: Page, work: Path, frames: Path, tmp_path: Path) -> None:
    shutil.copytree(frames, work / "set")
    (tmp_path / "secret").mkdir()
    next((work / "set").rglob("jerry")).joinpath("way").symlink_to(tmp_path / "secret")
    data = page("data", asked={"data.source": "folder"}, folder=str(work / "set"))
    data.button(key="look").click().run()
    assert "leads outside" in errors(data)[0].replace("\\", "")
    assert "view" not in data.session_state


def test_train_says_that_it_fits_and_what_does_not_in_fits_own_words(page: Page, frames: Path) -> None:
    train = page("train", asked={"data.source": "folder", "data.root": str(frames)}, recipe="folder")
    assert errors(train) == []
    assert "architecture valid" in train.success[0].value
    train.number_input(key="folder/model.heads").set_value(5).run()
    assert "dim 16 is not divisible by heads 5" in errors(train)[0].replace("\\", "")
    assert "--model.heads=5" in codes(train)
    train.button(key="reset").click().run()
    assert errors(train) == []
    assert "--model.heads" not in codes(train)


def test_train_starts_the_very_command_that_it_shows(page: Page, frames: Path, work: Path) -> None:
    train = page("train", asked={"data.source": "folder", "data.root": str(frames)}, recipe="folder")
    train.number_input(key="folder/model.depth").set_value(1).run()
    train.button(key="start").click().run()
    try:
        assert errors(train) == []
        (job,) = jobs.jobs_in(work / "lightning_logs")
        assert job.words == [
            *("fit", "--config=configs/folder.yaml", "--model.depth=1", "--data.source=folder"),
            *(f"--data.root={frames}", "--run=folder-001"),
        ] or set(job.words) == {
            *("fit", "--config=configs/folder.yaml", "--model.depth=1", "--data.source=folder"),
            *(f"--data.root={frames}", "--run=folder-001"),
        }
        assert job.device in ("cpu", "cuda", "mps")
    finally:
        end(work / "lightning_logs")


def test_kaggles_frames_that_cannot_be_had_are_a_line(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def unplugged(*arguments: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unplugged)
    monkeypatch.setattr("vit_lightning.data.kaggle.time.sleep", lambda _: None)
    (Path("configs") / "tom_and_jerry.yaml").write_text(Path("configs/folder.yaml").read_text())
    data = page("data")
    data.segmented_control(key="source").set_value("kaggle").run()
    assert errors(data) == []
    assert "check --config=configs/tom_and_jerry.yaml --data.source=kaggle" in codes(data)
    data.button(key="look").click().run()
    (line,) = errors(data)
    assert "could not download" in line
    assert "point --data.root at a copy" in line.replace("\\", "")


def test_a_full_disk_is_a_line_and_starts_nothing(
    page: Page, frames: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "there")

    monkeypatch.setattr("vit_lightning.studio.jobs.write_text", full)
    train = page("train", asked={"data.source": "folder", "data.root": str(frames)}, recipe="folder")
    train.button(key="start").click().run()
    (line,) = errors(train)
    assert "No space left on device" in line
    assert jobs.jobs_in(work / "lightning_logs") == []


def test_train_refuses_a_name_that_leads_elsewhere_or_is_taken(page: Page, frames: Path, work: Path) -> None:
    train = page("train", asked={"data.source": "folder", "data.root": str(frames)}, recipe="folder")
    for name, line in (("../x", "cannot be a run's name"), ("first", "already exists")):
        train.text_input(key="name-folder-001").set_value(name).run()
        train.button(key="start").click().run()
        assert line in errors(train)[0].replace("\\", "")
    assert jobs.jobs_in(work / "lightning_logs") == []


def test_train_has_a_sweep(page: Page, frames: Path) -> None:
    train = page("train", asked={"data.source": "folder", "data.root": str(frames)}, recipe="folder")
    train.text_area(key="grid").set_value("model.depth=1,2\nmodel.lr=1e-3,1e-4").run()
    assert "--grid=model.depth=1,2 --grid=model.lr=1e-3,1e-4 --run=folder-sweep" in codes(train)


@pytest.mark.slow
def test_a_sweep_and_a_folder_s_labels_from_the_pages(page: Page, frames: Path, work: Path) -> None:
    train = page("train", asked={"data.source": "folder", "data.root": str(frames)}, recipe="folder")
    train.text_area(key="grid").set_value("model.depth=1,2").run()
    train.button(key="start-sweep").click().run()
    assert errors(train) == []
    use = page("use", **{"predict-folder": str(frames)})
    use.button(key="predict").click().run()
    assert errors(use) == []
    wait(work / "lightning_logs")
    sweep, predict = jobs.jobs_in(work / "lightning_logs")
    assert (sweep.state, predict.state) == ("done", "done"), [*sweep.tail(), *predict.tail()]
    runs = page("runs")
    assert sum(name.startswith("folder-sweep") for name in runs.dataframe[0].value["run"]) == 2
    use.run()
    assert [button.label for button in use.get("download_button")] == ["Download the table"]
    (table,) = (work / "lightning_logs/first/predictions").glob("*.csv")
    assert len(table.read_text().splitlines()) == 97


@pytest.mark.slow
def test_pictures_that_are_deleted_in_mid_run_cost_no_run(page: Page, frames: Path, work: Path) -> None:
    shutil.copytree(frames, work / "pictures")
    words = ["fit", "--config=configs/folder.yaml", f"--data.root={work}/pictures", "--run=gone"]
    jobs.start(work / "lightning_logs", [*words, "--trainer.max_epochs=300"])
    folder = work / "lightning_logs/gone"
    until(lambda: len(read_numbers(folder / "history.csv")) > 1)
    shutil.rmtree(work / "pictures")
    seen = len(read_numbers(folder / "history.csv"))
    until(lambda: len(read_numbers(folder / "history.csv")) > seen + 1)  # it has them decoded
    watch = page("watch", watched=["gone"])
    assert errors(watch) == []
    watch.button(key="stop-gone").click().run()
    wait(work / "lightning_logs")
    assert Run(folder, read_status(folder / "status.json")).state == "interrupted"
    watch = page("watch", watched=["gone"])
    watch.button(key="resume-gone").click().run()
    wait(work / "lightning_logs")
    (line,) = errors(page("watch", watched=["gone"]))
    assert line == "The command failed; its last line:"
    assert f"the data folder {work}/pictures does not exist" in codes(page("watch", watched=["gone"]))
    assert (folder / "checkpoints/last.ckpt").is_file()


def test_watch_shows_a_run_with_curves_pictures_and_log(page: Page) -> None:
    watch = page("watch")
    assert errors(watch) == []
    assert any(text.value.startswith("first: finished, epoch 2/2, step 8") for text in watch.text)
    assert "epoch 2/2" in codes(watch)
    assert "fit --resume=first" in codes(watch)
    captions = [caption.value for caption in watch.caption]
    assert any("dotted what to beat: majority 0." in caption for caption in captions)
    assert "train_images.png" in captions


def test_watch_goes_on_with_a_finished_run_by_the_command(page: Page, work: Path) -> None:
    watch = page("watch")
    watch.button(key="resume-first").click().run()
    try:
        (job,) = jobs.jobs_in(work / "lightning_logs")
        assert job.words == ["fit", "--resume=first", "--trainer.max_epochs=7"]
    finally:
        end(work / "lightning_logs")


def test_watch_tells_a_run_that_waits_and_one_that_failed(page: Page, work: Path) -> None:
    folder = work / "lightning_logs" / jobs.FOLDER
    folder.mkdir()
    record = {"words": ["fit", "--run=later"], "device": "cpu", "state": "starting", "made": time.time()}
    (folder / "1.json").write_text(json.dumps(record))
    watch = page("watch", watched=["later"])
    assert any(text.value == "later: waiting" for text in watch.text)
    (folder / "1.json").write_text(json.dumps(record | {"words": ["fit", "--resume=first"], "state": "failed"}))
    (folder / "1.log").write_text("something\nerror: the disk is full <b>\n")
    watch = page("watch", watched=["first"])
    assert "error: the disk is full <b>" in codes(watch)


def test_runs_lists_ranks_filters_and_shows_one_in_full(page: Page) -> None:
    runs = page("runs")
    assert errors(runs) == []
    assert "runs --wide" in codes(runs)
    assert "total" in codes(runs)
    assert "patch_embedding" in codes(runs)
    runs.multiselect(key="states").set_value(["failed"]).run()
    assert errors(runs) == []
    assert "runs --state=failed --wide" in codes(runs)


def test_runs_names_the_champion_and_why(page: Page, work: Path) -> None:
    logs = work / "lightning_logs"
    assert page("runs").success == []
    started = read_status(logs / "first/status.json")["started"]
    version = Version(1, "first", str(logs / "first"), started, "2026-01-01", "0" * 64)
    told = {"time": "2026-01-02T03:04", "version": 1, "against": None, "outcome": "promoted", "figures": {}}
    write_registry(logs, Registry([version], {"champion": 1}, [told | {"reason": "it is *much* better"}]))
    runs = page("runs")
    assert errors(runs) == []
    assert [box.value for box in runs.success] == [
        plain("champion: first (version 1), 2026-01-02: it is *much* better")
    ]
    (facts,) = [table.value for table in runs.dataframe if "what" in table.value]
    assert list(facts[facts["what"] == "version 1"]["value"]) == [
        "promoted 2026-01-02T03:04, champion now: it is *much* better"
    ]
    (logs / "registry.json").write_text("{")
    assert "registry" in errors(page("runs"))[0]


def test_runs_compares_and_removes_after_a_dry_run(page: Page, work: Path) -> None:
    logs = work / "lightning_logs"
    shutil.copytree(logs / "first", logs / "second")
    runs = page("runs")
    runs.selectbox(key="second").set_value("second").run()
    runs.selectbox(key="first").set_value("first").run()
    runs.button(key="compare").click().run()
    assert "scored by both" in codes(runs) or "of one experiment" in codes(runs)
    runs.multiselect(key="going").set_value(["second"]).run()
    assert "remove" not in [button.key for button in runs.button]
    runs.button(key="dry").click().run()
    assert "would go" in codes(runs)
    assert (logs / "second").is_dir()
    runs.button(key="remove").click().run()
    assert not (logs / "second").exists()
    assert (logs / "first").is_dir()


def test_a_run_that_is_named_like_an_option_is_none(page: Page, work: Path) -> None:
    logs = work / "lightning_logs"
    shutil.copytree(logs / "first", logs / "--yes")
    shutil.copytree(logs / "first", logs / "second")
    runs = page("runs")
    runs.multiselect(key="going").set_value(["--yes", "second"]).run()
    runs.button(key="dry").click().run()
    assert errors(runs) == []
    assert (logs / "second").is_dir()
    assert "runs prune lightning_logs/--yes second --yes" in codes(
        runs
    ) or "second lightning_logs/--yes --yes" in codes(runs)


def test_a_picture_of_a_run_that_is_too_large_is_left_out(page: Page, work: Path) -> None:
    Image.new("1", (9000, 9000)).save(work / "lightning_logs/first/val_images.png")
    captions = [caption.value for caption in page("watch").caption]
    assert "train_images.png" in captions
    assert "val_images.png" not in captions


def test_what_nobody_expected_is_a_line_too(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(where: Place) -> None:
        raise RuntimeError("<b>")

    monkeypatch.setattr(Place, "runs", broken)
    for name in ("watch", "runs", "use", "mistakes"):
        assert "RuntimeError: <b> (unexpected" in errors(page(name))[0].replace("\\", "")


def test_a_thousand_runs_are_listed(page: Page, work: Path) -> None:
    logs = work / "lightning_logs"
    status = json.loads((logs / "first/status.json").read_text())
    for number in range(1000):
        folder = logs / f"many-{number:04}"
        folder.mkdir()
        (folder / "status.json").write_text(json.dumps(status | {"best": {"epoch": 1, "val/acc": number / 1000}}))
        shutil.copy(logs / "first/config.yaml", folder)
    runs = page("runs")
    assert errors(runs) == []
    table = runs.dataframe[0].value
    assert len(table) == 1001
    assert table["run"].iloc[0] == "many-0999"


def test_use_labels_a_picture_and_shows_where_it_looked(where: Place, frames: Path) -> None:
    from vit_lightning.studio.looking import Look, answers

    (run,) = where.runs()
    picture = next(path for path in frames.rglob("*") if path.suffix in (".jpg", ".png"))
    found = answers(run, [("<i>x</i>.jpg", picture), ("none", frames / "none.png")], Look(0, 99))
    assert found[0].name == "<i>x</i>.jpg"
    assert sum(share for _, share in found[0].classes) == pytest.approx(1.0, abs=1e-5)
    assert found[0].picture is not None
    assert found[0].attention is not None
    assert found[0].picture.shape == found[0].attention.shape
    assert found[1].reason != ""
    assert str(frames) not in found[1].reason


def test_use_has_models_beside_one_another_and_folders(page: Page, work: Path) -> None:
    use = page("use")
    assert errors(use) == []
    assert "predict --run=first --images PICTURE --attention" in codes(use)
    assert use.selectbox(key="block").options[:2] == ["through all blocks (rollout)", "in block 1"]
    use.selectbox(key="block").set_value(0).run()
    assert errors(use) == []
    assert use.selectbox(key="head").options[:2] == ["all heads", "head 1"]
    assert f"predict --run=first --images {work}" in codes(use)


def test_a_film_has_its_command_and_its_time_line(page: Page, work: Path) -> None:
    (work / "clip.mp4").touch()
    use = page("use")
    use.selectbox(key="film").set_value("clip.mp4").run()
    words = ["predict", "--run=first", "--images", f"{work}/clip.mp4", "--top=8", "--every=1", "--smooth=0"]
    assert " ".join(words) in codes(use)
    folder = work / "lightning_logs/.studio"
    folder.mkdir(exist_ok=True)
    (folder / "00000000000000000007.json").write_text(json.dumps({"words": words, "state": "done", "made": 0}))
    table = work / "lightning_logs/first/predictions/0001.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("path,label,index,confidence,time\nclip.mp4,a,0,0.9,0.0\nclip.mp4,b,1,0.8,1.0\n")
    use.session_state["filming"] = "00000000000000000007"
    use.run()
    assert errors(use) == []
    assert [button.label for button in use.get("download_button")] == ["Download the table"]
    assert len(use.get("vega_lite_chart")) == 1


def test_mistakes_are_shown_and_put_right_in_a_file_of_their_own(page: Page, where: Place, work: Path) -> None:
    from vit_lightning.studio.labels import mistakes as found_in

    (run,) = where.runs()
    mistakes = page("mistakes")
    assert errors(mistakes) == []
    surest = found_in(run, where)[0]
    mistakes.selectbox(key=f"first/{surest.path}").set_value(surest.predicted)
    next(button for button in mistakes.button if button.label == "Keep the labels").click().run()
    assert errors(mistakes) == []
    assert (run.folder / "corrections/labels.csv").read_text() == f"path,label\n{surest.path},{surest.predicted}\n"
    assert "--data.labels=lightning_logs/first/corrections/labels.csv" in codes(page("mistakes"))


@pytest.mark.parametrize("name", ["train", "watch", "runs", "use", "mistakes"])
def test_without_a_run_every_page_says_what_to_do(page: Page, work: Path, name: str) -> None:
    shutil.rmtree(work / "lightning_logs")
    shown = page(name)
    assert errors(shown) == []
    assert name == "train" or "Train" in shown.info[0].value or "Runs" in shown.info[0].value


def test_a_folder_of_runs_that_holds_rubbish_is_no_end(page: Page, work: Path) -> None:
    logs = work / "lightning_logs"
    (logs / "first/status.json").write_text("{")
    (logs / "first/history.csv").write_bytes(b"\xff\x00")
    (logs / "first/report/predictions.csv").write_text("a,b\n1,2\n")
    (logs / "first/report/report.html").write_text("<script>alert(1)</script>")
    for name in ("home", "watch", "runs", "use"):
        assert errors(page(name)) == []
    assert "no table of predictions" in errors(page("mistakes"))[0].replace("\\", "")


def test_a_report_is_shown_without_its_scripts_and_without_our_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    from vit_lightning.studio.views import runs

    sent: list[str] = []
    monkeypatch.setattr("streamlit.iframe", lambda page, **_: sent.append(page))
    runs.show_report('<script>alert("1")</script>')
    assert sent[0].startswith("<iframe sandbox srcdoc=")
    assert "<script>" not in sent[0]


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>", "![x](http://y)", "[a](javascript:b)", "**a**", "$x$", ":red[a]", "`a`", "a\nb"],
)
def test_names_are_no_markup(name: str) -> None:
    shown = plain(name)
    assert "\n" not in shown
    for sign in "<[*$`:!(":
        assert shown.count(sign) == shown.count("\\" + sign)


def test_a_small_picture_of_a_mistake_is_bounded(work: Path) -> None:
    from vit_lightning.studio.views import mistakes

    Image.new("RGB", (7000, 7000)).save(work / "large.png")
    with pytest.raises(ValueError, match="million pixels"):
        mistakes.small(str(work / "large.png"))
