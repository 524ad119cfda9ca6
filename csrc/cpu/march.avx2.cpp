// The portable marching passes with hardware fma and rounding, several times faster for that alone.
#include "march_units.h"

namespace nerfad {

namespace {

void count(const MarchCount& p, int64_t begin, int64_t end) {
  for (int64_t ray = begin; ray < end; ++ray) march_count_ray(p, ray);
}

void write(const MarchWrite& p, int64_t begin, int64_t end) {
  for (int64_t ray = begin; ray < end; ++ray) {
    if (march_runs_noted(p, ray)) {
      march_write_runs(p, ray, 0, 1);
    } else {
      march_write_again(p, ray);
    }
  }
}

void inference(const MarchInference& p, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) march_inference_ray(p, row);
}

}  // namespace

MarchUnit march_avx2() { return {count, write, inference}; }

}  // namespace nerfad
