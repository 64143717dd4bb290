"""One picture of a face -> a LiDB vector: encoder, decoder, checkpoint, losses, training. No host in here."""
