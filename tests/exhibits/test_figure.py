import base64
import hashlib
import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from papers_lib.errors import PapersError
from papers_lib.exhibits.figure import Figure


def draw(canvas, data):
    axes = canvas.subplots()
    for name, part in data.groupby("method"):
        axes.plot(part["x"], part["y"], marker="o", label=name)
    axes.set(xlabel="epoch", ylabel="Recall@1 (%)")
    axes.legend()


def figure(**changes):
    data = pd.DataFrame({"method": ["a", "a", "b", "b"], "x": [0, 1, 0, 1], "y": [1 / 3, 2, 2, 3.5]})
    values = {"name": "figure_2", "title": "Figure 2: toy", "alt": "Two rising lines."}
    values |= {"data": data, "draw": draw, "badge": "SMOKE: stand-in data, numbers mean nothing"}
    values["footer"] = "profile smoke · data toy (stand-in) · 2 runs · " + "commit 1234567 · " * 12
    return Figure(**values | changes)


def test_save_writes_four_files(tmp_path):
    paths = figure().save(tmp_path)
    assert [path.name for path in paths] == [f"figure_2.{end}" for end in ("png", "svg", "pdf", "csv")]
    assert paths[0].stat().st_size <= 120 * 1024
    assert Image.open(paths[0]).size == (704, 440)
    assert paths[2].read_bytes().startswith(b"%PDF")
    assert paths[3].read_text().splitlines()[1] == "a,0,0.333333"


SAVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_figure import figure
figure().save(Path(sys.argv[2]))
"""


def test_a_fresh_process_writes_the_same_bytes(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    figure().save(here)
    command = [sys.executable, "-c", SAVE, str(Path(__file__).parent), str(there)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    names = [path.name for path in sorted(here.iterdir())]
    assert len(names) == 4
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name


def test_the_svg_says_what_it_shows_and_has_no_date():
    text = figure().svg.decode()
    ET.fromstring(text)
    assert "Two rising lines." in text and "Recall@1 (%)" in text
    assert "date" not in text.lower().replace("update", "")


def test_the_fingerprint_is_that_of_the_rounded_data():
    one = figure()
    assert one.fingerprint == hashlib.sha256(one.csv().encode()).hexdigest()[:12]
    noisy = one.data.assign(y=one.data["y"] * (1 + 1e-12))
    assert figure(data=noisy).fingerprint == one.fingerprint
    assert figure(data=noisy).png == one.png
    other = one.data.assign(y=one.data["y"] + 0.01)
    assert figure(data=other).fingerprint != one.fingerprint


def test_minus_zero_and_missing_values_have_one_spelling():
    data = pd.DataFrame({"x": [-0.0, float("nan")], "method": ["a", "b"]})
    assert figure(data=data).csv() == "x,method\n0,a\n,b\n"


def test_the_notebook_gets_a_picture_with_alt_text_and_text():
    image = ET.fromstring(figure(alt='A "line" < two.')._repr_html_().replace(">", "/>"))
    kind, _, data = image.get("src").partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data).startswith(b"\x89PNG")
    assert image.get("alt") == 'A "line" < two.'
    for part in ("figure_2", "Figure 2: toy", "Two rising lines.", figure().fingerprint, "SMOKE"):
        assert part in repr(figure())
    assert "0x" not in repr(figure())
    with pytest.raises(PapersError, match="no alt text"):
        figure(alt="  ")


def test_the_callers_data_and_settings_stay_untouched():
    before = dict(matplotlib.rcParams)
    data = pd.DataFrame({"method": ["a"], "x": [0], "y": [1 / 3]}, index=[5])

    def spoil(canvas, frame):
        frame["y"] = 0.0
        canvas.subplots().plot([0, 1])

    shown = figure(data=data, draw=spoil)
    assert shown.png and shown.csv().splitlines()[1] == "a,0,0.333333"
    assert data["y"].iloc[0] == 1 / 3
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_the_style_does_not_depend_on_the_users_settings():
    plain = figure().png
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        assert figure().png == plain


def test_a_heavy_picture_loses_colours_and_then_is_refused():
    noise = np.random.default_rng(0).random((440, 700, 3))

    def gradient(canvas, _):
        ramp = np.linspace(0, 1, 320)[None, :, None] * np.linspace(0.2, 1, 150)[:, None, None]
        canvas.subplots().imshow(np.clip(ramp * [1, 0.7, 0.4] + 0.01 * noise[:150, :320], 0, 1))

    def snow(canvas, _):
        canvas.figimage(noise)

    assert len(figure(draw=gradient).png) <= 120 * 1024
    assert Image.open(io.BytesIO(figure(draw=gradient).png)).mode == "P"
    with pytest.raises(PapersError, match=r"KB, over 120"):
        _ = figure(draw=snow).png


def test_a_figure_without_data_says_that_nothing_was_run():
    def never(canvas, data):
        raise AssertionError("drawn")

    empty = figure(data=pd.DataFrame(columns=["x"]), draw=never)
    assert Image.open(io.BytesIO(empty.png)).size == (704, 132)
    assert ">not run<" in empty.svg.decode()
