"""What students might answer: WRONG, which each check must refuse, and RIGHT."""

import numpy as np
import torch

from fcnlib.metrics import ConfusionMatrix, near_boundary

VOID = 255

# --- 10.1


def looks_right(layers):
    field, apart = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * apart
        apart *= stride
    return field


def looks_from_the_end(layers):
    field = 1
    for kernel, stride, dilation in reversed(layers):
        field = (field - 1) * stride + (kernel - 1) * dilation + 1
    return np.int64(field)


def looks_without_dilation(layers):
    return looks_right([(kernel, stride, 1) for kernel, stride, _ in layers])


def looks_kernel_times_dilation(layers):
    return looks_right([(kernel * dilation, stride, 1) for kernel, stride, dilation in layers])


def looks_stride_first(layers):
    field, apart = 1, 1
    for kernel, stride, dilation in layers:
        apart *= stride
        field += (kernel - 1) * dilation * apart
    return field


def looks_dilation_piles_up(layers):
    field, apart = 1, 1
    for kernel, stride, dilation in layers:
        apart *= dilation
        field += (kernel - 1) * apart
        apart *= stride
    return field


def looks_without_stride(layers):
    return looks_right([(kernel, 1, dilation) for kernel, _, dilation in layers])


def looks_from_zero(layers):
    return looks_right(layers) - 1


def looks_list(layers):
    return [looks_right(layers)]


# --- 10.2


def dilate_right(layers, most):
    result, reached, dropped = [], 1, 1
    for kernel, stride in layers:
        if dropped == 1 and reached * stride <= most:
            reached *= stride
            result.append((kernel, stride, 1))
        else:
            result.append((kernel, 1, dropped))
            dropped *= stride
    return result


def dilate_as_lists(layers, most):
    return tuple([*layer] for layer in dilate_right(layers, most))


def dilate_at_once(layers, most):
    result, reached, dropped = [], 1, 1
    for kernel, stride in layers:
        if dropped == 1 and reached * stride <= most:
            reached *= stride
            result.append((kernel, stride, 1))
        else:
            dropped *= stride
            result.append((kernel, 1, dropped))
    return result


def dilate_starts_again(layers, most):
    result, reached, dropped = [], 1, 1
    for kernel, stride in layers:
        if reached * stride <= most:
            reached *= stride
            result.append((kernel, stride, dropped))
        else:
            result.append((kernel, 1, dropped))
            dropped *= stride
    return result


def dilate_less_than_most(layers, most):
    return dilate_right(layers, most / 2)


def dilate_by_two(layers, most):
    return [(k, s, min(d, 2)) for k, s, d in dilate_right(layers, most)]


def dilate_adds(layers, most):
    result, reached, dropped = [], 1, 1
    for kernel, stride in layers:
        if dropped == 1 and reached * stride <= most:
            reached *= stride
            result.append((kernel, stride, 1))
        else:
            result.append((kernel, 1, dropped))
            dropped += stride if stride > 1 else 0
    return result


def dilate_keeps_stride(layers, most):
    pairs = zip(layers, dilate_right(layers, most), strict=True)
    return [(k, layer[1], d) for layer, (k, _, d) in pairs]


def dilate_leaves_out(layers, most):
    return dilate_right(layers, most)[:-1]


def dilate_two_numbers(layers, most):
    return [(s, d) for _, s, d in dilate_right(layers, most)]


def dilate_empties(layers, most):
    result = dilate_right(layers, most)
    layers.clear()
    return result


def dilate_floats(layers, most):
    return [(k, s, d / 1) for k, s, d in dilate_right(layers, most)]


# --- 10.3


def counted(targets, predictions, num_classes, distance, near=near_boundary):
    matrix = ConfusionMatrix(num_classes)
    for target, prediction in zip(targets, predictions, strict=True):
        matrix.update(torch.where(near(target, distance), target, VOID), prediction)
    return matrix


def outline_right(targets, predictions, num_classes, distance):
    return counted(targets, predictions, num_classes, distance).mean_iou()


def outline_by_hand(targets, predictions, num_classes, distance):
    truth, drawn = [], []
    for target, prediction in zip(targets, predictions, strict=True):
        use = near_boundary(target, distance) & (target != VOID)
        truth.append(target[use])
        drawn.append(prediction[use])
    truth, drawn = torch.cat(truth), torch.cat(drawn)
    ious = []
    for label in range(num_classes):
        either = ((truth == label) | (drawn == label)).sum()
        if either:
            ious.append(((truth == label) & (drawn == label)).sum() / either)
    return torch.stack(ious).double().mean()


def outline_everywhere(targets, predictions, num_classes, distance):
    return counted(targets, predictions, num_classes, 100).mean_iou()


def outline_far(targets, predictions, num_classes, distance):
    def far(labels, distance):
        return ~near_boundary(labels, distance)

    return counted(targets, predictions, num_classes, distance, far).mean_iou()


def outline_one_more(targets, predictions, num_classes, distance):
    return counted(targets, predictions, num_classes, distance + 1).mean_iou()


def outline_of_predictions(targets, predictions, num_classes, distance):
    matrix = ConfusionMatrix(num_classes)
    for target, prediction in zip(targets, predictions, strict=True):
        near = near_boundary(prediction, distance)
        matrix.update(torch.where(near, target, VOID), prediction)
    return matrix.mean_iou()


