from __future__ import annotations

import subprocess
import sys
from threading import Event, Thread
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from randsmooth.bases import ArrayBase, Base, NetBase
from randsmooth.batch_size import BatchSize, automatic_batch_size
from randsmooth.entrance import Entrance, entrance
from randsmooth.network import net_base
from randsmooth.noise import Gaussian, Laplace, Noise, Stream, Uniform, row_key
from randsmooth.noise_bank import SHARED, Ballot, DeviceNoiseBank, noise_bank, philox_offset
from randsmooth.parallel import Tally, count_in_chunks
from randsmooth.speed import Speed
from randsmooth.stopping import FixedDraws, PlannedDraws
from randsmooth.voting import RunInterruptedError, count_votes

N_INPUTS, N_FEATURES, N_CLASSES = 23, 6, 4


def ballot(
    *,
    noise: Noise | None = None,
    stream: Stream = Stream.ESTIMATION,
    seed: int = 7,
    common_noise: bool = True,
) -> Ballot:
    return Ballot(noise or Gaussian(0.5), seed, stream, common_noise)


def plain_entrance(base: Base, X: NDArray[np.floating]) -> Entrance:
    speed = Speed(shortcuts=False)
    return entrance(base, X.shape[1:], Gaussian(0.5), common_noise=True, speed=speed)


def votes(
    base: Base,
    X: NDArray[np.floating],
    ballot: Ballot,
    n_draws: int = 300,
    *,
    batch_size: int = 64,
    **settings: Any,
) -> NDArray[np.int64]:
    rule = FixedDraws(n_draws, len(X))
    size = BatchSize(batch_size)
    return count_votes(plain_entrance(base, X), X, ballot, rule, batch_size=size, **settings)


def tally(
    base: Base, X: NDArray[np.floating], n_draws: int = 300, *, n_jobs: int = 1, verbose: int = 0
) -> Tally:
    return count_in_chunks(
        plain_entrance(base, X),
        X,
        ballot(),
        FixedDraws(n_draws, len(X)),
        batch_size=BatchSize(64),
        n_jobs=n_jobs,
        description="votes",
        verbose=verbose,
    )


def draws(plan: Ballot, X: NDArray[np.floating], n_draws: int) -> NDArray[np.floating]:
    """Return the noise of every input, shape (1 or n_inputs, n_draws, ...)."""
    bank = noise_bank(plan, X.shape[1:], X.dtype, torch.device("cpu"))
    keys = [SHARED] if plan.common_noise else [row_key(x) for x in X]
    starts = range(0, n_draws, bank.per_block)
    pieces = [bank.piece(keys, i, min(n_draws, i + bank.per_block)).clone() for i in starts]
    return torch.cat(pieces, dim=1).numpy()


def linear_base(n_features: int = N_FEATURES) -> NetBase:
    weight = torch.from_numpy(
        np.random.default_rng(1).normal(size=(N_CLASSES, n_features)).astype(np.float32)
    )
    return NetBase(lambda x: x.flatten(1) @ weight.T, N_CLASSES, torch.float32, torch.device("cpu"))


@pytest.fixture(name="X")
def inputs() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(N_INPUTS, N_FEATURES)).astype(np.float32)


@pytest.mark.parametrize("common_noise", [True, False])
def test_votes_are_those_of_the_base_on_the_noisy_inputs_one_by_one(
    X: NDArray[np.float32], common_noise: bool
) -> None:
    plan = ballot(common_noise=common_noise)
    base = linear_base()
    noise = np.broadcast_to(draws(plan, X, 2500), (len(X), 2500, N_FEATURES))
    expected = [
        np.bincount(base.votes(torch.from_numpy(x + z)).numpy(), minlength=N_CLASSES + 1)
        for x, z in zip(X, noise, strict=True)
    ]
    assert np.array_equal(votes(base, X, plan, 2500), expected)


@pytest.mark.parametrize("common_noise", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 100, 1024, 10**6])
def test_votes_are_equal_for_every_batch_size(
    X: NDArray[np.float32], batch_size: int, common_noise: bool
) -> None:
    plan = ballot(common_noise=common_noise)
    reference = votes(linear_base(), X, plan, batch_size=256)
    assert np.array_equal(votes(linear_base(), X, plan, batch_size=batch_size), reference)


