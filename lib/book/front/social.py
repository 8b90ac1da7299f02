"""The picture that stands beside a link to the book: its name, and the mosaic of claims."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from lib.book.front.mosaic import verdict_of
from lib.book.ledger import Shown, judged, tally
from lib.claims.verdict import FILLS

#: Width and height that most sites show whole, the space around, and where the mosaic begins.
SIZE, MARGIN, TOP = (1200, 630), 64, 200

PAPER, INK, MUTED = "#fdfcf9", "#1d232b", "#5a6470"

#: Of verdicts that do not decide.
OUTLINES = {"undecided": "#5a6470"}


def picture(entries: Sequence[Shown]) -> bytes:
    """Return a PNG of 1200 × 630 pixels; equal entries give equal bytes."""
    entries = judged(entries)
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 52), "Efficient Deep Learning, Measured", font=ImageFont.load_default(56), fill=INK)
    counts = tally(entries)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in FILLS)
    draw.text((MARGIN, 128), f"{len(entries)} claims of papers, run again and judged: {told}", font=ImageFont.load_default(25), fill=MUTED)
    width, height = SIZE[0] - 2 * MARGIN, SIZE[1] - TOP - MARGIN
    step = next((size for size in range(60, 8, -1) if -(-len(entries) // (width // size)) * size <= height), 8)
    for index, entry in enumerate(entries):
        row, column = divmod(index, width // step)
        x, y, verdict = MARGIN + column * step, TOP + row * step, verdict_of(entry)
        draw.rounded_rectangle(
            (x, y, x + step - 5, y + step - 5),
            radius=5,
            fill=FILLS.get(verdict),
            outline=FILLS.get(verdict) or OUTLINES.get(verdict, "#bdb8ab"),
            width=2,
        )
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()
