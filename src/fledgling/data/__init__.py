"""From rows in any of the formats that are read to the three splits of a track."""
