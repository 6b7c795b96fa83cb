"""What students might answer: WRONG, which each check must refuse, and RIGHT."""

import itertools

import torch
from torch.nn import functional as F

VOID = 255
SETS = ("start", "train", "val", "recipe")

# --- 11.1


def pairs_right(rows):
    found = []
    for place, a in enumerate(rows):
        for b in rows[place + 1 :]:
            if {**a, "name": ""} == {**b, "name": ""}:
                found.append((a["name"], b["name"]))
    return found


def pairs_as_lists(rows):
    return tuple(list(pair) for pair in pairs_right(rows))


def _pairs(rows, keys):
    return [
        (a["name"], b["name"])
        for a, b in itertools.combinations(rows, 2)
        if all(a[key] == b[key] for key in keys)
    ]


def pairs_start_forgotten(rows):
    return _pairs(rows, ("train", "val", "recipe"))


def pairs_train_forgotten(rows):
    return _pairs(rows, ("start", "val", "recipe"))


def pairs_val_forgotten(rows):
    return _pairs(rows, ("start", "train", "recipe"))


def pairs_recipe_forgotten(rows):
    return _pairs(rows, ("start", "train", "val"))


def pairs_any_key(rows):
    return [
        (a["name"], b["name"])
        for a, b in itertools.combinations(rows, 2)
        if any(a[key] == b[key] for key in SETS)
    ]


def pairs_all(rows):
    return _pairs(rows, ())


def pairs_both_ways(rows):
    return [
        (a["name"], b["name"])
        for a, b in itertools.permutations(rows, 2)
        if all(a[key] == b[key] for key in SETS)
    ]


def pairs_with_itself(rows):
    return [
        (a["name"], b["name"])
        for a, b in itertools.combinations_with_replacement(rows, 2)
        if all(a[key] == b[key] for key in SETS)
    ]


def pairs_of_neighbours(rows):
    return [
        (a["name"], b["name"])
        for a, b in itertools.pairwise(rows)
        if all(a[key] == b[key] for key in SETS)
    ]


def pairs_of_rows(rows):
    return [
        (a, b) for a, b in itertools.combinations(rows, 2) if all(a[key] == b[key] for key in SETS)
    ]


def pairs_reversed(rows):
    return [(b, a) for a, b in pairs_right(rows)]


def pairs_as_groups(rows):
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in SETS), []).append(row["name"])
    return [tuple(names) for names in groups.values() if len(names) > 1]


def pairs_counted(rows):
    return len(pairs_right(rows))


def pairs_printed(rows):
    print(pairs_right(rows))


# --- 11.2


def leak_right(val_ids, trained_ids):
    trained = set(trained_ids)
    kept = [name for name in val_ids if name not in trained]
    return kept, sum(name in trained for name in val_ids)


def leak_slowly(val_ids, trained_ids):
    kept = tuple(name for name in val_ids if name not in trained_ids)
    return [kept, float(len(val_ids) - len(kept))]


def leak_unordered(val_ids, trained_ids):
    kept = sorted(set(val_ids) - set(trained_ids))
    return kept, len(val_ids) - len(kept)


def leak_as_set(val_ids, trained_ids):
    kept = set(val_ids) - set(trained_ids)
    return kept, len(val_ids) - len(kept)


def leak_kept_the_leak(val_ids, trained_ids):
    kept = [name for name in val_ids if name in set(trained_ids)]
    return kept, len(val_ids) - len(kept)


def leak_counts_kept(val_ids, trained_ids):
    kept, _ = leak_right(val_ids, trained_ids)
    return kept, len(kept)


def leak_counts_trained(val_ids, trained_ids):
    kept, _ = leak_right(val_ids, trained_ids)
    return kept, len(trained_ids)


def leak_counts_difference(val_ids, trained_ids):
    kept, _ = leak_right(val_ids, trained_ids)
    return kept, abs(len(val_ids) - len(trained_ids))


def leak_the_other_way(val_ids, trained_ids):
    return leak_right(trained_ids, val_ids)


def leak_both_sides(val_ids, trained_ids):
    kept = [name for name in [*val_ids, *trained_ids] if (name in val_ids) != (name in trained_ids)]
    return kept, len(val_ids) - len(kept)


def leak_removes_while_it_walks(val_ids, trained_ids):
    kept = list(val_ids)
    for name in kept:
        if name in trained_ids:
            kept.remove(name)
    return kept, len(val_ids) - len(kept)


def leak_in_place(val_ids, trained_ids):
    before = len(val_ids)
    val_ids[:] = [name for name in val_ids if name not in trained_ids]
    return val_ids, before - len(val_ids)


def leak_without_number(val_ids, trained_ids):
    return leak_right(val_ids, trained_ids)[0]


