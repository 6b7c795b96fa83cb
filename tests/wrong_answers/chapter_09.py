"""What students might answer: WRONG, which each check must refuse, and RIGHT."""

import math
import random

import numpy as np
import torch
from torch.nn import functional as F

from fcnlib.data.loader import mixed_seed

VOID = 255

# --- 09.1


def cosine_right(done, warm_up=0.05):
    if done < warm_up:
        return done / warm_up
    return (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) / 2


def cosine_square(done, warm_up=0.05):
    if done < warm_up:
        return torch.tensor(done / warm_up, dtype=torch.double)
    turn = torch.tensor((done - warm_up) / (1 - warm_up), dtype=torch.double)
    return (turn * math.pi / 2).cos() ** 2


def cosine_without_warm_up(done, warm_up=0.05):
    return (1 + math.cos(math.pi * done)) / 2


def cosine_not_shifted(done, warm_up=0.05):
    return done / warm_up if done < warm_up else (1 + math.cos(math.pi * done)) / 2


def cosine_not_stretched(done, warm_up=0.05):
    if done < warm_up:
        return done / warm_up
    return (1 + math.cos(math.pi * (done - warm_up))) / 2


def cosine_times_warm_up(done, warm_up=0.05):
    rise = min(1, done / warm_up) if warm_up else 1
    return rise * (1 + math.cos(math.pi * done)) / 2


def cosine_divides_by_zero(done, warm_up=0.05):
    return done / warm_up if done <= warm_up else cosine_right(done, warm_up)


def cosine_of_degrees(done, warm_up=0.05):
    if done < warm_up:
        return done / warm_up
    return (1 + math.cos(180 * (done - warm_up) / (1 - warm_up))) / 2


def cosine_quarter(done, warm_up=0.05):
    if done < warm_up:
        return done / warm_up
    return math.cos(math.pi / 2 * (done - warm_up) / (1 - warm_up))


def cosine_not_halved(done, warm_up=0.05):
    if done < warm_up:
        return done / warm_up
    return 1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))


def cosine_poly(done, warm_up=0.05):
    return done / warm_up if done < warm_up else ((1 - done) / (1 - warm_up)) ** 0.9


def cosine_ignores_warm_up(done, warm_up=0.05):
    return cosine_right(done, 0.05)


def cosine_pair(done, warm_up=0.05):
    return done, cosine_right(done, warm_up)


# --- 09.2


def _each(network, new, lr, factor, weight_decay):
    for name, parameter in network.named_parameters():
        yield name, parameter, lr if name.startswith(new) else factor * lr


def groups_right(network, new, lr, factor, weight_decay):
    return [
        {"params": [p], "lr": rate, "weight_decay": 0.0 if p.ndim == 1 else weight_decay}
        for _, p, rate in _each(network, new, lr, factor, weight_decay)
        if p.requires_grad
    ]


def groups_of_four(network, new, lr, factor, weight_decay):
    groups = {}
    for name, p in network.named_parameters():
        if p.requires_grad:
            rate = lr if name.startswith(new) else factor * lr
            decay = weight_decay if p.ndim > 1 else 0
            groups.setdefault((rate, decay), []).append(p)
    return [{"params": v, "lr": k[0], "weight_decay": k[1]} for k, v in groups.items()]


def groups_with_fixed(network, new, lr, factor, weight_decay):
    return [
        {"params": [p], "lr": rate, "weight_decay": 0.0 if p.ndim == 1 else weight_decay}
        for _, p, rate in _each(network, new, lr, factor, weight_decay)
    ]


def groups_decay_all(network, new, lr, factor, weight_decay):
    return [group | {"weight_decay": weight_decay} for group in
            groups_right(network, new, lr, factor, weight_decay)]  # fmt: skip


def groups_decay_but_biases(network, new, lr, factor, weight_decay):
    return [
        {"params": [p], "lr": rate, "weight_decay": 0.0 if "bias" in name else weight_decay}
        for name, p, rate in _each(network, new, lr, factor, weight_decay)
        if p.requires_grad
    ]


def groups_decay_none(network, new, lr, factor, weight_decay):
    return [group | {"weight_decay": 0.0} for group in
            groups_right(network, new, lr, factor, weight_decay)]  # fmt: skip


def groups_swapped(network, new, lr, factor, weight_decay):
    groups = groups_right(network, new, lr, factor, weight_decay)
    return [g | {"lr": lr if g["lr"] == factor * lr else factor * lr} for g in groups]


def groups_by_part_of_name(network, new, lr, factor, weight_decay):
    return [
        {
            "params": [p],
            "lr": lr if any(part in name for part in new) else factor * lr,
            "weight_decay": 0.0 if p.ndim == 1 else weight_decay,
        }
        for name, p in network.named_parameters()
        if p.requires_grad
    ]


