"""Keys that are none: the points of Ed25519 under which anybody can sign."""

from __future__ import annotations


def points_of_small_order() -> list[bytes]:
    # Twisted Edwards curve -x^2 + y^2 = 1 + d x^2 y^2 of RFC 8032, 5.1; no outside list, so none to copy wrong.
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        t = d * one[0] * other[0] * one[1] * other[1] % p
        x = (one[0] * other[1] + one[1] * other[0]) * pow(1 + t, -1, p) % p
        return x, (one[1] * other[1] + one[0] * other[0]) * pow(1 - t, -1, p) % p

    # The order of a point of the curve divides 8 q: q times any point is one of these.
    found = {(0, 1)}
    y = 1
    while len(found) < 8:
        y += 1
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if (x * x - square) % p == 0 else x * pow(2, (p - 1) // 4, p) % p
        if (x * x - square) % p:
            continue
        order, at, result = 2**252 + 27742317777372353535851937790883648493, (x, y), (0, 1)
        while order:
            result = add(result, at) if order & 1 else result
            at, order = add(at, at), order >> 1
        for _ in range(8):
            found |= {result}
            result = add(result, result)
    numbers = {(y + k * p) | sign << 255 for _, y in found for sign in (0, 1) for k in (0, 1) if y + k * p < 2**255}
    return [number.to_bytes(32, "little") for number in sorted(numbers)]
