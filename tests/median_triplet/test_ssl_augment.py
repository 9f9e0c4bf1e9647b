"""Views against torchvision's own operations, image by image, and the draws against their probabilities."""

import math

import pytest
import torch
from tiny_median import generator
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from papers_lib.errors import PapersError
from papers_lib.median_triplet import augment
from papers_lib.median_triplet.augment import NEUTRAL, RECIPES, Draw, Recipe

STILL = Recipe(flip=0, jitter=0, gray=0, blur=0, solarize=0, scale=(1, 1))
MODES = {False: InterpolationMode.BILINEAR, True: InterpolationMode.BICUBIC}


def photos(count, height, width=None, seed=0):
    """Smooth colour fields with noise: what bilinear and antialias act on, and values at both ends."""
    g = generator(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=g) * 1.4 - 0.2
    smooth = torch.nn.functional.interpolate(coarse, (height, width or height), mode="bicubic")
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=g)).clamp(0, 1)
    return (noisy * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def planes(images):
    """[3, H, W] each, from 0 to 1."""
    return [image.permute(2, 0, 1) / 255 for image in images]


def still(images, **changed):
    """What a batch draws that stays as it is, but for what is given."""
    n, h, w, _ = images.shape
    drawn = Draw(
        torch.tensor([0, 0, h, w]).repeat(n, 1),
        torch.zeros(n, dtype=torch.bool),
        torch.arange(4).repeat(n, 1),
        torch.tensor(NEUTRAL).repeat(n, 1),
        torch.zeros(n, dtype=torch.bool),
        torch.zeros(n),
        torch.zeros(n, dtype=torch.bool),
    )
    return drawn._replace(**changed)


def denormalised(views):
    sd, mean = (torch.tensor(v)[:, None, None] for v in (augment.SD, augment.MEAN))
    return views * sd + mean


def close(views, expected, atol=1e-5):
    torch.testing.assert_close(denormalised(views), torch.stack(expected), atol=atol, rtol=0)


def slow(image, drawn, i, recipe, size):
    """One image [H, W, 3] by torchvision's functions alone."""
    x = image.permute(2, 0, 1) / 255
    x = tv.resized_crop(x, *drawn.box[i].tolist(), [size, size], MODES[recipe.bicubic], antialias=True)
    x = x.clamp(0, 1)
    if drawn.flipped[i]:
        x = tv.horizontal_flip(x)
    for op in drawn.order[i].tolist():
        factor = float(drawn.factors[i, op])
        colour = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[op]
        x = colour(x, factor)
    if drawn.gray[i]:
        x = tv.rgb_to_grayscale(x, num_output_channels=3)
    if drawn.sigma[i] > 0:
        reach = min(math.ceil(3 * recipe.sigma[1]), size - 1)
        x = tv.gaussian_blur(x, [2 * reach + 1] * 2, [float(drawn.sigma[i])] * 2)
    if drawn.solarized[i]:
        x = tv.solarize(x, 128 / 255)
    return x


@pytest.mark.parametrize("name", RECIPES)
def test_whole_recipes_equal_torchvision_image_by_image(name):
    images = photos(8, 14, 18)
    for recipe in RECIPES[name]:
        views = augment.view(images, recipe, generator(1), 12)
        drawn = augment.draw(recipe, 8, 14, 18, generator(1))
        # torchvision weighs grey by 0.2989, ours by 0.299; solarised values may fall on either side of 128
        expected = torch.stack([slow(images[i], drawn, i, recipe, 12) for i in range(8)])
        differences = (denormalised(views) - expected).abs()
        assert (differences < 2e-3).float().mean() > 0.999
        assert differences.mean() < 1e-3


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(("side", "size"), [(16, 16), (20, 9), (9, 24), (31, 32)])
def test_crops_equal_resized_crop_in_both_directions(side, size, bicubic):
    images = photos(12, side, side + 3)
    recipe = STILL._replace(scale=(0.05, 1), bicubic=bicubic)
    box = augment.draw(recipe, 12, side, side + 3, generator()).box
    found = augment.apply(images, still(images, box=box), recipe, size)
    cut = [
        tv.resized_crop(x, *corner, [size, size], MODES[bicubic], antialias=True)
        for x, corner in zip(planes(images), box.tolist(), strict=True)
    ]
    close(found, [x.clamp(0, 1) for x in cut])


def test_crops_are_as_near_to_pillows_as_its_rounding():
    images = photos(10, 40)
    recipe = Recipe(bicubic=True)
    box = augment.draw(recipe, 10, 40, 40, generator()).box
    found = augment.apply(images, still(images, box=box), recipe, 32)
    for image, view, corner in zip(images, denormalised(found), box.tolist(), strict=True):
        pillow = tv.to_pil_image(image.permute(2, 0, 1))
        want = tv.pil_to_tensor(tv.resized_crop(pillow, *corner, [32, 32], MODES[True]))
        levels = (view * 255 - want).abs()
        # Pillow rounds and clips after the rows and again after the columns.
        assert levels.quantile(0.98) < 1.1 and levels.max() < 5


def test_each_operation_runs_on_the_images_that_drew_it_and_on_no_other():
    images, half = photos(6, 10), torch.tensor([True, False] * 3)
    cases = [
        ({"flipped": half}, tv.horizontal_flip, 1e-5),
        ({"gray": half}, lambda x: tv.rgb_to_grayscale(x, num_output_channels=3), 2e-4),
        ({"solarized": half}, lambda x: tv.solarize(x, 128 / 255), 1e-5),
        ({"sigma": half * 1.3}, lambda x: tv.gaussian_blur(x, [13, 13], [1.3, 1.3]), 1e-5),
    ]
    for changed, operation, atol in cases:
        found = augment.apply(images, still(images, **changed), STILL, 10)
        close(found, [operation(x) if h else x for x, h in zip(planes(images), half, strict=True)], atol)


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.6])
def test_colour_jitter_is_clamped_after_every_step_in_the_drawn_order(factor):
    images = photos(24, 6)
    order = torch.stack([torch.randperm(4, generator=generator(i)) for i in range(24)])
    factors = torch.tensor([factor, 1.8, factor, 0.0]).repeat(24, 1)
    found = augment.apply(images, still(images, order=order, factors=factors), STILL, 6)
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    expected = []
    for plane, sequence in zip(planes(images), order.tolist(), strict=True):
        x = plane
        for op in sequence:
            x = x if op == augment.HUE else steps[op](x, float(factors[0, op]))
        expected.append(x)
    close(found, expected, 2e-3)  # torchvision's luma is 0.2989, 0.587, 0.114