def groups_by_first_beginning(network, new, lr, factor, weight_decay):
    return groups_right(network, new[:1], lr, factor, weight_decay)


def groups_factor_as_rate(network, new, lr, factor, weight_decay):
    return [g | {"lr": lr if g["lr"] == lr else factor} for g in
            groups_right(network, new, lr, factor, weight_decay)]  # fmt: skip


def groups_twice(network, new, lr, factor, weight_decay):
    groups = groups_right(network, new, lr, factor, weight_decay)
    return [*groups, groups[0]]


def groups_new_only(network, new, lr, factor, weight_decay):
    return [
        {"params": [p], "lr": lr, "weight_decay": 0.0 if p.ndim == 1 else weight_decay}
        for name, p in network.named_parameters()
        if p.requires_grad and name.startswith(new)
    ]


def groups_of_names(network, new, lr, factor, weight_decay):
    return [
        {"params": [name], "lr": rate, "weight_decay": 0.0 if p.ndim == 1 else weight_decay}
        for name, p, rate in _each(network, new, lr, factor, weight_decay)
        if p.requires_grad
    ]


def groups_without_decay(network, new, lr, factor, weight_decay):
    groups = groups_right(network, new, lr, factor, weight_decay)
    return [{"params": g["params"], "lr": g["lr"]} for g in groups]


def groups_optimizer(network, new, lr, factor, weight_decay):
    return torch.optim.AdamW(groups_right(network, new, lr, factor, weight_decay))


def groups_dictionary(network, new, lr, factor, weight_decay):
    return groups_right(network, new, lr, factor, weight_decay)[0]


# --- 09.3


def _loop(network, optimizer, train_batches, val_batches, epochs, wrong=()):
    curve = []
    network.train()
    for _ in range(epochs):
        if "eval left on" not in wrong:
            network.train()
        if "zero once" in wrong:
            optimizer.zero_grad()
        for images, labels in train_batches:
            if not {"zero once", "zero never"} & {*wrong}:
                optimizer.zero_grad()
            reduction = "sum" if "summed" in wrong else "mean"
            ignored = {} if "void as background" in wrong else {"ignore_index": VOID}
            labels = labels.where(labels != VOID, 0) if "void as background" in wrong else labels
            F.cross_entropy(network(images), labels, reduction=reduction, **ignored).backward()
            if "zero before step" in wrong:
                optimizer.zero_grad()
            optimizer.step()
        if "never eval" not in wrong:
            network.eval()
        total = pixels = 0
        with torch.no_grad():
            for images, labels in val_batches:
                loss = F.cross_entropy(network(images), labels, ignore_index=VOID, reduction="sum")
                valid = int((labels != VOID).sum())
                total += loss.item() / (valid if "mean of batches" in wrong else 1)
                pixels += labels.numel() if "all pixels" in wrong else valid
        pixels = len(val_batches) if "mean of batches" in wrong else pixels
        curve.append(total / pixels)
    return curve


def _with(*wrong):
    def loop(network, optimizer, train_batches, val_batches, epochs):
        return _loop(network, optimizer, train_batches, val_batches, epochs, wrong)

    loop.__name__ = "loop_" + "_and_".join(wrong).replace(" ", "_")
    return loop


def loop_right(network, optimizer, train_batches, val_batches, epochs):
    return _loop(network, optimizer, train_batches, val_batches, epochs)


def loop_zero_at_end(network, optimizer, train_batches, val_batches, epochs):
    curve = []
    for _ in range(epochs):
        network.train()
        for images, labels in train_batches:
            F.cross_entropy(network(images), labels, ignore_index=VOID).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        network.eval()
        with torch.inference_mode():
            losses = [
                F.cross_entropy(network(images), labels, ignore_index=VOID, reduction="none")[
                    labels != VOID
                ]
                for images, labels in val_batches
            ]
        curve.append(torch.cat(losses).mean())
    return curve


def loop_last_only(network, optimizer, train_batches, val_batches, epochs):
    return loop_right(network, optimizer, train_batches, val_batches, epochs)[-1:]


def loop_number(network, optimizer, train_batches, val_batches, epochs):
    return loop_right(network, optimizer, train_batches, val_batches, epochs)[-1]


def loop_trains_on_validation(network, optimizer, train_batches, val_batches, epochs):
    return loop_right(network, optimizer, [*train_batches, *val_batches], val_batches, epochs)


def loop_scores_training(network, optimizer, train_batches, val_batches, epochs):
    return loop_right(network, optimizer, train_batches, train_batches, epochs)


