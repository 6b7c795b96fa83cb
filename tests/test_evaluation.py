"""Evaluation: as by hand, one matrix for all pictures, each at its own size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from metrics_oracle import counts_by_loops, scores_by_loops
from PIL import Image
from reference_networks import randomise
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from fcnlib.data import DataError, SegmentationFolder, save_labels, to_float
from fcnlib.data.check import check_folder
from fcnlib.evaluation import evaluate, scores, table
from fcnlib.metrics import ConfusionMatrix
from fcnlib.models import build_model

NAMES = ("background", "cat", "dog", "person")
SIZES = ((30, 41), (64, 20), (17, 33))
METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of different sizes whose masks hold four classes and void."""
    root = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for k, size in enumerate(SIZES):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{k}.png")
        labels = random.choice(
            np.array([0, 1, 2, 3, 255], np.uint8), size, p=(0.5, 0.2, 0.1, 0.1, 0.1)
        )
        save_labels(root / "SegmentationClass" / f"{k}.png", labels)
    (root / "ImageSets/Segmentation/val.txt").write_text("0\n1\n2\n")
    (root / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return root


def narrow(name: str = "fcn8s", backbone: str | None = "squeezenet1_1", classes: int = 4):
    torch.manual_seed(0)
    width = 0.1 if backbone == "squeezenet1_1" else 1 / 16
    return randomise(build_model(name, classes, backbone, width=width)).eval()


def answers(network: nn.Module, root: Path, positions: list[int]) -> list[Tensor]:
    """Read, normalise nothing, take the argmax: with Pillow and NumPy alone."""
    found = []
    for k in range(len(SIZES)):
        pixels = np.array(Image.open(root / "JPEGImages" / f"{k}.png")).transpose(2, 0, 1)
        with torch.no_grad():
            logits = network(torch.from_numpy(pixels[None] / np.float32(255)))
        found.append(logits[0, positions].argmax(dim=0))
    return found


def masks(root: Path) -> list[np.ndarray]:
    return [
        np.array(Image.open(root / "SegmentationClass" / f"{k}.png")) for k in range(len(SIZES))
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_it_equals_an_evaluation_by_hand(root, workers):
    network = narrow()
    matrix = evaluate(network, SegmentationFolder(root, "val", to_float()), workers=workers)
    predicted, target = answers(network, root, [0, 1, 2, 3]), masks(root)
    assert len(torch.cat([labels.flatten() for labels in predicted]).unique()) == 4
    counts = np.zeros((4, 4), int)
    for truth, labels in zip(target, predicted, strict=True):
        counts += counts_by_loops([truth.tolist()], [labels.tolist()], 4)
    assert np.array_equal(matrix.counts, counts)
    found = scores(matrix, NAMES)
    for name, value in scores_by_loops(counts.tolist()).items():
        if name == "iou_per_class":
            assert list(found[name].values()) == pytest.approx(value)
        else:
            assert found[name] == pytest.approx(value)


def test_torchmetrics_agrees(root):
    network = narrow()
    matrix = evaluate(network, SegmentationFolder(root, "val", to_float()))
    peer = MulticlassConfusionMatrix(4, ignore_index=255)
    jaccard = MulticlassJaccardIndex(4, average=None, ignore_index=255)
    for truth, labels in zip(masks(root), answers(network, root, [0, 1, 2, 3]), strict=True):
        for metric in (peer, jaccard):
            metric.update(labels, torch.from_numpy(truth).long())
    assert torch.equal(matrix.counts, peer.compute())
    assert list(scores(matrix, NAMES)["iou_per_class"].values()) == pytest.approx(
        jaccard.compute().tolist(), abs=1e-6
    )


def test_a_part_of_the_classes_in_another_order(root):
    """Others are void in the masks, and cannot be predicted."""
    network, positions = narrow(), [2, 0, 3]
    names = tuple(NAMES[k] for k in positions)
    folder = SegmentationFolder(root, "val", to_float(), names)
    matrix = evaluate(network, folder, positions)
    counts = np.zeros((3, 3), int)
    for truth, labels in zip(masks(root), answers(network, root, positions), strict=True):
        kept = np.full_like(truth, 255)
        for label, number in enumerate(positions):
            kept[truth == number] = label
        counts += counts_by_loops([kept.tolist()], [labels.tolist()], 3)
    assert np.array_equal(matrix.counts, counts)
    assert counts.sum(axis=0).all()


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("fcn8s", "squeezenet1_1"),
        ("fcn8s", "vgg11_bn"),
        ("fcn_decoder", "vgg11_bn"),
        ("fcn_resnet18", None),
        ("fcn_resnet50", None),
    ],
)
def test_a_batch_evaluates_as_its_pictures_one_by_one(name, backbone):
    network = narrow(name, backbone).double()
    x = torch.rand(3, 3, 70, 45, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = network(x), torch.cat([network(one[None]) for one in x])
    assert not torch.allclose(together[0], together[1])
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-9 * float(together.abs().max()))


