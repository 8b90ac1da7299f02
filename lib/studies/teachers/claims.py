"""The values behind the teachers chapter's claims: every function that ``data/claims.yml`` names for it.

Those about hostile and absent teachers are in :mod:`lib.studies.teachers.hostile_claims`, those about networks that teach
themselves in :mod:`lib.studies.teachers.exit_claims`.
"""

from lib.studies.teachers.exit_claims import *
from lib.studies.teachers.hostile_claims import *
