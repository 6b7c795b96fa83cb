"""fcnlib: the library that the course on fully convolutional networks grows."""

__version__ = "0.1.0"
