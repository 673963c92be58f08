"""Derives the polynomial coefficients of src/passes/expand_math by the Remez exchange, in 60 digits.

Run `python3 docs/numerics_coefficients.py`; needs mpmath. Each line gives a name, the largest weighted error before rounding
of the coefficients, and the coefficients from the lowest power up.
"""
from mpmath import mp, mpf, matrix, lu_solve, floor, cos, pi, exp, log, expm1, log1p, erf, erfc, sin, atan, sqrt, tanh
import struct
mp.dps = 60

def remez(f, powers, low, high, weight, rounds=12, grid=1200):
    """Minimax fit of f on [low, high] by the given powers of x, error multiplied by weight(x)."""
    n = len(powers)
    low, high = mpf(low), mpf(high)
    at = lambda t: (low + high) / 2 + (high - low) / 2 * t
    points = [at(-cos(pi * i / n)) for i in range(n + 1)]
    xs = [at(-cos(pi * i / grid)) for i in range(grid + 1)]
    fs, ws = [f(x) for x in xs], [weight(x) for x in xs]
    for _ in range(rounds):
        a, b = matrix(n + 1, n + 1), matrix(n + 1, 1)
        for i, x in enumerate(points):
            for j, p in enumerate(powers):
                a[i, j] = x ** p
            a[i, n] = (-1) ** i / weight(x)
            b[i] = f(x)
        solution = lu_solve(a, b)
        c = [solution[i] for i in range(n)]
        errors = [w * (sum(ci * x ** p for ci, p in zip(c, powers)) - y) for x, y, w in zip(xs, fs, ws)]
        runs, start = [], 0
        for i in range(1, len(xs) + 1):
            if i == len(xs) or (errors[i] > 0) != (errors[start] > 0):
                runs.append(max(range(start, i), key=lambda k: abs(errors[k])))
                start = i
        while len(runs) > n + 1:
            runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
        if len(runs) < n + 1:
            break
        points = [xs[i] for i in runs]
    return c, max(abs(e) for e in errors)

def f32(x):
    return struct.unpack('f', struct.pack('f', float(x)))[0]

def show(name, c, error, single):
    print(f"{name}: error {float(error):.2e}")
    for x in c:
        v = f32(x) if single else float(x)
        print("   ", f"{v:.9e}" if single else repr(v))

ln2 = log(mpf(2))
def safe(f, limit):
    return lambda x: limit if abs(x) < mpf(10) ** -25 else f(x)

