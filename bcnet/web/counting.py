"""Counts of what a server does, in the text format that Prometheus reads.

Numbers only: no name, no address and no value of a patient is ever a label.
"""

import os
from collections import Counter
from pathlib import Path
from threading import Lock

# Pages of memory held by this process, as Linux tells (proc(5), /proc/pid/statm, second field).
STATM = Path("/proc/self/statm")


class Counts:
    """Counters that several threads add to.

    Example:
        >>> counts = Counts()
        >>> counts.add("bcnet_pictures_total", 2, model="idc")
        >>> counts.format({})
        'bcnet_pictures_total{model="idc"} 2\\n'
    """

    def __init__(self):
        self._values, self._lock = Counter(), Lock()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter.

        Args:
            name: as Prometheus wants it, ending in `_total` or `_sum`.
            amount: 0 or more.
            labels: of few values each; must not name anybody.
        """
        with self._lock:
            self._values[name, tuple(sorted(labels.items()))] += amount

    def format(self, gauges: dict[str, float]) -> str:
        """Write all counters, and what is measured just now.

        Args:
            gauges: further values by name.
        """
        with self._lock:
            values = sorted(self._values.items())
        lines = [f"{name}{_format_labels(labels)} {value:.12g}" for (name, labels), value in values]
        lines += [f"{name} {value:.12g}" for name, value in gauges.items()]
        return "".join(f"{line}\n" for line in lines)


def measure_memory() -> dict[str, float]:
    """Measure what this process holds of the machine's memory; nothing where that is not told.

    Returns:
        `process_resident_memory_bytes`, for `Counts.format`.
    """
    if not STATM.is_file():
        return {}
    pages = int(STATM.read_text().split()[1])
    return {"process_resident_memory_bytes": pages * os.sysconf("SC_PAGE_SIZE")}


def _format_labels(labels):
    pairs = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""
