"""Commands that open the web page, and say who may use it from elsewhere."""

import getpass
import sys
from pathlib import Path

from bcnet.cli.options import add_command
from bcnet.cli.startup import import_workflows

DATABASE_HELP = "SQLAlchemy URL of the history (a SQLite file in the user's data folder)"


def add_commands(commands) -> None:
    """Add serve and users."""
    _add_serve(commands)
    _add_users(commands)


def _add_serve(commands):
    command = add_command(
        commands,
        "serve",
        _run_serve,
        "open the web page on this machine, with the models that come with the project",
        "bcnet serve --models models/",
    )
    told = "address to listen at (%(default)s); a network's needs a user: bcnet users add"
    command.add_argument("--host", default="127.0.0.1", help=told)
    command.add_argument("--port", type=int, default=5000, help="(%(default)s)")
    told = "folder of models, or a model file; may be repeated (those that come with the project)"
    command.add_argument("--models", action="append", default=[], metavar="DIR", help=told)
    command.add_argument("--database", metavar="URL", help=DATABASE_HELP)
    told = "folder for the secret key, the history and kept pictures"
    command.add_argument("--instance", type=Path, metavar="DIR", help=told)
    told = "store pictures (re-encoded), file names and measurements with the answers"
    command.add_argument("--keep-images", action="store_true", help=told)
    told = "delete answers older than this (keep all)"
    command.add_argument("--retention-days", type=int, metavar="N", help=told)
    told = "further host name by which browsers reach the server; may be repeated"
    command.add_argument("--name", action="append", default=[], metavar="HOST", help=told)
    told = "a proxy on this machine speaks TLS: send cookies over TLS only"
    command.add_argument("--tls", action="store_true", help=told)


def _run_serve(options):
    import_workflows()  # starts TensorFlow quietly
    from bcnet.web import Settings, serve

    given = {"models": tuple(options.models), "names": tuple(options.name)}
    for name in ("host", "port", "database", "keep_images", "retention_days", "tls"):
        given[name] = getattr(options, name)
    if options.instance:
        given["instance"] = options.instance
    serve(Settings(**given), tell=_tell_address)


def _tell_address(address):
    print(f"{address}  (Ctrl-C ends it)", flush=True)


def _add_users(commands):
    summary = "say who may use the web page from a network, and give programs their tokens"
    users = commands.add_parser("users", help=summary, description=f"{summary.capitalize()}.")
    actions = users.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, run, told, example in (
        ("add", _run_add, "add a user; the password is asked for", "bcnet users add anna"),
        ("password", _run_password, "change a password", "bcnet users password anna"),
        ("remove", _run_remove, "remove a user with his tokens", "bcnet users remove anna"),
        ("token", _run_token, "make a token for the API, shown once", "bcnet users token anna"),
        ("revoke", _run_revoke, "make a user's tokens void", "bcnet users revoke anna"),
    ):
        action = add_command(actions, name, run, told, example)
        action.add_argument("name", metavar="NAME", help="of the user")
        _add_place(action)
    _add_place(add_command(actions, "list", _run_list, "list the users", "bcnet users list"))


def _add_place(action):
    action.add_argument("--database", metavar="URL", help=DATABASE_HELP)
    action.add_argument("--instance", type=Path, metavar="DIR", help="folder of the history")


def _open_users(options):
    from bcnet.history import History
    from bcnet.web import Settings

    given = {"instance": options.instance} if options.instance else {}
    return History.open(Settings(database=options.database, **given).database_url)


def _run_add(options):
    with _open_users(options) as history:
        history.users.add(options.name, _ask_password())
    print(f"{options.name} may log in")


def _run_password(options):
    with _open_users(options) as history:
        _require(history, options.name)
        history.users.change_password(options.name, _ask_password())
    print(f"{options.name} has a new password; open sessions have ended")


def _run_remove(options):
    with _open_users(options) as history:
        _require(history, options.name)
        history.users.remove(options.name)
    print(f"{options.name} is removed; the answers stay until they are deleted")


def _run_token(options):
    with _open_users(options) as history:
        _require(history, options.name)
        print(history.users.create_token(options.name))


def _run_revoke(options):
    with _open_users(options) as history:
        _require(history, options.name)
        print(f"{history.users.revoke_tokens(options.name)} tokens are void")


def _run_list(options):
    with _open_users(options) as history:
        print("\n".join(history.users.list()) or "no users")


def _require(history, name):
    """Tell before a password is typed that there is no such user."""
    if name not in history.users.list():
        raise ValueError(f"there is no user {name!r}")


def _ask_password():
    """Ask twice at a terminal; a script gives the password as a line of its standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("the two passwords differ")
    return password
