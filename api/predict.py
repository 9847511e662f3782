"""`/predict`: rows scored at once, by the model versions that score batches."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from scorebeat.api import descriptors
from scorebeat.api.bodies import JsonRoute
from scorebeat.api.errors import documented
from scorebeat.api.responses import JSON
from scorebeat.api.schemas import RowsToScore, Scored
from scorebeat.api.service import Served, Service

router = APIRouter(prefix="/predict", tags=["predict"], route_class=JsonRoute)


@router.post("/{model:path}", response_model=Scored, responses=documented(400, 404, 415))
async def predict(
    s: Served,
    model: Annotated[
        str, Path(pattern=r"^[^\x00]*$", description="A model, for its published version, or a version such as iris/4.")
    ],
    body: RowsToScore,
) -> Response:
    """Score the rows, in their order, with the published version; nothing is stored. 503 when it takes too long."""
    # async: it waits without using a thread of the pool that all other endpoints share
    return await s.slots.run(repr(model), lambda: _scored(s, model, body))


def _scored(s: Service, model: str, body: RowsToScore) -> Response:
    version = str(s.online.version(model))
    with descriptors.required(s.sentinel, version):
        predictions = s.online.predict(version, body.rows)
    scored = Scored(model=version, predictions=predictions)
    return Response(scored.model_dump_json(), media_type=JSON)
