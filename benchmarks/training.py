"""Speed of training and of scoring: bcnet against the code of a tutorial, on the same pictures.

Belongs here: both contestants, the stopwatch and the table. Does not: how good the networks
become – nothing here is trained to an end. Both run in one process and in turn (tutorial, bcnet,
tutorial, bcnet …), so that a machine that slows down slows both; a ratio is taken from each such
pair. `python benchmarks/training.py --help` says how to run it.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from bcnet.atomic import write_text
from bcnet.classifier import Classifier
from bcnet.config import CLASS_NAMES, Config
from bcnet.data.manifest import Manifest, read_manifest
from bcnet.data.pipeline import make_evaluation_ds, make_training_ds
from bcnet.data.simulate import simulate
from bcnet.models import build_cnn
from bcnet.train import choose_precision, train
from bcnet.workflows.samples import Pictures, choose_image_size, decode_table

# What `keras.utils.image_dataset_from_directory` takes; it passes over all else in silence.
TUTORIAL_FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
TUTORIAL_BATCH = 32  # its default, and that of most tutorials

# Channels of the tutorial's convolutions, where nearly all the time goes. bcnet's own network has
# fewer; the cases named "equal" give it as many, to tell the code apart from the network.
WIDTHS = (32, 64, 128)

# The size of IDC's patches, the public set that most such tutorials train on.
DRAWN_SIDE = 50
SMALLEST_DRAWN_SIDE = 32
DRAWN_PATIENTS, DRAWN_PER_PATIENT = 569, 4

DEFAULT_SIDE = 128  # as in `bcnet train`, where the pictures do not share a size

# Speed depends on no threshold, but a card has one.
CARD = {"threshold": {"value": 0.5}}


class Case(NamedTuple):
    """One comparison.

    Attributes:
        name: its key in the JSON.
        precision: of bcnet's hidden layers; the tutorial's code always computes in float32.
        ours: does the work with bcnet once and returns the seconds that count.
        peer: the same with the tutorial's code.
    """

    name: str
    precision: str
    ours: Callable[[], float]
    peer: Callable[[], float]


class Stopwatch(keras.callbacks.Callback):
    """Times the last epoch, from before its first batch is made to the end of its last step.

    What comes before (tracing, filling the cache) and after (validation) does not count.

    Attributes:
        seconds: of the last epoch.
    """

    def on_epoch_begin(self, epoch, logs=None):
        """Start."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Stop, until the next step stops it later."""
        self.seconds = time.perf_counter() - self.started


def build_tutorial_network(image_size: tuple[int, int]) -> keras.Model:
    """Build the network of the tutorials.

    Args:
        image_size: `(height, width)` in pixels.

    Returns:
        A compiled float32 network of RGB 0–255 that augments with Keras's random layers.
    """
    network = keras.Sequential([keras.Input((*image_size, 3)), layers.Rescaling(1 / 255)])
    network.add(layers.RandomFlip("horizontal_and_vertical"))
    network.add(layers.RandomRotation(0.1))
    for width in WIDTHS:
        network.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
        network.add(layers.MaxPooling2D())
    network.add(layers.Flatten())
    network.add(layers.Dense(128, activation="relu"))
    network.add(layers.Dropout(0.5))
    network.add(layers.Dense(1, activation="sigmoid"))
    network.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return network


def read_as_tutorial(folder: Path, image_size: tuple[int, int], *, shuffle: bool):
    """Stream class folders as the tutorials do.

    Returns:
        A dataset of float32 `(b, height, width, 3)` in 0–255 and `(b, 1)` labels.
    """
    return keras.utils.image_dataset_from_directory(
        folder,
        label_mode="binary",
        image_size=image_size,
        batch_size=TUTORIAL_BATCH,
        shuffle=shuffle,
        verbose=False,
    )


def time_tutorial_training(network: keras.Model, ds: tf.data.Dataset) -> float:
    """Train the tutorial's network for one epoch; return the seconds."""
    stopwatch = Stopwatch()
    network.fit(ds, shuffle=False, verbose=0, callbacks=[stopwatch])  # the dataset has shuffled
    return stopwatch.seconds


def time_our_training(pictures: Pictures, config: Config, *, widths: tuple | None = None) -> float:
    """Train bcnet's network for two epochs; return the seconds of the second.

    `train` compiles anew at each call, so that its first epoch also traces.
    """
    image_size = pictures.images.shape[1:3]
    policy = choose_precision(config.precision)
    given = {} if widths is None else {"widths": widths}
    network = build_cnn(image_size, precision=policy, **given)
    train_ds = make_training_ds(
        pictures.images,
        pictures.labels,
        batch_size=config.batch_size,
        modality=config.modality,
    )
    val_ds = make_evaluation_ds(pictures.images[:1], pictures.labels[:1])
    stopwatch = Stopwatch()
    train(network, train_ds, val_ds, config, callbacks=(stopwatch,))
    return stopwatch.seconds