def outline_void_is_no_label(targets, predictions, num_classes, distance):
    def near(labels, distance):
        return near_boundary(torch.where(labels == VOID, 0, labels), distance)

    return counted(targets, predictions, num_classes, distance, near).mean_iou()


def outline_mean_of_pictures(targets, predictions, num_classes, distance):
    pairs = zip(targets, predictions, strict=True)
    values = [counted([t], [p], num_classes, distance).mean_iou() for t, p in pairs]
    return float(np.nanmean(values))


def outline_accuracy(targets, predictions, num_classes, distance):
    return counted(targets, predictions, num_classes, distance).pixel_accuracy()


def outline_absent_is_zero(targets, predictions, num_classes, distance):
    ious = counted(targets, predictions, num_classes, distance).iou_per_class()
    return ious.nan_to_num(0).mean().item()


def outline_changes_labels(targets, predictions, num_classes, distance):
    for target in targets:
        target[~near_boundary(target, distance)] = VOID
    matrix = ConfusionMatrix(num_classes)
    for target, prediction in zip(targets, predictions, strict=True):
        matrix.update(target, prediction)
    return matrix.mean_iou()


def outline_per_class(targets, predictions, num_classes, distance):
    return counted(targets, predictions, num_classes, distance).iou_per_class()


# --- 10.4


def names_right(state_dict, names):
    result = {}
    for key, numbers in state_dict.items():
        short = key.removeprefix("module.")
        number, _, rest = short.partition(".")
        if number.isdecimal():
            if int(number) >= len(names):
                raise KeyError(key)
            short = f"{names[int(number)]}.{rest}"
        result[short] = numbers
    return result


def names_by_table(state_dict, names):
    table = {str(number): name for number, name in enumerate(names)}
    result = {}
    for key, numbers in state_dict.items():
        first, *rest = key.removeprefix("module.").split(".")
        if first.isdigit():
            first = table[first]
        result[".".join([first, *rest])] = numbers
    return result


def names_keep_module(state_dict, names):
    result = {}
    for key, numbers in state_dict.items():
        number, _, rest = key.partition(".")
        result[f"{names[int(number)]}.{rest}" if number.isdecimal() else key] = numbers
    return result


def names_drop_every_module(state_dict, names):
    plain = {key.replace("module.", ""): numbers for key, numbers in state_dict.items()}
    return names_right(plain, names)


def names_one_digit(state_dict, names):
    result = {}
    for key, numbers in state_dict.items():
        short = key.removeprefix("module.")
        if short[0].isdecimal():
            if int(short[0]) >= len(names):
                raise KeyError(key)
            short = names[int(short[0])] + short[1:]
        result[short] = numbers
    return result


def names_replace_everywhere(state_dict, names):
    result = {}
    for key, numbers in state_dict.items():
        parts = key.removeprefix("module.").split(".")
        for place, part in enumerate(parts):
            if part.isdecimal() and int(part) < len(names):
                parts[place] = names[int(part)]
        result[".".join(parts)] = numbers
    return result


def names_drop_named(state_dict, names):
    right = names_right(state_dict, names)
    return {key: right[key] for key in right if key.partition(".")[0] in names}


def names_index_error(state_dict, names):
    result = {}
    for key, numbers in state_dict.items():
        number, _, rest = key.removeprefix("module.").partition(".")
        result[f"{names[int(number)]}.{rest}" if number.isdecimal() else f"{number}.{rest}"] = (
            numbers
        )
    return result


def names_leave_unknown(state_dict, names):
    result = {}
    for key, numbers in state_dict.items():
        number, _, rest = key.removeprefix("module.").partition(".")
        known = number.isdecimal() and int(number) < len(names)
        result[f"{names[int(number)]}.{rest}" if known else f"{number}.{rest}"] = numbers
    return result


def names_in_place(state_dict, names):
    renamed = names_right(state_dict, names)
    state_dict.clear()
    state_dict.update(renamed)
    return state_dict


def names_in_order(state_dict, names):
    right = names_right(state_dict, names)
    return dict(zip(sorted(right), state_dict.values(), strict=True))


def names_keys_only(state_dict, names):
    return list(names_right(state_dict, names))


WRONG = {
    "10.1": [
        looks_without_dilation,
        looks_kernel_times_dilation,
        looks_stride_first,
        looks_dilation_piles_up,
        looks_without_stride,
        looks_from_zero,
        looks_list,
    ],
    "10.2": [
        dilate_at_once,
        dilate_starts_again,
        dilate_less_than_most,
        dilate_by_two,
        dilate_adds,
        dilate_keeps_stride,
        dilate_leaves_out,
        dilate_two_numbers,
        dilate_empties,
        dilate_floats,
    ],
    "10.3": [
        outline_everywhere,
        outline_far,
        outline_one_more,
        outline_of_predictions,
        outline_void_is_no_label,
        outline_mean_of_pictures,
        outline_accuracy,
        outline_absent_is_zero,
        outline_changes_labels,
        outline_per_class,
    ],
    "10.4": [
        names_keep_module,
        names_drop_every_module,
        names_one_digit,
        names_replace_everywhere,
        names_drop_named,
        names_index_error,
        names_leave_unknown,
        names_in_place,
        names_in_order,
        names_keys_only,
    ],
}

RIGHT = [
    ("10.1", looks_right),
    ("10.1", looks_from_the_end),
    ("10.2", dilate_right),
    ("10.2", dilate_as_lists),
    ("10.3", outline_right),
    ("10.3", outline_by_hand),
    ("10.4", names_right),
    ("10.4", names_by_table),
]
