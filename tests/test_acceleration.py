from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from randsmooth import acceleration
from randsmooth.acceleration import (
    CompiledForward,
    autocast_forward,
    channels_last_copy,
    equal_up_to_rounding,
    evaluation_copy,
    onednn_copy,
)
from randsmooth.exceptions import NotCompiledWarning
from randsmooth.models import CIFARNet, MNISTNet, Normalize, ResNet20

IMAGE = (3, 16, 16)


def conv_net(n_channels: int = 16, **options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, n_channels, 3, **options),
        nn.BatchNorm2d(n_channels),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * n_channels, 5),
    )


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 33), nn.ReLU(), nn.Linear(33, 5))


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), x


class Viewing(nn.Module):
    """Takes the memory of a convolution's output for contiguous, which tears it in this layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).view(len(x), -1)


class Uncopied(nn.Conv2d):
    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopied:
        raise RuntimeError("cannot be copied")


def rows(n_rows: int = 48, *, shape: tuple[int, ...] = IMAGE) -> Tensor:
    return torch.randn(n_rows, *shape, generator=torch.Generator().manual_seed(1))


def outputs(net: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return acceleration.first_output(evaluation_copy(net)(x))


@pytest.fixture(name="onednn")
def wide_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    # The layer itself runs wherever torch has oneDNN.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


# --- Copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (MNISTNet(), (1, 28, 28)),
        (CIFARNet(width=0.25), (3, 32, 32)),
        (nn.Sequential(Normalize((0.5,) * 3, (0.2,) * 3), ResNet20()), (3, 32, 32)),
        (conv_net(), IMAGE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_copy_with_channels_last_computes_the_same(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    x = rows(16, shape=shape)
    copied = channels_last_copy(net, x[:1])
    assert copied is not None
    kernels = [part.weight for part in copied.modules() if isinstance(part, nn.Conv2d)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    expected = outputs(net, x)
    with torch.inference_mode():
        assert equal_up_to_rounding(copied(x), expected)
        assert equal_up_to_rounding(copied(x.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize(
    ("net", "sample"),
    [
        (mlp(), torch.zeros(1, *IMAGE)),
        (nn.Sequential(nn.Conv1d(3, 16, 3)), torch.zeros(1, 3, 8)),
        (conv_net(n_channels=8), torch.zeros(1, *IMAGE)),
        (conv_net(stride=3), rows(1)),
        (conv_net().double(), torch.zeros(1, *IMAGE, dtype=torch.float64)),
        (Viewing(), rows(1)),
        (nn.Sequential(Uncopied(3, 16, 3)), rows(1)),
    ],
    ids=["dense", "one dimension", "few channels", "patches", "double", "views", "uncopied"],
)
def test_where_channels_last_does_not_pay_there_is_no_copy(net: nn.Module, sample: Tensor) -> None:
    assert channels_last_copy(net, sample) is None


@pytest.mark.parametrize("training", [True, False])
def test_copies_leave_the_network_as_it_was(training: bool, onednn: None) -> None:
    net = conv_net().train(training)
    tensors, before = list(net.parameters()), copy.deepcopy(net.state_dict())
    copies = channels_last_copy(net, rows(1)), onednn_copy(net, rows(1))
    assert None not in copies
    assert all(part.training is training for part in net.modules())
    assert not any(part.training for copied in copies for part in copied.modules())
    assert all(new is old for new, old in zip(net.parameters(), tensors, strict=True))
    assert net[0].weight.is_contiguous()
    assert isinstance(net[6], nn.Linear)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    "net",
    [
        mlp(),
        conv_net(),
        TwoOutputs(),
        nn.Sequential(mlp(), nn.Linear(5, 4, bias=False)),
        nn.Sequential(nn.Flatten(2), nn.Linear(256, 3), nn.Flatten()),
    ],
    ids=["perceptron", "convolutional", "two outputs", "no bias", "of each channel"],
)
def test_dense_layers_of_onednn_compute_the_same(net: nn.Module, onednn: None) -> None:
    copied = onednn_copy(net, rows(1))
    assert copied is not None
    assert not any(isinstance(part, nn.Linear) for part in copied.modules())
    assert {id(tensor) for tensor in copied.parameters()} == {id(t) for t in net.parameters()}
    assert equal_up_to_rounding(outputs(copied, rows()), outputs(net, rows()))


def test_a_hook_of_a_dense_layer_keeps_the_layer(onednn: None) -> None:
    net = mlp()
    net[1].register_forward_hook(lambda part, args, result: 2 * result)
    copied = onednn_copy(net, rows(1))
    assert copied is not None
    assert [type(part) for part in (copied[1], copied[3])] != [nn.Linear, nn.Linear]
    assert equal_up_to_rounding(outputs(copied, rows()), outputs(net, rows()))


def test_without_dense_layers_or_in_double_precision_onednn_is_left_out(onednn: None) -> None:
    assert onednn_copy(nn.Sequential(nn.Conv2d(3, 4, 3)), rows(1)) is None
    assert onednn_copy(mlp().double(), rows(1).double()) is None


def test_a_processor_with_narrow_registers_keeps_the_layers_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert onednn_copy(mlp(), rows(1)) is None


def test_a_copy_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, onednn: None
) -> None:
    monkeypatch.setattr(acceleration._OneDNNLinear, "forward", lambda part, x: x @ part.weight.T)
    assert onednn_copy(mlp(), rows(1)) is None


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("batch_size", [16, 48])
def test_rows_do_not_depend_on_the_batch_or_the_threads(
    batch_size: int, n_threads: int, onednn: None
) -> None:
    x = rows(96)
    before = torch.get_num_threads()
    for net in (conv_net(), conv_net(n_channels=21), mlp()):
        copies = net, channels_last_copy(net, x[:1]), onednn_copy(net, x[:1])
        for copied in filter(None, copies):
            torch.set_num_threads(1)
            expected = outputs(copied, x)
            torch.set_num_threads(n_threads)
            try:
                parts = [outputs(copied, part) for part in torch.split(x, batch_size)]
            finally:
                torch.set_num_threads(before)
            assert torch.equal(torch.cat(parts), expected)


@pytest.mark.parametrize(
    "second", [[1.0, 2.0], [[1.0, float("nan")]], [[1.0, float("inf")]], [[1.0, 2.001]]]
)
def test_other_shapes_and_values_are_not_equal_up_to_rounding(second: list[Any]) -> None:
    first = torch.tensor([[1.0, 2.0]])
    assert equal_up_to_rounding(first, first + 1e-6)
    assert not equal_up_to_rounding(torch.tensor(second), first)
    assert not equal_up_to_rounding(first, torch.tensor(second))


# --- Compilation ----------------------------------------------------------------------------


def uncompiled(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def compiler(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(torch, "compile", compiler)


def test_without_a_compiler_the_network_runs_as_it_is_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uncompiled(monkeypatch, RuntimeError("no g++ here\nbecause"))
    net = conv_net()
    forward = CompiledForward(net, batch_size=16)
    with pytest.warns(NotCompiledWarning, match=r"more slowly: no g\+\+ here Install a C\+\+"):
        first = forward(rows(20))
    # Once is enough.
    assert torch.equal(forward(rows(20)), first)
    assert not forward.is_compiled
    assert equal_up_to_rounding(first, outputs(net, rows(20)))
    assert net.training


def test_an_error_without_words_is_named_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    uncompiled(monkeypatch, NotImplementedError())
    with pytest.warns(NotCompiledWarning, match="more slowly: NotImplementedError"):
        CompiledForward(mlp(), batch_size=16)(rows(1))


def test_memory_that_runs_out_is_no_lack_of_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    uncompiled(monkeypatch, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        CompiledForward(mlp(), batch_size=16)(rows(1))


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 48])
def test_rows_are_taken_in_full_batches(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    sizes = []

    def compiler(function: Any, **options: Any) -> Any:
        def run(batch: Tensor) -> Any:
            sizes.append(len(batch))
            return function(batch)

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    forward = CompiledForward(TwoOutputs(), batch_size=16)
    result = forward(rows(48)[:n_rows])
    assert set(sizes) == {16}
    assert torch.equal(result, forward(rows(48))[:n_rows])


def test_threads_wait_for_one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compiler(function: Any, **options: Any) -> Any:
        compiled.append(threading.get_ident())
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    forward, results = CompiledForward(mlp(), batch_size=16), []
    threads = [threading.Thread(target=lambda: results.append(forward(rows(32)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert len(results) == 4
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.slow
def test_a_compiled_network_computes_the_same_for_every_batch_size() -> None:
    net = conv_net()
    results = [CompiledForward(net, batch_size)(rows(48)) for batch_size in (16, 48)]
    assert equal_up_to_rounding(results[0], outputs(net, rows(48)))
    assert torch.equal(*results)


@pytest.mark.slow
def test_one_network_after_the_other_is_compiled() -> None:
    # The compiler keeps few versions of one piece of code and then gives up in silence.
    for seed in range(10):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 2), nn.ELU())
        forward = CompiledForward(net, 16)
        result = forward(rows(16, shape=(3,)))
        assert equal_up_to_rounding(result, outputs(net, rows(16, shape=(3,))))
        assert forward.is_compiled
        with torch._dynamo.config.patch(error_on_recompile=True):
            assert torch.equal(forward(rows(16, shape=(3,))), result)


# --- Precision ------------------------------------------------------------------------------


def test_reduced_precision_is_near_and_comes_back_in_single_precision() -> None:
    net = mlp().eval()
    forward = autocast_forward(net, "cpu", torch.bfloat16)
    with torch.inference_mode():
        narrow, wide = forward(rows()), net(rows())
    assert narrow.dtype == torch.float32
    assert not torch.equal(narrow, wide)
    torch.testing.assert_close(narrow, wide, rtol=0.05, atol=0.05)
    assert not torch.is_autocast_enabled("cpu")
