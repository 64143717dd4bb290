"""Draw faceworld: people of known identity, in photos, styles, contexts and accessories. Needs skia-python."""
