#include "render_rays_vector.h"

namespace nerfad {

void render_task_avx512(const RenderTask<>& task) { render_vector<Avx512Simd>(task); }

void render_task_rounded_avx512(const RenderTask<>& task) {
  render_vector<Bf16Rounded<Avx512Simd>, Avx512Simd>(task);
}

}  // namespace nerfad
