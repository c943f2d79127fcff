"""The demo, as `make demo` runs it."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from importlib import resources

import pytest
from servers import free_port, wait_until
from webob import Request

from smartredis_wsgi.demo.site import Site

DEMO = [sys.executable, "-W", "ignore", "-m", "smartredis_wsgi.demo"]
OURS = "none", "single", "redlock"
STORES = *OURS, "naive"
SECONDS = 60


def is_served(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def running(port: int):
    with subprocess.Popen(
        [*DEMO, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            wait_until(lambda: is_served(port), SECONDS, "the demo's page")
            yield demo
        finally:
            demo.kill()


@pytest.fixture(scope="module")
def port():
    port = free_port()
    with running(port):
        yield port


# -- the table -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    ran = subprocess.run(
        [*DEMO, "--once"], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stderr == ""
    return ran.stdout


def row(table: str, title: str) -> list[str]:
    line = next(line for line in table.splitlines() if title in line)
    return line[41:].replace("of 50 ", "").split("  ")


def cells(table: str, title: str) -> list[str]:
    return [cell.strip() for cell in row(table, title) if cell.strip()]


@pytest.mark.parametrize("title", ["another field", "appends to one list"])
def test_no_strategy_loses_what_parallel_requests_set_or_append(table, title):
    *ours, naive = cells(table, title)
    assert ours == ["50 kept"] * 3
    assert naive != "50 kept"  # the control: this trial can fail


def test_reading_and_writing_back_counts_exactly_under_a_lock(table):
    unlocked, single, redlock, naive = cells(table, "+= 1")
    assert single == redlock == "50 counted"
    assert "50 counted" not in (unlocked, naive)


def test_incr_counts_exactly_without_a_lock(table):
    *ours, naive = cells(table, "incr")
    assert ours == ["50 counted"] * 3
    assert naive != "50 counted"


def test_a_logout_during_a_slow_request_stays_with_ours_only(table):
    assert cells(table, "logout") == [*["stays out"] * 3, "came back"]


# -- beginning and end ---------------------------------------------------------------


def test_the_page_is_served_and_ends_cleanly_with_ctrl_c():
    port = free_port()
    with running(port) as demo:
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (0, "")
    assert out == f"http://127.0.0.1:{port} (Ctrl-C ends it)\nended\n"


def test_a_port_that_is_taken_is_one_line_that_names_it_and_the_remedy(port):
    ran = subprocess.run(
        [*DEMO, "--port", str(port)], capture_output=True, text=True, timeout=SECONDS
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.fullmatch(rf".*\b{port}\b.*--port.*\n", ran.stderr)


def test_it_listens_on_this_machine_only(port):
    elsewhere = "127.0.0.2"  # this machine too, but not where it is served
    with socket.socket() as probe:
        probe.bind((elsewhere, 0))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((elsewhere, port), 5)


# -- the routes ----------------------------------------------------------------------


class Visitor:
    """Asks the demo, and keeps its cookies."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self.jar = CookieJar()
        cookies = urllib.request.HTTPCookieProcessor(self.jar)
        self._opener = urllib.request.build_opener(cookies)

    def ask(self, method: str, path: str, **headers: str):
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(self._root + path, None, named, method=method)
        try:
            answer = self._opener.open(request, timeout=SECONDS)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            return answer.status, answer.headers, answer.read().decode()

    def act(self, *acts: str) -> None:
        for act in acts:
            for store in ("none", "naive"):
                assert self.ask("POST", f"/{store}/{act}")[0] == 204

    def now(self, *seen: str):
        query = "&".join(f"seen={key}" for key in seen)
        _, _, text = self.ask("GET", f"/now?{query}")
        for cookie in self.jar:
            assert cookie.value not in text  # no id is shown
        return json.loads(text)

    def key(self) -> str:
        return self.now()["ours"][0]["key"]


@pytest.fixture
def visitor(port):
    return Visitor(port)


def test_the_record_is_shown_as_it_lies_in_redis(visitor):
    visitor.act("login", "count", "count", "put", "turn")
    (ours,), (naive,) = visitor.now()["ours"], visitor.now()["naive"]
    assert ours["kind"] == "hash"
    assert {field["name"]: field["value"] for field in ours["fields"]} == {
        "cart": '["tea"]',
        "count": "2",
        "look": '{"theme":"light","size":16}',
        "user": '"ann"',
    }
    assert all(field["bytes"] == len(field["value"]) for field in ours["fields"])
    assert ours["meta"]["version"] == "5"
    assert len(ours["meta"]["incarnation"]) == 7
    assert int(ours["meta"]["size"]) == sum(
        len(field["name"]) + field["bytes"] for field in ours["fields"]
    )
    assert 1790 < ours["left"] <= 1800
    assert json.loads(naive["text"])["cart"] == ["tea"]


