import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d
from transposed_cases import SAME_CASES, Case, assert_same_as_pytorch, cases, pair

from fcnlib.transposed_conv import (
    adjoint_products,
    conv_transpose2d_gradient,
    conv_transpose2d_matrix,
    conv_transpose2d_scatter,
    conv_transpose2d_zero_insertion,
    convolution_matrix,
    output_size,
)

VERSIONS = [
    conv_transpose2d_scatter,
    conv_transpose2d_matrix,
    conv_transpose2d_zero_insertion,
    conv_transpose2d_gradient,
]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.__name__)
small = st.integers(1, 3)
random_numbers = st.integers(0, 2**32 - 1).map(torch.Generator().manual_seed)


def randn(*shape: int, generator: torch.Generator | None = None) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def integers(*shape: int, generator: torch.Generator | None = None) -> Tensor:
    return torch.randint(-9, 10, shape, generator=generator)


# --- the same answers and gradients as PyTorch


@settings(SAME_CASES, max_examples=100)
@given(cases())
def test_all_equal_pytorch_quick(case):
    assert_same_as_pytorch(case, *VERSIONS)


@pytest.mark.slow
def test_all_equal_pytorch():
    """In at least 2,000 configurations that differ by more than the numbers in the tensors."""
    seen = set()

    @settings(SAME_CASES, max_examples=2200)
    @given(cases())
    def compare(case: Case) -> None:
        seen.add(case._replace(seed=0))
        assert_same_as_pytorch(case, *VERSIONS)

    compare()
    print(f"{len(seen)} configurations")
    assert len(seen) >= 2000
    # The rare corners are among them.
    for corner in (
        lambda case: case.input_shape[0] == 0,
        lambda case: len(case.input_shape) == 3,
        lambda case: pair(case.output_padding)[0] >= pair(case.stride)[0],
        lambda case: pair(case.padding)[1] > pair(case.dilation)[1] * (case.weight_shape[3] - 1),
        lambda case: case.groups == 3 and case.has_bias and case.weight_shape[0] > 3,
    ):
        assert sum(map(corner, seen)) >= 50


GRADCHECKED = [
    # N, in, H, W; out / groups, A, B; options
    ((2, 2, 2, 3), (1, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    ((1, 1, 3, 2), (2, 2, 2), {"stride": (1, 3), "dilation": (2, 1)}),
    ((2, 2, 2), (1, 2, 1), {"padding": (1, 0), "dilation": 3, "output_padding": (2, 1)}),
]


@each_version
@pytest.mark.parametrize(("shape", "rest", "options"), GRADCHECKED)
def test_first_and_second_derivatives(version, shape, rest, options):
    torch.manual_seed(0)
    weight_shape = (shape[-3], *rest)
    tensors = [randn(*shape), randn(*weight_shape), randn(rest[0] * options.get("groups", 1))]
    tensors = [tensor.requires_grad_() for tensor in tensors]

    def function(*tensors: Tensor) -> Tensor:
        return version(*tensors, **options)

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


# --- the adjoint of the convolution

convolutions = st.fixed_dictionaries(
    {
        "stride": st.tuples(small, small),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "dilation": st.tuples(small, small),
        "groups": st.integers(1, 2),
    }
)
shapes_of_convolutions = st.fixed_dictionaries(
    {
        "kernel": st.tuples(small, small),
        "extra": st.tuples(st.integers(0, 4), st.integers(0, 4)),
        "channels": st.tuples(small, small),
    }
)


def size_of_picture(kernel, extra, options) -> tuple[int, int]:
    """The least size with room for the kernel, plus ``extra``."""
    padding, dilation = options["padding"], options["dilation"]
    return tuple(
        max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) + extra[i] for i in (0, 1)
    )


@each_version
@settings(SAME_CASES, max_examples=100)
@given(shapes_of_convolutions, convolutions, random_numbers)
def test_adjoint_of_the_convolution(version, shapes, options, numbers):
    """Also where the stride jumps over the last rows, which ``extra`` adds."""
    inner, outer = shapes["channels"]
    groups = options["groups"]
    height, width = size_of_picture(shapes["kernel"], shapes["extra"], options)
    picture = randn(2, groups * inner, height, width, generator=numbers)
    weight = randn(groups * outer, inner, *shapes["kernel"], generator=numbers)
    answer = torch.randn(
        conv2d(picture, weight, **options).shape, dtype=torch.float64, generator=numbers
    )
    for function in (version, conv_transpose2d):
        left, right = adjoint_products(function, picture, answer, weight, **options)
        assert float(left) == pytest.approx(float(right), rel=1e-10, abs=1e-10)


def zero_insertion_by_hand(flip: bool):
    """One channel, stride 2, kernel 3, padding 1; ``flip`` is what beginners forget."""

    def conv_transpose2d(input: Tensor, weight: Tensor, **_) -> Tensor:
        stretched = input.new_zeros(1, 1, 2 * input.shape[2] - 1, 2 * input.shape[3] - 1)
        stretched[..., ::2, ::2] = input
        return conv2d(stretched, weight.flip(-2, -1) if flip else weight, padding=1)

    return conv_transpose2d


@pytest.mark.parametrize("flip", [True, False])
def test_a_forgotten_flip_is_no_adjoint(flip):
    torch.manual_seed(0)
    left, right = adjoint_products(
        zero_insertion_by_hand(flip),
        randn(1, 1, 5, 5),
        randn(1, 1, 3, 3),
        randn(1, 1, 3, 3),
        stride=2,
        padding=1,
    )
    assert torch.allclose(left, right, rtol=1e-10) == flip


# --- dtypes and devices

CALLS = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": (3, 1), "dilation": (1, 2), "padding": (0, 2), "groups": 2},
]
each_call = pytest.mark.parametrize("options", CALLS, ids=str)


