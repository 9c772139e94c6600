"""What haematoxylin and eosin absorb: one table for all that changes the stain of a picture.

Only the table belongs here. What is done with it stands in `augment`, for training, and in
`bcnet.evaluate.perturbations`, for trials; `bcnet.stains` estimates each picture's own instead.
"""

import numpy as np

# Rows: haematoxylin, eosin and the residual, as unit vectors of optical density in R, G, B.
# Ruifrok & Johnston 2001, "Quantification of histochemical staining by color deconvolution".
STAIN_VECTORS = np.array(
    [[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], dtype=np.float32
)
