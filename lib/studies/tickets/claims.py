"""The values behind the tickets chapter's claims: the functions that ``data/claims.yml`` names, gathered from the papers' own modules.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from lib.studies.tickets.lth_values import (
    mlm_minus_direct,
    mlm_minus_other_tasks,
    mlm_wins_minus_most,
    own_minus_other_tasks,
    rewound_minus_ticket,
    ticket_minus_best_other_weights,
    ticket_minus_random_mask,
    ticket_minus_standard,
    whole_minus_ticket,
)
from lib.studies.tickets.tinybert_claims import (
    share_of_teacher,
    uniform_minus_best_map,
)
from lib.studies.tickets.values import (
    dynamic_minus_static,
    dynamic_minus_whole,
    early_minus_best_random,
    early_minus_late,
    early_minus_whole,
    early_time_ratio,
    emptiest_with_minus_without,
    good_minus_random,
    head_agreement,
    loss_with_few_minus_many,
    settled_share,
    skipping_ratio,
    structured_share,
    whole_minus_harsh_random,
    whole_minus_structured_bad,
)
