"""The published architectures: their sizes, their initial weights, the names of their weights."""

from __future__ import annotations

import math

import pytest
import torch
from numpy.testing import assert_allclose
from skorch import NeuralNetClassifier
from torch import nn

from randsmooth.models import (
    BasicBlock,
    Bottleneck,
    CIFARNet,
    LeNet,
    MNISTNet,
    Normalize,
    ResNet20,
    ResNet50,
    ResNet110,
    SameMaxPool2d,
)


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("architecture", "n"),
    [
        (MNISTNet, 3_382_346),  # the model files of the published code
        (CIFARNet, 1_025_642),
        (LeNet, 431_080),
        (ResNet20, 272_474),  # He et al.: 0.27M, without the 1x1 shortcuts
        (ResNet110, 1_730_714),  # He et al.: 1.7M
        (ResNet50, 25_557_032),  # torchvision
    ],
)
def test_each_network_has_its_published_number_of_parameters(architecture, n):
    assert n_parameters(architecture()) == n


def test_shortcuts_are_the_only_parameters_beyond_the_residual_networks_of_the_paper():
    def n_shortcut(net):
        return sum(p.numel() for name, p in net.named_parameters() if "downsample" in name)

    assert n_parameters(ResNet20()) - n_shortcut(ResNet20()) == 269_722
    assert n_parameters(ResNet110()) - n_shortcut(ResNet110()) == 1_727_962


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (MNISTNet(n_classes=3), (1, 28, 28)),
        (LeNet(n_classes=3), (1, 28, 28)),
        (CIFARNet(n_classes=3, width=0.1), (3, 32, 32)),
        (ResNet20(n_classes=3), (3, 32, 32)),
        (ResNet50(n_classes=3), (3, 64, 64)),
    ],
)
def test_networks_return_a_row_of_finite_logits_per_image(net, shape):
    with torch.inference_mode():
        logits = net.eval()(torch.rand(2, *shape))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


