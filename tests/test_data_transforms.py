import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from fcnlib.data import VOID, RandomScale, SegmentationFolder, to_float, train_transforms


def coded_pair(height: int, width: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """A picture whose every pixel says its label: red = green = blue = label, 1..9."""
    labels = torch.randint(1, 10, (height // 4 + 1, width // 4 + 1), dtype=torch.uint8)
    labels = labels.repeat_interleave(4, 0).repeat_interleave(4, 1)[:height, :width]
    return tv_tensors.Image(labels.expand(3, -1, -1).clone()), tv_tensors.Mask(labels.clone())


sizes = st.integers(1, 60)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, sizes, st.integers(0, 999))
def test_picture_and_labels_stay_together(height, width, crop_h, crop_w, seed):
    """Without scaling, each pixel of the crop still says its own label, or is padding."""
    torch.manual_seed(seed)
    image, labels = coded_pair(height, width)
    crop = train_transforms((crop_h, crop_w), scale=(1.0, 1.0))
    cropped, target = crop(image, labels)
    assert cropped.shape == (3, crop_h, crop_w)
    assert cropped.dtype == torch.float32
    assert target.shape == (crop_h, crop_w)
    assert target.dtype == torch.int64
    inside = target != VOID
    assert torch.equal((cropped[0] * 255).round().long()[inside], target[inside])
    padded = ~inside
    assert int(inside.sum()) == min(height, crop_h) * min(width, crop_w)
    mean = torch.tensor([124, 116, 104]) / 255
    assert torch.allclose(cropped[:, padded], mean[:, None].expand(3, int(padded.sum())))


def test_flip_happens_about_half_the_time_to_both():
    torch.manual_seed(0)
    image, labels = coded_pair(20, 30)
    crop = train_transforms((20, 30), scale=(1.0, 1.0))
    flips = 0
    for _ in range(200):
        _, target = crop(image, labels)
        flipped = torch.equal(target, labels.flip(-1).long())
        assert flipped or torch.equal(target, labels.long())
        flips += flipped
    assert 70 < flips < 130


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 999))
def test_scaling_invents_no_label(height, width, seed):
    torch.manual_seed(seed)
    image, labels = coded_pair(height, width)
    scaled, target = RandomScale((0.5, 2.0))(image, labels)
    assert scaled.shape[-2:] == target.shape
    assert round(0.5 * height) <= target.shape[0] <= 2 * height
    assert set(target.unique().tolist()) <= set(labels.unique().tolist())


def test_scaling_moves_picture_and_labels_alike():
    """A square in the middle of a picture, enlarged, covers the same pixels in both."""
    image = tv_tensors.Image(torch.zeros(3, 40, 40, dtype=torch.uint8))
    labels = tv_tensors.Mask(torch.zeros(40, 40, dtype=torch.uint8))
    image[:, 10:30, 15:25], labels[10:30, 15:25] = 200, 1
    scaled, target = RandomScale((2.0, 2.0))(image, labels)
    assert target.sum() == 4 * 200
    assert ((scaled[0] > 100) == (target == 1)).float().mean() > 0.97


def test_to_float_scales_pictures_but_not_labels():
    image, labels = coded_pair(3, 5)
    as_float, as_long = to_float()(image, labels)
    assert torch.allclose(as_float, image / 255)
    assert torch.equal(as_long, labels.long())


@pytest.mark.parametrize("workers", [0, 1])
def test_crops_of_the_embedded_set_make_batches(shapes_root, workers):
    dataset = SegmentationFolder(shapes_root, "val", train_transforms(160))
    loader = DataLoader(dataset, batch_size=4, num_workers=workers)
    images, labels = next(iter(loader))
    assert images.shape == (4, 3, 160, 160)
    assert labels.shape == (4, 160, 160)
    assert 0 <= images.min() < images.max() <= 1
    assert set(labels.unique().tolist()) <= {*range(8), VOID}
