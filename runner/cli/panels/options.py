"""Options and texts that commands share."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """[bold]Examples[/bold]

 benchrun --backend torch --seq 128,384         BERT-base in PyTorch, now

 benchrun --backend torch,ort --batch 1..32*2   two engines side by side

 benchrun --preset quick --dry-run              the plan and how long it takes

 benchrun show last                             the table of the latest run

 benchrun export last --format csv > run.csv    all columns of a run
"""

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="Database: a file or a SQLAlchemy URL. (default: $BENCHRUN_DB, else your user-data folder)",
        rich_help_panel="Where",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else there.")]
RunId = Annotated[
    str, typer.Argument(help="A run's id, the start of it, its last part, 'last', or 'last~1'.", show_default=False)
]
