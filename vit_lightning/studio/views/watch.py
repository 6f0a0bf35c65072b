"""Runs while they train: how far they are, their curves and pictures; stopping and going on."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from vit_lightning.commands.runs_table import duration
from vit_lightning.progress import legible
from vit_lightning.runs import Run
from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place
from vit_lightning.studio.views.shared import begin, command, guarded, page, show_job
from vit_lightning.studio.watching import Sight, Steps, last_points, pictures_of, see

#: Runs over one another at most.
MOST = 6

#: Seconds between two drawings of curves by step, once they have so many.
PACE, FEW = 5.0, 200

#: Lines of a log that are shown.
LINES = 200


@page
def show(where: Place) -> None:
    """The page."""
    st.title("Watch")
    runs = where.runs()
    names = [run.name for run in runs if not run.is_folds]
    asked_for = [job.run for job in jobs.jobs_in(where.logs) if job.active and job.command == "fit" and job.run]
    names = [*(name for name in dict.fromkeys(asked_for) if name not in names), *names]
    if not names:
        st.info("There is no run yet. The page Train starts one.")
        return
    wanted = [name for name in st.session_state.get("watched", []) if name in names]
    wanted = wanted or [run.name for run in runs if run.state == "running"][:1] or names[:1]
    chosen = st.multiselect("Runs, over one another", names, default=wanted, key="watching", max_selections=MOST)
    st.session_state["watched"] = chosen
    if chosen:
        live(where, chosen)
        records(where, chosen)


@st.fragment(run_every=1)
@guarded
def live(where: Place, chosen: Sequence[str]) -> None:
    """What changes while one looks; every second."""
    found = where.runs_named(chosen)
    sights = [see(found[name], steps_of(str(found[name].folder))) for name in chosen if name in found]
    for name in chosen:
        with st.container(border=True):
            sight = next((each for each in sights if each.run.name == name), None)
            show_progress(where, name, sight)
    if sights:  # empty charts, too: the browser then has loaded what draws them when the first point comes
        show_curves(settled(sights))


def settled(sights: Sequence[Sight]) -> Sequence[Sight]:
    """What is drawn: as it is now where little is there yet, else as it was some seconds ago, to spare the browser."""
    kept, now = st.session_state.get("drawn"), time.monotonic()
    few = any(sight.step < FEW for sight in sights)
    if kept is None or few or now - kept[0] > PACE or epochs_of(kept[1]) != epochs_of(sights):
        kept = now, sights
    st.session_state["drawn"] = kept
    drawn: Sequence[Sight] = kept[1]
    return drawn


def epochs_of(sights: Sequence[Sight]) -> list[tuple[str, int]]:
    """Names and epochs: a new one is drawn at once."""
    return [(sight.run.name, len(sight.epochs)) for sight in sights]


@st.fragment(run_every=5)
@guarded
def records(where: Place, chosen: Sequence[str]) -> None:
    """Pictures and logs; less often, since wide pictures are made smaller each time."""
    found = where.runs_named(chosen)
    for name in chosen:
        if name in found:
            show_record(where, found[name], several=len(chosen) > 1)


@st.cache_resource(max_entries=MOST, show_spinner=False)
def steps_of(folder: str) -> Steps:
    """The reader of a run's steps, which goes on where it was; of a few runs."""
    from pathlib import Path

    return Steps(Path(folder))


def show_progress(where: Place, name: str, sight: Sight | None) -> None:
    """How far a run is, and the buttons that stop it or have it go on."""
    job = jobs.job_of(where.logs, name)
    left, right = st.columns([3, 1], vertical_alignment="center")
    if sight is None or not sight.run.status:
        left.text(f"{legible(name)}: {job.state if job else 'not there yet'}")
        if job is not None and job.active and right.button("Stop", key=f"stop-{name}", width="stretch"):
            jobs.stop(job)
        if job is not None:
            show_job(job)
        return
    run, of_all = sight.run, f"/{sight.max_epochs}" if sight.max_epochs else ""
    words = f"{legible(name)}: {run.state}, epoch {len(sight.epochs)}{of_all}, step {sight.step:,}"
    if sight.seconds_left is not None:
        words += f", about {duration(sight.seconds_left)} left"
    if run.best_acc is not None:
        words += f", best val/acc {run.best_acc:.4f}"
    left.text(words)
    left.progress(sight.share, text="run")
    if run.state == "running":
        left.progress(sight.share_of_epoch, text="epoch")
        asked = job is not None and job.active and job.stop_file.exists()
        text = "Stopping ..." if asked else "Stop"
        if right.button(
            text, key=f"stop-{name}", width="stretch", disabled=asked, help="As Ctrl-C does: nothing is lost."
        ):
            if job is not None and job.active:
                jobs.stop(job)
            else:
                jobs.stop_run(run)
    elif job is not None and job.active:
        left.text("waiting: it goes on in its turn" if job.state == "waiting" else "the command is at work")
    else:
        if job is not None and job.state == "failed":
            st.error("The command failed; its last line:")
            st.code(job.reason(), language=None, wrap_lines=True)
        resume(where, sight, right)


