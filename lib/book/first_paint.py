"""What stands in a page from its first line on, so that nothing moves while it loads: text faces, contents on a telephone.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

#: The upright faces of text and of headings; a page without them at once keeps the reader's own, see ``assets/fonts/fonts.css``.
FACES = ("source-serif-4", "source-sans-3")

CONTENTS = re.compile(r'<nav id="TOC"[^>]*>.*?(<ul\b.*</ul>)\s*</nav>', re.DOTALL)
TITLE_END = re.compile(r'(<header id="title-block-header".*?</header>)', re.DOTALL)
FOLD = '<details class="book-contents">'


def settle(book: Path) -> None:
    """Put both into every page of a rendered book that lacks them."""
    for page in sorted(book.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        fonts = Path(os.path.relpath(book / "assets" / "fonts", page.parent)).as_posix()
        settled = with_contents(with_faces(text, fonts))
        if settled != text:
            page.write_text(settled, encoding="utf-8")


def with_faces(page: str, fonts: str) -> str:
    """The page with links to :data:`FACES` in the folder ``fonts``, which a browser follows before it has read the style sheets.

    A script writes them where the page came from a server: of a page that is opened from a disk, browsers refuse such links.
    """
    links = "".join(f'<link rel="preload" as="font" type="font/woff2" crossorigin href="{fonts}/{face}.woff2">' for face in FACES)
    script = f"""<script>if (location.protocol !== "file:") document.head.insertAdjacentHTML("beforeend", '{links}');</script>\n"""
    return page if script in page else page.replace("<head>", f"<head>\n{script}", 1)


def with_contents(page: str) -> str:
    """The page with its list of sections once more, folded, below its title; style sheets show it on telephones only."""
    found = CONTENTS.search(page)
    if found is None or FOLD in page:
        return page
    plain = re.sub(r' (?:id|data-scroll-target)="[^"]*"', "", found[1]).replace("nav-link active", "nav-link")
    fold = f'{FOLD}<summary>On this page</summary><nav aria-label="Contents of this page">{plain}</nav></details>'
    return TITLE_END.sub(lambda match: f"{match[1]}\n{fold}", page, count=1)
