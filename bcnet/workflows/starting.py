"""What a training starts from: which network, with whose weights, at which rate.

The passes over the pictures that follow belong to `fitting`.
"""

import logging
from typing import NamedTuple

import keras

from bcnet.config import Config
from bcnet.modelfile import read_model
from bcnet.models import MODELS, carry_weights, find_block, with_precision
from bcnet.stains import normalise_stain
from bcnet.train import choose_precision

logger = logging.getLogger("bcnet")


class Rates(NamedTuple):
    """What a network likes: Adam's highest rates, and the first block that is let loose.

    Attributes:
        scratch: from random weights.
        head: of the head alone, while pretrained layers are frozen.
        fine_tune: when they are let loose.
        block: the first of them; the most special to ImageNet have the most to learn here.
    """

    scratch: float
    head: float = 1e-3
    fine_tune: float = 1e-4
    block: str = ""


# VGG16 has no normalisation and does not start at all with a high rate. The MobileNets are let
# loose as a whole, as measured on IDC and PatchCamelyon; the rest are Keras's customary choices.
RATES = {
    "cnn": Rates(2e-3),
    "vgg16": Rates(1e-4, fine_tune=1e-5, block="block5"),
    "resnet50": Rates(1e-3, block="conv5_block1"),
    "mobilenet": Rates(1e-3, fine_tune=1e-3, block="conv1"),
    "mobilenet_v2": Rates(1e-3, fine_tune=3e-4, block="Conv1"),
    "efficientnet_b0": Rates(1e-3, block="block6a"),
    "densenet121": Rates(1e-3, block="conv5_block1"),
}

# Networks that convolve each channel by itself.
DEPTHWISE = ("mobilenet", "mobilenet_v2", "efficientnet_b0")


def choose_rate(config: Config) -> float:
    """Choose the rate of the first stage: the network's own, or its head's where it is frozen."""
    rates = RATES[config.model]
    return rates.head if is_pretrained(config) else rates.scratch


def is_pretrained(config: Config) -> bool:
    """Tell whether the convolutions know something that a random head would destroy."""
    return config.model != "cnn" and (config.weights or config.initial_weights) is not None


def choose_block(config: Config) -> str:
    """Choose where the second stage begins: what was asked for, or the network's own."""
    return config.fine_tune_from or RATES[config.model].block


def check_start(config: Config) -> None:
    """Build once what training starts from, so that a fault in it is told before any work.

    Costs seconds, and nothing where all begins with random weights.

    Args:
        config: settled, see `workflows.settle_config`.

    Raises:
        ConnectionError: when ImageNet weights cannot be downloaded.
        FileNotFoundError: for a file that does not exist.
        ValueError: for a file of another network, or a layer that the network does not have.
    """
    if not (config.weights or config.initial_weights or config.end):
        return
    network = build_network(config, config.image_size)
    if config.initial_weights is not None:
        logger.info("%s: %s", config.initial_weights, _take_over(network, config))
    if is_pretrained(config):
        find_block(network, choose_block(config))


def start_network(config: Config) -> keras.Model:
    """Build the network that training starts from; what is pretrained of a backbone is frozen.

    Args:
        config: settled.
    """
    keras.utils.set_random_seed(config.seed)
    network = build_network(config, config.image_size)
    if config.initial_weights is not None:
        _take_over(network, config)
    return network


def _take_over(network, config):
    carried = carry_weights(read_model(config.initial_weights), network)
    if config.model != "cnn":
        _freeze_backbone(network, carried, config)
    return carried


def _freeze_backbone(network, carried, config):
    names = [layer.name for layer in network.layers]
    frozen = names[: names.index("features")]
    random = set(frozen) & set(carried.left)
    if random:
        raise ValueError(
            f"`initial_weights` must be a model of the same backbone. {len(random)} layers of "
            f"{config.model} are not in it. Received: initial_weights={config.initial_weights}"
        )
    for layer in network.layers[: len(frozen)]:
        layer.trainable = False


def build_network(config: Config, image_size: tuple[int, int]) -> keras.Model:
    """Build the network that a configuration describes, in the arithmetic it is trained in.

    Args:
        config: model, alpha, end, weights, stain_normalisation and precision are used.
        image_size: `(height, width)` in pixels.
    """
    extra = {} if config.model == "cnn" else {"weights": config.weights, "end": config.end}
    extra |= {"alpha": config.alpha} if config.model == "mobilenet" else {}
    network = MODELS[config.model](image_size, precision=settle_policy(config), **extra)
    if config.stain_normalisation is None:
        return network
    image = keras.Input((*image_size, 3), name="stained")
    # `call` lets the layers join the graph one by one, instead of nesting the network.
    probability = network.call(normalise_stain(image, config.stain_normalisation))
    stained = keras.Model(image, probability, name=network.name)
    return with_precision(stained, settle_policy(config))


def settle_policy(config: Config) -> str:
    """Name the Keras policy that a configuration is trained under on this machine."""
    return choose_precision(config.precision, depthwise=config.model in DEPTHWISE)
