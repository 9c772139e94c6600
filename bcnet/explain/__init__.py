"""Why a model answered as it did: a Keras model and pictures in, maps out.

`heatmaps` shows where the evidence lies. Nothing here reads files, draws figures or knows what
a data set is.
"""
