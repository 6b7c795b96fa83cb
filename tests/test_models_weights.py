"""Weights from torchvision's server (a stand-in on loopback), from files, from real photographs."""

import hashlib
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from fcnlib.errors import WeightsError
from fcnlib.models import CAFFE, FCN, TORCHVISION, VGG, Normalize, SqueezeNet, build_model
from fcnlib.models.normalization import CAFFE_SQUEEZENET

IMAGENET = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1


def sentence(error: pytest.ExceptionInfo, *words: object) -> None:
    """One line that ends as a sentence and names what it should."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "..."))
    for word in words:
        assert str(word) in text


# --- "imagenet"


class Server:
    """An HTTP server on loopback that gives one answer to all."""

    def __init__(self) -> None:
        self.answer, self.status, self.requests = b"", 200, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.answer)))
                self.end_headers()
                self.wfile.write(server.answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture(scope="module")
def squeezenet_state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return torchvision.models.squeezenet1_1(weights=None).state_dict()


@pytest.fixture(scope="module")
def squeezenet_bytes(squeezenet_state, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("imagenet") / "squeezenet.pth"
    torch.save(squeezenet_state, path)
    return path.read_bytes()


@pytest.fixture
def server(squeezenet_bytes, tmp_path, monkeypatch):
    """torchvision's server, whose file name holds the hash; an empty cache."""
    server = Server()
    server.answer = squeezenet_bytes
    server.name = f"squeezenet1_1-{hashlib.sha256(squeezenet_bytes).hexdigest()[:8]}.pth"
    address = f"http://127.0.0.1:{server.http.server_port}/models/{server.name}"
    monkeypatch.setattr(IMAGENET.value, "url", address)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.place = tmp_path / "cache" / "hub" / "checkpoints" / server.name
    yield server
    server.close()


def from_imagenet(name: str = "fcn16s", **options: object) -> nn.Module:
    return build_model(name, 3, "squeezenet1_1", weights="imagenet", **options)


def check_squeezenet(fcn: FCN, state: dict[str, Tensor]) -> None:
    """Layers of torchvision's numbered features, under their names."""
    for number, name in ((0, "conv1"), (3, "fire2"), (12, "fire9")):
        for key, found in fcn.get_submodule(name).state_dict().items():
            assert torch.equal(found, state[f"features.{number}.{key}"])
    assert not fcn.score_fr.weight.any()
    assert fcn.normalize.normalization == TORCHVISION


def test_imagenet_is_downloaded_once(server, squeezenet_state):
    check_squeezenet(from_imagenet(), squeezenet_state)
    assert server.requests == [f"/models/{server.name}"]
    assert server.place.read_bytes() == server.answer
    server.status = 500
    check_squeezenet(from_imagenet("fcn8s", geometry="paper"), squeezenet_state)
    assert len(server.requests) == 1
    with_fc6 = build_model("fcn8s", 3, "squeezenet1_1_fc6", weights="imagenet")
    check_squeezenet(with_fc6, squeezenet_state)
    assert len(server.requests) == 1


def test_imagenet_with_other_bytes_than_the_hash_says(server):
    server.answer = server.answer[:-1000] + bytes(1000)
    with pytest.raises(WeightsError) as error:
        from_imagenet()
    sentence(error, IMAGENET.url, "hash", server.place.parent, "weights=None")
    assert not list(server.place.parent.iterdir())


@pytest.mark.parametrize("cut", [0, 100, 1_000_000])
def test_imagenet_cut_short(server, cut):
    server.answer = server.answer[:cut]
    with pytest.raises(WeightsError) as error:
        from_imagenet()
    sentence(error, IMAGENET.url)
    assert not list(server.place.parent.iterdir())


def test_imagenet_without_a_server(server):
    server.status = 404
    with pytest.raises(WeightsError) as error:
        from_imagenet()
    sentence(error, IMAGENET.url, "squeezenet1_1", "404", server.place.parent, "weights=None")


