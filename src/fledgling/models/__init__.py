"""Checkpoints: brought here, described by a manifest, told apart by a fingerprint."""
