"""A trained model at work: pictures that are dropped, a camera's, a folder's, a film's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from vit_lightning.data.index import FORMATS
from vit_lightning.runs import Run
from vit_lightning.studio import jobs
from vit_lightning.studio.films import films_in, time_line
from vit_lightning.studio.roots import Place
from vit_lightning.studio.uploads import PICTURES, kept
from vit_lightning.studio.views.shared import begin, browse, choose_run, command, guarded, page, plain, show_job

if TYPE_CHECKING:
    from vit_lightning.studio.looking import Answer

#: Classes of a film's frame that are told and drawn.
CLASSES = 8


@page
def show(where: Place) -> None:
    """The page."""
    st.title("Use")
    runs = [run for run in where.runs() if not run.is_folds and has_weights(run)]
    left, right = st.columns(2)
    with left:
        first = choose_run(runs, "Model", "model", st.session_state.get("used"))
    if first is None:
        return
    st.session_state["used"] = first.name
    with right:
        name = st.selectbox("beside it", [run.name for run in runs], index=None, key="beside", placeholder="no other")
    second = next((run for run in runs if run.name == name), None)
    models = [first, *([second] if second is not None and second.name != first.name else [])]
    pictures, folder, film = st.tabs(["Pictures", "A folder", "A film"])
    with pictures:
        by_hand(models)
    with folder:
        by_folder(where, first)
    with film:
        by_film(where, first)


def has_weights(run: Run) -> bool:
    """Whether there is a checkpoint."""
    return any((run.folder / "checkpoints" / f"{name}.ckpt").is_file() for name in ("best", "last"))


def by_hand(models: Sequence[Run]) -> None:
    """Pictures that are dropped or taken now."""
    sent: list[Any] = list(
        st.file_uploader(
            f"Drop pictures ({', '.join(ending.removeprefix('.') for ending in FORMATS)})",
            accept_multiple_files=True,
            type=[ending.removeprefix(".") for ending in FORMATS],
            key="dropped",
            help=f"Up to {PICTURES} at once; they are read, labelled, and kept nowhere.",
        )
    )
    if st.toggle("Take one with the camera", key="camera"):
        taken = st.camera_input("Camera", label_visibility="collapsed", key="taken")
        sent += [taken] if taken is not None else []
    look = where_it_looks(models[0])
    if sent:
        from vit_lightning.studio.looking import Look, answers

        with kept(sent) as (pictures, refused), st.spinner("looking"):
            found = [answers(run, pictures, Look(*look)) for run in models]
        for line in refused:
            st.error(plain(line), icon=":material/error:")
        for together in zip(*found, strict=True):
            with st.container(border=True):
                show_answers(models, together)
    for run in models:
        command(["predict", f"--run={run.name}", "--images", "PICTURE", "--attention"])


def where_it_looks(run: Run) -> tuple[int | None, int | None]:
    """Asks for a block and a head, from 0; None is all of them."""
    left, right = st.columns(2)
    settings = run.quick_settings()
    blocks, heads = (whole(settings.get(f"model.{name}")) for name in ("depth", "heads"))
    block = left.selectbox(
        "Where it looks",
        [None, *range(blocks)],
        format_func=lambda number: "through all blocks (rollout)" if number is None else f"in block {number + 1}",
        key="block",
    )
    if block is None:
        return None, None
    head = right.selectbox(
        "By",
        [None, *range(heads)],
        format_func=lambda number: "all heads" if number is None else f"head {number + 1}",
        key="head",
    )
    return block, head


def whole(text: str | None) -> int:
    """A count out of a config, or 0."""
    return int(text) if text and text.isdecimal() and int(text) < 1000 else 0


def show_answers(models: Sequence[Run], found: "Sequence[Answer]") -> None:
    """One picture, and what each model says of it."""
    st.text(found[0].name)
    if found[0].picture is None:
        st.error(plain(found[0].reason), icon=":material/error:")
        return
    columns = st.columns(3)
    columns[0].image(found[0].picture, width="stretch")
    for index, (run, answer) in enumerate(zip(models, found, strict=True)):
        place = columns[1 + index]
        if len(models) > 1:
            place.text(run.name)
        if answer.attention is not None:
            place.image(answer.attention, width="stretch")
        with place if len(models) > 1 else columns[2]:  # one model's answer has a column of its own
            label, confidence = answer.classes[0]
            st.markdown(f"### {plain(label)} {confidence:.1%}")
            for other, share in answer.classes[1:]:
                st.progress(share, text=f"{plain(other)} {share:.1%}")
            if answer.set:
                st.caption(f"{plain(' or '.join(answer.set))}: such sets {plain(answer.promise)}")
            if answer.stranger:
                st.warning("Unlike all pictures that it was trained on: do not count on the label.")


def by_folder(where: Place, run: Run) -> None:
    """All pictures below a folder, into a CSV in the run's folder."""
    folder = browse(where, "predict-folder")
    words = ["predict", f"--run={run.name}", "--images", str(folder)]
    if st.button("Label all pictures below it", type="primary", key="predict"):
        where.roots.check_tree(folder)
        st.session_state["predicting"] = begin(where, words).id
    command(words)
    predicting(where, "predicting")


