"""The pages, for Streamlit, which runs this file for every session."""

import streamlit as st
from PIL import Image

from vit_lightning.studio.views import data, home, mistakes, runs, train, use, watch

PAGES = {
    "home": st.Page(home.show, title="Start", icon=":material/home:", default=True),
    "data": st.Page(data.show, title="Data", icon=":material/photo_library:", url_path="data"),
    "train": st.Page(train.show, title="Train", icon=":material/tune:", url_path="train"),
    "watch": st.Page(watch.show, title="Watch", icon=":material/monitoring:", url_path="watch"),
    "runs": st.Page(runs.show, title="Runs", icon=":material/leaderboard:", url_path="runs"),
    "use": st.Page(use.show, title="Use", icon=":material/image_search:", url_path="use"),
    "mistakes": st.Page(mistakes.show, title="Mistakes", icon=":material/rule:", url_path="mistakes"),
}

# Of a page's own icon Streamlit would make the browser's by asking a server of fonts for it: nobody else is asked.
ICON = Image.radial_gradient("L").resize((4, 4)).resize((32, 32), Image.Resampling.NEAREST)  # patches

st.set_page_config(page_title="vit_lightning studio", page_icon=ICON, layout="wide")
st.session_state["pages"] = PAGES
st.navigation(list(PAGES.values())).run()
