#include "avatar.h"

#include <algorithm>
#include <cmath>

#include "nerfad/freq_encode.h"
#include "nerfad/ray_aabb.h"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

namespace {

constexpr int64_t kTorsoChunk = 16384, kPixelsPerTask = 4096;
constexpr float kUnitBox[6] = {0, 0, 0, 1, 1, 1};
constexpr float kFar = 1e10f, kEarlyStop = 1e-4f;

// Memory only grows.
template <class T>
T* at_least(std::vector<T>& memory, int64_t n) {
  if (static_cast<int64_t>(memory.size()) < n) memory.resize(static_cast<size_t>(n));
  return memory.data();
}

// Where a pixel lay before the body's motion p' = s R p + d.
void undo_similarity(const std::array<float, 4>& body, float x, float y, float* still) {
  const float cosine = std::cos(body[2]), sine = std::sin(body[2]), shrink = std::exp(-body[3]);
  x -= body[0], y -= body[1];
  still[0] = shrink * (cosine * x + sine * y);
  still[1] = shrink * (cosine * y - sine * x);
}

float unit(float x) { return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x); }

}  // namespace

Avatar::Avatar(HeadField head, std::optional<TorsoLayer> torso, const PinholeCamera& camera, int n_threads)
    : head_(std::move(head)), torso_(std::move(torso)), camera_(camera), pool_(n_threads) {}

void Avatar::render(const Pose& pose, const std::vector<float>& cond, const float* background,
                    uint8_t* image) {
  const int64_t n = static_cast<int64_t>(camera_.height) * camera_.width;
  behind_.assign(background, background + 3 * n);
  for (int64_t first = 0; torso_ && first < n; first += kTorsoChunk) {
    draw_torso(pose, first, std::min(kTorsoChunk, n - first));
  }
  cast_rays(pose);
  draw_head(cond);
  pool_.parallel_for()(3 * n, 3 * kPixelsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) image[i] = static_cast<uint8_t>(unit(colors_[i]) * 255.0f + 0.5f);
  });
}

void Avatar::cast_rays(const Pose& pose) {
  const int64_t n = static_cast<int64_t>(camera_.height) * camera_.width;
  float *rays_o = at_least(rays_o_, 3 * n), *rays_d = at_least(rays_d_, 3 * n);
  pool_.parallel_for()(n, kPixelsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float u = static_cast<float>(i % camera_.width), v = static_cast<float>(i / camera_.width);
      const float x = (u + camera_.pixel_offset - camera_.cx) / camera_.fl_x;
      const float y = -(v + camera_.pixel_offset - camera_.cy) / camera_.fl_y;
      float d[3], length = 0;
      for (int a = 0; a < 3; ++a) {
        const float* row = pose.c2w.data() + 4 * a;
        d[a] = row[0] * x + row[1] * y - row[2];
        length += d[a] * d[a];
        rays_o[3 * i + a] = row[3];
      }
      for (int a = 0; a < 3; ++a) rays_d[3 * i + a] = d[a] / std::sqrt(length);
    }
  });
  const RayAabb<float> p{rays_o, rays_d, kUnitBox, at_least(t_min_, n), at_least(t_max_, n), n, 0.0f, kFar};
  ray_aabb_cpu(p, pool_.parallel_for());
}

void Avatar::apply(const Network& network, const float* x, const float* cond, int64_t n, float* out) {
  ConditionedMlpFwd<float> p{};
  p.x = x;
  p.params = network.params.data();
  p.cond = cond;
  p.out = out;
  p.n_samples = n;
  p.x_stride = network.shape.d_in;
  p.n_cond = 1;
  p.shape = network.shape;
  p.scratch = at_least(scratch_, conditioned_mlp_fwd_scratch(p, pool_.n_threads()));
  conditioned_mlp_fwd_cpu(p, pool_.parallel_for());
}

// The torso over the background, for n pixels.
void Avatar::draw_torso(const Pose& pose, int64_t first, int64_t n) {
  const TorsoLayer& t = *torso_;
  const ParallelFor parallel_for = pool_.parallel_for();
  float* points = at_least(points_, 2 * n);
  for (int64_t i = 0; i < n; ++i) {
    const float column = static_cast<float>((first + i) % camera_.width);
    const float row = static_cast<float>((first + i) / camera_.width),
                height = static_cast<float>(camera_.height);
    const float x = (column + 0.5f - 0.5f * static_cast<float>(camera_.width)) / height;
    float* still = points + 2 * i;
    undo_similarity(pose.body, x, (row + 0.5f - height) / height, still);
    still[0] *= 2.0f, still[1] *= 2.0f;  // as the waves want them
  }
  FreqEncodeFwd<float> waves{points, nullptr, n, 2, t.n_octaves, true};
  waves.values = at_least(waves_, n * waves.n_outputs());
  freq_encode_fwd_cpu(waves, parallel_for);
  float* shift = at_least(shift_, 2 * n);
  apply(t.deformation, waves.values, pose.describe.data(), n, shift);
  for (int64_t i = 0; i < n; ++i) {
    float* p = points + 2 * i;
    for (int a = 0; a < 2; ++a) p[a] = 0.5f * p[a] + t.max_deformation * std::tanh(shift[2 * i + a]);
    p[0] = unit(p[0] * 0.5f + 0.5f), p[1] = unit(p[1] * 0.5f + 0.75f);  // the grid's square
  }
  GridEncodeFwd<float> grid{points, t.grid.table.data(), nullptr, nullptr, n, t.grid.type, t.grid.shape};
  grid.features = at_least(features_, n * t.grid.shape.n_outputs());
  grid.scratch = at_least(grid_scratch_, grid_encode_fwd_scratch(t.grid.shape, n));
  grid_encode_fwd_cpu(grid, parallel_for);
  float* rgba = at_least(rgba_, 4 * n);
  apply(t.picture, grid.features, pose.describe.data(), n, rgba);
  for (int64_t i = 0; i < n; ++i) {
    float* to = behind_.data() + 3 * (first + i);
    for (int c = 0; c < 3; ++c) to[c] += rgba[4 * i + 3] * (rgba[4 * i + c] - to[c]);
  }
}

void Avatar::draw_head(const std::vector<float>& cond) {
  const int64_t n = static_cast<int64_t>(camera_.height) * camera_.width;
  RenderRays p{};
  p.rays.grid = {kUnitBox, head_.bitfield.data(), nullptr, head_.resolution, head_.step_size, 0.0f, nullptr};
  p.rays.rays_o = rays_o_.data();
  p.rays.rays_d = rays_d_.data();
  p.rays.t_min = t_min_.data();
  p.rays.t_max = t_max_.data();
  p.rays.n_rays = n;
  p.grid = head_.grid.shape;
  p.table = head_.grid.table.data();
  p.table_type = head_.grid.type;
  p.sigma = head_.sigma.shape;
  p.color = head_.color.shape;
  p.sigma_params = head_.sigma.params.data();
  p.color_params = head_.color.params.data();
  p.cond = cond.data();
  p.background = behind_.data();
  p.colors = at_least(colors_, 3 * n);
  p.opacities = at_least(opacities_, n);
  p.depths = at_least(depths_, n);
  p.early_stop_eps = kEarlyStop;
  p.density_bias = head_.density_bias;
  p.max_samples_per_ray = head_.max_samples_per_ray;
  p.scratch = at_least(render_scratch_, render_rays_fused_scratch(p, pool_.n_threads()) / 8 + 1);
  render_rays_fused_cpu(p, pool_.parallel_for());
}

}  // namespace nerfad
