"""The command ``fcn`` (also ``python -m fcnlib``).

Each command imports what it needs when it runs: ``--help`` is quick, and ``fcn doctor``
can say what is wrong with an environment in which torch does not import.
"""

import argparse
import io
import sys
from collections.abc import Sequence

from fcnlib.errors import DataError, UsageError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 failed, 2 wrong use."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # Windows may have no letter for a class's name
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(f"fcn: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"fcn: {where}{error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fcn: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fcn", description="Tools of the course on fully convolutional networks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser(
        "doctor", help="look at Python, packages, machine and data; say what to do"
    )
    doctor.set_defaults(run=_doctor)

    data = commands.add_parser("data", help="draw, find or check data")
    kinds = data.add_subparsers(required=True, metavar="WHAT")
    draw = kinds.add_parser("shapes", help="draw the embedded set (about 10 seconds)")
    draw.set_defaults(run=_data_shapes)
    check = kinds.add_parser("check", help="read a whole VOC-layout folder, list every problem")
    check.add_argument("dir", metavar="DIR", help="the folder that holds JPEGImages")
    check.set_defaults(run=_data_check)
    labelme = kinds.add_parser(
        "labelme", help="turn pictures labelled with labelme into a VOC layout"
    )
    labelme.add_argument("dir", metavar="FOLDER", help="pictures, labelme's JSON beside each")
    labelme.add_argument("--out", metavar="DIR", required=True, help="the folder to write")
    labelme.set_defaults(run=_data_labelme)
    voc = kinds.add_parser("voc", help="find PASCAL VOC 2012, or download it (2 GB)")
    voc.add_argument(
        "--mirror", action="append", metavar="URL", help="ask here only; may be given again"
    )
    voc.set_defaults(run=_data_voc)

    _add_train(commands)
    evaluate = commands.add_parser("evaluate", help="score a checkpoint on a split, at native size")
    _add_checkpoint(evaluate)
    evaluate.add_argument("--data", metavar="DIR", required=True, help="a folder in VOC layout")
    evaluate.add_argument("--split", default="val", help="the split to score on (val)")
    evaluate.add_argument("--json", metavar="FILE", help="write the scores to a file, too")
    evaluate.add_argument(
        "--workers", type=_workers, default=0, metavar="N", help="processes that read (0)"
    )
    evaluate.set_defaults(run=_evaluate)
    predict = commands.add_parser("predict", help="segment pictures of any size")
    _add_checkpoint(predict)
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a picture, or a folder of them"
    )
    predict.add_argument("--out", metavar="DIR", required=True, help="where masks are written")
    predict.add_argument(
        "--probabilities", action="store_true", help="write the probability of each class, too"
    )
    predict.set_defaults(run=_predict)
    export = commands.add_parser("export", help="write a checkpoint's network as an ONNX file")
    export.add_argument("--checkpoint", metavar="RUN", required=True, help="what `train` wrote")
    export.add_argument("--onnx", metavar="FILE", required=True, help="the file to write")
    export.set_defaults(run=_export)
    plot = commands.add_parser("plot", help="draw the curves of runs into one picture")
    plot.add_argument("runs", nargs="+", metavar="RUN", help="what `train` wrote")
    plot.add_argument(
        "--out", metavar="FILE", default="curves.png", help=".png, .svg or .pdf (curves.png)"
    )
    plot.set_defaults(run=_plot)
    return parser


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", metavar="RUN", required=True, help="what `train` wrote")
    parser.add_argument(
        "--classes", type=_names, metavar="A,B,...", help="keep these classes only, in this order"
    )


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe ``fcn train``. What is not given is not there: see settings_for."""
    train = commands.add_parser(
        "train",
        help="train a network; a run that broke off goes on with --resume",
        argument_default=argparse.SUPPRESS,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add("--out", metavar="RUN", required=True, help="the run's folder: log, samples, checkpoint")
    add("--resume", action="store_true", help="go on with the run in that folder")
    add("--data", metavar="DIR", help="a folder in VOC layout")
    add("--classes", type=_names, metavar="A,B,...", help="keep these; all others become void")
    add("--train-split", metavar="SPLIT", help="the list of pictures to train with (train)")
    add("--val-split", metavar="SPLIT", help="the list of pictures to score on (val)")
    network = train.add_argument_group("network").add_argument
    network(
        "--model",
        help="fcn32s, fcn16s, fcn8s (default), fcn8s_atonce, fcn_decoder, fcn_resnet18, "
        "fcn_resnet50",
    )
    network(
        "--backbone",
        help="of the FCNs and the decoder: vgg11, 13, 16 (default), 19, each also with _bn; of the "
        "FCNs also squeezenet1_1 and squeezenet1_1_fc6",
    )
    network("--weights", metavar="W", help="imagenet, or a file of weights")
    network("--init-from", metavar="RUN", help="start from a run, as from fcn32s to fcn16s")
    network("--geometry", choices=("same", "paper"), help="without crops (same), or pad 100")
    network("--upsampling", choices=("bilinear", "learned"), help="fixed (bilinear), or learned")
    network("--width", type=float, metavar="X", help="scale the channels (1)")
    recipe = train.add_argument_group("recipe").add_argument
    recipe("--recipe", choices=("modern", "paper"), help="AdamW and crops (modern), or SGD")
    recipe("--epochs", type=int, metavar="N", help="rounds through the pictures (20)")
    recipe("--batch-size", type=int, metavar="N", help="of all processes together (8; paper: 1)")
    recipe(
        "--crop", type=int, metavar="N", help="side of the crops (320); 0: whole pictures (paper)"
    )
    recipe(
        "--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="resize by a factor of (.5 2)"
    )
    recipe("--dropout", type=float, metavar="X", help="share of features set to 0 (0.5)")
    recipe("--lr", type=float, metavar="X", help="learning rate (.001; paper: 1e-10 and less)")
    recipe(
        "--pretrained-factor", type=float, metavar="X", help="of the rate, where pretrained (.1)"
    )
    recipe("--precision", choices=("auto", "fp32", "bf16", "fp16"), help="(auto)")
    recipe("--seed", type=int, metavar="N", help="(0)")
    recipe("--evaluate-every", type=int, metavar="N", help="epochs (1)")
    recipe("--workers", type=int, metavar="N", help="processes that read (0; for a GPU 4)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _workers(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text!r}")
    return int(text)


def _doctor(options: argparse.Namespace) -> int:
    from fcnlib.course.report import environment_report

    findings = environment_report()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _data_shapes(options: argparse.Namespace) -> int:
    from fcnlib.data import shapes

    print(f"The embedded set is in {shapes(progress=True)}")
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from fcnlib.data.check import check_folder

    report = check_folder(options.dir, progress=True)
    for split, count in report.pairs.items():
        print(f"{split}: {count} pairs")
    print(report.table())
    for problem in report.problems:
        print(f"fcn: {problem}", file=sys.stderr)
    print(f"{len(report.problems) or 'No'} problem{'s' * (len(report.problems) != 1)} found.")
    return 1 if report.problems else 0


def _data_labelme(options: argparse.Namespace) -> int:
    from fcnlib.data.labelme import from_labelme

    train, val = from_labelme(options.dir, options.out, progress=True)
    print(
        f"{len(train) + len(val)} pictures ({len(train)} train, {len(val)} val), "
        f"classes {', '.join(train.classes)}: see {options.out}"
    )
    return 0


def _data_voc(options: argparse.Namespace) -> int:
    from fcnlib.data.download import MIRRORS, download_voc

    print(f"PASCAL VOC 2012 is in {download_voc(mirrors=options.mirror or MIRRORS)}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from fcnlib.settings import settings_for
    from fcnlib.training import train

    given = {name: value for name, value in vars(options).items() if name != "run"}
    out, resume = given.pop("out"), given.pop("resume", False)
    try:
        train(settings_for(out, given, resume), out, resume)
    except KeyboardInterrupt:
        print(f"fcn: stopped; --resume goes on with {out}.", file=sys.stderr)
        return 130
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from fcnlib.checkpoint import load_checkpoint
    from fcnlib.data import SegmentationFolder, to_float
    from fcnlib.evaluation import evaluate, scores, table
    from fcnlib.precision import autocast
    from fcnlib.processes import this_process

    if options.json and not (parent := Path(options.json).parent).is_dir():
        raise DataError(f"{parent} is no folder: make it, or name another file for --json.")
    checkpoint = load_checkpoint(options.checkpoint)
    classes, positions = checkpoint.classes.choose(options.classes)
    folder = SegmentationFolder(options.data, options.split, to_float(), classes.names)
    state = this_process()
    network = checkpoint.network().to(state.device)
    with autocast(state.device):
        matrix = evaluate(network, folder, positions, options.workers, progress=True)
    if state.is_main_process:
        if options.json:
            text = json.dumps(scores(matrix, classes.names), indent=1)
            Path(options.json).write_text(text + "\n", encoding="utf-8")
        print(table(matrix, classes.names))
    return 0


def _predict(options: argparse.Namespace) -> int:
    from pathlib import Path

    from tqdm import tqdm

    from fcnlib.checkpoint import load_checkpoint
    from fcnlib.precision import autocast
    from fcnlib.prediction import find_images, predict_file
    from fcnlib.processes import this_process

    checkpoint = load_checkpoint(options.checkpoint)
    classes, positions = checkpoint.classes.choose(options.classes)
    images, out = find_images(options.images), Path(options.out)
    device = this_process().device
    network = checkpoint.network().to(device)
    failed = 0
    for path in tqdm(images, "predicting", unit="picture", leave=False, disable=None):
        try:
            with autocast(device):
                predict_file(network, classes, path, out, positions, options.probabilities)
        except DataError as error:  # the others can be segmented all the same
            tqdm.write(f"fcn: {error}", file=sys.stderr)
            failed += 1
    print(f"{len(images) - failed} of {len(images)} pictures segmented: see {out}")
    return 1 if failed else 0


def _export(options: argparse.Namespace) -> int:
    from fcnlib.checkpoint import load_checkpoint
    from fcnlib.export import export_onnx

    checkpoint = load_checkpoint(options.checkpoint)
    difference = export_onnx(checkpoint.network(), options.onnx, checkpoint.classes.names)
    print(f"{options.onnx}: logits differ from PyTorch's by {difference:.1e} at most")
    return 0


def _plot(options: argparse.Namespace) -> int:
    from pathlib import Path

    from fcnlib.plots.curves import show_curves

    figure = show_curves(options.runs)
    kind = Path(options.out).suffix[1:] or "png"
    try:
        figure.savefig(options.out, dpi=150, format=kind)
    except ValueError as error:  # names the formats that there are
        raise UserError(f"{options.out} cannot be written: {error}.") from error
    print(f"The curves are in {options.out}")
    return 0
