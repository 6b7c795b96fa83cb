import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.bilinear import BilinearUpsample, bilinear_kernel

STRIDES = [*range(1, 10), 32]
each_stride = pytest.mark.parametrize("stride", STRIDES)


def pictures(height: int = 5, width: int = 7, channels: int = 3) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, channels, height, width, dtype=torch.float64)


def layer(stride: int, padding: int | None = None, channels: int = 3) -> BilinearUpsample:
    """A layer of doubles, whose weights were computed as doubles."""
    upsample = BilinearUpsample(channels, stride, padding).double()
    kernel = torch.tensor(kernel_by_hand(upsample.kernel_size[0]), dtype=torch.float64)
    assert torch.allclose(upsample.weight, kernel)
    with torch.no_grad():
        upsample.weight.copy_(kernel)
    return upsample


def interpolate(x: Tensor, stride: int, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=align_corners)


def dense(channels: int, stride: int) -> nn.ConvTranspose2d:
    """The layer of the published networks: each channel to each, almost all of it zero."""
    kernel_size = 2 * stride
    deconvolution = nn.ConvTranspose2d(
        channels, channels, kernel_size, stride, stride // 2, bias=False
    )
    with torch.no_grad():
        deconvolution.weight.zero_()
        for channel in range(channels):
            deconvolution.weight[channel, channel] = torch.tensor(kernel_by_hand(kernel_size))
    return deconvolution


# --- the kernel


def kernel_by_hand(size: int) -> list[list[float]]:
    """The formula of the reference release."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    row = [1 - abs(i - centre) / factor for i in range(size)]
    return [[a * b for b in row] for a in row]


@pytest.mark.parametrize("size", [*range(1, 19), 63, 64])
def test_kernel_is_the_formula(size):
    kernel = bilinear_kernel(size)
    assert kernel.shape == (size, size)
    assert torch.allclose(kernel, torch.tensor(kernel_by_hand(size)), rtol=1e-6, atol=0)


def test_known_kernels():
    assert bilinear_kernel(1).tolist() == [[1]]
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(bilinear_kernel(4), row[:, None] * row)
    for size in (63, 64):  # both serve the factor 32: every pixel's weights add up to 1
        kernel = bilinear_kernel(size)
        assert kernel.sum() == 32**2
        for i in range(32):
            assert kernel[i::32].sum() == 32
    assert bilinear_kernel(63)[31, 31] == 1
    assert bilinear_kernel(64)[31:33, 31:33].tolist() == [[(63 / 64) ** 2] * 2] * 2


@pytest.mark.parametrize("size", [0, -1])
def test_kernel_refuses(size):
    with pytest.raises(ValueError, match=f"size must be at least 1, not {size}"):
        bilinear_kernel(size)


# --- the layer and interpolation


@each_stride
def test_equals_interpolation_inside(stride):
    x = pictures()
    ours, expected = layer(stride)(x), interpolate(x, stride)
    assert ours.shape == expected.shape
    rim = stride // 2
    inside = (..., slice(rim, -rim or None), slice(rim, -rim or None))
    assert torch.allclose(ours[inside], expected[inside])
    if stride > 1:
        assert not torch.allclose(ours, expected)  # the border fades


@each_stride
def test_equals_interpolation_of_the_zero_padded_input_everywhere(stride):
    x = pictures()
    expected = interpolate(F.pad(x, (1, 1, 1, 1)), stride)[..., stride:-stride, stride:-stride]
    assert torch.allclose(layer(stride)(x), expected)


def test_ones_fade_towards_the_border():
    y = BilinearUpsample(1, 32)(torch.ones(1, 1, 3, 4))[0, 0]
    assert y.shape == (96, 128)
    assert (y[16:-16, 16:-16] == 1).all()
    for edge in (y[0, 16:-16], y[-1, 16:-16], y[16:-16, 0], y[16:-16, -1]):
        assert (edge == 33 / 64).all()  # .516
    corners = y[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == (33 / 64) ** 2).all()  # .266


@pytest.mark.parametrize("stride", STRIDES[1:])
def test_align_corners_is_another_map_even_inside(stride):
    x = pictures()
    ours, other = layer(stride)(x), interpolate(x, stride, align_corners=True)
    assert ours.shape == other.shape
    inside = (..., slice(stride, -stride), slice(stride, -stride))
    assert (ours[inside] - other[inside]).abs().max() > 0.1


def test_two_then_eight_times_is_not_sixteen_times():
    x = pictures()
    twice, once = layer(8)(layer(2)(x)), layer(16)(x)
    assert twice.shape == once.shape
    inside = (..., slice(16, -16), slice(16, -16))
    difference = (twice[inside] - once[inside]).abs().max()
    assert difference > 0.1
    # Nor is it for interpolate: it is no fault of the kernel.
    assert not torch.allclose(interpolate(interpolate(x, 2), 8), interpolate(x, 16))


@each_stride
def test_without_padding_a_crop_gives_the_same(stride):
    """As in the paper's networks."""
    x = pictures()
    whole, expected = layer(stride, padding=0)(x), layer(stride)(x)
    kernel_size = 2 * stride - stride % 2
    assert whole.shape[-2:] == (4 * stride + kernel_size, 6 * stride + kernel_size)
    first = (kernel_size - stride) // 2
    height, width = expected.shape[-2:]
    cropped = whole[..., first : first + height, first : first + width]
    assert torch.allclose(cropped, expected)