def time_call(function: Callable) -> float:
    """Call `function`; return the seconds it takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def make_training_cases(pictures: Pictures, folder: Path, modality: str) -> list[Case]:
    """Compare training in the precision chosen for this machine and, if another, in float32.

    Args:
        pictures: what bcnet trains on, decoded.
        folder: the same pictures as files in class folders.
        modality: decides bcnet's augmentation.
    """
    image_size = pictures.images.shape[1:3]
    ds = read_as_tutorial(folder, image_size, shuffle=True).cache().prefetch(tf.data.AUTOTUNE)
    peer = partial(time_tutorial_training, build_tutorial_network(image_size), ds)
    settings = {
        "training_auto": ("auto", None),
        "training_float32": ("float32", None),
        "training_equal_auto": ("auto", WIDTHS),
        "training_equal_float32": ("float32", WIDTHS),
    }
    cases = {}
    for name, (precision, widths) in settings.items():
        config = Config(epochs=2, precision=precision, modality=modality)
        policy = choose_precision(precision).removeprefix("mixed_")
        ours = partial(time_our_training, pictures, config, widths=widths)
        cases.setdefault((policy, widths), Case(name, policy, ours, peer))
    return list(cases.values())


def make_scoring_cases(folder: Path, image_size: tuple[int, int]) -> list[Case]:
    """Compare scoring from files: each with its own network, then both with the tutorial's.

    Args:
        folder: the pictures as files in class folders.
        image_size: `(height, width)` in pixels.
    """
    tutorial = build_tutorial_network(image_size)
    ours = Classifier(build_cnn(image_size), CARD)
    same = Classifier(tutorial, CARD)

    def predict_as_tutorial():
        tutorial.predict(read_as_tutorial(folder, image_size, shuffle=False), verbose=0)

    def make_case(name, classifier, precision):
        predict = partial(classifier.predict, folder, precision=precision)
        peer = partial(time_call, predict_as_tutorial)
        return Case(name, precision, partial(time_call, predict), peer)

    return [
        make_case("scoring_float32", ours, "float32"),
        make_case("scoring_bfloat16", ours, "bfloat16"),
        make_case("scoring_equal_float32", same, "float32"),
    ]


def measure(case: Case, rounds: int) -> list[tuple[float, float]]:
    """Let both work in turn, once to warm up and then `rounds` times.

    Returns:
        For each round the seconds of bcnet and of the tutorial's code.

    Example:
        >>> measure(Case("", "", lambda: 1.0, lambda: 3.0), 2)
        [(1.0, 3.0), (1.0, 3.0)]
    """
    pairs = []
    for _ in range(1 + rounds):
        peer = case.peer()
        pairs.append((case.ours(), peer))
    return pairs[1:]


def summarise(pairs: Sequence[tuple[float, float]], count: int, precision: str) -> dict:
    """Turn seconds into pictures per second and the ratio, each the median of the rounds.

    Args:
        pairs: seconds of bcnet and of the tutorial's code, per round.
        count: pictures handled in each.
        precision: of bcnet.

    Returns:
        `ours` and `peer` (pictures per second), `ratio` (above 1: bcnet is faster), `precision`.

    Example:
        >>> summarise([(1.0, 2.0), (1.0, 4.0), (2.0, 6.0)], 12, "float32")
        {'ours': 12.0, 'peer': 3.0, 'ratio': 3.0, 'precision': 'float32'}
    """
    return {
        "ours": median(count / ours for ours, _ in pairs),
        "peer": median(count / peer for _, peer in pairs),
        "ratio": median(peer / ours for ours, peer in pairs),
        "precision": precision,
    }


def format_row(name: str, result: dict, pairs: Sequence[tuple[float, float]]) -> str:
    """Format one line of the table; the last column is the smallest and the largest ratio."""
    ratios = [peer / ours for ours, peer in pairs]
    speeds = f"{result['ours']:>9,.0f}/s {result['peer']:>9,.0f}/s"
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    return f"{name:<25} {result['precision']:<9} {speeds} {result['ratio']:>6.2f}  {spread:>11}"


def describe_machine() -> str:
    """Describe what the figures depend on: processor, how busy it is, GPU and versions."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="ignore")
    except OSError:  # not Linux, where no file tells; the platform may know a name
        words = ""
    names = [line.split(":")[1].strip() for line in words.splitlines() if "model name" in line]
    flags = set(words.split())
    units = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16"}
    told = ", ".join(f"{unit} {'yes' if flag in flags else 'no'}" for unit, flag in units.items())
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    return (
        f"machine   {names[0] if names else platform.processor()}, {os.cpu_count()} cores, "
        f"{told}, GPU {', '.join(gpus) or 'no'}, load {load}\n"
        f"software  Python {platform.python_version()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}"
    )


