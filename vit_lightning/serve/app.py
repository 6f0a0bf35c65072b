"""The web application: what can be asked, and what is answered."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from vit_lightning import __version__
from vit_lightning.evaluation.conformal import set_of
from vit_lightning.progress import legible
from vit_lightning.serve.batching import Batcher
from vit_lightning.serve.drift import Window
from vit_lightning.serve.gate import LEFT, Gate, State, refused
from vit_lightning.serve.limits import Limits, RefusedError, Room, Sent, UnreadableError, pictures_of
from vit_lightning.serve.metrics import Metrics
from vit_lightning.serve.model import Answer, Model, WatchedModel
from vit_lightning.serve.page import page_of

ABOUT = """Says of pictures what they show. Nothing that is sent is kept."""

#: Of the body of POST /predict, for the page.
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


class Likely(BaseModel):
    """A class and how likely it is."""

    label: str
    probability: float


class Prediction(BaseModel):
    """What is said of one picture: a label, or an error."""

    name: str | None = None
    label: str | None = None
    confidence: float | None = None
    top: list[Likely] | None = None
    set: list[str] | None = None
    stranger: bool | None = None
    error: str | None = None


class Which(BaseModel):
    """The model that answered: the run it was exported from, and its file's SHA-256."""

    run: str | None = None
    version: str


class Predictions(BaseModel):
    """What is said of the pictures, in their order."""

    model: Which
    predictions: list[Prediction]


class Line(BaseModel):
    """Why there is no answer."""

    error: str


