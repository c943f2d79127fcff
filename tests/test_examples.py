"""The examples, run as their readers run them: as programs, spoken to by HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from servers import HOST, Monitor, Server, free_port, wait_until

EXAMPLES = Path(__file__).parents[1] / "examples"
FRAMEWORKS = ["beaker", "bottle", "django", "flask", "paste", "pyramid"]
COUNTERS = ["plain.py", "from_ini.py", *(f"{name}_app.py" for name in FRAMEWORKS)]
LISTENERS = ["prometheus_events.py", "opentelemetry_events.py"]
START_SECONDS = 20.0
ANSWER_SECONDS = 10.0
STOP_SECONDS = 10.0


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    text: str


class Browser:
    """Keeps cookies and follows redirects."""

    def __init__(self, port: int, cookies: dict[str, str] | None = None) -> None:
        self.port = port
        self.cookies = dict(cookies or {})

    def get(self, path: str = "/") -> Answer:
        return self._ask("GET", path)

    def post(self, path: str, **form: str) -> Answer:
        answer = self._ask("POST", path, urlencode(form))
        if answer.status == 303:
            return self.get(urlsplit(answer.headers["Location"]).path)
        return answer

    def _ask(self, method: str, path: str, body: str | None = None) -> Answer:
        headers = {"Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(HOST, self.port, ANSWER_SECONDS)
        connection.connect()
        with closing(connection), connection.sock.dup() as end:
            connection.request(method, path, body, headers if self.cookies else {})
            reply = connection.getresponse()
            answer = Answer(reply.status, reply.headers, reply.read().decode())
            # The server hangs up when it is done: wsgiref swallows a Ctrl-C before.
            assert end.recv(1) == b""
        for line in answer.headers.get_all("Set-Cookie", []):
            self._keep(SimpleCookie(line))
        return answer

    def _keep(self, cookies: SimpleCookie) -> None:
        for name, cookie in cookies.items():
            if cookie["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = cookie.value


def visits(answer: Answer) -> int:
    found = re.search(r"visits: (\d+)", answer.text)
    assert answer.status == 200, answer
    assert found, answer
    return int(found[1])


class Program:
    """An example at work on a port of its own."""

    def __init__(self, name: str, folder: Path, **environ: str) -> None:
        self.port = free_port()
        self._log = folder / f"{name}-{self.port}.log"
        command = [sys.executable, str(EXAMPLES / name)]
        environ = {**os.environ, "PORT": str(self.port), **environ}
        with self._log.open("wb") as log, interruptible():
            self._child = subprocess.Popen(
                command, env=environ, cwd=folder, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_it_serves(self) -> None:
        wait_until(self._answers, START_SECONDS, "the example's first answer")

    def _answers(self) -> bool:
        assert self._child.poll() is None, self.log
        try:
            Browser(self.port).get("/favicon.ico")
        except ConnectionRefusedError:
            return False
        return True

    def interrupt(self) -> None:
        """Ctrl-C; the program has to end by itself, and quietly."""
        self._child.send_signal(signal.SIGINT)
        assert self._child.wait(STOP_SECONDS) == 0, self.log
        assert "Traceback" not in self.log
        assert "Warning" not in self.log

    def close(self) -> None:
        self._child.kill()
        self._child.wait()


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets children hear SIGINT, even where pytest was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


Run = Callable[..., Browser]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts an example and gives a browser for it; at the end there is a Ctrl-C."""
    programs: list[Program] = []

    def start(name: str, **environ: str) -> Browser:
        program = Program(name, tmp_path, **environ)
        at_end.callback(program.close)
        programs.append(program)
        program.wait_until_it_serves()
        return Browser(program.port)

    with ExitStack() as at_end:
        yield start
        for program in programs:
            program.interrupt()


@pytest.fixture(params=COUNTERS)
def browser(request: pytest.FixtureRequest, server: Server, run: Run) -> Browser:
    return run(request.param, REDIS_URL=server.url)


@pytest.fixture
def shop(server: Server, masters: list[Server], run: Run) -> Browser:
    nodes = " ".join(master.url for master in masters[:3])
    return run("redlock.py", REDIS_URL=server.url, REDLOCK_NODES=nodes)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*")), ids=lambda p: p.name)
def test_an_example_is_at_most_50_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 50


def test_every_example_is_run_here() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {*COUNTERS, *LISTENERS, "redlock.py"}


def test_it_counts_logs_in_and_logs_out(browser: Browser) -> None:
    assert [visits(browser.get()) for _ in range(3)] == [1, 2, 3]
    stranger = dict(browser.cookies)

    page = browser.post("/login", user="grace")
    assert "grace" in page.text
    assert visits(page) == 4
    user = dict(browser.cookies)
    assert user.keys() == stranger.keys()
    assert user != stranger

    page = browser.post("/logout")
    assert "stranger" in page.text
    assert visits(page) == 1
    assert browser.cookies != user

    for old in (stranger, user):
        page = Browser(browser.port, old).get()
        assert "grace" not in page.text
        # Django tells who writes with a key that was cycled: SessionInterrupted.
        assert page.status == 400 or visits(page) == 1


