"""The backbone is one graph, dense and accelerated, at fixed and at varying sizes."""

import pytest
import torch

WAYS = {
    "dense": {},
    "migration": {"migration": {}},
    "gathering": {"gathering": {"window": 4}},
    "both": {"migration": {}, "gathering": {"window": 4, "global_blocks": (1,)}},
}
each_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def agree(model, compiled, image):
    with torch.no_grad():
        expected, found = model(image), compiled(image)
    assert all(torch.allclose(expected[level], found[level], atol=1e-5) for level in expected)


@each_way
def test_fixed_size(micro, way):
    model = micro(**WAYS[way])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    agree(model, compiled, torch.randn(2, 3, 96, 160))


@pytest.mark.slow
@each_way
def test_sizes_that_vary(micro, way):
    """One graph serves them all but for what a size decides by itself, such as windows that fit exactly."""
    model, graphs = micro(**WAYS[way]), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, fullgraph=True, backend=backend, dynamic=True)
    for size in ((160, 224), (224, 352), (96, 288), (288, 160)):
        agree(model, compiled, torch.randn(2, 3, *size))
    assert len(graphs) == 1


@pytest.mark.slow
@each_way
def test_training(micro, way):
    model = micro(**WAYS[way]).train()
    image = torch.randn(1, 3, 96, 160)
    gradients = []
    for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        sum(level.square().mean() for level in run(image).values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


@pytest.mark.slow
@each_way
def test_padded_batch(micro, padded, way):
    """Where the images' sizes are told; the search for padding would need a synchronisation."""
    model = micro(**WAYS[way])
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    with torch.no_grad():
        expected, found = model(*padded), compiled(*padded)
    assert all(torch.allclose(expected[level], found[level], atol=1e-5) for level in expected)
