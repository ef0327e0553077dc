from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

from randsmooth.affine_head import affine_head, gaussian_root
from randsmooth.models import CIFARNet, MNISTNet, Normalize, ResNet20

IMAGE = (2, 6, 6)
N_VALUES = 72


class Written(nn.Module):
    """A network whose forward pass is a function of its layers and the rows."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], n_inputs: int = N_VALUES) -> None:
        super().__init__()
        self.first = nn.Linear(n_inputs, 5)
        self.second = nn.Linear(5, 3)
        self.conv = nn.Conv2d(2, 4, 3)
        self.mean = nn.Parameter(torch.tensor([0.5, -0.25]).view(2, 1, 1))
        self.function = forward

    def forward(self, rows: Tensor, scale: float | None = None) -> Any:
        return self.function(self, rows if scale is None else rows * scale)


def mlp(*start: nn.Module) -> nn.Sequential:
    return nn.Sequential(*start, nn.Flatten(), nn.Linear(N_VALUES, 5), nn.ReLU(), nn.Linear(5, 3))


def conv_net(conv: nn.Module, *behind: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, *behind, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def batch_norm(n_channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(n_channels)
    nn.init.uniform_(layer.running_mean, -1, 1)
    nn.init.uniform_(layer.running_var, 0.5, 2)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.uniform_(layer.bias, -1, 1)
    return layer


def unpacked(net: Any, x: Tensor) -> Tensor:
    n_rows, channels, height, width = x.shape
    logits: Tensor = net.second(net.first(x.reshape(n_rows, channels * height * width)).relu())
    return logits.view(n_rows, 3)


def rows_counted_behind(net: Any, x: Tensor) -> Tensor:
    n_rows = x.shape[0]
    logits: Tensor = net.second(net.first(x.flatten(1)).relu()).view(n_rows, -1)
    return logits


def shortcut_behind_head(net: Any, x: Tensor) -> Tensor:
    hidden = net.first(x.flatten(1))
    logits: Tensor = net.second(hidden.relu() + hidden)
    return logits


def normalised(net: Any, x: Tensor) -> Tensor:
    logits: Tensor = net.second(net.first(((x - net.mean) / 0.5 * 2).flatten(1)).tanh())
    return logits


def dense(view: Callable[[Tensor], Tensor]) -> Written:
    return Written(lambda net, x: net.second(F.relu(net.first(view(x)))))


# Name, network, and whether the hidden values are flat rows.
SPLIT: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "perceptron": (mlp, True),
    "nested": (lambda: nn.Sequential(nn.Sequential(mlp()), nn.Identity()), True),
    "logistic regression": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(N_VALUES, 3)), True),
    "two dense layers": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(N_VALUES, 4), nn.Linear(4, 3), nn.Tanh()),
        True,
    ),
    "dropout": (lambda: mlp(nn.Dropout(0.5), nn.Dropout2d()), True),
    "batch normalisation": (lambda: mlp(batch_norm(2)), True),
    "channels standardised": (lambda: mlp(Normalize((0.5, 0.4), (0.2, 0.3))), True),
    "arithmetic": (lambda: Written(normalised), True),
    "view by size": (lambda: dense(lambda x: x.view(x.size(0), -1)), True),
    "view by shape": (lambda: dense(lambda x: x.view(x.shape[0], x.shape[-1] * 12)), True),
    "view of unknown rows": (lambda: dense(lambda x: x.view(-1, x.size()[1] * 36)), True),
    "view by whole size": (lambda: dense(lambda x: x.reshape(x.size()[0], 72)), True),
    "flatten": (lambda: dense(lambda x: torch.flatten(x, 1)), True),
    "functional dropout": (lambda: dense(lambda x: F.dropout(x.flatten(1), 0.5, False)), True),
    "unpacked shape": (lambda: Written(unpacked), True),
    "rows counted behind the head": (lambda: Written(rows_counted_behind), True),
    "shortcut behind the head": (lambda: Written(shortcut_behind_head), True),
    "matrix product": (
        lambda: Written(lambda net, x: (x.flatten(1) @ net.first.weight.T).relu()),
        True,
    ),
    "functional": (
        lambda: Written(lambda net, x: F.linear(x.flatten(1), net.first.weight).relu()),
        True,
    ),
    "several outputs": (
        lambda: Written(lambda net, x: (net.second(h := net.first(x.flatten(1)).relu()), h)),
        True,
    ),
    "weights with a parametrisation": (
        lambda: nn.Sequential(
            nn.Flatten(), parametrizations.weight_norm(nn.Linear(N_VALUES, 3)), nn.ReLU()
        ),
        True,
    ),
    "dense layer of each column": (
        lambda: nn.Sequential(nn.Flatten(2), nn.Linear(36, 4), nn.ReLU(), nn.Flatten()),
        False,
    ),
    "convolution": (lambda: conv_net(nn.Conv2d(2, 4, 3, stride=2)), False),
    "circular convolution": (
        lambda: conv_net(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")),
        False,
    ),
    "reflecting convolution": (
        lambda: conv_net(nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), batch_norm(4)),
        False,
    ),
    "convolution in one dimension": (
        lambda: nn.Sequential(nn.Flatten(2), conv_net(nn.Conv1d(2, 4, 3))),
        False,
    ),
    "convolution in three dimensions": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2)), conv_net(nn.Conv3d(1, 4, 2))),
        False,
    ),
    "untraceable pooling later": (
        lambda: nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.ELU(), Pooling(), nn.Flatten()),
        False,
    ),
}


class Pooling(nn.Module):
    """Asks for a comparison that tracing cannot answer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if x.shape[-1] > 2 else x


