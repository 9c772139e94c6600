"""How others read pictures from files: PyTorch's loader, or a pool of threads.

Belongs here: from paths to batches, and the settings that one may choose from. Does not: bcnet's
own way, nor any network (`peers.py`).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

BATCH = 64  # better than 256 for PyTorch and ONNX Runtime where it was tried


def read_with_pillow(path: Path, image_size: tuple[int, int]) -> np.ndarray:
    """Read one picture as most code does: uint8 `(*image_size, 3)`."""
    with Image.open(path) as picture:
        picture = picture.convert("RGB")
    if picture.size != image_size[::-1]:
        picture = picture.resize(image_size[::-1])
    return np.array(picture)


def read_with_opencv(path: Path, image_size: tuple[int, int]) -> np.ndarray:
    """Read one picture in the fastest way that is at hand, without a check."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image.shape[:2] != image_size:
        image = cv2.resize(image, image_size[::-1], interpolation=cv2.INTER_AREA)
    return image


READERS = {"Pillow": read_with_pillow, "OpenCV": read_with_opencv}


class PictureFiles:
    """Files as PyTorch's `DataLoader` takes them.

    Args:
        paths: the files.
        image_size: `(height, width)` in pixels.
        read: one of `READERS`.
    """

    def __init__(self, paths: Sequence[Path], image_size: tuple[int, int], read: Callable):
        self.paths, self.image_size, self.read = paths, image_size, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> np.ndarray:
        return self.read(self.paths[position], self.image_size)


def load_with_torch(
    paths: Sequence[Path], image_size: tuple[int, int], read: Callable
) -> Iterable[np.ndarray]:
    """Load batches, tensors uint8 `(b, height, width, 3)`, with PyTorch's loader."""
    import torch
    from torch.utils.data import DataLoader

    return DataLoader(
        PictureFiles(paths, image_size, read),
        batch_size=BATCH,
        collate_fn=lambda images: torch.from_numpy(np.stack(images)),
    )


def load_with_threads(
    paths: Sequence[Path], image_size: tuple[int, int], read: Callable
) -> Iterable[np.ndarray]:
    """Load batches, uint8 `(b, height, width, 3)`, in a thread per core that runs ahead."""
    files = PictureFiles(paths, image_size, read)

    def load(start):
        return np.stack([files[i] for i in range(start, min(start + BATCH, len(files)))])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(load, range(0, len(files), BATCH))


THREAD_LOADERS = {
    f"{name} in threads": partial(load_with_threads, read=read) for name, read in READERS.items()
}
"""What a peer without a loader of its own may choose from: OpenCV needs no lock of Python's."""

TORCH_LOADERS = THREAD_LOADERS | {
    f"{name} in DataLoader": partial(load_with_torch, read=read) for name, read in READERS.items()
}
"""What PyTorch may choose from. Its worker processes would each have to start TensorFlow, too."""
