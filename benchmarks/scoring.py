"""Speed of scoring a folder of pictures into a CSV: bcnet against other ways, the same network.

Belongs here: the whole way from files to a table, what limits it, what memory it holds, and a
single picture. Does not: training (`training.py`) and the network alone (`inference.py`). All work
in one process and in turn. `python benchmarks/scoring.py --help` says how to run it.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from loaders import THREAD_LOADERS, TORCH_LOADERS, load_with_threads, read_with_opencv
from peers import build_network, run_onnxruntime, run_openvino, run_torch, write_onnx
from pictures import prepare, repeat_pictures
from rounds import (
    add_pictures,
    describe_machine,
    find_version,
    format_header,
    format_row,
    make_parser,
    read_count,
    run_script,
    summarise,
    take_turns,
    time_call,
)

from bcnet import workflows
from bcnet.classifier import Classifier
from bcnet.data.pipeline import read_batch, stream_samples
from bcnet.inputs import list_inputs, read_input

PRECISIONS = ("float32", "bfloat16")
KERAS_BATCHES = (32, 256)  # its default, and what wastes the least on calls

TRIED = 3000  # pictures on which each peer tries its settings; on fewer, chance chose
FEW = 1000  # pictures of the smaller folder of the memory test

# Speed depends on no threshold, but a card has one.
CARD = {"threshold": {"value": 0.5}}

# Prints what a process that scores a folder holds at most, in MiB.
MEMORY_PROBE = f"""
import resource, sys, keras
from bcnet import workflows
from bcnet.classifier import Classifier
classifier = Classifier(keras.models.load_model(sys.argv[1]), {CARD})
workflows.predict(classifier, sys.argv[2], output=sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

Score = Callable[[Path, Path], None]
"""Scores a folder (the first) into a CSV (the second)."""


def write_csv(path: Path, names: Iterable, parts: Iterable[np.ndarray]) -> None:
    """Write what a peer has to say, one line per picture."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "probability"])
        writer.writerows(zip(names, np.concatenate(list(parts)).tolist(), strict=True))


def score_with_keras(folder: Path, output: Path, *, network: keras.Model, batch_size: int) -> None:
    """Score a folder as the tutorials do."""
    ds = keras.utils.image_dataset_from_directory(
        folder,
        image_size=network.input_shape[1:3],
        batch_size=batch_size,
        shuffle=False,
        verbose=False,
    )
    write_csv(output, ds.file_paths, [network.predict(ds, verbose=0)[:, 0]])


def score_with_loader(folder: Path, output: Path, *, load: Callable, score: Callable) -> None:
    """Score a folder batch by batch: `load` gives batches, `score` their probabilities."""
    paths = sorted(folder.glob("*/*"))
    write_csv(output, paths, [score(batch) for batch in load(paths)])


def list_peers(network: keras.Model, scratch: Path) -> dict[str, dict[str, Score]]:
    """List the peers that are installed, each with the settings that it may choose from.

    Args:
        network: what all of them run.
        scratch: a folder for its ONNX file.
    """
    image_size = network.input_shape[1:3]
    keras_settings = {
        f"batches of {size}": partial(score_with_keras, network=network, batch_size=size)
        for size in KERAS_BATCHES
    }
    found = {"keras_float32": keras_settings}
    for name, (score, loaders) in _run_peers(network, scratch).items():
        found[name] = {
            words: partial(
                score_with_loader, load=partial(load, image_size=image_size), score=score
            )
            for words, load in loaders.items()
        }
    return found


def _run_peers(network, scratch):
    """By peer, the network and the loaders for it."""
    found = {}
    if find_version("torch"):
        for precision in PRECISIONS:
            found[f"torch_{precision}"] = run_torch(network, precision), TORCH_LOADERS
    if find_version("onnxruntime"):
        score = run_onnxruntime(write_onnx(network, scratch / "network.onnx"))
        found["onnxruntime_float32"] = score, THREAD_LOADERS
    if find_version("openvino"):
        path = write_onnx(network, scratch / "network.onnx")
        for precision in PRECISIONS:
            found[f"openvino_{precision}"] = run_openvino(path, precision), THREAD_LOADERS
    return found


def choose_setting(settings: dict[str, Score], folder: Path, output: Path) -> str:
    """Let a peer try its settings, once to warm up and twice to count; name the fastest."""
    seconds = {
        words: [time_call(partial(score, folder, output)) for _ in range(3)]
        for words, score in settings.items()
    }
    return min(seconds, key=lambda words: min(seconds[words][1:]))


def make_jobs(classifier: Classifier, folder: Path, output: Path) -> dict[str, Callable]:
    """Make bcnet's jobs: the whole way, and what limits it – reading alone, the network alone."""
    samples = list_inputs(folder).samples
    batch = read_batch(samples[: classifier.batch_size], classifier.image_size, read=read_input)
    images = np.resize(batch.images, (len(samples), *batch.images.shape[1:]))
    paths = [path for (path,) in samples]
    load = partial(load_with_threads, image_size=classifier.image_size)
    jobs = {
        "reading_bcnet": partial(_exhaust, partial(_stream, classifier, samples)),
        "reading_opencv": partial(_exhaust, partial(load, paths, read=read_with_opencv)),
    }
    for precision in PRECISIONS:
        jobs[f"network_{precision}"] = partial(
            classifier.predict_images, images, precision=precision
        )
        jobs[f"bcnet_{precision}"] = partial(
            workflows.predict, classifier, folder, output=output, precision=precision
        )
    return jobs


def _stream(classifier, samples):
    return stream_samples(
        samples,
        classifier.image_size,
        batch_size=classifier.batch_size,
        read=read_input,
        hashed=False,
    )


def _exhaust(make_stream):
    for _ in make_stream():
        pass


def pair_seconds(
    seconds: dict[str, list[float]], peers: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Pair bcnet's seconds, round by round, with those of the peers and with the limit.

    The limit is reading (the faster of two ways) and the network, each alone on all cores, one
    after the other: in pictures per second 1 / (1 / reading + 1 / network).

    Args:
        seconds: as `take_turns` gives them for `make_jobs` and the peers.
        peers: their names, which end in their precision.

    Returns:
        The pairs by case. In float32, peers of less precision are no match.

    Example:
        >>> seconds = {"reading_bcnet": [1.0], "reading_opencv": [2.0], "keras_float32": [8.0]}
        >>> seconds |= {"network_float32": [2.0], "bcnet_float32": [4.0]}
        >>> seconds |= {"network_bfloat16": [1.0], "bcnet_bfloat16": [2.0]}
        >>> pair_seconds(seconds, ["keras_float32"])["float32_limit"]
        [(4.0, 3.0)]
    """
    pairs = {}
    reading = list(map(min, seconds["reading_bcnet"], seconds["reading_opencv"]))
    for precision in PRECISIONS:
        ours = seconds[f"bcnet_{precision}"]
        for name in peers:
            if precision == "bfloat16" or name.endswith("float32"):
                pairs[f"{precision}_vs_{name}"] = list(zip(ours, seconds[name], strict=True))
        limit = [sum(parts) for parts in zip(reading, seconds[f"network_{precision}"], strict=True)]
        pairs[f"{precision}_limit"] = list(zip(ours, limit, strict=True))
    return pairs


def time_one_picture(classifier: Classifier, content: bytes, rounds: int) -> list[tuple]:
    """Time a single warm picture, from bytes to probability, a few times a round.

    Returns:
        For each round the seconds of bcnet and of Keras as the tutorials call it.
    """

    def score_as_tutorial():
        image = keras.utils.load_img(BytesIO(content), target_size=classifier.image_size)
        classifier.model.predict(keras.utils.img_to_array(image)[None], verbose=0)

    jobs = {
        "ours": partial(time_call, partial(classifier.predict, content)),
        "peer": partial(time_call, score_as_tutorial),
    }
    seconds = take_turns(jobs, 10 * rounds)
    return list(zip(seconds["ours"], seconds["peer"], strict=True))


def measure_memory(network: keras.Model, folder: Path, scratch: Path, many: int) -> dict:
    """Measure what a process holds at most that scores `many` and `FEW` pictures.

    Returns:
        An entry of the JSON: MiB for `many` as `ours` and for `FEW` as `peer`; the ratio is near 1
        where memory does not grow with the number of pictures.
    """
    model, output = scratch / "network.keras", scratch / "memory.csv"
    network.save(model)
    held = []
    for number in (many, FEW):
        target = repeat_pictures(folder, scratch / f"memory-{number}", number)
        command = [sys.executable, "-c", MEMORY_PROBE, model, target, output]
        probe = subprocess.run(command, capture_output=True, text=True)
        if probe.returncode:
            raise OSError(f"the process that measures memory failed: {probe.stderr[-300:]}")
        held.append(float(probe.stdout.split()[-1]))
    ours, peer = held
    return {"ours": ours, "peer": peer, "ratio": peer / ours, "precision": "float32"}


def compare(arguments: argparse.Namespace, network: keras.Model, folder: Path, scratch: Path):
    """Score a folder in all ways in turn; print and return what the JSON holds."""
    output, classifier = scratch / "scores.csv", Classifier(network, CARD)
    tried = repeat_pictures(folder, scratch / "tried", min(TRIED, arguments.pictures))
    scored = repeat_pictures(folder, scratch / "scored", arguments.pictures)
    jobs = make_jobs(classifier, scored, output)
    chosen = {}
    for name, settings in list_peers(network, scratch).items():
        chosen[name] = choose_setting(settings, tried, output)
        jobs[name] = partial(settings[chosen[name]], scored, output)
        print(f"{name:<30} takes {chosen[name]}", flush=True)
    seconds = take_turns(
        {name: partial(time_call, job) for name, job in jobs.items()}, arguments.rounds
    )
    results = {}
    for name, pairs in pair_seconds(seconds, list(chosen)).items():
        results[name] = summarise(pairs, arguments.pictures, name.split("_")[0])
        print(format_row(name, results[name], pairs))
    for name in [name for name in jobs if name.startswith(("reading", "network"))]:
        print(f"{name:<30} {arguments.pictures / np.median(seconds[name]):>22,.0f}")
    return results


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict]:
    """Measure everything, print the table while it grows, and return what the JSON holds."""
    manifest, pictures, folder = prepare(arguments, scratch)
    image_size = pictures.images.shape[1:3]
    network = build_network(image_size)
    print(describe_machine())
    print(
        f"pictures  {arguments.pictures:,} files, links to {len(pictures.images):,} of "
        f"{manifest.info.name}, {image_size[0]} × {image_size[1]} px"
    )
    print(f"medians of {arguments.rounds} rounds\n\n{format_header('pictures/s')}", flush=True)
    classifier, results = Classifier(network, CARD), {}
    if arguments.many:
        results["memory"] = measure_memory(network, folder, scratch, arguments.many)
        ours, peer = results["memory"]["ours"], results["memory"]["peer"]
        told = f"{ours:.0f} MiB for {arguments.many:,} pictures, {peer:.0f} MiB for {FEW:,}"
        print(f"{'memory':<30} {told}", flush=True)
    content = next(folder.glob("*/*")).read_bytes()
    pairs = time_one_picture(classifier, content, arguments.rounds)
    results["one_picture"] = summarise(pairs, 1, "float32")
    print(format_row("one_picture", results["one_picture"], pairs))
    print(f"{'':<30} {1000 / results['one_picture']['ours']:.1f} ms a picture", flush=True)
    return results | compare(arguments, network, folder, scratch)


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        "Time the scoring of a folder into a CSV by bcnet and by others.",
        "benchmarks/scoring.py dataset/ --rounds 3 --json scoring.json",
    )
    add_pictures(parser)
    parser.add_argument(
        "--pictures", type=read_count, metavar="N", default=10_000, help="to score (10000)"
    )
    parser.add_argument(
        "--many",
        type=int,
        metavar="N",
        default=100_000,
        help="of the memory test, against 1000 (100000; 0: without)",
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return run_script(run, parse_arguments(words))


if __name__ == "__main__":
    sys.exit(main())