def test_looking_creates_and_prolongs_nothing(visitor):
    assert visitor.now() == {"ours": [], "naive": [], "slow": 0}
    visitor.act("count")
    first = visitor.now()["ours"][0]["left"]
    wait_until(lambda: visitor.now()["ours"][0]["left"] < first - 0.1, 20, "its end")
    assert not [c for c in visitor.jar if c.name not in ("sid-none", "naive")]


def test_a_login_moves_the_record_and_a_logout_leaves_a_tombstone(visitor):
    visitor.act("count")
    first = visitor.key()
    visitor.act("login")
    second = visitor.key()
    now, before = visitor.now(first)["ours"]
    assert (now["key"], now["kind"]) == (second, "hash")
    assert (before["key"], before["kind"]) == (first, "string")
    assert second in before["text"]
    visitor.act("logout")
    (tombstone,) = visitor.now(second)["ours"]
    assert (tombstone["kind"], tombstone["text"]) == ("string", "destroyed")
    assert 0 < tombstone["left"] <= 20


def test_only_keys_of_sessions_are_shown(visitor):
    assert visitor.now("lock:session:x", "blob:x")["ours"] == []


@pytest.mark.parametrize("store", STORES)
def test_a_crowd_tells_what_each_request_met_and_what_is_left(visitor, store):
    status, headers, text = visitor.ask("POST", f"/crowd/{store}/set")
    *answers, end = map(json.loads, text.splitlines())
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    assert [answer["status"] for answer in answers] == [204] * 50
    for answer in answers:
        assert answer["arrived"] <= answer["read"] < answer["stored"]
    assert end["requests"] == 50
    assert (end["kept"] == 50) is (store != "naive")


@pytest.mark.parametrize(
    "path", ["/none/count", "/none/login", "/none/logout", "/crowd/none/incr", "/goon"]
)
def test_what_changes_anything_wants_a_post(visitor, path):
    assert visitor.ask("GET", path)[0] == 404
    assert visitor.now()["ours"] == []


@pytest.mark.parametrize(
    "path", ["/x", "/../site.py", "/crowd/x/incr", "/crowd/none/x", "/crowd", "/none/x"]
)
def test_there_is_nothing_else(visitor, path):
    assert {visitor.ask(method, path)[0] for method in ("GET", "POST")} == {404}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_served_under_another_host(visitor, port, method):
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1"):
        for path in ("/", "/now", "/none/count", "/crowd/none/incr"):
            assert visitor.ask(method, path, Host=host)[0] == 403
    assert visitor.ask("POST", "/none/count", Host=f"localhost:{port}")[0] == 204


@pytest.mark.parametrize("path", ["/none/count", "/crowd/none/incr", "/goon"])
def test_what_changes_anything_is_refused_to_other_sites(visitor, port, path):
    for headers in (
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        assert visitor.ask("POST", path, **headers)[0] == 403
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}
    assert visitor.ask("POST", path, **own)[0] in (200, 204)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("_", "/none/call__", 404),
        ("POST", "/none/set/%ff%fe", 400),
        ("GET", "/%ff", 400),
        ("GET", "/now?seen=%ff", 400),
    ],
)
def test_what_is_malformed_is_no_failure(visitor, method, path, status):
    assert visitor.ask(method, path)[0] == status


def test_a_hash_that_is_no_session_is_shown_as_none():
    site = Site()
    site.redis.hset("session:x", "a", "b")
    answer = Request.blank("/now?seen=session:x", base_url="http://localhost:80")
    assert answer.get_response(site).json["ours"][0]["kind"] == "foreign"


