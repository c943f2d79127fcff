"""The demo, as `make demo` runs it."""

import http.client
import signal
import subprocess
import sys

import pytest
from servers import free_port, wait_until

DEMO = [sys.executable, "-W", "ignore", "-m", "smartredis_wsgi.demo"]


def is_served(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def table():
    ran = subprocess.run(
        [*DEMO, "--once"], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stderr == ""
    return ran.stdout


def row(table: str, title: str) -> list[str]:
    line = next(line for line in table.splitlines() if title in line)
    return line[41:].replace("of 20 ", "").split("  ")


def cells(table: str, title: str) -> list[str]:
    return [cell.strip() for cell in row(table, title) if cell.strip()]


def test_no_strategy_loses_one_of_the_fields_that_parallel_requests_set(table):
    *ours, naive = cells(table, "another field")
    assert ours == ["20 kept"] * 3
    assert naive != "20 kept"  # the control: this trial can fail


def test_reading_and_writing_back_counts_exactly_under_a_lock(table):
    unlocked, single, redlock, naive = cells(table, "+= 1")
    assert single == redlock == "20 counted"
    assert "20 counted" not in (unlocked, naive)


def test_incr_counts_exactly_without_a_lock(table):
    *ours, naive = cells(table, "incr")
    assert ours == ["20 counted"] * 3
    assert naive != "20 counted"


def test_a_logout_during_a_slow_request_stays_with_ours_only(table):
    assert cells(table, "logout") == [*["stays out"] * 3, "came back"]


def test_the_page_is_served_and_ends_cleanly_with_ctrl_c():
    port = free_port()
    with subprocess.Popen(
        [*DEMO, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        wait_until(lambda: is_served(port), 20, "the demo's page")
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (0, "")
    assert out == f"http://127.0.0.1:{port} (Ctrl-C ends it)\nended\n"
