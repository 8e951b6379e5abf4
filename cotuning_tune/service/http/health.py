"""Whether the service lives, whether it is ready, and its figures for Prometheus."""

import time
from collections.abc import Iterator

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.responses import Response

from cotuning_tune.service.http.answers import Answer
from cotuning_tune.service.http.bodies import Asked
from cotuning_tune.service.http.guard import Service, actor
from cotuning_tune.service.problems import NotReady
from cotuning_tune.service.tables import ATTEMPT, RUN

router = APIRouter(tags=["health"])
BEAT_S = 10.0


@router.get("/livez")
def live() -> Response:
    """It answers."""
    return Answer({"live": True})


@router.get("/readyz")
def ready(service: Asked) -> Response:
    """The database answers, and the reconciler goes round."""
    with service.store.reading() as connection:
        connection.execute(sa.select(1))
    age = time.monotonic() - service.reconciler.beat
    if not service.reconciler.beat or age > BEAT_S:
        raise NotReady("the reconciler has not gone round for 10 s", "see the service's log")
    return Answer({"ready": True})


class Figures(Collector):
    """What is counted at the moment it is asked for."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        """The figures."""
        now = self.service.now()
        open_ = sa.and_(RUN.c.state == "queued", RUN.c.wanted == "run")
        with self.service.store.reading() as connection:
            states = connection.execute(sa.select(RUN.c.state, sa.func.count()).group_by(RUN.c.state)).all()
            since = connection.execute(sa.select(sa.func.min(RUN.c.since)).where(open_)).scalar()
            lost = connection.execute(sa.select(sa.func.count()).where(RUN.c.unreachable_since.is_not(None))).scalar()
            begun = connection.execute(sa.select(sa.func.count(), sa.func.sum(ATTEMPT.c.hours))).one()
        by_state = GaugeMetricFamily("cotuning_tune_service_runs", "Runs by state", labels=["state"])
        for state, count in states:
            by_state.add_metric([state], count)
        yield by_state
        for name, text, value in (
            ("queue_wait_seconds", "How long the run that waits longest has waited", now - since if since else 0.0),
            ("unreachable_runs", "Runs whose folder or engine cannot be reached", lost or 0),
            ("attempts", "Attempts that were begun", begun[0]),
            ("unit_hours", "Hours of a GPU (or core) that attempts have held", begun[1] or 0.0),
            ("reconciler_age_seconds", "Since the last round", time.monotonic() - self.service.reconciler.beat),
        ):
            yield GaugeMetricFamily(f"cotuning_tune_service_{name}", text, value=float(value))


@router.get("/metrics", dependencies=[Depends(actor)], response_class=Response)
def metrics(service: Asked) -> Response:
    """The figures for Prometheus; with a token, as all else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(service))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
