"""Models in formats that run without this project: torch.export, AOTInductor, ONNX, TorchScript."""
