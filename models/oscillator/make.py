#!/usr/bin/env python3
"""Makes the grids beside it: points on [0, 2 pi] to train on and, between them, to test on.

    python3 models/oscillator/make.py
"""
import math
import pathlib

for name, points in (("train", 64), ("test", 101)):
    rows = [f"{2 * math.pi * i / (points - 1):.9g}" for i in range(points)]
    (pathlib.Path(__file__).parent / f"{name}.csv").write_text("\n".join(["t"] + rows) + "\n")
