"""Before a version is published, its predictions are laid beside those that readers see, and may speak against it."""

import json
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.errors import UnknownName, UsageError
from scorebeat.db.predictions.comparison import OutputAgreement
from scorebeat.models.contract import Input, Signature
from scorebeat.producer.versions import comparison
from scorebeat.producer.versions.comparison import VersionComparison
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import MODEL, a_job

pytestmark = pytest.mark.wide

__all__ = ["ledger", "scorebeat", "trained"]

V1, V2 = "predictions.flowers_job__flowers_v1", "predictions.flowers_job__flowers_v2"
USUAL = {"label": pa.int64(), "p0": pa.float64(), "p1": pa.float64(), "p2": pa.float64()}
ROWS = 120


def with_outputs(**outputs: pa.DataType) -> dict[str, Any]:
    inputs = (Input("a", pa.float64()), Input("b", pa.float64()))
    return Signature(inputs, pa.schema(list(outputs.items()))).to_json()


def compared(ledger: Ledger, version: int = 2, other: int | None = None) -> VersionComparison:
    (found,) = comparison.compare(ledger.producer, MODEL, version, other)
    return found


def published(ledger: Ledger) -> int:
    return int(
        ledger.sql(
            "SELECT version FROM scorebeat.model_versions WHERE published_at IS NOT NULL AND retired_at IS NULL"
        )[0]
    )


@pytest.fixture
def scored(ledger: Ledger) -> Ledger:
    """A job with predictions of version 1, published, and of version 2, which is the same file."""
    ledger.sql(FILL.format(first=1, last=ROWS))
    ledger.scored(a_job(batch_rows=200))
    ledger.new_version(2)
    ledger.scored(a_job(batch_rows=200), version=2)
    return ledger


def test_the_report_equals_a_plain_loop_over_both_tables(scored: Ledger) -> None:
    scored.sql(f"UPDATE {V2} SET label = 9, p0 = p0 + id / 1000.0, p1 = p1 - 0.25 WHERE id <= 30")
    scored.sql(f"DELETE FROM {V2} WHERE id > 110")
    scored.sql(f"DELETE FROM {V1} WHERE id = 1")
    one, other = ({row[0]: row[1:] for row in scored.sql(f"SELECT id, label, p0, p1 FROM {t}")} for t in (V2, V1))
    both = sorted(one.keys() & other.keys())
    p0, p1 = (np.abs([one[k][i] - other[k][i] for k in both]) for i in (1, 2))

    found = compared(scored)

    report = found.agreement
    assert report is not None
    assert (report.rows, report.rows_other, report.rows_both) == (110, 119, len(both))
    assert found.coverage == pytest.approx(109 / 119)
    by_name = {output.output: output for output in report.outputs}
    labels = float(np.mean([one[k][0] == other[k][0] for k in both]))
    assert by_name["label"].equal == pytest.approx(labels)
    assert by_name["label"].largest_difference is None
    assert by_name["p0"].largest_difference == pytest.approx(p0.max())
    assert by_name["p0"].mean_difference == pytest.approx(p0.mean())
    assert by_name["p1"].largest_difference == pytest.approx(p1.max())
    assert by_name["p2"] == OutputAgreement("p2", 1.0, 0.0, 0.0)


def test_lists_texts_null_and_nan_are_compared_too(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=2))
    outputs = {"v": pa.list_(pa.float32()), "t": pa.string(), "f": pa.float64(), "i": pa.int32()}
    for version in (2, 3):
        ledger.new_version(version, with_outputs(**outputs))
        ledger.enqueue(a_job(), version=version)
    fill = "INSERT INTO predictions.flowers_job__flowers_v{} (id, v, t, f, i, batch_id) VALUES {}"
    ledger.sql(fill.format(2, "(1, '{1,2}', 'a', 'NaN', 3, 1), (2, '{1,2}', NULL, 'NaN', NULL, 1)"))
    ledger.sql(fill.format(3, "(1, '{1,2.5}', 'b', 'NaN', -4, 1), (2, '{1,2}', NULL, 1, 2, 1)"))

    report = compared(ledger, 2, 3).agreement

    assert report is not None
    v, t, f, i = report.outputs
    assert v == OutputAgreement("v", 0.5, 0.5, 0.125)
    assert t == OutputAgreement("t", 0.5, None, None)
    assert (f.equal, i.equal) == (0.5, 0.0)
    assert math.isnan(f.largest_difference or 0)
    assert (i.largest_difference, i.mean_difference) == (7.0, 7.0)  # of the row where both have a number