def test_two_browsers_are_strangers(browser: Browser) -> None:
    other = Browser(browser.port)
    counted = [visits(each.get()) for each in (browser, other, browser)]
    assert counted == [1, 1, 2]


def test_without_a_redis_url_a_server_is_embedded(run: Run, server: Server) -> None:
    browser = run("plain.py", REDIS_URL="embedded://")
    assert [visits(browser.get()) for _ in range(2)] == [1, 2]
    with server.client() as client:
        assert client.dbsize() == 0


def test_the_ini_signs_its_cookies(server: Server, run: Run) -> None:
    browser = run("from_ini.py", REDIS_URL=server.url)
    assert browser.get().text == "Good morning stranger, visits: 1\n"
    name, value = browser.cookies.popitem()
    forged = Browser(
        browser.port, {name: value[:-1] + ("A" if value[-1] != "A" else "B")}
    )
    assert visits(forged.get()) == 1


def samples(answer: Answer) -> dict[str, float]:
    lines = [ln for ln in answer.text.splitlines() if ln.startswith("session_")]
    return {name: float(value) for name, value in (ln.rsplit(" ", 1) for ln in lines)}


def test_prometheus_is_told_what_happened(server: Server, run: Run) -> None:
    browser = run("prometheus_events.py", REDIS_URL=server.url)
    before = samples(browser.get("/metrics"))
    assert [visits(browser.get()) for _ in range(3)] == [1, 2, 3]
    after = samples(browser.get("/metrics"))
    risen = {
        name: after[name] - before.get(name, 0)
        for name in after
        if name.startswith(("session_events_total", "session_seconds_count"))
    }
    assert {name: by for name, by in risen.items() if by} == {
        'session_events_total{event="created"}': 1,
        'session_events_total{event="loaded"}': 2,
        'session_events_total{event="committed"}': 2,
        'session_seconds_count{event="created"}': 1,
        'session_seconds_count{event="loaded"}': 2,
        'session_seconds_count{event="committed"}': 2,
    }
    assert risen['session_events_total{event="lock_lost"}'] == 0


def spans_in(log: str) -> list[dict[str, Any]]:
    """What is in braces that stand alone; the server writes lines between them."""
    return [json.loads(text) for text in re.findall(r"^{$.*?^}$", log, re.M | re.S)]


def test_opentelemetry_finds_spans_of_the_session_below_those_of_requests(
    server: Server, run: Run, tmp_path: Path
) -> None:
    browser = run("opentelemetry_events.py", REDIS_URL=server.url)
    assert [visits(browser.get()) for _ in range(2)] == [1, 2]
    server.fresh()
    assert visits(browser.get()) == 1
    (log,) = tmp_path.glob("opentelemetry*.log")
    spans = spans_in(log.read_text())
    requests = {s["context"]["span_id"]: s for s in spans if s["name"] == "GET /"}
    below: dict[str, list[str]] = {span_id: [] for span_id in requests}
    for span in spans:
        if span["parent_id"] in requests:
            asked = requests[span["parent_id"]]
            below[span["parent_id"]].append(span["name"])
            assert re.fullmatch("[0-9a-f]{8}", span["attributes"]["session.handle"])
            assert asked["start_time"] <= span["start_time"] <= span["end_time"]
            assert span["end_time"] <= asked["end_time"]
    assert list(below.values()) == [
        ["session created"],
        ["session loaded", "session committed"],
        ["session created"],
    ]
    told = [[event["name"] for event in asked["events"]] for asked in requests.values()]
    assert told == [[], [], ["session missing"]]


def test_the_shop_sells_what_there_is_credit_for(shop: Browser) -> None:
    assert shop.post("/buy").text == "credit: 0, tickets: 0\n"
    assert shop.post("/login").text == "credit: 3, tickets: 0\n"
    bought = [shop.post("/buy").text for _ in range(4)]
    assert bought == [
        "credit: 2, tickets: 1\n",
        "credit: 1, tickets: 2\n",
        "credit: 0, tickets: 3\n",
        "credit: 0, tickets: 3\n",
    ]
    assert shop.post("/logout").text == "credit: 0, tickets: 0\n"


def test_the_shop_locks_on_each_master(shop: Browser, masters: list[Server]) -> None:
    shop.post("/login")
    with ExitStack() as stack:
        monitors = [stack.enter_context(Monitor(master)) for master in masters[:3]]
        shop.get()
        assert not [line for monitor in monitors for line in monitor.lines()]
        shop.post("/buy")
        for monitor in monitors:
            assert any("lock:session:" in line for line in monitor.lines())


def test_the_shop_goes_on_without_one_master(
    shop: Browser, masters: list[Server]
) -> None:
    shop.post("/login")
    masters[0].stop()
    assert shop.post("/buy").text == "credit: 2, tickets: 1\n"


def test_the_shop_sells_nothing_without_a_quorum(
    shop: Browser, masters: list[Server]
) -> None:
    shop.post("/login")
    masters[0].stop()
    masters[1].stop()
    refused = shop.post("/buy")
    assert refused.status == 503
    assert "Retry-After" in refused.headers
    assert shop.get().text == "credit: 3, tickets: 0\n"
