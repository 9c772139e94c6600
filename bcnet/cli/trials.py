"""Commands that put models to the test: worse pictures, each other, and tests that are none."""

import argparse

from bcnet.cli.options import (
    add_command,
    add_data,
    add_json,
    add_record,
    add_trial,
    read_data,
    write_json,
)
from bcnet.cli.startup import import_workflows, load_classifier


def add_commands(commands) -> None:
    """Add stress, compare and leak-demo."""
    _add_stress(commands)
    _add_compare(commands)
    _add_leak_demo(commands)


def _add_stress(commands):
    command = add_command(
        commands,
        "stress",
        _run_stress,
        "judge a model as its test pictures get bluer, darker, blurred … (exit status 1: it has "
        "seen some)",
        "bcnet stress models/mine.keras dataset/ --plots figures/",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    add_data(command)
    command.add_argument("--split", metavar="CSV", help="which picture stands where")
    command.add_argument(
        "--limit",
        type=_parse_count,
        metavar="N",
        help="judge at most N pictures, of whole patients",
    )
    command.add_argument("--plots", metavar="DIR", help="also draw the figure there")
    add_record(command)
    add_trial(command)
    add_json(command)


def _parse_count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Received: {text}")
    return int(text)


def _run_stress(options):
    classifier = load_classifier(options.model)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.evaluate.robustness import format_stress
    from bcnet.workflows.ancestry import tell_seen

    result = workflows.stress(
        classifier,
        manifest,
        split=options.split,
        limit=options.limit,
        plots_folder=options.plots,
        allow_seen=options.allow_seen,
        precision=options.precision,
        progress=True,
    )
    print(f"{result['part']} ({result['data']}), {format_stress(result)}")
    if "seen" in result:
        print(tell_seen(result["seen"], result["n_images"]))
    write_json(options, result)
    if options.record:
        workflows.record_robustness(classifier, result)
        print(f"recorded in the card of {classifier.path}")


def _add_compare(commands):
    command = add_command(
        commands,
        "compare",
        _run_compare,
        "compare two models on patients that neither has seen (exit status 1: one has)",
        "bcnet compare models/old.keras models/new.keras dataset/",
    )
    command.add_argument("model_a", metavar="A", help="a .keras file")
    command.add_argument("model_b", metavar="B", help="another")
    add_data(command)
    command.add_argument("--split", metavar="CSV", help="which picture stands where")
    add_trial(command)
    add_json(command)


def _run_compare(options):
    classifiers = load_classifier(options.model_a), load_classifier(options.model_b)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.evaluate.comparison import format_comparison
    from bcnet.workflows.ancestry import tell_seen

    result = workflows.compare(
        classifiers,
        manifest,
        split=options.split,
        allow_seen=options.allow_seen,
        precision=options.precision,
        progress=True,
    )
    for letter, model in zip("AB", result["models"], strict=True):
        print(f"{letter}: {model['path']}, malignant from {model['threshold']:.3g} on")
    print(f"{result['part']} ({result['data']}), {format_comparison(result)}")
    for letter, model in zip("AB", result["models"], strict=True):
        if model["seen"]:
            print(f"{letter}: {tell_seen(model['seen'], result['n_images'])}")
    if result["baselines"]["colours only"] is None:
        print("no colours-only baseline: the data holds no pictures of both classes that trained A")
    write_json(options, result)


def _add_leak_demo(commands):
    command = add_command(
        commands,
        "leak-demo",
        _run_leak_demo,
        "show what a random split of pictures pretends, and how further failures are caught",
        "bcnet leak-demo dataset/ --failure early-stopping --failure lucky-seed",
    )
    add_data(command)
    command.add_argument(
        "--failure",
        action="append",
        default=[],
        metavar="NAME",
        help="also normalisation, early-stopping or lucky-seed",
    )
    told = "take about N pictures, of whole patients (%(default)s)"
    command.add_argument("--limit", type=_parse_count, default=1000, metavar="N", help=told)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    add_json(command)


def _run_leak_demo(options):
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.workflows.leakage import format_leak

    result = workflows.leak_demo(
        manifest, limit=options.limit, failures=options.failure, seed=options.seed, progress=True
    )
    print(format_leak(result))
    write_json(options, result)
