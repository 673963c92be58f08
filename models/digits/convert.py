#!/usr/bin/env python3
"""Makes the four IDX files beside it from scikit-learn's copy of the digits data set.

    pip download --no-deps scikit-learn==1.9.1
    python3 convert.py scikit_learn-1.9.1-*.whl

The wheel is read as a zip file: nothing is installed and only the standard library is used.
The original table repeats its writers and its classes in a fixed pattern, so the rows are mixed first, by the
SHA-256 of their decimal row number; the first 1437 are then the training rows and the last 360 the test rows.
"""
import gzip
import hashlib
import pathlib
import struct
import sys
import zipfile

TABLE = "sklearn/datasets/data/digits.csv.gz"
LICENCE = "licenses/COPYING"


def idx(shape, values):
    """The bytes of an IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + bytes(values)


def write(path, content):
    # No name and no time in the gzip header: the same input gives the same file.
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(content)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    here = pathlib.Path(__file__).parent
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        text = gzip.decompress(wheel.read(TABLE)).decode()
        licence = next(name for name in wheel.namelist() if name.endswith(LICENCE))
        # What follows the first "Name:" is about libraries that only the wheel bundles.
        copying = wheel.read(licence).decode().split("\nName:")[0]
    rows = [[int(float(field)) for field in line.split(",")] for line in text.split()]
    assert len(rows) == 1797 and all(len(row) == 65 for row in rows)
    assert all(0 <= pixel <= 16 for row in rows for pixel in row[:64])
    order = sorted(range(len(rows)), key=lambda r: hashlib.sha256(str(r).encode()).digest())
    splits = {
        "train": [rows[r] for r in order[:1437]],
        "test": [rows[r] for r in order[1437:]],
    }
    for name, part in splits.items():
        pixels = [pixel for row in part for pixel in row[:64]]
        write(here / f"{name}-images.idx3.gz", idx([len(part), 8, 8], pixels))
        write(here / f"{name}-labels.idx1.gz", idx([len(part)], [row[64] for row in part]))
        print(f"{name}: {len(part)} rows")
    (here / "COPYING").write_text(copying)


main()
