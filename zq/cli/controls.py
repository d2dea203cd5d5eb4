"""Characters that a terminal does not show but obeys, and what is shown in their place.

A stranger's text must not move the cursor, retitle the terminal, begin a line or turn the direction of what follows: C0
(but tab), DEL, C1, separators of lines and marks of direction are spelled out. Text with joiners stays as it is. For
`str.translate`.
"""

from __future__ import annotations

_OBEYED = (*range(32), *range(127, 160))
_DIRECTIONS = (0x61C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

CONTROLS = {code: f"\\x{code:02x}" for code in _OBEYED if code != 9} | {10: "\\n", 13: "\\r"}
CONTROLS |= {code: f"\\u{code:04x}" for code in _DIRECTIONS}
IN_JSON = {code: f"\\u{code:04x}" for code in (*range(127, 160), *_DIRECTIONS)}  # C0 is spelled out there anyway
