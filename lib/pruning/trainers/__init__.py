"""Methods that train sparse networks, by name.  Each file holds one; none needs another's but RigL's exchange."""

from lib.pruning.trainers.acdc import ACDC
from lib.pruning.trainers.base import Plan, Trainer
from lib.pruning.trainers.gradual import Gradual
from lib.pruning.trainers.granet import GraNet
from lib.pruning.trainers.probmask import ProbMask
from lib.pruning.trainers.rigl import RigL
from lib.pruning.trainers.safe import SAFE
from lib.pruning.trainers.soft_threshold import STR

__all__ = ["TRAINERS", "Plan", "Trainer"]

TRAINERS: dict[str, type[Trainer]] = {
    "gradual": Gradual,
    "rigl": RigL,
    "granet": GraNet,
    "acdc": ACDC,
    "str": STR,
    "probmask": ProbMask,
    "safe": SAFE,
}
