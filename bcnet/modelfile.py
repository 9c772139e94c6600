"""The model file: an ordinary `.keras` file with one more member, `card.json`.

Belongs here: writing it whole, looking at it before trusting it, reading it back. What is done
with the network and the card is the business of `classifier`; the card is read by `cardfile`.
"""

import os
import re
import threading
from pathlib import Path

import h5py
import keras

from bcnet.atomic import replace_file
from bcnet.cardfile import ModelFileError, add_card, first_line, open_archive, read_json

WEIGHTS_MEMBER = "model.weights.h5"

# Everything Keras 3 writes into a file, and our card.
ALLOWED_MEMBERS = re.compile(
    rf"(metadata\.json|config\.json|{re.escape(WEIGHTS_MEMBER)}|card\.json|assets/.*)"
)
# VGG16 with its classifier has 0.6 GB of weights; anything beyond this is not one of ours.
LARGEST_WEIGHTS = 2 * 1024**3
LARGEST_TEXT = 256 * 1024**2
LARGEST_SIDE = 4096


def write_model(path: str | os.PathLike, model: keras.Model, card: dict) -> None:
    """Write network and card in one step: the old file or the new one, never half of one.

    Args:
        path: must end in `.keras`.
        model: the network.
        card: what `json.dumps` takes; NaN is refused.

    Raises:
        ValueError: for another ending.
    """
    if Path(path).suffix != ".keras":
        raise ValueError(f"`path` must end in .keras. Received: path={str(path)!r}")
    with replace_file(path) as temporary:
        model.save(temporary)
        add_card(temporary, card)


def read_model(path: str | os.PathLike) -> keras.Model:
    """Check a model file and load its network: no code is run, no compilation is restored.

    Args:
        path: a `.keras` file, ours or anyone's.

    Returns:
        The network, not compiled.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when it is truncated, foreign, corrupt or made to do harm.
    """
    check_model_file(path)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a layer raises: each means "not loadable"
        raise ModelFileError(path, f"Keras cannot load it: {first_line(error)}") from error


def check_model_file(path: str | os.PathLike) -> None:
    """Look at a model file before Keras does: members, sizes, and what its config would allocate.

    Seen without it: a file of 12 kB can make Keras allocate 16 GB.

    Args:
        path: a `.keras` file.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: naming the first thing that is wrong.
    """
    with open_archive(path, ".keras") as archive:
        for member in archive.infolist():
            _check_member(path, member)
        for name in ("config.json", WEIGHTS_MEMBER):
            if name not in archive.namelist():
                raise ModelFileError(path, f"not a Keras model file: it has no {name}")
        stored = _count_stored_weights(path, archive)
        config = read_json(path, archive, "config.json")
    _check_sides(path, config)
    wanted = _count_weights(path, config)
    if wanted > LARGEST_WEIGHTS // 4 or wanted > stored:
        raise ModelFileError(
            path, f"its config asks for {wanted:,} weights while the file holds {stored:,}"
        )


def _check_member(path, member):
    if not ALLOWED_MEMBERS.fullmatch(member.filename) or ".." in member.filename:
        raise ModelFileError(path, f"it holds {member.filename!r}, which no Keras model file does")
    limit = LARGEST_WEIGHTS if member.filename == WEIGHTS_MEMBER else LARGEST_TEXT
    if member.file_size > limit:
        raise ModelFileError(path, f"{member.filename} would unpack to {member.file_size:,} bytes")


def _count_stored_weights(path, archive):
    """Count the numbers in the HDF5 file that really occupy bytes there."""
    counts = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual or item.id.get_storage_size() < item.nbytes:
                raise ModelFileError(path, f"the weights {name!r} are not stored in the file")
            counts.append(item.size)

    try:
        with archive.open(WEIGHTS_MEMBER) as member, h5py.File(member, "r") as weights:
            weights.visititems(visit)
    except ModelFileError:
        raise
    except Exception as error:  # h5py raises many kinds on damaged bytes: each means the same
        raise ModelFileError(path, f"the weights are damaged: {first_line(error)}") from error
    return sum(counts)


def _check_sides(path, config):
    """Refuse inputs whose mere feature maps would fill the memory."""
    pending = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            shape = item.get("batch_shape") or item.get("batch_input_shape") or ()
            if any(isinstance(side, int) and side > LARGEST_SIDE for side in shape):
                raise ModelFileError(path, f"its input {shape} is larger than {LARGEST_SIDE} px")
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _count_weights(path, config):
    """Count the weights that a config describes, without allocating one of them."""
    # An optimiser is not loaded, and would make variables of its own.
    config = {name: value for name, value in config.items() if name != "compile_config"}
    found = {}

    def build():
        # Variables made in this scope have a shape and no value; Keras keeps a list of them for
        # the thread, which ends, and the list with it, so that nothing fills them in later.
        try:
            with keras.StatelessScope(initialize_variables=False):
                network = keras.saving.deserialize_keras_object(config, safe_mode=True)
                found["count"] = network.count_params()
        except Exception as error:  # whatever a foreign config makes a layer raise
            found["error"] = error

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    if "error" in found:
        raise ModelFileError(path, f"its config is no network: {first_line(found['error'])}")
    return found["count"]
