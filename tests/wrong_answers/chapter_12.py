"""What students might answer: WRONG, which each check must refuse, and RIGHT."""

import numpy as np
import torch

VOID = 255

# --- 12.1


def _checked(length, side, margin):
    if side % 32 or margin % 32:
        raise ValueError("no multiple of 32")


def spans_right(length, side, margin):
    _checked(length, side, margin)
    tiles = []
    for start in range(0, length, side):
        stop = min(start + side, length)
        tiles.append((start, stop, max(0, start - margin), min(length, stop + margin)))
    return tiles


def spans_as_lists(length, side, margin):
    return tuple([np.int64(value) for value in tile] for tile in spans_right(length, side, margin))


def spans_without_check(length, side, margin):
    return [
        (a, min(a + side, length), max(0, a - margin), min(length, a + side + margin))
        for a in range(0, length, side)
    ]


def spans_check_only_side(length, side, margin):
    if side % 32:
        raise ValueError
    return spans_without_check(length, side, margin)


def spans_last_too_long(length, side, margin):
    _checked(length, side, margin)
    return [(a, a + side, f, last) for a, _, f, last in spans_right(length, side, margin)]


def spans_negative(length, side, margin):
    return [(a, b, a - margin, last) for a, b, _, last in spans_right(length, side, margin)]


def spans_beyond(length, side, margin):
    return [(a, b, f, b + margin) for a, b, f, _ in spans_right(length, side, margin)]


def spans_last_dropped(length, side, margin):
    tiles = spans_right(length, side, margin)
    return [tile for tile in tiles if tile[1] - tile[0] == side]


def spans_overlap(length, side, margin):
    _checked(length, side, margin)
    step = max(32, side - margin)
    return [
        (a, min(a + side, length), max(0, a - margin), min(length, a + side + margin))
        for a in range(0, length, step)
    ]


def spans_sizes(length, side, margin):
    return [(a, b - a, f, last - f) for a, b, f, last in spans_right(length, side, margin)]


def spans_one_empty_tile_more(length, side, margin):
    tiles = spans_right(length, side, margin)
    return tiles if length % side else [*tiles, (length, length, length - margin, length)]


def spans_floats(length, side, margin):
    return [tuple(map(float, tile)) for tile in spans_right(length, side, margin)]


def spans_no_list(length, side, margin):
    return len(spans_right(length, side, margin))


# --- 12.2


def groups_right(labels, old, groups):
    table = torch.full((256,), VOID, dtype=torch.uint8)
    for number, names in enumerate(groups.values()):
        for name in names:
            if name not in old:
                raise KeyError(name)
            table[old.index(name)] = number
    return table[labels.long()]


def groups_by_masks(labels, old, groups):
    new = torch.full(labels.shape, VOID, dtype=torch.uint8)
    numbers = {name: k for k, name in enumerate(old)}
    for number, names in enumerate(groups.values()):
        for name in names:
            new[labels == numbers[name]] = number
    return new


def groups_one_after_the_other(labels, old, groups):
    new = labels.clone()
    groups_right(labels, old, groups)
    known = {name for names in groups.values() for name in names}
    for number, names in enumerate(groups.values()):
        for name in names:
            new[new == old.index(name)] = number
    for k, name in enumerate(old):
        if name not in known:
            new[new == k] = VOID
    return new


def groups_in_place(labels, old, groups):
    labels[:] = groups_right(labels, old, groups)
    return labels


def groups_others_stay(labels, old, groups):
    new = groups_right(labels, old, groups)
    return torch.where(new == VOID, labels, new)


def groups_others_become_background(labels, old, groups):
    new = groups_right(labels, old, groups)
    return torch.where((new == VOID) & (labels != VOID), 0, new)


def groups_void_becomes_background(labels, old, groups):
    return torch.where(labels == VOID, 0, groups_right(labels, old, groups))


def groups_from_one(labels, old, groups):
    new = groups_right(labels, old, groups)
    return torch.where(new == VOID, new, new + 1)


def groups_sorted(labels, old, groups):
    return groups_right(labels, old, dict(sorted(groups.items())))


def groups_without_error(labels, old, groups):
    kept = {name: [each for each in names if each in old] for name, names in groups.items()}
    return groups_right(labels, old, kept)


def groups_value_error(labels, old, groups):
    try:
        return groups_right(labels, old, groups)
    except KeyError:
        raise ValueError from None


def groups_int64(labels, old, groups):
    return groups_right(labels, old, groups).long()


def groups_flat(labels, old, groups):
    return groups_right(labels, old, groups).flatten()


def groups_numpy(labels, old, groups):
    return groups_right(labels, old, groups).numpy()


# --- 12.3


def twice_right(network, picture):
    pictures = torch.stack([picture, picture.flip(dims=[2])])
    one, other = network(pictures).softmax(dim=1)
    return (one + other.flip(dims=[2])) / 2


def twice_one_by_one(network, picture):
    with torch.no_grad():
        answers = [network(x[None])[0].softmax(0) for x in (picture, torch.flip(picture, (-1,)))]
    return torch.stack([answers[0], torch.flip(answers[1], (-1,))]).mean(dim=0)


def twice_not_back(network, picture):
    one, other = network(torch.stack([picture, picture.flip(-1)])).softmax(dim=1)
    return (one + other) / 2


