"""`/metrics`: the ledger's numbers for Prometheus."""

from fastapi import APIRouter
from fastapi.responses import Response

from scorebeat.api.service import Served
from scorebeat.producer.metrics import CONTENT_TYPE, exposition

router = APIRouter(tags=["metrics"])
_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text form."}


@router.get("/metrics", response_class=Response, responses={200: _TEXT})
def metrics(service: Served) -> Response:
    """What `scorebeat metrics` prints; each scrape reads the ledger anew."""
    return Response(exposition(service.engine), media_type=CONTENT_TYPE)
