"""`streamlit run` with the app's libraries loaded before the port opens: the first visitor does not wait for imports."""

from streamlit.web.cli import main

import benchrun.dashboard.application  # noqa: F401 - for what it imports

if __name__ == "__main__":
    main(prog_name="streamlit")
