"""The teacher: a hosted model that answers rows for money."""
