"""The picture of one axis: its cells, its formula and the way back."""

import itertools

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from torch.nn.functional import conv1d, conv_transpose1d

from fcnlib.plots import show_sizes
from fcnlib.plots.sizes import THICK, _convolved_to


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def made_by_pytorch(n, kernel_size, stride, padding, output_padding, dilation):
    return conv_transpose1d(
        torch.ones(1, 1, n),
        torch.ones(1, 1, kernel_size),
        None,
        stride,
        padding,
        output_padding,
        1,
        dilation,
    ).shape[-1]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def cells(figure):
    """Return the cells that are drawn, without the frame around the output padding."""
    return [patch for patch in figure.axes[0].patches if patch.get_fill()]


SETTINGS = [(6, 5, 3, 2, 0, 1), (8, 5, 4, 2, 3, 3), (3, 3, 2, 1, 1, 1), (4, 3, 1, 2, 1, 3)]


@pytest.mark.parametrize("numbers", SETTINGS)
def test_title_and_label_give_the_size_that_pytorch_gives(numbers):
    figure = show_sizes(*numbers)
    size = made_by_pytorch(*numbers)
    assert figure.get_suptitle().endswith(f" = {size}")
    assert f"output: {size}" in texts(figure)


def test_the_formula_holds_with_the_numbers_put_in():
    title = show_sizes(6, 5, 3, 2, 1, 2).get_suptitle()
    left, numbers, size = title.split(" = ")
    assert left == "(n − 1)s − 2p + d(k − 1) + output_padding + 1"
    assert eval(numbers.replace("−", "-").replace("·", "*")) == int(size) == 21


@pytest.mark.parametrize("numbers", SETTINGS)
def test_the_last_row_has_all_cells_and_hatches_what_padding_cuts(numbers):
    n, kernel_size, stride, padding, output_padding, dilation = numbers
    drawn = cells(show_sizes(*numbers))
    lowest = max(cell.get_y() for cell in drawn)
    full = [cell for cell in drawn if cell.get_y() == lowest]
    whole = (n - 1) * stride + dilation * (kernel_size - 1) + 1 + output_padding
    assert [cell.get_x() for cell in full] == list(range(whole))
    hatched = [cell.get_x() for cell in full if cell.get_hatch()]
    assert hatched == [*range(padding), *range(whole - padding, whole)]


@pytest.mark.parametrize("numbers", SETTINGS)
def test_stamps_lie_where_the_pixels_land_in_pytorch(numbers):
    n, kernel_size, stride, _, _, dilation = numbers
    stamps = [cell for cell in cells(show_sizes(*numbers)) if cell.get_height() != THICK]
    rows = sorted({cell.get_y() for cell in stamps})
    assert len(rows) == n
    for pixel, row in enumerate(rows):
        image = torch.zeros(1, 1, n)
        image[..., pixel] = 1
        landed = conv_transpose1d(
            image, torch.ones(1, 1, kernel_size), stride=stride, dilation=dilation
        )[0, 0].nonzero()
        columns = sorted(cell.get_x() for cell in stamps if cell.get_y() == row)
        assert columns == landed.flatten().tolist()


def test_output_padding_is_marked_at_the_end_and_only_if_there_is_any():
    figure = show_sizes(3, 3, 2, 1, 1)
    frame = next(p for p in figure.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill())
    assert (frame.get_x(), frame.get_width()) == (6, 1)
    assert "output_padding: 1 more" in texts(figure)
    plain = show_sizes(3, 3, 2)
    assert not any("padding" in text for text in texts(plain))


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((6, 5, 3, 2), "maps 16, 17 and 18 to 6. output_padding chooses between them."),
        ((6, 5, 1, 2), "A convolution with the same numbers maps 6 to 6."),
        ((4, 3, 1, 2, 1, 3), "maps 6 to 4. The output, 7, is not among them."),
        ((1, 1, 1, 1, 2, 3), "maps no size to 1."),
    ],
)
def test_a_sentence_names_the_sizes_that_lead_back(numbers, sentence):
    assert show_sizes(*numbers).get_supxlabel().endswith(sentence)


def test_these_sizes_are_those_that_a_convolution_maps_back():
    ranges = (range(1, 5), range(1, 4), range(1, 5), range(3), range(1, 4))
    for n, kernel_size, stride, padding, dilation in itertools.product(*ranges):
        kernel = torch.ones(1, 1, kernel_size)
        reach = dilation * (kernel_size - 1) + 1
        back = [
            size
            for size in range(max(1, reach - 2 * padding), 40)
            if conv1d(torch.ones(1, 1, size), kernel, None, stride, padding, dilation).shape[-1]
            == n
        ]
        assert _convolved_to(n, kernel_size, stride, padding, dilation) == back


@pytest.mark.parametrize("numbers", [(0, 3), (6, 5, 3, 2, 3), (1, 3, 1, 2)])
def test_what_pytorch_refuses_is_refused_and_leaves_no_figure(numbers):
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        show_sizes(*numbers)
    assert plt.get_fignums() == []
