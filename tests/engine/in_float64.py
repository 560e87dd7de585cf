"""A process of a test in which everything is computed in float64, to tell rounding from a fault.

Detectron2's boxes are float32 whatever they are made of, and parts of heads ask for float32 by name. For a
process that ends with the test.
"""

import torch
from detectron2.structures import Boxes


def use_float64():
    def boxes(self, tensor):
        self.tensor = torch.as_tensor(tensor).to(torch.double).reshape(-1, 4)

    torch.set_default_dtype(torch.double)
    Boxes.__init__ = boxes
    torch.Tensor.float = torch.Tensor.double
    torch.float32 = torch.double