def draw_pictures(folder: Path, side: int, limit: int | None) -> Path:
    """Draw the built-in data set, or as much of it as `limit` pictures need; return its folder."""
    patients = DRAWN_PATIENTS if limit is None else -(-limit // DRAWN_PER_PATIENT)
    return simulate(
        folder,
        image_size=max(side, SMALLEST_DRAWN_SIDE),
        images_per_patient=DRAWN_PER_PATIENT,
        patients=min(patients, DRAWN_PATIENTS),
    )


def choose_rows(table: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Choose at most `limit` rows, evenly spread: a manifest is sorted, so by class as well."""
    if limit is None or limit >= len(table):
        return table
    return table.iloc[np.linspace(0, len(table) - 1, limit).astype(int)]


def copy_pictures(table: pd.DataFrame, folder: Path) -> Path:
    """Copy the pictures of a table, bytes unchanged, into the class folders that both will read.

    Returns:
        The folder.

    Raises:
        ValueError: for a picture that the tutorial's code would pass over.
    """
    for i, (path, label) in enumerate(zip(table["path"], table["label"], strict=True)):
        ending = Path(path).suffix.lower()
        if ending not in TUTORIAL_FORMATS:
            known = ", ".join(TUTORIAL_FORMATS)
            raise ValueError(f"the tutorial's code reads {known} only. Received: {path}")
        target = folder / CLASS_NAMES[label] / f"{i:06}{ending}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def prepare(arguments: argparse.Namespace, scratch: Path) -> tuple[Manifest, Pictures, Path]:
    """Find or draw the pictures, decode them, and copy those that can be read.

    Args:
        arguments: the command line.
        scratch: an empty folder.

    Returns:
        The manifest, the pictures decoded, and the folder with the same as files.
    """
    side, limit = arguments.image_size, arguments.limit
    data = arguments.data or draw_pictures(scratch / "simulated", side or DRAWN_SIDE, limit)
    manifest = read_manifest(data)
    table = choose_rows(manifest.table, limit)
    image_size = (side, side) if side else choose_image_size(table, DEFAULT_SIDE)
    pictures = decode_table(table, image_size)
    return manifest, pictures, copy_pictures(pictures.table, scratch / "pictures")


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict]:
    """Measure every case, print the table while it grows, and return what the JSON holds."""
    manifest, pictures, folder = prepare(arguments, scratch)
    count, height, width, _ = pictures.images.shape
    print(describe_machine())
    print(f"pictures  {count:,} of {manifest.info.name}, {height} × {width} px")
    print(f"medians of {arguments.rounds} rounds; the tutorial's code computes in float32\n")
    print(f"{'case':<25} precision       bcnet    tutorial  ratio      min–max")
    cases = make_training_cases(pictures, folder, manifest.info.modality)
    results = {}
    for case in [*cases, *make_scoring_cases(folder, (height, width))]:
        pairs = measure(case, arguments.rounds)
        results[case.name] = summarise(pairs, count, case.precision)
        print(format_row(case.name, results[case.name], pairs), flush=True)
    return results


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Time training and scoring of bcnet and of a tutorial's code.",
        epilog="example: python benchmarks/training.py dataset/ --limit 3000 --json training.json",
    )
    parser.add_argument("data", nargs="?", help="class folders (default: the built-in pictures)")
    parser.add_argument("--image-size", type=_count, metavar="N", help="pixels a side")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most so many pictures")
    parser.add_argument("--rounds", type=_count, metavar="N", default=5, help="default: 5")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    return parser.parse_args(words)


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0. Received: {text}")
    return int(text)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        words: the command line; `sys.argv` by default.

    Returns:
        The exit status: 0, or 2 after one line that says what is wrong with the input.
    """
    arguments = parse_arguments(words)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            results = run(arguments, Path(scratch))
        if arguments.json:
            write_text(arguments.json, json.dumps(results, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"benchmarks/training.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # TensorFlow warns of a function traced many times; here each is another network's.
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