def test_imagenet_without_a_network(server, squeezenet_state, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(IMAGENET.value, "url", f"http://127.0.0.1:1/{server.name}")
        with pytest.raises(WeightsError) as error:
            from_imagenet()
        sentence(error, IMAGENET.url, "refused", server.place.parent, "weights=None")
        # As the sentence says: put the file there, and it goes on.
        server.place.write_bytes(server.answer)
        check_squeezenet(from_imagenet(), squeezenet_state)
    assert not server.requests


@pytest.mark.parametrize("damaged", [b"", b"<html>", b"1.", slice(0, 2_000_000)])
def test_imagenet_with_a_damaged_file_in_the_cache(server, squeezenet_state, damaged):
    server.place.parent.mkdir(parents=True)
    content = server.answer[damaged] if isinstance(damaged, slice) else damaged
    server.place.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        from_imagenet()
    sentence(error, server.place, "damaged", "delete")
    assert not server.requests
    server.place.unlink()
    check_squeezenet(from_imagenet(), squeezenet_state)


@pytest.mark.parametrize("name", ["fcn8s", "fcn_decoder", "fcn_resnet18", "fcn_resnet50"])
def test_imagenet_has_one_width(name):
    with pytest.raises(ValueError, match=r"ImageNet weights are of width 1, not 0\.5") as error:
        build_model(name, weights="imagenet", width=0.5)
    sentence(error)


@pytest.mark.parametrize(
    ("name", "backbone"), [("fcn_resnet18", "resnet18"), ("fcn_resnet50", "resnet50")]
)
def test_imagenet_for_the_resnets(name, backbone, monkeypatch):
    """torchvision's keys, the classifier ``fc`` among them, without a download."""
    state = getattr(torchvision.models, backbone)(weights=None).state_dict()
    kinds = type(torchvision.models.get_model_weights(backbone).IMAGENET1K_V1)
    monkeypatch.setattr(kinds, "get_state_dict", lambda *_, **__: state)
    body = build_model(name, weights="imagenet").backbone.state_dict()
    assert body.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(body[key], state[key]) for key in body)


# --- a file


def saved(state: object, folder: Path, name: str = "weights.pth") -> Path:
    torch.save(state, folder / name)
    return folder / name


@pytest.mark.parametrize("backbone", ["vgg11", "vgg11_bn"])
@pytest.mark.parametrize("image_size", [64, 96, 224])
def test_a_file_of_the_backbone(backbone, image_size, tmp_path):
    """Of a classifier of any number of classes, on pictures of any size."""
    vgg = VGG(backbone, num_classes=7, width=0.05, image_size=image_size)
    path = saved(vgg.state_dict(), tmp_path)
    fcn = build_model("fcn8s", 3, backbone, weights=path, width=0.05)
    expected = FCN(vgg, 3, (1, 1)).state_dict()
    assert fcn.state_dict().keys() == expected.keys()
    assert all(torch.equal(found, expected[key]) for key, found in fcn.state_dict().items())
    decoder = build_model("fcn_decoder", 3, backbone, weights=str(path), width=0.05)
    features = decoder.pretrained_net.features.state_dict()
    assert all(
        torch.equal(features[key], found) for key, found in vgg.features.state_dict().items()
    )


def test_a_file_of_squeezenet(tmp_path, squeezenet_state):
    path = saved(squeezenet_state, tmp_path)
    check_squeezenet(build_model("fcn8s", 3, "squeezenet1_1", weights=path), squeezenet_state)


WHOLE = [
    ("fcn8s", "vgg11", {}),
    ("fcn16s", "squeezenet1_1", {"geometry": "paper"}),
    ("fcn32s", "vgg11_bn", {"upsampling": "learned"}),
    ("fcn_decoder", "vgg11_bn", {}),
    ("fcn_resnet18", None, {}),
    ("fcn_resnet50", None, {}),
]


@pytest.mark.parametrize(("name", "backbone", "options"), WHOLE)
def test_a_file_of_the_whole_network(name, backbone, options, tmp_path):
    def build(weights: Path | None = None) -> nn.Module:
        return build_model(name, 3, backbone, weights, width=0.05, **options)

    network = build()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    loaded = build(saved(network.state_dict(), tmp_path)).state_dict()
    assert all(torch.equal(loaded[key], found) for key, found in network.state_dict().items())


