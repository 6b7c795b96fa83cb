"""Reading folders in VOC layout: what is right loads right."""

import struct
import zlib
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCSegmentation
from torchvision.transforms.v2.functional import pil_to_tensor

from fcnlib.data import (
    VOC_CLASSES,
    DataError,
    SegmentationFolder,
    read_image,
    read_labels,
    save_labels,
)
from fcnlib.data.check import check_folder
from fcnlib.data.folder import read_ids

SPLITS_OF_COURSE = ("animals-train", "animals-val", "seg11valid")


def test_an_item_is_picture_and_labels_as_uint8(voc_folder):
    dataset = SegmentationFolder(voc_folder, "train")
    assert len(dataset) == 2
    assert dataset.ids == ["a", "b"]
    assert dataset.classes == VOC_CLASSES
    image, labels = dataset[1]
    assert (image.shape, image.dtype) == ((3, 10, 12), torch.uint8)
    assert (labels.shape, labels.dtype) == ((10, 12), torch.uint8)
    assert set(labels.unique().tolist()) <= {0, 8, 20, 255}


def test_transforms_get_picture_and_labels(voc_folder):
    dataset = SegmentationFolder(voc_folder, "val", lambda image, labels: (labels, image))
    labels, image = dataset[0]
    assert labels.ndim == 2
    assert image.ndim == 3


def test_class_names_come_from_labels_txt(voc_folder):
    names = [f"class {k}" for k in range(21)]
    (voc_folder / "labels.txt").write_text("\n".join(names))
    assert SegmentationFolder(voc_folder, "val").classes == tuple(names)


def test_a_list_may_begin_with_the_mark_that_windows_editors_write(voc_folder):
    path = voc_folder / "ImageSets" / "Segmentation" / "train.txt"
    path.write_text("a\nb\n", encoding="utf-8-sig")
    assert SegmentationFolder(voc_folder, "train").ids == ["a", "b"]


def test_a_grey_mask_holds_its_values_as_labels(voc_folder):
    path = voc_folder / "SegmentationClass" / "a.png"
    labels = np.array(Image.open(path))
    Image.fromarray(labels).save(path)
    assert Image.open(path).mode == "L"
    assert np.array_equal(read_labels(path, 21), labels)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_grey_mask_of_fewer_bits_is_refused(tmp_path, bits):
    """Pillow would read 1 as 85, or as 17."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, bits, 0, 0, 0, 0)
    row = zlib.compress(bytes([0, 1 << (8 - bits)]))  # no filter, then one pixel of 1
    png = part(b"IHDR", header) + part(b"IDAT", row) + part(b"IEND", b"")
    path = tmp_path / "mask.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    assert Image.open(path).getpixel((0, 0)) == 255 // (2**bits - 1)
    with pytest.raises(DataError, match=rf"mask\.png is a grey PNG of {bits} bits"):
        read_labels(path, 21)


def test_a_mask_with_a_grey_palette_or_a_short_one_reads(tmp_path):
    labels = np.array([[0, 3], [2, 255]], np.uint8)
    grey = Image.fromarray(labels)
    grey.putpalette([value for value in range(256) for _ in range(3)])
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(read_labels(tmp_path / "grey.png", 4), labels)
    save_labels(tmp_path / "voc.png", labels[:, :1])
    Image.open(tmp_path / "voc.png").save(tmp_path / "short.png", optimize=True, bits=2)
    assert np.array_equal(read_labels(tmp_path / "short.png", 4), labels[:, :1])


@pytest.mark.real_data
def test_the_animal_subset_reads_as_torchvision_reads_it(real_data):
    """torchvision's VOCSegmentation is the independent reader."""
    root = real_data / "voc2012-animals"
    for split, count in (("train", 445), ("val", 454)):
        dataset = SegmentationFolder(root, split)
        assert len(dataset) == count
        peer = VOCSegmentation.__new__(VOCSegmentation)
        peer.images = [str(path) for path in dataset.image_paths]
        peer.targets = [str(path) for path in dataset.label_paths]
        peer.transforms = None
        for index in range(0, count, 20):
            image, labels = dataset[index]
            peer_image, peer_labels = peer[index]
            assert torch.equal(image, pil_to_tensor(peer_image))
            assert torch.equal(labels, pil_to_tensor(peer_labels)[0])


