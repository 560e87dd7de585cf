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


BATCHES = [
    ([(96, 176), (160, 80)], (160, 192)),
    ([(128, 100), (64, 224)], (128, 224)),
    ([(33, 64), (96, 96)], (96, 96)),
    ([(160, 160), (160, 160)], (160, 160)),
]
FORMS = {
    "dense": ("fast_itpn_nano", {}),
    "table": ("itpn_nano", {"rel_pos": "table"}),
    "decomposed": ("itpn_nano", {"rel_pos": "decomposed"}),
}


def batches(smallest=0):
    """Zero-padded images ``(2, 3, H, W)``, their sizes as a tensor, and each image alone."""
    torch.manual_seed(2)
    for sizes, padded in BATCHES:
        if min(padded) < smallest:
            continue
        images = [torch.randn(1, 3, *size) for size in sizes]
        batch = torch.zeros(2, 3, *padded)
        for slot, image in zip(batch, images, strict=True):
            slot[:, : image.shape[2], : image.shape[3]] = image[0]
        yield batch, torch.tensor(sizes), images


def check_alone(model, run, smallest=0):
    """What a recorded graph gives of a padded batch is what eager gives of each image alone."""
    for batch, sizes, images in batches(smallest):
        with torch.no_grad():
            together = run(batch, sizes)
            for number, image in enumerate(images):
                for level, alone in model(image, [tuple(image.shape[2:])]).items():
                    h, w = (-(-side // 32) * 32 // 2 ** int(level[1]) for side in image.shape[2:])
                    apart = (together[level][number, :, :h, :w] - alone[0, :, :h, :w]).abs().max()
                    assert apart <= 1e-5 * alone.abs().max(), level


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_one_graph_serves_all_padded_batches(micro, form):
    name, options = FORMS[form]
    model, graphs = micro(name, **options), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    check_alone(model, torch.compile(model, fullgraph=True, backend=backend, dynamic=True))
    assert len(graphs) == 1


@pytest.mark.parametrize("form", ["dense", "table", "decomposed"])
def test_traced_padded_batches(micro, form):
    """Windows of gathering have fixed sizes in a trace."""
    name, options = FORMS[form]
    model = micro(name, **options)
    example = torch.ones(2, 3, 64, 96), torch.tensor([(64, 64), (32, 96)])
    check_alone(model, torch.jit.trace(model, example, strict=False, check_trace=False))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dense", "table", "decomposed"])
def test_exported_padded_batches(micro, form):
    """With free height, width and number of images, one included. Maps of one cell, of sides below 128, are
    a case of their own."""
    name, options = FORMS[form]
    model = micro(name, **options)
    number = torch.export.Dim("number", min=1, max=16)
    rows, columns = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("columns", min=2, max=64)
    shapes = {"images": {0: number, 2: 32 * rows, 3: 32 * columns}, "image_sizes": {0: number}}
    example = torch.ones(2, 3, 128, 192), torch.tensor([(64, 64), (32, 96)])
    with torch.no_grad():
        run = torch.export.export(model, example, dynamic_shapes=shapes).module()
    check_alone(model, run, smallest=128)
    batch, sizes, _ = next(batches())
    with torch.no_grad():
        one, both = run(batch[:1], sizes[:1]), run(batch, sizes)
    assert all(torch.allclose(one[level], both[level][:1], atol=1e-5) for level in both)
