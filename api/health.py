"""`/health` and `/ready`: for whoever starts, watches and balances processes; open to everybody."""

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from api.errors import AWAY, RETRY_AFTER, answer, documented
from api.schemas import Health
from api.service import Served
from core.errors import UsageError
from db import schema

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> Health:
    """The process lives."""
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses=documented(503))
def ready(s: Served) -> object:
    """The database answers, and its ledger is this version's."""
    try:
        with s.engine.connect() as connection:
            schema.require_usable(connection)
    except UsageError as error:
        return answer(503, str(error), RETRY_AFTER)
    except SQLAlchemyError:
        return answer(503, AWAY, RETRY_AFTER)
    return Health(status="ready")
