"""Finding the lines of a block of text, and those that need a second look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel

BLANK, OPEN = 1, 2  # what scan_lines says of a line
_NEWLINE, _QUOTE = 10, 34


@kernel
def scan_lines(
    data: npt.NDArray[np.uint8],
    delimiter: int,
    ends: npt.NDArray[np.int64],
    marks: npt.NDArray[np.uint8],
) -> int:
    """Find the lines of ``data`` (which ends with a newline); returns how many are marked.

    ``ends``: position of each newline. ``marks``: BLANK for lines of blanks only; OPEN for lines
    that end inside a quoted field, taking them to begin outside one. ``delimiter`` -1: no quoting.
    """
    line = 0
    marked = 0
    blank = True
    quoted = False
    at_start = True  # of a field
    for i in range(len(data)):
        byte = data[i]
        if byte == _NEWLINE:
            ends[line] = i
            mark = 0
            if blank:
                mark = BLANK
            elif quoted:
                mark = OPEN
            marks[line] = mark
            if mark != 0:
                marked += 1
            line += 1
            blank = True
            quoted = False
            at_start = True
            continue
        if byte > 32:
            blank = False
        if delimiter < 0:
            continue
        if quoted:
            if byte == _QUOTE:
                quoted = False  # a doubled quote opens again at once
        elif byte == _QUOTE and (at_start or (i > 0 and data[i - 1] == _QUOTE)):
            quoted = True
        at_start = byte == delimiter and not quoted
    return marked