def tensors_for(options: dict, dtype: torch.dtype, whole: bool) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = (2, 4, 3, 5), (4, 3, 3, 2), (3 * options.get("groups", 1),)
    if whole:
        return [integers(*shape).to(dtype) for shape in shapes]
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


@each_version
@each_call
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_exact_for_integers(version, options, dtype):
    tensors = tensors_for(options, dtype, whole=True)
    expected = conv_transpose2d(*tensors, **options)
    # PyTorch's own, of doubles, may use algorithms that round: compare as integers.
    whole = conv_transpose2d(*(tensor.long() for tensor in tensors), **options)
    ours = version(*tensors, **options)
    assert ours.dtype == expected.dtype == dtype
    assert torch.equal(ours, whole.to(dtype))


@pytest.mark.parametrize("device", DEVICES)
@each_version
@each_call
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    ],
)
def test_each_dtype_agrees_with_pytorch(version, options, dtype, device):
    tensors = [tensor.to(device) for tensor in tensors_for(options, dtype, whole=False)]
    expected = conv_transpose2d(*tensors, **options)
    ours = version(*tensors, **options)
    assert ours.dtype == dtype
    assert ours.device == expected.device
    # A sum of up to 24 products of order 1, each rounded.
    assert (ours - expected).abs().max() < 24 * torch.finfo(dtype).eps


@each_version
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(version, mode):
    tensors = [tensor.requires_grad_() for tensor in tensors_for({}, torch.float64, whole=False)]
    with mode():
        ours = version(*tensors, stride=2)
        assert not ours.requires_grad
        assert torch.allclose(ours, conv_transpose2d(*tensors, stride=2))


# --- the matrix


def test_matrix_by_hand():
    """A 2 x 2 kernel at its four places on a 3 x 3 picture, each a row."""
    weight = torch.tensor([[[[1, 2], [3, 4]]]])
    assert convolution_matrix(weight, (3, 3)).tolist() == [
        [1, 2, 0, 3, 4, 0, 0, 0, 0],
        [0, 1, 2, 0, 3, 4, 0, 0, 0],
        [0, 0, 0, 1, 2, 0, 3, 4, 0],
        [0, 0, 0, 0, 1, 2, 0, 3, 4],
    ]


