"""How the tables of the history came to be, step by step, for Alembic.

Belongs here: one file per step under `versions`, never changed once released. A step down keeps
every row, or refuses.
"""
