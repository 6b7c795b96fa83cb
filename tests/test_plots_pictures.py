import torch
from matplotlib import pyplot as plt

from fcnlib.data import VOID, voc_colormap
from fcnlib.plots import overlay, show_pair


def test_overlay_tints_objects_and_void_and_leaves_the_background():
    image = torch.full((3, 1, 3), 100, dtype=torch.uint8)
    labels = torch.tensor([[0, 1, VOID]], dtype=torch.uint8)
    tinted = overlay(image, labels)
    assert tinted.dtype == torch.uint8
    assert tinted[:, 0, 0].tolist() == [100, 100, 100]
    assert tinted[:, 0, 1].tolist() == [116, 40, 40]  # .4 * 100 + .6 * (128, 0, 0)
    assert tinted[:, 0, 2].tolist() == [174, 174, 155]  # .4 * 100 + .6 * (224, 224, 192)


def test_show_pair_names_the_classes_that_occur():
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    labels = torch.zeros(4, 6, dtype=torch.uint8)
    labels[0], labels[1] = 2, VOID
    figure = show_pair(image, labels, ["background", "cat", "dog"])
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["background", "dog", "void"]
    colors = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    assert torch.allclose(
        torch.tensor(colors) * 255, torch.tensor(voc_colormap()[[0, 2, 255]]) * 1.0
    )
    shown = figure.axes[1].images[0].get_array()
    assert shown[0, 0].tolist() == voc_colormap()[2].tolist()
    plt.close(figure)
