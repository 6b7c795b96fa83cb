"""Functions that a notebook builds are those of the library: they cannot drift apart."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from convolutionalize_cases import check_linear_to_conv, check_wrong_number_of_inputs
from convolutionalize_cases import shapes as map_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_oracle import Maps
from notebook_tools import ROOT, functions_of
from transposed_cases import SAME_CASES, Case, assert_same_as_pytorch, cases

from fcnlib import losses, recipes, transposed_conv
from fcnlib.bilinear import bilinear_kernel
from fcnlib.data import SegmentationFolder, labels_from_colors, to_float, voc_colormap
from fcnlib.data.labelme import label_map
from fcnlib.evaluation import evaluate
from fcnlib.geometry import PICTURE, Layer
from fcnlib.metrics import ConfusionMatrix, near_boundary
from fcnlib.models import build_model
from fcnlib.models.vgg import CHANNELS, CONVOLUTIONS, VGGFeatures
from fcnlib.precision import autocast


def of(name: str) -> dict:
    return functions_of(ROOT / "notebooks" / name)


def test_01_builds_the_colour_map_of_the_library():
    built = of("01_pixels_with_labels.ipynb")["voc_colormap"]()
    assert built.dtype == np.uint8
    assert np.array_equal(built, voc_colormap())


def test_01_builds_the_reader_of_the_library(shapes_root: Path):
    built = of("01_pixels_with_labels.ipynb")["Scenes"](shapes_root, "train")
    library = SegmentationFolder(shapes_root, "train")
    assert built.ids == library.ids
    for index in range(0, len(library), 40):
        for ours, theirs in zip(built[index], library[index], strict=True):
            assert torch.equal(ours, theirs)


def test_01s_solution_agrees_with_the_library():
    solution = of("solutions/01_pixels_with_labels.ipynb")["numbers_from_colors"]
    numbers = np.arange(256).reshape(16, 16)
    painted = voc_colormap()[numbers]
    assert np.array_equal(solution(painted, voc_colormap()), numbers)
    assert np.array_equal(labels_from_colors(painted), numbers)


BUILT_IN_02 = of("02_transposed_convolution.ipynb")


# What 02 builds takes a batch, and whole numbers as options.
@pytest.mark.parametrize("view", ["scatter", "zero_insertion"])
@settings(SAME_CASES, max_examples=150)
@given(case=cases(batches=(1, 2), pairs=False))
def test_02_builds_the_transposed_convolution_of_the_library(view: str, case: Case):
    assert_same_as_pytorch(case, BUILT_IN_02[f"conv_transpose2d_{view}"])


# Two of its views leave out an output_padding that reaches the stride.
@pytest.mark.parametrize("view", ["matrix", "gradient"])
@settings(SAME_CASES, max_examples=150)
@given(case=cases(batches=(1, 2), pairs=False).filter(lambda c: c.output_padding < c.stride))
def test_02_builds_two_more_for_an_output_padding_below_the_stride(view: str, case: Case):
    assert_same_as_pytorch(case, BUILT_IN_02[f"conv_transpose2d_{view}"])


def test_02_builds_the_matrix_and_the_sizes_of_the_library():
    torch.manual_seed(0)
    for stride, padding, dilation, groups in [(1, 0, 1, 1), (2, 1, 2, 2), (3, 2, 1, 2)]:
        weight = torch.randn(4, 4 // groups, 3, 2, dtype=torch.float64)
        arguments = weight, (6, 7), stride, padding, dilation, groups
        built = BUILT_IN_02["convolution_matrix"](*arguments)
        assert torch.equal(built, transposed_conv.convolution_matrix(*arguments))
        for extra in range(stride):
            numbers = 6, 3, stride, padding, extra, dilation
            assert BUILT_IN_02["output_size"](*numbers) == transposed_conv.output_size(*numbers)


def test_04_builds_the_bilinear_kernel_of_the_library():
    built = of("04_upsampling.ipynb")["bilinear_kernel"]
    for size in range(1, 66):
        torch.testing.assert_close(built(size).double(), bilinear_kernel(size).double())


BUILT_IN_05 = of("05_from_classifier_to_fcn.ipynb")


@settings(SAME_CASES, max_examples=100)
@given(shape=map_shapes, bias=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_05_builds_the_convolution_of_a_layer(shape: tuple, bias: bool, seed: int):
    check_linear_to_conv(BUILT_IN_05["linear_to_conv"], shape, bias, seed)


def test_05_refuses_a_wrong_number_of_inputs():
    check_wrong_number_of_inputs(BUILT_IN_05["linear_to_conv"])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_05_builds_the_vgg_of_the_library(name: str):
    with torch.device("meta"):
        built = BUILT_IN_05["vgg_features"](CONVOLUTIONS[name], CHANNELS)
        library = VGGFeatures(name).features
    assert [str(layer) for layer in built] == [str(layer) for layer in library]


def test_06_builds_the_rules_of_the_library():
    built = of("06_geometry.ipynb")
    dice = random.Random(0)
    for _ in range(200):
        view, library = (1, 1, 0), PICTURE
        for _ in range(3):
            kernel, stride, padding = dice.randint(1, 5), dice.choice((1, 2, 4)), dice.randint(0, 3)
            transposed = dice.random() < 0.4
            rule = built["after_transposed" if transposed else "after"]
            view = rule(view, kernel, stride, padding)
            library = library.after(Layer(kernel, stride, padding, transposed=transposed))
            assert view == (library.receptive_field, library.stride, library.offset)


BUILT_IN_08 = of("08_loss_and_metrics.ipynb")
METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_08_builds_the_loss_of_the_library(reduction: str):
    built = BUILT_IN_08["pixel_cross_entropy"]
    torch.manual_seed(0)
    for void in (0.0, 0.4, 1.0):
        logits = torch.randn(2, 4, 5, 6, dtype=torch.float64)
        labels = torch.randint(4, (2, 5, 6)).masked_fill(torch.rand(2, 5, 6) < void, 255)
        results = []
        for function in (built, losses.pixel_cross_entropy):
            x = logits.clone().requires_grad_()
            loss = function(x, labels, reduction)
            loss.backward()
            results.append((loss.detach(), x.grad))
        torch.testing.assert_close(*results)
    if reduction == "mean":
        by_loops = BUILT_IN_08["loss_map"](logits[0], labels[0].where(labels[0] != 255, 0))
        expected = torch.nn.functional.cross_entropy(
            logits[:1], labels[:1].where(labels[:1] != 255, 0), reduction="none"
        )
        torch.testing.assert_close(by_loops.double(), expected[0], rtol=1e-5, atol=1e-6)


def test_08_builds_the_conversion_of_the_library():
    for case in ((0.1, 5e-4, 1000), (1e-10, 5e-4, 375 * 500), (3.0, 0.0, 7.5)):
        assert BUILT_IN_08["sum_to_mean"](*case) == losses.sum_to_mean(*case)


@settings(SAME_CASES, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.integers(1, 6),
    void=st.sampled_from((0.0, 0.2, 0.9)),
)
def test_08_builds_the_metrics_of_the_library(seed: int, num_classes: int, void: float):
    case = Maps.drawn(seed, num_classes, (2, 5, 6), void, right=0.5)
    matrix = ConfusionMatrix(num_classes)
    matrix.update(case.target, case.prediction)
    counts = BUILT_IN_08["confusion"](case.target, case.prediction, num_classes)
    assert torch.equal(counts, matrix.counts)
    assert torch.equal(counts, BUILT_IN_08["count_all"](case.target, case.prediction, num_classes))
    if not counts.any():
        return
    ious = BUILT_IN_08["iou_per_class"](counts)
    torch.testing.assert_close(ious, matrix.iou_per_class(), equal_nan=True)
    for metric in METRICS:
        assert BUILT_IN_08[metric](counts) == pytest.approx(getattr(matrix, metric)())


# The wrong metrics of 08 are wrong in the way that the notebook says.


def test_08s_mean_of_pictures_forgets_how_large_they_are():
    """Its example: 90 of 100 pixels of the union, and 0 of 10."""
    targets = [torch.ones(100).long(), torch.ones(10).long()]
    predictions = [torch.ones(100).long(), torch.zeros(10).long()]
    predictions[0][:10] = 0
    one_class = [t.where(t == 1, 255) for t in targets]  # IoU of class 1 alone
    lie = BUILT_IN_08["mean_of_pictures"]
    assert lie(one_class, predictions, 2) == pytest.approx((0.9 / 2 + 0) / 2)
    whole = BUILT_IN_08["count_all"](one_class, predictions, 2)
    assert BUILT_IN_08["iou_per_class"](whole)[1].item() == pytest.approx(90 / 110)


def test_08s_absent_classes_are_what_they_are_called():
    target, prediction = [torch.tensor([0, 0, 0, 1])], [torch.tensor([0, 0, 1, 1])]
    lie, ious = BUILT_IN_08["mean_of_pictures"], 2 / 3 + 1 / 2
    assert lie(target, prediction, 4) == pytest.approx(ious / 2)
    assert lie(target, prediction, 4, absent=0) == pytest.approx(ious / 4)
    assert lie(target, prediction, 4, absent=1) == pytest.approx((ious + 2) / 4)


def test_08s_void_as_background_counts_void():
    target, prediction = [torch.tensor([0, 255, 255, 1])], [torch.tensor([0, 1, 0, 1])]
    lie = BUILT_IN_08["void_as_background"](target, prediction, 2)
    assert lie == pytest.approx((2 / 3 + 1 / 2) / 2)  # and both IoUs are 1


def test_08s_truncated_logits_tie():
    logits = torch.tensor([[3.2, -0.9], [3.7, 0.9], [1.0, 1.1]])[..., None]  # (K, H, W)
    assert BUILT_IN_08["truncated"](logits)[:, 0].tolist() == [0, 2]
    assert logits.argmax(dim=0)[:, 0].tolist() == [1, 2]


def test_08s_random_crops_drop_pictures_and_differ():
    maps = [torch.arange(60).reshape(6, 10), torch.arange(20).reshape(4, 5)]
    lie = BUILT_IN_08["random_crops"]
    drawn = [list(lie(maps, maps, seed, height=4, width=6)) for seed in range(9)]
    assert all(len(targets) == 1 and targets[0].shape == (4, 6) for targets, _ in drawn)
    assert all(torch.equal(targets[0], predictions[0]) for targets, predictions in drawn)
    assert len({int(targets[0][0, 0]) for targets, _ in drawn}) > 1


def test_08s_ways_through_a_stride():
    labels = torch.zeros(5, 7, dtype=torch.int64)
    labels[:, 3:] = 2
    labels[2, 2] = 255
    nearest, soft = (BUILT_IN_08[way] for way in ("nearest", "soft"))
    assert torch.equal(nearest(labels, 1), labels.where(labels != 255, 0))
    assert torch.equal(soft(labels, 1, 3)[labels != 255], labels[labels != 255])
    assert nearest(labels, 4)[:4, :4].unique().tolist() == [0]  # its middle is void
    assert nearest(labels, 4)[:, 4:].unique().tolist() == [2]
    assert soft(labels, 4, 3).shape == nearest(labels, 4).shape == labels.shape
    assert soft(labels, 4, 3)[:, 4:].unique().tolist() == [2]


BUILT_IN_09 = of("09_training.ipynb")
TINY = {"num_classes": 8, "backbone": "vgg11_bn", "width": 1 / 64, "fc6_size": 2}


def test_09_builds_the_schedule_of_the_library():
    built, modern = BUILT_IN_09["warm_up_and_poly"], recipes.RECIPES["modern"]
    for done in np.linspace(0, 1, 301).tolist():
        assert built(done) == recipes.warm_up_and_poly(done) == modern.schedule(done)
        assert built(done, 0.3, 2.0) == recipes.warm_up_and_poly(done, 0.3, 2.0)


def test_09_builds_the_optimizer_and_the_rates_of_the_library():
    for name in ("fcn32s", "fcn8s"):
        network = build_model(name, **TINY)
        ours = BUILT_IN_09["two_groups"](network, 0.02, 0.3)
        theirs = recipes.modern_optimizer(network, 0.02, 0.3)
        for factor in (1.0, 0.5, 0.0, 0.25):
            BUILT_IN_09["set_rate"](ours, factor)
            recipes.set_rate(theirs, factor)
            for a, b in zip(ours.param_groups, theirs.param_groups, strict=True):
                assert [id(p) for p in a.pop("params")] == [id(p) for p in b.pop("params")]
                assert a == b
                a["params"] = b["params"] = []


def test_09_builds_the_evaluation_of_the_library(voc_folder: Path):
    folder = SegmentationFolder(voc_folder, "train", to_float())
    torch.manual_seed(0)
    network = build_model("fcn8s", **{**TINY, "num_classes": len(folder.classes)})
    torch.nn.init.normal_(network.score_fr.weight)
    matrix = BUILT_IN_09["evaluate"](network, folder)
    assert matrix.counts.sum() > 0
    with autocast("cpu"):
        assert torch.equal(matrix.counts, evaluate(network, folder).counts)


BUILT_IN_10 = of("10_variants.ipynb")


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["vgg11_bn", "vgg19"])
def test_10_builds_the_decoder_of_the_library(backbone: str):
    torch.manual_seed(0)
    theirs = build_model("fcn_decoder", 5, backbone, width=1 / 32).eval()
    encoder = VGGFeatures(backbone, width=1 / 32, ceil_mode=True)
    ours = BUILT_IN_10["Decoder"](encoder, 5, last=1).eval()
    for numbers in theirs.state_dict().values():
        if numbers.is_floating_point():
            numbers.uniform_(0.1, 1)
    ours.load_state_dict(theirs.state_dict())
    for size in ((1, 1), (31, 33), (64, 96), (97, 131)):
        x = torch.rand(2, 3, *size)
        assert torch.equal(ours(x), theirs(x))
        assert ours(x).shape == (2, 5, *size)


def test_10_builds_the_outlines_of_the_library():
    generator = torch.Generator().manual_seed(0)
    for height, width in ((1, 1), (1, 9), (7, 5), (20, 30)):
        labels = torch.randint(3, (height, width), generator=generator)
        labels[torch.rand(height, width, generator=generator) < 0.7] = 255
        for distance in (1, 2, 5):
            built = BUILT_IN_10["near_boundary"](labels, distance)
            assert torch.equal(built, near_boundary(labels, distance))


def test_10s_loss_is_the_books_where_nothing_is_void():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5, 6), torch.randint(4, (3, 5, 6))
    ours = BUILT_IN_10["loss_of_pictures"]
    book = torch.nn.functional.cross_entropy(logits, labels, reduction="none").mean(1).mean(1)
    torch.testing.assert_close(ours(logits, labels), book)
    half = labels.clone()
    half[:, 2:] = 255
    torch.testing.assert_close(
        ours(logits, half), ours(logits[:, :, :2].contiguous(), labels[:, :2])
    )


def test_10_counts_macs_as_by_hand():
    layer = torch.nn.Conv2d(3, 4, 3, padding=1)
    assert BUILT_IN_10["macs"](layer, 8, 10) == 8 * 10 * 4 * 3 * 9
    assert BUILT_IN_10["parameters"](layer) == 4 * 3 * 9 + 4


BUILT_IN_12 = of("12_your_pictures.ipynb")


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_12_draws_the_polygons_of_the_library(seed: int):
    draw = np.random.default_rng(seed)
    names = ["background", "one", "two"]
    annotation = {"imageHeight": int(draw.integers(1, 30)), "imageWidth": int(draw.integers(1, 30))}
    annotation["shapes"] = [
        {
            "label": str(draw.choice(names)),
            "shape_type": "polygon",
            "points": draw.uniform(-3, 33, (draw.integers(3, 8), 2)).tolist(),
        }
        for _ in range(draw.integers(0, 5))
    ]
    ours = BUILT_IN_12["draw_polygons"](annotation, names)
    assert np.array_equal(ours, label_map(annotation, names, "here"))


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_12_numbers_connected_pieces(seed: int):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(4, (6, 7), generator=draw)]
    labels[0, 0] = 1
    numbers = BUILT_IN_12["objects"](labels)
    assert torch.equal(numbers == 0, (labels == 0) | (labels == 255))
    left = {(y, x) for y, x in (numbers > 0).nonzero().tolist()}
    pieces = 0
    while left:  # flood each piece, pixel by pixel
        piece, reached = set(), [left.pop()]
        pieces += 1
        while reached:
            y, x = reached.pop()
            piece.add((y, x))
            around = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            reached += [p for p in around if labels[p] == labels[y, x]]
            left -= set(reached)
        assert len({numbers[p].item() for p in piece}) == 1
    assert len(numbers.unique()) - bool((numbers == 0).any()) == pieces


@torch.no_grad()
def test_12_asks_in_tiles_as_the_library_does(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    network = build_model("fcn8s", 4, "vgg11", width=1 / 32).eval()
    for layer in (network.score_fr, network.score_pool4, network.score_pool3):
        torch.nn.init.normal_(layer.weight)
    in_tiles = BUILT_IN_12["in_tiles"]
    monkeypatch.setitem(in_tiles.__globals__, "network", network)
    picture = torch.rand(3, 333, 470)
    whole = network(picture[None])[0].argmax(dim=0)
    assert torch.equal(in_tiles(picture, 64, 256), whole)
    assert not torch.equal(in_tiles(picture, 64, 0), whole)