def test_the_page_has_no_script_or_style_but_in_its_own_files(visitor):
    _, headers, page = visitor.ask("GET", "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in re.findall(r'(?:src|href)="/([^"#]+)"', page):
        assert visitor.ask("GET", f"/{name}")[0] == 200
    assert not re.search(r"<style|<script(?![^>]* src=)| style=| on\w+=", page)


def test_no_file_of_the_page_names_another_host():
    for file in (resources.files("smartredis_wsgi.demo") / "page").iterdir():
        found = set(re.findall(r"https?://[^\s\"']+", file.read_text("utf-8")))
        assert found <= {"http://www.w3.org/2000/svg"}, file  # a name, no address


# -- in a browser --------------------------------------------------------------------


@pytest.fixture
def page(browser, port):
    browser.driver.get(f"http://127.0.0.1:{port}/")
    yield browser
    assert browser.hosts() == {f"127.0.0.1:{port}"}
    assert browser.complaints() == []


def test_the_page_shows_the_session_and_each_change_of_it(page):
    page.until_reads("#ours", "No session yet")
    for act, shown in [
        ("count", "count 1 1"),
        ("put", 'cart ["tea"] 7'),
        ("turn", 'look {"theme":"light","size":16} 27'),
    ]:
        page.click(f".buttons [data-act={act}]")
        page.until_reads("#ours", shown)
    page.until_reads("#ours", "version 3")
    page.until_reads("#naive", '{"count": 1, "cart": ["tea"]')
    page.click(".buttons [data-act=login]")
    page.until_reads("#ours", "moved")
    page.until_reads("#ours", 'user "ann" 5')
    page.click(".buttons [data-act=logout]")
    page.until_reads("#ours", "destroyed")
    cookies = [cookie["value"] for cookie in page.driver.get_cookies()]
    assert cookies
    assert not [value for value in cookies if value in page.driver.page_source]


def test_the_picture_shows_what_each_store_lost_of_fifty(page):
    page.click("#crowd button")
    page.until_reads("#said", "Lost:")
    for store in OURS:
        assert page.text(f"#crowd-{store} .result") == "50 kept, none lost"
        assert page.count(f"#crowd-{store} .squares rect.kept") == 50
    lost = int(page.find("#crowd-naive").get_attribute("data-lost"))
    assert lost > 0
    assert page.count("#crowd-naive .squares rect.lost") == lost
    assert f"{lost} lost" in page.text("#crowd-naive .result")


def test_the_picture_shows_how_long_each_request_waited(page):
    page.click("#crowd button")
    page.until_reads("#said", "Lost:")
    for store in STORES:
        bars = page.find(f"#crowd-{store} .bars")
        assert "longest waited" in bars.get_attribute("aria-label")
        for kind in ("waited", "held"):
            assert page.count(f"#crowd-{store} .bars .{kind}") == 50


def test_a_counter_that_is_read_and_written_back_needs_a_lock(page):
    page.click("#crowd label:nth-of-type(2)")
    page.click("#crowd button")
    page.until_reads("#said", "Lost:")
    shown = [page.text(f"#crowd-{store} .result") for store in STORES]
    assert [text == "50 kept, none lost" for text in shown] == [
        False,
        True,
        True,
        False,
    ]


def test_a_logout_in_a_second_tab_stays_out_with_ours_and_not_with_the_naive(page):
    page.click(".buttons [data-act=login]")
    page.until_reads("#ours", "ann")
    page.click("#slow")
    page.until_reads("#at-work", "still at work")
    first = page.driver.current_window_handle
    page.click(".story a")
    (second,) = page.until(lambda: {*page.driver.window_handles} - {first})
    page.driver.switch_to.window(second)
    page.until_reads("#at-work", "still at work")
    page.click(".story [data-act=logout]")
    for tab in (second, first):
        page.driver.switch_to.window(tab)
        page.until_reads("#verdict", "naive came back")
        page.until_reads("#verdict", "smartredis_wsgi stays out")
        page.until_reads("#ours", "destroyed")
        page.until_reads("#naive", '"late": 1')


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_small_screen_in_both_schemes(page, dark):
    page.show(dark=dark, width=360, height=740)
    page.click(".buttons [data-act=turn]")
    page.until_reads("#ours", "look")
    page.click("#crowd button")
    page.until_reads("#said", "Lost:")
    root = "document.documentElement"
    width = page.driver.execute_script(f"return {root}.scrollWidth")
    assert width <= 360
    background = page.find("body").value_of_css_property("background-color")
    red = int(re.findall(r"\d+", background)[0])
    assert (red < 128) is dark


def test_everything_can_be_done_with_the_keyboard(page):
    body = "return document.activeElement === document.body"
    reached = []
    page.press_tab()
    while not page.driver.execute_script(body) and len(reached) < 30:
        reached.append(page.focused())
        page.press_tab()
    wanted = {"incr", "Send 50 to each store", "Count", "Log out", "a second tab"}
    assert wanted <= set(reached)
