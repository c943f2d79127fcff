"""The command that all others belong to, and the options that they share."""

from collections.abc import Callable
from typing import Any

import click
from redis.exceptions import RedisClusterException, RedisError

from ..errors import SmartRedisError
from .rendering import in_a_line


class OneLine(click.Group):
    """A group whose failures are one line on stderr, and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SmartRedisError, RedisError, RedisClusterException) as failure:
            text = in_a_line(failure)
        except LookupError as failure:
            if type(failure) is not LookupError:
                raise  # a mistake of ours
            text = str(failure)
        raise click.ClickException(text)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Options may stand before the command or behind it."""
    given = context.ensure_object(dict)
    if value not in (None, False):
        given[parameter.name] = value


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[str, Any] = {"callback": _keep, "expose_value": False}
    options = (
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False),
            **kept,
            help="An ini file; what begins with session. counts.",
        ),
        click.option(
            "--url", **kept, help="Where the records live; or SMARTREDIS_URL."
        ),
        click.option("--prefix", **kept, help="Of every key; session: by default."),
        click.option("--json", **kept, is_flag=True, help="JSON instead of text."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=OneLine)
@common
@click.version_option(package_name="smartredis_wsgi")
@click.pass_context
def main(context: click.Context) -> None:
    """Look at the sessions and locks in Redis; end a session; check a configuration."""
    context.ensure_object(dict)
