"""`/health` and `/ready`: for whoever starts, watches and balances processes; open to everybody."""

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from scorebeat.api.errors import AWAY, RETRY_AFTER, answer, documented
from scorebeat.api.schemas import Health
from scorebeat.api.service import Served
from scorebeat.api.slots import PLACES, STUCK_AFTER
from scorebeat.core.errors import UsageError
from scorebeat.db.schema import revisions

STUCK = f"all {PLACES} places for predictions have hung for longer than {STUCK_AFTER} s; start the server again"

router = APIRouter(tags=["health"])


@router.get("/health", response_model=Health, responses=documented(503))
async def health(s: Served) -> object:
    """The process lives; 503 when a restart alone brings predictions back."""
    if s.places.all_stuck():
        return answer(503, STUCK, RETRY_AFTER)
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses=documented(503))
def ready(s: Served) -> object:
    """The database answers, and its ledger is this version's."""
    try:
        with s.engine.connect() as connection:
            revisions.require_usable(connection)
    except UsageError as error:
        return answer(503, str(error), RETRY_AFTER)
    except SQLAlchemyError:
        return answer(503, AWAY, RETRY_AFTER)
    return Health(status="ready")
