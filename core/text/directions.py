"""Characters that turn the direction of writing, which could turn around what stands beside them."""

_DIRECTIONS = {code: f"[U+{code:04X}]" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def visible(text: str) -> str:
    """The text with its direction controls as `[U+202E]`, for whatever people read: pages, terminals, the log."""
    return text.translate(_DIRECTIONS)
