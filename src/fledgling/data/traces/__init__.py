"""Logs of production as rows: each logged call recognised by itself, read into one record, taken if it is wanted.

One module a format; `formats.LOGS` is the register of them.
"""
