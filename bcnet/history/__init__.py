"""What was answered, when and by which model, and what it later turned out to be.

Belongs here: the database of answers with their outcomes and audit, and who may ask for them. Does
not: pages, or the models that answer. Nothing else in bcnet imports SQLAlchemy or Alembic.
"""

from bcnet.history.database import HistoryError
from bcnet.history.store import Deleted, History, Page

__all__ = ["Deleted", "History", "HistoryError", "Page"]
