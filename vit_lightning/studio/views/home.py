"""Where one begins: what to do in which order, and what is under way."""

import streamlit as st

from vit_lightning.studio import jobs
from vit_lightning.studio.roots import Place
from vit_lightning.studio.views.shared import cells, go_to, guarded, page, show_job

#: Jobs that are shown.
SHOWN = 8

STEPS = (
    ("data", "Choose pictures", "The demo, a folder of your own, or the Tom & Jerry frames."),
    ("train", "Train", "A recipe, changed as you like; it says at once what does not fit."),
    ("watch", "Watch", "Loss, accuracy and pictures while it learns; stop and go on."),
    ("runs", "Compare", "All runs, ranked on the same pictures, with their reports."),
    ("use", "Use", "Drop a picture and read its label."),
    ("mistakes", "Put labels right", "The surest mistakes of a tested run."),
)


@page
def show(where: Place) -> None:
    """The first page."""
    st.title("vit_lightning studio")
    st.write(
        "Train a plain Vision Transformer from scratch on a folder of images, know honestly how good it is, and use "
        "it. What you start here are the project's own commands; they go on when this page is closed."
    )
    for number, (place, (name, title, text)) in enumerate(zip(cells(len(STEPS), 3), STEPS, strict=True), 1):
        with place.container(border=True):
            if st.button(f"{number}. {title}", key=name, width="stretch"):
                go_to(name)
            st.caption(text)
    st.subheader("What is under way")
    st.caption("One training at a time on a device, first come, first served; all else starts at once.")
    under_way(where)


@st.fragment(run_every=2)
@guarded
def under_way(where: Place) -> None:
    """The latest jobs, each with a button that stops it."""
    found = jobs.jobs_in(where.logs)[::-1]
    if not found:
        st.info("Nothing was started here yet.")
    shown = [job for job in found if job.active] + [job for job in found if not job.active]
    for job in shown[:SHOWN]:
        with st.container(border=True):
            show_job(job, lines=3)
            if job.active and st.button("Stop, as Ctrl-C does", key=f"stop-{job.id}"):
                jobs.stop(job)
