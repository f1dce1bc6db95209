"""Seeded bugs, each modelled on a public report: the proof that the rules bite.

``python -m regard.conformance.mutants`` checks every mutant and writes the table of which rules caught it. This needs
the ``hf`` extra, as most bugs are seeded into models of ``transformers``.
"""

from regard.conformance.mutants.alibi import ALIBI_MUTANTS
from regard.conformance.mutants.attention_modules import MODULE_MUTANTS
from regard.conformance.mutants.decoders import DECODER_MUTANTS
from regard.conformance.mutants.encoders import ENCODER_MUTANTS
from regard.conformance.mutants.functions import FUNCTION_MUTANTS
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.one_sided import ONE_SIDED_MUTANTS
from regard.conformance.mutants.packing import PACKING_MUTANTS
from regard.conformance.mutants.roles import ROLE_MUTANTS
from regard.conformance.mutants.two_stacks import TWO_STACK_MUTANTS

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (
    *FUNCTION_MUTANTS,
    *MODULE_MUTANTS,
    *ENCODER_MUTANTS,
    *DECODER_MUTANTS,
    *TWO_STACK_MUTANTS,
    *ONE_SIDED_MUTANTS,
    *PACKING_MUTANTS,
    *ROLE_MUTANTS,
    *ALIBI_MUTANTS,
)
"""Every mutant, by what it is seeded into."""
