"""The program: its panels of commands (`panels`), how a command line is run. `--help` imports nothing heavy."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from benchrun.runner.cli.panels import exchange, judge, look, machine, measure
from benchrun.runner.cli.panels.options import EXAMPLES

HELP = """Compare transformer inference across engines and vendors: one clock, one protocol, the answer checked, every sample kept.

A sweep needs no command name: 'benchrun --backend torch --seq 128,384' is 'benchrun run --backend torch --seq 128,384'
('benchrun run --help' lists all sweep options).
"""
# in the order of the help
PANELS = {
    "Measure": measure.panel,
    "Judge": judge.panel,
    "This machine": machine.panel,
    "Look": look.panel,
    "Exchange": exchange.panel,
}

app = typer.Typer(
    name="benchrun",
    help=HELP,
    epilog=EXAMPLES,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def invoke(arguments: list[str]) -> int:
    """Run the app; returns the exit status. Raises UsageError for a command line that makes no sense."""
    command = typer.main.get_command(app)
    without_types(command)
    if os.environ.get("_BENCHRUN_COMPLETE"):
        command.main(arguments, prog_name="benchrun")  # answers the shell and exits
    try:
        # what Typer's own `main` does, but for Ctrl-C and a closed pipe, which end the program there without a word
        with command.make_context("benchrun", arguments or ["--help"]) as context:
            result = command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:  # a question that was answered with no, or with Ctrl-C
        raise KeyboardInterrupt from None
    except Exception as error:
        # click's exceptions, which newer Typers carry a copy of: told by what they can do, not by their class
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command has shown its help
            return 0
        from benchrun.runner.errors import UsageError

        asked = next((each for each in arguments[:1] if each in getattr(command, "commands", {})), "run")
        hint = "'benchrun run --help' lists the sweep options" if asked == "run" else f"see 'benchrun {asked} --help'"
        raise UsageError(f"{message().rstrip('.')} ({hint})") from error
    return result if isinstance(result, int) else 0


def without_types(command: Any) -> None:
    """Let the help of a flag name no type: `--json <bool>` reads as if it took a value. Subcommands included."""
    for param in command.params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    for each in getattr(command, "commands", {}).values():
        without_types(each)


def _print_version(asked: bool) -> None:
    if asked:
        from benchrun.runner.environment import benchrun_version

        typer.echo(f"benchrun {benchrun_version()}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works with any command.")
    ] = False,
) -> None:
    pass


def _fill(program: typer.Typer) -> None:
    """Give the program the commands of all panels."""
    for title, panel in PANELS.items():
        for command in panel.registered_commands:
            command.rich_help_panel = title
        for group in panel.registered_groups:
            group.rich_help_panel = title
        program.registered_commands.extend(panel.registered_commands)
        program.registered_groups.extend(panel.registered_groups)


_fill(app)
