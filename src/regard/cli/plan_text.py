"""What `regard plan` prints."""

from regard.cli.sizes import in_bytes, in_flops, in_seconds
from regard.cost import Plan

__all__ = ["plan_lines"]


def plan_lines(found: Plan) -> list[str]:
    """Return sizes, operations, memory, time and what fits."""
    workload, account = found.workload, found.account
    kind = "a step of training" if workload.trains else "a forward"
    lines = [
        f"{workload.name}: {kind}, {workload.batch} × {workload.length:,} tokens, {workload.precision}",
        f"parameters   {account.num_parameters:,}",
        f"operations   {in_flops(account.flops)} in products",
    ]
    for part, share in account.by_part().items():
        if share.flops:
            lines.append(f"             {part}: {in_flops(share.flops)}, {share.flops / account.flops:.1%}")
    lines.append(f"memory       {in_bytes(found.peak_bytes)} at its peak, beside Python and its libraries")
    held = sorted(account.at_peak.items(), key=lambda item: -item[1])
    lines += [f"             {holding}: {in_bytes(size)}" for holding, size in held if size]
    if account.attention:
        kernels = ", ".join(f"{name} ({count})" for name, count in account.kernels.items())
        lines.append(f"attention    by {kernels}")
        lines.append(f"             keys and values, which a cache of this length holds: {in_bytes(account.kv_bytes)}")
        lines.append(f"             maps of all layers, were they kept: {in_bytes(found.map_bytes)}")
    if found.time is not None:
        first, second = found.time.lengths
        lines.append(f"time         about {in_seconds(found.time.seconds)}, from steps of {first} and {second} tokens")
    if found.limit_bytes is not None:
        word = "fits into" if found.fits else "does not fit into"
        lines.append(f"limit        {word} {in_bytes(found.limit_bytes)}")
        if found.longest is not None:
            lines.append(f"             longest sequence at batch {workload.batch}: {found.longest:,} tokens")
        lines.append(f"             largest batch at {workload.length:,} tokens: {found.most or 0:,}")
    return [*lines, *(f"Note: {note}" for note in found.notes)]
