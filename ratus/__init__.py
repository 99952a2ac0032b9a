"""Ratus in Python: a RESTful asynchronous task queue that any program can use with curl."""

__version__ = "0.1.0"
