"""What a person does in the Prefect UI when a run fails: a real browser, an installation, its worker, a toy training.

The form, the planted bad data, the dossier, Retry, what was Cached, and a rerun by the link in the summary. Pictures of
the pages go where STEPWISE_PICTURES says.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flow_support import environment_of
from install_support import LOCAL, STEPWISE, asked, bad_records, free_port, until

from schemas.plan import STAGES
from tasks.download.glyphs import images, labels
from tasks.idx import write_idx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
DOWNLOADS = {f"download {split} {role}" for split in ("train", "test") for role in ("images", "labels")}
PARSED = {"parse train", "parse test"}
LABELS = "train-labels-idx1-ubyte"
REST = {"validate", "reshape train", "reshape test", "drift", "train", "evaluate"}
REST |= {"compare", "publish", "promote"}
ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}


class Pages:
    """An installation of one deployment, and a person who looks at its pages."""

    def __init__(self, home: Path, address: str, page: Page) -> None:
        self.home, self.address, self.page = home, address, page
        page.set_default_timeout(60_000)
        [deployment] = asked(address, "deployments")
        self.deployment = f"{address}/v2/deployments/deployment/{deployment['id']}"

    def runs(self) -> list[dict[str, Any]]:
        """All flow runs, the newest first."""
        return asked(self.address, "flow_runs", sort="EXPECTED_START_TIME_DESC")

    def ended(self, run: str, tries: int) -> str:
        """Wait for the end of a run's so-manieth try: the name of its state.

        Nothing is looked at meanwhile: a page that draws a run as it goes takes the processors that the run needs.
        """
        self.page.goto("about:blank")

        def state() -> str | None:
            found = LOCAL.get(f"{self.address}/api/flow_runs/{run}").json()
            ended = found["run_count"] == tries and found["state_name"] in ENDED
            return str(found["state_name"]) if ended else None

        return str(until(state, 300, f"an end of {run}", pause=0.5))

    def pressed(self) -> bool:
        """Press Submit in the form that is open; whether it was taken: a page just drawn may not listen yet."""
        from playwright.sync_api import TimeoutError as TooLateError  # only tests that look at pages wait for it

        with contextlib.suppress(TooLateError), self.page.expect_request("**/schemas/validate", timeout=3_000):
            self.page.get_by_role("button", name="Submit").click()
            return True
        return False

    def submitted(self) -> str:
        """Submit the form that is open; returns the run."""
        known = {run["id"] for run in self.runs()}
        self.page.wait_for_load_state("networkidle")
        for _ in range(3):  # a busy database refuses (503), and a person presses again
            until(self.pressed, 30, "a form that listens")
            with contextlib.suppress(AssertionError):
                new: list[str] = until(
                    lambda: [run["id"] for run in self.runs() if run["id"] not in known], 20, "a new run"
                )
                return new[0]
        raise AssertionError(f"no new run of {self.page.url}, which says {self.page.locator('body').inner_text()}")

    def open_run(self, run: str) -> None:
        """Go to a run's page."""
        self.page.goto(f"{self.address}/v2/runs/flow-run/{run}")
        self.page.get_by_role("tab", name="Artifacts").wait_for()

    def open_artifact(self, run: str, key: str) -> None:
        """See that a run's page names an artifact, and go to it."""
        self.open_run(run)
        self.page.get_by_role("tab", name="Artifacts").click()
        self.page.locator(f"a[href='/v2/artifacts/key/{key}']").wait_for()
        found = asked(self.address, "artifacts", flow_runs={"id": {"any_": [run]}}, sort="CREATED_DESC")
        newest = next(artifact["id"] for artifact in found if artifact["key"] == key)
        self.page.goto(f"{self.address}/v2/artifacts/artifact/{newest}")
        self.page.get_by_role("tab", name="Raw").wait_for()

    def retry(self, run: str) -> None:
        """Choose Retry on a run's page."""
        self.open_run(run)
        self.page.get_by_role("button", name="Open menu").last.click()
        self.page.get_by_role("menuitem", name="Retry").click()
        self.page.get_by_role("button", name="Retry", exact=True).click()

    def picture(self, name: str) -> None:
        """Keep pictures of the page where they are wanted, as on a desk and as on a telephone; then see it anew."""
        folder = os.environ.get("STEPWISE_PICTURES")
        for width, kind in ((1280, "wide"), (420, "narrow")) if folder else ():
            self.page.set_viewport_size({"width": width, "height": 1000})
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=Path(str(folder)) / f"{name}-{kind}.png", full_page=True)
        self.page.set_viewport_size({"width": 1280, "height": 1000})
        self.page.reload(wait_until="networkidle")  # the pages keep some of a telephone's layout

    def steps(self, run: str, tries: int) -> dict[str, set[str]]:
        """The tasks of one try of a run, by the state they ended in."""
        found = collections.defaultdict(set)
        for task in asked(self.address, "task_runs", flow_runs={"id": {"any_": [run]}}):
            if task["flow_run_run_count"] == tries:
                found[task["state_name"]].add(task["name"])
        return dict(found)

    def counts(self, *runs: str) -> collections.Counter[str]:
        """How often each step was really done in runs, as their logs say it."""
        lines = asked(self.address, "logs", logs={"flow_run_id": {"any_": list(runs)}})
        return collections.Counter(
            said[1] for line in lines if (said := re.fullmatch(r"([a-z ]+): done in [\d.]+ s", line["message"]))
        )

    def done(self, expected: dict[str, int], *runs: str) -> bool:
        """Whether each step was really done so often; a log's last lines reach the server after the run's end."""
        with contextlib.suppress(AssertionError):
            until(lambda: self.counts(*runs) == expected, 30, "the counts")
        return self.counts(*runs) == expected

    def published(self) -> list[dict[str, Any]]:
        """The manifests of all published runs, in their order."""
        found = (json.loads(path.read_bytes()) for path in self.home.glob("artifacts/runs/*/manifest.json"))
        return sorted(found, key=lambda manifest: manifest["created"])


