"""The picture of a build: every part has its line, in order and to scale."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.picture import LEFT, picture

FIGURES = {
    "rows": 2,
    "tokens": 1234,
    "ratio": 1.25,
    "process_start_seconds": 0.5,
    "imports_seconds": 2.0,
    "median_parts_seconds": {"base model": 1.0, "recording": 6.0, "dashboard <&": 0.5},
    "median_seconds_baseline": 5.0,
    "machine": {"cores": 2},
}
SVG = "{http://www.w3.org/2000/svg}"


def test_bars_follow_one_another_on_one_scale() -> None:
    root = ElementTree.fromstring(picture(FIGURES))
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("class") != "ground"]
    starts, widths = ([float(bar.get(name, "")) for bar in bars] for name in ("x", "width"))
    seconds = [0.5, 2.0, 1.0, 6.0, 0.5, 5.0]
    assert [round(width / widths[1], 2) for width in widths] == [each / 2 for each in seconds]
    assert all(abs(starts[place] + widths[place] - starts[place + 1]) <= 0.2 for place in range(4))
    assert starts[5] == LEFT
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "dashboard <&" in texts
    assert "500 ms" in texts
    assert any(text is not None and "1.25 times" in text for text in texts)
