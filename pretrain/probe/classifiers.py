"""Two classifiers on frozen features: nearest neighbours that vote, and logistic regression."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .gathering import gather_rows, share_of

Accuracy = dict[str, float]
_L2 = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # tried from strong to weak, each from the solution of the one before
_HELD_OUT = 0.2


def _hits(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether each label ``(N,)`` is among the best 1, ..., 5 of ``(N, classes)``; bool ``(N, 1 to 5)``."""
    best = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
    return best.cumsum(1) > 0


def _shares(hits: Tensor, classes: int) -> Accuracy:
    """Percent of hits; top5 with more than five classes."""
    percent = 100 * hits.double().mean(0)
    result = {"top1": percent[0].item()}
    if classes > 5:
        result["top5"] = percent[-1].item()
    return result


def _accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    return _shares(_hits(scores, labels), scores.shape[1])


def _num_classes(*labels: Tensor) -> int:
    return 1 + max(int(group.max()) for group in labels)


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 4096,
    shared: bool = False,
) -> Accuracy:
    """Cosine k-nearest neighbours that vote with exp(similarity / temperature) (Wu et al., 2018; DINO).

    Args:
        train_features, test_features: ``(N, C)`` and ``(M, C)``; labels ``(N,)`` and ``(M,)`` int64.
        k: neighbours, at most N.
        chunk: never more than chunk x chunk similarities are held at once.
        shared: collective: each process, all of which have all vectors, looks for the neighbours of its part
            of the test images.

    Returns:
        ``top1`` in percent, and ``top5`` where there are more than five classes.
    """
    if k < 1 or chunk < 1 or temperature <= 0:
        raise ValueError(f"k={k}, chunk={chunk}, temperature={temperature}: all have to be positive")
    train, k = F.normalize(train_features.float(), dim=1), min(k, len(train_features))
    classes = _num_classes(train_labels, test_labels)
    votes = [test_features.new_zeros(0, classes, dtype=torch.float32)]
    if shared:
        test_features, test_labels = share_of(test_features), share_of(test_labels)
    for part in F.normalize(test_features.float(), dim=1).split(chunk):
        near, owner = part.new_empty(len(part), 0), train_labels.new_empty(len(part), 0)
        for others, labels in zip(train.split(chunk), train_labels.split(chunk), strict=True):
            near = torch.cat((near, part @ others.T), 1)
            owner = torch.cat((owner, labels.expand(len(part), -1)), 1)
            near, order = near.topk(min(k, near.shape[1]))
            owner = owner.gather(1, order)
        scores = part.new_zeros(len(part), classes)
        votes.append(scores.scatter_add_(1, owner, (near / temperature).exp()))
    hits = _hits(torch.cat(votes), test_labels)
    return _shares(gather_rows(hits.to(torch.uint8)) if shared else hits, classes)


def _fit(x: Tensor, y: Tensor, l2: float, weight: Tensor, bias: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression from the given start: mean cross-entropy + l2 / 2 * |weight|^2."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    strengths: tuple[float, ...] = _L2,
    steps: int = 100,
    seed: int = 0,
) -> Accuracy:
    """Multinomial logistic regression on standardised features, by L-BFGS; the same result every time.

    The L2 strength is chosen on a fifth of the training set, then all of it is fitted.

    Args:
        train_features, test_features: ``(N, C)`` and ``(M, C)``; labels ``(N,)`` and ``(M,)`` int64.
        strengths: of L2, from strong to weak.
        steps: of L-BFGS for each strength.
        seed: draws the fifth.

    Returns:
        As :func:`knn_accuracy`, with the chosen ``l2``.

    Raises:
        ValueError: fewer than two training vectors.
    """
    if len(train_features) < 2:
        raise ValueError(f"{len(train_features)} training vectors: at least two are needed")
    mean, std = train_features.float().mean(0), train_features.float().std(0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-30), std, torch.ones_like(std))  # constant: stays 0
    train, test = ((f.float() - mean) / std for f in (train_features, test_features))
    classes = _num_classes(train_labels, test_labels)
    zero = train.new_zeros(train.shape[1], classes), train.new_zeros(classes)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).to(train.device)
    held, kept = order.tensor_split([max(1, int(_HELD_OUT * len(train)))])

    best, chosen, solution = -1.0, strengths[0], zero
    for l2 in strengths:
        solution = _fit(train[kept], train_labels[kept], l2, *solution, steps)
        score = _accuracy(train[held] @ solution[0] + solution[1], train_labels[held])["top1"]
        if score > best:  # of equals the stronger one
            best, chosen = score, l2
    weight, bias = _fit(train, train_labels, chosen, *zero, 2 * steps)
    return {**_accuracy(test @ weight + bias, test_labels), "l2": chosen}
