"""What a docstring says of itself in one line, for the title of a folded listing."""

from __future__ import annotations

import html
import inspect
import re
from typing import Any

#: ``:func:`lib.a.b```, ``:class:`~lib.a.B``` and their like; a tilde asks for the last part of the name only.
ROLE = re.compile(r":[a-z]+:`(~?)([^`]+)`")

#: ``name`` and `name`.
LITERAL = re.compile(r"``(.+?)``|`([^`]+)`")

#: Characters of a first paragraph a title has at most.
MOST = 110


def headline(item: Any) -> str:
    """Return the first paragraph of an object's docstring as HTML, names in it as code; "" where it has none or a long one."""
    said = (inspect.getdoc(item) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
    named = ROLE.sub(lambda role: f"``{role[2].rpartition('.')[2] if role[1] else role[2]}``", said)
    if len(named.replace("`", "")) > MOST:
        return ""
    return LITERAL.sub(lambda name: f"<code>{name[1] or name[2]}</code>", html.escape(named))
