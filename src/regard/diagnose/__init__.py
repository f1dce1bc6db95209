"""Rules over the records of a run: phenomenon, evidence, cause, remedy.

A rule reads ``events.jsonl`` and ``heads.parquet`` through ``regard.records`` and nothing else, so that a finding can
be reproduced from the files. This room imports records and numpy, never torch or a room that computes. One file per
rule; a rule whose evidence was not recorded is "not judged" and says why, never silently passed.
"""

from regard.diagnose.diagnosis import RULES, Diagnosis, diagnose
from regard.diagnose.rule import Found, NotJudgedError, Rule

__all__ = ["RULES", "Diagnosis", "Found", "NotJudgedError", "Rule", "diagnose"]
