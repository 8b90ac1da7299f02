"""The values behind the distillation chapter's claims: every function that ``data/claims.yml`` names for it.

Those about students of a fixed teacher are in :mod:`lib.studies.distillation.students_claims`, those about
DeiT and Switch's distillation in :mod:`lib.studies.distillation.network_claims`, those about story tellers in
:mod:`lib.studies.distillation.story_claims`.
"""

from lib.studies.distillation.network_claims import *
from lib.studies.distillation.story_claims import *
from lib.studies.distillation.students_claims import *
