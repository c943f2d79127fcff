"""How the command line tells things: lines, JSON, and a bar while work is long."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")

_STEP = 500  # items between two moves of the bar
_STOPPED = 130  # the exit status of what SIGINT ended


class LongWork:
    """A block that Ctrl-C ends early, with a bar on stderr where that is a terminal."""

    def __init__(self, what: str, shown: bool = True) -> None:
        is_shown = shown and sys.stderr.isatty()
        self._bar = Progress(
            console=Console(stderr=True),
            transient=True,
            disable=not is_shown,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(what, total=None)
        self.is_stopped = False

    def __enter__(self) -> "LongWork":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._bar.stop()
        self.is_stopped = kind is KeyboardInterrupt
        return self.is_stopped

    def over(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """The items, counted by the bar.

        Args:
            total: About how many there will be; None where nobody knows.
        """
        self._bar.update(self._task, total=total)
        for number, item in enumerate(items, 1):
            yield item
            if number % _STEP == 0:
                self._bar.advance(self._task, _STEP)

    def end(self) -> None:
        """Leave with the right status where it was stopped."""
        if self.is_stopped:
            click.echo("stopped: this is what was found so far", err=True)
            sys.exit(_STOPPED)


def tell(as_json: bool, told: Any, text: Callable[[], Iterable[str]]) -> None:
    """One JSON document, or lines for people."""
    if as_json:
        click.echo(json.dumps(told))
    else:
        for line in text():
            click.echo(line)


def in_a_line(failure: Exception) -> str:
    text = " ".join(str(failure).split()) or type(failure).__name__
    return text.partition(" : <")[0]  # Sentinel's shows the client's insides


def span(seconds: float | None) -> str:
    """A duration in its largest unit."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def plain(text: str) -> str:
    """A field's name; no terminal obeys what is in it."""
    return text if text.isprintable() else ascii(text)