def loop_copied(network, optimizer, train_batches, val_batches, epochs):
    wrong = ("eval left on", "zero once", "mean of batches")
    return _loop(network, optimizer, train_batches, val_batches, epochs, wrong)


# --- 09.4


def order_right(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return torch.randperm(pictures, generator=generator).tolist()


def order_numpy(pictures, seed, epoch):
    return np.random.default_rng([seed, epoch]).permutation(pictures).tolist()


def order_python(pictures, seed, epoch):
    order = list(range(pictures))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return order


def order_sum(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(pictures, generator=generator).tolist()


def order_product(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(seed * epoch)
    return torch.randperm(pictures, generator=generator).tolist()


def order_tens(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(10 * seed + epoch)
    return torch.randperm(pictures, generator=generator).tolist()


def order_thousands(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    return torch.randperm(pictures, generator=generator).tolist()


def order_glued(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(int(f"{seed}{epoch}"))
    return torch.randperm(pictures, generator=generator).tolist()


def order_symmetric(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(mixed_seed(*sorted((seed, epoch))))
    return torch.randperm(pictures, generator=generator).tolist()


def order_of_seed_alone(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(pictures, generator=generator).tolist()


def order_of_epoch_alone(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(epoch)
    return torch.randperm(pictures, generator=generator).tolist()


def order_global(pictures, seed, epoch):
    torch.manual_seed(mixed_seed(seed, epoch))
    return torch.randperm(pictures).tolist()


def order_global_numpy(pictures, seed, epoch):
    np.random.seed(mixed_seed(seed, epoch))
    return np.random.permutation(pictures).tolist()


def order_global_python(pictures, seed, epoch):
    random.seed(mixed_seed(seed, epoch))
    return random.sample(range(pictures), pictures)


def order_unseeded(pictures, seed, epoch):
    return torch.randperm(pictures, generator=torch.Generator()).tolist()


def order_any(pictures, seed, epoch):
    return torch.randperm(pictures).tolist()


def order_sorted(pictures, seed, epoch):
    return list(range(pictures))


def order_rolled(pictures, seed, epoch):
    return [(number + mixed_seed(seed, epoch)) % pictures for number in range(pictures)]


def order_from_one(pictures, seed, epoch):
    return [number + 1 for number in order_right(pictures, seed, epoch)]


def order_with_repeats(pictures, seed, epoch):
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return torch.randint(pictures, (pictures,), generator=generator).tolist()


def order_tensor(pictures, seed, epoch):
    return torch.tensor(order_right(pictures, seed, epoch))


def order_of_floats(pictures, seed, epoch):
    return [float(number) for number in order_right(pictures, seed, epoch)]


WRONG = {
    "09.1": [
        cosine_without_warm_up,
        cosine_not_shifted,
        cosine_not_stretched,
        cosine_times_warm_up,
        cosine_divides_by_zero,
        cosine_of_degrees,
        cosine_quarter,
        cosine_not_halved,
        cosine_poly,
        cosine_ignores_warm_up,
        cosine_pair,
    ],
    "09.2": [
        groups_with_fixed,
        groups_decay_all,
        groups_decay_but_biases,
        groups_decay_none,
        groups_swapped,
        groups_by_part_of_name,
        groups_by_first_beginning,
        groups_factor_as_rate,
        groups_twice,
        groups_new_only,
        groups_of_names,
        groups_without_decay,
        groups_optimizer,
        groups_dictionary,
    ],
    "09.3": [
        loop_copied,
        _with("eval left on"),
        _with("zero once"),
        _with("zero never"),
        _with("zero before step"),
        _with("mean of batches"),
        _with("all pixels"),
        _with("never eval"),
        _with("summed"),
        _with("void as background"),
        _with("eval left on", "zero once"),
        _with("eval left on", "mean of batches"),
        _with("zero once", "mean of batches"),
        loop_last_only,
        loop_number,
        loop_trains_on_validation,
        loop_scores_training,
    ],
    "09.4": [
        order_sum,
        order_product,
        order_tens,
        order_thousands,
        order_glued,
        order_symmetric,
        order_of_seed_alone,
        order_of_epoch_alone,
        order_global,
        order_global_numpy,
        order_global_python,
        order_unseeded,
        order_any,
        order_sorted,
        order_rolled,
        order_from_one,
        order_with_repeats,
        order_tensor,
        order_of_floats,
    ],
}
RIGHT = [
    ("09.1", cosine_right),
    ("09.1", cosine_square),
    ("09.2", groups_right),
    ("09.2", groups_of_four),
    ("09.3", loop_right),
    ("09.3", loop_zero_at_end),
    ("09.4", order_right),
    ("09.4", order_numpy),
    ("09.4", order_python),
]
