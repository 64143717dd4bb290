"""HyperDreamBooth and its rivals on the host's own model: a person in a MODEL and CLIP, from the same loss and the same noise.

Imports no more than this line, so that the command line can show its help at once.
"""