def test_a_whole_network_over_a_classifier_of_small_pictures(tmp_path):
    fcn = FCN(VGG("vgg11", 7, 0.05, image_size=96), 3, (1, 1))
    loaded = build_model("fcn8s", 3, "vgg11", saved(fcn.state_dict(), tmp_path), width=0.05)
    assert loaded.fc6.kernel_size == (3, 3)
    assert torch.equal(loaded.fc6.weight, fcn.fc6.weight)


class Executed:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.folder,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_runs_no_code(tmp_path):
    for number, write in enumerate(
        (
            lambda content, path: torch.save(content, path),
            lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
            lambda content, path: path.write_bytes(pickle.dumps(content)),
        )
    ):
        path, folder = tmp_path / f"{number}.pth", tmp_path / f"made_{number}"
        write({"features.0.weight": torch.zeros(3), "x": Executed(folder)}, path)
        with pytest.raises(WeightsError) as error:
            build_model("fcn32s", 3, "vgg11", path, width=0.05)
        sentence(error, path, "cannot be read as weights")
        assert not folder.exists()
    torch.load(tmp_path / "0.pth", weights_only=False)  # this is what would have run
    assert (tmp_path / "made_0").is_dir()


@pytest.mark.parametrize("old_format", [False, True])
def test_damaged_files(old_format, tmp_path):
    state = {"features.0.weight": torch.zeros(3, 3), "features.0.bias": torch.zeros(3)}
    path = tmp_path / "weights.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not old_format)
    whole = path.read_bytes()
    for content in (*(whole[:cut] for cut in range(0, len(whole), 23)), b"text", b"1.", b"."):
        path.write_bytes(content)
        with pytest.raises(WeightsError) as error:
            build_model("fcn32s", 3, "vgg11", path, width=0.05)
        sentence(error, path, "damaged")


def test_missing_files(tmp_path):
    for path in (tmp_path / "no.pth", tmp_path):
        with pytest.raises(WeightsError) as error:
            build_model("fcn32s", 3, "vgg11", path, width=0.05)
        sentence(error, path, "no such file")


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        torch.zeros(3),
        3,
        {"model": {"features.0.weight": torch.zeros(3)}, "epoch": 3},
        {0: torch.zeros(3)},
        {"features.0.weight": 3},
    ],
)
def test_not_a_state_dict(content, tmp_path):
    path = saved(content, tmp_path)
    with pytest.raises(WeightsError) as error:
        build_model("fcn32s", 3, "vgg11", path, width=0.05)
    sentence(error, path, "is not a state_dict", "model.state_dict()")


def zeros_like_torchvisions(name: str) -> dict[str, Tensor]:
    """In a small file."""
    with torch.device("meta"):
        shapes = getattr(torchvision.models, name)(weights=None).state_dict()
    return {key: torch.zeros(()).expand(tensor.shape) for key, tensor in shapes.items()}


@pytest.mark.parametrize(
    "state",
    [
        lambda: VGG("vgg13", 3, 0.05).state_dict(),
        lambda: VGG("vgg11_bn", 3, 0.05).state_dict(),
        lambda: VGG("vgg11", 3, 0.06).state_dict(),
        lambda: VGG("vgg11", 3, 0.05).features.state_dict(),
        lambda: SqueezeNet(0.05).state_dict(),
        lambda: zeros_like_torchvisions("resnet18"),
        lambda: zeros_like_torchvisions("alexnet"),
        lambda: build_model("fcn8s", 4, "vgg11", width=0.05).state_dict(),
        lambda: build_model("fcn16s", 3, "vgg11", width=0.05).state_dict(),
        lambda: build_model("fcn_resnet18", 3, width=0.05).state_dict(),
        lambda: {"fc6.weight": torch.zeros(1).expand(4096, 25088)},  # not as 7 x 7: others' VGG
        lambda: {"fc6.weight": torch.zeros(())},
        lambda: {},
    ],
)
def test_a_file_of_another_network(state, tmp_path):
    path = saved(state(), tmp_path)
    with pytest.raises(WeightsError) as error:
        build_model("fcn8s", 3, "vgg11", path, width=0.05)
    sentence(error, path, "does not fit this network")
    assert len(str(error.value)) < 300 + len(str(path))


