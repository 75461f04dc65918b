"""How long a refinement needs a GPU, estimated from what is counted; nothing of it was measured on a GPU."""

from __future__ import annotations

from math import ceil

from refgc.engines import RefineRequest

# Counted at full size, without running it (benchmarks/diffusion.json): operations of one denoising step, and of
# everything else that the model does for one picture (the VAE, and where it is kept the reference cache).
TERA_OPERATIONS_A_STEP = 280.0
TERA_OPERATIONS_BESIDE = 21.0
# Window of 1024 x 1024 or thereabouts, whatever the sizes of the pictures.
WINDOWS = 1
STEPS = 28
# Assumed: 0.4 of what half an NVIDIA H200 is said to do in bfloat16 without sparsity (989 tera-operations a second).
TERA_OPERATIONS_A_SECOND = 0.4 * 989 / 2
# Assumed: moving the weights (24 GB) to a GPU that was just lent, and the text encoders there and back.
SECONDS_TO_BEGIN = 15.0
# Assumed: finding the object and putting it back on a CPU, for each million pixels of output.
SECONDS_A_MEGAPIXEL = 0.7
# To be ended too early costs the whole run, to have asked for more costs a place in the line.
MARGIN = 1.3


def gpu_seconds(request: RefineRequest, steps: int = STEPS) -> int:
    """Seconds to ask for, an estimate.

    Args:
        request: of which the pixels of the output count.
        steps: denoising steps of the model.

    Returns:
        Whole seconds, margin included.
    """
    width, height = request.generated.size
    megapixels = width * height * request.scale**2 / 1e6
    operations = WINDOWS * (steps * TERA_OPERATIONS_A_STEP + TERA_OPERATIONS_BESIDE)
    seconds = SECONDS_TO_BEGIN + operations / TERA_OPERATIONS_A_SECOND + megapixels * SECONDS_A_MEGAPIXEL
    return ceil(MARGIN * seconds)
