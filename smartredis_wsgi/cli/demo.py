"""The demo, as a command."""

import runpy
import sys

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Serve a small page with a server of its own; --once compares four stores."""
    sys.argv = ["smartredis-wsgi demo", *arguments]
    try:
        runpy.run_module("smartredis_wsgi.demo", run_name="__main__")
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"{missing.name} is not installed; pip install 'smartredis_wsgi[demo]'"
        ) from None
