"""Application servers in processes of their own: gunicorn, waitress, cheroot, wsgiref.

Each serves an application that it imports, ``module:name``, from a folder or from
tests/, on 127.0.0.1.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from servers import HOST, free_port, wait_until

TESTS = Path(__file__).parent
READY_SECONDS = 20.0
STOP_SECONDS = 10.0

# A client that follows a redirect early keeps one sync worker: there is one more of
# these than such clients.
FOLLOWERS = 3
_GUNICORN = [
    *[sys.executable, "-m", "gunicorn", "{app}", "--bind={at}"],
    # A client that keeps a connection finds it open, on a slow machine too.
    *["--no-control-socket", "--log-level=error", "--keep-alive=60"],
]
COMMANDS = {
    "gunicorn-sync": [*_GUNICORN, f"--workers={FOLLOWERS + 1}"],
    "gunicorn-gthread": [
        *[*_GUNICORN, "--workers=2", "--threads=8", "--worker-class=gthread"],
    ],
    "gunicorn-gevent": [*_GUNICORN, "--workers=2", "--worker-class=gevent"],
    "waitress": [
        *[sys.executable, "-m", "waitress", "--threads=8", "--listen={at}", "{app}"],
    ],
    "cheroot": [
        *[sys.executable, "-m", "cheroot", "--threads=8", "--timeout=60"],
        *["--request-queue-size=128", "--bind={at}", "{app}"],
    ],
    "wsgiref": [sys.executable, str(TESTS / "wsgiref_server.py"), "{app}", "{at}"],
}


class AppServer:
    """A server of the kind ``kind`` for ``app``, stopped until ``start()``.

    The application finds the URL of its records in the environment, as ``RECORDS``.
    """

    def __init__(self, kind: str, app: str, folder: Path, records: str) -> None:
        self.kind, self.app, self.records = kind, app, records
        self.folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AppServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def at(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.at}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def start(self) -> AppServer:
        """Returns once it accepts connections."""
        self.port = free_port()
        environ = {"RECORDS": self.records, "PYTHONPATH": str(TESTS)}
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                [word.format(at=self.at, app=self.app) for word in COMMANDS[self.kind]],
                cwd=self.folder,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._accepts, READY_SECONDS, self.kind)
        except BaseException:
            self.stop()
            raise
        return self

    def _accepts(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise RuntimeError(f"{self.kind} ended:\n{self.log[-2000:]}")
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Ends it and its workers; harmless when it has ended."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
