"""Making of the embedded model `pocket`: scenes, drawings, training."""
