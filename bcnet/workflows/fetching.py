"""Public data sets, from their addresses to pictures that the other workflows read."""

import logging
import os
from pathlib import Path

from bcnet.data.catalogue import find_set
from bcnet.data.download import download
from bcnet.data.fetch import arrange, is_complete, locate_data, require_own_folder
from bcnet.workflows.progress import make_bar

logger = logging.getLogger("bcnet")


def fetch(name: str, output: str | os.PathLike, *, progress: bool = False) -> Path:
    """Download a public data set and make of it what the other workflows read.

    What is there already is kept and verified, so that a run that was cut off goes on, and a file
    that was downloaded by hand is taken. Licence and citation are told, and stand in the set's
    `dataset.json`.

    Args:
        name: a set of `data.catalogue`.
        output: its folder: new, empty, or of an earlier call.
        progress: show bars.

    Returns:
        What to give to `audit` or `train`: the folder, or the `.npz` in it.

    Raises:
        ConnectionError: when a file cannot be had; the message says what to do by hand.
        FileExistsError: when the folder holds anything else.
        ValueError: for an unknown name, a wrong checksum or a damaged archive.
    """
    public, folder = find_set(name), Path(output)
    logger.info("%s (%s): %s", public.info.name, public.info.licence, public.info.source)
    if is_complete(public, folder):
        logger.info("%s is complete already; nothing was done", folder)
        return locate_data(public, folder)
    require_own_folder(public, folder)
    for file in public.files:
        with make_bar(file.size, file.name, shown=progress, in_bytes=True) as bar:
            download(file, folder, bar=bar)
    with make_bar(public.images, "unpacking", shown=progress and bool(public.arrange)) as bar:
        arrange(public, folder, bar.update)
    return locate_data(public, folder)