class Service:
    """What the application works with.

    Args:
        model: Which answers.
        limits: Of a request.
        batch: Pictures that are answered together at most.
        queue: Pictures that may wait.
        threads: Of the processor.
        window: Answers that are compared with those on held-out pictures.
    """

    def __init__(
        self, model: WatchedModel, limits: Limits, *, batch: int, queue: int, threads: int, window: int
    ) -> None:
        self.model = model
        self.limits = limits
        self.room = Room(limits)
        self.state = State()
        self.window = Window(model.current, window)
        self.metrics = Metrics(model, self.window)
        self.batcher = Batcher(limits, most=batch, queue=queue, threads=threads, observe=self.metrics.observe)
        self.metrics.batcher = self.batcher
        model.changed = self.window.begin

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """While this is open pictures are answered, and the model's file is watched."""
        self.batcher.start()
        self.model.thread.start()
        yield
        self.model.end()
        self.batcher.end()

    async def predict(self, request: Request, top: int) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            RefusedError: There is none.
        """
        until = time.monotonic() + self.limits.seconds
        with self.room.of_request() as share:
            try:
                sent = await pictures_of(request, self.limits, share)
            except TimeoutError as error:
                raise RefusedError(408, f"the request took more than {self.limits.seconds:g} s to come") from error
            except ClientDisconnect as error:
                raise RefusedError(LEFT, "the client left") from error  # which is counted, and nobody hears
            model = self.model.current
            outcomes = await self.outcomes([each.content for each in sent], model, until)
        for outcome in outcomes:
            if not isinstance(outcome, Exception):
                self.window.add(model, outcome.probabilities)
                self.metrics.tell(model, outcome)
            elif sent[0].name is None or not isinstance(outcome, UnreadableError):
                raise outcome
        said = [said_of(each, outcome, model, top) for each, outcome in zip(sent, outcomes, strict=True)]
        return {"model": {"run": model.card.get("run"), "version": model.version}, "predictions": said}

    async def outcomes(self, contents: list[bytes], model: Model, until: float) -> list[Answer | Exception]:
        """What becomes of pictures, in their order.

        Raises:
            RefusedError: The queue is full, or it took too long.
        """
        answers = self.batcher.submit(contents, model, until)
        _, late = await asyncio.wait(answers, timeout=max(0.0, until - time.monotonic()))
        found = [each.exception() or each.result() for each in answers if each not in late]
        if late:
            for each in late:
                each.cancel()
            raise RefusedError(504, f"the answer took more than {self.limits.seconds:g} s; send fewer pictures at once")
        return found  # type: ignore[return-value]  # nobody raises a BaseException in there

    def card(self) -> dict[str, Any]:
        """What the file says of itself, and how it is served."""
        model = self.model.current
        loaded = datetime.fromtimestamp(self.model.loaded, UTC).isoformat(timespec="seconds")
        return {**model.card, "version": model.version, "loaded": loaded, "file": self.model.path.name}


def said_of(sent: Sent, outcome: Answer | Exception, model: Model, top: int) -> dict[str, Any]:
    """What is said of a picture."""
    named = {} if sent.name is None else {"name": sent.name}
    if isinstance(outcome, Exception):
        return named | {"error": str(outcome)}
    found = outcome.probabilities
    order = (-found).argsort(kind="stable")[:top]
    # As short as a number of 32 bits can be written, so that it is read back to the bit.
    likely = [{"label": model.class_names[index], "probability": float(str(found[index]))} for index in order]
    said = named | {"label": likely[0]["label"], "confidence": likely[0]["probability"], "top": likely}
    if model.limit is not None:  # the classes that may be the true one, see evaluation/conformal.py
        said["set"] = [model.class_names[index] for index in set_of(found, model.limit)]
    if outcome.stranger is not None:  # unlike all training pictures, see evaluation/strangers.py
        said["stranger"] = outcome.stranger
    return said


def application(service: Service, *, token: str = "", hosts: tuple[str, ...] = ()) -> ASGIApp:
    """The application with its gate.

    Args:
        service: What it works with.
        token: What has to be sent with each request; '' is none.
        hosts: Names by which it may be called; none where any will do.
    """
    app = FastAPI(
        title="vit_lightning serve",
        description=ABOUT,
        version=__version__,
        docs_url=None,  # which would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=service.running,
        telemetry={"tracing": False, "metrics": False},
    )
    add_predict(app, service)
    add_pages(app, service)

    async def tell(_: Request, error: Exception) -> Response:
        return refused(error)

    async def tell_of_query(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        given = legible(str(first.get("input")))[:100]
        return refused(RefusedError(422, f"{first['loc'][-1]} is {given}; expected a whole number from 1 up"))

    for kind in (HTTPException, RefusedError, Exception):
        app.add_exception_handler(kind, tell)
    app.add_exception_handler(RequestValidationError, tell_of_query)
    paths = [route.path for route in app.routes if hasattr(route, "path")]
    return Gate(app, paths=paths, token=token, hosts=hosts, state=service.state, count=service.metrics.count)


def add_predict(app: FastAPI, service: Service) -> None:
    """Adds POST /predict."""
    statuses = {400: "the form cannot be read", 401: "no token, or a wrong one", 408: "it was sent too slowly"}
    statuses |= {413: "too many bytes, pixels or files", 415: "a compressed body", 422: "no picture, or a damaged one"}
    statuses |= {429: "too many pictures wait", 503: "the server is ending", 504: "the answer took too long"}
    responses: dict[int | str, dict[str, Any]] = {200: {"model": Predictions}}
    responses |= {status: {"model": Line, "description": text} for status, text in statuses.items()}

    @app.post(
        "/predict",
        response_model=None,
        responses=responses,
        openapi_extra={"requestBody": BODY},
    )
    async def predict(
        request: Request, top: Annotated[int, Query(ge=1, description="classes to tell of each picture")] = 3
    ) -> Response:
        """Labels pictures: the files of a form, or a body that is one picture.

        Of a file that is no picture the error is told in its place. `curl -F file=@a.jpg -F file=@b.png URL/predict`,
        or `curl --data-binary @a.jpg URL/predict`.
        """
        found = await service.predict(request, top)
        return Response(json.dumps(found), media_type="application/json")


def add_pages(app: FastAPI, service: Service) -> None:
    """Adds what tells of the server itself."""

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives. Needs no token."""
        return {"status": "alive"}

    @app.get("/ready", responses={503: {"model": Line, "description": "the server is ending"}})
    async def ready() -> dict[str, str]:
        """Whether pictures are answered: the model is loaded, and the server not about to end. Needs no token."""
        if service.state.draining:
            raise RefusedError(503, "the server is ending", retry=1)
        return {"status": "ready"}

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """The model's card: classes, run, data, scores with their intervals, licence."""
        return service.card()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Requests, seconds, batches, model and drift, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(page_of(app.openapi()), headers=policy)