@settings(SAME_CASES, max_examples=150)
@given(shapes_of_convolutions, convolutions, random_numbers)
def test_matrix_convolves_and_its_transpose_goes_back(shapes, options, numbers):
    inner, outer = shapes["channels"]
    groups, stride, padding = options["groups"], options["stride"], options["padding"]
    size = size_of_picture(shapes["kernel"], shapes["extra"], options)
    x = integers(2, groups * inner, *size, generator=numbers)
    weight = integers(groups * outer, inner, *shapes["kernel"], generator=numbers)
    c = convolution_matrix(weight, size, **options)
    y = conv2d(x, weight, **options)
    assert torch.equal(x.flatten(1) @ c.T, y.flatten(1))

    g = integers(*y.shape, generator=numbers)
    jumped = [
        (size[i] + 2 * padding[i] - options["dilation"][i] * (shapes["kernel"][i] - 1) - 1)
        % stride[i]
        for i in (0, 1)
    ]
    back = conv_transpose2d(g, weight, output_padding=jumped, **options)
    assert torch.equal(g.flatten(1) @ c, back.flatten(1))

    # In doubles too, and with the gradient of the convolution.
    doubled = weight.double().requires_grad_()
    product = x.double().flatten(1) @ convolution_matrix(doubled, size, **options).T
    (ours,) = torch.autograd.grad(product, doubled, g.flatten(1).double())
    (expected,) = torch.autograd.grad(conv2d(x.double(), doubled, **options), doubled, g.double())
    assert torch.equal(ours, expected.round())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": (2, 5)}, ["size 2", "3"]),
        ({"size": (3, 3), "dilation": 2}, ["size 3", "3"]),
        ({"weight": torch.ones(3, 3)}, ["weight", "(3, 3)"]),
        ({"stride": 0}, ["stride", "0"]),
        ({"padding": -1}, ["padding", "-1"]),
        ({"dilation": (1, 0)}, ["dilation", "(1, 0)"]),
        ({"groups": 0}, ["groups", "0"]),
        ({"groups": 2}, ["groups", "2", "3"]),
        ({"weight": torch.ones(3, 1, 0, 3)}, ["weight", "(3, 1, 0, 3)"]),
    ],
    ids=str,
)
def test_matrix_refuses(arguments, words):
    arguments = {"weight": torch.ones(3, 1, 3, 3), "size": (5, 5)} | arguments
    with pytest.raises(ValueError) as error:
        convolution_matrix(**arguments)
    assert all(word in str(error.value) for word in words), error.value


# --- sizes


def test_output_size_is_that_of_pytorch_and_of_the_formula():
    sizes = 0
    grid = itertools.product(range(1, 5), range(1, 5), range(1, 4), range(3), range(3), range(1, 4))
    for n, kernel, stride, padding, extra, dilation in grid:
        formula = (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
        arguments = n, kernel, stride, padding, extra, dilation
        if extra >= max(stride, dilation) or formula < 1:
            with pytest.raises(ValueError):
                output_size(*arguments)
            continue
        sizes += 1
        x, weight = torch.empty(1, n, 1, device="meta"), torch.empty(1, 1, kernel, 1, device="meta")
        real = conv_transpose2d(
            x, weight, None, (stride, 1), (padding, 0), (extra, 0), 1, (dilation, dilation)
        )
        assert output_size(*arguments) == formula == real.shape[-2]
    assert sizes > 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, ["n ", "0"]),
        ({"kernel_size": 0}, ["kernel_size", "0"]),
        ({"stride": 0}, ["stride", "0"]),
        ({"padding": -1}, ["padding", "-1"]),
        ({"output_padding": -1}, ["output_padding", "-1"]),
        ({"output_padding": 2, "stride": 2}, ["output_padding", "2"]),
        ({"dilation": 0}, ["dilation", "0"]),
        ({"n": 1, "padding": 2}, ["padding 2", "at least 1"]),
    ],
    ids=str,
)
def test_output_size_refuses(arguments, words):
    with pytest.raises(ValueError) as error:
        output_size(**{"n": 3, "kernel_size": 3} | arguments)
    assert all(word in str(error.value) for word in words), error.value


# --- refusals

