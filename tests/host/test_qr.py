"""QR codes, read back by a small reader of our own: what a telephone would find in the picture is the address."""

import re

import pytest

from reverie.host import qr

ADDRESSES = ["https://quick-brown-fox.trycloudflare.com/", "http://localhost:8190/"]
DATA_WORDS = {(2, 1): 34, (2, 0): 28, (2, 3): 22, (3, 1): 55, (3, 0): 44, (1, 0): 16, (1, 1): 19}  # (version, level as written): one block each
MASKS = [
    lambda r, c: (r + c) % 2 == 0, lambda r, c: r % 2 == 0, lambda r, c: c % 3 == 0, lambda r, c: (r + c) % 3 == 0,
    lambda r, c: (r // 2 + c // 3) % 2 == 0, lambda r, c: r * c % 2 + r * c % 3 == 0, lambda r, c: (r * c % 2 + r * c % 3) % 2 == 0,
    lambda r, c: ((r + c) % 2 + r * c % 3) % 2 == 0,
]


def read(dark):
    """The text in a code without damage, of versions 1 to 3 in byte mode (ISO/IEC 18004); `dark` is a list of rows of bool."""
    size = len(dark)
    version = (size - 17) // 4
    form = int("".join(str(int(dark[8][c])) for c in (0, 1, 2, 3, 4)), 2) ^ 0b10101
    level, mask = form >> 3, MASKS[form & 7]

    def reserved(r, c):
        finder = (r < 9 and c < 9) or (r < 9 and c >= size - 8) or (r >= size - 8 and c < 9)
        aligned = version > 1 and abs(r - size + 7) <= 2 and abs(c - size + 7) <= 2
        return finder or aligned or r == 6 or c == 6

    bits, upwards = [], True
    for right in [c for c in range(size - 1, 0, -2) if c > 6] + [5, 3, 1]:
        for r in range(size - 1, -1, -1) if upwards else range(size):
            bits += [dark[r][c] ^ mask(r, c) for c in (right, right - 1) if not reserved(r, c)]
        upwards = not upwards
    data = bits[: DATA_WORDS[version, level] * 8]
    number = lambda at, length: int("".join(str(int(bit)) for bit in data[at : at + length]), 2)
    assert number(0, 4) == 0b0100, "byte mode"
    return bytes(number(12 + 8 * n, 8) for n in range(number(4, 8))).decode()


def from_terminal(text):
    light = []
    for line in text.splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        light += [[letter in "█▀" for letter in line], [letter in "█▄" for letter in line]]
    light = light[: len(light[0])]
    return [[not cell for cell in row] for row in light]


def from_svg(text):
    size = int(re.search(r'viewBox="0 0 (\d+) \1"', text)[1])
    assert re.search(r'<path fill="#fff" d="M0 0h(\d+)v\1h-\1z"/>', text)[1] == str(size), "a ground of its own"
    dark = [[False] * size for _ in range(size)]
    x, y = 0, 0.0
    for kind, values in re.findall(r"([Mmh])([-\d. ]+)", re.search(r'<path stroke="#000" d="([^"]+)"', text)[1]):
        numbers = [float(value) for value in re.findall(r"-?[\d.]+", values)]
        if kind == "h":
            for column in range(int(x), int(x + numbers[0])):
                dark[int(y)][column] = True
            x += numbers[0]
        else:
            x, y = (numbers[0], numbers[1]) if kind == "M" else (x + numbers[0], y + numbers[1])
    return dark


def inside(dark):
    """Without the quiet zone, which must be there and empty."""
    edge = qr.QUIET
    assert not any(cell for row in (*dark[:edge], *dark[-edge:]) for cell in row) and not any(any(row[:edge]) or any(row[-edge:]) for row in dark)
    return [row[edge:-edge] for row in dark[edge:-edge]]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_telephone_finds_the_address_in_the_notebook_and_in_the_terminal(address):
    assert read(inside(from_svg(qr.svg(address)))) == address
    assert read(inside(from_terminal(qr.terminal(address)))) == address
    assert read(inside(from_terminal(qr.plain(address)))) == address


def test_another_address_is_another_code():
    assert read(inside(from_svg(qr.svg(ADDRESSES[0])))) != ADDRESSES[1]


def test_the_picture_is_one_element_of_a_fixed_size_that_fetches_nothing():
    text = qr.svg(ADDRESSES[0], 200)
    assert text.startswith("<svg ") and text.endswith("</svg>") and 'width="200"' in text and "<script" not in text and "href" not in text
    assert "<script" not in qr.svg('https://x/"><script>alert(1)</script>')
