"""The command ``fcn`` (also ``python -m fcnlib``).

Each command imports what it needs when it runs: ``--help`` is quick, and ``fcn doctor``
can say what is wrong with an environment in which torch does not import.
"""

import argparse
import sys
from collections.abc import Sequence

from fcnlib.errors import DataError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 failed, 2 wrong use."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(f"fcn: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fcn: {error.filename or 'a file'}: {error.strerror}.", file=sys.stderr)
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
    voc = kinds.add_parser("voc", help="say where PASCAL VOC 2012 is found")
    voc.set_defaults(run=_data_voc)
    return parser


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


def _data_voc(options: argparse.Namespace) -> int:
    from fcnlib.data import data_dir, find_voc

    root = find_voc()
    if root is None:
        raise DataError(
            "PASCAL VOC 2012 is not found: unpack its archive so that there is "
            f"{data_dir() / 'VOCdevkit' / 'VOC2012'}, or set FCN_VOC to the folder that "
            "holds JPEGImages."
        )
    print(f"PASCAL VOC 2012 is in {root}")
    return 0