def test_outputs_of_one_version_alone_and_of_another_type_are_named(scored: Ledger) -> None:
    scored.new_version(3, with_outputs(label=pa.string(), p0=pa.float32(), extra=pa.bool_()))
    scored.enqueue(a_job(), version=3)

    report = compared(scored, 3).agreement

    assert report is not None
    assert [output.output for output in report.outputs] == ["p0"]
    assert (report.only, report.only_other) == (("extra",), ("p1", "p2"))
    assert report.changed == ("label text, was int8",)
    assert report.outputs[0] == OutputAgreement("p0", None, None, None)  # no rows in both


def test_keys_of_several_columns_are_joined_by_all_of_them(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=25))
    job = a_job(query="SELECT id % 3 AS k, id, a, b FROM items", key=("k", "id"))
    ledger.scored(job)
    ledger.new_version(2)
    ledger.scored(job, version=2)

    report = compared(ledger).agreement

    assert report is not None
    assert report.rows_both == 25


def test_an_output_that_is_the_same_in_all_rows_is_named(scored: Ledger, scorebeat: Cli) -> None:
    scored.sql(f"UPDATE {V2} SET label = 1, p2 = 'NaN'")

    report = compared(scored).agreement

    assert report is not None
    assert report.constant == ("label", "p2")
    shown = scorebeat("models", "compare", "flowers/2").output
    assert "the same in all 120 rows of flowers/2: label, p2\n" in shown
    (read,) = json.loads(scorebeat("models", "compare", "flowers/2", "--json").stdout)
    assert read["constant"] == ["label", "p2"]


@pytest.mark.parametrize("enqueued", [True, False], ids=["a run began", "nothing"])
def test_a_version_that_was_never_scored_is_reported_as_such(scored: Ledger, scorebeat: Cli, enqueued: bool) -> None:
    scored.new_version(3)
    if enqueued:
        scored.enqueue(a_job(), version=3)

    shown = scorebeat("models", "compare", "flowers/3")
    (read,) = json.loads(scorebeat("models", "compare", "flowers/3", "--json").stdout)

    expected = (
        "job flowers_job: flowers/3 was never scored; `scorebeat enqueue flowers_job --model flowers/3` does it\n"
    )
    assert shown.output == expected
    assert (read["never_scored"], read["outputs"]) == (["flowers/3"], [])
    assert compared(scored).never_scored == ()


def test_the_report_changes_nothing_and_needs_two_different_versions(scored: Ledger) -> None:
    with pytest.raises(UsageError, match=r"flowers/1 is the published version: name another .*--with"):
        compared(scored, 1)
    with pytest.raises(UnknownName, match="no model flowers/7"):
        compared(scored, 7)

    assert compared(scored, 1, 2).other == "flowers/2"
    assert published(scored) == 1


def test_the_commands_print_the_report_and_the_refusal(scored: Ledger, scorebeat: Cli) -> None:
    scored.sql(f"UPDATE {V2} SET label = 9, p0 = p0 + 0.25 WHERE id <= 12")
    scored.sql(f"UPDATE {V2} SET p1 = 'NaN' WHERE id = 1")
    scored.sql(f"DELETE FROM {V2} WHERE id > 60")

    shown = scorebeat("models", "compare", "flowers/2")
    (read,) = json.loads(scorebeat("models", "compare", "flowers/2", "--with", "flowers/1", "--json").stdout)
    refused = scorebeat("publish", "flowers/2")
    allowed = scorebeat("publish", "flowers/2", "--min-coverage", "0.5")

    assert shown.output.startswith(
        "job flowers_job: flowers/2 scored 60 rows, flowers/1 120, both 60, 50 % of what flowers/1 scored"
    )
    assert re.search(r"^label +80 % *$", shown.output, re.MULTILINE)
    assert (read["rows_both"], read["coverage"]) == (60, 0.5)
    assert read["outputs"][1]["largest_difference"] == pytest.approx(0.25)
    assert read["outputs"][2]["largest_difference"] is None
    assert refused.exit_code == 2
    assert "60 of the 120 rows" in refused.stderr
    assert allowed.output == "model flowers/2 is published; jobs that show it: flowers_job\n"
    assert scorebeat("publish", "flowers/1", "--force").exit_code == 0
    assert scorebeat("models", "compare", "flowers/2", "--with", "roses/1").exit_code == 2
