"""A configuration and its servers: what is wrong, and what would be better."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import click
from redis.exceptions import RedisClusterException, RedisError

from ..config import Config
from ..connect import client_for
from ..errors import ConfigError, SmartRedisError
from ..locks import Redlock
from ..moving.cookies import OldCookie
from .group import common
from .rendering import in_a_line, tell
from .settings import Settings
from .sight import PRIVATE, SECONDS, Sight

# What stands for an option that was refused, so that what is behind it is seen too.
_FOR_REFUSED: dict[str, Any] = {
    "url": "memory://",
    "lock_nodes": ("redis://1", "redis://2", "redis://3"),
}


@click.command()
@common
@click.pass_obj
def check(given: dict[str, Any]) -> None:
    """Tell each option's value and origin, what is wrong, and how the server is."""
    settings = Settings(given)
    config, problems = _refusals(settings.options)
    advice: list[str] = []
    servers: list[dict[str, Any]] = []
    try:
        if not any("option url:" in problem for problem in problems):
            servers, advice = _examined(config)
        if not problems and config.lock_nodes:
            Redlock(config.lock_nodes)
        if not problems and config.import_from:
            OldCookie(config)
    except (SmartRedisError, RedisError, RedisClusterException) as failure:
        problems.append(in_a_line(failure))
    problems += _silent_nodes(config) if not problems else []
    told: dict[str, Any] = {
        "options": _options(settings, config),
        "servers": servers,
        "problems": problems,
        "advice": advice,
    }

    def text() -> Iterator[str]:
        for row in told["options"]:
            yield f"{row['option']:20}{_written(row['value']):32}{row['origin']}"
        for server in servers:
            yield "server: " + ", ".join(f"{k} {v}" for k, v in server.items())
        yield from (f"advice: {line}" for line in advice)

    tell("json" in given, told, text)
    for problem in problems:
        if "json" not in given:
            click.echo(f"problem: {problem}", err=True)
    sys.exit(1 if problems else 0)


def _refusals(options: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """All that is wrong, and the configuration without it."""
    left, refused = dict(options), set()
    problems: list[str] = []
    while True:
        try:
            return Config.build(left), problems
        except ConfigError as wrong:
            name = re.findall(r"option ([^:;]+)", str(wrong))[0]
            if name not in refused:
                problems.append(str(wrong))
            if name in _FOR_REFUSED and name not in refused:
                left[name] = _FOR_REFUSED[name]
            elif left.pop(name, None) is None:
                raise
            refused.add(name)


def _options(settings: Settings, config: Config) -> list[dict[str, Any]]:
    rows = []
    for option in fields(Config):
        if option.name != "client":
            given = settings.options.get(option.name)
            value = getattr(config, option.name)
            origin = settings.origins.get(option.name, "default")
            rows.append(
                {
                    "option": option.name,
                    "value": _harmless(option.name, given, value),
                    "origin": origin,
                }
            )
    return rows


def _harmless(name: str, given: Any, value: Any) -> Any:
    """An option's value without what is secret in it."""
    if name in ("secret", "import_secret"):
        return f"({len(value)} given)" if value else "none"
    if name in ("url", "import_url"):
        return _without_password(str(given)) if given else None
    if name == "lock_nodes":
        return [_without_password(node) for node in value] if given else []
    return sorted(value) if isinstance(value, frozenset) else value


def _written(value: Any) -> str:
    """A value as an ini file has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    place = re.sub(r"(password=)[^&]*", r"\1***", place)
    return scheme + separator + ("***" if user else "") + at + place


def _examined(config: Config) -> tuple[list[dict[str, Any]], list[str]]:
    """Each server's version and state, and what would be better."""
    if config.url.partition("://")[0] in PRIVATE:  # type: ignore[union-attr]
        return [], [f"{config.url} is for a first look: its end is the program's"]
    client = Sight(config).client
    if not hasattr(client, "get_primaries"):
        return _judged([_state(client)])
    nodes = client.get_primaries()
    return _judged([_state(client, target_nodes=node) for node in nodes])


def _judged(servers: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    advice = []
    if any(server["maxmemory_policy"] != "noeviction" for server in servers):
        advice.append(
            "maxmemory-policy is not noeviction: a server that is full ends sessions; "
            "use CONFIG SET maxmemory-policy noeviction"
        )
    if any(server["persistence"] == "off" for server in servers):
        advice.append(
            "persistence is off: a restart ends all sessions; use appendonly yes, "
            "or save, if they are to survive it"
        )
    return servers, advice


def _state(client: Any, **where: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for section in ("server", "memory", "persistence"):
        told |= client.info(section, **where)
    kind = "valkey" if "valkey_version" in told else "redis"
    return {
        "version": f"{kind} {told[f'{kind}_version']}",
        "maxmemory": told.get("maxmemory"),
        "maxmemory_policy": told.get("maxmemory_policy"),
        "persistence": _persistence(client, told, where),
    }


def _persistence(client: Any, told: Mapping[str, Any], where: dict[str, Any]) -> str:
    if told.get("aof_enabled"):
        return "appendonly"
    try:
        saves = client.config_get("save", **where).get("save")
    except RedisError:  # as where others run the server for us
        return "unknown"
    return "snapshots" if saves else "off"


def _silent_nodes(config: Config) -> list[str]:
    """Redlock's masters that do not answer, one line each."""
    problems = []
    for node in config.lock_nodes:
        try:
            client_for(node, SECONDS).ping()
        except (SmartRedisError, RedisError) as failure:
            told = f"{_without_password(node)}: {in_a_line(failure)}"
            problems.append(f"lock_nodes: {told}")
    return problems
