from __future__ import annotations

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from randsmooth.bases import ArrayBase, NetBase, net_base
from randsmooth.noise import Gaussian, Laplace, Noise, Stream
from randsmooth.parallel import count_in_chunks
from randsmooth.voting import Ballot, automatic_batch_size, count_votes

N_INPUTS, N_FEATURES, N_CLASSES = 23, 6, 4


def ballot(
    n_draws: int = 300,
    *,
    noise: Noise | None = None,
    stream: Stream = Stream.ESTIMATION,
    seed: int = 7,
    common_noise: bool = True,
) -> Ballot:
    return Ballot(noise or Gaussian(0.5), seed, stream, n_draws, common_noise)


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
    plan = ballot(2500, common_noise=common_noise)
    base = linear_base()
    expected = np.zeros((len(X), N_CLASSES + 1), dtype=int)
    for index, size in enumerate(plan.blocks(N_FEATURES)):
        for row in range(len(X)):
            noise = plan.block(index, size, X[row : row + 1])[0]
            np.add.at(expected[row], base.votes(torch.from_numpy(X[row]) + noise).numpy(), 1)
    assert np.array_equal(count_votes(base, X, plan, batch_size=64), expected)


@pytest.mark.parametrize("common_noise", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 100, 1024, 10**6])
def test_votes_are_equal_for_every_batch_size(
    X: NDArray[np.float32], batch_size: int, common_noise: bool
) -> None:
    plan = ballot(common_noise=common_noise)
    reference = count_votes(linear_base(), X, plan, batch_size=256)
    assert np.array_equal(count_votes(linear_base(), X, plan, batch_size=batch_size), reference)


@pytest.mark.parametrize("common_noise", [True, False])
def test_votes_are_equal_for_every_row_order_and_subset(
    X: NDArray[np.float32], common_noise: bool
) -> None:
    plan = ballot(common_noise=common_noise)
    reference = count_votes(linear_base(), X, plan, batch_size=64)
    order = np.random.default_rng(2).permutation(len(X))
    assert np.array_equal(
        count_votes(linear_base(), X[order], plan, batch_size=64), reference[order]
    )
    assert np.array_equal(count_votes(linear_base(), X[5:9], plan, batch_size=64), reference[5:9])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_votes_are_equal_for_every_number_of_jobs(X: NDArray[np.float32], backend: str) -> None:
    classifier = LogisticRegression().fit(X, np.arange(len(X)) % N_CLASSES)
    base = ArrayBase(classifier, np.arange(N_CLASSES), torch.float32)
    settings = {"batch_size": 64, "description": "", "verbose": 0}
    alone, _ = count_in_chunks(base, X, ballot(), n_jobs=1, **settings)
    with joblib.parallel_config(backend):
        together, _ = count_in_chunks(base, X, ballot(), n_jobs=2, **settings)
    assert np.array_equal(alone, together)


def test_more_draws_extend_fewer_draws(X: NDArray[np.float32]) -> None:
    votes = [count_votes(linear_base(), X, ballot(n), batch_size=64) for n in (100, 1024, 1500)]
    assert (votes[0] <= votes[1]).all()
    assert (votes[1] <= votes[2]).all()
    assert [v.sum(axis=1).tolist() for v in votes] == [[n] * len(X) for n in (100, 1024, 1500)]


def test_streams_and_seeds_draw_different_noise(X: NDArray[np.float32]) -> None:
    selection = ballot(stream=Stream.SELECTION).block(0, 300, X)
    estimation = ballot().block(0, 300, X)
    another = ballot(seed=8).block(0, 300, X)
    assert not torch.isin(selection, estimation).any()
    assert not torch.isin(another, estimation).any()


def test_inputs_share_the_noise_only_where_it_is_common(X: NDArray[np.float32]) -> None:
    assert ballot().block(0, 10, X).shape == (1, 10, N_FEATURES)
    own = ballot(common_noise=False).block(0, 10, X)
    assert own.shape == (N_INPUTS, 10, N_FEATURES)
    assert len(torch.unique(own)) == own.numel()


def test_a_vote_without_a_finite_output_is_counted_apart(X: NDArray[np.float32]) -> None:
    def forward(x: Tensor) -> Tensor:
        outputs = x[:, :2].clone()
        outputs[x[:, 0] > 1] = torch.nan
        outputs[x[:, 0] < -1, 1] = torch.inf
        return outputs

    base = NetBase(forward, 2, torch.float32, torch.device("cpu"))
    plan = ballot(1000)
    counts = count_votes(base, X, plan, batch_size=64)
    noise = plan.block(0, 1000, X)[0, :, 0].numpy()
    expected = [(np.abs(x[0] + noise) > 1).sum() for x in X]
    assert counts[:, 2].tolist() == expected
    assert (counts.sum(axis=1) == 1000).all()


