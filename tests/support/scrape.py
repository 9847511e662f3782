"""The metrics as Prometheus' own parser reads them."""

import re

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from scorebeat.producer import metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(engine: Engine) -> Samples:
    families = text_string_to_metric_families(metrics.exposition(engine).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def of(found: Samples, name: str, **labels: str) -> float:
    return found[f"scorebeat_{name}", tuple(sorted(labels.items()))]


def types(text_form: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text_form, re.MULTILINE))