def twice_top_and_bottom(network, picture):
    one, other = network(torch.stack([picture, picture.flip(-2)])).softmax(dim=1)
    return (one + other.flip(-2)) / 2


def twice_logits(network, picture):
    one, other = network(torch.stack([picture, picture.flip(-1)]))
    return (one + other.flip(-1)) / 2


def twice_softmax_after(network, picture):
    return twice_logits(network, picture).softmax(dim=0)


def twice_once(network, picture):
    return network(picture[None])[0].softmax(dim=0)


def twice_only_mirror(network, picture):
    return network(picture.flip(-1)[None])[0].softmax(dim=0).flip(-1)


def twice_sum(network, picture):
    return 2 * twice_right(network, picture)


def twice_batch(network, picture):
    return twice_right(network, picture)[None]


def twice_channels_flipped(network, picture):
    one, other = network(torch.stack([picture, picture.flip(0)])).softmax(dim=1)
    return (one + other) / 2


def twice_softmax_over_columns(network, picture):
    one, other = network(torch.stack([picture, picture.flip(-1)])).softmax(dim=-1)
    return (one + other.flip(-1)) / 2


def twice_largest(network, picture):
    one, other = network(torch.stack([picture, picture.flip(-1)])).softmax(dim=1)
    return torch.maximum(one, other.flip(-1))


def twice_picture_changed(network, picture):
    answer = twice_right(network, picture)
    picture.copy_(picture.flip(-1))
    return answer


# --- 12.4


def worst_right(counts, n):
    pairs = []
    for truth, row in enumerate(counts.tolist()):
        for answer, count in enumerate(row):
            if answer != truth and count > 0:
                pairs.append((truth, answer, count / sum(row)))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:n]


def worst_tensors(counts, n):
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    shares.fill_diagonal_(0)
    order = shares.flatten().argsort(descending=True, stable=True)[:n]
    pairs = [divmod(place.item(), len(counts)) for place in order]
    return [(i, j, shares[i, j]) for i, j in pairs if shares[i, j] > 0]


def worst_with_zeros(counts, n):
    size = len(counts)
    pairs = [
        (i, j, counts[i, j].item() / max(1, counts[i].sum().item()))
        for i in range(size)
        for j in range(size)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:n]


def worst_counts_not_shares(counts, n):
    pairs = [
        (i, j, counts[i, j].item())
        for i in range(len(counts))
        for j in range(len(counts))
        if i != j and counts[i, j]
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:n]


def worst_of_columns(counts, n):
    return [(i, j, share) for j, i, share in worst_right(counts.T, n)]


def worst_of_all_pixels(counts, n):
    total = counts.sum().item()
    pairs = [
        (i, j, counts[i, j].item() / total)
        for i in range(len(counts))
        for j in range(len(counts))
        if i != j and counts[i, j]
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:n]


def worst_with_right_ones(counts, n):
    pairs = []
    for truth, row in enumerate(counts.tolist()):
        pairs += [(truth, k, c / sum(row)) for k, c in enumerate(row) if c]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:n]


def worst_share_of_wrong(counts, n):
    wrong = counts.clone().fill_diagonal_(0)
    return worst_right(wrong, n)


def worst_best_first(counts, n):
    return worst_right(counts, 10**6)[::-1][:n]


def worst_ties_reversed(counts, n):
    pairs = worst_right(counts, 10**6)
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[0], -pair[1]))[:n]


def worst_not_cut(counts, n):
    return worst_right(counts, 10**6)


def worst_in_percent(counts, n):
    return [(i, j, 100 * share) for i, j, share in worst_right(counts, n)]


def worst_swapped(counts, n):
    return [(j, i, share) for i, j, share in worst_right(counts, n)]


def worst_pairs_only(counts, n):
    return [(i, j) for i, j, _ in worst_right(counts, n)]


WRONG = {
    "12.1": [
        spans_without_check,
        spans_check_only_side,
        spans_last_too_long,
        spans_negative,
        spans_beyond,
        spans_last_dropped,
        spans_overlap,
        spans_sizes,
        spans_one_empty_tile_more,
        spans_floats,
        spans_no_list,
    ],
    "12.2": [
        groups_one_after_the_other,
        groups_in_place,
        groups_others_stay,
        groups_others_become_background,
        groups_void_becomes_background,
        groups_from_one,
        groups_sorted,
        groups_without_error,
        groups_value_error,
        groups_int64,
        groups_flat,
        groups_numpy,
    ],
    "12.3": [
        twice_not_back,
        twice_top_and_bottom,
        twice_logits,
        twice_softmax_after,
        twice_once,
        twice_only_mirror,
        twice_sum,
        twice_batch,
        twice_channels_flipped,
        twice_softmax_over_columns,
        twice_largest,
        twice_picture_changed,
    ],
    "12.4": [
        worst_with_zeros,
        worst_counts_not_shares,
        worst_of_columns,
        worst_of_all_pixels,
        worst_with_right_ones,
        worst_share_of_wrong,
        worst_best_first,
        worst_ties_reversed,
        worst_not_cut,
        worst_in_percent,
        worst_swapped,
        worst_pairs_only,
    ],
}

RIGHT = [
    ("12.1", spans_right),
    ("12.1", spans_as_lists),
    ("12.2", groups_right),
    ("12.2", groups_by_masks),
    ("12.3", twice_right),
    ("12.3", twice_one_by_one),
    ("12.4", worst_right),
    ("12.4", worst_tensors),
]
