"""Commands about the pictures before any training: draw, fetch, audit and divide them."""

from bcnet.cli.options import FAILED, add_command, add_data, add_json, parse_file, read_data
from bcnet.cli.startup import import_workflows
from bcnet.config import Config


def add_commands(commands) -> None:
    """Add simulate, fetch, audit and split."""
    _add_simulate(commands)
    _add_fetch(commands)
    _add_audit(commands)
    _add_split(commands)


def _add_simulate(commands):
    command = add_command(
        commands,
        "simulate",
        _run_simulate,
        "draw the built-in data set: simulated cytology of 569 real patients' measurements",
        "bcnet simulate --output dataset/simulated",
    )
    command.add_argument("--output", metavar="DIR", required=True, help="folder to write")
    command.add_argument("--images-per-patient", type=int, default=4, metavar="N")
    command.add_argument("--image-size", type=int, default=128, metavar="N", help="pixels a side")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same bytes")
    command.add_argument("--patients", type=int, metavar="N", help="only so many of the 569")


def _run_simulate(options):
    workflows = import_workflows(tensorflow=False)
    names = ("images_per_patient", "image_size", "seed", "patients")
    settings = {name: getattr(options, name) for name in names}
    folder = workflows.simulate(options.output, **settings, progress=True)
    print(f"simulated pictures are in {folder}")


def _add_fetch(commands):
    command = add_command(
        commands,
        "fetch",
        _run_fetch,
        "download a public data set, verified, or list those there are",
        "bcnet fetch breastmnist-128 --output dataset/breastmnist-128",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="the set; without it, a list")
    command.add_argument("--output", metavar="DIR", help="its folder, new or empty")
    command.add_argument("--list", action="store_true", help="list names, sizes and licences")


def _run_fetch(options):
    workflows = import_workflows(tensorflow=False)
    from bcnet.data.catalogue import find_set, format_sets

    if options.list or options.name is None:
        return print(format_sets())
    public = find_set(options.name)
    if options.output is None:
        raise ValueError(f"--output is required, such as --output dataset/{public.name}")
    print(f"the pictures are in {workflows.fetch(public.name, options.output, progress=True)}")


def _add_audit(commands):
    command = add_command(
        commands,
        "audit",
        _run_audit,
        "look for leaks, duplicates and contradictions before training (exit status 1: errors)",
        "bcnet audit dataset/ --json audit.json",
    )
    add_data(command)
    add_json(command)


def _run_audit(options):
    workflows = import_workflows(tensorflow=False)
    from bcnet.data.audit import format_audit

    report = workflows.audit(read_data(options), json_path=options.json, progress=True)
    print(format_audit(report))
    return 0 if report["verdict"] == "pass" else FAILED


def _add_split(commands):
    command = add_command(
        commands,
        "split",
        _run_split,
        "divide pictures into train, validation and test, or folds, by patient",
        "bcnet split dataset/ --output split.csv --test 0.2",
    )
    add_data(command)
    command.add_argument(
        "--output", type=parse_file, required=True, metavar="CSV", help="file to write"
    )
    share = {"type": float, "metavar": "SHARE", "help": "share of patients (%(default)s)"}
    command.add_argument("--validation", default=Config.validation, **share)
    command.add_argument("--test", default=Config.test, **share)
    command.add_argument("--folds", type=int, metavar="K", help="folds instead of three parts")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same split")


def _run_split(options):
    workflows = import_workflows(tensorflow=False)
    names = ("validation", "test", "folds", "seed")
    settings = {name: getattr(options, name) for name in names}
    table = workflows.split(read_data(options), options.output, **settings)
    counts = table["split" if options.folds is None else "fold"].value_counts(sort=False)
    told = ", ".join(f"{part}: {count}" for part, count in sorted(counts.items()))
    print(f"{options.output}: {told} pictures")
