"""Commands about this machine: engines, models, noise, ceilings, cache."""

from __future__ import annotations

from typing import Annotated

import typer

from benchrun.runner.cli.panels.options import Db, Json

panel = typer.Typer()


@panel.command()
def backends(
    json: Json = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load each engine in a process of its own (60 s limit) and ask it.")
    ] = False,
    options: Annotated[bool, typer.Option("--options", help="List the engines' options (--opt) instead.")] = False,
    db: Db = None,
) -> int:
    """Engines: installed? which version, devices and dtypes? if not, why not and how to install."""
    from benchrun.runner.cli.backends_command import list_backends

    return list_backends(as_json=json, check=check, options=options, db=db)


@panel.command()
def models(json: Json = False) -> int:
    """Models that have a name, with their shapes."""
    from benchrun.runner.cli.runs_command import list_models

    return list_models(as_json=json)


@panel.command()
def doctor(
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)")] = None,
    json: Json = False,
) -> int:
    """What will make this machine noisy, and how to mend it. Changes nothing. Exit 1: something will."""
    from benchrun.runner.cli.doctor_command import examine

    return examine(device, as_json=json)


@panel.command()
def ceilings(
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. (default: usable cores)")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure even if nothing has changed.")] = False,
    db: Db = None,
    json: Json = False,
) -> int:
    """What this machine can do at most: matrix products, copies, launches. Takes seconds, once for an environment."""
    from benchrun.runner.cli.ceilings_command import show_ceilings

    return show_ceilings(device, threads, db, again=again, as_json=json)


env = typer.Typer(help="What a run records of its machine; 'env diff A B' compares two.", invoke_without_command=True)
panel.add_typer(env, name="env")
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)")]


@env.callback()
def env_here(context: typer.Context, device: Device = None, json: Json = False) -> None:
    """What a run started now would record of this machine; 'env diff A B' compares two."""
    if context.invoked_subcommand is None:
        from benchrun.runner.cli.env_command import show_environment

        show_environment(device, as_json=json)


@env.command("diff")
def env_diff(
    first: Annotated[str, typer.Argument(help="A run, or 'here'.", show_default=False)],
    second: Annotated[str, typer.Argument(help="A run, or 'here'.", show_default=False)],
    device: Device = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """What differs between the environments of two runs. Exit 1: something does."""
    from benchrun.runner.cli.env_command import compare_environments

    return compare_environments(first, second, device, db, as_json=json)


cache = typer.Typer(help="Exported graphs, compiled engines and the like, kept between runs.", no_args_is_help=True)
panel.add_typer(cache, name="cache")


@cache.command("ls")
def cache_ls(json: Json = False) -> int:
    """List entries, latest used last."""
    from benchrun.runner.cli.cache_command import list_entries

    return list_entries(as_json=json)


@cache.command("rm")
def cache_rm(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys as 'benchrun cache ls' shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all entries.")] = False,
) -> int:
    """Remove entries; they are made again when needed."""
    from benchrun.runner.cli.cache_command import remove_entries

    return remove_entries(keys or [], everything=everything)


@cache.command("verify")
def cache_verify() -> int:
    """Compare every file with its checksum and discard damaged entries. Exit 1 if there were any."""
    from benchrun.runner.cli.cache_command import verify_entries

    return verify_entries()
