"""Label every pixel: python segment.py network.onnx image.jpg labels.png (needs onnxruntime, numpy and pillow)."""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or it stores a device id and events in the home directory

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from PIL import Image

from moonshine.data.rgb import open_rgb

if len(sys.argv) != 4 or not sys.argv[3].endswith(".png"):
    sys.exit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
(channels, height, width), names = about["input_shape"], about["class_names"][: about["scored_classes"]]
image = open_rgb(sys.argv[2]).convert("L" if channels == 1 else "RGB")
resized = image.resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(resized, np.float32).reshape(1, height, width, channels).transpose(0, 3, 1, 2)
labels = session.run(None, {"images": pixels / 255})[0][0, : len(names)].argmax(0).astype(np.uint8)
shown = Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST)
shown.putpalette(np.random.default_rng(0).integers(256, size=768).tolist())  # pixel values stay class indices
shown.save(sys.argv[3])
for label, name in enumerate(names):
    print(f"{label} {name}: {(labels == label).mean():.1%}")