@pytest.mark.parametrize("turn", [0.1, -0.1, 0.5, 0.03])
def test_hue_is_torchvisions(turn):
    images = photos(24, 24, seed=3)
    images[0, :4, :4] = 77  # grey, and colours with two equal channels
    images[0, 4:8, :4] = torch.tensor([200, 200, 10], dtype=torch.uint8)
    images[0, 8:12, :4] = torch.tensor([10, 200, 200], dtype=torch.uint8)
    factors = torch.tensor([1.0, 1, 1, turn]).repeat(24, 1)
    found = augment.apply(images, still(images, factors=factors), STILL, 24)
    close(found, [tv.adjust_hue(x, turn) for x in planes(images)], 1e-4)


def test_a_square_crop_has_its_share_of_the_shorter_side_and_lies_anywhere():
    recipe = RECIPES["relative_location"][0]
    drawn = augment.draw(recipe, 4000, 292, 300, generator())
    assert (drawn.box[:, 2:] == 255).all()
    top, left = drawn.box[:, 0], drawn.box[:, 1]
    assert set(top.tolist()) == set(range(38)) and set(left.tolist()) == set(range(46))
    assert not drawn.flipped.any() and (drawn.factors == torch.tensor(NEUTRAL)).all()
    assert float(drawn.gray.float().mean()) == pytest.approx(0.66, abs=0.03)
    small = augment.draw(recipe, 3, 8, 9, generator()).box
    assert (small[:, 2:] == 7).all()


def test_probabilities_and_magnitudes_are_the_recipes():
    n = 20_000
    recipe = Recipe(flip=0.3, jitter=0.6, gray=0.15, blur=0.4, solarize=0.25, magnitudes=(0.4, 1.5, 0.2, 0.1))
    drawn = augment.draw(recipe, n, 32, 32, generator())
    changed = (drawn.factors != torch.tensor(NEUTRAL)).any(1)
    shares = [drawn.flipped, changed, drawn.gray, drawn.sigma > 0, drawn.solarized]
    for share, p in zip(shares, (0.3, 0.6, 0.15, 0.4, 0.25), strict=True):
        assert share.float().mean() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    pairs = torch.stack(shares).float().corrcoef() - torch.eye(5)
    assert pairs.abs().max() < 5 / math.sqrt(n)  # drawn independently of each other
    factors = drawn.factors[changed]
    low, high = factors.amin(0), factors.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.6, 0, 0.8, -0.1]), atol=2e-3, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.4, 2.5, 1.2, 0.1]), atol=2e-3, rtol=0)
    assert factors.mean(0).tolist() == pytest.approx([1, 1.25, 1, 0], abs=0.03)
    sigma = drawn.sigma[drawn.sigma > 0]
    assert sigma.mean() == pytest.approx(1.05, abs=0.03)
    assert 0.1 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2
    orders = drawn.order.unique(dim=0, return_counts=True)[1]
    assert len(orders) == 24 and orders.min() > n / 24 * 0.8


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24)])
def test_crops_are_distributed_as_torchvisions(height, width):
    n, scale = 6000, (0.08, 1.0)
    ours = augment.draw(Recipe(scale=scale), n, height, width, generator()).box.float()
    torch.manual_seed(0)
    transform, blank = v2.RandomResizedCrop(8, scale=scale), torch.empty(3, height, width)
    rows = [transform.make_params([blank]) for _ in range(n)]
    theirs = torch.tensor([[r[k] for k in ("top", "left", "height", "width")] for r in rows]).float()
    for mine, other in zip(ours.T, theirs.T, strict=True):
        for q in (0.1, 0.5, 0.9):
            assert float(mine.quantile(q)) == pytest.approx(float(other.quantile(q)), abs=1)
        assert float(mine.mean()) == pytest.approx(float(other.mean()), abs=0.35)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()


