"""Fledgling: can a small local model take a track over from a hosted one, and with what evidence?"""