@contextlib.contextmanager
def up(home: Path) -> Iterator[str]:
    """A `stepwise up`; its address."""
    port = free_port()
    command = [*STEPWISE, "up", "--file", str(home / "stepwise.toml"), "--port", str(port)]
    environment = environment_of(home) | {"PREFECT_WORKER_QUERY_SECONDS": "2"}
    path = home / "up.log"
    with path.open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: "runs by hand" in path.read_text() or process.poll() is not None, 300, "an installation")
        assert process.poll() is None, path.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Pages]:
    home = tmp_path_factory.mktemp("pages")
    data = home / "digits"
    data.mkdir()
    for split, samples in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        write_idx(data / f"{split}-images-idx3-ubyte", images("test")[samples])
        write_idx(data / f"{split}-labels-idx1-ubyte", labels("test")[samples])
    settings = 'preset = "smoke"\nconfiguration.training.epochs = 1'
    (home / "stepwise.toml").write_text(f'[deployments.digits]\ndata = "{data}"\n{settings}\n')
    with up(home) as address, browser.new_context(viewport={"width": 1280, "height": 1000}) as context:
        yield Pages(home, address, context.new_page())


def test_a_failed_run_is_understood_mended_and_retried(pages: Pages) -> None:
    path = pages.home / "digits" / LABELS
    good = path.read_bytes()
    spoilt = labels("test")[:300].copy()
    spoilt[[7, 130]] = 77, 200
    write_idx(path, spoilt)
    look_at_the_form(pages)
    run = pages.submitted()
    assert pages.ended(run, 1) == "Failed"
    read_the_dossier(pages, run)

    path.write_bytes(good)
    pages.retry(run)
    assert pages.ended(run, 2) == "Completed"
    assert pages.steps(run, 1) == {"Completed": DOWNLOADS | PARSED, "Failed": {"validate"}}
    assert pages.steps(run, 2) == {"Cached": {"parse test"}, "Completed": DOWNLOADS | {"parse train"} | REST}
    counts = dict.fromkeys(DOWNLOADS | {"parse train"}, 2) | dict.fromkeys({"parse test"} | REST, 1)
    assert pages.done(counts, run), pages.counts(run)
    pages.open_run(run)
    pages.page.get_by_text("Completed", exact=True).first.wait_for()
    pages.page.get_by_role("tab", name="Task Runs").click()
    pages.page.get_by_text("Cached", exact=True).first.wait_for()
    pages.picture("retried")
    read_the_log(pages, run)
    look_at_the_artifacts(pages, run)


