"""`/health` and `/ready`: for supervisors and load balancers; open to everybody."""

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from scorebeat.api.errors import AWAY, RETRY_AFTER, documented, error_response
from scorebeat.api.schemas import Health
from scorebeat.api.service import Served
from scorebeat.api.slots import SLOTS, STUCK_AFTER
from scorebeat.core.errors import UsageError
from scorebeat.db.schema import revisions

STUCK = f"all {SLOTS} slots for predictions have hung for longer than {STUCK_AFTER} s; start the server again"

router = APIRouter(tags=["health"])


@router.get("/health", response_model=Health, responses=documented(503))
async def health(service: Served) -> object:
    """The process is alive; 503 if only a restart brings predictions back."""
    if service.slots.all_stuck():
        return error_response(503, STUCK, RETRY_AFTER)
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses=documented(503))
def ready(service: Served) -> object:
    """The database answers, and this version can use its ledger."""
    try:
        with service.engine.connect() as connection:
            revisions.require_usable(connection)
    except UsageError as error:
        return error_response(503, str(error), RETRY_AFTER)
    except SQLAlchemyError:
        return error_response(503, AWAY, RETRY_AFTER)
    return Health(status="ready")
