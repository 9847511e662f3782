"""Makes docs/images: the pages of the Runs tab: all runs, one with failures, and a job whose data shifted."""

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from tests.browser.chromium import MISSING, Browser, chromium, installed
from tests.support.fixtures import REPOSITORY, wait_for
from tests.support.flower_program import poisoned_job, start_flower, start_worker
from tests.support.system import SLOW, System, own_system

IMAGES = REPOSITORY / "docs/images"
SHIFTED_FROM = 10
"""The night from which on the data of a job are others."""


def main() -> int:
    if installed() is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scorebeat-") as folder, own_system(Path(folder)) as s:
        take(s, Path(folder))
    return 0


def take(s: System, folder: Path) -> None:
    start_worker(s)
    flower = start_flower(s)
    scored = s.job("iris", rows=30_000, batch_rows=1_000, schedule="19 * * * *", deadline="45m")
    s.until_finished(s.enqueue(scored))
    survey = s.job("survey", rows=6_000, batch_rows=200, where=SLOW, schedule="0 2 * * *")
    s.execute("UPDATE survey SET a = NULL WHERE (id + 500) / 7 IN (123, 777, 1902, 4005)")
    s.execute("UPDATE survey SET d = NULL WHERE (id + 500) / 7 IN (302, 3050)")
    partial = s.enqueue(survey)
    s.until_finished(partial, within=60)
    claims = poisoned_job(
        s, "claims", 60_000, {}, batch_rows=1_000, seconds_a_row=0.0005, schedule="every 1 day", deadline="2h"
    )
    running = s.enqueue(claims)
    done = "SELECT 1 FROM scorebeat.batches WHERE run_id = :id AND state = 'committed' OFFSET 20"
    wait_for(lambda: s.query(done, id=running))
    flowers = s.job("flowers", rows=3_000, batch_rows=1_000, rescore="every-run", schedule="0 3 * * *", deadline="1h")
    for night in range(SHIFTED_FROM + 4):
        if night == SHIFTED_FROM:
            s.execute("UPDATE flowers SET a = a + 0.6")
        run = s.enqueue(flowers)
        s.until_finished(run)
        s.execute(
            "UPDATE scorebeat.runs SET created_at = created_at - :ago, finished_at = finished_at - :ago,"
            " deadline_at = deadline_at - :ago WHERE id = :id",
            ago=timedelta(days=SHIFTED_FROM + 3 - night),
            id=run,
        )
    with chromium(folder / "profile", 1280, 860) as browser:
        browser.open(f"{flower.url}/runs")
        save(browser, "runs.png")
        browser.open(f"{flower.url}/runs/{partial}")
        browser.resize(1280, 1250)
        save(browser, "run.png")
        browser.open(f"{flower.url}/runs/job/flowers")
        browser.resize(1280, 2000)
        save(browser, "job.png")


def save(browser: Browser, name: str) -> None:
    browser.find("#live table")
    browser.driver.save_screenshot(str(IMAGES / name))
    sys.stdout.write(f"{IMAGES / name}: {(IMAGES / name).stat().st_size // 1024} kB\n")


if __name__ == "__main__":
    sys.exit(main())
