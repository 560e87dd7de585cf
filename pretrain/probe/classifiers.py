"""Two classifiers on frozen features: nearest neighbours that vote, and logistic regression."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .gathering import add_up, gather_rows, share_of

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

    Raises:
        ValueError: ``k``, ``chunk`` or ``temperature`` is not positive.
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


def _alone(*own: Tensor) -> tuple[Tensor, ...]:
    return own


class _Regression:
    """Multinomial logistic regression on rows that may be shared out: each process computes the loss and the
    gradient of its own, and takes the same steps by their sums.

    Args:
        x, y: vectors ``(n, C)`` and labels ``(n,)`` of this process, which may have none.
        total: rows of all processes.
        add: sums over the processes.
    """

    def __init__(self, x: Tensor, y: Tensor, total: int, add: Callable[..., tuple[Tensor, ...]]):
        self.x, self.y, self.total, self.add = x, y, total, add

    def fit(self, l2: float, weight: Tensor, bias: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy + l2 / 2 * |weight|^2, minimised by L-BFGS from the given start."""
        weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=steps, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            own = F.cross_entropy(self.x @ weight + bias, self.y, reduction="sum") / self.total
            value, slope, bias.grad = self.add(own.detach(), *torch.autograd.grad(own, (weight, bias)))
            weight.grad = slope + l2 * weight.detach()
            return value + l2 / 2 * weight.detach().square().sum()

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
    shared: bool = False,
) -> Accuracy:
    """Multinomial logistic regression on standardised features, by L-BFGS; the same result every time.

    The L2 strength is chosen on a fifth of the training set, then all of it is fitted.

    Args:
        train_features, test_features: ``(N, C)`` and ``(M, C)``; labels ``(N,)`` and ``(M,)`` int64.
        strengths: of L2, from strong to weak.
        steps: of L-BFGS for each strength.
        seed: draws the fifth.
        shared: collective: each process, all of which have all vectors, computes with its part of them. The
            result is that of one process, apart from rounding.

    Returns:
        As :func:`knn_accuracy`, with the chosen ``l2``.

    Raises:
        ValueError: fewer than two training vectors.
    """
    if len(train_features) < 2:
        raise ValueError(f"{len(train_features)} training vectors: at least two are needed")
    mean, std = train_features.float().mean(0), train_features.float().std(0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-30), std, torch.ones_like(std))  # constant: stays 0
    classes = _num_classes(train_labels, test_labels)
    zero = mean.new_zeros(len(mean), classes), mean.new_zeros(classes)

    def part(rows: Tensor) -> _Regression:
        own = share_of(rows) if shared else rows
        x = (train_features[own].float() - mean) / std
        return _Regression(x, train_labels[own], len(rows), add_up if shared else _alone)

    def accuracy(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Accuracy:
        hits = _hits(x @ weight + bias, y)
        return _shares(gather_rows(hits.to(torch.uint8)) if shared else hits, classes)

    every = torch.arange(len(train_features), device=mean.device)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).to(mean.device)
    held, kept = map(part, order.tensor_split([max(1, int(_HELD_OUT * len(order)))]))
    best, chosen, solution = -1.0, strengths[0], zero
    for l2 in strengths:
        solution = kept.fit(l2, *solution, steps)
        score = accuracy(held.x, held.y, *solution)["top1"]
        if score > best:  # of equals the stronger one
            best, chosen = score, l2
    solution = part(every).fit(chosen, *zero, 2 * steps)
    if shared:
        test_features, test_labels = share_of(test_features), share_of(test_labels)
    return {**accuracy((test_features.float() - mean) / std, test_labels, *solution), "l2": chosen}
