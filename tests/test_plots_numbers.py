import torch
from matplotlib import pyplot as plt

from fcnlib.plots import Animation, show_numbers


def test_show_numbers_writes_each_number_into_its_cell_and_colours_the_others_than_zero():
    figure, axis = plt.subplots()
    show_numbers(axis, torch.tensor([[1.5, 0, -2]]), "a title")
    assert axis.get_title() == "a title"
    assert {text.get_position(): text.get_text() for text in axis.texts} == {
        (0, 0): "1.5",
        (1, 0): "0",
        (2, 0): "-2",
    }
    white = [patch.get_facecolor() == (1, 1, 1, 1) for patch in axis.patches]
    assert white == [False, True, False]
    plt.close(figure)


def test_an_animation_shows_its_gif_with_its_description():
    page = Animation(b"GIF89a", 'a "b" & c')._repr_html_()
    assert page == '<img alt="a &quot;b&quot; &amp; c" src="data:image/gif;base64,R0lGODlh">'
    assert "GIF89a" not in repr(Animation(b"GIF89a", "words"))