def look_at_the_form(pages: Pages) -> None:
    """Open it as a person does: descriptions, defaults, choices; several stages can be chosen under `rerun`."""
    page = pages.page
    page.goto(pages.deployment)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_text("How often the training sequences are gone through.").wait_for()
    page.get_by_text("Stages to do again even though their outputs are there").wait_for()
    assert page.get_by_label("Epochs").input_value() == "1"
    assert page.get_by_label("data", exact=False).first.is_visible()
    for field, choices in {
        "Layout": ["pixels", "frames"],
        "When Unchanged": ["go on", "skip"],
        "rerun": [*STAGES],
    }.items():
        page.get_by_role("button", name=f"Select {field}", exact=True).click()
        page.get_by_role("option").first.wait_for()
        assert page.get_by_role("option").all_inner_texts() == choices
        page.keyboard.press("Escape")
        page.get_by_role("listbox").wait_for(state="detached")
    choose = page.get_by_role("button", name="Select rerun")
    for stage in ("train", "evaluate"):
        choose.click()
        page.get_by_role("option", name=stage, exact=True).click()
        page.keyboard.press("Escape")
        page.get_by_role("listbox").wait_for(state="detached")
    assert chosen(page) == ["train", "evaluate"]
    pages.picture("form")
    choose.wait_for()
    assert chosen(page) == []


def chosen(page: Page) -> list[str]:
    """The stages that are chosen under `rerun`."""
    field = page.get_by_role("button", name="Select rerun").locator("xpath=..")
    return [said for said in field.inner_text().split() if said in STAGES]


def read_the_dossier(pages: Pages, run: str) -> None:
    """What was found and expected, the bad rows with their images, the command, and the link to the form."""
    page = pages.page
    pages.open_artifact(run, "dossier")
    pages.picture("dossier")
    page.get_by_role("heading", name="The run stopped").wait_for()
    [attempt] = [path.stem for path in pages.home.glob("artifacts/store/attempts/*.json")]
    expected = (
        "The run stopped",
        "train: labels leave no gap: no sample has label 10 to 76; across this gap: 2 rows",
        "rows that keep their contract",
        "Mend the files and rerun: nothing was reshaped or trained",
        f"stepwise rerun {attempt} \\\n  --artifacts {pages.home / 'artifacts'}",
        "parse train: done in",
        "train labels: idx, 300 rows",
    )
    until(lambda: not missing(page, expected), 60, f"{missing(page, expected)} on the page of the dossier")
    wrong = "across a gap: no sample has label 10 to 76"
    found, widths = bad_records(page, 2)
    assert found == [[LABELS, "7", "label 77", wrong], [LABELS, "130", "label 200", wrong]]
    assert widths == [56, 56]
    page.get_by_role("link", name="open the form").click()
    assert filled_in(page) == (["validate"], attempt, "1")


def missing(page: Page, expected: Iterable[str]) -> list[str]:
    """What a page does not say."""
    said = page.locator("body").inner_text()
    return [words for words in expected if words not in said]


def filled_in(page: Page) -> tuple[list[str], str, str]:
    """What stands in the form that a link opened: `rerun`, `of`, and the epochs."""
    page.get_by_role("button", name="Select rerun").wait_for()
    texts = page.locator("textarea").evaluate_all("fields => fields.map(field => field.value)")
    return chosen(page), texts[-1], page.get_by_label("Epochs").input_value()


