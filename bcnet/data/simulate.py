"""The built-in data set: simulated cytology fields, drawn from measurements of real nuclei.

From a patient's 30 numbers to the files of a data set. The drawing knows the numbers only: a
label names the folder of a finished picture and reaches nothing else. What the numbers are is
said in `wisconsin` (definitions: Street, Wolberg and Mangasarian, 1993); how pictures are read
and split belongs elsewhere.

Lengths are in the unit of the measured radii, positions are complex numbers x + iy, and stains
are optical densities (base 10), which add up where stained things overlap.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.data.wisconsin import LICENCE, SOURCE, load_wisconsin

DRAWING_VERSION = 1  # raise it whenever the same seed gives other pictures: old sets are then stale
FIELD_WIDTH = 230.0  # fixed, so that size can be seen; 8 nuclei of the largest patient still fit
NUCLEI_PER_FIELD = (10, 20)  # alike for all patients: cellularity is not among the measurements
LARGEST_COVER = 0.42  # share of a field under nuclei, beyond which they no longer find room
OVERSAMPLING = 2  # shapes are filled at twice the size and averaged: smooth edges at little cost
OUTLINE_ANGLES = np.linspace(0, 2 * np.pi, 96, endpoint=False)
DENTS_PER_CONCAVE_POINT = 28  # concave points are a share of the outline; 0.2 gives 5 to 6 dents
DEPTH_PER_CONCAVITY = 1.5  # depth of a dent as a share of the radius
DEEPEST_DENT = 0.35  # deeper ones would cut a nucleus in two
ROUGHNESS_PER_SMOOTHNESS = 0.35  # ripple of the outline (standard deviation) as a share of radius
RIPPLES = np.arange(6, 20)  # waves around an outline: finer than its shape, coarser than a pixel
TYPICAL_RADIUS = 14.0  # of the 569 patients; a nucleus of this size has its laboratory's density
GRANULE = 1.8  # chromatin granules: about one pixel at 128, so that they survive the focus
GREY_PER_DENSITY = 60.0  # makes the grey values in drawn nuclei vary as measured, after the camera


@dataclass(frozen=True)
class Laboratory:
    """Describe how one simulated laboratory stains and photographs.

    Attributes:
        nucleus: optical density of a nucleus in red, green and blue.
        cytoplasm: likewise of the cytoplasm.
        background: colour of the empty slide, 0–255.
        falloff: share of the light lost half-way to a corner.
        focus: blur (standard deviation) in the unit of the measured radii.
        noise: noise of the camera (standard deviation) in grey values.
    """

    nucleus: tuple[float, float, float]
    cytoplasm: tuple[float, float, float]
    background: tuple[float, float, float]
    falloff: float
    focus: float
    noise: float


LABORATORIES = (
    # haematoxylin and eosin
    Laboratory((0.44, 0.55, 0.24), (0.10, 0.30, 0.12), (243, 238, 242), 0.06, 0.8, 2.5),
    # Diff-Quik
    Laboratory((0.52, 0.46, 0.17), (0.24, 0.18, 0.05), (228, 230, 238), 0.12, 0.9, 3.0),
    # Papanicolaou
    Laboratory((0.55, 0.43, 0.26), (0.30, 0.12, 0.14), (238, 242, 236), 0.04, 0.7, 2.0),
    # haematoxylin and eosin, faded, under a warm lamp
    Laboratory((0.36, 0.50, 0.31), (0.08, 0.24, 0.20), (250, 240, 226), 0.09, 1.0, 3.5),
)


def simulate(
    output: str | os.PathLike,
    *,
    images_per_patient: int = 4,
    image_size: int = 128,
    seed: int = 0,
    patients: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write the simulated data set: pictures by class, nuclei masks and `dataset.json`.

    The pictures are simulated, the 569 patients and their measurements are real (see `wisconsin`).
    A patient's pictures come from one of four simulated laboratories, chosen without regard to
    the label. The same arguments give the same bytes, whatever the number of processors, and a
    picture does not depend on how many others are drawn. The folder appears when it is complete;
    one that already holds this very set is left as it is.

    Args:
        output: folder to write; new, empty, or written by an earlier, equal call.
        images_per_patient: fields drawn for each patient.
        image_size: width and height of a picture in pixels, at least 32; the field scales with it.
        seed: any integer ≥ 0.
        patients: how many patients to draw, chosen by seed with the classes in proportion;
            all 569 when None.
        progress: called with the number of pictures written since its last call.

    Returns:
        The folder, with `benign/`, `malignant/` and `masks/` (255 = nucleus). Files are named
        `sim-<patient>-lab<1–4>-<field>.png`, a mask as its picture.

    Raises:
        ValueError: an argument is out of its range.
        FileExistsError: the folder holds anything else.

    Example:
        >>> folder = simulate("dataset/simulated", patients=40, images_per_patient=2)
        >>> len(list(folder.glob("benign/*.png"))), len(list(folder.glob("malignant/*.png")))
        (50, 30)
    """
    table = load_wisconsin()
    patients = len(table) if patients is None else patients
    _check_at_least("images_per_patient", images_per_patient, 1)
    _check_at_least("image_size", image_size, 32)
    _check_at_least("seed", seed, 0)
    _check_at_least("patients", patients, 1)
    if patients > len(table):
        raise ValueError(f"`patients` must be at most {len(table)}. Received: patients={patients}")
    output = Path(output)
    description = _describe(patients, images_per_patient, image_size, seed)
    if not _holds(output, description):
        table["laboratory"] = assign_laboratories(len(table), seed)
        _write_set(output, choose_patients(table, patients, seed), description, progress)
    return output