def odd_tail(f, at_zero):
    """(f(x) - x) / x^3 as a function of x^2."""
    return safe(lambda z: (f(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3, at_zero)

def odd_weight(f):
    """The weight that makes the error of x + x^3 p(x^2) relative to f(x)."""
    return safe(lambda z: z * sqrt(z) / f(sqrt(z)), mpf(10) ** -30)

def exponential():
    h = ln2 / 2 * mpf("1.0001")
    tail = safe(lambda r: (expm1(r) - r) / r ** 2, mpf(1) / 2)
    for n, single in [(5, True), (10, False)]:
        show(f"exp tail, {n}", *remez(tail, range(n), -h, h, lambda r: r ** 2 / exp(r) + mpf(10) ** -40), single)
    for n, single in [(5, True), (11, False)]:
        fit = remez(odd_tail(tanh, mpf(-1) / 3), range(n), 0, mpf("0.5625") ** 2, odd_weight(tanh), grid=800)
        show(f"tanh tail, {n}", *fit, single)

def logarithm():
    low, high = sqrt(mpf(1) / 2) - mpf("1.00001"), sqrt(mpf(2)) - mpf("0.9999")
    tail = safe(lambda f: (log1p(f) - f) / f ** 2, mpf(-1) / 2)
    show("log tail, 9", *remez(tail, range(9), low, high, safe(lambda f: abs(f ** 2 / log1p(f)), mpf(10) ** -25)), True)
    s2 = ((sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)) ** 2 * mpf("1.0001")
    def q(z):
        s = sqrt(z)
        return (log((1 + s) / (1 - s)) - 2 * s) / s ** 3
    show("log q, 8", *remez(safe(q, mpf(2) / 3), range(8), 0, s2, lambda z: z / 2 + mpf(10) ** -30), False)
    beyond = lambda z: mpf(2) / 5 if z < mpf(10) ** -12 else (q(z) - mpf(2) / 3) / z
    show("log q beyond 2/3, 8", *remez(beyond, range(8), 0, s2, lambda z: z * z / 2 + mpf(10) ** -30), False)

def error_function():
    limit = 2 / sqrt(pi) - 1
    ratio = lambda z: limit if z < mpf(10) ** -30 else erf(sqrt(z)) / sqrt(z) - 1
    # f32: four pieces of [0, 3.92], the first as x + x p(x), the others as p(x - middle), each of degree 8.
    first, end = mpf("0.75"), mpf("3.92")
    width = (end - first) / 3 * mpf("1.0005")
    print("erf pieces: 1 / width", repr(f32(1 / width)), "less", repr(f32(first / width - mpf(1) / 2)))
    beyond = lambda u: limit if abs(u) < mpf(10) ** -25 else erf(u) / u - 1
    show("erf piece 0", *remez(beyond, range(8), 0, first, lambda u: 1 / (beyond(u) + 1)), True)
    for i in range(3):
        low, high = first + i * width, first + (i + 1) * width
        middle = floor((low + high) * 32 + mpf(1) / 2) / 64
        piece = lambda u: erf(middle + u)
        show(f"erf piece {i + 1} around {float(middle)}", *remez(piece, range(9), low - middle, high - middle, lambda u: 1 / piece(u)), True)
    fit = remez(ratio, range(13), 0, 1, lambda z: 1 / (1 + limit * mpf("0.9")), grid=800)
    show("erf small, 13", *fit, False)
    g = lambda t: -log(erfc(t))
    middle = mpf(7) / 2
    fit = remez(lambda u: g(u + middle) - (u + middle) ** 2, range(19), mpf("-2.5"), mpf("2.5"), lambda u: erfc(u + middle), grid=800)
    show("erf large, 19", *fit, False)

def trigonometric():
    for n, single in [(9, True), (22, False)]:
        show(f"atan tail, {n}", *remez(odd_tail(atan, mpf(-1) / 3), range(n), 0, mpf("1.0001"), odd_weight(atan)), single)
    end = (pi / 4) ** 2 * mpf("1.001")
    show("sin, 7", *remez(odd_tail(sin, mpf(-1) / 6), range(7), 0, end, lambda z: z + mpf(10) ** -30), False)
    q = safe(lambda z: (cos(sqrt(z)) - 1 + z / 2) / z ** 2, mpf(1) / 24)
    show("cos, 7", *remez(q, range(7), 0, end, lambda z: z * z + mpf(10) ** -30), False)

def pieces():
    mp.dps = 120
    x = 2 / pi
    for k in range(7):
        s = mpf(2) ** (29 * (k + 1))
        piece = floor(x * s) / s
        print("2/pi piece", repr(float(piece)))
        x -= piece
    x = pi / 2
    for k in range(3):
        print("pi/2 part", repr(float(x)))
        x -= mpf(float(x))
    l = log(mpf(2))
    for bits, single in [(17, True), (42, False)]:
        high = floor(l * mpf(2) ** bits) / mpf(2) ** bits
        rest = float(l - high)
        print("ln 2, short and rest:", repr(float(high)), repr(f32(rest) if single else rest))
    print("ln 2, rounded and rest:", repr(f32(l)), repr(f32(l - mpf(f32(l)))), repr(float(l)), repr(float(l - mpf(float(l)))))

if __name__ == "__main__":
    exponential()
    logarithm()
    error_function()
    trigonometric()
    pieces()
