"""Speed of heatmaps on pictures in memory: against other tools, and against predicting alone.

Belongs here: Grad-CAM by bcnet, tf-keras-vis, Xplique and pytorch-grad-cam, of the same networks
and the same pictures. The others always compute in float32: where it was tried, tf-keras-vis and
pytorch-grad-cam failed on maps in bfloat16. Does not: what the maps are worth (`explanations.py`),
reading pictures, drawing figures. `python benchmarks/heatmaps.py --help` says how to run it.
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
from peers import build_network, build_torch_network
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
from bcnet.explain.heatmaps import explain_batch
from bcnet.models import build_vgg16, with_precision

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

PEERS = ("tf-keras-vis", "xplique", "grad-cam")

# Pictures per call that each peer is tried with; the faster counts.
PEER_BATCHES = (1, 16)


def list_networks(side: int) -> dict[str, keras.Model]:
    """List the networks compared, from random weights: speed does not depend on them."""
    return {"cnn": build_network((side, side)), "vgg16": build_vgg16((side, side), weights=None)}


def explain_with_tf_keras_vis(network: keras.Model) -> Callable:
    """Make Grad-CAM of tf-keras-vis: a function of a batch, giving maps of the pictures' size."""
    from tf_keras_vis.gradcam import Gradcam

    explainer = Gradcam(_end_at_logit(network), clone=False)
    return lambda images: explainer(lambda output: output[:, 0], images)


def explain_with_xplique(network: keras.Model) -> Callable:
    """Make Grad-CAM of Xplique, as `explain_with_tf_keras_vis`."""
    from xplique.attributions import GradCAM

    explainer = GradCAM(_end_at_logit(network), batch_size=max(PEER_BATCHES))
    return lambda images: explainer.explain(images, np.ones((len(images), 1), np.float32))


def explain_with_torch(network: keras.Model) -> Callable:
    """Make pytorch-grad-cam of the same small network in PyTorch, channels last."""
    import torch
    from pytorch_grad_cam import GradCAM

    module = build_torch_network(network).eval()
    last = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)][-1]
    explainer = GradCAM(model=module, target_layers=[last])

    def explain(images):
        batch = torch.as_tensor(images).permute(0, 3, 1, 2)
        return explainer(input_tensor=batch, targets=[lambda output: output[0]] * len(batch))

    return explain


def _end_at_logit(network):
    return keras.Model(network.input, network.get_layer("logit").output)


def list_peers(name: str) -> dict[str, Callable]:
    """List the tools that are installed and can explain a network, by the name of their package.

    VGG16 is not written in PyTorch here.
    """
    ways = {
        "tf-keras-vis": explain_with_tf_keras_vis,
        "xplique": explain_with_xplique,
        "grad-cam": explain_with_torch,
    }
    can = [package for package in PEERS if name == "cnn" or package != "grad-cam"]
    return {package: ways[package] for package in can if find_version(package)}


def make_cases(name: str, network: keras.Model, images: np.ndarray, precision: str) -> list[Case]:
    """Compare one network in one precision with every peer, and with predicting alone."""
    classifier = Classifier(network, {})
    rebuilt = with_precision(network, POLICIES[precision])
    ours = partial(time_call, partial(explain_batch, rebuilt, images))
    cases = []
    for package, make in list_peers(name).items():
        peer = choose_batch(make(network), images.astype("float32"))
        cases.append(Case(f"{name}_{precision}_vs_{package}", precision, ours, peer))
    predict = partial(classifier.predict_images, images, precision=precision)
    cases.append(
        Case(f"{name}_{precision}_vs_prediction", precision, ours, partial(time_call, predict))
    )
    return cases


def choose_batch(explain: Callable, images: np.ndarray) -> Callable[[], float]:
    """Try a peer with each batch size, and keep the faster.

    Args:
        explain: a function of a batch.
        images: float32 `(n, height, width, 3)`.

    Returns:
        What explains all pictures once and returns the seconds it took.
    """

    def explain_all(size):
        for start in range(0, len(images), size):
            explain(images[start : start + size])

    ways = {size: partial(time_call, partial(explain_all, size)) for size in PEER_BATCHES}
    for way in ways.values():
        way()  # what is compiled at the first call is not to count
    return ways[min(ways, key=lambda size: ways[size]())]


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict]:
    """Measure every case, print the table while it grows, and return what the JSON holds."""
    print(describe_machine())
    print("peers     " + ", ".join(f"{name} {find_version(name) or 'not here'}" for name in PEERS))
    print(f"medians of {arguments.rounds} rounds\n\n{format_header('pictures/s')}")
    side, results = arguments.image_size, {}
    images = np.random.default_rng(0).integers(0, 256, (arguments.pictures, side, side, 3), "uint8")
    for name, network in list_networks(side).items():
        for precision in POLICIES:
            for case in make_cases(name, network, images, precision):
                pairs = measure(case, arguments.rounds)
                results[case.name] = summarise(pairs, len(images), precision)
                print(format_row(case.name, results[case.name], pairs), flush=True)
    return results


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        "Time Grad-CAM against other tools and against predicting alone.",
        "benchmarks/heatmaps.py --json heatmaps.json",
    )
    parser.add_argument("--image-size", type=read_count, metavar="N", default=224, help="(224)")
    parser.add_argument("--pictures", type=read_count, metavar="N", default=32, help="(32)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return run_script(run, parse_arguments(words))


if __name__ == "__main__":
    sys.exit(main())