def test_a_large_picture_is_seen_in_tiles(root):
    """In a picture of a camera, a network would else need gigabytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1700, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "JPEGImages" / "0.png")
    save_labels(root / "SegmentationClass" / "0.png", pixels.argmax(axis=2))
    (root / "ImageSets/Segmentation/val.txt").write_text("0\n")
    widths = []

    class Brightest(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            widths.append(x.shape[-1])
            return x

    folder = SegmentationFolder(root, "val", to_float(), NAMES[:3])
    matrix = evaluate(Brightest(1, 1, 1), folder)
    assert matrix.pixel_accuracy() == 1
    assert len(widths) == 3
    assert max(widths) <= 1344


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3).eval()  # frozen, in a network that trains

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        raise RuntimeError("stop")


def test_the_network_is_in_its_mode_again_even_after_an_error(root):
    network = Fails()
    network.norm.eval()
    with pytest.raises(RuntimeError, match="stop"):
        evaluate(network, SegmentationFolder(root, "val", to_float()))
    assert network.training
    assert not network.norm.training
    trained = narrow(backbone="vgg11_bn").train()
    before = {name: numbers.clone() for name, numbers in trained.state_dict().items()}
    evaluate(trained, SegmentationFolder(root, "val", to_float()))
    assert trained.training
    assert all(torch.equal(numbers, before[name]) for name, numbers in trained.state_dict().items())
    evaluate(trained.eval(), SegmentationFolder(root, "val", to_float()))
    assert not trained.training


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", ["label", "size", "cut"])
def test_a_mistake_in_the_data_is_the_sentence_of_the_check(root, workers, fault):
    mask = root / "SegmentationClass" / "1.png"
    match fault:
        case "label":
            save_labels(mask, np.full(SIZES[1], 4))
        case "size":
            save_labels(mask, np.zeros(SIZES[0]))
        case "cut":
            mask.write_bytes(mask.read_bytes()[:-40])
    network = narrow().train()
    with pytest.raises(DataError) as raised:
        evaluate(network, SegmentationFolder(root, "val", to_float()), workers=workers)
    assert [str(raised.value)] == check_folder(root).problems
    assert network.training


# --- as numbers and as text


def from_counts(counts: list[list[int]]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(len(counts))
    matrix.counts = torch.tensor(counts)
    return matrix


COUNTS = [[60, 10, 0, 0], [5, 15, 0, 0], [0, 10, 0, 0], [0, 0, 0, 0]]


def test_json_has_null_for_an_absent_class():
    text = json.dumps(scores(from_counts(COUNTS), NAMES), allow_nan=False)
    found = json.loads(text)
    assert found["iou_per_class"] == {
        "background": pytest.approx(60 / 75),
        "cat": pytest.approx(15 / 40),
        "dog": 0,
        "person": None,
    }
    assert found["mean_iou"] == pytest.approx((60 / 75 + 15 / 40 + 0) / 3)
    assert found["baseline"] == {
        "always": "background",
        "pixel_accuracy": pytest.approx(0.7),
        "mean_accuracy": pytest.approx(1 / 3),
        "mean_iou": pytest.approx(0.7 / 3),
        "frequency_weighted_iou": pytest.approx(0.49),
    }


def test_the_baseline_is_background_wherever_it_stands():
    names = ("cat", "dog", "background")
    baseline = scores(from_counts([[1, 0, 0], [0, 1, 0], [0, 0, 8]]), names)["baseline"]
    assert (baseline["always"], baseline["pixel_accuracy"]) == ("background", 0.8)
    names = ("field", "dog", "cat")
    baseline = scores(from_counts([[1, 0, 0], [0, 1, 0], [0, 0, 8]]), names)["baseline"]
    assert (baseline["always"], baseline["pixel_accuracy"]) == ("field", 0.1)


def test_nothing_but_void_has_no_scores():
    found = scores(ConfusionMatrix(4), NAMES)
    assert json.loads(json.dumps(found, allow_nan=False))["mean_iou"] is None
    assert "nan" not in table(ConfusionMatrix(4), NAMES)


def test_the_table():
    assert table(from_counts(COUNTS), NAMES) == (
        "class                      IoU  pixels\n"
        "background               0.800   70.0%\n"
        "cat                      0.375   20.0%\n"
        "dog                      0.000   10.0%\n"
        "person                       -    0.0%\n"
        "                                always background\n"
        "pixel accuracy           0.750   0.700\n"
        "mean accuracy            0.536   0.333\n"
        "mean IoU                 0.392   0.233\n"
        "frequency weighted IoU   0.635   0.490"
    )