def read_the_log(pages: Pages, run: str) -> None:
    """One line a step, one for the failure, no traceback of an error for people."""
    pages.open_run(run)
    pages.page.get_by_role("tab", name="Logs").click()
    pages.page.get_by_text("plan: 15 to run, 0 that follow").wait_for()  # the list holds only what is in sight
    pages.picture("log")
    lines = asked(pages.address, "logs", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
    [failure] = [line["message"] for line in lines if line["level"] >= logging.ERROR]
    assert failure.startswith(f"validate: {LABELS}: 1 finding in the data of 'digits'")
    beside = [line["message"] for line in lines if line["name"].startswith("prefect") and line["level"] == logging.INFO]
    kinds = [message.split()[0] for message in beside]
    assert kinds == ["Worker", "Flow", "Downloading", "Beginning"] * 2 + ["Finished"]


def look_at_the_artifacts(pages: Pages, run: str) -> None:
    """Each at its own key; the evaluation has a picture and a table."""
    found = asked(pages.address, "artifacts", flow_runs={"id": {"any_": [run]}})
    keys = {artifact["key"] for artifact in found if artifact["key"]}
    assert keys == {"summary", "ledger", "plan", "evaluation", "learning-curves", "dossier", "drift", "verdict"}
    pages.open_artifact(run, "evaluation")
    pages.picture("evaluation")
    picture = pages.page.locator("img[src^='data:image/png']").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
    classes = pages.page.get_by_role("table").filter(has_text="Found (recall)")
    classes.get_by_role("row").nth(10).wait_for()
    assert classes.get_by_role("row").count() == 11


def test_a_stage_is_done_again_from_the_link_in_the_summary(pages: Pages) -> None:
    [run] = [run["id"] for run in pages.runs()]
    [before] = pages.published()
    pages.open_artifact(run, "summary")
    pages.picture("summary")
    pages.page.get_by_role("link", name="Open the form").click()
    assert filled_in(pages.page) == (["evaluate"], before["run"], "1")
    runs = pages.home / "artifacts" / "runs"
    aside = runs.rename(runs.with_name("aside"))
    runs.write_text("in the way")
    again = pages.submitted()
    assert pages.ended(again, 1) == "Failed"
    assert pages.steps(again, 1)["Failed"] == {"publish"}
    runs.unlink()
    aside.rename(runs)

    pages.retry(again)
    assert pages.ended(again, 2) == "Completed"
    done = {"publish", "promote"}
    assert pages.steps(again, 2) == {"Cached": PARSED | REST - done, "Completed": DOWNLOADS | done}
    counts = dict.fromkeys(DOWNLOADS, 2) | dict.fromkeys({"evaluate", "compare", "publish", "promote"}, 1)
    assert pages.done(counts, again), pages.counts(again)
    parent, revision = pages.published()
    assert parent == before
    assert revision["parent"] == parent["run"]
    assert revision["weights"] == parent["weights"]
    pages.open_artifact(again, "summary")
    pages.page.get_by_role("cell", name="Revision of").wait_for()
    pages.page.get_by_role("cell", name=parent["run"]).wait_for()


def started(address: str) -> str | None:
    """A new run, or None where the server's database is busy (503), after which its own clients ask again as well."""
    answer = LOCAL.post(address, json={"state": {"type": "SCHEDULED"}})
    assert answer.is_success or answer.status_code == 503, answer.text
    return str(answer.json()["id"]) if answer.is_success else None


SERVE = """
import sys
from flows.retrain import retrain
retrain.serve("served", parameters={"data": sys.argv[1], "artifacts": sys.argv[2], "configuration": {
    "preset": "smoke", "reshape": {"timesteps": 14}, "network": {"layers": [{"units": 4}]}, "training": {"epochs": 1}}})
"""


@pytest.mark.soak  # `make test` has the retry of a worker's run, above
def test_a_retry_of_a_served_flow_does_what_failed_and_what_hangs_on_it(pages: Pages) -> None:
    path = pages.home / "digits" / "t10k-labels-idx1-ubyte"
    write_idx(path, labels("test")[300:399])
    environment = environment_of(pages.home) | {
        "PREFECT_API_URL": f"{pages.address}/api",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "stepwise",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    }
    arguments = [str(pages.home / "digits"), str(pages.home / "artifacts")]
    with (pages.home / "serve.log").open("w") as log:
        serving = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments],
            env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        named = {"name": {"any_": ["served"]}}
        [deployment] = until(lambda: asked(pages.address, "deployments", deployments=named), 120, "a served flow")
        start = f"{pages.address}/api/deployments/{deployment['id']}/create_flow_run"
        run = until(lambda: started(start), 60, "a run of the served flow")
        assert pages.ended(run, 1) == "Failed"
        write_idx(path, labels("test")[300:400][::-1])
        retry = [sys.executable, "-m", "prefect", "flow-run", "retry", run]
        subprocess.run(retry, env=environment, check=True, capture_output=True, timeout=120)
        assert pages.ended(run, 2) == "Completed"
    finally:
        os.killpg(serving.pid, signal.SIGINT)
        serving.wait(60)
    assert pages.steps(run, 1)["Failed"] == {"parse test"}
    assert pages.steps(run, 2) == {"Cached": {"parse train"}, "Completed": DOWNLOADS | {"parse test"} | REST}
    alone = {} if len(pages.runs()) > 1 else {"parse train": 1}  # not done at all after the tests above
    counts = dict.fromkeys(DOWNLOADS, 2) | dict.fromkeys({"parse test"} | REST, 1) | alone
    assert pages.done(counts, run), pages.counts(run)
