"""Makes state.pth: a small state dictionary in torch.save's zip format. torch==2.11.0; run in this folder."""
import torch

torch.save({"a.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float16),
            "a.num_batches_tracked": torch.tensor(7), "b": torch.tensor([0.5])}, "state.pth")
