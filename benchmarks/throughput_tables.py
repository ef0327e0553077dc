"""The part of `throughput` that writes down what was measured of torch networks."""

from __future__ import annotations

import numpy as np
import torch

from measuring import Run, digits, flops, ratios, spread, votes_differ
from peers import BATCH_SIZES, N_SELECTION, Setting
from tables import rest_table
from throughput_networks import (
    BESIDE,
    MATRIX_SIZE,
    N_PRODUCTS,
    PLAIN,
    WITHOUT_SHORTCUTS,
    Result,
)


def section(results: list[Result]) -> list[str]:
    """Return the parts of the page about networks."""
    return [
        "Networks\n--------",
        "How many times more a peer costs than randsmooth: median of the rounds, and quartiles. "
        "*Processor*: seconds of all threads added up. *Clock*: with all cores to use. A peer is "
        "taken in its better setting in each round. *One process a "
        "core*: the peer's seconds of the processor, dealt out without any loss to as many "
        "processes as there are cores, against randsmooth by the clock. "
        f"A product of matrices on all cores got {free(results):.0f} % of their time: were that "
        "far below 100, other work ran beside, and only the processor's column would count.",
        ratio_table(results),
        "Costs\n~~~~~",
        "The first call of randsmooth includes what it does once, such as compiling; the other "
        "columns do not. A peer stands in two rows where the processor and the clock disagree on "
        "its best setting.",
        cost_table(results),
        "What the search for a peer's batch found with one thread of torch, µs of the processor "
        "per draw:",
        search_table(results),
        "Where the time goes\n~~~~~~~~~~~~~~~~~~~",
        "*Outside the network*: the share of the processor's time that is not the network's own, "
        "which was fed as many rows by itself, in the batches and the memory layout that the "
        "engine chose. *Speed*: the network's operations times the draws per second of the "
        "processor, shortcuts or not, and its share of what a float32 product of two matrices of "
        f"{MATRIX_SIZE} rows reaches beside it on the same cores; kernels of convolutions can be "
        "faster than that product.",
        breakdown_table(results),
        "Do the tools count the same?\n~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
        "Fisher's exact test, for each input, of the votes for its leading class against those of "
        "randsmooth in the last round, drawn with other noise: the smallest p-value, times the "
        "number of inputs.",
        agreement_table(results),
    ]


def free(results: list[Result]) -> float:
    """Return the share of the cores' time, in per cent, that a run on all of them got."""
    shares = [
        cost.cpu / (cost.wall * result.n_jobs)
        for result in results
        for cost in result.product.costs
    ]
    return 100 * float(np.median(shares))


def ratio_table(results: list[Result]) -> str:
    rows = [
        [result.case.name, run.tool, tool, *ratio_cells(result, run, tool)]
        for result in results
        for run in result.own
        for tool in BESIDE
    ]
    clocks = ("processor", "clock", "one process a core")
    return rest_table(["network", "tool", "beside", *clocks], rows)


def ratio_cells(result: Result, run: Run, tool: str) -> list[str]:
    if not (best := result.best(tool)):
        return ["absent"] * 3
    return [
        ratios([cost.cpu for cost in best], run.cpu),
        ratios([cost.wall for cost in best], run.wall),
        ratios([cost.cpu / result.n_jobs for cost in best], run.wall),
    ]


def cost_table(results: list[Result]) -> str:
    rows = []
    for result in results:
        case = result.case
        for run in (*result.own, *result.others):
            cpu = spread([1e6 * seconds / case.n_rows for seconds in run.cpu])
            wall = spread([1e3 * seconds / case.n_inputs for seconds in run.wall])
            first = result.first_calls.get(run.tool)
            size = f"{case.n_inputs} x {case.n_draws}"
            once = "" if first is None else f"{first:.1f}"
            rows.append([case.name, size, run.tool, run.setting, cpu, wall, once])
    header = ["network", "inputs x draws", "tool", "setting", "processor, µs per draw"]
    return rest_table([*header, "clock, ms per input", "first call, s"], rows)


def search_table(results: list[Result]) -> str:
    rows = []
    for result in results:
        case = result.case
        n_rows = case.n_searched * (case.n_searched_draws + N_SELECTION)
        for peer, tried in result.searches.items():
            cpu = [1e6 * tried[Setting(size, 1)].cpu / n_rows for size in BATCH_SIZES]
            rows.append([case.name, peer, *map(digits, cpu)])
    return rest_table(["network", "tool", *(f"batch {size}" for size in BATCH_SIZES)], rows)


def breakdown_table(results: list[Result]) -> str:
    rows = []
    for result in results:
        case = result.case
        per_row = flops(case.network, torch.from_numpy(case.inputs[:1]))
        n_operations = 2 * MATRIX_SIZE**3 * N_PRODUCTS * result.n_jobs
        product = [n_operations / seconds for seconds in result.product.cpu]
        tools = [run.tool for run in result.own]
        plainest = WITHOUT_SHORTCUTS if WITHOUT_SHORTCUTS in tools else PLAIN
        for run in result.own:
            speed = [per_row * case.n_rows / seconds for seconds in run.cpu]
            outside = ["", ""] if run.tool != plainest else outside_cells(result, run)
            rows.append(
                [
                    case.name,
                    run.tool,
                    f"{per_row / 1e6:.3g}",
                    *outside,
                    spread([one / 1e9 for one in speed]),
                    ratios(speed, product),
                ]
            )
    header = ["network", "tool", "million operations per draw", "batch", "outside the network, %"]
    return rest_table([*header, "speed, GFLOP/s", "share of the product's"], rows)


def outside_cells(result: Result, run: Run) -> list[str]:
    """Return the engine's batch, and the share of its time outside the network in per cent."""
    if result.alone is None:
        return ["", "not seen"]
    pairs = zip(result.alone.cpu, run.cpu, strict=True)
    return [str(result.batch), spread([100 * (1 - bare / whole) for bare, whole in pairs])]


def agreement_table(results: list[Result]) -> str:
    rows = []
    for result in results:
        first, *rest = result.own
        leading = np.median(first.result.max(axis=1) / first.result.sum(axis=1))
        for run in (*rest, *result.others):
            p_value = votes_differ(first.result, run.result)
            rows.append(
                [result.case.name, f"{leading:.2f}", run.tool, run.setting, f"{p_value:.2g}"]
            )
    header = ["network", "median share of the leading class", "tool", "setting", "p-value"]
    return rest_table(header, rows)
