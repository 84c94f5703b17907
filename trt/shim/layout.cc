#include "layout.h"

namespace sightd {

namespace {

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

Layout layout_of(nvinfer1::TensorFormat format, int64_t channels, int64_t height, int64_t width, int64_t element_size,
                 int64_t dla_row) {
  using nvinfer1::TensorFormat;
  Layout l;
  l.channels = channels;
  l.height = height;
  l.width = width;
  int64_t row_pixels = width;
  switch (format) {
    case TensorFormat::kLINEAR:
      break;
    case TensorFormat::kDLA_LINEAR:
      row_pixels = up(width, dla_row / element_size);
      break;
    case TensorFormat::kCHW4:
      l.vector = 4;
      break;
    case TensorFormat::kCHW16:
      l.vector = 16;
      break;
    case TensorFormat::kCHW32:
      l.vector = 32;
      break;
    case TensorFormat::kDLA_HWC4:
      // One channel stays one, three become four.
      l.vector = channels == 1 ? 1 : 4;
      row_pixels = up(width, dla_row / l.vector / element_size);
      break;
    default:
      fail(SIGHTD_TRT_UNSUPPORTED, "the plan has a tensor of TensorRT's format %d, which sightd doesn't read",
           static_cast<int>(format));
  }
  l.pixel = l.vector;
  l.row = row_pixels * l.vector;
  l.plane = height * l.row;
  l.image_stride = up(channels, l.vector) / l.vector * l.plane;
  return l;
}

}  // namespace sightd
