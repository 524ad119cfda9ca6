#include "render_rays_vector.h"

namespace nerfad {

void render_task_avx512bf16(const RenderTask<BFloat16>& task) { render_vector<Avx512Bf16, Avx512Simd>(task); }

}  // namespace nerfad
