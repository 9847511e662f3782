"""Pages as JSON or CSV, by the Accept header; PostgreSQL has formatted the values."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from scorebeat.db.reports.pages.data_pages import Form, Page

CHUNK_ROWS = 500
JSON = "application/json"
CSV = "text/csv"
CSV_TOO: dict[str, Any] = {
    "content": {CSV: {"schema": {"type": "string"}}},
    "headers": {"Link": {"description": "The next page, if there is one.", "schema": {"type": "string"}}},
}
"""For the description of an endpoint that also returns CSV."""


def requested_form(request: Request) -> Form:
    """CSV if the Accept header prefers it to JSON, else JSON, as HTTP allows."""
    weights: dict[str, float] = {}
    for part in ",".join(request.headers.getlist("accept")).split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights[kind] = _weight(parameters)
    return Form.CSV if _weight_of(CSV, weights) > _weight_of(JSON, weights) else Form.JSON


def respond(request: Request, page: Page, form: Form) -> Response:
    headers = {"Vary": "Accept"}
    if page.next is not None:
        following = request.url.include_query_params(after=json.dumps(page.next, ensure_ascii=False))
        headers["Link"] = f'<{following}>; rel="next"'
    if form is Form.CSV:
        return StreamingResponse(_csv(page.names, page.rows), media_type=CSV, headers=headers)
    rows = ",".join(row[0] for row in page.rows)
    return raw({"job": page.job, "next": page.next}, headers, rows=f"[{rows}]")


def raw(values: Mapping[str, Any], headers: Mapping[str, str] | None = None, **written: str) -> Response:
    """A JSON object of the values, and of those that are written as JSON already."""
    parts = [f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    parts += [f"{json.dumps(name)}:{text}" for name, text in written.items()]
    return Response("{" + ",".join(parts) + "}", media_type=JSON, headers=headers)


def _csv(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    """Values as PostgreSQL's texts, in quotation marks. NULL is empty and without quotation marks, as COPY reads it."""
    lines = iter(rows)
    if names:
        yield _lines([tuple(names)])
    while chunk := list(islice(lines, CHUNK_ROWS)):
        yield _lines(chunk)


def _lines(rows: Sequence[tuple[Any, ...]]) -> str:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    table = pa.table(columns, names=[str(index) for index in range(len(columns))])
    output = pa.BufferOutputStream()
    pa_csv.write_csv(table, output, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    text: str = output.getvalue().to_pybytes().decode()
    return text


def _weight_of(kind: str, weights: Mapping[str, float]) -> float:
    """The weight of the most specific media range that includes the kind."""
    ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((weights[one] for one in ranges if one in weights), 0.0)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
