// Where an engine's input and output keep their elements.
#pragma once

#include <NvInfer.h>

#include <cstddef>
#include <string>

#include "common.h"

namespace sightd {

// A tensor of images × channels × height × width. An element lies at
//   image × image_stride + channel / vector × plane + y × row + x × pixel + channel % vector
// elements from the start.
struct Layout {
  int64_t channels = 1, height = 1, width = 1;
  int64_t vector = 1;
  int64_t image_stride = 0, plane = 0, row = 0, pixel = 1;

  int64_t at(int64_t channel, int64_t y, int64_t x) const {
    return channel / vector * plane + y * row + x * pixel + channel % vector;
  }
  // Whether elements lie in order, one beside the other.
  bool plain() const {
    return vector == 1 && pixel == 1 && row == width && plane == height * width && image_stride == channels * plane;
  }
};

// The layout of a format, for elements of element_size bytes, with rows of DLA's own
// formats at multiples of dla_row bytes (64, and 32 on Xavier). Throws for formats that
// sightd never asks for.
Layout layout_of(nvinfer1::TensorFormat, int64_t channels, int64_t height, int64_t width, int64_t element_size,
                 int64_t dla_row);

}  // namespace sightd
