"""What the answers of a track are worth: one module a kind, what they share, and answers that need no model.

Nothing is imported here: who asks needs what a tool declares, and must not be asked again where scoring changes.
"""
