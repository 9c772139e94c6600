"""Judgement: arrays in, numbers out.

Belongs here: what turns labels and probabilities into numbers one may quote. Does not: models,
files, tables or figures – the workflows bring the arrays, `bcnet.plots` draws them.
"""
