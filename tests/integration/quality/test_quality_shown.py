"""The quality of a job is in the command, the HTTP API, the Python API and the metrics; a failure is in `check`."""

import json

from sklearn.linear_model import LogisticRegression

import scorebeat as package
from scorebeat.producer import metrics
from tests.integration.quality.test_quality import Shop, figures, shop
from tests.support.api_fixtures import Opener, opened
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.poison_fixtures import points

__all__ = ["opened", "points", "scorebeat", "shop"]


def test_the_figures_are_shown_wherever_people_look(shop: Shop, scorebeat: Cli, opened: Opener) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    shop.add(LogisticRegression(C=0.001), shop.outcomes)
    job = shop.job()
    shop.score(job)
    assert "no week is computed yet; `scorebeat quality churn_job --now`" in scorebeat("quality", "churn_job").output
    shop.score(job, version=2)
    shop.sql("UPDATE outcomes SET outcome = NULL WHERE id = 0")

    shown = scorebeat("quality", "churn_job", "--now", "--calibration")
    assert shown.exit_code == 0, shown
    lines = shown.output.splitlines()
    assert lines[0].split() == ["week", "model", "rows", "compared", "truth", "known", "accuracy", "roc", "auc", "log",
                                "loss", "scored", "after", "null", "labels"]  # fmt: skip
    assert [line.split()[1] for line in lines[1:7]] == ["churn/2", "churn/1"] * 3
    assert lines[1].split()[2:5] == ["399", "399", "80%"]
    assert "0.9 to 1.0" in shown.output

    with package.connect(str(shop.points.settings.database_url)) as client:
        found = client.quality("churn_job")
    printed = json.loads(scorebeat("quality", "churn_job", "--json").output)
    assert [week["metrics"] for week in printed["weeks"]] == [week.metrics for week in found.weeks]
    served = opened().get("/jobs/churn_job/quality").raise_for_status().json()
    assert [week["metrics"] for week in served["weeks"]] == [week.metrics for week in found.weeks]
    assert served["weeks"][0]["week"] == str(found.weeks[0].week)
    assert opened().get("/jobs/nobody/quality").status_code == 404

    text = metrics.exposition(shop.points.engine).decode()
    for week in found.weeks[:2]:
        for name in ("accuracy", "roc_auc", "log_loss"):
            labels = f'job="churn_job",metric="{name}",version="churn/{week.version}"'
            line = next(line for line in text.splitlines() if line.startswith(f"scorebeat_quality{{{labels}}}"))
            assert float(line.split()[-1]) == figures(week)[name]
    assert 'scorebeat_quality_rows{job="churn_job",version="churn/1"} 399.0' in text
    assert 'scorebeat_quality_failed{job="churn_job"} 0.0' in text

    shop.sql("DELETE FROM outcomes")
    failed = scorebeat("quality", "churn_job", "--now")
    assert (failed.exit_code, "returns no row" in failed.output) == (2, True)
    assert (
        "note: the last reading failed: jobs.churn_job.truth returns no row" in scorebeat("quality", "churn_job").output
    )
    assert "quality of churn_job: jobs.churn_job.truth returns no row" in scorebeat("check").output
    assert 'scorebeat_quality_failed{job="churn_job"} 1.0' in metrics.exposition(shop.points.engine).decode()

    shop.job(truth=None, name="other_job")
    refused = scorebeat("quality", "other_job")
    assert (refused.exit_code, "`truth`, a query of the columns id, label" in refused.output) == (2, True)
