"""The options that lead to the sessions: from a file, the environment, the command."""

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as IniError
from typing import Any

from ..config import Config
from ..errors import ConfigError


class Settings:
    """The options that were given, and who gave each: the last one named wins.

    The file, then SMARTREDIS_URL, then the command line.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.options: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        if "config" in given:
            self._take(_read_ini(given["config"]), "file")
        if os.environ.get("SMARTREDIS_URL"):
            self._take({"url": os.environ["SMARTREDIS_URL"]}, "SMARTREDIS_URL")
        named = {name: given[name] for name in ("url", "prefix") if name in given}
        self._take(named, "command line")

    def config(self) -> Config:
        """Raises ConfigError for the first thing that is wrong."""
        if "url" not in self.options:
            raise ConfigError("no server; use --url, --config or SMARTREDIS_URL")
        return Config.build(self.options)

    def _take(self, options: Mapping[str, Any], origin: str) -> None:
        self.options.update(options)
        self.origins.update(dict.fromkeys(options, origin))


def _read_ini(path: str) -> dict[str, Any]:
    """What begins with ``session.``, in any section, and what is in ``[session]``."""
    ini = ConfigParser(interpolation=None)  # a secret may hold a %
    try:
        with open(path, encoding="utf-8") as file:
            ini.read_file(file)
    except (IniError, UnicodeDecodeError, OSError) as wrong:
        raise ConfigError(f"{path}: {' '.join(str(wrong).split())}") from None
    options: dict[str, Any] = dict(ini["session"]) if "session" in ini else {}
    for section in ini.sections():
        options |= Config.section(ini[section], "session.")
    if not options:
        raise ConfigError(f"{path}: no option in it begins with session.")
    return options
