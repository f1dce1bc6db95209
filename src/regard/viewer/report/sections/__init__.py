"""From records to what each section of the page says; every section is a dict for its template.

A section whose records are absent has a ``missing`` sentence in their place.
"""

from regard.viewer.report.sections.attention import attention
from regard.viewer.report.sections.checks import checks
from regard.viewer.report.sections.data import data
from regard.viewer.report.sections.diagnosis import diagnosis
from regard.viewer.report.sections.evaluation import evaluation
from regard.viewer.report.sections.headline import headline
from regard.viewer.report.sections.readiness import readiness
from regard.viewer.report.sections.reproduce import reproduce
from regard.viewer.report.sections.training import training

__all__ = ["attention", "checks", "data", "diagnosis", "evaluation", "headline", "readiness", "reproduce", "training"]
