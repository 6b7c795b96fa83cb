"""Batches: what is in them, in which order, and that nothing but the seed decides it."""

import shutil
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from training_cases import check_sentence, make_data

from fcnlib.data import SegmentationFolder, to_float, train_transforms
from fcnlib.data.loader import (
    Batches,
    SeededPictures,
    epoch_batches,
    evaluation_loader,
    mixed_seed,
    train_loader,
    unpacked,
)
from fcnlib.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("loader") / "data")


@pytest.fixture(scope="module")
def folder(root):
    return SegmentationFolder(root, "train", train_transforms(24))


def batches_of(sampler: Batches, epoch: int) -> list[list[int]]:
    sampler.epoch = epoch
    assert all(place[0] == epoch for batch in sampler for place in batch)
    return [[index for _, index in batch] for batch in sampler]


def epochs_of(loader: DataLoader, *epochs: int) -> list[torch.Tensor]:
    return [part for epoch in epochs for batch in epoch_batches(loader, epoch) for part in batch]


def check_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


# --- which pictures


@pytest.mark.parametrize(("pictures", "size"), [(6, 2), (7, 3), (5, 5), (4, 1)])
def test_an_epoch_has_every_picture_at_most_once(pictures, size):
    batches = batches_of(sampler := Batches(pictures, size, seed=0), epoch=1)
    assert len(batches) == len(sampler) == pictures // size
    assert {len(batch) for batch in batches} == {size}
    everything = list(chain(*batches))
    assert len(set(everything)) == len(everything)
    assert set(everything) <= set(range(pictures))


def test_each_epoch_has_its_own_order_that_the_seed_decides():
    orders = [batches_of(Batches(20, 4, seed), epoch) for seed in (0, 1) for epoch in (1, 2, 3)]
    assert len({str(order) for order in orders}) == 6
    again = Batches(20, 4, seed=1)
    assert [batches_of(again, epoch) for epoch in (3, 1)] == [orders[5], orders[3]]


def test_what_is_left_over_is_not_always_the_same():
    left = [{*range(7)} - {*chain(*batches_of(Batches(7, 3, 0), epoch))} for epoch in range(1, 20)]
    assert {len(one) for one in left} == {1}
    assert len(set.union(*left)) > 3


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_processes_make_up_the_batch(processes):
    whole = batches_of(Batches(14, 6, seed=3), epoch=2)
    shares = [batches_of(Batches(14, 6, 3, rank, processes), epoch=2) for rank in range(processes)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {len(part) for part in parts} == {6 // processes}
        assert sorted(chain(*parts)) == sorted(batch)


def test_a_batch_larger_than_the_set_is_refused(folder):
    with pytest.raises(DataError) as error:
        train_loader(folder, 7)
    check_sentence(error.value, "6 training pictures", "a batch of 7", "6 or less")


def test_a_batch_that_processes_cannot_share_is_refused(folder):
    with pytest.raises(DataError) as error:
        train_loader(folder, 3, processes=2)
    check_sentence(error.value, "batch of 3", "2 processes", "multiple of 2")


# --- what is in them


def test_a_batch_is_float_pictures_and_whole_labels(folder):
    images, labels = next(epoch_batches(train_loader(folder, 2), 1))
    assert (images.shape, images.dtype) == ((2, 3, 24, 24), torch.float32)
    assert (labels.shape, labels.dtype) == ((2, 24, 24), torch.int64)
    assert 0 <= images.min() < images.max() <= 1
    assert {0, 255} <= set(labels.unique().tolist()) <= {0, 1, 2, 255}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(folder, workers):
    expected = epochs_of(train_loader(folder, 2, seed=5), 1, 2)
    torch.manual_seed(99)  # nor does the global generator
    check_equal(epochs_of(train_loader(folder, 2, 5, workers), 1, 2), expected)


def test_an_epoch_is_the_same_whatever_was_read_before(folder):
    expected = epochs_of(train_loader(folder, 2, seed=5), 1, 2)
    late = train_loader(folder, 2, seed=5)
    check_equal(epochs_of(late, 2), expected[len(expected) // 2 :])
    check_equal(epochs_of(late, 1), expected[: len(expected) // 2])


def test_two_processes_see_what_one_would_see(folder):
    whole = list(epoch_batches(train_loader(folder, 4, seed=5), 3))
    shares = [epoch_batches(train_loader(folder, 4, 5, 0, rank, 2), 3) for rank in (0, 1)]
    for (images, labels), first, second in zip(whole, *shares, strict=True):
        assert torch.equal(images[0::2], first[0])
        assert torch.equal(images[1::2], second[0])
        assert torch.equal(labels[1::2], second[1])


def test_what_is_drawn_depends_on_seed_epoch_and_picture_alone(folder):
    pictures = SeededPictures(folder, seed=5)
    first = pictures[2, 3]
    pictures[1, 1]
    check_equal(list(pictures[2, 3]), list(first))
    others = [SeededPictures(folder, 6)[2, 3], pictures[3, 3]]
    assert not any(torch.equal(first[0], other[0]) for other in others)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generators_are_left_alone(root, folder, workers):
    states = (torch.get_rng_state(), np.random.get_state()[1].tolist())
    epochs_of(train_loader(folder, 2, workers=workers), 1, 2)
    list(unpacked(evaluation_loader(SegmentationFolder(root, "val", to_float()), workers)))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]


def test_a_seed_that_draws_leaves_a_gpu_alone(folder, monkeypatch):
    """Else dropout there would depend on the picture that was read last."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("GPU seeded"))
    SeededPictures(folder, seed=5)[1, 1]


def test_mixed_seed_depends_on_each_number():
    seeds = [mixed_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    assert len(set(seeds)) == 64
    assert mixed_seed(1, 2) == mixed_seed(1, 2)
    assert len({mixed_seed(1), mixed_seed(1, 0), mixed_seed(1, 0, 0), mixed_seed(0, 1)}) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)


# --- evaluation


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_has_every_picture_once_at_its_size(root, workers, processes):
    val = SegmentationFolder(root, "val", to_float())
    loaders = [evaluation_loader(val, workers, rank, processes) for rank in range(processes)]
    shares = [list(unpacked(loader)) for loader in loaders]
    assert sum(map(len, shares)) == len(val) == 3
    for rank, share in enumerate(shares):
        for (images, labels), (image, mask) in zip(share, list(val)[rank::processes], strict=True):
            assert torch.equal(images, image[None])
            assert torch.equal(labels, mask[None])


# --- what cannot be used


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_the_same_one_sentence(root, tmp_path, workers):
    shutil.copytree(root, broken := tmp_path / "data")
    path = broken / "JPEGImages" / "train4.jpg"
    path.write_bytes(path.read_bytes()[:300])
    loader = train_loader(SegmentationFolder(broken, "train", train_transforms(24)), 2, 0, workers)
    with pytest.raises(DataError) as error:
        epochs_of(loader, 1)
    check_sentence(error.value, path, "copy it again")


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_different_sizes_are_refused(root, workers):
    folder = SegmentationFolder(root, "train", to_float())
    with pytest.raises(DataError) as error:
        epochs_of(train_loader(folder, 3, 0, workers), 1)
    check_sentence(error.value, "different sizes", "--crop")
    assert len(epochs_of(train_loader(folder, 1, 0, workers), 1)) == 12