@pytest.mark.parametrize("common_noise", [True, False])
def test_votes_are_equal_for_every_row_order_and_subset(
    X: NDArray[np.float32], common_noise: bool
) -> None:
    plan = ballot(common_noise=common_noise)
    reference = votes(linear_base(), X, plan)
    order = np.random.default_rng(2).permutation(len(X))
    assert np.array_equal(votes(linear_base(), X[order], plan), reference[order])
    assert np.array_equal(votes(linear_base(), X[5:9], plan), reference[5:9])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_votes_are_equal_for_every_number_of_jobs(X: NDArray[np.float32], backend: str) -> None:
    classifier = LogisticRegression().fit(X, np.arange(len(X)) % N_CLASSES)
    base = ArrayBase(classifier, np.arange(N_CLASSES), torch.float32)
    alone = tally(base, X)
    with joblib.parallel_config(backend):
        together = tally(base, X, n_jobs=2)
    assert np.array_equal(alone.counts, together.counts)


def test_more_draws_extend_fewer_draws(X: NDArray[np.float32]) -> None:
    counts = [votes(linear_base(), X, ballot(), n) for n in (100, 1024, 1500)]
    assert (counts[0] <= counts[1]).all()
    assert (counts[1] <= counts[2]).all()
    assert [v.sum(axis=1).tolist() for v in counts] == [[n] * len(X) for n in (100, 1024, 1500)]


@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.3), Uniform(0.4)])
@pytest.mark.parametrize("common_noise", [True, False])
def test_draws_are_the_same_however_they_are_asked_for(
    X: NDArray[np.float32], noise: Noise, common_noise: bool
) -> None:
    plan = ballot(noise=noise, common_noise=common_noise)
    whole = draws(plan, X, 2100)
    bank = noise_bank(plan, X.shape[1:], X.dtype, torch.device("cpu"))
    keys = [SHARED] if common_noise else [row_key(x) for x in X]
    for start, stop in [(0, 50), (50, 57), (57, 1024), (1024, 1100), (30, 33), (1500, 2048)]:
        piece = bank.piece(keys, start, stop)
        assert np.array_equal(piece.numpy(), whole[:, start:stop])
    bank.forget(keys[:3])
    assert np.array_equal(bank.piece(keys[:1], 2048, 2100).numpy(), whole[:1, 2048:])


def test_a_range_of_draws_is_cut_at_the_ends_of_blocks() -> None:
    bank = noise_bank(ballot(), (3, 32, 32), np.float32, torch.device("cpu"))
    assert bank.per_block == 341
    assert bank.end_of_piece(300, 1000, 512) == 341
    assert bank.end_of_piece(341, 1000, 100) == 441
    assert bank.end_of_piece(682, 1000, 512) == 1000


def test_blocks_of_a_device_never_share_their_counter() -> None:
    offsets = [philox_offset(stream, block) for stream in Stream for block in (0, 1, 2, 2**28 - 1)]
    assert len(set(offsets)) == len(offsets)
    assert offsets == sorted(offsets)
    assert min(np.diff(offsets)) >= 2**30
    assert max(offsets) < 2**63
    with pytest.raises(ValueError, match=r"^block must lie from 0 to 2\*\*28 - 1 on a device"):
        philox_offset(Stream.SELECTION, 2**28)


