"""`/predict`: rows scored at once, by the model versions that score batches."""

import logging
import os
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from scorebeat.api.bodies import JsonRoute
from scorebeat.api.errors import documented
from scorebeat.api.responses import JSON
from scorebeat.api.schemas import RowsToScore, Scored
from scorebeat.api.service import Served
from scorebeat.core.events import emit
from scorebeat.core.process.descriptors import EXIT

router = APIRouter(prefix="/predict", tags=["predict"], route_class=JsonRoute)


@router.post("/{model:path}", response_model=Scored, responses=documented(400, 404, 415))
async def predict(
    service: Served,
    model: Annotated[
        str, Path(pattern=r"^[^\x00]*$", description="A model, for its published version, or a version such as iris/4.")
    ],
    body: RowsToScore,
) -> Response:
    """Score the rows, in their order, with the published version; nothing is stored. 503 when it takes too long."""

    def score() -> Response:
        version = str(service.online.version(model))
        try:
            predictions = service.online.predict(version, body.rows)
        finally:
            if service.sentinel.is_lost():
                # the process would live on with nothing to listen on, and no supervisor would start it again
                reason = "its code closed descriptors that it did not open, as os.closerange does"
                emit("api.descriptors_closed", logging.ERROR, model=version, reason=reason)
                os._exit(EXIT)
        scored = Scored(model=version, predictions=predictions)
        return Response(scored.model_dump_json(), media_type=JSON)

    # async: it waits without using a thread of the pool that all other endpoints share
    return await service.slots.run(repr(model), score)
