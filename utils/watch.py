"""Who watches the worker: what is counted and shown of it, from the start of the process to its end."""

from collections.abc import Mapping
from importlib.metadata import version
from platform import python_version

from config import Settings
from utils.metrics import Counters
from utils.prometheus import CONTENT_TYPE, Metrics
from utils.status import Answer, Health, Page


class Watch:
    """Outlives the workers of a process. `settings` are those of the environment until the row is known."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.health = Health()
        build = {"python": python_version(), "confluent_kafka": version("confluent-kafka")}
        self._metrics = Metrics(settings.consumer_name, self.counters, self.health, build)

    def pages(self) -> dict[str, Page]:
        return {"/metrics": self._metrics_page}

    def _metrics_page(self, _query: Mapping[str, str]) -> Answer:
        return Answer(CONTENT_TYPE, self._metrics.page())
