#include "render_rays_vector.h"

namespace nerfad {

void render_task_avx2(const RenderTask<>& task) { render_vector<Avx2Simd>(task); }

void render_task_rounded_avx2(const RenderTask<>& task) {
  render_vector<Bf16Rounded<Avx2Simd>, Avx2Simd>(task);
}

}  // namespace nerfad
