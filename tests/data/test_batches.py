import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefield.data import ArraySource, Batches, batches, open_data, permutation


def numbers(count, labels=False):
    values = np.arange(count, dtype=np.float64)[:, None]
    return ArraySource(values, np.arange(count) % 3 if labels else None)


def test_permutation_never_changes():
    assert permutation(8, seed=0, epoch=0).tolist() == [7, 6, 3, 2, 4, 1, 5, 0]
    assert permutation(8, seed=0, epoch=1).tolist() == [2, 5, 1, 6, 7, 0, 4, 3]


def test_permutations_differ():
    drawn = {tuple(permutation(20, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(drawn) == 25
    assert all(sorted(order) == list(range(20)) for order in drawn)


def test_permutation_is_uniform():
    first = torch.stack([permutation(4, seed=1, epoch=e) for e in range(2000)])
    counts = torch.stack([first[:, place].bincount(minlength=4) for place in range(4)])
    assert (counts - 500).abs().max() < 100


def test_a_permutation_can_be_changed_without_harm():
    permutation(5, 0, 0).zero_()
    assert permutation(5, 0, 0).sum() == 10


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 13), batch_size=st.integers(1, 30), seed=st.integers(0, 2**70))
def test_every_item_is_seen_once_an_epoch(count, batch_size, seed):
    stream = Batches(numbers(count), batch_size, seed)
    steps = -(-3 * count // batch_size)
    seen = torch.cat([stream.indices(step) for step in range(steps)])
    for epoch in range(3):
        assert torch.equal(seen[epoch * count : (epoch + 1) * count], permutation(count, seed, epoch))


def test_batches_depend_on_seed_and_step_only(digits):
    one, other = (Batches(open_data(digits), 7, seed=3, flip=True) for _ in range(2))
    backwards = {step: other.batch(step) for step in (400, 30, 2, 1, 0)}
    for step, (x, labels) in backwards.items():
        assert torch.equal(one.batch(step)[0], x)
        assert torch.equal(one.batch(step)[1], labels)
    assert not torch.equal(Batches(one.source, 7, seed=4).batch(0)[0], one.batch(0)[0])


def test_labels_belong_to_their_items():
    x, labels = Batches(numbers(10, labels=True), 25, seed=0).batch(3)
    assert labels.dtype == torch.int64
    assert torch.equal(x[:, 0].long() % 3, labels)
    assert Batches(numbers(10), 5, seed=0).batch(0)[1] is None


def test_flips_are_fair_and_keyed():
    image = np.zeros((1, 1, 1, 2), dtype=np.uint8)
    image[..., 0] = 1
    stream = Batches(ArraySource(image), 1000, seed=0, flip=True)
    x = stream.batch(0)[0][:, 0, 0]
    mirrored = (x == torch.tensor([0, 1])).all(1)
    assert 420 < int(mirrored.sum()) < 580
    assert (x.sum(1) == 1).all()
    assert not torch.equal(x, stream.batch(1)[0][:, 0, 0])
    halves = torch.cat([Batches(ArraySource(image), 500, seed=0, flip=True).batch(step)[0] for step in (0, 1)])
    assert torch.equal(halves[:, 0, 0], x)


def test_flips_never_change():
    image = np.array([[[[0, 1]]]], dtype=np.uint8)
    x = Batches(ArraySource(np.repeat(image, 12, axis=0)), 12, seed=0, flip=True).batch(0)[0]
    assert x[:, 0, 0, 0].tolist() == [1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1]


def test_flip_mirrors_left_and_right(photos):
    source = open_data(photos)
    plain, flipped = (Batches(source, 20, seed=0, flip=flip).batch(1)[0] for flip in (False, True))
    same = (plain == flipped).flatten(1).all(1)
    mirrored = (plain.flip(3) == flipped).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert same.any()
    assert mirrored.any()


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_processes_share_one_global_batch(photos, world):
    source = open_data(photos)
    for step in (0, 17, 23):
        whole, labels = Batches(source, 12, seed=5, flip=True).batch(step)
        parts = [Batches(source, 12, 5, True, rank, world).batch(step) for rank in range(world)]
        assert torch.equal(torch.cat([x for x, _ in parts]), whole)
        assert torch.equal(torch.cat([y for _, y in parts]), labels)


def test_large_sources_are_read_item_by_item(photos, monkeypatch):
    expected = Batches(open_data(photos), 8, seed=0, flip=True).batch(2)
    monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)
    source = open_data(photos)
    monkeypatch.setattr(source, "tensor", None)
    stream = Batches(source, 8, seed=0, flip=True)
    assert all(torch.equal(a, b) for a, b in zip(stream.batch(2), expected, strict=True))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_read_ahead(photos, monkeypatch):
    monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)
    stream = Batches(open_data(photos), 8, seed=0)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, sampler=range(5, 9), num_workers=2)
    for step, (x, labels) in zip(range(5, 9), loader, strict=True):
        assert torch.equal(x, stream.batch(step)[0])
        assert torch.equal(labels, stream.batch(step)[1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"seed": -1}, "seed -1"),
        ({"flip": True}, "flip=True needs images"),
        ({"world": 2}, "not divisible by 2"),
        ({"rank": 1}, "rank 1 of world 1"),
    ],
)
def test_what_gives_no_batch_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        Batches(**{"source": numbers(4), "batch_size": 3, "seed": 0, **options})
    with pytest.raises(ValueError, match="step -1"):
        Batches(numbers(4), 3, 0).batch(-1)
    with pytest.raises(ValueError, match="epoch -1"):
        permutation(4, 0, -1)