def leak_which_ones(val_ids, trained_ids):
    kept, _ = leak_right(val_ids, trained_ids)
    return kept, [name for name in val_ids if name in trained_ids]


# --- 11.3


def _summed(network, pictures, labels):
    return F.cross_entropy(network(pictures), labels, ignore_index=VOID, reduction="sum")


def parts_right(network, pictures, labels, part):
    network.zero_grad()
    valid = max(1, int((labels != VOID).sum()))
    total = 0.0
    for begin in range(0, len(pictures), part):
        these = slice(begin, begin + part)
        loss = _summed(network, pictures[these], labels[these]) / valid
        loss.backward()
        total += loss.item()
    return total


def parts_divided_at_the_end(network, pictures, labels, part):
    network.zero_grad()
    total = 0.0
    for x, y in zip(pictures.split(part), labels.split(part), strict=True):
        loss = _summed(network, x, y)
        loss.backward()
        total += loss.item()
    valid = (labels != VOID).sum().clamp(min=1)
    for parameter in network.parameters():
        parameter.grad /= valid
    return total / valid  # a tensor


def parts_old_gradients(network, pictures, labels, part):
    valid = max(1, int((labels != VOID).sum()))
    total = 0.0
    for x, y in zip(pictures.split(part), labels.split(part), strict=True):
        loss = _summed(network, x, y) / valid
        loss.backward()
        total += loss.item()
    return total


def parts_mean_of_means(network, pictures, labels, part):
    network.zero_grad()
    xs, ys = pictures.split(part), labels.split(part)
    total = 0.0
    for x, y in zip(xs, ys, strict=True):
        loss = _summed(network, x, y) / (y != VOID).sum().clamp(min=1) / len(xs)
        loss.backward()
        total += loss.item()
    return total


def parts_not_divided(network, pictures, labels, part):
    network.zero_grad()
    total = 0.0
    for x, y in zip(pictures.split(part), labels.split(part), strict=True):
        loss = _summed(network, x, y)
        loss.backward()
        total += loss.item()
    return total


def parts_void_counts(network, pictures, labels, part):
    network.zero_grad()
    total = 0.0
    for x, y in zip(pictures.split(part), labels.split(part), strict=True):
        loss = _summed(network, x, y) / labels.numel()
        loss.backward()
        total += loss.item()
    return total


def parts_zero_grad_inside(network, pictures, labels, part):
    valid = (labels != VOID).sum().clamp(min=1)
    total = 0.0
    for x, y in zip(pictures.split(part), labels.split(part), strict=True):
        network.zero_grad()
        loss = _summed(network, x, y) / valid
        loss.backward()
        total += loss.item()
    return total