def choose_patients(table: pd.DataFrame, patients: int, seed: int) -> pd.DataFrame:
    """Choose patients for the simulated set by chance, with the classes in proportion.

    Each class is shuffled and spread evenly over the unit interval; the first patients along it
    are taken. A smaller choice is therefore always part of a larger one.

    Args:
        table: one row per patient, with `label`.
        patients: how many rows to return, 1 to `len(table)`.
        seed: any integer ≥ 0.

    Returns:
        The chosen rows, in the order of the choice.

    Example:
        >>> table = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1]})
        >>> int(choose_patients(table, 3, seed=0)["label"].sum())
        1
    """
    shuffled = table.sample(frac=1, random_state=seed)
    by_label = shuffled.groupby("label")["label"]
    place = (by_label.cumcount() + 0.5) / by_label.transform("size")
    return shuffled.loc[place.sort_values(kind="stable").index[:patients]]


def assign_laboratories(patients: int, seed: int) -> np.ndarray:
    """Assign every patient one of the simulated laboratories, in equal shares and by chance.

    Args:
        patients: number of patients.
        seed: any integer ≥ 0.

    Returns:
        int, shape (patients,): index into `LABORATORIES`.

    Example:
        >>> sorted(assign_laboratories(8, seed=0).tolist())
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    return np.random.default_rng(seed).permutation(patients) % len(LABORATORIES)


def draw_field(
    measurements: Mapping[str, float],
    laboratory: Laboratory,
    *,
    image_size: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one simulated cytology field from a patient's measurements.

    Args:
        measurements: the 30 numbers under scikit-learn's names, such as `"worst radius"`.
        laboratory: how the field is stained and photographed.
        image_size: width and height in pixels.
        rng: source of all chance; its state alone decides between fields of one patient.

    Returns:
        The picture, RGB uint8 (image_size, image_size, 3), and the mask of the nuclei, uint8
        (image_size, image_size), 255 = nucleus.

    Example:
        >>> row = load_wisconsin().loc[0]
        >>> rng = np.random.default_rng(0)
        >>> image, mask = draw_field(row, LABORATORIES[0], image_size=64, rng=rng)
        >>> image.shape, mask.shape
        ((64, 64, 3), (64, 64))
    """
    nuclei = sample_nuclei(measurements, rng)
    centres = place_nuclei(nuclei["radius"], rng)
    outlines = centres[:, None] + draw_outlines(nuclei, rng)
    numbers = _fill(outlines, OVERSAMPLING * image_size)
    cells = _fill(_draw_cells(centres, nuclei["radius"], rng), OVERSAMPLING * image_size)
    chromatin = _shrink(_stain_nuclei(numbers, nuclei["radius"], nuclei["texture"], rng))
    cytoplasm = _shrink(_stain_cytoplasm(cells, numbers, rng))
    image = _photograph(chromatin, cytoplasm, laboratory, rng)
    mask = np.where(_fill(outlines, image_size) > 0, 255, 0).astype(np.uint8)
    return image, mask


