"""What `regard profile` prints."""

from collections.abc import Mapping, Sequence

from regard.cli.sizes import in_flops, in_seconds
from regard.cost import Outcome, Part, Profile, Scaling, Timing, advice, notes
from regard.cost.scaling import ALL

__all__ = ["curve_lines", "outcome_lines", "profile_lines", "scaling_lines"]

_BUSY = 0.05


def profile_lines(found: Profile) -> list[str]:
    """Return the table of the parts, the verdict, the kernels and the advice."""
    workload, low_high = found.workload, found.whole.quartiles
    kind = "a step of training" if workload.trains else "a forward"
    lines = [
        f"{workload.name}: {kind}, {workload.batch} × {workload.length:,} tokens, {workload.precision}, "
        f"{found.threads} threads",
        f"{in_seconds(found.whole.median)} (quartiles {in_seconds(low_high[0])} – {in_seconds(low_high[1])}, "
        f"{len(found.whole.samples)} rounds), {found.tokens_per_s:,.0f} tokens/s",
    ]
    if (found.whole.waiting or 0.0) > _BUSY:
        lines.append(f"Busy machine: threads waited {found.whole.waiting:.0%} of the time for a core; measure again.")
    lines += ["", *_table(found), "", found.verdict()]
    lines.append(f"The operators take {found.explained:.0%} of what the whole takes by itself.")
    lines += [f"Kernel of attention: {name}, {count} calls." for name, count in found.account.kernels.items()]
    advised = advice(found)
    if advised:
        lines += ["", "What may help, with the most that it could save:"]
    for one in advised:
        lines += [f"  {one.name}: {one.title} (at most {one.at_most:.0%})"]
        lines += [f"    why: {one.why}", f"    changes: {one.changes}"]
    return [*lines, *(f"Note: {note}" for note in notes(found))]


def outcome_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what each remedy brought, before and after."""
    lines = [""] if outcomes else []
    for one in outcomes:
        word = "faster" if one.ratio < 1 else "slower"
        lines.append(
            f"{one.name}: {in_seconds(one.before.median)} before, {in_seconds(one.after.median)} after, "
            f"ratio {one.ratio:.2f} ({word})"
            + ("" if one.difference is None else f"; results differ by {one.difference:.1e} of the largest")
        )
    return lines


def curve_lines(curve: Mapping[int, Timing]) -> list[str]:
    """Return the times by number of threads."""
    if not curve:
        return []
    first = next(iter(curve.values())).median
    return ["", "threads"] + [
        f"  {number}: {in_seconds(timing.median)}, {first / timing.median:.2f} times as fast as with one"
        for number, timing in curve.items()
    ]


def scaling_lines(found: Sequence[Scaling], crossing: float | None) -> list[str]:
    """Return slopes and the lengths where one cost overtakes another."""
    lines: list[str] = []
    for one in found:
        ends = f"{one.lengths[0]:,} to {one.lengths[-1]:,} tokens"
        lines.append(f"{one.name}, {ends}: operations in products grow with length to the power of")
        for part, growth in one.growth.items():
            if part != ALL:
                counted = f"{in_flops(one.flops[part][0])} to {in_flops(one.flops[part][-1])}"
                lines.append(f"  {part:32} {growth.slope:.2f}  ({counted})")
        overtakes = one.overtakes(Part.CORE)
        if overtakes is not None:
            lines.append(f"  The attention core does more than all the rest from {overtakes:,.0f} tokens on.")
    if len(found) > 1:
        names = found[0].name, found[1].name
        if crossing is not None:
            when = f"from {crossing:,.0f} tokens on"
        else:
            when = "at every length" if found[0].at(1) >= found[1].at(1) else "at no length"
        lines.append(f"{names[0]} does more than {names[1]} {when}.")
    return lines


def _table(found: Profile) -> list[str]:
    lines = [f"{'part':32}  {'time':>10}  {'share':>6}  {'of FLOPs':>8}  {'GFLOP/s':>8}"]
    for row in found.rows:
        rate = f"{row.flops / row.seconds / 1e9:8.1f}" if row.flops and row.seconds else f"{'–':>8}"
        share = f"{row.flops_share:8.1%}" if row.flops else f"{'–':>8}"
        lines.append(f"{row.part:32}  {in_seconds(row.seconds):>10}  {row.time_share:6.1%}  {share}  {rate}")
    return lines