def parts_last_dropped(network, pictures, labels, part):
    network.zero_grad()
    valid = (labels != VOID).sum().clamp(min=1)
    total = 0.0
    for number in range(len(pictures) // part):
        these = slice(number * part, (number + 1) * part)
        loss = _summed(network, pictures[these], labels[these]) / valid
        loss.backward()
        total += loss.item()
    return total


def parts_return_last(network, pictures, labels, part):
    network.zero_grad()
    valid = (labels != VOID).sum().clamp(min=1)
    for x, y in zip(pictures.split(part), labels.split(part), strict=True):
        loss = _summed(network, x, y) / valid
        loss.backward()
    return loss.item()


def parts_no_backward(network, pictures, labels, part):
    network.zero_grad()
    return (_summed(network, pictures, labels) / (labels != VOID).sum().clamp(min=1)).item()


def parts_nan_where_all_is_void(network, pictures, labels, part):
    network.zero_grad()
    loss = F.cross_entropy(network(pictures), labels, ignore_index=VOID)
    loss.backward()
    return loss.item()


def parts_all_at_once(network, pictures, labels, part):
    return parts_right(network, pictures, labels, len(pictures))


def parts_one_more(network, pictures, labels, part):
    return parts_right(network, pictures, labels, part + 1)


def parts_graph_returned(network, pictures, labels, part):
    parts_right(network, pictures, labels, part)
    valid = (labels != VOID).sum().clamp(min=1)
    return sum(
        _summed(network, x, y) / valid
        for x, y in zip(pictures.split(part), labels.split(part), strict=True)
    )


def parts_nothing_returned(network, pictures, labels, part):
    parts_right(network, pictures, labels, part)


def parts_step_taken(network, pictures, labels, part):
    loss = parts_right(network, pictures, labels, part)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    network.zero_grad()
    return loss


# --- 11.4


def scale_right(gradients):
    sizes = gradients.abs()
    for power in reversed(range(17)):
        halves = (sizes * 2.0**power).half()
        if halves.isfinite().all():
            lost = int(((halves == 0) & (sizes > 0)).sum())
            return 2**power, lost / max(1, int((sizes > 0).sum()))
    raise OverflowError("too large")


def scale_as_tensors(gradients):
    scale, lost = scale_right(gradients)
    return [torch.tensor(scale), torch.tensor(lost, dtype=torch.float64)]


def scale_share_of_all(gradients):
    scale, _ = scale_right(gradients)
    halves = (gradients * scale).half()
    return scale, ((halves == 0) & (gradients != 0)).double().mean().item()


def scale_zeros_count(gradients):
    scale, _ = scale_right(gradients)
    return scale, ((gradients * scale).half() == 0).double().mean().item()


def scale_share_kept(gradients):
    scale, lost = scale_right(gradients)
    return scale, 1 - lost


def scale_count_lost(gradients):
    scale, lost = scale_right(gradients)
    return scale, lost * int((gradients != 0).sum())


def scale_smallest(gradients):
    halves = gradients.half()
    if halves.isinf().any():
        raise OverflowError
    there = gradients != 0
    return 1, (halves[there] == 0).double().mean().item() if there.any() else 0.0


def scale_by_division(gradients):
    largest = gradients.abs().max().item()
    if largest > 65504:
        raise OverflowError
    scale = 1
    while scale < 65536 and largest * scale * 2 < 65504:
        scale *= 2
    return scale // 2 or 1, scale_right(gradients)[1]


def scale_sign_forgotten(gradients):
    for power in reversed(range(17)):
        if (gradients * 2**power).half().max() < float("inf"):
            return 2**power, scale_right(gradients)[1]
    raise OverflowError


def scale_beyond(gradients):
    for power in reversed(range(30)):
        if not (gradients * 2.0**power).half().isinf().any():
            return 2**power, scale_right(gradients)[1]
    raise OverflowError


def scale_no_power(gradients):
    scale_right(gradients)
    return min(65536, 65504 / max(gradients.abs().max().item(), 1e-30)), scale_right(gradients)[1]


def scale_value_error(gradients):
    try:
        return scale_right(gradients)
    except OverflowError:
        raise ValueError("too large") from None


def scale_without_error(gradients):
    try:
        return scale_right(gradients)
    except OverflowError:
        return 1, 0.0


def scale_lost_before(gradients):
    scale, _ = scale_right(gradients)
    there = gradients != 0
    return scale, (gradients.half()[there] == 0).double().mean().item() if there.any() else 0.0


def scale_nan_for_zeros(gradients):
    scale, _ = scale_right(gradients)
    there = gradients != 0
    return scale, ((gradients * scale).half()[there] == 0).double().mean().item()


def scale_only(gradients):
    return scale_right(gradients)[0]


WRONG = {
    "11.1": [
        pairs_start_forgotten,
        pairs_train_forgotten,
        pairs_val_forgotten,
        pairs_recipe_forgotten,
        pairs_any_key,
        pairs_all,
        pairs_both_ways,
        pairs_with_itself,
        pairs_of_neighbours,
        pairs_of_rows,
        pairs_reversed,
        pairs_as_groups,
        pairs_counted,
        pairs_printed,
    ],
    "11.2": [
        leak_unordered,
        leak_as_set,
        leak_kept_the_leak,
        leak_counts_kept,
        leak_counts_trained,
        leak_counts_difference,
        leak_the_other_way,
        leak_both_sides,
        leak_removes_while_it_walks,
        leak_in_place,
        leak_without_number,
        leak_which_ones,
    ],
    "11.3": [
        parts_old_gradients,
        parts_mean_of_means,
        parts_not_divided,
        parts_void_counts,
        parts_zero_grad_inside,
        parts_last_dropped,
        parts_return_last,
        parts_no_backward,
        parts_nan_where_all_is_void,
        parts_all_at_once,
        parts_one_more,
        parts_graph_returned,
        parts_nothing_returned,
        parts_step_taken,
    ],
    "11.4": [
        scale_share_of_all,
        scale_zeros_count,
        scale_share_kept,
        scale_count_lost,
        scale_smallest,
        scale_by_division,
        scale_sign_forgotten,
        scale_beyond,
        scale_no_power,
        scale_value_error,
        scale_without_error,
        scale_lost_before,
        scale_nan_for_zeros,
        scale_only,
    ],
}

RIGHT = [
    ("11.1", pairs_right),
    ("11.1", pairs_as_lists),
    ("11.2", leak_right),
    ("11.2", leak_slowly),
    ("11.3", parts_right),
    ("11.3", parts_divided_at_the_end),
    ("11.4", scale_right),
    ("11.4", scale_as_tensors),
]
