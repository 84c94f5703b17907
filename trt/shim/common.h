// What all parts share: failures, and how structs of another age are taken.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <string>

#include "sightd_trt.h"

namespace sightd {

// Failure is thrown by everything in here, and caught by the functions of abi.cc.
struct Failure {
  int32_t status;
  std::string message;
};

// Throws a Failure whose message is formatted as printf does.
[[noreturn]] void fail(int32_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));

std::string format(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Copies text cut to size and ends it with NUL.
void copy_text(char *to, size_t size, const char *from);

// Memory that sightd_trt_free gives back; throws where there is none left.
void fill(sightd_trt_buffer *, const void *data, size_t size);

// Throws unless s is there and at least as long as this library's struct: fields are
// only appended, so a longer one is of a newer program and its rest isn't looked at.
template <class T> void check_size(const T *s, const char *name) {
  if (s == nullptr) fail(SIGHTD_TRT_ARGUMENT, "%s isn't given", name);
  if (s->size < sizeof(T))
    fail(SIGHTD_TRT_ARGUMENT, "%s is of %zu bytes, not of %zu: sightd and this library are of different ages", name,
         s->size, sizeof(T));
}

}  // namespace sightd
