"""Speed of training and of scoring: bcnet against the code of a tutorial, and PyTorch.

Belongs here: the contestants, on the same pictures. Does not: how good the networks become –
nothing here is trained to an end – and a folder's whole way to a table (`scoring.py`). Both run in
one process and in turn (tutorial, bcnet, tutorial, bcnet …), so that a machine that slows down
slows both; a ratio is taken from each such pair. `python benchmarks/training.py --help` says how
to run it.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from peers import build_torch_network
from pictures import prepare
from rounds import (
    Case,
    add_pictures,
    describe_machine,
    find_version,
    format_header,
    format_row,
    make_parser,
    measure,
    run_script,
    summarise,
    time_call,
)

from bcnet.classifier import Classifier
from bcnet.config import Config
from bcnet.data.pipeline import make_evaluation_ds, make_training_ds
from bcnet.models import build_cnn
from bcnet.train import choose_precision, train
from bcnet.workflows.samples import Pictures

TUTORIAL_BATCH = 32  # its default, and that of most tutorials

# Channels of the tutorial's convolutions, where nearly all the time goes. bcnet's own network has
# fewer; the cases named "equal" give it as many, to tell the code apart from the network.
WIDTHS = (32, 64, 128)

# Speed depends on no threshold, but a card has one.
CARD = {"threshold": {"value": 0.5}}


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


class TorchTraining:
    """PyTorch's training of bcnet's network: channels last, autocast, batches from memory.

    Its augmentation is lighter than bcnet's: one of the eight symmetries for a whole batch, and
    no stain.

    Args:
        pictures: what it trains on, decoded.
        config: bcnet's, for batch size and rate.
        precision: "float32" or "bfloat16".
    """

    def __init__(self, pictures: Pictures, config: Config, precision: str):
        import torch

        network = build_cnn(pictures.images.shape[1:3])
        self.module = build_torch_network(network).train()
        learnt = [weight for weight in self.module.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.Adam(learnt, lr=1e-3)
        self.images = torch.from_numpy(np.array(pictures.images)).permute(0, 3, 1, 2)
        self.labels = torch.from_numpy(pictures.labels[:, None].astype(np.float32))
        self.batch_size, self.use_bfloat16 = config.batch_size, precision == "bfloat16"

    def __call__(self) -> float:
        """Train for one epoch; return the seconds."""
        import torch

        started = time.perf_counter()
        for rows in torch.randperm(len(self.labels)).split(self.batch_size):
            self._step(torch, self.images[rows], self.labels[rows])
        return time.perf_counter() - started

    def _step(self, torch, images, labels):
        turned = torch.rot90(images, int(torch.randint(4, ())), (2, 3))
        flipped = turned.flip(3) if torch.rand(()) < 0.5 else turned
        batch = flipped.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.use_bfloat16):
            logits = self.module(batch)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


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
        config = Config(epochs=2, batch_size=64, precision=precision, modality=modality)
        policy = choose_precision(precision).removeprefix("mixed_")
        ours = partial(time_our_training, pictures, config, widths=widths)
        cases.setdefault((policy, widths), Case(name, policy, ours, peer))
    return list(cases.values())


def make_torch_cases(pictures: Pictures, modality: str) -> list[Case]:
    """Compare training with PyTorch, the same network in both; none where it is not installed.

    bcnet computes in the precision chosen for this machine; PyTorch in bfloat16 and in float32.
    """
    if not find_version("torch"):
        return []
    config = Config(epochs=2, batch_size=64, modality=modality)
    precision = choose_precision(config.precision).removeprefix("mixed_")
    ours = partial(time_our_training, pictures, config)
    return [
        Case(f"training_vs_torch_{other}", precision, ours, TorchTraining(pictures, config, other))
        for other in ("bfloat16", "float32")
    ]


def make_input_case(pictures: Pictures, modality: str) -> Case:
    """Compare the input pipeline alone with the training that it feeds, as the peer."""
    config = Config(epochs=2, batch_size=64, modality=modality)
    train_ds = make_training_ds(
        pictures.images, pictures.labels, batch_size=config.batch_size, modality=modality
    )
    precision = choose_precision(config.precision).removeprefix("mixed_")
    ours = partial(time_call, lambda: sum(1 for _ in train_ds))
    return Case("input_vs_training", precision, ours, partial(time_our_training, pictures, config))


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


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict]:
    """Measure every case, print the table while it grows, and return what the JSON holds."""
    manifest, pictures, folder = prepare(arguments, scratch)
    count, height, width, _ = pictures.images.shape
    print(describe_machine())
    print(f"pictures  {count:,} of {manifest.info.name}, {height} × {width} px")
    print(f"medians of {arguments.rounds} rounds; the tutorial's code computes in float32\n")
    print(format_header("pictures/s"))
    modality = manifest.info.modality
    cases = [
        *make_training_cases(pictures, folder, modality),
        *make_torch_cases(pictures, modality),
        make_input_case(pictures, modality),
        *make_scoring_cases(folder, (height, width)),
    ]
    results = {}
    for case in cases:
        pairs = measure(case, arguments.rounds)
        results[case.name] = summarise(pairs, count, case.precision)
        print(format_row(case.name, results[case.name], pairs), flush=True)
    return results


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        "Time training and scoring of bcnet and of others on the same pictures.",
        "benchmarks/training.py dataset/ --limit 3000 --json training.json",
    )
    add_pictures(parser)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        words: the command line; `sys.argv` by default.

    Returns:
        The exit status: 0, or 2 after one line that says what is wrong with the input.
    """
    return run_script(run, parse_arguments(words))


if __name__ == "__main__":
    sys.exit(main())
