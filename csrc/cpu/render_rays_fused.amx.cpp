#include "amx_tiles.h"
#include "render_rays_vector.h"

namespace nerfad {

void render_task_amx(const RenderTask<BFloat16>& task) { render_vector<AmxBf16, Avx512Simd>(task); }

}  // namespace nerfad
