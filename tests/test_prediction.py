"""Prediction: any picture, large ones in tiles, files that appear whole or not at all."""

import errno
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from reference_networks import randomise
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib import prediction
from fcnlib.checkpoint import Classes
from fcnlib.data import DataError, SegmentationFolder, read_image, read_labels, voc_colormap
from fcnlib.errors import RunError
from fcnlib.models import build_model
from fcnlib.prediction import (
    MARGIN,
    evaluating,
    find_images,
    overlay,
    predict,
    predict_file,
    tiles,
)

LARGEST = 1344  # pixels: what the network sees at once
ANIMALS = Classes(("background", "person", "cat"), (0, 15, 8))


def narrow(name: str, backbone: str | None, geometry: str = "same", classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    width = 0.1 if backbone == "squeezenet1_1" else 1 / 16
    model = build_model(name, classes, backbone, geometry=geometry, width=width)
    return randomise(model).eval()


def noise(height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=random)


class Brightest(nn.Module):
    """Answers the channel that is brightest; notes the sizes that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        assert not self.training
        return self.scale * x


@pytest.fixture
def network() -> nn.Module:
    return narrow("fcn8s", "squeezenet1_1")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "field.png"
    path.parent.mkdir()
    Image.fromarray(noise(40, 50).permute(1, 2, 0).numpy()).save(path)
    return path


# --- tiles


def test_tiles_cover_every_length_once_and_see_288_pixels_more():
    for length in [*range(1, 2100), 3071, 3072, 3073, 20000]:
        spans = [(seen[0], inside[0], tile[0]) for seen, inside, tile in tiles(length, 1)]
        assert (len(spans) == 1) == (length <= LARGEST)
        end = 0
        for seen, inside, tile in spans:
            assert tile.start == end < tile.stop
            end = tile.stop
            assert inside == slice(tile.start - seen.start, tile.stop - seen.start)
            assert seen.start % 32 == 0
            assert seen.stop - seen.start <= LARGEST
            assert seen.start == 0 or seen.start == tile.start - 288
            assert seen.stop == length or seen.stop == tile.stop + 288
        assert end == length


def test_tiles_of_both_sides_are_all_pairs():
    rows = [[part[0] for part in parts] for parts in tiles(1700, 1)]
    columns = [[part[1] for part in parts] for parts in tiles(1, 2400)]
    both = [tuple(zip(row, column, strict=True)) for row in rows for column in columns]
    assert list(tiles(1700, 2400)) == both


@pytest.mark.parametrize("size", [(1344, 1344), (1345, 30), (30, 3073), (1347, 1700)])
def test_the_network_never_sees_more_than_a_tile(size):
    network, image = Brightest(), noise(*size)
    assert torch.equal(predict(network, image), image.argmax(dim=0).to(torch.uint8))
    assert len(network.seen) == len(list(tiles(*size)))
    assert all(max(shape) <= LARGEST for shape in network.seen)


def stitched(network: nn.Module, x: Tensor) -> Tensor:
    boxes = list(tiles(*x.shape[-2:]))
    parts = [network(x[..., *seen])[..., *inside] for seen, inside, _ in boxes]
    whole = torch.full((*parts[0].shape[:2], *x.shape[-2:]), torch.nan, dtype=x.dtype)
    for part, (_, _, tile) in zip(parts, boxes, strict=True):
        whole[..., *tile] = part
    return whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backbone", "geometry"),
    [
        ("fcn32s", "vgg19", "same"),
        ("fcn16s", "vgg19", "same"),
        ("fcn8s", "vgg19", "same"),
        ("fcn_decoder", "vgg19", "same"),
        ("fcn8s", "squeezenet1_1_fc6", "same"),
        ("fcn_resnet18", None, "same"),
        ("fcn_resnet50", None, "same"),
    ],
)
def test_no_network_looks_farther_than_the_margin(name, backbone, geometry, monkeypatch):
    """The deepest ones, with means for maxima and no negative weight: all that can count does."""
    network = narrow(name, backbone, geometry).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.1)
    monkeypatch.setattr(
        nn.MaxPool2d,
        "forward",
        lambda self, x: F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode
        ),
    )
    x = torch.rand(1, 3, 1024, 33, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    for row in range(512, 544):  # a stride of 32: every place in a cell
        (pull,) = torch.autograd.grad(logits[0, :, row].sum(), x, retain_graph=True)
        seen = pull.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        assert row - seen[0] <= MARGIN
        assert seen[-1] - row <= MARGIN


@pytest.mark.parametrize(
    ("name", "backbone", "geometry"),
    [
        ("fcn8s", "squeezenet1_1", "same"),
        ("fcn8s", "squeezenet1_1_fc6", "same"),
        ("fcn32s", "vgg16", "same"),
        pytest.param("fcn32s", "vgg16", "paper", marks=pytest.mark.slow),
        pytest.param("fcn8s", "vgg16", "paper", marks=pytest.mark.slow),
        pytest.param("fcn8s", "vgg19_bn", "same", marks=pytest.mark.slow),
        pytest.param("fcn32s", "squeezenet1_1", "paper", marks=pytest.mark.slow),
        pytest.param("fcn_decoder", "vgg16", "same", marks=pytest.mark.slow),
        pytest.param("fcn32s", "vgg19", "paper", marks=pytest.mark.slow),
        pytest.param("fcn_resnet18", None, "same", marks=pytest.mark.slow),
        pytest.param("fcn_resnet50", None, "same", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("size", [(1347, 33), (33, 1700)])
def test_tiles_equal_the_whole_picture_at_the_seams_too(name, backbone, geometry, size):
    """In float64, so that nothing but a pixel that is missing could make a difference."""
    if name == "fcn_resnet50":  # like torchvision's, it stretches its map to other sizes
        size = tuple(-side // 8 * -8 for side in size)
    network = narrow(name, backbone, geometry).double()
    x = torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, found = network(x), stitched(network, x)
    assert (found - whole).abs().max() <= 1e-9 * whole.abs().max()


@pytest.mark.parametrize("size", [(1345, 70), pytest.param((1347, 1300), marks=pytest.mark.slow)])
def test_the_labels_of_a_large_picture_are_those_of_the_whole(network, size):
    image = noise(*size) / 255
    with torch.no_grad():
        expected = network.double()(image[None].double())[0].argmax(dim=0)
    found = predict(network, image.double())
    assert torch.equal(found, expected.to(torch.uint8))
    assert len(found.unique()) == 3


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (17, 400)])
def test_small_and_thin_pictures(network, size):
    image = noise(*size)
    with torch.no_grad():
        expected = network(image[None] / 255)[0].argmax(dim=0)
    assert torch.equal(predict(network, image), expected.to(torch.uint8))


def test_only_the_chosen_classes_are_predicted(network):
    image = noise(60, 70)
    with torch.no_grad():
        logits = network(image[None] / 255)[0]
    assert 1 in predict(network, image)
    chosen = predict(network, image, positions=(2, 0))
    assert torch.equal(chosen, (logits[0] > logits[2]).to(torch.uint8))
    assert chosen.unique().tolist() == [0, 1]


@pytest.mark.parametrize("size", [(40, 50), (1300, 40)])
@pytest.mark.parametrize("positions", [None, (2, 0)])
def test_probabilities_add_up_to_one_and_are_largest_where_the_label_is(network, size, positions):
    image = noise(*size)
    number = len(positions or range(3))
    found = np.full((number, *size), np.nan, np.float32)
    labels = predict(network, image, positions, found)
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.argmax(axis=0), labels)
    with torch.no_grad():
        logits = network(image[None] / 255)[0]
    if positions is not None:
        logits = logits[list(positions)]
    assert np.allclose(found, logits.softmax(dim=0), atol=1e-5)


def test_the_network_is_in_eval_mode_meanwhile_then_as_before(network):
    network.train()
    network.normalize.eval()  # layers may be in different modes
    modes = [layer.training for layer in network.modules()]
    first, second = predict(network, noise(40, 40)), predict(network, noise(40, 40))
    assert torch.equal(first, second)  # no dropout
    assert [layer.training for layer in network.modules()] == modes
    with pytest.raises(ValueError):
        predict(network, noise(40, 40)[:2])
    assert [layer.training for layer in network.modules()] == modes


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), "is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "of cpu is full"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "was killed"),
        (ConnectionResetError(104, "Connection reset by peer"), "was killed"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(network, error, said):
    with pytest.raises(RunError, match=rf"^[^\n]*{said}[^\n]*: [^\n]*\.$"), evaluating(network):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("no"), OSError(2)])
def test_other_errors_pass(network, error):
    with pytest.raises(type(error)) as raised, evaluating(network):
        raise error
    assert raised.value is error


MEASURE = """
import resource, torch
from fcnlib.models import build_model
from fcnlib.prediction import predict
network = build_model("fcn8s", 3, "squeezenet1_1", width=0.1)
for size in ((2000, 3000), (4000, 6000)):
    predict(network, torch.zeros(3, *size, dtype=torch.uint8))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_four_times_the_pixels_take_memory_for_the_picture_alone():
    """A tile of 1344 x 1344 at a time: here 6000 x 4000 at once would take gigabytes."""
    printed = subprocess.check_output([sys.executable, "-c", MEASURE])
    small, large = (int(number) / 1024 for number in printed.split())
    print(f"{small:.0f} MiB, then {large:.0f} MiB")
    picture_and_labels = 4 * 18e6 / 2**20  # bytes of the 18 million pixels more
    assert large - small < 1.5 * picture_and_labels + 50


MEASURE_FILE = """
import resource
from pathlib import Path
from PIL import Image
from test_prediction import ANIMALS, Brightest
from fcnlib.prediction import predict_file
for size in ((3000, 2000), (6000, 4000)):
    Image.new("RGB", size, "blue").save("large.png")
    predict_file(Brightest(), ANIMALS, Path("large.png"), Path("out"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_from_file_to_files_a_pixel_takes_no_more_than_read_image_reckons_with(tmp_path):
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", MEASURE_FILE]
    printed = subprocess.check_output(command, cwd=tmp_path, env=path)
    small, large = (int(number) * 1024 for number in printed.split())
    print(f"{(large - small) / 18e6:.1f} bytes a pixel")
    assert large - small < 24 * 18e6


# --- pictures as people have them


def kinds() -> dict[str, tuple[Image.Image, dict]]:
    colors = Image.fromarray(noise(20, 30).permute(1, 2, 0).numpy())
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera held upright
    sixteen = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    return {
        "turned.jpg": (colors, {"exif": turned}),
        "alpha.png": (colors.convert("RGBA"), {}),
        "grey.png": (colors.convert("L"), {}),
        "grey_alpha.png": (colors.convert("LA"), {}),
        "sixteen.png": (sixteen, {}),
        "cmyk.jpg": (colors.convert("CMYK"), {}),
        "palette.png": (colors.quantize(16), {}),
        "bits.png": (colors.convert("1"), {}),
        "pixel.png": (colors.crop((0, 0, 1, 1)), {}),
        "tall.png": (colors.resize((1, 500)), {}),
        "wide.JPG": (colors.resize((1400, 2)), {}),
        "film.gif": (colors.convert("P"), {}),
        "modern.webp": (colors, {}),
        "scan.tif": (colors, {}),
    }


@pytest.mark.parametrize("name", kinds())
def test_any_kind_of_picture(network, tmp_path, name):
    picture, options = kinds()[name]
    picture.save(tmp_path / name, **options)
    image = read_image(tmp_path / name)
    size = picture.size[::-1] if name == "turned.jpg" else picture.size
    stem = name.split(".")[0]
    written = predict_file(network, ANIMALS, tmp_path / name, tmp_path / "out", None, True)
    assert [path.name for path in written] == [
        f"{stem}.png",
        f"{stem}_overlay.jpg",
        f"{stem}_probabilities.npy",
    ]
    mask = Image.open(written[0])
    assert mask.size == size
    expected = ANIMALS.in_masks(predict(network, image))
    assert np.array_equal(np.array(mask), expected)
    with Image.open(written[1]) as shown:
        assert shown.size[0] >= size[0]
        assert shown.size[1] > size[1]
    assert np.load(written[2]).shape == (3, *size[::-1])


def test_the_mask_is_as_the_training_data_has_them(picture, voc_folder):
    """Numbers and palette of VOC, though label 1 is the person, VOC's number 15."""
    network = Brightest()
    mask, _ = predict_file(network, ANIMALS, picture, voc_folder)
    found = Image.open(mask)
    of_data = Image.open(voc_folder / "SegmentationClass/a.png")
    assert (found.mode, found.getpalette()) == (of_data.mode, of_data.getpalette())
    labels = read_labels(mask, 21)
    assert set(labels.unique().tolist()) == {0, 8, 15}
    # As a mask of that data it reads like any other, and back come the network's labels.
    mask.rename(voc_folder / "SegmentationClass/a.png")
    picture.rename(voc_folder / "JPEGImages/a.png")
    (voc_folder / "JPEGImages/a.jpg").unlink()
    folder = SegmentationFolder(voc_folder, "train", classes=ANIMALS.names)
    image, labels = folder[0]
    assert torch.equal(labels.as_subclass(Tensor), predict(network, image))


def test_the_probabilities_in_the_file(network, picture):
    written = predict_file(network, ANIMALS, picture, picture.parent / "out", (0, 2, 1), True)
    found = np.load(written[2])
    assert found.dtype == np.float16
    assert np.allclose(found.sum(axis=0, dtype=np.float32), 1, atol=2e-3)
    with torch.no_grad():
        logits = network(read_image(picture)[None] / 255)[0][[0, 2, 1]]
    assert np.allclose(found, logits.softmax(dim=0), atol=1e-3)


# --- the overlay


def test_the_overlay_tints_all_but_the_background():
    image = noise(30, 300)
    labels = torch.zeros(30, 300, dtype=torch.uint8)
    labels[:, 150:] = 1
    shown = np.array(overlay(image, labels, ANIMALS)).transpose(2, 0, 1)
    assert np.array_equal(shown[:, :30, :150], image[:, :, :150])
    person = voc_colormap()[15].reshape(3, 1, 1)
    mixed = 0.4 * image[:, :, 150:].numpy() + 0.6 * person
    assert np.abs(shown[:, :30, 150:] - mixed).max() <= 1


def test_the_legend_has_the_colours_of_the_classes_that_occur():
    image = torch.zeros(3, 30, 300, dtype=torch.uint8)
    for present, absent in ((1, 2), (2, 1)):
        shown = overlay(image, torch.full((30, 300), present, dtype=torch.uint8), ANIMALS)
        colors = {color for _, color in shown.crop((0, 30, *shown.size)).getcolors(10**6)}
        assert ANIMALS.colors[present] in colors
        assert ANIMALS.colors[absent] not in colors


@pytest.mark.parametrize("size", [(1, 1), (40, 60), (300, 200), (1500, 1000), (200, 3000)])
def test_the_legend_of_21_classes_is_whole(size):
    """Every square with its colour, and nothing at the edges, where text would be cut."""
    names = tuple(f"class number {k}" for k in range(21))
    classes = Classes(names, tuple(range(21)))
    height, width = size
    labels = torch.arange(21, dtype=torch.uint8).repeat_interleave(200)[: 21 * 200]
    labels = labels[torch.linspace(0, len(labels) - 1, height * width).long()].reshape(size)
    shown = overlay(torch.zeros(3, *size, dtype=torch.uint8), labels, classes)
    legend = shown.crop((0, height, *shown.size))
    colors = {color for _, color in legend.getcolors(10**7)}
    for label in labels.unique().tolist()[1:]:
        assert classes.colors[label] in colors
    pixels = np.array(legend)
    assert (pixels[:, -1] == 255).all()
    assert (pixels[-1] == 255).all()


def test_a_picture_too_long_for_jpeg_has_a_smaller_overlay(tmp_path):
    Image.new("RGB", (66000, 2), "blue").save(tmp_path / "river.png")
    mask, shown = predict_file(Brightest(), ANIMALS, tmp_path / "river.png", tmp_path / "out")
    assert Image.open(mask).size == (66000, 2)
    assert Image.open(shown).size[0] == 65500


# --- what can go wrong


@pytest.mark.parametrize("spoil", ["cut", "text", "folder"])
def test_a_damaged_picture_leaves_nothing(network, picture, spoil):
    match spoil:
        case "cut":
            picture.write_bytes(picture.read_bytes()[:-500])
        case "text":
            picture.write_text("hello")
        case "folder":
            picture.unlink()
            picture.mkdir()
    out = picture.parents[1] / "out"
    with pytest.raises(DataError, match=r"field\.png .*[.]$"):
        predict_file(network, ANIMALS, picture, out)
    assert not out.exists()


def test_results_cannot_go_into_a_file(network, picture, tmp_path):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match=r"file.* cannot be written .*choose another folder"):
            predict_file(network, ANIMALS, picture, out)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_disk_that_fills_up_leaves_nothing_half_written(network, picture, tmp_path, monkeypatch):
    def fails(self: Image.Image, path: str, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    before = [path.name for path in predict_file(network, ANIMALS, picture, out)]
    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(RunError, match=r"out cannot be written \(No space left on device\)"):
        predict_file(network, ANIMALS, picture, out)
    assert sorted(path.name for path in out.iterdir()) == before


def test_probabilities_that_do_not_fit_are_not_begun(network, picture, tmp_path, monkeypatch):
    """The array lies in a file: a full disk would end the process, not raise."""
    monkeypatch.setattr(prediction.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(RunError, match=r"No space left on device"):
        predict_file(network, ANIMALS, picture, tmp_path / "out", with_probabilities=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_leftovers_of_macos_are_no_pictures(picture):
    (picture.parent / "._field.png").write_bytes(b"\0\x05\x16\x07")
    assert find_images([picture.parent]) == [picture]


def test_results_do_not_lie_among_the_pictures(network, picture, tmp_path):
    """There, field.png or field_overlay.jpg could be somebody's picture."""
    before = {path: path.read_bytes() for path in picture.parent.iterdir()}
    (link := tmp_path / "link").symlink_to(picture.parent)
    for out in (picture.parent, link):
        with pytest.raises(RunError, match=r"is the folder of field\.png: choose another one"):
            predict_file(network, ANIMALS, picture, out)
    assert {path: path.read_bytes() for path in picture.parent.iterdir()} == before


def test_aerial_pictures_are_beyond_pillows_limit(network, picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(picture)
    with warnings.catch_warnings(action="error"):
        assert read_image(picture).shape == (3, 40, 50)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_picture_that_no_memory_can_hold_is_one_sentence(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 300_000, 200_000, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))
    (tmp_path / "bomb.png").write_bytes(file + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb\.png has 300000 x 200000 pixels, .* 1440 GB"):
        read_image(tmp_path / "bomb.png")


# --- which pictures


def test_files_and_folders_in_the_order_given(tmp_path):
    for name in ("one/b.jpg", "one/a.PNG", "one/notes.txt", "one/deep/x.jpg", "two/c.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "one" / "folder.jpg").mkdir()
    found = find_images([tmp_path / "two" / "c.webp", str(tmp_path / "one")])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "two/c.webp",
        "one/a.PNG",
        "one/b.jpg",
    ]
    again = tmp_path / "two" / ".." / "one" / "b.jpg"
    assert find_images([tmp_path / "one", tmp_path / "one" / "b.jpg"]) == found[1:]
    assert [path.name for path in find_images([tmp_path / "one", again])] == ["a.PNG", "b.jpg"]
    (tmp_path / "one" / "link.jpg").symlink_to(tmp_path / "one" / "b.jpg")  # a name of its own
    assert len(find_images([tmp_path / "one"])) == 3


@pytest.mark.parametrize("other", ["a.png", "A.jpg"])
def test_names_of_results_must_differ(tmp_path, other):
    """Also where file names ignore case."""
    for name in ("one/a.jpg", f"two/{other}"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"one/a\.jpg and .*two/{other} have the same name"):
        find_images([tmp_path / "one", tmp_path / "two"])


def test_an_empty_folder_and_a_missing_picture(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"holds no pictures \(\.jpg, \.jpeg, \.png\)\.$"):
        find_images([tmp_path])
    with pytest.raises(DataError, match=r"gone\.jpg is missing: give a picture or a folder"):
        find_images([tmp_path / "gone.jpg"])