def sample_nuclei(
    measurements: Mapping[str, float], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw the simulated nuclei of one field so that their statistics are the patient's.

    Args:
        measurements: the 30 numbers under scikit-learn's names.
        rng: source of chance.

    Returns:
        For each quantity that the drawing uses (perimeter and area follow from the outline) a
        float array (n_nuclei,), 8 to 20 nuclei.

    Example:
        >>> nuclei = sample_nuclei(load_wisconsin().loc[0], np.random.default_rng(0))
        >>> round(float(np.sort(nuclei["radius"])[-3:].mean()), 2)  # the "worst radius"
        25.38
    """
    room = LARGEST_COVER * FIELD_WIDTH**2 / (np.pi * measurements["mean radius"] ** 2)
    count = min(int(rng.integers(*NUCLEI_PER_FIELD, endpoint=True)), int(room))
    nuclei = {}
    # concavity, concave points and compactness go together: a deep dent is all three
    for together in (
        ("radius",),
        ("texture",),
        ("smoothness",),
        ("symmetry",),
        ("fractal dimension",),
        ("concavity", "concave points", "compactness"),
    ):
        order = rng.permutation(count)
        for name in together:
            statistics = (f"mean {name}", f"{name} error", f"worst {name}")
            nuclei[name] = spread_values(*(measurements[key] for key in statistics), count)[order]
    return nuclei


def spread_values(mean: float, error: float, worst: float, count: int) -> np.ndarray:
    """Spread values that have a stated mean, standard error and mean of the three largest.

    The simulated nuclei of a field. Three values lie around `worst`; the others lie evenly around
    what the mean leaves for them, as wide as the standard error says (√count × error), but below
    the three and within half of their own centre. Where the three alone exceed the mean of all
    (a patient's extremes come from more nuclei than fit one field), the others stay at a third
    of the mean and the mean is missed.

    Args:
        mean: mean of the quantity, ≥ 0.
        error: its standard error, ≥ 0.
        worst: mean of its three largest values, ≥ `mean`.
        count: number of values, at least 4.

    Returns:
        float (count,), ascending.

    Example:
        >>> spread_values(10.0, 1.0, 14.0, 8).round(1).tolist()
        [3.8, 5.7, 7.6, 9.5, 11.4, 13.0, 14.0, 15.0]
    """
    largest = worst + min(error, (worst - mean) / 4) * np.array([-1.0, 0.0, 1.0])
    others = max((count * mean - 3 * worst) / (count - 3), mean / 3)
    # evenly spread values reach √3 standard deviations to either side
    reach = min(np.sqrt(3 * count) * error, largest[0] - others, others / 2)
    return np.concatenate([others + np.linspace(-reach, reach, count - 3), largest])


def draw_outlines(nuclei: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Draw the outlines of simulated nuclei around the origin.

    Compactness (perimeter² / area) stretches a circle to an ellipse, asymmetry gives it three
    corners, smoothness (local variation of the radius) ripples it, the finer the higher the
    fractal dimension, and each concave point is a dent as deep as the concavity. The mean
    radial length is then exactly the radius, which is its definition.

    Args:
        nuclei: as from `sample_nuclei`.
        rng: source of chance: phases, dents, and the direction of each nucleus.

    Returns:
        complex (n_nuclei, 96).

    Example:
        >>> nuclei = sample_nuclei(load_wisconsin().loc[0], np.random.default_rng(0))
        >>> outlines = draw_outlines(nuclei, np.random.default_rng(0))
        >>> bool(np.allclose(np.abs(outlines).mean(axis=1), nuclei["radius"]))
        True
    """
    column = {name: values[:, None] for name, values in nuclei.items()}
    stretch = 1 + 1.2 * np.minimum(column["compactness"], 0.6)
    lengths = np.hypot(np.cos(OUTLINE_ANGLES) / stretch, np.sin(OUTLINE_ANGLES)) ** -1
    phase = rng.uniform(0, 2 * np.pi, stretch.shape)
    lengths += 0.25 * column["symmetry"] * np.cos(3 * OUTLINE_ANGLES - phase)
    lengths += _draw_ripples(nuclei["smoothness"], nuclei["fractal dimension"], rng)
    lengths -= _draw_dents(nuclei["concave points"], nuclei["concavity"], rng)
    lengths *= column["radius"] / lengths.mean(axis=1, keepdims=True)
    return lengths * np.exp(1j * (OUTLINE_ANGLES + rng.uniform(0, 2 * np.pi, stretch.shape)))


def _draw_ripples(smoothness, fractal_dimension, rng):
    # a steeper spectrum means coarser ripples: 0.05 -> k^-1.7, 0.10 -> k^-1
    spectrum = RIPPLES ** (14 * fractal_dimension[:, None] - 2.4)
    spectrum /= np.sqrt((spectrum**2).sum(axis=1, keepdims=True) / 2)  # standard deviation 1
    phase = rng.uniform(0, 2 * np.pi, spectrum.shape)
    waves = np.cos(RIPPLES[:, None] * OUTLINE_ANGLES + phase[..., None])
    ripples = (spectrum[..., None] * waves).sum(axis=1)
    return ROUGHNESS_PER_SMOOTHNESS * smoothness[:, None] * ripples


def _draw_dents(concave_points, concavity, rng):
    expected = DENTS_PER_CONCAVE_POINT * concave_points
    dents = np.floor(expected + rng.uniform(size=len(expected))).astype(int)[:, None]
    slot = np.arange(max(dents.max(), 1))
    shape = (len(dents), len(slot))
    spacing = 2 * np.pi / np.maximum(dents, 1)
    at = (slot + rng.uniform(-0.25, 0.25, shape)) * spacing
    depth = np.minimum(DEPTH_PER_CONCAVITY * concavity, DEEPEST_DENT)[:, None]
    depth = np.where(slot < dents, depth * rng.uniform(0.8, 1.2, shape), 0)
    width = np.clip(0.22 * spacing, 0.2, 0.42)[..., None]
    distance = np.angle(np.exp(1j * (OUTLINE_ANGLES - at[..., None])))  # the short way round
    return (depth[..., None] * np.exp(-0.5 * (distance / width) ** 2)).sum(axis=1)


def place_nuclei(radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place simulated nuclei in the field, the largest first, with few overlaps.

    Each takes the first of 40 chance places that keeps a little distance from all others, else
    the least crowded. Centres may lie near the edge, where a nucleus is partly cut off.

    Args:
        radii: float (n_nuclei,), in the unit of `FIELD_WIDTH`.
        rng: source of chance.

    Returns:
        complex (n_nuclei,), both parts between 0 and `FIELD_WIDTH`.

    Example:
        >>> centres = place_nuclei(np.array([10.0, 10.0]), np.random.default_rng(0))
        >>> bool(abs(centres[0] - centres[1]) > 20)
        True
    """
    centres = np.empty(len(radii), complex)
    largest_first = np.argsort(-radii, kind="stable")
    for rank, nucleus in enumerate(largest_first):
        margin = 0.5 * radii[nucleus]
        places = rng.uniform(margin, FIELD_WIDTH - margin, (40, 2)) @ (1, 1j)
        others = largest_first[:rank]
        gaps = np.abs(places[:, None] - centres[others]) - radii[others] - radii[nucleus]
        gap = gaps.min(axis=1, initial=FIELD_WIDTH)
        roomy = gap > 0.15 * radii[nucleus]
        centres[nucleus] = places[roomy.argmax() if roomy.any() else gap.argmax()]
    return centres


def _draw_cells(centres, radii, rng):
    # the width of the cytoplasm is not measured: alike for all nuclei
    shape = (len(radii), 1)
    around = radii[:, None] + rng.uniform(5, 13, shape)
    tilt = rng.uniform(0, 0.2, shape) * np.exp(1j * rng.uniform(0, 2 * np.pi, shape))
    circle = np.exp(1j * OUTLINE_ANGLES[::4])
    return (
        centres[:, None]
        + rng.normal(0, 2, (*shape, 2)) @ (1, 1j)
        + around * (circle + tilt * circle.conj())
    )


def _fill(outlines, size):
    """Return uint8 (size, size): 0 outside of all outlines, i + 1 inside outline i."""
    numbers = np.zeros((size, size), np.uint8)
    pixel = FIELD_WIDTH / size
    outward = outlines - outlines.mean(axis=1, keepdims=True)
    # fillPoly also paints every pixel that the outline touches: half a pixel too much
    outlines = outlines - 0.5 * pixel * outward / np.abs(outward)
    # it counts in sixteenths of a pixel, from the middle of the first one
    corners = (np.stack([outlines.real, outlines.imag], axis=-1) / pixel - 0.5) * 16
    for number, polygon in enumerate(np.round(corners).astype(np.int32), start=1):
        cv2.fillPoly(numbers, [polygon], number, shift=4)
    return numbers


def _stain_nuclei(numbers, radii, texture, rng):
    unit = len(numbers) / FIELD_WIDTH
    texture = np.append(0, texture).astype(np.float32)[numbers]
    # a smear holds whole nuclei, not sections: a larger one is thicker, though flattened
    tone = np.sqrt(radii / TYPICAL_RADIUS) * rng.normal(1, 0.05, len(radii))
    tone = np.append(0, tone).astype(np.float32)[numbers]
    depth = cv2.distanceTransform((numbers > 0).astype(np.uint8), cv2.DIST_L2, 3)
    membrane = 0.25 * np.exp(-depth / (1.4 * unit))
    granules = texture / GREY_PER_DENSITY * _draw_noise(numbers.shape, GRANULE * unit, rng)
    return tone * np.maximum(1 + membrane + granules, 0.1)


def _stain_cytoplasm(cells, numbers, rng):
    unit = len(cells) / FIELD_WIDTH
    cover = cv2.GaussianBlur((cells > 0).astype(np.float32), (0, 0), 2 * unit)
    cover *= 1 - 0.6 * (numbers > 0)  # a nucleus leaves little cytoplasm above and below it
    clouds = rng.standard_normal((12, 12), dtype=np.float32)
    clouds = cv2.resize(clouds, cells.shape, interpolation=cv2.INTER_CUBIC)
    grain = _draw_noise(cells.shape, 1.8 * unit, rng)
    return np.maximum(cover * (1 + 0.18 * clouds + 0.12 * grain) + 0.03 * (1 + clouds), 0)


def _draw_noise(shape, scale, rng):
    noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), scale)
    return noise / noise.std()


def _shrink(canvas):
    size = len(canvas) // OVERSAMPLING
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _photograph(chromatin, cytoplasm, laboratory, rng):
    size = len(chromatin)
    density = chromatin[..., None] * np.float32(laboratory.nucleus)
    density += cytoplasm[..., None] * np.float32(laboratory.cytoplasm)
    image = np.float32(laboratory.background) * 10 ** (-np.float32(rng.normal(1, 0.06)) * density)
    focus = laboratory.focus * rng.uniform(0.8, 1.25) * size / FIELD_WIDTH
    image = cv2.GaussianBlur(image, (0, 0), focus)
    lamp = rng.uniform(-0.3, 0.3, 2)[:, None]
    down, right = (np.linspace(-1, 1, size) - lamp) ** 2
    light = 1 - laboratory.falloff / 2 * (down[:, None] + right)
    image = image * light[..., None] * rng.normal(1, 0.02) * rng.normal(1, 0.012, 3)
    image += rng.normal(0, laboratory.noise, (size, size, 1))
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _check_at_least(name, value, low):
    if value < low:
        raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value}")


def _describe(patients, images_per_patient, image_size, seed):
    return {
        "name": "simulated",
        "source": f"Simulated by bcnet; drawn from the measurements of {SOURCE}",
        "licence": f"{LICENCE} (the measurements)",
        "modality": "tissue",
        "negative": "benign lesion",
        "simulated": True,
        "drawing_version": DRAWING_VERSION,
        "patients": patients,
        "images_per_patient": images_per_patient,
        "image_size": image_size,
        "seed": seed,
    }


def _holds(output, description):
    """Return whether the folder holds this very set; refuse one that holds anything else."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    card = output / "dataset.json"
    try:
        equal = json.loads(card.read_text(encoding="utf-8")) == description
    except (OSError, ValueError):
        equal = False
    masks, pictures = (
        {path.name for folder in folders for path in output.glob(f"{folder}/*.png")}
        for folders in (("masks",), CLASS_NAMES)
    )
    expected = description["patients"] * description["images_per_patient"]
    if equal and masks == pictures and len(pictures) == expected:
        return True
    raise FileExistsError(
        f"{output} is not empty and does not hold the simulated set that was asked for; "
        "name another folder or remove it."
    )


def _write_set(output, table, description, progress):
    """Draw beside the place and move there at the end: an interruption leaves no half set."""
    output.parent.mkdir(parents=True, exist_ok=True)
    new = not output.exists()
    # an existing folder may be mounted or be the working folder: it is filled, not replaced
    place = output.parent if new else output
    with tempfile.TemporaryDirectory(dir=place, prefix=".simulate-") as scratch:
        folder = Path(scratch, "simulated")
        _write_pictures(folder, table, description, progress)
        words = json.dumps(description, indent=2)
        (folder / "dataset.json").write_text(words, encoding="utf-8")
        if new:
            os.replace(folder, output)
        else:
            for name in ("masks", *CLASS_NAMES, "dataset.json"):  # without the last: not ours
                os.replace(folder / name, output / name)


def _write_pictures(folder, table, description, progress):
    for name in (*CLASS_NAMES, "masks"):
        (folder / name).mkdir(parents=True)

    names = ["patient_id", "label", "laboratory"]
    people = table[names].to_dict("records")
    measurements = table.drop(columns=names).to_dict("records")  # all that the drawing gets
    fields = range(1, description["images_per_patient"] + 1)

    def draw(task):
        (person, numbers), field = task
        rng = np.random.default_rng([description["seed"], int(person["patient_id"]), field])
        laboratory = LABORATORIES[person["laboratory"]]
        size = description["image_size"]
        image, mask = draw_field(numbers, laboratory, image_size=size, rng=rng)
        name = f"sim-{person['patient_id']}-lab{person['laboratory'] + 1}-{field}.png"
        _write_png(folder / CLASS_NAMES[person["label"]] / name, image[..., ::-1])
        _write_png(folder / "masks" / name, mask)

    tasks = product(zip(people, measurements, strict=True), fields)
    # threads: drawing leaves the interpreter's lock most of the time, and forking after
    # TensorFlow has started would hang; closing() drops what is queued after an error
    with ThreadPoolExecutor(os.cpu_count()) as pool, closing(pool.map(draw, tasks)) as drawn:
        for _ in drawn:
            if progress:
                progress(1)


def _write_png(path, pixels):
    _, encoded = cv2.imencode(".png", pixels)
    path.write_bytes(encoded)  # unlike imwrite, says why when the disk is full