# --- real weights, real photographs

ANIMALS = (8, 10, 12, 13, 17)  # cat, cow, dog, horse, sheep


def photographs(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Those with exactly one of the animals, at 128 x 128, and which of them it is."""
    pictures, animals = [], []
    for name in (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split():
        with Image.open(folder / "SegmentationClass" / f"{name}.png") as masks:
            found = np.intersect1d(np.asarray(masks), ANIMALS)
        if len(found) != 1:
            continue
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as picture:
            picture.draft("RGB", (256, 256))
            small = picture.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)
        pictures.append(torch.from_numpy(np.array(small)))
        animals.append(ANIMALS.index(int(found[0])))
    return torch.stack(pictures).permute(0, 3, 1, 2), torch.tensor(animals)


def probe(fcn: FCN, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> float:
    """How many of the animals in val a linear classifier of the mean features finds."""
    fcn.eval()

    def features(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            means = [
                fcn.features(batch.float() / 255)["head"].mean((2, 3))
                for batch in pictures.split(32)
            ]
        return torch.cat(means).double()

    x, test = features(train[0]), features(val[0])
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, test = ((part - mean) / std for part in (x, test))
    targets = nn.functional.one_hot(train[1], len(ANIMALS)).double()
    ridge = 300 * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (targets - targets.mean(0)))
    return (((test @ weights) + targets.mean(0)).argmax(1) == val[1]).double().mean().item()


@pytest.mark.real_data
def test_real_weights_bring_their_normalisation(real_data):
    path = real_data / "weights" / "squeezenet1_1_caffe_notop.pth"
    fcn = build_model("fcn8s", backbone="squeezenet1_1", weights=path)
    assert fcn.normalize.normalization == CAFFE_SQUEEZENET
    assert fcn.normalize.normalization.order == "BGR"
    published = torch.load(path, weights_only=True)
    assert torch.equal(fcn.conv1.weight, published["features.0.weight"])
    x = torch.rand(1, 3, 63, 47)  # sizes at which no row is added at the end
    with torch.no_grad():
        theirs = torchvision.models.squeezenet1_1(weights=None).features
        theirs.load_state_dict({k.removeprefix("features."): v for k, v in published.items()})
        bgr = torch.stack([x[:, 2], x[:, 1], x[:, 0]], 1) * 255
        bgr -= torch.tensor([103.939, 116.779, 123.68])[:, None, None]
        expected = theirs(bgr)
        found = fcn.eval().features(x)["head"]
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.std()))


@pytest.mark.slow
@pytest.mark.real_data
def test_real_weights_know_real_photographs(real_data):
    folder = real_data / "voc2012-animals"
    train, val = photographs(folder, "train"), photographs(folder, "val")
    path = real_data / "weights" / "squeezenet1_1_caffe_notop.pth"
    fcn = build_model("fcn8s", backbone="squeezenet1_1", weights=path)
    own = probe(fcn, train, val)
    fcn.normalize = Normalize(TORCHVISION)
    other = probe(fcn, train, val)
    torch.manual_seed(0)
    nothing = probe(build_model("fcn8s", backbone="squeezenet1_1"), train, val)
    print(f"own normalisation {own:.3f}, torchvision's {other:.3f}, random weights {nothing:.3f}")
    assert own > other + 0.04
    assert other > nothing + 0.1


def test_caffe_normalisations_differ_in_their_means_alone():
    assert (CAFFE.order, CAFFE.scale, CAFFE.std) == (
        CAFFE_SQUEEZENET.order,
        CAFFE_SQUEEZENET.scale,
        CAFFE_SQUEEZENET.std,
    )
