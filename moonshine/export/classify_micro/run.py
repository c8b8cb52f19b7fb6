"""Classify an image in TensorFlow Lite Micro's interpreter: python run.py image.jpg (needs tflite-micro and pillow)."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tflite_micro import runtime

sys.path.insert(0, str(Path(__file__).parents[1]))
from moonshine.data.rgb import open_rgb

about = json.loads(Path(__file__).with_name("about.json").read_text())
(channels, height, width), side = about["input_shape"], about["shorter_side"]
image = open_rgb(sys.argv[1]).convert("L" if channels == 1 else "RGB")
size = [side * edge // min(image.size) for edge in image.size] if side else [width, height]
left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
image = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
pixels = np.asarray(image).reshape(1, height, width, channels)
model = Path(__file__).parents[1] / "network-int8.tflite"
interpreter = runtime.Interpreter.from_file(str(model), arena_size=about["arena_bytes"])
interpreter.set_input((pixels.astype(np.int16) - 128).astype(np.int8), 0)
interpreter.invoke()
logits = (interpreter.get_output(0)[0] - np.float32(about["zero_point"])) * about["scale"]
print(f"{about['class_names'][logits.argmax()]} {1 / np.exp(logits - logits.max()).sum():.1%}")