def made(build: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    net = build()
    with torch.no_grad():
        net.eval()(torch.zeros(1, *IMAGE))  # lazy layers
    return net.train().to(dtype)


def first(outputs: Any) -> Tensor:
    result: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPLIT)
def test_both_parts_together_are_the_network(name: str, dtype: torch.dtype) -> None:
    build, is_dense = SPLIT[name]
    net = made(build, dtype)
    rows = torch.randn(33, *IMAGE, dtype=dtype)
    split = affine_head(net, rows[:1])
    assert split is not None
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    with torch.inference_mode():
        x, z = rows[:1], rows[1:]
        hidden = split.linear(x) + split.head(z)
        torch.testing.assert_close(split.head(x + z), hidden, rtol=tolerance, atol=tolerance)
        expected = first(net.eval()(x + z))
        torch.testing.assert_close(split.tail(hidden), expected, rtol=tolerance, atol=tolerance)
    assert (split.offset.ndim == 2) is is_dense
    assert (split.matrix is not None) is is_dense
    if split.matrix is not None:
        product = (z.double().flatten(1) @ split.matrix).to(dtype)
        torch.testing.assert_close(split.linear(z), product, rtol=tolerance, atol=tolerance)


def test_casts_to_the_type_that_rows_have_are_left_out() -> None:
    torch.manual_seed(0)
    net = dense(lambda x: x.float().contiguous().flatten(1).float())
    split = affine_head(net, torch.rand(1, *IMAGE))
    assert split is not None
    assert torch.equal(split.matrix, net.first.weight.detach().double().T)


