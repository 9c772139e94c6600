"""The one way from a file to pixels, whatever the file's format.

Belongs here: one module per family of formats, and the names that the rest of bcnet calls.
Does not: finding files, resizing, batching (see `bcnet.data`).
"""

from bcnet.readers.image import UnreadableImageError, read_image

__all__ = ["UnreadableImageError", "read_image"]
