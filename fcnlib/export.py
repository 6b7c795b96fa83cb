"""A network as an ONNX file: one file that runs without PyTorch, checked against PyTorch.

The normalisation is a layer of the network, so it is in the file too: whoever runs the file
hands it RGB in 0..1.
"""

import copy
import importlib
import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.fx.experimental._config as symbolic_shapes
from torch import nn

from fcnlib.errors import UserError

EXAMPLE = (2, 3, 65, 79)
"""The shape of the pictures by which the network's operations are found out."""

CHECKED = ((1, 3, 64, 64), (3, 3, 97, 131), (2, 3, 20, 200))
"""The shapes of the pictures on which the file must agree with PyTorch."""

TOLERANCE = 1e-4
"""How far the file's logits may be from PyTorch's, relative to the largest of the picture."""

LARGEST = 2**31
"""Bytes that an ONNX file, a protobuf, cannot reach."""

INSTALL = 'pip install "onnx>=1.18" "onnxscript>=0.6" "onnxruntime>=1.22"'
"""onnxscript 0.6 is the first that torch 2.11 can use."""


def export_onnx(model: nn.Module, path: str | Path, classes: Sequence[str] = ()) -> float:
    """Write a network as an ONNX file; return its largest difference to PyTorch, in logits.

    The file's input "image" is float32 (N, 3, H, W), RGB in 0..1, its output "logits" float32
    (N, num_classes, H, W); N, H and W are free, from 1 on. It computes as in eval mode. Names of
    ``classes`` are stored as a JSON list under "classes" in its metadata. The model is left as it
    is. Takes 5 to 30 seconds.

    onnxruntime runs the file on pictures of three sizes before it appears at ``path``, where it
    appears whole or not at all. Raises UserError if a package is missing, if the file cannot be
    written, would reach 2 GB, or differs from PyTorch by more than TOLERANCE, and ValueError if
    there are not as many names as classes.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it, such as {path / 'fcn.onnx'}.")
    network = copy.deepcopy(model).to("cpu", torch.float32).eval()
    network = network.to(memory_format=torch.contiguous_format)
    size = 4 * sum(numbers.numel() for numbers in network.state_dict().values())
    if size > 0.99 * LARGEST:
        raise UserError(
            f"The network has {size / 1e9:.1f} GB of numbers, and one ONNX file holds less than "
            f"{LARGEST / 1e9:.1f} GB: export a narrower one."
        )
    try:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            importlib.import_module(package)
        with (
            tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder,
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            beside = Path(folder) / "network.onnx"
            beside.write_bytes(_serialized(network, classes))
            difference = _compare(network, beside)
            os.replace(beside, path)
    except ImportError as error:
        raise UserError(f"The export needs more packages ({error}): {INSTALL}") from error
    except torch.onnx.OnnxExporterError as error:
        raise UserError(
            f"PyTorch {torch.__version__} cannot export this network: newer versions may (2.15 "
            "exports all of fcnlib's)."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    return difference


def _serialized(network: nn.Module, classes: Sequence[str]) -> bytes:
    """Return the contents of the ONNX file."""
    # PyTorch would otherwise ask how maps lie in memory, and so fix sizes.
    with (
        symbolic_shapes.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
        warnings.catch_warnings(),
    ):
        # PyTorch 2.11 warns of itself.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        program = torch.onnx.export(
            network,
            (torch.zeros(EXAMPLE, dtype=torch.float32, device="cpu"),),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        )
    assert program is not None
    file = program.model_proto
    graph = file.graph
    batch, num_classes, height, width = graph.output[0].type.tensor_type.shape.dim
    if classes and len(classes) != num_classes.dim_value:
        raise ValueError(
            f"classes are {len(classes)} names, but the network has {num_classes.dim_value}."
        )
    # The output has the input's size; the exporter spells out how it comes to that.
    batch.dim_param, height.dim_param, width.dim_param = "batch", "height", "width"
    # It also notes on what line of what file of this machine each operation stands.
    noted: list[Any] = [*graph.node, *graph.input, *graph.output, *graph.value_info]
    for item in (*noted, *graph.initializer, graph):
        item.ClearField("metadata_props")
    file.doc_string = "image: RGB in 0..1, float32 (N, 3, H, W) -> logits (N, classes, H, W)"
    if classes:
        file.metadata_props.add(key="classes", value=json.dumps(list(classes)))
    return file.SerializeToString()


def _compare(network: nn.Module, file: Path) -> float:
    """Return the largest difference between file and network; raise UserError if too large."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(0)
    largest = 0.0
    for shape in CHECKED:
        x = torch.rand(shape, generator=random, dtype=torch.float32, device="cpu")
        expected = network(x)
        if not expected.isfinite().all():
            raise UserError(
                "The network's logits are not finite: it holds NaN or too large numbers."
            )
        found = torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])
        same_shape = found.shape == expected.shape
        difference = (found - expected).abs().max().item() if same_shape else float("inf")
        if not difference <= TOLERANCE * expected.abs().max().item():
            raise UserError(
                f"The ONNX file differs from PyTorch by {difference:.2g} in logits on pictures of "
                f"shape {shape}, so it was not written: try newer packages (pip install --upgrade "
                "onnx onnxscript onnxruntime)."
            )
        largest = max(largest, difference)
    return largest
