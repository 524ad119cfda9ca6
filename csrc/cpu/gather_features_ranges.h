// What a CPU task of the feature gather does, for one instruction set.
#pragma once
#include "nerfad/gather_features.h"

namespace nerfad {

template <class T>
struct GatherFeaturesRanges {
  void (*reads)(const GatherFeaturesFwd<T>&, int64_t begin, int64_t end);
  void (*pixel_gradients)(const GatherFeaturesBwd<T>&, int64_t begin, int64_t end);
  // All reads of one view, channels [first_channel, end_channel): whoever owns these channels adds alone and
  // in the order of the points, so that sums need no atomics and do not depend on the number of threads.
  void (*map_slice)(const GatherFeaturesBwd<T>&, int64_t view, int64_t first_channel, int64_t end_channel);
};

}  // namespace nerfad
