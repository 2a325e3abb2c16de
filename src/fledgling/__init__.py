"""Fledgling: can a small local model take a track over from a hosted one, and with what evidence?"""

__version__ = "0.1.0"