@pytest.mark.parametrize(("height", "width", "box"), [(6, 60, [0, 26, 6, 8]), (60, 6, [26, 0, 8, 6])])
def test_where_no_box_fits_the_largest_of_an_allowed_shape_is_taken_from_the_centre(height, width, box):
    drawn = augment.draw(Recipe(scale=(1, 1)), 5, height, width, generator())
    assert drawn.box.tolist() == [box] * 5


def test_a_seed_gives_the_same_views_whatever_the_parts_and_the_other_images(monkeypatch):
    images = photos(9, 12)
    recipe = RECIPES["byol"][1]._replace(blur=0.5)
    whole = augment.view(images, recipe, generator(3))
    assert torch.equal(whole, augment.view(images, recipe, generator(3)))
    assert not torch.equal(whole, augment.view(images, recipe, generator(4)))
    drawn = augment.draw(recipe, 9, 12, 12, generator(3))
    one = augment.apply(images[4:5], Draw(*(field[4:5] for field in drawn)), recipe, 12)
    torch.testing.assert_close(one[0], whole[4], atol=1e-6, rtol=0)
    monkeypatch.setattr(augment, "CACHE", 2 * 3 * 144)
    torch.testing.assert_close(augment.view(images, recipe, generator(3)), whole, atol=1e-6, rtol=0)


def test_recipes_that_differ_in_strength_alone_share_their_crops():
    boxes = [augment.draw(RECIPES[n][0], 7, 32, 32, generator()).box for n in ("byol", "cifar", "weak")]
    assert torch.equal(boxes[0], boxes[1]) and torch.equal(boxes[0], boxes[2])


def test_views_are_normalised_floats_channels_last_in_any_autocast_and_leave_the_images_alone():
    images, recipe = photos(4, 12), RECIPES["byol"][0]
    before = images.clone()
    for views in (augment.view(images, recipe, generator(), 10), augment.plain(images, 10)):
        assert views.shape == (4, 3, 10, 10) and views.dtype == torch.float32
        assert views.is_contiguous(memory_format=torch.channels_last)
        inside = denormalised(views)
        assert inside.min() >= -1e-5 and inside.max() <= 1 + 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        inside = augment.view(images, recipe, generator())
    assert torch.equal(inside, augment.view(images, recipe, generator()))
    assert torch.equal(images, before)
    assert augment.view(photos(2, 12, 9), RECIPES["weak"][0], generator()).shape == (2, 3, 9, 9)
    assert augment.view(images[:0], recipe, generator()).shape == (0, 3, 12, 12)


def test_plain_is_resize_and_centre_crop():
    images = photos(3, 96, 48)
    resize = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(28)])
    close(augment.plain(images, 28), [resize(x) for x in planes(images)])
    same = photos(3, 14)
    close(augment.plain(same), planes(same))


def test_resized_and_drawn_sizes():
    batch = torch.rand(2, 3, 14, 14, generator=generator()).contiguous(memory_format=torch.channels_last)
    small = augment.resized(batch, 9)
    want = tv.resize(batch, [9, 9], InterpolationMode.BILINEAR, antialias=False)
    torch.testing.assert_close(small, want)
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert augment.resized(batch, 14) is batch
    g = generator()
    assert {augment.draw_size(g, 6, 9) for _ in range(200)} == {6, 7, 8, 9}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.view(torch.rand(2, 8, 8, 3), STILL, generator()), r"float32 \(2, 8, 8, 3\)"),
        (lambda: augment.view(photos(2, 8).permute(0, 3, 1, 2), STILL, generator()), r"\[B, H, W, 3\]"),
        (lambda: augment.plain(photos(2, 8), 0), "at least 1 px"),
        (lambda: augment.resized(torch.rand(1, 3, 4, 4), 0), "at least 1 px"),
        (lambda: augment.draw_size(generator(), 9, 6), "1 <= low <= high"),
    ],
)
def test_broken_input_is_one_line(call, message):
    with pytest.raises(PapersError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.cuda
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_makes_the_same_views(name):
    images = photos(32, 32)
    for recipe in RECIPES[name]:
        here = augment.view(images, recipe, generator(), 24)
        there = augment.view(images.cuda(), recipe, generator(), 24)
        differences = (here - there.cpu()).abs()
        assert (differences < 1e-3).float().mean() > 0.999  # solarised values may fall on either side
    torch.testing.assert_close(augment.plain(images.cuda(), 20).cpu(), augment.plain(images, 20))
