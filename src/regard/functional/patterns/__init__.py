"""Patterns: who may see whom in a long sequence, said by a rule and computed block by block.

Nothing here knows of queries and keys but their positions. May import ``regard._errors``, ``regard.functional.masks``
and torch.
"""

from regard.functional.patterns.kinds import bigbird, block_sparse, documents, global_tokens, longformer, sliding
from regard.functional.patterns.pattern import Pattern

__all__ = ["Pattern", "bigbird", "block_sparse", "documents", "global_tokens", "longformer", "sliding"]