def test_networks_in_eval_mode_treat_each_image_alone():
    X = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        for net in (CIFARNet(width=0.1).eval(), ResNet20().eval()):
            assert_allclose(net(X)[1:2], net(X[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", [MNISTNet, LeNet, CIFARNet, ResNet20, ResNet110, ResNet50])
@pytest.mark.parametrize("n_classes", [0, -1, 2.0, "ten"])
def test_a_number_of_classes_that_is_no_positive_integer_is_refused(architecture, n_classes):
    with pytest.raises(ValueError, match=r"n_classes must be an integer of at least 1, got "):
        architecture(n_classes=n_classes)


@pytest.mark.parametrize("width", [0, -0.5, math.inf, math.nan, "wide"])
def test_a_width_that_is_no_positive_number_is_refused(width):
    with pytest.raises(ValueError, match=r"width must be a positive finite number, got "):
        CIFARNet(width=width)


@pytest.mark.parametrize(
    ("width", "channels"), [(1.0, [96, 192, 256]), (0.25, [24, 48, 64]), (0.001, [1, 1, 1])]
)
def test_width_scales_every_hidden_layer_and_keeps_at_least_one_channel(width, channels):
    convolutions = [m for m in CIFARNet(width=width).modules() if isinstance(m, nn.Conv2d)]
    widths = [convolution.out_channels for convolution in convolutions]
    assert widths == [channel for channel in channels for _ in range(2)] + [10]


def test_mnist_net_has_the_layers_of_the_paper():
    layers = [str(layer).replace(", bias=True", "") for layer in MNISTNet().layers]
    assert layers == [
        "Conv2d(1, 64, kernel_size=(5, 5), stride=(1, 1))",
        "ReLU()",
        "Conv2d(64, 64, kernel_size=(5, 5), stride=(1, 1))",
        "ReLU()",
        "Dropout(p=0.25, inplace=False)",
        "Flatten(start_dim=1, end_dim=-1)",
        "Linear(in_features=25600, out_features=128)",
        "ReLU()",
        "Dropout(p=0.5, inplace=False)",
        "Linear(in_features=128, out_features=10)",
    ]


def test_lenet_is_the_published_network_although_it_pools_before_relu():
    net = LeNet().eval()
    x = torch.rand(4, 1, 28, 28)
    h = nn.functional.max_pool2d(net.conv1(x).relu(), 2)
    h = nn.functional.max_pool2d(net.conv2(h).relu(), 2)
    assert h.shape == (4, 50, 4, 4)
    expected = net.logits(net.dense(h.flatten(1)).relu())
    assert torch.equal(net(x), expected)


def test_cifar_net_halves_the_image_twice_and_averages_the_last_channels():
    net = CIFARNet(width=0.1).eval()
    X = torch.rand(2, 3, 32, 32)
    shapes = []
    with torch.inference_mode():
        for layer in net.layers:
            X = layer(X)
            shapes.append((type(layer).__name__, tuple(X.shape[1:])))
    pooled = [shape[1:] for name, shape in shapes if name == "SameMaxPool2d"]
    assert pooled == [(16, 16), (8, 8)]
    assert shapes[-3:] == [
        ("Conv2d", (10, 8, 8)),
        ("AdaptiveAvgPool2d", (10, 1, 1)),
        ("Flatten", (10,)),
    ]


def test_mnist_net_starts_glorot_uniform_with_zero_biases():
    torch.manual_seed(0)
    fans = [25 + 25 * 64, 2 * 25 * 64, 25600 + 128, 128 + 10]
    layers = [m for m in MNISTNet().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer, fan in zip(layers, fans, strict=True):
        limit = math.sqrt(6 / fan)
        assert 0.95 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)
        assert not layer.bias.any()


def test_cifar_net_starts_he_normal_cut_at_two_standard_deviations_with_zero_biases():
    torch.manual_seed(0)
    layers = [m for m in CIFARNet().modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == 7
    for layer in layers:
        deviation = math.sqrt(2 / layer.weight[0].numel())
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.06)
        assert layer.weight.abs().max() <= 2 * deviation / 0.8796256
        assert not layer.bias.any()


def test_residual_networks_start_he_normal_over_outputs_with_identity_normalisation():
    torch.manual_seed(0)
    net = ResNet20()
    weight = net.layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    assert (net.layer3[0].bn2.weight == 1).all()
    assert not net.layer3[0].bn2.bias.any()


def test_the_same_torch_seed_draws_the_same_weights():
    nets = []
    for _ in range(2):
        torch.manual_seed(7)
        nets.append(CIFARNet(width=0.1))
    for first, second in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_max_pooling_pads_an_even_side_below_and_right_alone():
    # Windows of a side of 4 are rows 0-2 and 2-3: TensorFlow pads 0 before and 1 after.
    X = torch.tensor(
        [
            [9.0, 1.0, 2.0, 3.0],
            [4.0, 5.0, 6.0, 8.0],
            [7.0, 0.0, -1.0, -2.0],
            [-3.0, -4.0, -5.0, -6.0],
        ]
    )
    expected = torch.tensor([[9.0, 8.0], [7.0, -1.0]])
    assert torch.equal(SameMaxPool2d(3, stride=2)(X[None, None])[0, 0], expected)


def test_max_pooling_pads_an_odd_side_on_both_sides():
    # Windows of a side of 3 are rows 0-1 and 1-2: TensorFlow pads 1 before and 1 after.
    X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 6.0], [7.0, 8.0, 9.0]])
    expected = torch.tensor([[4.0, 6.0], [8.0, 9.0]])
    assert torch.equal(SameMaxPool2d(3, stride=2)(X[None, None])[0, 0], expected)


def test_max_pooling_of_negative_values_never_returns_the_padding():
    X = torch.full((1, 2, 5, 6), -7.0)
    pooled = SameMaxPool2d(3, stride=2)(X)
    assert pooled.shape == (1, 2, 3, 3)
    assert (pooled == -7).all()


def test_max_pooling_with_a_window_below_its_stride_needs_no_padding():
    X = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert torch.equal(SameMaxPool2d(1, stride=2)(X), torch.zeros(1, 1, 1, 1))


def test_normalize_standardises_each_channel():
    X = torch.rand(2, 3, 4, 5)
    normalized = Normalize(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))(X)
    assert_allclose(normalized[:, 0], (X[:, 0] - 0.1) / 0.5, rtol=1e-5, atol=1e-6)
    assert_allclose(normalized[:, 2], (X[:, 2] - 0.3) / 2.0, rtol=1e-5, atol=1e-6)


def test_normalize_moves_with_its_module_and_stays_out_of_the_state_dict():
    normalize = Normalize(mean=[0.5], std=[0.25]).to(torch.float64)
    assert normalize.mean.dtype == normalize.std.dtype == torch.float64
    assert list(nn.Sequential(normalize, nn.Linear(1, 1)).state_dict()) == ["1.weight", "1.bias"]


