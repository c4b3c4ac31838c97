"""Streamlit pages and chart builders that read through `benchrun.results` only. None has landed yet."""
