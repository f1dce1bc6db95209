"""After deployment: what time does to a model, and how it gets out of the run folder."""

from regard.readiness.facts import Facts
from regard.readiness.item import Answer, Item, not_done

__all__ = ["ITEMS", "SECTION"]

SECTION = "Lifecycle"


def _data_drift(facts: Facts) -> Answer:
    return not_done("no monitor compares new inputs with the train set; this version of regard does not have one yet")


def _concept_drift(facts: Facts) -> Answer:
    return not_done("no monitor watches the error on new labels; this version of regard does not have one yet")


def _forgetting(facts: Facts) -> Answer:
    return not_done("not tested whether further training loses this task; this version of regard does not test it yet")


def _exported(facts: Facts) -> Answer:
    return not_done("the model was not exported and compared with itself; this version of regard does not export yet")


ITEMS = (
    Item(id="lifecycle.data_drift", title="Data drift monitored", judge=_data_drift),
    Item(id="lifecycle.concept_drift", title="Concept drift monitored", judge=_concept_drift),
    Item(id="lifecycle.forgetting", title="Catastrophic forgetting tested", judge=_forgetting),
    Item(id="lifecycle.exported", title="Export equals the trained model", judge=_exported),
)
