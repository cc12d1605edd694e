"""Names for records of numpy in signatures.

A structured array has the type ``NDArray[np.void]``, and one record of it ``np.void``; to type
checkers neither has the fields that compiled code reads and writes as attributes (``line.owner``).
``Any`` is the honest type: the dtypes (``codetable.LINE``, ``packing.EVENT`` and so on) say what the
fields are, and the compiler checks every use against them.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Records: TypeAlias = Any
"""A structured array, shape ``(n,)``."""

Record: TypeAlias = Any
"""One record of such an array: a view, so that writing a field writes the array."""

Integer: TypeAlias = int | np.int64
"""What compiled code holds as int64, whether it comes from Python, a loop or an array."""

Truth: TypeAlias = bool | np.bool_
"""What compiled code holds as one truth value."""
