"""What `regard profile --curves` prints and draws."""

from collections.abc import Callable, Iterator

from regard.cli.sizes import in_bytes, in_flops, in_seconds
from regard.cost import AttentionCurves, Curve, Way, draw_curves, one_above_the_other

__all__ = ["curves_drawing", "curves_lines"]

_BUSY = 0.05


def curves_lines(found: AttentionCurves, name: str) -> list[str]:
    """Return a table of the ways with memory, operations, error and the time by number of threads."""
    work = found.work
    kind = "causal" if found.causal else "both ways"
    where = f"{name}, {work.module}" if work.module else name
    lines = [
        f"{where}: attention of {work.streams} heads of {work.head_dim} × {work.q_len:,} × {work.kv_len:,}, {kind}, "
        "float32, forward",
        "",
    ]
    headings = [f"{number} thread{'s' if number > 1 else ''}" for number in found.threads]
    lines.append(
        f"{'way':38}  {'memory':>9}  {'FLOP':>9}  {'error':>7}  " + "  ".join(f"{one:>10}" for one in headings)
    )
    for way in found.ways:
        times = [in_seconds(way.timings[at].median) if at in way.timings else "–" for at in found.threads]
        lines.append(
            f"{way.name:38}  {in_bytes(way.peak_bytes):>9}  {in_flops(way.flops):>9}  {way.difference:7.0e}  "
            + "  ".join(f"{one:>10}" for one in times)
        )
    lines += [f"Not run: {way} ({why})." for way, why in found.left_out.items()]
    lines += ["", "Memory is what tensors take beyond query, key and value; the error is the largest one from float64."]
    return [*lines, *_verdict(found), *_busy(found)]


def curves_drawing(found: AttentionCurves, name: str) -> str:
    """Return an SVG of memory and time against the size of a chunk, and of time against threads."""
    chunks = [way for way in found.ways if way.rows is not None]
    sizes = [way.rows or 0 for way in chunks]
    fixed = [way for way in found.ways if way.rows is None]
    most = found.threads[-1]

    def levels(value_of: Callable[[Way], float]) -> list[Curve]:
        ends = [sizes[0], sizes[-1]]
        return [Curve(name=way.name.split(",")[0], x=ends, y=[value_of(way)] * 2, dashed=True) for way in fixed]

    def by_size(value_of: Callable[[Way], float]) -> list[Curve]:
        own = Curve(name="chunks of that size", x=sizes, y=[value_of(way) for way in chunks])
        return [own, *levels(value_of)]

    label = "queries of a chunk; the last takes all at once"
    drawings = [
        draw_curves(
            by_size(lambda way: way.peak_bytes), title=f"Memory of attention in {name}", y_label="bytes", x_label=label
        ),
        draw_curves(
            by_size(lambda way: way.timings[most].median),
            title=f"Time by the size of a chunk, {most} threads",
            y_label="seconds",
            x_label=label,
        ),
    ]
    spread = [way for way in found.ways if len(way.timings) > 1]
    if spread:
        curves = [
            Curve(
                name=way.name.split(",")[0],
                x=list(way.timings),
                y=[timing.median for timing in way.timings.values()],
            )
            for way in spread
        ]
        drawings.append(draw_curves(curves, title="Time by threads", y_label="seconds", x_label="threads"))
    return one_above_the_other(drawings, title=f"Attention of {name} by chunks and threads")


def _verdict(found: AttentionCurves) -> Iterator[str]:
    """Say what the smallest memory and the shortest time are, against all at once."""
    whole = next((way for way in found.ways if way.rows == found.work.q_len), None)
    most = found.threads[-1]
    least = min(found.ways, key=lambda way: way.peak_bytes)
    fastest = min(found.ways, key=lambda way: way.timings[most].median)
    if whole is not None and least is not whole:
        yield f"{least.name} takes {whole.peak_bytes / least.peak_bytes:,.0f} times less memory than {whole.name}."
    yield f"{fastest.name} is the fastest with {most} threads."
    first = found.threads[0]
    for way in found.ways:
        if first != most and first in way.timings:
            ratio = way.timings[first].median / way.timings[most].median
            yield f"{way.name}: {ratio:.2f} times as fast with {most} threads as with {first}."


def _busy(found: AttentionCurves) -> Iterator[str]:
    waiting = max((timing.waiting or 0.0 for way in found.ways for timing in way.timings.values()), default=0.0)
    if waiting > _BUSY:
        yield f"Busy machine: threads waited up to {waiting:.0%} of the time for a core; measure again."
