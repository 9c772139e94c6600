"""What every view needs, made once per application and found through Flask's `current_app`."""

from dataclasses import dataclass, field

from flask import current_app

from bcnet.history import History
from bcnet.web.answering import AnswerQueue
from bcnet.web.counting import Counts
from bcnet.web.loading import Models
from bcnet.web.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of a running server.

    Attributes:
        settings: the operator's decisions.
        models: the loaded models.
        history: the database of answers and users.
        queue: that the networks are asked through.
        counts: of what was asked and answered, for /metrics.
    """

    settings: Settings
    models: Models
    history: History
    queue: AnswerQueue = field(default_factory=AnswerQueue)
    counts: Counts = field(default_factory=Counts)

    def close(self) -> None:
        """Answer what waits, then let go of thread and database."""
        self.queue.close()
        self.history.close()


def get_services() -> Services:
    """Return the services of the application that answers the request at hand."""
    return current_app.extensions["bcnet"]
