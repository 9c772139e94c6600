"""The house itself: which way imports point, what is documented, what must not be committed."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bcnet"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The rooms, floor by floor, and from which others each may import. A new room needs a line here.
WORDS = {"config", "atomic"}
DATA = WORDS | {"data", "readers"}
JUDGEMENT = DATA | {"models", "stains", "train", "evaluate", "explain", "plots"}
SERVICE = JUDGEMENT | {"cardfile", "modelfile", "inputs", "classifier", "measurements", "history"}
MAY_IMPORT = {
    "config": set(),
    "atomic": set(),
    "cardfile": {"atomic"},
    "readers": WORDS,
    "data": WORDS | {"readers"},
    "models": {"config"},
    "stains": {"config"},
    "train": DATA | {"models"},
    "evaluate": DATA,
    "explain": DATA,
    "plots": DATA | {"evaluate"},
    "modelfile": JUDGEMENT | {"cardfile"},
    "inputs": DATA,
    "classifier": JUDGEMENT | {"cardfile", "modelfile", "inputs"},
    "measurements": DATA | {"cardfile", "evaluate"},
    "history": WORDS | {"data", "evaluate"},
    "workflows": SERVICE,
    "web": SERVICE | {"workflows"},
    "cli": SERVICE | {"workflows", "web"},
    "__main__": {"cli"},
    "__init__": set(),
}

# Where TensorFlow may be named; the command line imports it late, to start it quietly.
MAY_NAME_TENSORFLOW = {
    "bcnet/data/pipeline.py",
    "bcnet/data/augment.py",
    "bcnet/train.py",
    "bcnet/classifier.py",
    "bcnet/workflows/features.py",
    "bcnet/workflows/fitting.py",
    "bcnet/cli/startup.py",
}


def name_module(path):
    return path.relative_to(ROOT).as_posix()


def name_room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def list_imports(path, *, at_start_only=False):
    """List the dotted names that a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_start_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_module(path)}: imports name the whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def list_files():
    """List the text files that are, or would be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    endings = {".py", ".md", ".toml", ".txt", ".ipynb", ".cfg", ".json", ""}
    paths = [ROOT / line for line in run.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix in endings]


@pytest.mark.parametrize("path", MODULES, ids=name_module)
def test_imports_point_down_the_house(path):
    room = name_room(path)
    names = [name.split(".") for name in list_imports(path) if name.startswith("bcnet.")]
    rooms = {parts[1] for parts in names if parts[1] in MAY_IMPORT}
    forbidden = rooms - MAY_IMPORT[room] - {room}
    assert not forbidden, f"{name_module(path)} must not import {forbidden}"


@pytest.mark.parametrize("path", MODULES, ids=name_module)
def test_tensorflow_and_matplotlib_are_imported_where_they_belong(path):
    module, packages = name_module(path), {name.split(".")[0] for name in list_imports(path)}
    if "tensorflow" in packages:
        assert module in MAY_NAME_TENSORFLOW or module.startswith("bcnet/explain/")
    if "matplotlib" in packages:
        assert module.startswith("bcnet/plots/")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("cli/*.py")), ids=name_module)
def test_the_command_line_imports_only_the_standard_library_at_start(path):
    names = {name.split(".")[0] for name in list_imports(path, at_start_only=True)}
    assert names - {"bcnet"} <= sys.stdlib_module_names


def test_import_and_help_load_nothing_heavy():
    script = (
        "import sys, bcnet, bcnet.cli\n"
        "bcnet.cli.make_parser().format_help()\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'numpy', 'PIL'}\n"
        "heavy |= {'sqlalchemy', 'alembic', 'flask', 'waitress'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def list_public(tree, prefix=""):
    """List public functions and classes with their public methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from list_public(node, f"{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=name_module)
def test_every_module_and_public_name_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{name_module(path)} does not say what belongs in it"
    bare = [name for name, node in list_public(tree) if not ast.get_docstring(node)]
    assert not bare, f"{name_module(path)}: no docstring on {bare}"


def test_requirements_and_pyproject_name_the_same_runtime_packages():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    runtime = [line for line in lines[: lines.index("# tests")] if line and line[0] != "#"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(runtime) == sorted(project["dependencies"])


def test_requirements_end_with_the_package_itself():
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")[-2:] == ["-e .", ""]


def test_every_requirement_has_both_bounds():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if line and not line.startswith(("#", "-e"))]
    bounded = re.compile(r"[\w-]+(\[\w+\])?>=[\d.]+,<\d+")
    assert [line for line in packages if not bounded.fullmatch(line)] == []


def test_no_file_holds_a_path_of_the_machine_it_was_written_on():
    machine = re.compile(r"(?<![\w.:/~-])/(?:home|root|tmp|work|Users|mnt)/\w")
    found = [
        f"{name_module(path)}: {match.group()}"
        for path in list_files()
        if path.parent.name != "tests"
        for match in machine.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("command", ["python -m bcnet notebook", "python -m pytest"])
def test_readme_has_the_command_that_is_enough_alone(command):
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert f"python -m pip install -r requirements.txt && {command}" in lines
