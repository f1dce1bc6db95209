"""Reproducibility: could somebody else get the same model?"""

from regard.readiness.facts import Facts, pick
from regard.readiness.item import Answer, Item, judged, not_done

__all__ = ["ITEMS", "SECTION"]

SECTION = "Reproducibility"

_FILE = "run.json"
_VERSIONS = ("python", "regard", "torch")
_DEVICE = ("type", "precision")


def _seeds(facts: Facts) -> Answer:
    seeds = facts.info.seeds
    if not seeds:
        return judged(False, "run.json records no seed; fix one")
    return judged(True, ", ".join(f"{name} {seed}" for name, seed in seeds.items()))


def _config(facts: Facts) -> Answer:
    if not facts.info.config:
        return judged(False, "run.json does not hold the recipe's settings")
    return judged(True, f"recipe {facts.info.recipe!r} with all its settings")


def _environment(facts: Facts) -> Answer:
    versions, device = facts.info.versions, facts.info.device
    lacking = [f"the version of {name}" for name in _VERSIONS if not versions.get(name)]
    lacking += [f"the device's {name}" for name in _DEVICE if not device.get(name)]
    if lacking:
        return judged(False, f"run.json does not record {', '.join(lacking)}")
    told = ", ".join(f"{name} {versions[name]}" for name in _VERSIONS)
    return judged(True, f"{told} on {device.get('name') or device['type']} in {device['precision']}")


def _commit(facts: Facts) -> Answer:
    commit = facts.info.git_commit
    if not commit:
        return not_done("the run started outside a git repository, so its code is known by version only")
    return judged(True, f"commit {commit[:12]}")


def _repeated(facts: Facts) -> Answer:
    repeat = facts.optional("repeat")
    if repeat is None:
        return not_done("the run was not repeated; run it twice and record whether losses and answers are identical")
    identical, against = pick(repeat, "repeat.json", "identical"), pick(repeat, "repeat.json", "against")
    return judged(identical is True, f"{'identical to' if identical is True else 'different from'} {against}")


ITEMS = (
    Item(id="reproducibility.seeds", title="Seeds recorded", judge=_seeds, link=_FILE),
    Item(id="reproducibility.config", title="Settings recorded", judge=_config, link=_FILE),
    Item(id="reproducibility.environment", title="Versions and device recorded", judge=_environment, link=_FILE),
    Item(id="reproducibility.commit", title="Code version recorded", judge=_commit, link=_FILE),
    Item(id="reproducibility.repeated", title="Second run identical", judge=_repeated, link="repeat.json"),
)
