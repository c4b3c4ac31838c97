"""The command line. `main` is the entry point of the command `benchrun`."""

from __future__ import annotations

import sys

USAGE_ERROR = 2
INTERRUPTED = 130
# Options of the program itself; anything else that starts a command line belongs to a sweep: `benchrun --backend torch`.
OWN_OPTIONS = ("--help", "-h", "--version", "--install-completion", "--show-completion")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its status."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit status. Errors that a user can mend are one line on standard error."""
    if problem := shadowed():
        print(f"benchrun: {problem}", file=sys.stderr)
        return USAGE_ERROR
    from benchrun.runner.cli.app import invoke

    debug = "--debug" in arguments
    arguments = [each for each in arguments if each != "--debug"]
    if arguments and arguments[0].startswith("-") and arguments[0] not in OWN_OPTIONS:
        arguments = ["run", *arguments]
    try:
        return invoke(arguments)
    except KeyboardInterrupt:
        print("benchrun: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `benchrun runs | head` is no error
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            raise
        from benchrun.runner.cli.complaints import complaint

        print(f"benchrun: {complaint(error)}", file=sys.stderr)
        return USAGE_ERROR


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