def by_film(where: Place, run: Run) -> None:
    """A film's labels along its time line."""
    folder = browse(where, "film-folder")
    films = films_in(folder, where.roots)
    words = f"Films in it ({len(films)})" if films else "No film in it"
    name = st.selectbox(words, films, index=None, key="film", placeholder="choose one", disabled=not films)
    left, right = st.columns(2)
    every = left.number_input("A frame every so many seconds", 0.04, 3600.0, 1.0, key="every")
    smooth = right.number_input(
        "Mean over so many seconds", 0.0, 3600.0, 0.0, key="smooth", help="A centred window; 0: each frame by itself."
    )
    if name is None:
        return
    asked = ["predict", f"--run={run.name}", "--images", str(folder / name), f"--top={CLASSES}"]
    asked += [f"--every={every:g}", f"--smooth={smooth:g}"]
    if st.button("Label the film", type="primary", key="predict-film"):
        where.roots.inside(folder / name)
        st.session_state["filming"] = begin(where, asked).id
    command(asked)
    predicting(where, "filming")


@st.fragment(run_every=1)
@guarded
def predicting(where: Place, key: str) -> None:
    """What `predict` says, and its table once it is through, of a film with its time line."""
    for job in jobs.jobs_in(where.logs):
        if job.id != st.session_state.get(key):
            continue
        show_job(job, lines=30)
        table = table_of(job, where)
        if job.active or table is None:
            continue
        if rows := time_line(table):
            st.vega_lite_chart(spec=along_time(rows), key=f"{key}-line")
        st.download_button(
            "Download the table", table.read_bytes(), file_name="predictions.csv", mime="text/csv", key=f"{key}-table"
        )


def along_time(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Vega-Lite's description of the shares of the classes, above one another, second by second."""
    share = {"field": "share", "type": "quantitative", "title": "probability", "stack": "zero"}
    return {
        "data": {"values": list(rows)},
        "mark": {"type": "area", "interpolate": "step-after"},
        "encoding": {
            "x": {"field": "time", "type": "quantitative", "title": "seconds"},
            "y": share | {"scale": {"domain": [0, 1]}},
            "color": {"field": "class", "type": "nominal", "legend": {"orient": "bottom", "title": None}},
        },
        "height": 240,
    }


def table_of(job: jobs.Job, where: Place) -> Path | None:
    """The table that a `predict` has written: the latest in the run's folder since it began."""
    folder = where.logs / str(job.run) / "predictions"
    found = [path for path in folder.glob("[0-9]*.csv") if path.stem.isdigit() and not path.is_symlink()]
    found = [path for path in found if path.stat().st_mtime >= float(job.record.get("made", 0))]
    return max(found, default=None)
