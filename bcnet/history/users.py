"""Who may ask on a server that is open to a network: passwords, and tokens for programs.

Belongs here: keeping and checking secrets, of which only digests are stored. Does not: sessions,
cookies, or how often somebody may try.
"""

import hashlib
import hmac
import re
import secrets
import unicodedata
from datetime import UTC, datetime

from sqlalchemy import delete, exists, insert, select, update

from bcnet.history.database import reading, writing
from bcnet.history.tables import Answer, Token, User

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")

# Length is what makes guessing hard; the longest keeps the hashing of a hostile one short.
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1024

# scrypt by OWASP's Password Storage Cheat Sheet (2025): N = 2**15, r = 8, p = 3, 32 MB a check.
COST, BLOCK, PARALLEL = 2**15, 8, 3
MEMORY = 2**26  # bytes; what OpenSSL may take, twice what these need

SALT_BYTES = 16
TOKEN_BYTES = 32

TOKEN_PREFIX = "bcnet_"
"""Tells people and scanners of leaked secrets what a token is."""


class Users:
    """The users of a history, reached as `History.users`.

    Example:
        >>> history.users.add("anna", "correct horse battery")
        >>> history.users.check("anna", "correct horse battery")
        True
    """

    def __init__(self, engine):
        self._engine = engine

    def add(self, name: str, password: str) -> None:
        """Add a user.

        Args:
            name: 1–64 of a–z, 0–9 and `. _ @ -`, a letter or digit first. Not one that has answers
                of an earlier user: the new one would see them.
            password: 12–1,024 letters.

        Raises:
            ValueError: The name or password is not allowed, or the name is taken.
            HistoryError: The database fails.

        Example:
            `history.users.add("anna", "correct horse battery")`
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                "`name` must be 1 to 64 of a-z, 0-9, '.', '_', '@' and '-', beginning with a "
                f"letter or digit. Received: {name!r}"
            )
        values = {"name": name, **_digest_new(password), "created": datetime.now(UTC)}
        with writing(self._engine) as session:
            if session.get(User, name):
                raise ValueError(f"there is a user {name!r} already; choose another name")
            if session.scalar(select(exists().where(Answer.owner == name))):
                raise ValueError(
                    f"an earlier user {name!r} has left answers, which a new one must not see; "
                    "choose another name, or delete those answers first"
                )
            session.execute(insert(User), [values])

    def check(self, name: str, password: str) -> bool:
        """Check a password; it takes as long for a name that there is not.

        Example:
            `history.users.check("nobody", "whatever it is")` is False.
        """
        with reading(self._engine) as session:
            user = session.get(User, name) if NAME.fullmatch(name) else None
        salt, cost = (user.salt, user.cost) if user else (b"\0" * SALT_BYTES, COST)
        expected = user.digest if user else b""
        is_right = hmac.compare_digest(_digest(password, salt, cost), expected)
        return is_right and len(password) <= LONGEST_PASSWORD

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password; his sessions end with it (see `stamp`).

        Raises:
            ValueError: The password is not allowed.
            LookupError: There is no such user.
            HistoryError: The database fails.

        Example:
            `history.users.change_password("anna", "another horse battery")`
        """
        values = _digest_new(password)
        with writing(self._engine) as session:
            change = update(User).where(User.name == name).values(**values)
            _require_one(session.execute(change).rowcount, name)

    def stamp(self, name: str) -> str | None:
        """Give a text that changes with each password; None for a name that there is not.

        A session that keeps it is void once the user is removed or has another password.

        Example:
            `history.users.stamp("anna") == session["stamp"]`
        """
        with reading(self._engine) as session:
            digest = session.scalar(select(User.digest).where(User.name == name))
        return digest and hashlib.sha256(digest).hexdigest()

    def list(self) -> list[str]:
        """List the names, sorted.

        Example:
            `history.users.list()` is `[]` at first.
        """
        with reading(self._engine) as session:
            return sorted(session.scalars(select(User.name)))

    def remove(self, name: str) -> None:
        """Remove a user with his tokens; his answers stay until they are deleted or too old.

        Raises:
            LookupError: There is no such user.
            HistoryError: The database fails.

        Example:
            `history.users.remove("anna")`
        """
        with writing(self._engine) as session:
            _require_one(session.execute(delete(User).where(User.name == name)).rowcount, name)

    def create_token(self, name: str) -> str:
        """Make a token with which a program asks for a user.

        Returns:
            The token, this once: only its digest is kept.

        Raises:
            LookupError: There is no such user.
            HistoryError: The database fails.

        Example:
            `history.users.create_token("anna").startswith("bcnet_")`
        """
        token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        values = {"digest": _digest_token(token), "user": name, "created": datetime.now(UTC)}
        with writing(self._engine) as session:
            _require_one(session.get(User, name, with_for_update=True), name)
            session.execute(insert(Token), [values])
        return token

    def check_token(self, token: str) -> str | None:
        """Tell whose token it is; None for one that is unknown or revoked.

        Example:
            `history.users.check_token(history.users.create_token("anna"))` is "anna".
        """
        with reading(self._engine) as session:
            return session.scalar(select(Token.user).where(Token.digest == _digest_token(token)))

    def revoke_tokens(self, name: str) -> int:
        """Make all tokens of a user void; return how many there were.

        Example:
            `history.users.revoke_tokens("anna")`
        """
        with writing(self._engine) as session:
            return session.execute(delete(Token).where(Token.user == name)).rowcount


def _require_one(found, name):
    if not found:
        raise LookupError(f"there is no user {name!r}")


def _digest_new(password):
    """Check a new password, and digest it with a new salt."""
    if not isinstance(password, str) or not (
        SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD
    ):
        raise ValueError(
            f"`password` must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} letters"
        )
    salt = secrets.token_bytes(SALT_BYTES)
    return {"salt": salt, "digest": _digest(password, salt, COST), "cost": COST}


def _digest(password, salt, cost):
    # The same letters can be typed in several ways (NIST SP 800-63B, 3.1.1.2).
    letters = unicodedata.normalize("NFKC", password[:LONGEST_PASSWORD])
    letters = letters.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(letters, salt=salt, n=cost, r=BLOCK, p=PARALLEL, maxmem=MEMORY)


def _digest_token(token):
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
