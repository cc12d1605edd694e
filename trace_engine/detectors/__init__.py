"""The detector catalogue, one file a detector (see ``base`` and ``docs/detectors.md``)."""
