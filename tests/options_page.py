"""docs/options.md, made of what smartredis_wsgi/config.py says of each option.

``make docs`` writes it; a test fails where it is stale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smartredis_wsgi.config import Config

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
OPTIONS = {option.name: option for option in dataclasses.fields(Config)}
DEFAULTS = Config(url="", cookie_name="__Host-sid", touch_every=Config.ttl / 10)

INTRODUCTION = """\
# Options

Made by `make docs` from `smartredis_wsgi/config.py`; what is to be changed, is changed
there.

Options are given as a dict, as keywords (which win), or as an ini section, where all
are text:

```python
from smartredis_wsgi import SessionMiddleware


def site(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


options = {"url": "redis://localhost:6379/0", "ttl": 1800}
app = SessionMiddleware(site, options, lock="single")

settings = {"session.url": "redis://localhost:6379/0", "session.cookie_secure": "off"}
app = SessionMiddleware.from_settings(site, settings, prefix="session.")
```

```ini
[app:main]
session.url = redis://localhost:6379/0
session.ttl = 30m
session.max_size = 256k
session.secret =
    put-a-secret-of-your-own-here
    the-one-before-it
```

An unknown option, a wrong value or a contradiction is a `ConfigError` at construction.
It names the option, the value and what would be right, which is what "takes" says
below. Of an option that may hold a password the value is not shown.

Durations are seconds, or text with a unit: `100ms`, `30s`, `30m`, `12h`, `7d`. In an
ini file a switch is on for true, yes, on and 1, off for false, no, off and 0.
"""
CHAPTERS = {
    "": "The session",
    "lock": "Locks",
    "cookie": "The cookie",
    "import": "Moving in",
}
ELSEWHERE = {"retry_time": "lock"}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, *_contents()]
    for prefix, title in CHAPTERS.items():
        parts.append(f"\n## {title}\n")
        parts += [_section(name) for name in OPTIONS if _chapter(name) == prefix]
    return "".join(parts)


def _chapter(name: str) -> str:
    prefix = name.partition("_")[0]
    return ELSEWHERE.get(name, prefix if prefix in CHAPTERS else "")


def _contents() -> Iterator[str]:
    yield "\n| option | default | unit |\n|---|---|---|\n"
    for name in OPTIONS:
        default, unit = shown(getattr(DEFAULTS, name)), unit_of(name)
        yield f"| [`{name}`](#{name}) | {default} | {unit} |\n"


def _section(name: str) -> str:
    meta = OPTIONS[name].metadata
    default = shown(getattr(DEFAULTS, name))
    more = f"\n{_wrapped(meta['more'])}\n" if meta["more"] else ""
    return (
        f"\n### {name}\n\n* meaning: {meta['help']}\n"
        f"* default: {default}\n* takes: {takes(name)}\n{more}"
    )


def takes(name: str) -> str:
    """What the option takes, in the words of the error where it is something else."""
    parse = OPTIONS[name].metadata["parse"]
    words = {"none": "`none`", "all": "`all`", "": "an empty text"}
    nothing = [shown_as for word, shown_as in words.items() if _is_none(parse, word)]
    return "; or ".join([_refused(parse), *nothing])


def unit_of(name: str) -> str:
    check = _refused(OPTIONS[name].metadata["parse"])
    return next((unit for unit in ("seconds", "bytes") if unit in check), "")


def shown(value: Any) -> str:
    """A value as an ini file has it."""
    if value is None or value in ((), ""):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _refused(parse: Any) -> str:
    try:
        parse(object())
    except ValueError as wrong:
        return str(wrong)
    raise AssertionError("an option that takes anything")


def _is_none(parse: Any, word: str) -> bool:
    try:
        return parse(word) is None
    except ValueError:
        return False


def _wrapped(text: str) -> str:
    """Lines of 88 characters; code spans stay whole, as Markdown lets them break."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= 88:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