@pytest.mark.slow
@pytest.mark.real_data
def test_the_animal_subset_is_whole_and_its_frequencies_are_right(real_data):
    root = real_data / "voc2012-animals"
    report = check_folder(root)
    assert report.problems == []
    assert report.pairs == {"train": 445, "val": 454, "trainval": 899}
    counts = np.zeros(256, int)
    pictures = np.zeros(256, int)
    masks = sorted((root / "SegmentationClass").glob("*.png"))
    for path in masks:
        values, number = np.unique(np.array(Image.open(path)), return_counts=True)
        counts[values] += number
        pictures[values] += 1
    assert len(masks) == 899
    assert np.array_equal(report.pixels, counts)
    assert np.array_equal(report.pictures, pictures)


# --- some of the classes


def test_some_classes_in_another_order_and_all_others_void(voc_folder):
    numbers = {"person": 15, "background": 0, "cat": 8}
    whole = SegmentationFolder(voc_folder, "train")
    some = SegmentationFolder(voc_folder, "train", classes=list(numbers))
    assert some.classes == ("person", "background", "cat")
    assert some.numbers == (15, 0, 8)
    assert some.all_classes == VOC_CLASSES
    assert whole.numbers == tuple(range(21))
    for (image, labels), (same, kept) in zip(whole, some, strict=True):
        assert torch.equal(image, same)
        assert type(kept) is type(labels)
        assert kept.dtype == torch.uint8
        expected = np.full(labels.shape, 255)
        for label, number in enumerate(numbers.values()):
            expected[labels.numpy() == number] = label
        assert np.array_equal(kept, expected)
        assert set(kept.unique().tolist()) == {1, 2, 255}


def test_transforms_get_the_new_labels(voc_folder):
    folder = SegmentationFolder(voc_folder, "train", lambda image, labels: labels, ["sheep", "cat"])
    assert set(folder[0].unique().tolist()) == {1, 255}


def test_classes_of_labels_txt_can_be_chosen_too(voc_folder):
    names = [f"class {k}" for k in range(21)]
    (voc_folder / "labels.txt").write_text("\n".join(names))
    folder = SegmentationFolder(voc_folder, "val", classes=("class 20", "class 8"))
    assert folder.numbers == (20, 8)
    assert set(folder[0][1].unique().tolist()) == {0, 1, 255}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["cat", "unicorn"],
            r"voc has no class 'unicorn': choose among .*, background, .*\.$",
        ),
        (["cat", "dog", "cat"], r"^The class 'cat' is named twice: name each class once\.$"),
    ],
)
def test_classes_that_are_not_there_or_twice(voc_folder, names, sentence):
    with pytest.raises(DataError, match=sentence):
        SegmentationFolder(voc_folder, "train", classes=names)


def test_a_label_too_large_is_found_whatever_the_classes(voc_folder):
    save_labels(voc_folder / "SegmentationClass" / "a.png", np.full((10, 12), 21))
    with pytest.raises(DataError, match="holds the label 21"):
        SegmentationFolder(voc_folder, "train", classes=["cat"])[0]


# --- pictures as people have them


def save_and_read(tmp_path, picture: Image.Image, name: str = "p.png", **options):
    picture.save(tmp_path / name, **options)
    image = read_image(tmp_path / name)
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    return image