@pytest.mark.parametrize(
    ("net", "hidden"),
    [
        (MNISTNet(), (64, 24, 24)),
        (CIFARNet(width=0.25), (24, 32, 32)),
        (nn.Sequential(Normalize((0.5,) * 3, (0.2,) * 3), ResNet20()), (16, 32, 32)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_convolution_of_the_published_networks_is_found(
    net: nn.Module, hidden: tuple[int, ...]
) -> None:
    shape = (1, 28, 28) if isinstance(net, MNISTNet) else (3, 32, 32)
    split = affine_head(net, torch.rand(1, *shape))
    assert split is not None
    assert tuple(split.offset.shape[1:]) == hidden
    # All of the network but its first convolution is still to come.
    assert not any(isinstance(part, nn.ReLU) for part in split.head.modules())


class StaysInTraining(nn.Dropout):
    def train(self, mode: bool = True) -> StaysInTraining:
        return super().train(True)


def with_hook(net: nn.Module, register: str) -> nn.Module:
    getattr(net, register)(lambda *args: None)
    return net


def with_own_forward() -> nn.Module:
    net = mlp()
    forward = net.forward
    net.forward = lambda x: forward(x)  # type: ignore[method-assign]
    return net


def in_place_for_nothing(net: Any, x: Tensor) -> Tensor:
    hidden = net.first(x.flatten(1))
    hidden.relu_()
    logits: Tensor = net.second(hidden)
    return logits


def narrower(net: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: Tensor = net.second(net.first(x.flatten(1)).relu()).float()
    return logits


def not_a_number() -> nn.Module:
    net = mlp()
    nn.init.constant_(net[1].weight, float("nan"))
    return net


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "nonlinear first": lambda: mlp(nn.ReLU()),
    "clamped first": lambda: dense(lambda x: x.clamp(0, 1).flatten(1)),
    "absolute values first": lambda: dense(lambda x: abs(x).flatten(1)),
    "reciprocal": lambda: dense(lambda x: (1 / (x + 100)).flatten(1)),
    "product of inputs": lambda: dense(lambda x: (x * x).flatten(1)),
    "sum with itself changed": lambda: dense(lambda x: (x + x.relu()).flatten(1)),
    "rounded division": lambda: dense(
        lambda x: torch.div(x.flatten(1), 0.1, rounding_mode="floor")
    ),
    "cast elsewhere": lambda: dense(lambda x: x.half().float().flatten(1)),
    "in place on the input": lambda: dense(lambda x: x.clone().sub_(0.5).flatten(1)),
    "input used again": lambda: Written(
        lambda net, x: net.second(net.first(x.flatten(1)).relu()) + x.mean(dim=(1, 2, 3))[:, None]
    ),
    "two layers on the input": lambda: Written(
        lambda net, x: net.first(x.flatten(1)) + net.conv(x).mean(dim=(2, 3)).sum(1, keepdim=True)
    ),
    "branch": lambda: Written(
        lambda net, x: net.second(net.first(x.flatten(1)) * (1 if x.sum() > 0 else 2))
    ),
    "length": lambda: dense(lambda x: x.view(len(x), -1)),
    "average over the rows": lambda: dense(lambda x: x.flatten(1) / x.size(0)),
    "batch statistics": lambda: nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), mlp()),
    "dropout that stays": lambda: mlp(StaysInTraining(0.5)),
    "in place for nothing": lambda: Written(in_place_for_nothing),
    "narrower inside": lambda: Written(narrower),
    "dictionary": lambda: Written(lambda net, x: {"logits": net.first(x.flatten(1))}),
    "hook": lambda: with_hook(mlp(), "register_forward_hook"),
    "hook before": lambda: with_hook(mlp(), "register_forward_pre_hook"),
    "hook of a part": lambda: nn.Sequential(with_hook(mlp(), "register_forward_hook")),
    "forward of its own": with_own_forward,
    "no layer": lambda: nn.Sequential(nn.Flatten(), nn.Softmax(1)),
    "not a number": not_a_number,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_without_an_affine_start_is_refused(name: str) -> None:
    assert affine_head(made(REFUSED[name]), torch.rand(1, *IMAGE)) is None


def test_rows_that_change_places_are_refused() -> None:
    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.view(2, -1)).view(-1, 2).relu()

    assert affine_head(Moved(), torch.rand(1, 2)) is None


def test_networks_of_reduced_precision_and_uninitialised_ones_are_refused() -> None:
    assert affine_head(mlp().bfloat16(), torch.zeros(1, *IMAGE, dtype=torch.bfloat16)) is None
    assert affine_head(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), torch.zeros(1, 4)) is None


def test_a_global_hook_is_respected() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda *args: None)
    try:
        assert affine_head(mlp(), torch.zeros(1, *IMAGE)) is None
    finally:
        handle.remove()


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), batch_norm(4), nn.ReLU(), nn.Flatten(), nn.Dropout())
    net = net.to(memory_format=torch.channels_last).train(training)
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tensors, flags = list(net.parameters()), [part.training for part in net.modules()]
    split = affine_head(net, torch.rand(1, *IMAGE))
    assert split is not None
    assert [part.training for part in net.modules()] == flags
    assert all(new is old for new, old in zip(net.parameters(), tensors, strict=True))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert not any(part._forward_hooks for part in net.modules())
    # The parts share the weights.
    assert {id(tensor) for tensor in split.head.parameters()} == {id(tensor) for tensor in tensors}


def test_the_parts_stay_in_evaluation_mode_when_the_network_is_trained_on() -> None:
    net = mlp(nn.Dropout(0.5))
    split = affine_head(net, torch.rand(1, *IMAGE))
    assert split is not None
    net.train()
    rows = torch.rand(16, *IMAGE)
    assert torch.equal(split.head(rows), split.head(rows))


