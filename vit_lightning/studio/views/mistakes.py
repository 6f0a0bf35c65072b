"""What a tested run took wrongly, the surest first; a label that is wrong itself is put right in a file of its own."""

from typing import Any

import streamlit as st

from vit_lightning.evaluation.label_doctor import DOUBTS
from vit_lightning.runs import Run
from vit_lightning.studio.labels import (
    NAME,
    Mistake,
    classes_of,
    doubts,
    mistakes,
    picture_of,
    read_labels,
    write_labels,
)
from vit_lightning.studio.roots import Place
from vit_lightning.studio.uploads import PIXELS
from vit_lightning.studio.views.shared import begin, cells, choose_run, command, go_to, page, plain
from vit_lightning.studio.views.train import free_name

#: What a run is shown by, and a result of `folds`.
SHOWN_OF = {False: "report/predictions.csv", True: f"report/{DOUBTS}"}

#: Mistakes on a page, and beside one another.
SHOWN, COLUMNS = 12, 4


@page
def show(where: Place) -> None:
    """The page."""
    st.title("Mistakes")
    tested = [run for run in where.runs() if where.file_of(run, SHOWN_OF[run.is_folds])]
    if not tested:
        st.info("No run was tested yet. The page Runs tests one.")
        return
    run = choose_run(tested, "Tested run", "tested")
    if run is None:
        return
    found, labels = (doubts if run.is_folds else mistakes)(run, where), read_labels(run, where)
    what = "doubtful labels, the worst" if run.is_folds else "mistakes, the surest"
    st.text(f"{len(found):,} {what} first; {len(labels):,} labels put right")
    pages = max(1, -(-len(found) // SHOWN))
    number = int(st.number_input("Page", 1, pages, key=f"page-{run.name}")) if pages > 1 else 1
    shown = found[(number - 1) * SHOWN : number * SHOWN]
    with st.form("labels"):
        said = {}
        for place, mistake in zip(cells(len(shown), COLUMNS), shown, strict=True):
            with place.container(border=True):
                said[mistake.path] = show_mistake(run, where, mistake, labels.get(mistake.path, ""))
        saved = st.form_submit_button("Keep the labels", type="primary")
    if saved:
        path = write_labels(run, where, said)
        st.success(plain(f"{len(read_labels(run, where))} labels are in {path}; no picture was moved"))
    next_run(run, where)


def show_mistake(run: Run, where: Place, mistake: Mistake, label: str) -> str:
    """A picture with what it is said to be; gives the label that it should have, or ''."""
    try:
        st.image(small(str(picture_of(mistake, run, where.readable))), width="stretch")
    except (ValueError, OSError) as error:
        st.caption(plain(error))
    st.caption(plain("/".join(mistake.path.split("/")[-2:])))
    said = f"said **{plain(mistake.predicted)}** {mistake.confidence:.1%}"
    if run.is_folds:
        said = f"more likely **{plain(mistake.predicted)}**; {mistake.confidence:.1%} against the label"
    st.markdown(f"labelled **{plain(mistake.label)}**, {said}")
    names = classes_of(run, where)
    choices = ["", *(name for name in names if name != mistake.label)]
    index = choices.index(label) if label in choices else 0
    key = f"{run.name}/{mistake.path}"
    return str(st.selectbox("It is", choices, index=index, key=key, format_func=lambda name: name or "as labelled"))


@st.cache_data(max_entries=200, show_spinner=False)
def small(path: str) -> bytes:
    """A picture as a small JPEG: what the data hold is not sent as it is."""
    import io

    from PIL import Image

    from vit_lightning.data.images import READERS, load_image

    with Image.open(path, formats=READERS) as head:
        if head.width * head.height > PIXELS:
            raise ValueError(f"it has more than {PIXELS // 1_000_000} million pixels")
    image = load_image(path)
    image.thumbnail((480, 480))
    sent = io.BytesIO()
    image.save(sent, "JPEG", quality=88)
    return sent.getvalue()


def next_run(run: Run, where: Place) -> None:
    """The training with the labels that were put right."""
    path = where.file_of(run, NAME)
    if path is None:
        return
    stem = f"{run.name}-labels"
    words = again(run.status) if run.is_folds else ["fit", f"--config={run.folder / 'config.yaml'}"]
    words += [f"--data.labels={path}", f"--run={free_name(where, stem)}"]
    if st.button("Train with these labels", key="next"):
        begin(where, words, str(run.status.get("device") or "cpu").partition(" ")[0])
        name = words[-1].partition("=")[2]
        st.session_state["watched"] = [f"{name}-f1-s0" if run.is_folds else name]
        go_to("watch")
    command(words, "The next run, with these labels")


def again(status: dict[str, Any]) -> list[str]:
    """The `folds` command that made a result, without its labels."""
    words = [str(word) for word in status.get("options") or []]
    kept, skip = [], False
    for word in words:
        if not skip and word.partition("=")[0] != "--data.labels":
            kept.append(word)
        skip = word == "--data.labels"
    return ["folds", *kept, f"--folds={status.get('folds')}", f"--seeds={status.get('seeds')}"]