REFUSED = [
    # what is wrong; what the sentence must name
    ({"output_padding": 1}, ["output_padding", "1"]),
    ({"output_padding": (0, 3), "stride": 2, "dilation": 3}, ["output_padding", "3"]),
    ({"output_padding": -1}, ["output_padding", "-1"]),
    ({"input": torch.ones(1, 3, 3, 3)}, ["input", "3", "weight", "4"]),
    ({"groups": 3}, ["groups", "3", "4"]),
    ({"groups": 0}, ["groups", "0"]),
    ({"groups": -2}, ["groups", "-2"]),
    ({"groups": True}, ["groups", "True"]),
    ({"groups": 2.0}, ["groups", "2.0"]),
    ({"groups": "2"}, ["groups", "'2'"]),
    ({"groups": (1, 1)}, ["groups", "(1, 1)"]),
    ({"input": torch.ones(3, 3)}, ["input", "(3, 3)"]),
    ({"input": torch.ones(1, 1, 4, 3, 3)}, ["input", "(1, 1, 4, 3, 3)"]),
    ({"input": torch.ones(1, 4, 0, 3)}, ["input", "(1, 4, 0, 3)"]),
    ({"weight": torch.ones(4, 2, 2)}, ["weight", "(4, 2, 2)"]),
    ({"weight": torch.ones(4, 2, 2, 2, 1)}, ["weight", "(4, 2, 2, 2, 1)"]),
    ({"weight": torch.ones(4, 2, 0, 2)}, ["weight", "(4, 2, 0, 2)"]),
    ({"weight": torch.ones(4, 0, 2, 2)}, ["weight", "(4, 0, 2, 2)"]),
    ({"weight": torch.ones(4, 2, 2, 2, dtype=torch.float64)}, ["weight", "float64", "float32"]),
    ({"bias": torch.ones(3)}, ["bias", "(2,)", "(3,)"]),
    ({"bias": torch.ones(2, 1)}, ["bias", "(2,)", "(2, 1)"]),
    ({"bias": torch.ones(2), "groups": 2}, ["bias", "(4,)", "(2,)"]),
    ({"stride": 0}, ["stride", "0"]),
    ({"stride": (1, -1)}, ["stride", "(1, -1)"]),
    ({"stride": (1, 1, 1)}, ["stride", "(1, 1, 1)"]),
    ({"stride": ()}, ["stride", "()"]),
    ({"stride": 2.0}, ["stride", "2.0"]),
    ({"stride": (1, 2.0)}, ["stride", "(1, 2.0)"]),
    ({"stride": True}, ["stride", "True"]),
    ({"stride": "2"}, ["stride", "'2'"]),
    ({"stride": None}, ["stride", "None"]),
    ({"padding": -1}, ["padding", "-1"]),
    ({"padding": "same"}, ["padding", "'same'"]),
    ({"padding": 2}, ["padding 2", "at least 1"]),  # an output of size 0
    ({"padding": (3, 0)}, ["padding 3", "at least 1"]),  # and of a negative one
    ({"dilation": 0}, ["dilation", "0"]),
    ({"dilation": (1, -1)}, ["dilation", "(1, -1)"]),
    ({"dilation": (1, 1, 1)}, ["dilation", "(1, 1, 1)"]),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED, ids=str)
def test_refused_with_a_sentence_that_names_the_value(wrong, words):
    arguments = {"input": torch.ones(1, 4, 3, 3), "weight": torch.ones(4, 2, 2, 2)} | wrong
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        conv_transpose2d(**arguments)
    for version in VERSIONS:
        with pytest.raises(ValueError) as error:
            version(**arguments)
        assert all(word in str(error.value) for word in words), error.value


@each_version
def test_bias_of_another_dtype_is_refused_as_cuda_does(version):
    """PyTorch on a CPU lets some of them through."""
    with pytest.raises(ValueError, match=r"bias has the dtype torch\.float64, .* torch\.float32"):
        version(torch.ones(4, 3, 3), torch.ones(4, 2, 2, 2), torch.ones(2).double())


maybe_wrong = st.one_of(
    st.integers(0, 4),
    st.tuples(st.integers(0, 4), st.integers(1, 4)),
    st.sampled_from([-1, (1, -2), 1.0, True, "1", (1,), [2], (2, 2, 2), (1, 2.0), (), None]),
)


@settings(SAME_CASES, max_examples=400)
@given(
    options=st.fixed_dictionaries(
        {},
        optional={
            "stride": maybe_wrong,
            "padding": maybe_wrong,
            "output_padding": maybe_wrong,
            "dilation": maybe_wrong,
            "groups": st.integers(-1, 4),
        },
    ),
    input_shape=st.sampled_from([(4, 2, 3), (1, 4, 2, 2), (2, 4, 1, 3), (1, 4, 0, 2), (4, 2)]),
    weight_shape=st.tuples(st.integers(3, 4), small, st.integers(0, 3), small),
)
def test_refused_if_and_only_if_pytorch_refuses(options, input_shape, weight_shape):
    tensors = torch.ones(input_shape), torch.ones(weight_shape)
    try:
        expected = conv_transpose2d(*tensors, **options)
    except (RuntimeError, TypeError, ValueError):
        for version in VERSIONS:
            with pytest.raises(ValueError):
                version(*tensors, **options)
    else:
        for version in VERSIONS:
            assert torch.allclose(version(*tensors, **options), expected)