def test_other_threads_can_use_networks_while_one_is_traced() -> None:
    net, other, stop = mlp(), mlp().eval(), threading.Event()
    rows = torch.rand(4, *IMAGE)
    expected, wrong = other(rows), []

    def work() -> None:
        while not stop.is_set():
            try:
                if not torch.equal(other(rows), expected):
                    wrong.append("value")
            except Exception as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    splits = [affine_head(net, rows[:1]) for _ in range(30)]
    stop.set()
    thread.join()
    assert not wrong
    assert None not in splits


@pytest.mark.parametrize("shape", [(784, 128), (5, 5), (3, 7), (40, 1)])
def test_the_root_has_the_covariance_of_the_noise_behind_the_layer(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    root = gaussian_root(matrix)
    assert root.shape == (min(shape), shape[1])
    torch.testing.assert_close(root.T @ root, matrix.T @ matrix, rtol=1e-12, atol=1e-12)


def test_the_root_of_a_matrix_without_full_rank_exists() -> None:
    matrix = torch.ones(6, 1, dtype=torch.float64) @ torch.arange(4.0, dtype=torch.float64)[None]
    root = gaussian_root(matrix)
    torch.testing.assert_close(root.T @ root, matrix.T @ matrix)


def test_the_matrix_is_that_of_the_weights() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(N_VALUES, 5), nn.ReLU())
    split = affine_head(net, torch.rand(1, *IMAGE))
    assert split is not None
    assert torch.equal(split.matrix, net[1].weight.detach().double().T)
    with torch.inference_mode():
        again = affine_head(net, torch.rand(1, *IMAGE))
        assert again is not None
        assert torch.equal(again.matrix, split.matrix)
    torch.testing.assert_close(split.offset[0], net[1].bias, check_layout=False)


def test_votes_have_the_same_law_wherever_the_noise_is_drawn() -> None:
    torch.manual_seed(1)
    n_draws, sigma = 40_000, 1.5
    net = nn.Sequential(nn.Flatten(), nn.Linear(N_VALUES, 6), nn.Tanh(), nn.Linear(6, 4)).eval()
    nn.init.zeros_(net[3].bias)
    x = torch.zeros(1, *IMAGE)
    split = affine_head(net, x)
    assert split is not None
    with torch.inference_mode():
        direct = net(x + sigma * torch.randn(n_draws, *IMAGE)).argmax(1)
        root = gaussian_root(split.matrix).float()
        hidden = split.head(x) + sigma * torch.randn(n_draws, 6) @ root
        drawn_behind = split.tail(hidden).argmax(1)
    table = np.stack([np.bincount(votes, minlength=4) for votes in (direct, drawn_behind)])
    assert (table.sum(axis=0) > 100).all()
    assert chi2_contingency(table).pvalue > 1e-3


def test_noise_is_drawn_behind_layers_that_are_narrower_than_the_input() -> None:
    def split_at(n_hidden: int) -> Any:
        return affine_head(
            nn.Sequential(nn.Flatten(), nn.Linear(N_VALUES, n_hidden), nn.ReLU()),
            torch.rand(1, *IMAGE),
        )

    assert split_at(N_VALUES - 1).pays_in_law
    assert not split_at(N_VALUES).pays_in_law
    assert split_at(N_VALUES).pays_apart


def test_convolutions_are_applied_apart_where_their_outputs_are_small() -> None:
    def split_of(n_channels: int) -> Any:
        net = nn.Sequential(nn.Conv2d(1, n_channels, 3, padding=1), nn.ReLU())
        return affine_head(net, torch.rand(1, 1, 32, 32))

    assert split_of(16).pays_apart
    assert not split_of(17).pays_apart
    assert not split_of(16).pays_in_law


@pytest.mark.parametrize("batch_size", [16, 32, 48, 64, 128])
def test_rows_do_not_depend_on_the_batch_in_multiples_of_sixteen(batch_size: int) -> None:
    torch.manual_seed(0)
    for net, shape in (
        (mlp(), IMAGE),
        (nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU()), IMAGE),
        (nn.Sequential(nn.Linear(57, 33), nn.ReLU()), (57,)),
    ):
        rows = torch.randn(384, *shape)
        split = affine_head(net, rows[:1])
        assert split is not None
        with torch.inference_mode():
            parts = [split.head(part) for part in torch.split(rows, batch_size)]
            assert torch.equal(torch.cat(parts), split.head(rows))
