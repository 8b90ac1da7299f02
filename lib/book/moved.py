"""Old addresses: pages that were renamed and sections that went to another chapter, so that links from elsewhere still arrive.

Only the standard library and the list of chapters are imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from lib.studies import CHAPTERS, SPLIT, chapter

#: Pages whose address has changed: old address → new one, in the same folder.
MOVED = {f"chapters/{old}.html": f"{each.slug}.html" for each in CHAPTERS for old in each.formerly}

SIGNPOST = """<!doctype html>
<html lang="en-GB"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>This page has moved</title>
<link rel="canonical" href="{to}"></head>
<body><main id="quarto-document-content"><h1>This page has moved</h1><p><a id="there" href="{to}">It is here now.</a></p></main>
<script>const there = document.getElementById("there"); there.hash = location.hash; if (!navigator.webdriver) location.replace(there.href);</script>
</body></html>
"""

#: Follows a link to what another page has now, at once and when an address is changed by hand.
LEAD_ON = """<script class="book-moved">(moved => {{
  const go = () => {{ const to = moved[decodeURIComponent(location.hash.slice(1))]; if (to) location.replace(to); }};
  addEventListener("hashchange", go); go();
}})({moved});</script>
"""

ANCHOR = re.compile(r'\bid="((?:sec|fig|tbl|eq)-([a-z]+)(-[^"]*)?)"')


def put_up_signposts(book: Path) -> None:
    """A page at each old address that leads on, to the same anchor.  Browsers driven by a program stay, so that tests see it."""
    for old, new in MOVED.items():
        if (book / old).with_name(new).exists():
            (book / old).write_text(SIGNPOST.format(to=new), encoding="utf-8")


def lead_on(book: Path) -> None:
    """Let the page of a chapter that was split lead to the sections, figures and tables that other chapters took over.

    What was ``#sec-distillation-nasty`` is ``#sec-teachers-nasty`` on the page of that chapter.
    """
    for subject, others in SPLIT.items():
        page = book / "chapters" / f"{chapter(subject).slug}.html"
        if not page.exists():
            continue
        text = page.read_text(encoding="utf-8")
        here = {match[1] for match in ANCHOR.finditer(text)}
        moved = {}
        for other in others:
            there = page.with_name(f"{chapter(other).slug}.html")
            if there.exists():
                for match in ANCHOR.finditer(there.read_text(encoding="utf-8")):
                    old = match[1].replace(f"-{other}", f"-{subject}", 1)
                    if match[2] == other and match[3] and old not in here:
                        moved[old] = f"{there.name}#{match[1]}"
        script = LEAD_ON.format(moved=json.dumps(moved, sort_keys=True)) if moved else ""
        text = re.sub(r'<script class="book-moved">.*?</script>\n', "", text, flags=re.DOTALL)
        page.write_text(text.replace("</head>", f"{script}</head>", 1), encoding="utf-8")
