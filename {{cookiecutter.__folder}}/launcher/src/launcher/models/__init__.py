"""The registry of models: what a run has become that others may use.

    models/<name>/v<N>/             one version: weights, ONNX, signature, card; whole or absent, and never changed
    models/<name>/aliases/<alias>/  one file for each time that the alias was moved; the highest number counts

In the bucket, or in the folder `models` here. Nothing in it is ever replaced: a number, a version and a move of an alias are
each taken by a file that can be made only once, which every kind of bucket and a folder can promise.
"""
