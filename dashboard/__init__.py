"""The dashboard: Streamlit pages over the results database, and the report of a run as one HTML file.

from benchrun.dashboard.launch import launch
from benchrun.dashboard.report import write_report
"""
