"""The comparison of HyperDreamBooth with its rivals on faceworld: who is compared, how it is scored, and the report."""
