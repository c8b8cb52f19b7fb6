// Classify an image with TensorFlow Lite Micro, on a microcontroller or on a computer.

#include <cstdint>
#include <cstdio>

#include "model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

alignas(16) static uint8_t arena[kArenaBytes];

// Returns the class of an image, or -1 where the interpreter fails. Its pixels are rows of kWidth times kChannels bytes,
// from 0 to 255, as training saw them: see about.json for how images were resized.
int Classify(const uint8_t* pixels) {
  static tflite::MicroMutableOpResolver<kOperators> resolver;
  static tflite::MicroInterpreter* interpreter = nullptr;
  if (interpreter == nullptr) {
    // OPERATORS
    static tflite::MicroInterpreter made(tflite::GetModel(kModel), resolver, arena, kArenaBytes);
    if (made.AllocateTensors() != kTfLiteOk) return -1;
    interpreter = &made;
  }
  int8_t* input = interpreter->input(0)->data.int8;
  for (int i = 0; i < kHeight * kWidth * kChannels; ++i) input[i] = static_cast<int8_t>(pixels[i] - 128);
  if (interpreter->Invoke() != kTfLiteOk) return -1;
  const int8_t* logits = interpreter->output(0)->data.int8;  // for values: kScale * (logit - kZeroPoint)
  int best = 0;
  for (int i = 1; i < kClasses; ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

int main() {
  static uint8_t pixels[kHeight * kWidth * kChannels];  // from your camera
  const int found = Classify(pixels);
  std::printf("%s\n", found < 0 ? "failed" : kClassNames[found]);
  return found < 0;
}
