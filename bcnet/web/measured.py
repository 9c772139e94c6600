"""From rows of measurements to answered, stored cases: what page and API do alike.

Belongs here: asking and keeping. How an answer is shown, and where rows come from, does not.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from uuid import uuid4

import pandas as pd

from bcnet.data.measurements import FEATURES, read_rows
from bcnet.web.errors import Refusal
from bcnet.web.services import Services

# A clinic's year; a whole study is for the command line.
MOST_ROWS = 1000


def answer_rows(
    services: Services, rows: Sequence[dict], *, model: str, owner: str | None
) -> pd.DataFrame:
    """Answer and keep the measurements of some patients.

    Args:
        services: of the server.
        rows: one dict per patient, value by name (see `bcnet.data.measurements.read_rows`).
        model: name of a loaded model of measurements.
        owner: the user, None on an open server.

    Returns:
        The table of `MeasurementModel.predict` with one more column, `id`, under which each
        answer is kept; missing where the row could not be read.

    Raises:
        Refusal: 422 without a row or when not one can be used, 413 with too many.
    """
    if not rows:
        raise Refusal(422, "At least one patient's measurements are needed.")
    if len(rows) > MOST_ROWS:
        raise Refusal(413, f"At most {MOST_ROWS:,} patients at once. Received: {len(rows):,}.")
    try:
        values, reasons = read_rows(rows)
    except ValueError as error:
        raise Refusal(422, str(error)) from error
    table = services.models.measurements[model].predict_rows(values, reasons)
    is_read = table["probability"].notna()
    kept = values.loc[is_read, list(FEATURES)].to_dict("records")
    pairs = zip(table[is_read].itertuples(), kept, strict=True)
    about = {
        "owner": owner,
        "batch": str(uuid4()),
        "model": model,
        "model_hash": services.models.hashes[model],
        "threshold": services.models.measurements[model].threshold,
    }
    ids = services.history.add([_describe(services, *pair) | about for pair in pairs])
    services.counts.add("bcnet_rows_total", len(ids), model=model)
    return table.assign(id=pd.Series(ids, table.index[is_read], dtype=object).reindex(table.index))


def _describe(services, answer, values):
    """Make the history's row of an answer; the values only where the operator keeps them."""
    values = {name: None if math.isnan(value) else value for name, value in values.items()}
    described = {
        "kind": "measurements",
        "input_hash": hashlib.sha256(json.dumps(values).encode()).hexdigest(),
        "probability": answer.probability,
        "label": answer.label,
        "status": answer.status,
    }
    return described | ({"measurements": values} if services.settings.keep_images else {})
