"""Copied into a WebUI's environment by `cpu_torch.fit`, where it is imported at every start of its Python; it must not need this package.

PyPI's torchvision has its compiled operators built against CUDA torch. Beside CPU torch they cannot be loaded, and then its own
Python asks for names that nobody has declared. Here they are declared, without anything behind them, just before it is imported:
transforms and models work, and an operator (nms, roi_align) says itself that it is not there.
"""

import importlib.abc
import sys

_kept = []  # what a library declares goes with it


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if not (torch.version.cuda or torch.version.hip):
                library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _kept.append(library)
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
