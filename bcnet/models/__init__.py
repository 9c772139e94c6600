"""The networks: each takes RGB 0–255 and answers with the probability of malignant.

What belongs here is the shape of a network: which layers, under which names, in which precision.
Training, files, thresholds and heatmaps live elsewhere. Only Keras is imported, so every network
also runs on its other backends (`KERAS_BACKEND=jax`).
"""

from bcnet.models.averaging import UNCHANGED, average_members, list_turns, turn_images
from bcnet.models.backbones import (
    BACKBONES,
    build_densenet121,
    build_efficientnet_b0,
    build_mobilenet,
    build_mobilenet_v2,
    build_resnet50,
    build_vgg16,
    find_downloaded,
)
from bcnet.models.cnn import build_cnn
from bcnet.models.parts import POLICIES, copy_weights, find_block, unfreeze, with_precision
from bcnet.models.transfer import Carried, carry_weights, split_head

MODELS = {
    "cnn": build_cnn,
    "vgg16": build_vgg16,
    "resnet50": build_resnet50,
    "mobilenet": build_mobilenet,
    "mobilenet_v2": build_mobilenet_v2,
    "efficientnet_b0": build_efficientnet_b0,
    "densenet121": build_densenet121,
}
"""The networks by the name a user types."""

__all__ = [
    "BACKBONES",
    "MODELS",
    "POLICIES",
    "UNCHANGED",
    "Carried",
    "average_members",
    "build_cnn",
    "build_densenet121",
    "build_efficientnet_b0",
    "build_mobilenet",
    "build_mobilenet_v2",
    "build_resnet50",
    "build_vgg16",
    "carry_weights",
    "copy_weights",
    "find_block",
    "find_downloaded",
    "list_turns",
    "split_head",
    "turn_images",
    "unfreeze",
    "with_precision",
]
