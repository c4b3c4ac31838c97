"""What `streamlit run` is given. Alone in its folder, because that folder comes first on the import path."""

from benchrun.dashboard.application import show

show()
