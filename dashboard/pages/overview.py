"""Overview."""
from __future__ import annotations
import streamlit as st
from benchrun.dashboard.components.database import Database
def show(database: Database) -> None:
    st.title("Overview")
