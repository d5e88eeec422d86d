"""What a run costs besides its work: one in which nothing changed beside an empty Prefect flow, and a cold one's rest.

Every arm is a fresh process, wall time from its start to its end, once with the server that Prefect embeds and once
with one running. With a server, the flow's own seconds are asked of it too.
"""

from __future__ import annotations

import re
import socket
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.commands import STEPWISE, costed, environment_in, server_in
from benchmarks.measure import FOLDER, Options, interleaved, report
from benchmarks.run_split import COMMAND_IMPORTS, cold_run, import_seconds
from schemas.steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EMPTY, UNCHANGED = "empty flow", "nothing changed"
WAYS = ("embedded", "server")
ROUNDS = 5
IMPORTED = re.compile(r"\| +tensorflow$", re.MULTILINE)


def main(options: Options) -> None:
    """A cold run, then runs in which nothing changed and empty flows, interleaved."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        home = Path(name)
        split = cold_run(options.preset, home)
        imports = import_seconds(COMMAND_IMPORTS)
        report(
            f"overhead-cold-{options.preset}",
            {
                "whole process": [split.wall],
                "train": split.seconds_of("train"),
                "download, the longest": [max(split.seconds_of("download"))],
                f"import {COMMAND_IMPORTS}": imports,
                "outside of these": [split.outside(statistics.median(imports))],
            },
            "whole process",
            aim="outside of these at most 20 s",
        )
        tasks = len(STEPS)
        run = [*STEPWISE, "run", "--preset", options.preset, "--artifacts", home / "artifacts", "--json"]
        empty = [sys.executable, "-m", "benchmarks.empty_flow", str(tasks)]
        with server_in(home / "server", _free_port()) as api:
            environments = {"embedded": environment_in(home), "server": environment_in(home, PREFECT_API_URL=api)}
            times, flow_times = measured(run, empty, environments, api, min(options.repeat, ROUNDS))
            log = costed([run[0], "-X", "importtime", *run[1:]], environments["server"]).said
        told(times, flow_times, tasks, tensorflow=bool(IMPORTED.search(log)))


def measured(
    run: Sequence[object],
    empty: Sequence[object],
    environments: Mapping[str, Mapping[str, str]],
    api: str,
    rounds: int,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall seconds of all arms, and those that the server recorded for the flows it saw."""
    flow_times: dict[str, list[float]] = {EMPTY: [], UNCHANGED: []}

    def arm(kind: str, way: str) -> Callable[[], float]:
        def timed() -> float:
            wall = costed(run if kind == UNCHANGED else empty, environments[way]).seconds
            if way == "server":
                flow_times[kind].append(newest_flow_seconds(api))
            print(f"  {kind}, {way}: {wall:.1f} s", flush=True)
            return wall

        return timed

    arms = {f"{kind}, {way}": arm(kind, way) for way in WAYS for kind in flow_times}
    return interleaved(arms, rounds), {kind: values[1:] for kind, values in flow_times.items()}


def newest_flow_seconds(api: str) -> float:
    """The run time of the flow run that began last, as the server has it."""
    asked: dict[str, Any] = {"sort": "START_TIME_DESC", "limit": 1}
    (run,) = httpx.post(f"{api}/flow_runs/filter", json=asked, timeout=30).raise_for_status().json()
    return float(run["total_run_time"])


def told(times: dict[str, list[float]], flow_times: dict[str, list[float]], tasks: int, *, tensorflow: bool) -> None:
    """A report for each way of having a server, and one of the flows' own seconds."""
    for way in WAYS:
        of_way = {name: values for name, values in times.items() if name.endswith(way)}
        facts = {"tasks": tasks, "tensorflow_imported_where_nothing_changed": tensorflow}
        report(f"overhead-{way}", of_way, f"{EMPTY}, {way}", aim="at most 1.3", **facts)
    report(
        "overhead-flow",
        flow_times,
        EMPTY,
        aim="at most 3 s where nothing changed; 1.3 is of whole processes",
        counted="as the server has them",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
