"""The values behind chapter 6's claims: every function that ``data/claims.yml`` names for it.

Those about students of a fixed teacher are in :mod:`lib.experiments.distillation_students_claims`, those about
self-distillation, DeiT, Switch's distillation and TinyBERT in :mod:`lib.experiments.distillation_network_claims`.
"""

from lib.experiments.distillation_network_claims import *  # noqa: F403
from lib.experiments.distillation_students_claims import *  # noqa: F403
