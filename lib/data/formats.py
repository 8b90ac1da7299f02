"""Readers of the three forms in which image datasets come: CIFAR pickles, idx files, parquet.

Each reader takes paths and returns plain numpy arrays, images as uint8 ``[N, C, H, W]`` and labels as
int64 ``[N]``.  Whatever is wrong with a file, the caller sees one error, :class:`DataDamaged`, which
names the file.
"""

import codecs
import gzip
import io
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

#: Image formats that store every pixel as it was.
LOSSLESS = frozenset({"PNG", "BMP", "PPM", "lossless WebP"})


#: Bytes of an unpacked idx file; MNIST's largest has 47 million.
LARGEST_IDX = 100_000_000


class DataMissing(RuntimeError):
    """A dataset is neither on disk nor to be had from the network; the message says how to supply it."""


class DataDamaged(RuntimeError):
    """A data file was found but cannot be read; the message names it."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises into a :class:`DataDamaged` that names ``path``."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # a parser fed with garbage may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise DataDamaged(
            f"{path} cannot be read ({reason}). It is damaged or not what its name says: delete it, or put a fresh copy in its place."
        ) from error


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles dictionaries of arrays and refuses everything else, so that a data file runs no code."""

    ALLOWED = {"ndarray": np.ndarray, "dtype": np.dtype, "encode": codecs.encode, "_reconstruct": np.empty(0).__reduce__()[0]}

    def find_class(self, module: str, name: str):
        if module.split(".")[0] in ("numpy", "_codecs") and name in self.ALLOWED:
            return self.ALLOWED[name]
        raise pickle.UnpicklingError(f"a data file must not refer to {module}.{name}")


def read_pickles(paths: tuple[Path, ...], label: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Official CIFAR batches: ``data`` [N, C·H·W] uint8 and the list named ``label``.

    Raises :class:`DataDamaged` when a file is truncated, holds other sizes or refers to code.
    """
    images, labels = [], []
    for path in paths:
        with _naming(path):
            # latin1: the official files were pickled by Python 2, whose strings hold the array's bytes.
            batch = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
            data = np.asarray(batch["data"])
            if data.dtype != np.uint8:
                raise ValueError(f"pixels are {data.dtype}, expected uint8")
            images.append(data.reshape(-1, *shape))
            numbers = np.asarray(batch[label])
            if numbers.dtype.kind not in "iu":
                raise ValueError(f"labels are {numbers.dtype}, expected whole numbers")
            labels.append(numbers.astype(np.int64))
            if len(images[-1]) != len(labels[-1]):
                raise ValueError(f"{len(images[-1])} images but {len(labels[-1])} labels")
    return np.concatenate(images), np.concatenate(labels)


def idx_bytes(path: Path) -> bytes:
    """The contents of an idx file, unpacked when it is a ``.gz``."""
    with _naming(path), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        raw = file.read(LARGEST_IDX + 1)
        if len(raw) > LARGEST_IDX:
            raise ValueError(f"it holds more than {LARGEST_IDX:,} bytes")
        return raw


def parse_idx(raw: bytes, path: Path) -> np.ndarray:
    """An idx array of unsigned bytes (LeCun, *The MNIST database*): two zeros, type 8, rank, big-endian sizes.

    ``path`` is named in the :class:`DataDamaged` raised when header and length do not agree.
    """
    with _naming(path):
        if raw[:3] != b"\x00\x00\x08" or len(raw) < 4:
            raise ValueError("not an idx file of unsigned bytes")
        rank = raw[3]
        sizes = np.frombuffer(raw, dtype=">u4", count=rank, offset=4).tolist()
        start = 4 + 4 * rank
        if len(raw) - start != math.prod(sizes):
            raise ValueError(f"holds {len(raw) - start} bytes, its header announces {math.prod(sizes)}")
        return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(sizes)


def read_parquet(paths: tuple[Path, ...], label: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """Hugging Face style parquet: an image column (``img`` or ``image``, with ``bytes``) and ``label``.

    Returns images, labels, and the image formats met (``{"JPEG"}``, ``{"lossless WebP"}`` …).  Raises
    :class:`DataDamaged` naming the file, and for a bad picture its row.
    """
    images, labels, formats = [], [], set()
    for path in paths:
        with _naming(path):
            for row, (encoded, number) in enumerate(_parquet_rows(path, label)):
                if type(number) is not int:
                    raise ValueError(f"row {row} has the label {number!r}, which is not a whole number")
                try:
                    pixels, kind = _decode(encoded, shape)
                except (OSError, ValueError, TypeError, SyntaxError) as error:
                    raise ValueError(f"row {row} is not a picture of shape {shape}: {error}") from error
                formats.add(kind)
                images.append(pixels)
                labels.append(number)
    stacked = np.stack(images) if images else np.empty((0, *shape), np.uint8)
    return stacked, np.asarray(labels, dtype=np.int64), formats


def parquet_format(path: Path, label: str) -> str:
    """The image format of the first row: a quick look, without decoding."""
    from PIL import Image

    with _naming(path):
        encoded, _ = next(_parquet_rows(path, label, batch=1), (b"", 0))
        return _format(encoded, Image.open(io.BytesIO(encoded)))


def _parquet_rows(path: Path, label: str, batch: int = 2048) -> Iterator[tuple[bytes, int]]:
    import pyarrow.parquet  # imported here: only this form needs it

    with pyarrow.parquet.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        image = next((name for name in ("img", "image") if name in columns), None)
        if image is None or label not in columns:
            raise ValueError(f"has columns {', '.join(columns)}; expected img (or image) and {label}")
        for rows in file.iter_batches(batch_size=batch, columns=[image, label]):
            pictures = rows.column(image).to_pylist()
            yield from zip((picture and picture["bytes"] for picture in pictures), rows.column(label).to_pylist(), strict=True)


def _decode(encoded: bytes, shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as picture:
        if picture.size != shape[:0:-1]:  # told by its header, before it is unpacked
            raise ValueError(f"it has {picture.width} by {picture.height} pixels")
        pixels = np.asarray(picture.convert("L" if shape[0] == 1 else "RGB"))
        kind = _format(encoded, picture)
    pixels = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    if pixels.shape != shape:
        raise ValueError(f"it has shape {pixels.shape}")
    return pixels, kind


def _format(encoded: bytes, picture) -> str:
    """Return the name of a picture's format.  Only a WebP whose first chunk is VP8L keeps every pixel."""
    return "lossless WebP" if encoded[8:16] == b"WEBPVP8L" else picture.format or "unknown"
