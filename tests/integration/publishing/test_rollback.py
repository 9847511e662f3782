"""Rollback goes back to what was published before, and is refused where readers would lose by it."""

from typing import Any

import pytest

from scorebeat.core.errors import UnknownName
from scorebeat.models.store import store
from scorebeat.producer.versions.publish import PublishRefused, publish, publish_anyway, rollback, rollback_anyway
from tests.integration.publishing.test_agreement import V1, published, scored
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import MODEL

__all__ = ["ledger", "scored", "trained"]


@pytest.mark.slow
def test_each_rollback_goes_one_publication_further_back_until_there_is_none(scored: Ledger) -> None:
    scored.new_version(3)
    for version in (2, 3):
        publish_anyway(scored.producer, MODEL, version, "ann")

    assert [rollback(scored.producer, MODEL, "ann")[0].version for _ in range(2)] == [2, 1]
    with pytest.raises(UnknownName, match=r"published before flowers/1; .* by its number: flowers/2, flowers/3"):
        rollback(scored.producer, MODEL, "ann")
    assert published(scored) == 1
    publish_anyway(scored.producer, MODEL, 3, "ann")
    assert rollback(scored.producer, MODEL, "ann")[0].version == 1


def test_a_rollback_that_another_switch_overtakes_switches_nothing(
    scored: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored.new_version(3)
    publish_anyway(scored.producer, MODEL, 2, "ann")
    real = store.verify

    def overtaken(*wanted: Any, **options: Any) -> None:
        real(*wanted, **options)
        publish_anyway(scored.producer, MODEL, 3, "ben")

    monkeypatch.setattr(store, "verify", overtaken)

    with pytest.raises(PublishRefused, match="was switched by somebody else meanwhile; nothing was switched here"):
        rollback(scored.producer, MODEL, "ann")

    assert published(scored) == 3


def test_a_rollback_by_which_readers_lose_is_refused_unless_it_is_forced(scored: Ledger) -> None:
    publish(scored.producer, MODEL, 2, "ann")
    scored.sql(f"DELETE FROM {V1}")

    with pytest.raises(
        PublishRefused, match=r"never scored, and readers would lose .*`scorebeat rollback flowers --force`"
    ):
        rollback(scored.producer, MODEL, "ann")
    assert published(scored) == 2

    before, _ = rollback_anyway(scored.producer, MODEL, "ann")

    assert before.version == 1
    assert published(scored) == 1
    forced = "SELECT details ->> 'forced' FROM scorebeat.actions WHERE action = 'model.published' ORDER BY id"
    assert scored.sql(forced)[-2:] == ["false", "true"]
