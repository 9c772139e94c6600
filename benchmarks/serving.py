"""The web page under load: one picture's time, many clients at once, memory.

Belongs here: a real server in a process of its own, asked over loopback as any program would.
Does not: the speed of the network alone (`inference.py`) or of folders (`scoring.py`).
`python benchmarks/serving.py --help` says how to run it.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import requests
from rounds import describe_machine, make_parser, read_count, run_script, time_call

SIDES = (460, 700)  # a field of BreaKHis, as cameras on microscopes give them

# Starts the server as `bcnet serve` does, without the limit that one user has in a minute.
START = """
import sys
from bcnet.web import Settings, serve
limit = 10**9
serve(Settings(models=sys.argv[2:], instance=sys.argv[1], port=0, uploads_per_minute=limit),
      tell=lambda address: print(address, flush=True))
"""


def run(options: argparse.Namespace, scratch: Path) -> dict:
    """Start a server, measure it, stop it.

    Args:
        options: what was typed.
        scratch: folder for the server's database and key.

    Returns:
        Figures by name; seconds are named so, memory is in MiB.
    """
    content = make_picture()
    print(describe_machine())
    begun = time.perf_counter()
    command = [sys.executable, "-c", START, str(scratch), options.model]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        root = server.stdout.readline().strip().rstrip("/")
        check(ask_api(root, content))
        figures = {"start_to_first_answer_s": time.perf_counter() - begun}
        figures |= measure_one(root, content, options.rounds)
        figures |= soak(root, content, options.clients, options.seconds)
    finally:
        server.terminate()
        server.wait()
    figures["load"] = os.getloadavg()[0]
    print("\n".join(f"{name:>28} {value:10.3f}" for name, value in figures.items()))
    return figures


def make_picture() -> bytes:
    """Make a PNG of 700 × 460 pixels that compresses as badly as tissue does."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 256, (46, 70, 3), dtype=np.uint8)
    image = cv2.resize(coarse, SIDES[::-1], interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-12, 13, image.shape)
    return cv2.imencode(".png", np.clip(image + noise, 0, 255).astype(np.uint8))[1].tobytes()


def ask_api(root: str, content: bytes) -> requests.Response:
    """Ask the API about one picture."""
    return requests.post(f"{root}/api/v1/predict", files={"file": ("a.png", content)}, timeout=120)


def check(response: requests.Response) -> None:
    """Raise unless the picture was answered."""
    response.raise_for_status()
    if response.json()["results"][0]["probability"] is None:
        raise RuntimeError(response.text)


def measure_one(root: str, content: bytes, rounds: int) -> dict:
    """Time one warm picture after the other, by the API and by the page with its overlay."""
    browser = requests.Session()
    form = browser.get(f"{root}/", timeout=120).text
    token = {"csrf_token": re.search(r'csrf_token" value="([^"]+)"', form)[1]}

    def ask_page():
        files = {"file": ("a.png", content)}
        response = browser.post(f"{root}/", data=token, files=files, timeout=120)
        response.raise_for_status()

    return {
        "api_median_s": time_median(lambda: check(ask_api(root, content)), rounds),
        "page_median_s": time_median(ask_page, rounds),
    }


def time_median(call: Callable, rounds: int) -> float:
    """Time a call when warm: the median of some rounds, after three that do not count."""
    return float(np.median([time_call(call) for _ in range(rounds + 3)][3:]))


def soak(root: str, content: bytes, clients: int, seconds: float) -> dict:
    """Have many clients ask without pause, and watch errors and memory.

    Memory is called flat by its rise over the second half: in the first, pools fill.
    """
    times, errors, memory = [], [], []
    end = time.monotonic() + seconds

    def work():
        session = requests.Session()
        while time.monotonic() < end:
            begun = time.perf_counter()
            try:
                files = {"file": ("a.png", content)}
                check(session.post(f"{root}/api/v1/predict", files=files, timeout=120))
            except (requests.RequestException, RuntimeError) as error:
                errors.append(error)
            times.append(time.perf_counter() - begun)

    threads = [Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(read_memory(root))
        time.sleep(max(0.5, seconds / 60))
    for error in errors[:3]:
        print(f"error: {error}")
    middle = memory[len(memory) // 2]
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": len(times) - len(errors),
        "errors": len(errors),
        "answers_per_s": len(times) / seconds,
        "soak_median_s": float(np.median(times)),
        "soak_p95_s": float(np.quantile(times, 0.95)),
        "memory_mib": memory[-1],
        "memory_rise_mib": memory[-1] - middle,
    }


def read_memory(root: str) -> float:
    """Read from /metrics what the server's process holds, in MiB."""
    text = requests.get(f"{root}/metrics", timeout=120).text
    return int(re.search(r"process_resident_memory_bytes (\d+)", text)[1]) / 2**20


def make_options() -> argparse.ArgumentParser:
    """Make the parser of this script."""
    parser = make_parser(__doc__, "serving.py --seconds 120")
    parser.set_defaults(rounds=30)
    parser.add_argument("--model", default="idc", help="model file or name (%(default)s)")
    parser.add_argument("--clients", type=read_count, default=16, help="at once (%(default)s)")
    parser.add_argument("--seconds", type=read_count, default=120, help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(run_script(run, make_options().parse_args()))
