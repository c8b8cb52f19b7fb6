"""Convert a traced network to an INT8 file: run by the converter's own Python, which has no moonshine.

python -I convert.py PROGRAM CALIBRATION FILE LEAST MOST

PROGRAM takes images (1, C, H, W) from LEAST to MOST, CALIBRATION is an array of them (n, C, H, W), float32. FILE takes
and returns int8: weights symmetric per output channel, activations by their range in calibration, input from LEAST to
MOST; images come as (1, H, W, C), and so do logits per pixel. An error is the last line of standard output, as JSON.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import recipe
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.recipe_manager import RecipeManager
from ai_edge_quantizer.utils.qsv_utils import min_max_update


def main(program: str, calibration: str, file: str, least: float, most: float) -> None:
    """Write FILE."""
    images = np.load(calibration)
    network = torch.export.load(program).module()
    with torch.no_grad():
        logits = network(torch.from_numpy(images[:1]))
    outputs = [0] if logits.dim() == 4 else None
    channels_last = litert_torch.to_channel_last_io(network, args=[0], outputs=outputs)
    images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    litert_torch.convert(channels_last, (torch.from_numpy(images[:1]),)).export(file)
    interpreter = Interpreter(file)
    ((signature, names),) = interpreter.get_signature_list().items()
    (images_name,) = names["inputs"]
    steps, recipes = recipe.static_wi8_ai8(), RecipeManager()
    recipes.load_quantization_recipe(steps)
    # Minimum to maximum. The quantiser's own calibrate() takes moving averages, which clip: logits were 5 to 8 times as
    # far from the network's (three digits students, a WRN-16-2 on CIFAR-10).
    calibrator = Calibrator(file, qsv_update_func=min_max_update)
    calibrator.calibrate({signature: [{images_name: image[None]} for image in images]}, recipes)
    found = calibrator.get_model_qsvs()
    (tensor,) = interpreter.get_input_details()
    limits = {"min": least, "max": most}
    found[tensor["name"]] = {key: np.full((1, 1, 1, 1), value, np.float32) for key, value in limits.items()}
    quantizer = Quantizer(file)
    quantizer.load_quantization_recipe(steps)
    quantizer.quantize(found).export_model(file, overwrite=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        try:
            program, calibration, file, least, most = sys.argv[1:]
            main(program, calibration, file, float(least), float(most))
        except Exception as error:
            print(json.dumps({"error": str(error).strip().partition("\n")[0] or type(error).__name__}))
            raise
