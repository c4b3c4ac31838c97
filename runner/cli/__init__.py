"""The command line. `main` is the entry point of the command `benchrun`."""

from __future__ import annotations

import _thread
import os
import signal
import sys
from collections.abc import MutableMapping
from types import FrameType

USAGE_ERROR = 2
INTERRUPTED = 130
# Options of the program itself; anything else that starts a command line belongs to a sweep: `benchrun --backend torch`.
OWN_OPTIONS = ("--help", "-h", "--version", "--install-completion", "--show-completion")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its status."""
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us has it ignored
        signal.signal(signal.SIGINT, interrupt)
    wake_for_signals()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Let SIGTERM end any command as Ctrl-C does: a CI job that is cancelled keeps what was measured, and no worker is left.

    A SIGTERM after the first signal is passed over: `timeout` sends two, CI services SIGINT and then SIGTERM, and the second must
    not break into storing how the run ended (not SIG_IGN: processes that are started later would inherit that). A second
    Ctrl-C is somebody who will not wait.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    if signal.getsignal(signal.SIGINT) is interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    raise KeyboardInterrupt


def wake_for_signals() -> None:
    """Have SIGINT and SIGTERM wake the main thread, whatever it waits for.

    The kernel gives a signal to any thread: of two at once the second wakes a library's (OpenBLAS has some), which then may
    take both, and the main thread, the only one that runs Python's handlers, sleeps on in its system call.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGURG, lambda *_: None)  # by default it is ignored, and wakes nobody
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    _thread.start_new_thread(_wake, (heard, _thread.get_ident()))


def _wake(heard: int, thread: int) -> None:
    """Pass every SIGINT and SIGTERM on, as a signal that only that thread can take."""
    while number := os.read(heard, 1):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            signal.pthread_kill(thread, signal.SIGURG)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit status. Errors that a user can mend are one line on standard error."""
    debug = "--debug" in arguments
    arguments = [each for each in arguments if each != "--debug"]
    if arguments and arguments[0].startswith("-") and arguments[0] not in OWN_OPTIONS:
        arguments = ["run", *arguments]
    try:
        if problem := shadowed():
            print(f"benchrun: {problem}", file=sys.stderr)
            return USAGE_ERROR
        from benchrun.runner.cli.app import invoke

        if os.environ.get("_BENCHRUN_COMPLETE"):
            complete_sweep(os.environ)
        return invoke(arguments)
    except KeyboardInterrupt:
        print("benchrun: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `benchrun runs | head` is no error
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exception(error)
        from benchrun.runner.cli.complaints import complaint

        print(f"benchrun: {complaint(error)}", file=sys.stderr)
        return USAGE_ERROR


def complete_sweep(environ: MutableMapping[str, str]) -> None:
    """Name the command in a line that a shell wants completed: `benchrun --ba` means `benchrun run --ba`.

    Bash passes the line in COMP_WORDS with the index of its word in COMP_CWORD, zsh and fish pass it in _TYPER_COMPLETE_ARGS.
    """
    for variable in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS"):
        program, *rest = environ.get(variable, "").split(maxsplit=1) or [""]
        if not rest or not rest[0].startswith("-") or rest[0].split()[0] in OWN_OPTIONS:
            continue
        environ[variable] = f"{program} run {rest[0]}"
        if variable == "COMP_WORDS":
            environ["COMP_CWORD"] = str(int(environ.get("COMP_CWORD", "1")) + 1)


def shadowed() -> str | None:
    """The other project of this name would hide our modules: say so instead of failing on an import."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("benchrun")
    except PackageNotFoundError:
        return None
    return (
        f"another project named benchrun ({found}) is installed beside benchrun-inference, and both own the import name benchrun: "
        "uninstall it with 'pip uninstall benchrun', then reinstall benchrun-inference"
    )
