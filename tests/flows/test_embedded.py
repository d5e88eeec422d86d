"""The Prefect server that a command has for itself: begun only where none is named, told where it fails, gone after."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from flow_support import environment_of, run_command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

BEGUN = """
import signal, sys
from flows import embedded
embedded.begin_embedded_server()
print([server.process.pid for server in embedded._begun], flush=True)
if sys.argv[1:] == ["bind"]:
    embedded.bind_embedded_server()
    print([server.process.pid for server in embedded._begun], flush=True)
    from prefect.settings import get_current_settings
    print(get_current_settings().api.url, "prefect.server.api.server" in sys.modules, flush=True)
if sys.argv[1:] == ["ask"]:
    embedded.bind_embedded_server()
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        print(client.count_flow_runs(), embedded.gone(), flush=True)
        [server] = embedded._begun
        server.process.kill()
        server.process.wait()
        print(embedded.gone().found, flush=True)
if sys.argv[1:] == ["wait"]:
    signal.pause()
"""


def begun(home: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BEGUN, *arguments]
    environment = {**environment_of(home), **settings}
    return subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, text=True)


def answer_of(home: Path, *arguments: str, **settings: str) -> list[str]:
    with begun(home, *arguments, **settings) as process:
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return told.splitlines()


def test_it_answers_the_command_which_imports_none_of_it_and_ends_with_it(tmp_path: Path) -> None:
    first, then, settings = answer_of(tmp_path, "bind")
    assert first == then != "[]"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api False", settings)
    [identity] = map(int, first.strip("[]").split())
    assert not psutil.pid_exists(identity)


def test_no_setting_meant_for_other_servers_comes_between(tmp_path: Path) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    settings = {"PREFECT_SERVER_API_AUTH_STRING": "a:b", "PREFECT_SERVER_API_BASE_PATH": "/x", "WEB_CONCURRENCY": "2"}
    _, answer, gone = answer_of(tmp_path, "ask", **proxies, **settings)
    assert answer == "0 None"
    assert gone == "Prefect's own server ended while the command went on (exit code -9)"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_is_killed_leaves_no_server(tmp_path: Path, number: signal.Signals) -> None:
    with begun(tmp_path, "wait") as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline().strip("[]\n")))
        process.send_signal(number)
        process.wait(30)
        _, alive = psutil.wait_procs([server], timeout=30)
        assert alive == []


PROFILE = 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'


@pytest.mark.parametrize(
    ("files", "settings"),
    [
        ({}, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}),
        ({".prefect/profiles.toml": PROFILE}, {}),
        ({".env": "PREFECT_API_URL=http://127.0.0.1:9/api\n"}, {}),
    ],
    ids=["environment", "profile", "dotenv"],
)
def test_none_is_begun_where_another_is_named(
    tmp_path: Path, files: Mapping[str, str], settings: Mapping[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, then, told = answer_of(tmp_path, "bind", **settings)
    assert (first, then, told) == ("[]", "[]", "http://127.0.0.1:9/api False")


def test_one_begun_in_vain_is_ended_where_prefect_knows_of_another(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:9/api"\n', encoding="utf-8")
    first, then, told = answer_of(tmp_path, "bind")
    assert (then, told) == ("[]", "http://127.0.0.1:9/api False")
    assert not psutil.pid_exists(int(first.strip("[]")))


def test_one_that_does_not_begin_is_told(tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir()
    settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/absent/prefect.db"}
    answer = run_command(tmp_path, "run", "--preset", "smoke", "--artifacts", tmp_path / "artifacts", **settings)
    assert answer.returncode == 4
    assert re.match(r"stepwise: http://127\.0\.0\.1:\d+/api: Prefect's own server does not begin: ", answer.stderr)
    assert "(exit code 3). Expected: a healthy server. See `stepwise --debug …` for what it says; " in answer.stderr
    assert not list((tmp_path / "artifacts").glob("runs/*"))
