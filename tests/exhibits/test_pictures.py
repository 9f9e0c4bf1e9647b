import numpy as np

from papers_lib.exhibits.pictures import Picture, pictures

RED, GREY = np.full((8, 8, 3), (255, 0, 0), np.uint8), np.full((6, 12, 3), 128, np.uint8)


def figure(image=RED):
    rows = {"Method 1": [Picture(image, "001.jpg", "R"), Picture(GREY, "002.jpg", "P", "#0072B2")]}
    return pictures("strip", "A strip", "Two images.", rows | {"random": [Picture(GREY, "003.jpg")]})


def test_the_data_are_names_and_captions_in_their_places():
    assert figure().data.fillna("").values.tolist() == [
        [0, "Method 1", 0, "001.jpg", "R", ""],
        [0, "Method 1", 1, "002.jpg", "P", "#0072B2"],
        [1, "random", 0, "003.jpg", "", ""],
    ]


def test_every_image_is_drawn_in_its_row_and_framed():
    with figure().drawn() as canvas:
        shown = [axes for axes in canvas.axes if axes.images]
        shapes = [np.asarray(axes.images[0].get_array()).shape for axes in shown]
        assert shapes == [(8, 8, 3), (6, 12, 3), (6, 12, 3)]
        assert [axes.get_xlabel() for axes in shown] == ["R", "P", ""]
        assert [axes.spines["left"].get_visible() for axes in shown] == [False, True, False]


def test_a_rounding_in_a_rendered_image_is_no_other_figure():
    assert figure(RED - np.uint8(1)).fingerprint == figure().fingerprint
