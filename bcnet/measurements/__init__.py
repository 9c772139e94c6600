"""Models of the measurements of cell nuclei: made, chosen, judged, explained, kept in a file.

Nothing here imports TensorFlow. Reading and checking tables belongs to `bcnet.data.measurements`,
what any model's answers are judged by to `bcnet.evaluate`.
"""