def test_grey(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = save_and_read(tmp_path, Image.fromarray(values))
    assert np.array_equal(image, np.stack([values] * 3))


def test_cmyk(tmp_path):
    red = Image.new("CMYK", (4, 3), (0, 255, 255, 0))
    image = save_and_read(tmp_path, red, "p.jpg", quality=100)
    assert image.shape == (3, 3, 4)
    assert np.allclose(image[:, 0, 0], (255, 0, 0), atol=3)


def test_transparent_parts_lie_on_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    image = save_and_read(tmp_path, Image.fromarray(pixels))
    assert image[:, 0, 0].tolist() == [10, 20, 30]
    assert image[:, 0, 1].tolist() == [255, 255, 255]
    assert image[:, 0, 2].tolist() == [127, 127, 127]


def test_a_palette_picture_with_transparency(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([200, 10, 10, 10, 200, 10])
    image = save_and_read(tmp_path, picture, transparency=1)
    assert image[:, 0].T.tolist() == [[200, 10, 10], [255, 255, 255]]


def test_16_bit_values_are_scaled_not_clipped(tmp_path):
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    image = save_and_read(tmp_path, Image.fromarray(values))
    assert np.array_equal(image[0], values // 257)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """What a viewer shows: the tag says where the stored first row and column belong."""
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255  # a white corner, top left
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = save_and_read(tmp_path, stored, "p.jpg", exif=exif, quality=95)
    assert image.shape == (3, 32, 48)
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - upright).mean() < 3


def test_a_picture_is_turned_though_another_exif_tag_is_damaged(tmp_path):
    """Cameras and editors write such tags; Pillow turns the picture, then fails to store them."""
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI", 0x0100, 2, 4) + b"abc\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + tags + bytes(4)
    image = save_and_read(tmp_path, Image.new("RGB", (48, 32)), "p.jpg", exif=exif)
    assert image.shape == (3, 48, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
def test_thin_pictures(tmp_path, size):
    image = save_and_read(tmp_path, Image.new("RGB", size, (1, 2, 3)))
    assert image.shape == (3, size[1], size[0])


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_umlauts_are_found_however_they_are_stored(voc_folder, stored, listed):
    """macOS stores an "a" and two dots, where a list written elsewhere has one sign."""
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        path = voc_folder / folder / f"a{suffix}"
        path.rename(path.with_name(normalize(stored, "k\u00e4se") + suffix))
    lists = voc_folder / "ImageSets" / "Segmentation"
    (lists / "umlaut.txt").write_text(normalize(listed, "k\u00e4se") + "\n", encoding="utf-8")
    image, labels = SegmentationFolder(voc_folder, "umlaut")[0]
    assert image.shape[-2:] == labels.shape


@pytest.mark.parametrize("name", ["a.png", "a.jpeg", "a.JPG"])
def test_other_endings_are_found(voc_folder, name):
    folder = voc_folder / "JPEGImages"
    with Image.open(folder / "a.jpg") as picture:
        picture.save(folder / f"new{name[1:]}")
    (folder / "a.jpg").unlink()
    (folder / f"new{name[1:]}").rename(folder / name)
    assert SegmentationFolder(voc_folder, "train").image_paths[0].name == name
    assert SegmentationFolder(voc_folder, "train")[0][0].shape == (3, 10, 12)


def test_the_courses_own_lists_of_vocs_pictures(voc_folder):
    lists = {split: read_ids(voc_folder, split) for split in SPLITS_OF_COURSE}
    assert [len(ids) for ids in lists.values()] == [445, 454, 736]
    assert all(len(set(ids)) == len(ids) for ids in lists.values())
    assert not set(lists["animals-train"]) & set(lists["animals-val"])
    with pytest.raises(DataError, match=r"2007_000032\.jpg"):  # which this folder has not
        SegmentationFolder(voc_folder, "animals-train")


def test_a_list_of_the_folder_goes_before_the_courses(voc_folder):
    (voc_folder / "ImageSets/Segmentation/seg11valid.txt").write_text("c\n")
    assert SegmentationFolder(voc_folder, "seg11valid").ids == ["c"]


def test_the_courses_lists_are_those_of_the_real_pictures(real_data):
    root = real_data / "voc2012-animals"
    for split in ("train", "val"):
        assert read_ids(root, split) == read_ids(root, f"animals-{split}")
    known = (real_data / "voc2012-masks" / "seg11valid.txt").read_text().split()
    assert read_ids(root, "seg11valid") == known
