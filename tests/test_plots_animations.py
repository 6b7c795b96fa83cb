"""The two animations: their numbers against PyTorch, and what their GIFs show."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from PIL import Image, ImageColor, ImageSequence
from torch.nn.functional import conv_transpose2d

from fcnlib.plots import animations, frames, scatter_animation, zero_insertion_animation
from fcnlib.plots.animations import NOW, PADDING, ZERO, _Case, _stamps, _stretched, _windows

IMAGE = torch.tensor([[1, 2, 0], [3, 1, 2], [0, 4, 1]])
KERNEL = torch.tensor([[1, 2, 1], [0, 3, 1], [2, 1, 0]])
BOTH = pytest.mark.parametrize("animate", [scatter_animation, zero_insertion_animation])


def frames_of(gif: bytes) -> list[Image.Image]:
    with Image.open(io.BytesIO(gif)) as file:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(file)]


def has(frame: Image.Image, color: str, least: int = 100) -> bool:
    counts = {rgb: count for count, rgb in frame.getcolors(frame.width * frame.height)}
    return counts.get(ImageColor.getrgb(color), 0) >= least


# --- the numbers


@st.composite
def cases(draw: st.DrawFn) -> _Case:
    def table(rows: int, columns: int) -> list[list[int]]:
        return [[draw(st.integers(-9, 9)) for _ in range(columns)] for _ in range(rows)]

    sides = st.integers(1, 4)
    kernel = table(draw(sides), draw(sides))
    stride = draw(st.integers(1, 3))
    image = table(draw(sides), draw(sides))
    # The zero-insertion view needs a padding of at most kernel - 1, and something left.
    most = min(len(kernel), len(kernel[0])) - 1
    for n, k in ((len(image), len(kernel)), (len(image[0]), len(kernel[0]))):
        most = min(most, ((n - 1) * stride + k - 1) // 2)
    return _Case(image, kernel, stride, draw(st.integers(0, most)))


def truth(case: _Case, padding: int) -> torch.Tensor:
    image, kernel = (
        torch.tensor(table, dtype=torch.float64)[None, None] for table in (case.image, case.kernel)
    )
    return conv_transpose2d(image, kernel, stride=case.stride, padding=padding)[0, 0]


@given(cases())
@settings(max_examples=60, deadline=None)
def test_both_views_end_in_the_output_of_pytorch(case):
    last_stamp, last_window = list(_stamps(case))[-1], list(_windows(case))[-1]
    assert last_stamp.after == truth(case, padding=0).tolist()
    assert last_window.output == truth(case, case.padding).tolist()


@given(cases())
@settings(max_examples=30, deadline=None)
def test_each_stamp_begins_where_the_last_one_ended_and_lands_at_its_corner(case):
    before = [[0] * len(row) for row in next(_stamps(case)).after]
    for step in _stamps(case):
        assert step.before == before
        alone = [[0] * len(row) for row in case.image]
        alone[step.pixel[0]][step.pixel[1]] = case.image[step.pixel[0]][step.pixel[1]]
        added = torch.tensor(step.after) - torch.tensor(before)
        assert added.tolist() == truth(case._replace(image=alone), padding=0).tolist()
        assert step.corner == (step.pixel[0] * case.stride, step.pixel[1] * case.stride)
        before = step.after


def test_the_window_fills_the_output_cell_by_cell():
    case = _Case(IMAGE.tolist(), KERNEL.tolist(), 2, 1)
    steps = list(_windows(case))
    assert [step.cell for step in steps] == [(y, x) for y in range(5) for x in range(5)]
    filled = [sum(entry is not None for row in step.output for entry in row) for step in steps]
    assert filled == list(range(1, 26))
    # Window (0, 1) lies between pixels (0, 0) and (0, 1), over the flipped kernel's middle row.
    assert steps[1].pairs == {(0, 0): (1, 0), (0, 1): (1, 2)}


def test_the_stretched_input_has_zeros_between_and_a_border():
    assert _stretched(_Case([[5, 6]], [[1, 1, 1]] * 2, 2, 0)) == [
        ["border"] * 7,
        ["border", "border", (0, 0), "zero", (0, 1), "border", "border"],
        ["border"] * 7,
    ]


# --- the GIFs


@pytest.mark.parametrize(
    ("animate", "padding", "number"),
    [
        (scatter_animation, 0, 9 + 1),
        (scatter_animation, 1, 9 + 1),
        (zero_insertion_animation, 0, 7 * 7),
        (zero_insertion_animation, 1, 5 * 5),
    ],
)
def test_a_gif_has_a_frame_for_each_step_loops_and_is_small(animate, padding, number):
    gif = animate(IMAGE, KERNEL, stride=2, padding=padding)
    assert gif.startswith(b"GIF89a")
    assert len(gif) < 180_000
    with Image.open(io.BytesIO(gif)) as file:
        assert file.n_frames == number
        assert file.info["loop"] == 0  # for ever
        assert 640 <= file.width <= 760
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(file)]
    assert times[:-1] == [frames.STEP] * (number - 1)
    assert times[-1] == frames.PAUSE


@BOTH
def test_the_gif_shows_what_was_drawn(animate, monkeypatch):
    """Neither the small palette nor the storing of changes alone may spoil a frame."""
    drawn = []
    monkeypatch.setattr(animations, "gif", lambda pages: drawn.extend(pages) or frames.gif(pages))
    shown = frames_of(animate(IMAGE, KERNEL, stride=2, padding=1))
    for ours, theirs in zip(shown, drawn, strict=True):
        distance = np.abs(np.subtract(ours, theirs, dtype=int)).max(axis=2)
        # Only shades at the rims of letters may differ: few, and by little.
        assert distance.max() < 100
        assert (distance > 0).mean() < 0.05
        # The colours of cells are exact.
        for _, color in sorted(theirs.getcolors(10**6), reverse=True)[:8]:
            assert distance[(np.array(theirs) == color).all(axis=2)].max() == 0


@BOTH
def test_every_frame_marks_what_is_padding_and_what_is_now(animate):
    shown = frames_of(animate(IMAGE, KERNEL, stride=2, padding=1))
    assert all(has(frame, PADDING.fill) for frame in shown)
    assert has(shown[0], NOW.fill)


def test_without_padding_nothing_is_marked_as_cut_and_with_stride_1_no_zero_as_inserted():
    for frame in frames_of(scatter_animation(IMAGE, KERNEL)):
        assert not has(frame, PADDING.fill, 1)
    for frame in frames_of(zero_insertion_animation(IMAGE, KERNEL)):
        assert not has(frame, ZERO.fill, 1)
        assert has(frame, PADDING.fill)


@BOTH
def test_every_frame_names_its_panels(animate, monkeypatch):
    written = []
    page_text = frames.Page._text
    monkeypatch.setattr(
        frames.Page,
        "_text",
        lambda page, place, text, *rest, **options: (
            written.append((page, text)) or page_text(page, place, text, *rest, **options)
        ),
    )
    animate(IMAGE, KERNEL, stride=2, padding=1)
    pages = {id(page): page for page, _ in written}
    for page in pages.values():
        texts = [text for owner, text in written if owner is page]
        assert {"input", "output"} <= set(texts)
        assert any("kernel" in text for text in texts)
        assert any(text.startswith(("padding:", "border:")) for text in texts)
        assert "stride 2, padding 1" in texts


def test_captions_say_what_happens(monkeypatch):
    captions = []
    begin = frames.Page.__init__
    monkeypatch.setattr(
        frames.Page,
        "__init__",
        lambda page, panels, first, second, note: (
            captions.append((first, second)) or begin(page, panels, first, second, note)
        ),
    )
    scatter_animation(IMAGE, KERNEL, stride=2, padding=1)
    assert captions[1][0] == "Input pixel (0, 1) is 2: add 2 × kernel at row 0, column 2."
    assert captions[-1][1].endswith("the output has 5 × 5 cells.")
    captions.clear()
    zero_insertion_animation(IMAGE, KERNEL, stride=2, padding=1)
    assert captions[1] == (
        "Output (0, 1): multiply the window by the flipped kernel, add up.",
        "1 × 1 + 2 × 0 = 1",
    )


@BOTH
def test_an_animation_opens_no_figure_and_changes_no_style(animate):
    style, open_figures = dict(matplotlib.rcParams), plt.get_fignums()
    animate(IMAGE[:1], KERNEL)
    assert dict(matplotlib.rcParams) == style
    assert plt.get_fignums() == open_figures


@BOTH
def test_floats_are_welcome_as_long_as_they_are_whole(animate):
    assert animate(IMAGE.float(), KERNEL.double()) == animate(IMAGE, KERNEL)


# --- what is refused


@BOTH
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((IMAGE[0], KERNEL), r"image must have rows and columns, not the shape \(3,\)"),
        ((IMAGE, KERNEL[None]), r"kernel must have rows and columns, not .*\(1, 3, 3\)"),
        ((IMAGE[:0], KERNEL), r"image must have rows and columns, not .*\(0, 3\)"),
        ((IMAGE / 2, KERNEL), "image must hold whole numbers"),
        ((IMAGE, KERNEL * float("nan")), "kernel must hold whole numbers"),
        ((IMAGE, KERNEL, 0), "stride must be at least 1, not 0"),
        ((IMAGE, KERNEL, 1, -1), "padding must be at least 0, not -1"),
        ((IMAGE[:, :1], KERNEL, 1, 2), "padding must leave something .* 3 .* cuts off 4"),
        ((torch.ones(9, 9), KERNEL), "would have .* steps, more than 64"),
        ((torch.ones(1, 30), KERNEL[:1]), "too small to read"),
    ],
)
def test_one_sentence_says_what_is_wrong(animate, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        animate(*arguments)


def test_zero_insertion_refuses_a_padding_without_a_border():
    assert scatter_animation(IMAGE, KERNEL[:2, :2], 2, 2)
    with pytest.raises(ValueError, match="padding must be at most kernel - 1, here 1, not 2"):
        zero_insertion_animation(IMAGE, KERNEL[:2, :2], 2, 2)
