"""`/predict`: rows scored now, by the versions of models that score batches."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.errors import documented
from api.schemas import RowsToScore, Scored
from api.service import Served

router = APIRouter(prefix="/predict", tags=["predict"])


@router.post("/{model:path}", responses=documented(400, 404, 415))
def predict(
    s: Served,
    model: Annotated[
        str, Path(pattern=r"^[^\x00]*$", description="A model, for its published version, or one such as iris/4.")
    ],
    body: RowsToScore,
) -> Scored:
    """Score the rows, in their order, with the published version; nothing is stored."""
    version = str(s.online.version(model))
    return Scored(model=version, predictions=s.online.predict(version, body.rows))
