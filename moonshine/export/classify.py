"""Classify an image: python classify.py network.onnx image.jpg (needs onnxruntime, numpy and pillow)."""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or it stores a device id and events in the home directory

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from PIL import Image

from moonshine.data.rgb import open_rgb

session = onnxruntime.InferenceSession(sys.argv[1])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
(channels, height, width), side = about["input_shape"], about["shorter_side"]
image = open_rgb(sys.argv[2]).convert("L" if channels == 1 else "RGB")
size = [side * edge // min(image.size) for edge in image.size] if side else [width, height]
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
image = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
pixels = np.asarray(image, np.float32).reshape(1, height, width, channels).transpose(0, 3, 1, 2)
logits = session.run(None, {"images": pixels / 255})[0][0]
print(f"{about['class_names'][logits.argmax()]} {1 / np.exp(logits - logits.max()).sum():.1%}")