def test_weights_of_a_network_with_constants_in_front_load_by_name():
    source, target = ResNet20(), nn.Sequential(Normalize((0.5,) * 3, (0.2,) * 3), ResNet20())
    target.load_state_dict({f"1.{name}": value for name, value in source.state_dict().items()})
    assert torch.equal(target[1].fc.weight, source.fc.weight)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((), (), r"mean and std must hold one number per channel each, got \(\) and \(\)\."),
        ((0.5,), (1.0, 1.0), r"mean and std must hold one number per channel each, got "),
        (0.5, 1.0, r"mean and std must hold one number per channel each, got 0\.5 and 1\.0\."),
        ((math.nan,), (1.0,), r"mean must be finite, got \(nan,\)\."),
        ((0.5,), (0.0,), r"std must be positive and finite, got \(0\.0,\)\."),
        ((0.5,), (math.inf,), r"std must be positive and finite, got \(inf,\)\."),
    ],
)
def test_normalize_refuses_constants_that_are_none(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalize(mean, std)


def test_integer_constants_normalise_as_floats():
    assert torch.equal(Normalize([1], [2])(torch.ones(1, 1, 1, 1)), torch.zeros(1, 1, 1, 1))


def test_small_modules_show_their_arguments():
    assert repr(SameMaxPool2d(3, stride=2)) == "SameMaxPool2d(kernel_size=3, stride=2)"
    assert repr(Normalize([0.5], [0.25])) == "Normalize(mean=[0.5], std=[0.25])"


def torchvision_resnet50_names() -> list[str]:
    """The names of the weights in torchvision's file, written out from its layout."""

    def normalisation(name):
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{kind}" for kind in kinds]

    names = ["conv1.weight", *normalisation("bn1")]
    for layer, n_blocks in zip((1, 2, 3, 4), (3, 4, 6, 3), strict=True):
        for block in range(n_blocks):
            prefix = f"layer{layer}.{block}"
            for i in (1, 2, 3):
                names += [f"{prefix}.conv{i}.weight", *normalisation(f"{prefix}.bn{i}")]
            if block == 0:
                names += [f"{prefix}.downsample.0.weight"]
                names += normalisation(f"{prefix}.downsample.1")
    return [*names, "fc.weight", "fc.bias"]


def test_resnet50_names_its_weights_as_torchvision_does():
    state = ResNet50().state_dict()
    assert list(state) == torchvision_resnet50_names()
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
    assert state["fc.weight"].shape == (1000, 2048)


def test_resnet50_strides_in_the_three_by_three_convolution():
    block = ResNet50().layer2[0]
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def test_resnet110_names_its_weights_as_the_published_ones():
    names = list(ResNet110().state_dict())
    assert names[:2] == ["conv1.weight", "bn1.weight"]
    assert names[-2:] == ["fc.weight", "fc.bias"]
    assert "layer3.17.conv2.weight" in names
    assert {name.split(".")[0] for name in names if "downsample" in name} == {"layer2", "layer3"}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (BasicBlock(4, 4), (2, 4, 8, 8)),
        (BasicBlock(4, 6, stride=2), (2, 6, 4, 4)),
        (Bottleneck(4, 1), (2, 4, 8, 8)),
        (Bottleneck(4, 3, stride=2), (2, 12, 4, 4)),
    ],
)
def test_blocks_bring_the_shortcut_to_the_shape_of_their_output(block, expected):
    X = torch.rand(2, 4, 8, 8)
    assert block(X).shape == expected
    assert (block.downsample is None) == (expected == X.shape)


def test_a_block_with_silent_convolutions_passes_its_input_on():
    for block, last in ((BasicBlock(4, 4), "bn2"), (Bottleneck(4, 1), "bn3")):
        nn.init.zeros_(getattr(block, last).weight)
        X = torch.rand(2, 4, 8, 8)
        assert_allclose(block(X).detach(), X)


def test_networks_can_be_differentiated():
    for net, shape in ((ResNet20(), (3, 32, 32)), (MNISTNet(), (1, 28, 28))):
        X = torch.rand(2, *shape, requires_grad=True)
        net(X).sum().backward()
        assert X.grad is not None
        assert X.grad.isfinite().all()


@pytest.mark.slow
def test_skorch_applies_the_documented_l2_penalty_to_the_kernels_alone():
    net = NeuralNetClassifier(
        CIFARNet,
        module__width=0.05,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=[("*.weight", {"weight_decay": 2e-4})],
    ).initialize()
    decayed, free = net.optimizer_.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (2e-4, 0)
    assert {parameter.ndim for parameter in decayed["params"]} == {4}
    assert {parameter.ndim for parameter in free["params"]} == {1}
