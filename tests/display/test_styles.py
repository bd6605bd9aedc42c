import pytest

from funpipe.display.styles import IDLE, IDLE_MARK, INK, STYLES, TOGETHER_MARK


def luminance(colour):
    """Relative luminance, Web Content Accessibility Guidelines 2.1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("kind", STYLES)
def test_labels_can_be_read_on_fills_and_on_lines(kind):
    assert contrast(INK, STYLES[kind].fill) >= 10
    assert contrast(INK, STYLES[kind].line) >= 4.5


def test_kinds_differ_in_more_than_colour():
    assert len({style.pattern for style in STYLES.values()}) == len(STYLES)
    marks = [style.mark for style in STYLES.values()]
    assert len({*marks, IDLE_MARK, TOGETHER_MARK}) == len(STYLES) + 2


def test_idle_is_no_fill_of_a_kind():
    assert all(contrast(IDLE, style.fill) > 1.03 for style in STYLES.values())
