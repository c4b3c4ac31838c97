"""`streamlit run` with the app's libraries loaded before the port opens: the first visitor does not wait for imports."""

import benchrun.dashboard.application  # noqa: F401 - for what it imports
from streamlit.web.cli import main

if __name__ == "__main__":
    main(prog_name="streamlit")
