"""What /metrics tells, in Prometheus' text format."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from vit_lightning.evaluation.conformal import set_of
from vit_lightning.progress import legible
from vit_lightning.serve.batching import Batcher
from vit_lightning.serve.drift import Shares, Window, by_chance, reference_of, stability_index
from vit_lightning.serve.model import Answer, Model, WatchedModel, name_of

#: Bounds in seconds of the histogram of answers, and in pictures of that of batches.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PICTURES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second line for each, which nobody reads


class Metrics:
    """Counts requests and batches, and looks at queue, model and drift when it is asked.

    Args:
        model: Which answers.
        window: The last answers.
    """

    def __init__(self, model: WatchedModel, window: Window) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.requests = Counter("vit_requests", "Requests", ("path", "status"), registry=self.registry)
        text = "Seconds from the first line of a POST /predict to its answer"
        self.seconds = Histogram("vit_predict_seconds", text, buckets=SECONDS, registry=self.registry)
        text = "Pictures that were answered in one call of the model"
        self.batches = Histogram("vit_batch_pictures", text, buckets=PICTURES, registry=self.registry)
        text = "Answers by how many classes may be the true one"
        self.sets = Counter("vit_sets", text, ("classes",), registry=self.registry)
        text = "Answers by whether the picture is unlike all that the model was trained on"
        self.strangers = Counter("vit_strangers", text, ("stranger",), registry=self.registry)
        self.model = model
        self.window = window
        self.batcher: Batcher | None = None
        self.registry.register(self)  # for `collect`

    def observe(self, batch: int) -> None:
        """Counts a batch of so many pictures."""
        self.batches.observe(batch)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self.requests.labels(path, str(status)).inc()
        if path == "/predict" and status == 200:
            self.seconds.observe(seconds)

    def tell(self, model: Model, answer: Answer) -> None:
        """Counts an answer."""
        if model.limit is not None:
            self.sets.labels(str(len(set_of(answer.probabilities, model.limit)))).inc()
        if answer.stranger is not None:
            self.strangers.labels("yes" if answer.stranger else "no").inc()

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What is looked at when it is asked for."""
        waiting = len(self.batcher.waiting) if self.batcher is not None else 0
        yield GaugeMetricFamily("vit_queue_pictures", "Pictures that wait", value=waiting)
        model = self.model.current
        told = {"version": model.version, "run": name_of(model), "classes": str(len(model.class_names))}
        yield InfoMetricFamily("vit_model", "The model that answers", value=told)
        yield GaugeMetricFamily(
            "vit_model_loaded_timestamp_seconds", "When it was loaded, in seconds since 1970", value=self.model.loaded
        )
        yield CounterMetricFamily("vit_model_takeovers", "Newer files taken over", value=self.model.taken_over)
        yield CounterMetricFamily("vit_model_refused", "Newer files that could not be", value=self.model.refused)
        yield from self.drift()

    def drift(self) -> Iterator[Metric]:
        """The last answers beside those on held-out pictures."""
        model, now = self.window.shares()
        before = reference_of(model)
        yield from shares_of(now, model.class_names, "answers", "the last answers")
        if before is None:
            return
        yield from shares_of(before, model.class_names, "reference", "the answers on held-out pictures")
        text = "Population stability index of the classes: below 0.1 stable, beyond 0.25 shifted"
        yield GaugeMetricFamily("vit_drift_stability_index", text, value=stability_index(now, before))
        text = "What that index is on average where nothing has changed, with so few pictures"
        yield GaugeMetricFamily("vit_drift_stability_index_by_chance", text, value=by_chance(now, before))


def shares_of(found: Shares, names: list[str], what: str, words: str) -> Iterator[Metric]:
    """Number, shares and confidence of answers."""
    yield GaugeMetricFamily(f"vit_{what}_pictures", f"How many {words} are", value=found.pictures)
    yield GaugeMetricFamily(f"vit_{what}_confidence_mean", f"Mean confidence of {words}", value=found.confidence)
    family = GaugeMetricFamily(f"vit_{what}_class_share", f"Share of each class in {words}", labels=["label"])
    for name, share in zip(names, found.shares, strict=True):
        family.add_metric([legible(name)], share)
    yield family
