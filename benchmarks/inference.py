"""Speed of the networks alone, on pictures in memory: how near the machine's limit, and to others.

Belongs here: forward passes. VGG16 is compared with the rate at which this machine multiplies
matrices, the small network with PyTorch, ONNX Runtime and OpenVINO. Does not: reading pictures
(`scoring.py`). `python benchmarks/inference.py --help` says how to run it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from peers import build_network, run_onnxruntime, run_openvino, run_torch, write_onnx
from rounds import (
    Case,
    describe_machine,
    find_version,
    format_header,
    format_row,
    make_parser,
    measure,
    read_count,
    run_script,
    summarise,
    time_call,
)

from bcnet.classifier import Classifier
from bcnet.models import build_vgg16

PRECISIONS = ("float32", "bfloat16")

VGG16_SIDE = 224  # as it was made
VGG16_PICTURES = 16  # about what bcnet shows it at once
CNN_SIDE = 50  # as IDC's patches, the public set that most tutorials of this kind train on

# Large enough to hide the cost of a call; 4096 came out no faster where it was tried.
MATRIX_SIDE = 2048


def count_operations(network: keras.Model) -> int:
    """Count the multiplications and additions of convolutions and dense layers for one picture.

    Example:
        A convolution of 3×3 from 3 to 64 channels over 224×224 pixels takes
        2 × 224 × 224 × 27 × 64 = 173,408,256.
    """
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = int(np.prod(layer.output.shape[1:-1]))
            total += 2 * places * int(np.prod(layer.kernel.shape))
    return total


def make_vgg16_case(side: int, precision: str) -> tuple[Case, float]:
    """Compare VGG16 with the product of matrices, both done until as many operations are.

    Args:
        side: pixels a side.
        precision: of both.

    Returns:
        The case, and the operations of each of its rounds, in units of 10⁹.
    """
    classifier = Classifier(build_vgg16((side, side), weights=None), {})
    images = _draw_images(VGG16_PICTURES, side)
    operations = count_operations(classifier.model) * len(images)
    ours = partial(classifier.predict_images, images, precision=precision)
    multiply = make_matrix_product(precision)
    times = max(1, round(operations / (2 * MATRIX_SIDE**3)))

    def time_products():
        seconds = time_call(lambda: [multiply() for _ in range(times)])
        return seconds * operations / (times * 2 * MATRIX_SIDE**3)

    case = Case(f"vgg16_{precision}_vs_matrix", precision, partial(time_call, ours), time_products)
    return case, operations / 1e9


def make_matrix_product(precision: str) -> Callable[[], None]:
    """Make what multiplies two square matrices in one precision."""
    left, right = (
        tf.cast(tf.random.stateless_uniform((MATRIX_SIDE, MATRIX_SIDE), (0, i)), precision)
        for i in range(2)
    )
    product = tf.function(lambda: tf.matmul(left, right), autograph=False)
    return lambda: product()[0, 0].numpy()  # waits until it is done


def make_cnn_cases(side: int, scratch: Path) -> tuple[list[Case], int]:
    """Compare the small network with the same one in PyTorch, ONNX Runtime and OpenVINO.

    Returns:
        The cases, of those that are installed, and the pictures of each of their rounds.
    """
    network = build_network((side, side))
    classifier = Classifier(network, {})
    images = _draw_images(classifier.batch_size, side)
    cases = []
    for name, score in _run_peers(network, scratch / "network.onnx").items():
        precision = name.split("_")[-1]
        ours = partial(classifier.predict_images, images, precision=precision)
        jobs = partial(time_call, ours), partial(time_call, partial(score, images))
        cases.append(Case(f"cnn_vs_{name}", precision, *jobs))
    return cases, len(images)


def _run_peers(network, onnx):
    found = {}
    if find_version("torch"):
        found |= {f"torch_{precision}": run_torch(network, precision) for precision in PRECISIONS}
    if find_version("onnxruntime"):
        found["onnxruntime_float32"] = run_onnxruntime(write_onnx(network, onnx))
    if find_version("openvino"):
        path = write_onnx(network, onnx)
        found |= {
            f"openvino_{precision}": run_openvino(path, precision) for precision in PRECISIONS
        }
    return found


def _draw_images(number, side):
    return np.random.default_rng(0).integers(0, 256, (number, side, side, 3)).astype(np.uint8)


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict]:
    """Measure every case, print the table while it grows, and return what the JSON holds."""
    print(describe_machine())
    print(f"medians of {arguments.rounds} rounds\n")
    results = {}

    def show(case, amount):
        pairs = measure(case, arguments.rounds)
        results[case.name] = summarise(pairs, amount, case.precision)
        print(format_row(case.name, results[case.name], pairs), flush=True)

    print(format_header("GFLOP/s; peer: product of matrices"))
    for precision in PRECISIONS:
        show(*make_vgg16_case(arguments.vgg16_side, precision))
    cases, number = make_cnn_cases(CNN_SIDE, scratch)
    print(f"\n{format_header('pictures/s')}" if cases else "\nno peer of the small network is here")
    for case in cases:
        show(case, number)
    return results


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        "Time the networks alone: VGG16 against the machine, the small one against others.",
        "benchmarks/inference.py --json inference.json",
    )
    parser.add_argument(
        "--vgg16-side", type=read_count, metavar="N", default=VGG16_SIDE, help="pixels (224)"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return run_script(run, parse_arguments(words))


if __name__ == "__main__":
    sys.exit(main())
