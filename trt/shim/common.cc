#include "common.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sightd {

namespace {

std::string formatted(const char *form, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int size = vsnprintf(nullptr, 0, form, arguments);
  std::string text(size > 0 ? static_cast<size_t>(size) + 1 : 1, '\0');
  vsnprintf(text.data(), text.size(), form, again);
  va_end(again);
  text.pop_back();
  return text;
}

}  // namespace

std::string format(const char *form, ...) {
  va_list arguments;
  va_start(arguments, form);
  std::string text = formatted(form, arguments);
  va_end(arguments);
  return text;
}

void fail(int32_t status, const char *form, ...) {
  va_list arguments;
  va_start(arguments, form);
  std::string text = formatted(form, arguments);
  va_end(arguments);
  throw Failure{status, std::move(text)};
}

void copy_text(char *to, size_t size, const char *from) {
  if (to == nullptr || size == 0) return;
  const size_t length = std::min(strlen(from), size - 1);
  memcpy(to, from, length);
  to[length] = '\0';
}

void fill(sightd_trt_buffer *buffer, const void *data, size_t size) {
  void *memory = malloc(size > 0 ? size : 1);
  if (memory == nullptr) fail(SIGHTD_TRT_MEMORY, "no memory left for %zu bytes", size);
  if (size > 0) memcpy(memory, data, size);
  free(buffer->data);
  buffer->data = memory;
  buffer->size = size;
}

}  // namespace sightd