def test_columns_past_the_classes_do_not_vote(X: NDArray[np.float32]) -> None:
    base = NetBase(lambda x: x, 2, torch.float32, torch.device("cpu"))
    first_two = NetBase(lambda x: x[:, :2], 2, torch.float32, torch.device("cpu"))
    assert np.array_equal(
        count_votes(base, X, ballot(), batch_size=64),
        count_votes(first_two, X, ballot(), batch_size=64),
    )


def test_a_single_output_votes_by_its_threshold(X: NDArray[np.float32]) -> None:
    base = NetBase(lambda x: x[:, 0], 2, torch.float32, torch.device("cpu"), threshold=0.3)
    votes = base.votes(torch.from_numpy(X))
    assert votes.tolist() == (X[:, 0] > 0.3).astype(int).tolist()


def test_the_batch_size_halves_until_memory_suffices(X: NDArray[np.float32]) -> None:
    sizes = []

    def forward(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 40:
            raise torch.OutOfMemoryError("too large")
        return linear_base().forward(x)

    tight = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    counts = count_votes(tight, X, ballot(), batch_size=256)
    assert np.array_equal(counts, count_votes(linear_base(), X, ballot(), batch_size=256))
    assert max(sizes[5:]) <= 40


def test_memory_that_never_suffices_is_an_error(X: NDArray[np.float32]) -> None:
    def forward(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("too large")

    base = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    with pytest.raises(torch.OutOfMemoryError, match=r"^too large"):
        count_votes(base, X, ballot(), batch_size=64)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_costs_the_input_it_hits_and_no_other(X: NDArray[np.float32], n_jobs: int) -> None:
    X = X.copy()
    X[[4, 17], 0] = 1e6

    def forward(x: Tensor) -> Tensor:
        if (x[:, 0] > 1e5).any():
            raise RuntimeError("cannot classify this")
        return linear_base().forward(x)

    base = NetBase(forward, N_CLASSES, torch.float32, torch.device("cpu"))
    counts, errors = count_in_chunks(
        base, X, ballot(), batch_size=64, n_jobs=n_jobs, description="", verbose=0
    )
    assert sorted(errors) == [4, 17]
    assert str(errors[4]) == "cannot classify this"
    kept = np.setdiff1d(np.arange(len(X)), [4, 17])
    expected = count_votes(linear_base(), X[kept], ballot(), batch_size=64)
    assert np.array_equal(counts[kept], expected)
    assert not counts[[4, 17]].any()


def test_torch_gets_its_threads_back(X: NDArray[np.float32]) -> None:
    before = torch.get_num_threads()
    count_in_chunks(linear_base(), X, ballot(), batch_size=64, n_jobs=2, description="", verbose=0)
    assert torch.get_num_threads() == before


def test_progress_reports_every_draw_once(X: NDArray[np.float32], capsys) -> None:
    advanced: list[int] = []
    plan = ballot(2100)
    count_votes(linear_base(), X, plan, batch_size=64, advance=advanced.append)
    assert sum(advanced) == len(X) * 2100
    count_in_chunks(linear_base(), X, plan, batch_size=64, n_jobs=1, description="votes", verbose=1)
    assert "votes: 100%" in capsys.readouterr().err


def test_images_of_any_shape_are_counted_like_their_flat_rows() -> None:
    images = np.random.default_rng(0).normal(size=(9, 3, 5, 2)).astype(np.float32)
    flat = images.reshape(9, -1)
    noise = Laplace(0.3)
    assert np.array_equal(
        count_votes(linear_base(30), images, ballot(noise=noise), batch_size=64),
        count_votes(linear_base(30), flat, ballot(noise=noise), batch_size=64),
    )


def test_automatic_batch_sizes_shrink_with_the_largest_tensor_of_a_row() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    sizes = [
        automatic_batch_size(
            NetBase(linear_base().forward, 2, torch.float32, cpu, row_values=n), (8, 8)
        )
        for n in (1, 36_864, 98_304, 10**9)
    ]
    assert sizes == [512, 32, 16, 16]
    on_gpu = NetBase(linear_base().forward, 2, torch.float32, gpu, row_values=802_816)
    assert automatic_batch_size(on_gpu, (3, 224, 224)) == 336
    table = ArrayBase(LogisticRegression(), np.arange(2), torch.float64)
    assert automatic_batch_size(table, (4,)) == 8192


def test_the_largest_tensor_is_found_by_one_forward_pass() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 7, 3), torch.nn.Flatten(), torch.nn.Linear(252, 3))
    base = net_base(net, np.zeros((1, 1, 8, 8), dtype=np.float32), "cpu")
    assert base.row_values == 252
    assert not any(part._forward_hooks for part in net.modules())
