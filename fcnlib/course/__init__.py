"""What every notebook of the course calls: ``setup`` first, ``check`` per exercise."""

from fcnlib.course.checks import check
from fcnlib.course.setup import setup

__all__ = ["check", "setup"]
