"""bcnet's network in terms of others: PyTorch, ONNX Runtime and OpenVINO.

Belongs here: the same layers and weights, run by someone else. Does not: how pictures reach them
(`loaders.py`). They are installed by `benchmarks/requirements.txt`, never by the project, and
imported only where they are used: ask `rounds.find_version` first.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from bcnet.models import build_cnn


def build_torch_network(network: keras.Model):
    """Write bcnet's small network in PyTorch, with the same weights.

    Args:
        network: as `bcnet.models.build_cnn` builds it, of any widths.

    Returns:
        A `torch.nn.Module` in channels-last order, from float32 `(b, 3, height, width)` in 0–255
        to logits `(b, 1)`.

    Raises:
        ValueError: for a layer of another kind.
    """
    import torch

    parts = [part for layer in network.layers for part in _translate(layer)]
    return torch.nn.Sequential(*parts).to(memory_format=torch.channels_last)


def _translate(layer):
    """The modules that do what one layer of Keras does."""
    from torch import nn

    kind = type(layer).__name__
    if kind == "Rescaling":
        return [_make_module(lambda x: x * layer.scale + layer.offset)]
    if kind == "Conv2D":
        return [_fill(nn.Conv2d(*layer.kernel.shape[2:], 3, padding=1), layer), nn.ReLU()]
    if kind == "Dense":
        linear = _fill(nn.Linear(*layer.kernel.shape), layer)
        return [linear, nn.ReLU()] if layer.activation.__name__ == "relu" else [linear]
    if kind == "MaxPooling2D":
        return [nn.MaxPool2d(2)]
    if kind == "BatchNormalization":
        return [_fill_norm(nn.BatchNorm2d(layer.gamma.shape[0], layer.epsilon), layer)]
    if kind == "Concatenate":
        return [_make_module(_concatenate_mean_and_maximum)]
    if kind == "Dropout":
        return [nn.Dropout(layer.rate)]
    # The poolings are part of the concatenation; a logit needs no sigmoid to be trained.
    if kind in ("InputLayer", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Activation"):
        return []
    raise ValueError(f"a layer of kind {kind} has no counterpart in PyTorch here: {layer.name}")


def _make_module(function):
    from torch import nn

    module = nn.Module()
    module.forward = function
    return module


def _concatenate_mean_and_maximum(x):
    import torch

    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def _fill(module, layer):
    import torch

    kernel, bias = (torch.from_numpy(np.array(values)) for values in layer.get_weights())
    order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    module.weight.data, module.bias.data = kernel.permute(order).contiguous(), bias
    return module.requires_grad_(layer.trainable)


def _fill_norm(module, layer):
    import torch

    values = [torch.from_numpy(np.array(values)) for values in layer.get_weights()]
    module.weight.data, module.bias.data, module.running_mean, module.running_var = values
    module.momentum = 1 - layer.momentum
    return module


def run_torch(network: keras.Model, precision: str) -> Callable:
    """Compile the network for PyTorch, at its best setting: channels last, inference mode.

    Returns:
        A function from uint8 `(b, height, width, 3)` to float32 `(b,)` probabilities.
    """
    import torch

    module = build_torch_network(network).eval()

    def score(images):
        batch = torch.as_tensor(images).permute(0, 3, 1, 2).float()  # channels last as it is
        use_bfloat16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        with torch.inference_mode(), use_bfloat16:
            return torch.sigmoid(module(batch).float())[:, 0].numpy()

    return score


def write_onnx(network: keras.Model, path: Path) -> Path:
    """Write the network for ONNX Runtime and OpenVINO; return the path."""
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # only what has run is exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its converter knows older NumPys
        network.export(path, format="onnx", verbose=False)
    return path


def run_onnxruntime(path: Path, precision: str = "float32") -> Callable:
    """As `run_torch`, from an ONNX file; float32 is all it computes convolutions in on a CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.astype(np.float32)})[0][:, 0]


def run_openvino(path: Path, precision: str) -> Callable:
    """As `run_torch`, from an ONNX file."""
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    settings = {"INFERENCE_PRECISION_HINT": hint}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda images: compiled(images.astype(np.float32))[0][:, 0]


def build_network(image_size: tuple[int, int]) -> keras.Model:
    """Build what is compared: bcnet's small network, its batch normalisation not at rest.

    Fresh statistics (mean 0, variance 1) would hide a mistake in translating them.
    """
    network = build_cnn(image_size)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, values.shape) for values in layer.weights])
    return network