# --- either of the two kernels that serve a stride


@each_stride
def test_kernel_size(stride):
    default = BilinearUpsample(3, stride)
    assert default.kernel_size == (2 * stride - stride % 2,) * 2
    for kernel_size in (2 * stride - 1, 2 * stride):
        upsample = BilinearUpsample(3, stride, kernel_size=kernel_size)
        assert upsample.kernel_size == (kernel_size, kernel_size)
        assert upsample.padding == ((kernel_size - stride) // 2,) * 2
        assert torch.allclose(upsample.weight, torch.tensor(kernel_by_hand(kernel_size)))
        given = BilinearUpsample(3, stride, padding=0, kernel_size=kernel_size)
        assert given(pictures().float()).shape[-2:] == (
            4 * stride + kernel_size,
            6 * stride + kernel_size,
        )


@pytest.mark.parametrize("stride", STRIDES[1:])
def test_odd_kernel_keeps_the_numbers_and_puts_others_between(stride):
    """Number m goes to stride * m + stride - 1; straight lines lead from one to the next.

    That is interpolation with aligned corners, which an even kernel never is.
    """
    x = pictures()
    upsample = BilinearUpsample(3, stride, padding=0, kernel_size=2 * stride - 1).double()
    weight = torch.tensor(kernel_by_hand(2 * stride - 1), dtype=torch.float64)
    upsample.weight.data.copy_(weight.expand_as(upsample.weight))
    y = upsample(x)
    first = stride - 1
    assert torch.allclose(y[..., first::stride, first::stride][..., :5, :7], x)
    between = y[..., first : first + 4 * stride + 1, first : first + 6 * stride + 1]
    size = between.shape[-2:]
    expected = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    assert torch.allclose(between, expected)


def test_pictures_without_batch_and_batches_without_pictures():
    upsample, x = layer(4), pictures()
    assert torch.allclose(upsample(x[0]), upsample(x)[0])
    assert upsample(x[:0]).shape == (0, 3, 20, 28)


# --- the dense weights of published networks


def test_count_of_weights():
    published = dense(21, 32).weight
    assert published.numel() == 1_806_336
    assert published.count_nonzero() == 86_016
    ours = BilinearUpsample(21, 32, learned=True)
    assert sum(p.numel() for p in ours.parameters() if p.requires_grad) == 86_016


def learned_dense(channels: int, stride: int) -> nn.ConvTranspose2d:
    """As training would leave it, if it kept to the diagonal."""
    deconvolution = dense(channels, stride)
    with torch.no_grad():
        deconvolution.weight.mul_(torch.rand(channels, 1, 1, 1) + 0.5)
    return deconvolution


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stride", [2, 8])
@pytest.mark.parametrize("make", [dense, learned_dense])
@pytest.mark.parametrize("nested", [False, True])
def test_dense_weights_load(channels, stride, make, nested):
    torch.manual_seed(0)
    theirs = make(channels, stride)
    ours = BilinearUpsample(channels, stride, learned=make is learned_dense)
    if nested:
        theirs = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.Sequential(theirs))
        ours = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.Sequential(ours))
    state = theirs.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    assert str(ours.load_state_dict(state)) == "<All keys matched successfully>"
    assert {name: tensor.shape for name, tensor in state.items()} == shapes  # ours to keep
    x = pictures(channels=channels).float()
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_dense_weights_that_mix_channels_are_refused():
    theirs = dense(3, 4)
    with torch.no_grad():
        theirs.weight[2, 0, 5, 1] = 1e-3
    ours = BilinearUpsample(3, 4)
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match=r"^weight mixes channels: .*off the diagonal.*\.$"):
        ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.weight, before["weight"])
    nested, state = nn.Sequential(ours), nn.Sequential(theirs).state_dict()
    with pytest.raises(ValueError, match=r"^0\.weight mixes channels"):
        nested.load_state_dict(state)
    assert torch.equal(ours.weight, before["weight"])


