"""The short sound at the end of long work, made here: two soft tones as a WAV of a few kilobytes in the page itself."""

from __future__ import annotations

import functools
import io
import math
import wave

RATE_HZ = 11025
TONES = ((659.3, 0.16), (987.8, 0.34))  # e″, b″: frequency in Hz, seconds
LOUDNESS = 0.35


@functools.cache
def wav() -> bytes:
    """Mono, 8 bits; each tone begins softly and fades out, so that nothing clicks."""
    samples = bytearray()
    for hertz, seconds in TONES:
        count = int(RATE_HZ * seconds)
        for index in range(count):
            swell = min(1.0, index / (0.01 * RATE_HZ)) * (1 - index / count) ** 2
            samples.append(128 + int(127 * LOUDNESS * swell * math.sin(2 * math.pi * hertz * index / RATE_HZ)))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(RATE_HZ)
        file.writeframes(bytes(samples))
    return buffer.getvalue()


def html() -> str:
    """An element that plays it once when it is put on the page. Browsers that forbid this stay silent."""
    from reverie.faces.widgets import look

    return f'<audio autoplay src="{look.data_uri(wav(), "audio/wav")}"></audio>'