@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.3), Uniform(0.4)])
@pytest.mark.parametrize("common_noise", [True, False])
def test_draws_of_a_device_are_the_same_however_they_are_asked_for(
    X: NDArray[np.float32], noise: Noise, common_noise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The CPU's generator stands for the device's: it has no counter, but a seed for each.
    def generator(device: torch.device, seed: int, offset: int) -> torch.Generator:
        assert offset % 4 == 0
        return torch.Generator(device).manual_seed((seed * 31 + offset * 17) % 2**32)

    monkeypatch.setattr("randsmooth.noise_bank._device_generator", generator)
    plan = ballot(noise=noise, common_noise=common_noise)

    def bank() -> DeviceNoiseBank:
        return DeviceNoiseBank(plan, X.shape[1:], X.dtype, torch.device("cpu"))

    keys = [SHARED] if common_noise else [row_key(x) for x in X[:5]]
    whole = [bank().piece(keys, start, start + 1024) for start in (0, 1024)]
    used = bank()
    for start, stop in [(0, 50), (50, 57), (57, 1024), (100, 130)]:
        assert torch.equal(used.piece(keys, start, stop), whole[0][:, start:stop])
    assert torch.equal(used.piece(keys, 1030, 1040), whole[1][:, 6:16])
    assert len(torch.unique(torch.stack(whole))) > 0.98 * 2 * whole[0].numel()
    exact = {"gaussian": 0.5, "laplace": 0.3 * 2**0.5, "uniform": 0.4 / 3**0.5}
    assert whole[0].std().item() == pytest.approx(exact[noise.name], rel=0.05)
    assert abs(whole[0].mean().item()) < 0.03


def test_streams_and_seeds_draw_different_noise(X: NDArray[np.float32]) -> None:
    banks = [draws(ballot(stream=stream), X, 300) for stream in Stream]
    banks.append(draws(ballot(seed=8), X, 300))
    rows = np.concatenate([bank.reshape(-1, N_FEATURES) for bank in banks])
    assert len(np.unique(rows, axis=0)) == len(rows)  # single numbers may coincide


def test_inputs_share_the_noise_only_where_it_is_common(X: NDArray[np.float32]) -> None:
    assert draws(ballot(), X, 10).shape == (1, 10, N_FEATURES)
    own = draws(ballot(common_noise=False), X, 10)
    assert own.shape == (N_INPUTS, 10, N_FEATURES)
    assert len(np.unique(own)) == own.size


@pytest.mark.parametrize("common_noise", [True, False])
def test_each_input_gets_the_first_of_its_draws_as_many_as_were_planned(
    X: NDArray[np.float32], common_noise: bool
) -> None:
    plan = ballot(common_noise=common_noise)
    planned = np.random.default_rng(3).integers(0, 1500, len(X))
    planned[4] = 0
    counts = count_votes(
        plain_entrance(linear_base(), X), X, plan, PlannedDraws(planned), batch_size=BatchSize(64)
    )
    assert counts.sum(axis=1).tolist() == planned.tolist()
    for row in (0, 4, 11):
        alone = votes(linear_base(), X[row : row + 1], plan, int(planned[row]))
        assert np.array_equal(counts[row], alone[0])


def test_batches_stay_full_while_inputs_leave(X: NDArray[np.float32]) -> None:
    sizes = []

    def forward(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return linear_base().forward(rows)

    base = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    planned = np.full(len(X), 64)
    planned[::5] = 960
    rule = PlannedDraws(planned)
    count_votes(plain_entrance(base, X), X, ballot(), rule, batch_size=BatchSize(320))
    assert np.mean(sizes) > 0.9 * 320, sizes


def test_a_vote_without_a_finite_output_is_counted_apart(X: NDArray[np.float32]) -> None:
    def forward(x: Tensor) -> Tensor:
        outputs = x[:, :2].clone()
        outputs[x[:, 0] > 1] = torch.nan
        outputs[x[:, 0] < -1, 1] = torch.inf
        return outputs

    base = NetBase(forward, 2, torch.float32, torch.device("cpu"))
    counts = votes(base, X, ballot(), 1000)
    noise = draws(ballot(), X, 1000)[0, :, 0]
    expected = [(np.abs(x[0] + noise) > 1).sum() for x in X]
    assert counts[:, 2].tolist() == expected
    assert (counts.sum(axis=1) == 1000).all()


def test_columns_past_the_classes_do_not_vote(X: NDArray[np.float32]) -> None:
    base = NetBase(lambda x: x, 2, torch.float32, torch.device("cpu"))
    first_two = NetBase(lambda x: x[:, :2], 2, torch.float32, torch.device("cpu"))
    assert np.array_equal(
        votes(base, X, ballot()),
        votes(first_two, X, ballot()),
    )


def test_a_single_output_votes_by_its_threshold(X: NDArray[np.float32]) -> None:
    base = NetBase(lambda x: x[:, 0], 2, torch.float32, torch.device("cpu"), threshold=0.3)
    sides = base.votes(torch.from_numpy(X))
    assert sides.tolist() == (X[:, 0] > 0.3).astype(int).tolist()


def test_the_batch_size_halves_until_memory_suffices(X: NDArray[np.float32]) -> None:
    sizes = []

    def forward(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 40:
            raise torch.OutOfMemoryError("too large")
        return linear_base().forward(x)

    tight = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    counts = votes(tight, X, ballot(), batch_size=256)
    assert np.array_equal(counts, votes(linear_base(), X, ballot(), batch_size=256))
    assert max(sizes[5:]) <= 40


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("too large"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError("Unable to allocate 3 TiB"),
    ],
)
def test_memory_that_never_suffices_is_an_error_that_names_the_row(
    X: NDArray[np.float32], error: Exception
) -> None:
    def forward(x: Tensor) -> Tensor:
        raise error

    base = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    with pytest.raises(
        MemoryError, match=r"^not even one row of shape \(6,\) fits into the memory"
    ):
        votes(base, X, ballot())


def test_a_run_stops_soon_after_it_is_told_to(X: NDArray[np.float32]) -> None:
    stop, calls = Event(), []

    def forward(x: Tensor) -> Tensor:
        calls.append(len(x))
        if len(calls) == 3:
            stop.set()
        return linear_base().forward(x)

    base = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    with pytest.raises(RunInterruptedError):
        votes(base, X, ballot(), 10**6, stop=stop)
    assert len(calls) == 3


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_costs_the_input_it_hits_and_no_other(X: NDArray[np.float32], n_jobs: int) -> None:
    X = X.copy()
    X[[4, 17], 0] = 1e6

    def forward(x: Tensor) -> Tensor:
        if (x[:, 0] > 1e5).any():
            raise RuntimeError("cannot classify this")
        return linear_base().forward(x)

    base = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    result = tally(base, X, n_jobs=n_jobs)
    counts = result.counts
    assert sorted(result.errors) == [4, 17]
    assert str(result.errors[4]) == "cannot classify this"
    kept = np.setdiff1d(np.arange(len(X)), [4, 17])
    expected = votes(linear_base(), X[kept], ballot())
    assert np.array_equal(counts[kept], expected)
    assert not counts[[4, 17]].any()


def test_torch_gets_its_threads_back(X: NDArray[np.float32]) -> None:
    before = torch.get_num_threads()
    tally(linear_base(), X, n_jobs=2)
    assert torch.get_num_threads() == before


def test_torch_gets_its_threads_back_after_runs_that_overlap(X: NDArray[np.float32]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inside, other_done = Event(), Event()

        def forward(x: Tensor) -> Tensor:
            inside.set()
            other_done.wait(20)
            return linear_base().forward(x)

        waiting = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
        first = Thread(target=tally, args=(waiting, X), kwargs={"n_jobs": 2})
        first.start()
        assert inside.wait(20)
        tally(linear_base(), X, n_jobs=2)
        other_done.set()
        first.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_reports_every_draw_and_every_input_once(
    X: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    advanced: list[tuple[int, int]] = []
    votes(linear_base(), X, ballot(), 2100, advance=lambda *done: advanced.append(done))
    assert np.sum(advanced, axis=0).tolist() == [len(X) * 2100, len(X)]
    tally(linear_base(), X, 2100, verbose=1)
    assert "votes: 100%" in capsys.readouterr().err


def test_images_of_any_shape_are_counted_like_their_flat_rows() -> None:
    images = np.random.default_rng(0).normal(size=(9, 3, 5, 2)).astype(np.float32)
    flat = images.reshape(9, -1)
    noise = Laplace(0.3)
    assert np.array_equal(
        votes(linear_base(30), images, ballot(noise=noise)),
        votes(linear_base(30), flat, ballot(noise=noise)),
    )


def test_automatic_batch_sizes_shrink_with_the_largest_tensor_of_a_row() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    sizes = [
        automatic_batch_size(
            NetBase(linear_base().forward, 2, torch.float32, cpu, row_values=n), (8, 8)
        ).rows
        for n in (1, 36_864, 98_304, 10**9)
    ]
    assert sizes == [512, 32, 16, 16]
    on_gpu = NetBase(linear_base().forward, 2, torch.float32, gpu, row_values=802_816)
    assert automatic_batch_size(on_gpu, (3, 224, 224)).rows == 336
    table = ArrayBase(LogisticRegression(), np.arange(2), torch.float64)
    assert automatic_batch_size(table, (4,)).rows == 8192


def test_the_largest_tensor_is_found_by_one_forward_pass() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 7, 3), torch.nn.Flatten(), torch.nn.Linear(252, 3))
    base = net_base(net, np.zeros((1, 1, 8, 8), dtype=np.float32), "cpu")
    assert base.row_values == 252
    assert not any(part._forward_hooks for part in net.modules())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_draws() -> None:
    script = """
import resource, sys, numpy as np
from sklearn.frozen import FrozenEstimator
from torch import nn
from randsmooth import SmoothedClassifier
X = np.zeros((3, 50), dtype=np.float32)
net = FrozenEstimator(nn.Sequential(nn.Linear(50, 60), nn.ReLU(), nn.Linear(60, 3)))
clf = SmoothedClassifier(net, n_estimation=int(sys.argv[1])).fit(X, [0, 1, 2])
clf.certify(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    few, many = (
        int(subprocess.run([sys.executable, "-c", script, n], capture_output=True).stdout)
        for n in ("10000", "1000000")
    )
    assert many < few + 15_000  # kilobytes; the draws alone would take 600 megabytes
