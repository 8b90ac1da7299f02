"""Data-parallel training for a notebook: a kernel is one process, so its Specs are run by ``torchrun``.

The command writes to the store as usual, and the chapter then replays what it finds there.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import torch

from lib import ROOT
from lib.studies.base.parameters import ChapterParameters
from lib.system.device import cores


def command(chapter: str, parameters: ChapterParameters, processes: int, *words: str) -> list[str]:
    """``torchrun … -m lib run CHAPTER`` with those parameters that differ from their defaults."""
    settings = []
    for field in dataclasses.fields(parameters):
        value = getattr(parameters, field.name)
        if field.name not in ("scale", "gpus") and value != field.default:
            settings += ["-p", field.name, str(value)]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "lib",
        "run",
        chapter,
        "--scale",
        parameters.scale,
        *settings,
        *words,
    ]


def run_parallel(chapter: str, parameters: ChapterParameters, processes: int, *words: str) -> int:
    """Run what ``chapter`` lacks on ``processes`` GPUs of this machine (processes, where there is no GPU).

    ``words`` are further options of ``python -m lib run``, whose exit status is returned.
    Raises ValueError when this machine has fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise ValueError(f"gpus={processes} was asked for and this machine has {gpus}")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    return subprocess.run(
        command(chapter, parameters, processes, *words), env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": threads}
    ).returncode
