"""Readers of `predictions.<job>` see the published version, whole, through every switch."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from scorebeat.db.predictions.views import ViewInUse
from scorebeat.models.contract import Input, Signature
from scorebeat.producer.versions.publish import publish_anyway, rollback, rollback_anyway
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import MODEL, a_job

pytestmark = pytest.mark.wide

__all__ = ["ledger", "trained"]

VIEW = "predictions.flowers_job"
USUAL = {"label": pa.int64(), "p0": pa.float64(), "p1": pa.float64(), "p2": pa.float64()}


def with_outputs(**outputs: pa.DataType) -> dict[str, Any]:
    """A signature of the usual inputs with these outputs."""
    inputs = (Input("a", pa.float64()), Input("b", pa.float64()))
    return Signature(inputs, pa.schema(list(outputs.items()))).to_json()


def columns(ledger: Ledger) -> list[str]:
    return ledger.sql(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'predictions'"
        " AND table_name = 'flowers_job' ORDER BY ordinal_position"
    )


def count(ledger: Ledger) -> int:
    return int(ledger.sql(f"SELECT count(*) FROM {VIEW}")[0])


@pytest.fixture
def shown(ledger: Ledger) -> Iterator[Ledger]:
    """A job with 25 predictions of version 1, and roles that may read them."""
    ledger.sql(FILL.format(first=1, last=25))
    ledger.scored(a_job())
    roles = ("reader_of_views", "owner_of_views")
    for role in roles:
        ledger.sql(f"DROP ROLE IF EXISTS {role}")
        ledger.sql(f"CREATE ROLE {role}")
    yield ledger
    for role in roles:
        ledger.sql(f"DROP OWNED BY {role} CASCADE")
        ledger.sql(f"DROP ROLE {role}")


def test_the_view_shows_what_is_scored_without_a_word_of_versions(shown: Ledger) -> None:
    assert columns(shown) == ["id", "label", "p0", "p1", "p2", "batch_id", "scored_at"]
    assert shown.check_exact("SELECT * FROM items", VIEW, "id") == 25


@pytest.mark.quick
def test_a_new_version_is_scored_beside_the_old_one_and_shown_by_publishing(shown: Ledger) -> None:
    shown.new_version(2)
    assert count(shown) == 25

    publish_anyway(shown.producer, MODEL, 2, "ann")

    assert count(shown) == 0
    shown.scored(a_job())
    assert shown.check_exact("SELECT * FROM items", VIEW, "id") == 25
    assert shown.sql("SELECT table_name, generation FROM scorebeat.prediction_sets ORDER BY id") == [
        ("flowers_job__flowers_v1", 1),
        ("flowers_job__flowers_v2", 1),
    ]


def test_a_rollback_shows_the_version_before_with_all_its_predictions(shown: Ledger) -> None:
    shown.new_version(2)
    publish_anyway(shown.producer, MODEL, 2, "ann")

    before, switched = rollback(shown.producer, MODEL, "ann")

    assert (before.version, switched) == (1, ["flowers_job"])
    assert count(shown) == 25


def test_a_pinned_job_shows_its_own_version_whatever_is_published(shown: Ledger) -> None:
    shown.new_version(2)
    shown.scored(a_job(name="pinned", model=f"{MODEL}/1"))

    assert publish_anyway(shown.producer, MODEL, 2, "ann") == ["flowers_job"]

    assert shown.sql("SELECT count(*) FROM predictions.pinned") == [25]


CHANGES = {
    "a column more": USUAL | {"p3": pa.float64()},
    "a column first": {"first": pa.float64()} | USUAL,
    "a column less": {name: kind for name, kind in USUAL.items() if name != "p1"},
    "another type": USUAL | {"p1": pa.string()},
    "another order": dict(reversed(USUAL.items())),
    "all others": {"value": pa.list_(pa.float32())},
    "quoted names": USUAL | {'o"dd; DROP TABLE items; --': pa.float64()},
}


@pytest.mark.slow(quick=4)
@pytest.mark.parametrize("change", CHANGES)
def test_publishing_outputs_of_another_shape_keeps_owner_grants_and_comment(shown: Ledger, change: str) -> None:
    shown.sql(f"ALTER VIEW {VIEW} OWNER TO owner_of_views")
    shown.sql(f"GRANT SELECT ON {VIEW} TO reader_of_views WITH GRANT OPTION")
    shown.sql(f"GRANT SELECT ON {VIEW} TO PUBLIC")
    shown.sql(f"COMMENT ON VIEW {VIEW} IS 'ann''s \\ own'")
    before = kept_with_the_view(shown)
    shown.new_version(2, with_outputs(**CHANGES[change]))

    publish_anyway(shown.producer, MODEL, 2, "ann")

    assert set(columns(shown)) == {"id", *CHANGES[change], "batch_id", "scored_at"}
    assert kept_with_the_view(shown) == before
    assert shown.sql("SELECT count(*) FROM items") == [25]


def kept_with_the_view(ledger: Ledger) -> list[Any]:
    return ledger.sql(
        "SELECT pg_get_userbyid(relowner), relacl::text, obj_description(oid, 'pg_class') FROM pg_class"
        f" WHERE oid = '{VIEW}'::regclass"
    )


def test_additions_come_last_so_that_dependent_views_go_on(shown: Ledger) -> None:
    shown.sql(f"CREATE VIEW best AS SELECT id, p2 FROM {VIEW}")
    shown.new_version(2, with_outputs(first=pa.float64(), **USUAL))

    publish_anyway(shown.producer, MODEL, 2, "ann")

    assert columns(shown) == ["id", "label", "p0", "p1", "p2", "batch_id", "scored_at", "first"]
    assert shown.sql("SELECT count(*) FROM best") == [0]


@pytest.mark.quick
def test_a_view_that_others_depend_on_is_not_taken_from_them(shown: Ledger) -> None:
    shown.sql(f"CREATE VIEW best AS SELECT id, p2 FROM {VIEW}")
    shown.sql(f'CREATE VIEW "The Best" AS SELECT id FROM {VIEW}')
    shown.new_version(2, with_outputs(label=pa.int64(), p0=pa.string()))

    with pytest.raises(ViewInUse) as refused:
        publish_anyway(shown.producer, MODEL, 2, "ann")

    message = str(refused.value)
    assert "would lose or change p0, p1, p2" in message
    assert "view best depends on" in message
    assert 'view "The Best" depends on' in message
    assert count(shown) == 25
    assert shown.sql(
        "SELECT version FROM scorebeat.model_versions WHERE retired_at IS NULL AND published_at IS NOT NULL"
    ) == [1]


def test_a_version_that_added_a_column_can_be_taken_back_from_under_dependent_views(shown: Ledger) -> None:
    shown.sql(f"CREATE VIEW best AS SELECT id, p2 FROM {VIEW}")
    shown.new_version(2, with_outputs(first=pa.float64(), **USUAL))
    publish_anyway(shown.producer, MODEL, 2, "ann")

    rollback_anyway(shown.producer, MODEL, "ann")

    assert shown.sql("SELECT count(*) FROM best") == [25]
    assert shown.sql(f"SELECT DISTINCT first FROM {VIEW}") == [None]
    shown.sql(f"CREATE VIEW newest AS SELECT v FROM {VIEW} AS v")
    publish_anyway(shown.producer, MODEL, 2, "ann")
    with pytest.raises(ViewInUse, match="would lose or change first"):
        rollback_anyway(shown.producer, MODEL, "ann")
    shown.sql("DROP VIEW newest")
    shown.sql("DROP VIEW best")
    rollback_anyway(shown.producer, MODEL, "ann")
    assert columns(shown) == ["id", "label", "p0", "p1", "p2", "batch_id", "scored_at"]
