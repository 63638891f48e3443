"""Files of an output that cannot be read: whatever their readers raise names the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from transforms.errors import BadFileError, DamagedPart, EmbedbeamError
from transforms.output.folder import Folder
from transforms.storage.files import is_passing


@contextlib.contextmanager
def reading(folder: Folder, name: str) -> Iterator[None]:
    """What is read inside is this file of an output.

    Raises:
      DamagedPart: instead of what says that the file is damaged or gone. All else passes: a stale mount, a
        full memory, errors that are meant for people as they are.
    """
    try:
        yield
    except BadFileError as e:
        raise DamagedPart(name, str(e).removeprefix(name).lstrip(": "), folder.path) from e
    except (EmbedbeamError, MemoryError):
        raise
    except Exception as e:  # Arrow's, zlib's, JSON's, protobuf's and those of stores have no common class
        if isinstance(e, OSError) and is_passing(e):
            raise
        told = getattr(e, "strerror", None) or str(e) or type(e).__name__
        raise DamagedPart(name, told.splitlines()[0].rstrip("."), folder.path) from e