def resume(where: Place, sight: Sight, column: "st.delta_generator.DeltaGenerator") -> None:
    """The button that has a run go on, with more epochs where it is through."""
    name, words = sight.run.name, ["fit", f"--resume={sight.run.name}"]
    if sight.run.state == "finished":
        least = (sight.max_epochs or 0) + 1
        more = column.number_input("epochs in all", min_value=least, value=least + 4, key=f"epochs-{name}")
        words.append(f"--trainer.max_epochs={more}")
    device = jobs.device_of_run(sight.run)
    if column.button("Go on", key=f"resume-{name}", width="stretch", help=jobs.command_line(words)):
        begin(where, words, device)


def show_curves(sights: Sequence[Sight]) -> None:
    """Loss, accuracy and learning rate; what to beat as lines across."""
    left, right = st.columns(2)
    epochs = [
        {"x": row["epoch"], "y": row[f"{part}/{score}"], "run": sight.run.name, "part": part, "score": score}
        for sight in sights
        for row in sight.epochs
        for part in ("train", "val")
        for score in ("acc", "loss")
        if f"{part}/{score}" in row
    ]
    lines = sights[0].baselines if len(sights) == 1 else {}
    with left:
        beat = "; dotted what to beat: " + ", ".join(f"{name} {value:.3f}" for name, value in lines.items())
        st.caption("accuracy by epoch, dashed on training images" + beat * bool(lines))
        draw([row for row in epochs if row["score"] == "acc"], "epoch", "acc", lines)
    with right:
        st.caption("loss by epoch, dashed on training images")
        draw([row for row in epochs if row["score"] == "loss"], "epoch", "loss")
    steps: list[dict[str, Any]] = [
        {"x": step, "y": loss, "run": sight.run.name, "part": "train"}
        for sight in sights
        for step, loss in last_points(sight.losses)
    ]
    rates: list[dict[str, Any]] = [
        {"x": row["step"], "y": row["lr"], "run": sight.run.name, "part": "train"}
        for sight in sights
        for row in sight.rates
        if "lr" in row
    ]
    with left:
        st.caption("loss of a batch by step")
        draw(steps, "step", "steps")
    with right:
        st.caption("learning rate by step")
        draw(rates, "step", "rates")


def draw(rows: Sequence[dict[str, Any]], title: str, key: str, lines: Mapping[str, float] | None = None) -> None:
    """Draws curves of one kind: a colour a run, dashes for training where there is validation.

    The numbers go beside Vega-Lite's description and not into it: what stays the same is then not drawn anew.

    Args:
        rows: With x, y, run and part (`train` or `val`).
        title: Of the x axis.
        key: The chart's own.
        lines: Values that are drawn across, by name.
    """
    encoding: dict[str, Any] = {
        "x": {"field": "x", "type": "quantitative", "title": title, "axis": {"tickMinStep": 1, "format": "d"}},
        "y": {"field": "y", "type": "quantitative", "title": None, "scale": {"zero": False}},
        "color": {"field": "run", "type": "nominal", "legend": {"orient": "bottom", "title": None}},
    }
    if any(row["part"] == "val" for row in rows):
        dashes = {"domain": ["val", "train"], "range": [[1, 0], [4, 3]]}
        encoding["strokeDash"] = {"field": "part", "type": "nominal", "scale": dashes, "legend": None}
    layers: list[dict[str, Any]] = [{"mark": {"type": "line", "point": len(rows) < 40}, "encoding": encoding}]
    for value in (lines or {}).values():
        mark = {"type": "rule", "strokeDash": [1, 3], "color": "#888888"}
        layers.append({"mark": mark, "encoding": {"y": {"datum": value}}})
    st.vega_lite_chart(list(rows), {"layer": layers, "height": 240}, key=key)


def show_record(where: Place, run: Run, *, several: bool) -> None:
    """Pictures and log of a run."""
    with st.expander(f"Pictures and log{' of the run below' if several else ''}", expanded=not several):
        if several:
            st.text(run.name)
        for path in pictures_of(run, where):
            st.caption(path.name)
            st.image(path.read_bytes(), width="stretch")
        log = where.file_of(run, "run.log")
        if log is not None:
            st.code("\n".join(jobs.last_lines(log, LINES)), language=None, height=300)
    command(["fit", f"--resume={run.name}"], "To go on with it on the command line")