def test_weights_of_another_size_are_refused_by_pytorch():
    ours = BilinearUpsample(3, 4)
    for theirs in (dense(3, 8), dense(2, 4)):
        with pytest.raises(RuntimeError, match="size mismatch for weight"):
            ours.load_state_dict(theirs.state_dict())


# --- fixed or learned, copied and stored


def test_fixed_by_default():
    upsample = BilinearUpsample(3, 4)
    assert not any(p.requires_grad for p in upsample.parameters())
    x = pictures().float().requires_grad_()
    upsample(x).sum().backward()
    assert x.grad is not None  # what lies below still learns
    assert upsample.weight.grad is None


def test_learned_moves_in_one_step():
    upsample = BilinearUpsample(3, 4, learned=True)
    before = upsample.weight.detach().clone()
    upsample(pictures().float()).square().sum().backward()
    torch.optim.SGD(upsample.parameters(), lr=1e-3).step()
    assert ((upsample.weight - before).flatten(1).abs().amax(1) > 1e-4).all()  # each channel
    upsample.reset_parameters()
    assert torch.equal(upsample.weight, before)
    assert upsample.weight.requires_grad


@pytest.mark.parametrize("learned", [False, True])
def test_copies_and_state_dicts(learned, tmp_path):
    upsample = BilinearUpsample(3, 4, learned=learned)
    with torch.no_grad():
        upsample.weight.mul_(2)
    x = pictures().float()
    torch.save(upsample.state_dict(), tmp_path / "weights.pt")
    loaded = BilinearUpsample(3, 4, learned=learned)
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt"), strict=True)
    copied = copy.deepcopy(upsample)
    copied_then_loaded = copy.deepcopy(BilinearUpsample(3, 4, learned=learned))
    scaled = dense(3, 4)
    with torch.no_grad():
        scaled.weight.mul_(2)
    copied_then_loaded.load_state_dict(scaled.state_dict())
    for other in (loaded, copied, copied_then_loaded):
        assert torch.equal(other(x), upsample(x))
        assert other.weight.requires_grad == learned
        assert other.weight is not upsample.weight
    assert list(upsample.state_dict()) == ["weight"]


# --- precision, export, errors


def test_computes_in_the_precision_of_its_weight_under_autocast():
    upsample, x = BilinearUpsample(3, 32), pictures().float()
    expected = upsample(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nn.Conv2d(3, 3, 1)(x).dtype == torch.bfloat16  # so autocast is on
        assert torch.equal(upsample(x), expected)
        rounded = upsample(x.bfloat16())
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, upsample(x.bfloat16().float()))


def test_on_the_meta_device():
    """Where PyTorch computes shapes alone."""
    upsample = BilinearUpsample(3, 4).to("meta")
    assert upsample(torch.empty(1, 3, 5, 6, device="meta")).shape == (1, 3, 20, 24)


def test_export_with_any_height_and_width():
    upsample = BilinearUpsample(3, 4).eval()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        upsample, (torch.randn(2, 3, 5, 6),), dynamic_shapes=({2: dynamic, 3: dynamic},)
    )
    for height, width in ((2, 3), (5, 6), (31, 17)):
        x = torch.randn(2, 3, height, width)
        assert torch.equal(program.module()(x), upsample(x))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 2), "channels must be at least 1, not 0."),
        ((-3, 2), "channels must be at least 1, not -3."),
        ((3, 0), "stride must be at least 1, not 0."),
        ((3, -2), "stride must be at least 1, not -2."),
    ],
)
def test_refuses(arguments, sentence):
    with pytest.raises(ValueError) as error:
        BilinearUpsample(*arguments)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("stride", "kernel_size"), [(1, 0), (1, 3), (2, 2), (2, 5), (32, 62), (32, 65), (4, -8)]
)
def test_refuses_kernels_for_another_stride(stride, kernel_size):
    with pytest.raises(ValueError) as error:
        BilinearUpsample(3, stride, kernel_size=kernel_size)
    assert str(error.value) == (
        f"kernel_size must be {2 * stride - 1} or {2 * stride} for stride {stride}, "
        f"not {kernel_size}."
    )
