#pragma once

#include "common.h"

namespace sightd {

// Builds an engine; one at a time in the process, a second throws.
void build(const sightd_trt_job &, sightd_trt_built &);

// Asks the build to end. Returns whether TensorRT listens.
bool cancel();

}  // namespace sightd
