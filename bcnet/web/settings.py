"""What an operator decides about the web page, in one place.

Belongs here: the switches and numbers of `bcnet serve`, checked. What follows from them does not.
"""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

# A student who tries every slider stays below; a script that fills the database does not.
UPLOADS_PER_MINUTE = 120


def find_instance() -> Path:
    """Return the folder of key and database: `BCNET_INSTANCE`, else the user's data folder."""
    default = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share", "bcnet")
    return Path(os.environ.get("BCNET_INSTANCE") or default)


@dataclass(frozen=True)
class Settings:
    """The decisions of whoever runs a server.

    Attributes:
        models: model files, folders of them or names of shipped models; all shipped by default.
        instance: folder for the secret key, the database and, if asked for, pictures.
        database: SQLAlchemy URL; a SQLite file in `instance` by default.
        host: address to listen at. All but loopback addresses need a user and his password.
        port: TCP port; 0 takes a free one.
        names: further host names by which browsers reach the server, as through a proxy.
        tls: a proxy on this machine speaks TLS for us: cookies are then sent over TLS only.
        keep_images: store pictures (re-encoded), file names and measurements with the answers.
        retention_days: answers older than this are deleted, at start and every hour; None keeps.
        uploads_per_minute: requests for an answer that one user may make in a minute.

    Raises:
        ValueError: for a value outside its range, naming it.

    Example:
        >>> Settings().is_loopback, Settings(host="0.0.0.0").is_loopback
        (True, False)
    """

    models: tuple[str, ...] = ()
    instance: Path = field(default_factory=find_instance)
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 5000
    names: tuple[str, ...] = ()
    tls: bool = False
    keep_images: bool = False
    retention_days: int | None = None
    uploads_per_minute: int = UPLOADS_PER_MINUTE

    def __post_init__(self):
        object.__setattr__(self, "instance", Path(self.instance))  # a text will do
        _check("port", self.port, 0 <= self.port <= 65535, "from 0 to 65535")
        days = self.retention_days
        _check("retention_days", days, days is None or days >= 1, "at least 1")
        rate = self.uploads_per_minute
        _check("uploads_per_minute", rate, rate >= 1, "at least 1")

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def database_url(self) -> str:
        """Where answers are kept, as SQLAlchemy takes it."""
        return self.database or f"sqlite:///{Path(self.instance, 'history.db').absolute()}"

    @property
    def image_folder(self) -> Path:
        """Where pictures are kept, if they are."""
        return self.instance / "images"


def _check(name, value, holds, allowed):
    if not holds:
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}")
